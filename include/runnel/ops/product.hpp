// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <runnel/ops/eval.hpp>
#include <runnel/ops/prepared_matrix.hpp>

namespace runnel::ops {

/// y = x W^T + b: [rows, inputs] to [rows, outputs].
struct product {
  /// `bias` may be empty. Throws shape_error if the inputs do not fit.
  eval::value forward(eval& context, const eval::value& x, const prepared_matrix& weight,
                      tensor_view<const float, 1> bias = {}) const {
    expect<shape_error>(x.size(1) == weight.inputs(), "product: input has ", x.size(1), " features, the weight takes ",
                        weight.inputs());
    expect<shape_error>(bias.data() == nullptr || bias.size() == weight.outputs(), "product: bias has ", bias.size(),
                        " features, the weight gives ", weight.outputs());
    const auto y = context.make(x.size(0), weight.outputs());
    kernels::product_args<float> args;
    args.words = weight.words();
    args.outputs = weight.outputs();
    args.inputs = weight.inputs();
    args.x = x.data();
    args.x_stride = x.strides()[0];
    args.rows = x.size(0);
    args.y = y.data();
    args.y_stride = y.strides()[0];
    args.bias = bias.data();
    const auto scope = context.memory.mark();
    auto* scratch =
        context.memory.take<float>(kernels::product_scratch * static_cast<std::size_t>(context.team.size()));
    const index_t panels = kernels::panel_count(weight.outputs());
    const index_t grain = std::max<index_t>(1, panels / (8 * context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      quant::with_codec(weight.format(), [&]<class Codec>(Codec) {
        context.team.parallel_for(panels, grain, [&](index_t begin, index_t end, int worker) {
          kernels::product<Arch, Codec>(args, begin, end,
                                        scratch + static_cast<std::size_t>(worker) * kernels::product_scratch);
        });
      });
    });
    context.memory.release(scope);
    return y;
  }
};

/// Rows of a weight matrix by token id: [rows] to [rows, features], times `scale` (1, or what a family multiplies by).
struct embedding {
  float scale = 1;

  /// Throws config_error for an id outside of the vocabulary.
  eval::value forward(eval& context, std::span<const std::int32_t> ids, const prepared_matrix& weight) const {
    const auto y = context.make(static_cast<index_t>(ids.size()), weight.inputs());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      expect(ids[i] >= 0 && ids[i] < weight.outputs(), "embedding: token id ", ids[i],
             " is outside of the vocabulary of ", weight.outputs());
      const auto row = y.row(static_cast<index_t>(i));
      weight.decode_row(ids[i], row);
      if (scale != 1) {
        for (float& value : row) value *= scale;
      }
    }
    return y;
  }
};

}  // namespace runnel::ops
