// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/kernels/elementwise.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::ops {

namespace detail {

inline void expect_features(const char* op, const tensor_view<const float, 1>& weight, const eval::value& x) {
  expect<shape_error>(weight.size() == x.size(1), op, ": weight has ", weight.size(), " features, input has ",
                      x.size(1));
}

}  // namespace detail

/// Root mean square norm over features; `offset` 1 where a family stores w - 1.
struct rms_norm {
  float epsilon = 1e-5f;
  float offset = 0;

  eval::value forward(eval& context, const eval::value& x, tensor_view<const float, 1> weight) const {
    detail::expect_features("rms_norm", weight, x);
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::rms_norm<Arch>(x.row(row).data(), weight.data(), offset, epsilon, x.size(1), y.row(row).data());
    });
    return y;
  }
};

/// Layer norm over features, with or without bias.
struct layer_norm {
  float epsilon = 1e-5f;

  eval::value forward(eval& context, const eval::value& x, tensor_view<const float, 1> weight,
                      tensor_view<const float, 1> bias = {}) const {
    detail::expect_features("layer_norm", weight, x);
    if (bias.data() != nullptr) detail::expect_features("layer_norm", bias, x);
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::layer_norm<Arch>(x.row(row).data(), weight.data(), bias.data(), epsilon, x.size(1), y.row(row).data());
    });
    return y;
  }
};

/// Sum of two values of one shape (residual connections).
struct add {
  eval::value forward(eval& context, const eval::value& a, const eval::value& b) const {
    expect_shape(b.shape(), a.shape(), "add");
    const auto y = context.make(a.size(0), a.size(1));
    context.for_each_row(a.size(0), a.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::add<Arch>(a.row(row).data(), b.row(row).data(), a.size(1), y.row(row).data());
    });
    return y;
  }
};

/// cap tanh(x / cap), in place.
struct soft_cap {
  float cap = 0;

  eval::value forward(eval& context, const eval::value& x) const {
    context.for_each_row(x.size(0), 4 * x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::soft_cap<Arch>(cap, x.size(1), x.row(row).data());
    });
    return x;
  }
};

/// Rows `indices` of x, in that order (the rows whose logits are wanted).
struct select_rows {
  eval::value forward(eval& context, const eval::value& x, std::span<const index_t> indices) const {
    const auto y = context.make(static_cast<index_t>(indices.size()), x.size(1));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      expect<shape_error>(indices[i] >= 0 && indices[i] < x.size(0), "select_rows: row ", indices[i], " of ",
                          x.size(0));
      const auto from = x.row(indices[i]);
      std::copy(from.begin(), from.end(), y.row(static_cast<index_t>(i)).begin());
    }
    return y;
  }
};

}  // namespace runnel::ops
