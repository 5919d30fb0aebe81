// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <runnel/nn/linear.hpp>
#include <runnel/ops/attention.hpp>

namespace runnel::nn {

/// One stream's part of a pass: rows [first, first + rows->size()) of the pass's value, and the store they see and
/// extend.
template <class KeyStore>
struct attention_stream {
  const row_table* rows = nullptr;
  ops::rotary_angles angles;
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
  ops::range_attention scores;
  bool rotary = true;

  /// `x` is [rows of all streams, hidden]. Keys and values of all rows are stored before any row attends, so rows of
  /// one pass see one another as their ranges say.
  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                std::span<const attention_stream<KeyStore>> streams, index_t layer) const {
    const auto [q, k, v] = context(ops::products{}, x, query, key, value);
    const auto attended = context.make(x.size(0), scores.heads * scores.head_dim);
    for (const auto& stream : streams) {
      const auto mine = [&stream](const typename Context::value& all) {
        return all.slice(stream.first, stream.first + stream.rows->size());
      };
      const auto* angles = rotary ? &stream.angles : nullptr;
      context(ops::store_keys{scores.head_dim}, mine(k), mine(v), *stream.rows, angles, layer, *stream.store);
      context(scores, mine(q), *stream.rows, angles, layer, *stream.store, mine(attended));
    }
    return output(context, attended);
  }
};

}  // namespace runnel::nn
