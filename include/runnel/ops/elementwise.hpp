// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include <runnel/kernels/elementwise.hpp>
#include <runnel/kernels/elementwise_backward.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::ops {

namespace detail {

template <class T>
void expect_features(const char* op, const tensor_view<const T, 1>& weight, index_t features) {
  expect<shape_error>(weight.size() == features, op, ": weight has ", weight.size(), " features, input has ", features);
}

}  // namespace detail

/// Root mean square norm over each head of a row, whose weight has the features of one head:
/// [rows, heads * head_dim]. `offset` is 1 where a family stores w - 1.
struct rms_norm_of_heads {
  float epsilon = 1e-5f;
  float offset = 0;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             typename basic_eval<T>::vector weight) const {
    const index_t head_dim = weight.size();
    expect<shape_error>(head_dim > 0 && x.size(1) % head_dim == 0, "rms_norm_of_heads: weight has ", head_dim,
                        " features, input has ", x.size(1), ", expected a multiple");
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), x.size(1), [&]<class Arch>(index_t row, Arch) {
      for (index_t at = 0; at < x.size(1); at += head_dim) {
        kernels::rms_norm<Arch>(x.row(row).data() + at, weight.data(), static_cast<T>(offset), static_cast<T>(epsilon),
                                head_dim, y.row(row).data() + at);
      }
    });
    return y;
  }

  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, const dual<T, 1>& weight) const {
    const auto scope = context.memory.mark();
    const index_t rows = x.value.size(0), features = x.value.size(1), head_dim = weight.value.size();
    const index_t heads = features / head_dim;
    T* const scales = context.memory.template take<T>(static_cast<std::size_t>(rows * heads));
    context.for_each_row(rows, 2 * features, [&]<class Arch>(index_t row, Arch) {
      for (index_t head = 0; head < heads; ++head) {
        const index_t at = head * head_dim;
        scales[row * heads + head] = kernels::rms_norm_backward<Arch>(
            x.value.row(row).data() + at, weight.value.data(), static_cast<T>(offset), static_cast<T>(epsilon),
            head_dim, y.gradient.row(row).data() + at, x.gradient.row(row).data() + at, x.fresh);
      }
    });
    if (weight.wanted()) {
      context.for_each_part(head_dim, [&]<class Arch>(index_t begin, index_t end, Arch) {
        for (index_t row = 0; row < rows; ++row) {
          for (index_t head = 0; head < heads; ++head) {
            const index_t at = head * head_dim + begin;
            kernels::add_scaled_product<Arch>(weight.gradient.data() + begin, scales[row * heads + head],
                                              y.gradient.row(row).data() + at, x.value.row(row).data() + at,
                                              end - begin);
          }
        }
      });
    }
    context.memory.release(scope);
  }
};

/// Root mean square norm over the features of a row.
struct rms_norm {
  float epsilon = 1e-5f;
  float offset = 0;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             typename basic_eval<T>::vector weight) const {
    detail::expect_features("rms_norm", weight, x.size(1));
    return rms_norm_of_heads{epsilon, offset}.forward(context, x, weight);
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, const dual<T, 1>& weight) const {
    rms_norm_of_heads{epsilon, offset}.backward(context, y, x, weight);
  }
};

/// Layer norm over features, with or without bias.
struct layer_norm {
  float epsilon = 1e-5f;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             typename basic_eval<T>::vector weight, typename basic_eval<T>::vector bias = {}) const {
    detail::expect_features("layer_norm", weight, x.size(1));
    if (bias.data() != nullptr) detail::expect_features("layer_norm", bias, x.size(1));
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::layer_norm<Arch>(x.row(row).data(), weight.data(), bias.data(), static_cast<T>(epsilon), x.size(1),
                                y.row(row).data());
    });
    return y;
  }

  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, const dual<T, 1>& weight,
                const dual<T, 1>& bias = {}) const {
    const auto scope = context.memory.mark();
    const index_t rows = x.value.size(0), features = x.value.size(1);
    auto* const moments = context.memory.template take<kernels::row_moments<T>>(static_cast<std::size_t>(rows));
    context.for_each_row(rows, 2 * features, [&]<class Arch>(index_t row, Arch) {
      moments[row] =
          kernels::layer_norm_backward<Arch>(x.value.row(row).data(), weight.value.data(), static_cast<T>(epsilon),
                                             features, y.gradient.row(row).data(), x.gradient.row(row).data(), x.fresh);
    });
    context.for_each_part(features, [&]<class Arch>(index_t begin, index_t end, Arch) {
      for (index_t row = 0; row < rows; ++row) {
        const T* dy = y.gradient.row(row).data() + begin;
        const T* values = x.value.row(row).data() + begin;
        const auto [mean, scale] = moments[row];
        if (weight.wanted()) {
          kernels::add_scaled_product<Arch>(weight.gradient.data() + begin, scale, dy, values, end - begin);
          kernels::add_scaled<Arch>(weight.gradient.data() + begin, -mean * scale, dy, end - begin);
        }
        if (bias.wanted()) {
          kernels::add<Arch>(bias.gradient.data() + begin, dy, end - begin, bias.gradient.data() + begin);
        }
      }
    });
    context.memory.release(scope);
  }
};

namespace detail {

/// Adds `factor` times one gradient to another, or writes it where that is fresh.
template <class T>
void pass_on(basic_eval<T>& context, T factor, const tensor_view<T, 2>& from, const dual<T>& to) {
  context.for_each_row(from.size(0), from.size(1), [&]<class Arch>(index_t row, Arch) {
    kernels::scale_into<Arch>(from.row(row).data(), factor, from.size(1), to.gradient.row(row).data(), to.fresh);
  });
}

}  // namespace detail

/// Sum of two values of one shape (residual connections).
struct add {
  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& a,
                             const typename basic_eval<T>::value& b) const {
    expect_shape(b.shape(), a.shape(), "add");
    const auto y = context.make(a.size(0), a.size(1));
    context.for_each_row(a.size(0), a.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::add<Arch>(a.row(row).data(), b.row(row).data(), a.size(1), y.row(row).data());
    });
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& a, const dual<T>& b) const {
    detail::pass_on(context, T(1), y.gradient, a);
    detail::pass_on(context, T(1), y.gradient, b);
  }
};

/// y += factor x, in place.
struct add_scaled {
  static constexpr bool in_place = true;
  float factor = 1;

  template <class T>
  auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& y,
               const typename basic_eval<T>::value& x) const {
    expect_shape(x.shape(), y.shape(), "add_scaled");
    context.for_each_row(y.size(0), 2 * y.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::add_scaled<Arch>(y.row(row).data(), static_cast<T>(factor), x.row(row).data(), y.size(1));
    });
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>&, const dual<T>& x) const {
    detail::pass_on(context, static_cast<T>(factor), y.gradient, x);
  }
};

/// y += bias for every row, in place.
struct add_bias {
  static constexpr bool in_place = true;

  template <class T>
  auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& y,
               typename basic_eval<T>::vector bias) const {
    expect<shape_error>(bias.size() == y.size(1), "add_bias: bias has ", bias.size(), " features, the output ",
                        y.size(1));
    context.for_each_row(y.size(0), y.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::add<Arch>(y.row(row).data(), bias.data(), y.size(1), y.row(row).data());
    });
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>&, const dual<T, 1>& bias) const {
    if (!bias.wanted()) return;
    context.for_each_part(y.gradient.size(1), [&]<class Arch>(index_t begin, index_t end, Arch) {
      for (index_t row = 0; row < y.gradient.size(0); ++row) {
        kernels::add<Arch>(bias.gradient.data() + begin, y.gradient.row(row).data() + begin, end - begin,
                           bias.gradient.data() + begin);
      }
    });
  }
};

/// activation(x), the middle of a plain feed-forward layer.
struct activation {
  kernels::activation kind = kernels::activation::gelu;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x) const {
    const auto y = context.make(x.size(0), x.size(1));
    context.for_each_row(x.size(0), 8 * x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::activate<Arch>(kind, x.row(row).data(), x.size(1), y.row(row).data());
    });
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x) const {
    context.for_each_row(x.value.size(0), 16 * x.value.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::activate_backward<Arch, T>(kind, {x.value.row(row).data(), x.gradient.row(row).data(), x.fresh},
                                          y.gradient.row(row).data(), x.value.size(1));
    });
  }
};

/// activation(gate) * up, the middle of a gated feed-forward layer; `gated_product` does the same in one go.
struct gated_activation {
  kernels::activation kind = kernels::activation::silu;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& gate,
                             const typename basic_eval<T>::value& up) const {
    expect_shape(up.shape(), gate.shape(), "gated_activation");
    const auto y = context.make(gate.size(0), gate.size(1));
    context.for_each_row(gate.size(0), 8 * gate.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::gated_activation<Arch>(kind, gate.row(row).data(), up.row(row).data(), gate.size(1), y.row(row).data());
    });
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& gate, const dual<T>& up) const {
    context.for_each_row(gate.value.size(0), 16 * gate.value.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::gated_activation_backward<Arch>(kind,
                                               {gate.value.row(row).data(), gate.gradient.row(row).data(), gate.fresh},
                                               {up.value.row(row).data(), up.gradient.row(row).data(), up.fresh},
                                               y.gradient.row(row).data(), gate.value.size(1));
    });
  }
};

/// cap tanh(x / cap), in place.
struct soft_cap {
  static constexpr bool in_place = true;
  float cap = 0;

  template <class T>
  auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x) const {
    context.for_each_row(x.size(0), 4 * x.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::soft_cap<Arch>(static_cast<T>(cap), x.size(1), x.row(row).data());
    });
    return x;
  }
  /// The gradient is brought from the result to the input where it stands.
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>&) const {
    context.for_each_row(y.value.size(0), 2 * y.value.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::soft_cap_backward<Arch>(static_cast<T>(cap), y.value.row(row).data(), y.value.size(1),
                                       y.gradient.row(row).data());
    });
  }
};

/// Zeroes each element with probability `rate` and divides the others by 1 - rate. Which ones follows from `seed` and
/// the element's place alone.
struct dropout {
  double rate = 0;
  std::uint64_t seed = 0;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x) const {
    const auto y = context.make(x.size(0), x.size(1));
    apply(context, x, {{}, y, true});
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x) const {
    apply(context, y.gradient, x);
  }

 private:
  template <class T>
  void apply(basic_eval<T>& context, const tensor_view<T, 2>& from, const dual<T>& to) const {
    const kernels::drop_rule rule(rate, seed);
    context.for_each_row(from.size(0), 4 * from.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::drop<Arch>(rule, static_cast<std::uint64_t>(row), from.row(row).data(), from.size(1),
                          to.gradient.row(row).data(), to.fresh);
    });
  }
};

/// Rows `indices` of x, in that order (the rows whose logits are wanted).
struct select_rows {
  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             std::span<const index_t> indices) const {
    const auto y = context.make(static_cast<index_t>(indices.size()), x.size(1));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      expect<shape_error>(indices[i] >= 0 && indices[i] < x.size(0), "select_rows: row ", indices[i], " of ",
                          x.size(0));
      const auto from = x.row(indices[i]);
      std::copy(from.begin(), from.end(), y.row(static_cast<index_t>(i)).begin());
    }
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, std::span<const index_t> indices) const {
    context.for_each_part(x.gradient.size(1), [&]<class Arch>(index_t begin, index_t end, Arch) {
      if (x.fresh) {
        for (index_t row = 0; row < x.gradient.size(0); ++row) {
          std::fill_n(x.gradient.row(row).data() + begin, end - begin, T(0));
        }
      }
      for (std::size_t i = 0; i < indices.size(); ++i) {
        T* const to = x.gradient.row(indices[i]).data() + begin;
        kernels::add<Arch>(to, y.gradient.row(static_cast<index_t>(i)).data() + begin, end - begin, to);
      }
    });
  }
};

/// A row of one value and the row of another that takes its place.
struct row_move {
  index_t to = 0;
  index_t from = 0;
};

/// Rows of x that `moves` names become rows of another value of as many features, in place. No row of x is named twice.
struct replace_rows {
  static constexpr bool in_place = true;

  template <class T>
  auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x, const typename basic_eval<T>::value& by,
               std::span<const row_move> moves) const {
    expect<shape_error>(x.size(1) == by.size(1), "replace_rows: rows of ", by.size(1), " features for rows of ",
                        x.size(1));
    for (const row_move& one : moves) {
      expect<shape_error>(one.to >= 0 && one.to < x.size(0) && one.from >= 0 && one.from < by.size(0),
                          "replace_rows: row ", one.to, " of ", x.size(0), " by row ", one.from, " of ", by.size(0));
    }
    context.for_each_row(static_cast<index_t>(moves.size()), x.size(1), [&]<class Arch>(index_t i, Arch) {
      const row_move& one = moves[static_cast<std::size_t>(i)];
      std::copy_n(by.row(one.from).data(), x.size(1), x.row(one.to).data());
    });
    return x;
  }
  /// What was replaced has no part in the result.
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>&, const dual<T>& by,
                std::span<const row_move> moves) const {
    const index_t features = y.gradient.size(1);
    context.for_each_part(features, [&]<class Arch>(index_t begin, index_t end, Arch) {
      if (by.fresh) {
        for (index_t row = 0; row < by.gradient.size(0); ++row) {
          std::fill_n(by.gradient.row(row).data() + begin, end - begin, T(0));
        }
      }
      for (const row_move& one : moves) {
        T* const from = y.gradient.row(one.to).data() + begin;
        T* const to = by.gradient.row(one.from).data() + begin;
        kernels::add<Arch>(to, from, end - begin, to);
        std::fill_n(from, end - begin, T(0));
      }
    });
  }
};

/// Each `count` rows side by side in one, zeros where the last lacks some: [rows, features] to
/// [ceil(rows / count), count * features].
struct stack_rows {
  index_t count = 1;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x) const {
    expect<shape_error>(count >= 1, "stack_rows: expected a count of at least 1, found ", count);
    const auto y = context.make((x.size(0) + count - 1) / count, count * x.size(1));
    for (index_t row = 0; row < x.size(0); ++row) {
      std::copy_n(x.row(row).data(), x.size(1), y.row(row / count).data() + row % count * x.size(1));
    }
    const index_t missing = y.size(0) * count - x.size(0);
    if (missing > 0) std::fill_n(y.row(y.size(0)).data() - missing * x.size(1), missing * x.size(1), T(0));
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x) const {
    const index_t features = x.value.size(1);
    context.for_each_row(x.value.size(0), features, [&]<class Arch>(index_t row, Arch) {
      kernels::scale_into<Arch>(y.gradient.row(row / count).data() + row % count * features, T(1), features,
                                x.gradient.row(row).data(), x.fresh);
    });
  }
};

}  // namespace runnel::ops
