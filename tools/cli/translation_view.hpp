// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "console.hpp"

namespace runnel::cli {

/// Shows translations on standard output.
///
/// To a pipe or file goes one line a sentence, its translation, and nothing else (but what is put before it on
/// purpose). A terminal gets two: the first grows as source is read (dim, or in brackets where there is no colour) and
/// target is written, in the order in which it happens; the second is the translation. Lines only grow, so they may
/// wrap in any window.
class translation_view {
 public:
  /// `spaced`: units of source are words, to be shown with spaces between them; otherwise they bring their own.
  explicit translation_view(bool spaced);

  void begin_sentence(std::int64_t number) { begin_sentence(std::to_string(number)); }
  /// One that has a name instead of a number.
  void begin_sentence(const std::string& name);
  void read(std::string_view word);
  void written(std::string_view text);
  /// `before` goes before it where nobody looks on.
  void end_sentence(const std::string& translation, const std::string& before = {});
  /// The sentence will not be finished.
  void abandon_sentence();
  [[nodiscard]] bool is_live() const noexcept { return live_; }

 private:
  enum class side : std::uint8_t { none, source, target };

  void turn_to(side next);

  output out_;
  bool live_ = false;
  bool colour_ = false;
  bool spaced_ = true;
  side now_ = side::none;
  std::string source_;  // bytes of units that are no whole character yet
};

}  // namespace runnel::cli
