// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/ops/product.hpp>

namespace runnel::ops {

/// y += scale (x down^T up^T + up_bias) + bias, in place: what a low-rank adapter does to a linear module's output.
struct add_low_rank {
  float scale = 1;

  /// `y` is [rows, outputs], `x` [rows, inputs]; `change` has `down` [rank, inputs], `up` [outputs, rank] (both may be
  /// empty) and the vectors `up_bias` and `bias` (each may be empty). Throws shape_error if they do not fit.
  template <class LowRank>
  eval::value forward(eval& context, const eval::value& y, const eval::value& x, const LowRank& change) const {
    const auto scope = context.memory.mark();
    if (change.down.outputs() != 0) {
      const auto inner = context(product{}, x, change.down);
      add_scaled(context, y, context(product{}, inner, change.up, change.up_bias));
    }
    if (change.bias.size() != 0) {
      expect<shape_error>(change.bias.size() == y.size(1), "add_low_rank: bias has ", change.bias.size(),
                          " features, the output ", y.size(1));
      context.for_each_row(y.size(0), y.size(1), [&]<class Arch>(index_t row, Arch) {
        kernels::add<Arch>(y.row(row).data(), change.bias.data(), y.size(1), y.row(row).data());
      });
    }
    context.memory.release(scope);
    return y;
  }

 private:
  void add_scaled(eval& context, const eval::value& y, const eval::value& change) const {
    expect_shape(change.shape(), y.shape(), "add_low_rank");
    context.for_each_row(y.size(0), 2 * y.size(1), [&]<class Arch>(index_t row, Arch) {
      kernels::add_scaled<Arch>(y.row(row).data(), scale, change.row(row).data(), y.size(1));
    });
  }
};

}  // namespace runnel::ops
