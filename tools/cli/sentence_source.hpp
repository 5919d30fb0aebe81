// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/stream/session.hpp>
#include <runnel/text/word_splitter.hpp>

#include "console.hpp"

namespace runnel::cli {

/// Sentences, one a line, that go into sessions unit by unit as their bytes come.
class sentence_source {
 public:
  /// `path` "-" is standard input.
  sentence_source(const std::string& path, text::text_unit unit)
      : bytes_(path), unit_(unit), words_(splitter_unit(unit)) {}

  /// Lines of a plain file, empty ones too, or nothing for what comes as it comes. Reads the file once more.
  [[nodiscard]] std::optional<std::int64_t> count_lines() const;

  /// Whether no line is left. Looks at what is there without waiting.
  [[nodiscard]] bool at_end();

  /// Pushes to `session` what has come of the current line, without waiting, and finishes it with the line. A line
  /// without a word finishes nothing: the session can take the next one.
  void feed(stream::session& session);

  /// Waits for more of the line. Throws cancelled_error if a signal comes first.
  void wait() const { bytes_.wait(); }

  /// Whether the current line is complete.
  [[nodiscard]] bool line_ended() const noexcept { return line_ended_; }
  /// Whether the input ended, and the current line has no byte of its own: there is no such line.
  [[nodiscard]] bool line_is_missing() const noexcept { return line_ended_ && !line_feed_ && line_.empty(); }
  /// The current line so far, without its line feed.
  [[nodiscard]] const std::string& line() const noexcept { return line_; }
  /// Units pushed of the current line.
  [[nodiscard]] std::int64_t units() const noexcept { return units_; }
  /// Number of the current line, from 1.
  [[nodiscard]] std::int64_t line_number() const noexcept { return line_number_; }
  /// Waits for the end of the current line, of which nothing must have gone into a session, and reads it.
  void read_line();
  /// Goes on to the next line, dropping what is left of the current one; waits for its end.
  void next_line();

  /// What goes between units, where it is not the chat format's.
  [[nodiscard]] std::optional<std::string> separator() const;
  /// For messages.
  [[nodiscard]] const std::string& name() const noexcept { return bytes_.name(); }

 private:
  /// Tokens are cut from words with their separators, so that a sentence's ids are the same for both units.
  static text::text_unit splitter_unit(text::text_unit unit) {
    return unit == text::text_unit::token ? text::text_unit::word : unit;
  }
  /// Moves what is there of the current line from the pending bytes to `line_`; returns the new part.
  std::string_view take_line_part();
  void push(stream::session& session, const std::vector<std::string>& units);

  byte_source bytes_;
  text::text_unit unit_;
  text::word_splitter words_;
  std::string pending_;  // bytes after those of the current line
  std::string line_;
  bool line_ended_ = false;
  bool line_feed_ = false;  // the line was ended by one, not by the end of the input
  std::int64_t units_ = 0;
  std::int64_t num_words_ = 0;
  std::int64_t line_number_ = 1;
};

}  // namespace runnel::cli
