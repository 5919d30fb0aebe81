// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/product.hpp>

namespace runnel::ops {

/// y += scale (x down^T up^T + up_bias) + bias, in place: what a low-rank adapter does to a linear module's output.
struct add_low_rank {
  float scale = 1;

  /// `y` is [rows, outputs], `x` [rows, inputs]; `change` has `down` [rank, inputs], `up` [outputs, rank] (both may be
  /// empty) and the vectors `up_bias` and `bias` (each may be empty). Throws shape_error if they do not fit.
  template <class T, class LowRank>
  auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& y, const typename basic_eval<T>::value& x,
               const LowRank& change) const {
    const auto scope = context.memory.mark();
    record(context, y, x, change);
    context.memory.release(scope);
    return y;
  }

  /// The same in ops that a tape knows.
  template <class Context, class LowRank>
  auto record(Context& context, const typename Context::value& y, const typename Context::value& x,
              const LowRank& change) const {
    if (change.down.outputs() != 0) {
      const auto inner = context(product{}, context.drop_adapted(x), change.down);
      context(add_scaled{scale}, y, context(product{}, inner, change.up, change.up_bias));
    }
    if (change.bias.size() != 0) context(add_bias{}, y, change.bias);
    return y;
  }
};

}  // namespace runnel::ops
