// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <runnel/position/row_table.hpp>

namespace runnel::train {

/// One sentence pair as tokens, segment by segment (semantics of a chat format: prompt, words, end; header, words,
/// end). Where the source is audio its segments are chunks, and token -1 - r stands for row r of what the speech
/// encoder and the projector make of it.
struct example {
  std::vector<std::int32_t> source;
  /// Source rows up to and including each segment: the prompt s0, words s1..sN, the end s(N+1).
  std::vector<index_t> source_ends;
  std::vector<std::int32_t> target;
  /// Target rows up to and including each segment: the header g0 (maybe empty), words g1..gM, the end g(M+1).
  std::vector<index_t> target_ends;

  [[nodiscard]] index_t source_words() const noexcept { return static_cast<index_t>(source_ends.size()) - 2; }
  [[nodiscard]] index_t target_words() const noexcept { return static_cast<index_t>(target_ends.size()) - 2; }
};

/// Rows of one forward pass over one stream, and what some of them have to predict.
struct training_rows {
  row_table rows;
  std::vector<std::int32_t> tokens;  ///< of each row
  std::vector<index_t> logit_rows;   ///< rows that predict
  std::vector<std::int32_t> labels;  ///< of each of these: the token that follows
  /// Samples at the encoder's rate, which normalises and pads them; negative tokens name rows made of them.
  std::shared_ptr<const std::vector<float>> audio{};
};

}  // namespace runnel::train
