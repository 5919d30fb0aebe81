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

/// The same over each head of a row, whose weight has the features of one head: [rows, heads * head_dim].
struct rms_norm_of_heads {
  float epsilon = 1e-5f;
  float offset = 0;

  eval::value forward(eval& context, const eval::value& x, tensor_view<const float, 1> weight) const {
    const index_t head_dim = weight.size();
    expect<shape_error>(head_dim > 0 && x.size(1) % head_dim == 0, "rms_norm_of_heads: weight has ", head_dim,
                        " features, input has ", x.size(1), ", expected a multiple");
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), x.size(1), [&]<class Arch>(index_t row, Arch) {
      for (index_t at = 0; at < x.size(1); at += head_dim) {
        kernels::rms_norm<Arch>(x.row(row).data() + at, weight.data(), offset, epsilon, head_dim,
                                y.row(row).data() + at);
      }
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

/// activation(gate) * up, the middle of a gated feed-forward layer; `gated_product` does the same in one go.
struct gated_activation {
  kernels::activation kind = kernels::activation::silu;

  eval::value forward(eval& context, const eval::value& gate, const eval::value& up) const {
    expect_shape(up.shape(), gate.shape(), "gated_activation");
    const auto y = context.make(gate.size(0), gate.size(1));
    context.for_each_row(gate.size(0), 8 * gate.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::gated_activation<Arch>(kind, gate.row(row).data(), up.row(row).data(), gate.size(1), y.row(row).data());
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
