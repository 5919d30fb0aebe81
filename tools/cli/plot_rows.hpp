// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/stream/language_model.hpp>
#include <runnel/stream/session_options.hpp>
#include <runnel/stream/teacher_forcing.hpp>

/// \file
/// What `runnel plot` shows: one sentence as rows, and what each plan makes of them. Everything in here is asked of the
/// library's own code, by which sessions run.

namespace runnel::cli {

/// One sentence, read and written.
struct plotted_sentence {
  std::vector<std::int32_t> source, target;  ///< rows; the target has its header, not its end
  std::vector<index_t> source_ends;          ///< of what was read: prompt, words, end
  std::vector<index_t> target_ends;          ///< header, words
  std::vector<std::string> source_texts;     ///< of each row
  std::vector<std::string> target_texts;     ///< of each row
  std::vector<std::string> source_words;     ///< what was read, in words
  std::vector<std::string> target_words;     ///< what was written, in words
  std::string translation;                   ///< all of it
  arrivals when;                             ///< reads and writes by the policy
  std::vector<float> vectors;                ///< of source rows that are audio: [num_vectors, any]
  index_t num_vectors = 0;
  bool source_ended = false;      ///< the source's end was read
  bool written_by_model = false;  ///< the model chose the target; else it was given
  [[nodiscard]] index_t prompt_rows() const { return source_ends.front(); }
  [[nodiscard]] index_t header_rows() const { return target_ends.front(); }
  [[nodiscard]] tensor_view<const float, 2> audio_rows() const {
    const auto count = static_cast<index_t>(vectors.size());
    return {vectors.data(), {num_vectors, num_vectors == 0 ? 0 : count / num_vectors}};
  }
};

/// The sentence with the target that the model writes in a session with these options. Throws what sessions throw.
[[nodiscard]] plotted_sentence write_sentence(const stream::language_model& model,
                                              const stream::session_options& options, const std::string& source,
                                              const std::stop_token& stop);

/// The sentence with a given target, read and written as wait-`k` would (plans that read all first: all is read first).
[[nodiscard]] plotted_sentence force_sentence(const stream::language_model& model,
                                              const stream::session_options& options, const std::string& source,
                                              const std::string& target, index_t k);

/// One row of one of a plan's passes.
struct plotted_row {
  group of = group::source;
  index_t index = 0;  ///< within its group
  index_t pass = 0;
  double value = 0;                          ///< its position, as a key
  std::array<double, num_groups> offsets{};  ///< its query's, toward each group
  std::array<key_range, num_groups> sees{};  ///< keys of each group
  std::optional<index_t> predicts{};         ///< the target token that is chosen by its logits
};

/// A plan, and what it makes of a sentence.
struct plotted_plan {
  stream::plan how;
  std::string name;  ///< for people
  std::string slug;  ///< for names of files
  arrivals when;
  std::vector<plotted_row> rows;                     ///< the source's, then the target's of each pass
  std::array<std::vector<double>, num_groups> keys;  ///< positions of all keys
  bool windowed = false;                             ///< layers with a sliding window see less than the rows say
  index_t passes = 0;
  /// Of each target row, as it predicts its successor: how it spreads its attention over source and target rows.
  std::vector<std::vector<double>> attention;
};

/// Rows of the passes in which `how` predicts the sentence's target. Throws what `stream::plan_forced` throws.
[[nodiscard]] plotted_plan plot_plan(const stream::plan& how, const plotted_sentence& sentence, index_t window);

/// Whose attention to look at; nothing means the mean of all.
struct attention_choice {
  std::optional<index_t> layer, head;
  std::stop_token stop{};  ///< ends the looking
};

/// Runs the plan's passes and notes where target rows look. Throws what `models::decoder::forward` throws.
void watch_attention(plotted_plan& plan, const plotted_sentence& sentence, const stream::language_model& model,
                     const stream::session_options& options, const attention_choice& choice);

/// Text of a token, fit for a label: a space at its front as "·", line breaks as "↵", bytes that are no character in
/// hexadecimal digits.
[[nodiscard]] std::string token_label(const stream::language_model& model, std::int32_t id);

}  // namespace runnel::cli
