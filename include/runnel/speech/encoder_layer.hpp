// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include <runnel/nn/attention.hpp>
#include <runnel/nn/norm.hpp>
#include <runnel/speech/config.hpp>

namespace runnel::speech {

/// down(activation(up(x))).
template <class Parameters>
struct feed_forward {
  nn::linear<Parameters> up;
  nn::linear<Parameters> down;
  kernels::activation kind = kernels::activation::gelu;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return down(context, context(ops::activation{kind}, up(context, x)));
  }
};

/// A transformer layer: attention and feed-forward, each normed before (x += f(norm(x))) or after (x = norm(x + f(x))).
/// Whether frames see those after them is said by the rows' ranges, not here.
template <class Parameters>
struct encoder_layer {
  nn::layer_norm<Parameters> attention_norm;
  nn::attention<Parameters> attention;
  nn::layer_norm<Parameters> mlp_norm;
  feed_forward<Parameters> mlp;
  bool norm_first = true;

  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                ops::attention_streams<KeyStore> streams, index_t index) const {
    const auto attend = [&](const typename Context::value& in) {
      return context.drop(attention(context, in, streams, std::span<const nn::adapted_rows<Parameters>>(), index));
    };
    if (norm_first) {
      const auto attended = context(ops::add{}, x, attend(attention_norm(context, x)));
      return context(ops::add{}, attended, context.drop(mlp(context, mlp_norm(context, attended))));
    }
    const auto attended = attention_norm(context, context(ops::add{}, x, attend(x)));
    return mlp_norm(context, context(ops::add{}, attended, context.drop(mlp(context, attended))));
  }
};

/// Rows of frames [first, last) of an utterance of `total` frames (needed where frames see those after them). Entry i
/// of the key store holds frame `dropped` + i. Throws limit_error if entries do not fit 31 bits.
[[nodiscard]] inline row_table frame_rows(const encoder_config& config, index_t first, index_t last, index_t total,
                                          index_t dropped = 0) {
  row_table rows;
  expect<limit_error>(std::max(last, total) - dropped < (index_t{1} << 31), "speech: too many frames");
  for (index_t t = first; t < last; ++t) {
    const bool bounded = config.causal_attention && config.left_context > 0;
    const index_t begin = bounded ? std::max<index_t>(0, t - config.left_context) : 0;
    const index_t end = config.causal_attention ? t + 1 : total;
    const key_range seen{static_cast<std::int32_t>(begin - dropped), static_cast<std::int32_t>(end - dropped)};
    rows.add({group::source, static_cast<double>(t), t - dropped}, seen, 0, {}, 0);
  }
  return rows;
}

}  // namespace runnel::speech
