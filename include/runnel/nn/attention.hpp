// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <runnel/nn/linear.hpp>
#include <runnel/nn/lora.hpp>
#include <runnel/nn/norm.hpp>
#include <runnel/ops/attention.hpp>

namespace runnel::nn {

/// Grouped-query self-attention over ranges: nothing in here knows which plan runs.
template <class Parameters>
struct attention {
  linear<Parameters> query;
  linear<Parameters> key;
  linear<Parameters> value;
  linear<Parameters> output;
  rms_norm<Parameters> query_norm;  ///< over each head, before rotation; no weight: none
  rms_norm<Parameters> key_norm;
  ops::range_attention scores;
  int rotary = 0;  ///< which of the model's tables, or `ops::no_rotary`

  /// `x` is [rows of all streams, hidden]. Keys and values of all rows are stored before any row attends, so rows of
  /// one pass see one another as their ranges say.
  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                ops::attention_streams<KeyStore> streams,
                                std::span<const adapted_rows<Parameters>> adapted, index_t layer) const {
    const auto adapt_module = [&](const auto& from, const auto& to, adapted_module which) {
      adapt<Parameters>(
          context, from, to, adapted, [&](const auto& active) -> auto& { return active.at(layer, which); });
    };
    const auto [projected, raw_keys, v] = context(ops::products{}, x, query, key, value);
    adapt_module(x, projected, adapted_module::query);
    adapt_module(x, raw_keys, adapted_module::key);
    adapt_module(x, v, adapted_module::value);
    const auto q = query_norm.of_heads(context, projected);
    const auto k = key_norm.of_heads(context, raw_keys);
    const auto attended = context.make(x.size(0), scores.heads * scores.head_dim);
    context(ops::store_keys{scores.head_dim}, k, v, streams, rotary, layer);
    auto attend = scores;
    if constexpr (requires { query.weight.format(); }) attend.layer_format = query.weight.format();
    context(attend, q, streams, rotary, layer, attended);
    const auto y = output(context, attended);
    adapt_module(attended, y, adapted_module::output);
    return y;
  }
};

}  // namespace runnel::nn
