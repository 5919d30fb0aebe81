// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <runnel/position/row_table.hpp>

namespace runnel::kernels::reference {

/// One segment for the reference: dense keys and values [keys, kv_heads, head_dim].
struct attention_segment {
  std::span<const double> queries;  // [rows, heads, head_dim], rotated toward this segment
  std::span<const key_range> ranges;
  std::span<const double> keys;
  std::span<const double> values;
};

/// What a query thinks of a key: their product, scaled, and kept within the soft cap if there is one.
template <class T>
[[nodiscard]] double attention_score(std::span<const T> query, std::span<const T> key, double scale, double soft_cap) {
  double score = 0;
  for (std::size_t i = 0; i < query.size(); ++i) score += static_cast<double>(query[i]) * static_cast<double>(key[i]);
  score *= scale;
  return soft_cap > 0 ? soft_cap * std::tanh(score / soft_cap) : score;
}

/// Makes scores weights that sum to one. No scores stay none.
inline void softmax(std::span<double> scores) {
  double highest = -INFINITY;
  for (const double score : scores) highest = std::max(highest, score);
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - highest);
  for (double& score : scores) score /= total;
}

/// Range attention as its definition reads: softmax over all visible keys of all segments, values averaged. A row that
/// sees nothing gives zeros. `out` is [rows, heads, head_dim].
inline void range_attention(std::span<const attention_segment> segments, index_t rows, index_t heads, index_t kv_heads,
                            index_t head_dim, double scale, double soft_cap, std::span<double> out) {
  for (index_t row = 0; row < rows; ++row) {
    for (index_t head = 0; head < heads; ++head) {
      const index_t kv_head = head / (heads / kv_heads);
      std::vector<double> weights;
      std::vector<const double*> values;
      const auto size = static_cast<std::size_t>(head_dim);
      for (const auto& segment : segments) {
        const auto query = segment.queries.subspan(static_cast<std::size_t>((row * heads + head) * head_dim), size);
        const key_range range = segment.ranges[static_cast<std::size_t>(row)];
        for (index_t key = range.begin; key < range.end; ++key) {
          const auto at = static_cast<std::size_t>((key * kv_heads + kv_head) * head_dim);
          weights.push_back(attention_score(query, segment.keys.subspan(at, size), scale, soft_cap));
          values.push_back(segment.values.data() + at);
        }
      }
      softmax(weights);
      for (index_t i = 0; i < head_dim; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < weights.size(); ++k) sum += weights[k] * values[k][i];
        out[static_cast<std::size_t>((row * heads + head) * head_dim + i)] = sum;
      }
    }
  }
}

}  // namespace runnel::kernels::reference
