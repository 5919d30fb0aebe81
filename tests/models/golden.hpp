// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <runnel/io/npy.hpp>
#include <runnel/models/gguf_model.hpp>
#include <runnel/models/hugging_face_model.hpp>

namespace runnel::tests {

inline std::filesystem::path golden_models() { return std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "models"; }

/// Logits [rows, vocab] row by row, with memory of their own.
using logit_rows = std::vector<std::vector<float>>;

inline logit_rows copy_rows(tensor_view<const float, 2> logits) {
  logit_rows out;
  for (index_t row = 0; row < logits.size(0); ++row) {
    const auto values = logits.row(row);
    out.emplace_back(values.begin(), values.end());
  }
  return out;
}

/// Logits of all rows of one pass; the rows are appended to `cache`.
inline logit_rows logits_of(const models::decoder& model, ops::eval& context, cache::key_value_cache& cache, const row_table& rows,
                            std::span<const std::int32_t> tokens) {
  std::vector<index_t> all(static_cast<std::size_t>(rows.size()));
  std::iota(all.begin(), all.end(), index_t{0});
  const models::stream_rows stream{&cache, &rows, tokens, all};
  return copy_rows(model.forward(context, std::span(&stream, 1)));
}

/// Source rows [begin, end) of a plain causal text, for a model with this sliding window.
inline row_table causal_rows(index_t begin, index_t end, index_t window = 0) {
  arrivals when;
  when.read(end);
  row_table rows;
  for (index_t r = begin; r < end; ++r) rows.add_source({contiguous_positions{}, false, true, window}, when, r);
  return rows;
}

/// Logits of every position of a text, in one pass from an empty cache declared for that text.
inline logit_rows prefill(const models::decoder& model, ops::eval& context, std::span<const std::int32_t> tokens) {
  const auto count = static_cast<index_t>(tokens.size());
  auto cache = model.make_cache(cache::storage_type::f32, count);
  return logits_of(model, context, cache, causal_rows(0, count, model.config().sliding_window), tokens);
}

/// Tokens and the logits that Transformers gives for them; `which` is what their files end in.
struct golden {
  std::vector<std::int32_t> tokens;
  std::vector<float> logits;
};

inline golden read_golden(const std::filesystem::path& folder, const std::string& which = {}) {
  return {io::read_npy<std::int32_t>(folder / ("tokens" + which + ".npy")).values,
          io::read_npy<float>(folder / ("logits" + which + ".npy")).values};
}

inline double largest_difference(const logit_rows& found, std::span<const float> expected) {
  double most = 0;
  std::size_t at = 0;
  for (const auto& row : found) {
    for (const float value : row) {
      const double difference = std::fabs(static_cast<double>(value) - static_cast<double>(expected[at++]));
      most = std::isnan(difference) ? INFINITY : std::max(most, difference);
    }
  }
  return at == expected.size() ? most : INFINITY;
}

/// Largest difference from a checkpoint's golden logits once `change(config)` was made to its config.
template <class Change>
double difference_after(const std::filesystem::path& folder, Change&& change) {
  const auto expected = read_golden(folder);
  auto config = models::read_hugging_face_config(folder / "config.json");
  change(config);
  const auto weights = io::open_safetensors(folder);
  const models::weight_reader read(weights.name(), &models::weight_name::hugging_face,
                                   [&](const std::string& tensor) { return weights.find_tensor(tensor); });
  const auto model = models::build_decoder(config, read, models::head_rows::halves);
  ops::eval context;
  return largest_difference(prefill(model, context, expected.tokens), expected.logits);
}

}  // namespace runnel::tests
