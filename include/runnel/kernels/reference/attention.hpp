// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
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

/// Range attention as its definition reads: softmax over all visible keys of all segments, values averaged. A row that
/// sees nothing gives zeros. `out` is [rows, heads, head_dim].
inline void range_attention(std::span<const attention_segment> segments, index_t rows, index_t heads, index_t kv_heads,
                            index_t head_dim, double scale, double soft_cap, std::span<double> out) {
  for (index_t row = 0; row < rows; ++row) {
    for (index_t head = 0; head < heads; ++head) {
      const index_t kv_head = head / (heads / kv_heads);
      std::vector<double> scores;
      std::vector<const double*> values;
      for (const auto& segment : segments) {
        const double* query = segment.queries.data() + (row * heads + head) * head_dim;
        const key_range range = segment.ranges[static_cast<std::size_t>(row)];
        for (index_t key = range.begin; key < range.end; ++key) {
          const index_t at = (key * kv_heads + kv_head) * head_dim;
          double score = 0;
          for (index_t i = 0; i < head_dim; ++i) score += query[i] * segment.keys[static_cast<std::size_t>(at + i)];
          score *= scale;
          if (soft_cap > 0) score = soft_cap * std::tanh(score / soft_cap);
          scores.push_back(score);
          values.push_back(segment.values.data() + at);
        }
      }
      double highest = -INFINITY;
      for (const double score : scores) highest = std::max(highest, score);
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - highest);
      for (index_t i = 0; i < head_dim; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < scores.size(); ++k) sum += scores[k] * values[k][i];
        out[static_cast<std::size_t>((row * heads + head) * head_dim + i)] = scores.empty() ? 0 : sum / total;
      }
    }
  }
}

}  // namespace runnel::kernels::reference
