// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <span>

#include <runnel/nn/linear.hpp>
#include <runnel/nn/lora.hpp>
#include <runnel/nn/norm.hpp>
#include <runnel/ops/attention.hpp>

namespace runnel::nn {

/// Rotary tables that layers of one model choose from: most have one; families that mix windowed and full layers may
/// turn them at different speeds.
inline constexpr std::size_t max_rotary_tables = 2;

/// Stands for "no table": a layer without rotary.
inline constexpr int no_rotary = -1;

/// One stream's part of a pass: rows [first, first + rows->size()) of the pass's value, and the store they see and
/// extend.
template <class KeyStore>
struct attention_stream {
  const row_table* rows = nullptr;
  std::array<ops::basic_rotary_angles<typename KeyStore::value_type>, max_rotary_tables> angles;
  KeyStore* store = nullptr;
  index_t first = 0;
};

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
  int rotary = 0;  ///< which of the model's tables, or `no_rotary`

  /// `x` is [rows of all streams, hidden]. Keys and values of all rows are stored before any row attends, so rows of
  /// one pass see one another as their ranges say.
  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                std::span<const attention_stream<KeyStore>> streams,
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
    for (const auto& stream : streams) {
      const auto mine = [&stream](const typename Context::value& all) {
        return all.slice(stream.first, stream.first + stream.rows->size());
      };
      const auto* angles = rotary == no_rotary ? nullptr : &stream.angles[static_cast<std::size_t>(rotary)];
      context(ops::store_keys{scores.head_dim}, mine(k), mine(v), *stream.rows, angles, layer, *stream.store);
      context(scores, mine(q), *stream.rows, angles, layer, *stream.store, mine(attended));
    }
    const auto y = output(context, attended);
    adapt_module(attended, y, adapted_module::output);
    return y;
  }
};

}  // namespace runnel::nn
