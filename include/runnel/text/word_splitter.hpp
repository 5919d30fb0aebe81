// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// What a stream of text is read in.
enum class text_unit : std::uint8_t {
  word,       ///< what stands between white space, without it
  character,  ///< a character with the marks on it; white space before it is one space at its front
  token,      ///< bytes of one token of a word; white space before the word is one space in front of them
};

/// The unit called `name` (word, char, token). \throws config_error listing the names
[[nodiscard]] inline text_unit find_text_unit(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, text_unit>, 3> names{
      {{"word", text_unit::word}, {"char", text_unit::character}, {"token", text_unit::token}}};
  for (const auto& [known, unit] : names) {
    if (known == name) return unit;
  }
  fail<config_error>("source unit \"", name, "\" is unknown, expected one of word, char, token");
}

/// Cuts text that arrives in chunks of any size into units. A unit is given out once it is certain to be complete: a
/// word when white space follows, a character when the next one begins. White space is Unicode's; at the beginning and
/// the end it is dropped. `separator()` between the units gives back the text with each run of white space made one
/// space. Bytes that are no UTF-8 are part of words like letters, unchanged. Where the chunks are cut makes no
/// difference.
class word_splitter {
 public:
  /// `vocabulary` is needed for the unit token only and must then outlive the splitter.
  /// \throws config_error if it is missing
  explicit word_splitter(text_unit unit = text_unit::word, const tokenizer* vocabulary = nullptr)
      : unit_(unit), vocabulary_(vocabulary) {
    expect(unit != text_unit::token || vocabulary != nullptr, "word_splitter: the unit token needs a tokenizer");
  }

  /// Takes the next bytes and returns the units that are complete now. Linear in the bytes.
  [[nodiscard]] std::vector<std::string> push(std::string_view bytes) {
    std::vector<std::string> units;
    undecoded_ += bytes;
    const std::size_t whole = undecoded_.size() - unicode::incomplete_tail(undecoded_);
    take(std::string_view(undecoded_).substr(0, whole), units);
    undecoded_.erase(0, whole);
    return units;
  }

  /// Ends the text and returns what is left of it; a new text can begin after it.
  [[nodiscard]] std::vector<std::string> finish() {
    std::vector<std::string> units;
    take(undecoded_, units);
    undecoded_.clear();
    end_unit(units);
    after_space_ = begun_ = joined_ = false;
    previous_ = 0;
    return units;
  }

  /// What belongs between units: a space between words, nothing between characters and tokens.
  [[nodiscard]] std::string_view separator() const noexcept { return unit_ == text_unit::word ? " " : ""; }

  /// What this splitter gives out.
  [[nodiscard]] text_unit unit() const noexcept { return unit_; }

 private:
  void take(std::string_view text, std::vector<std::string>& units) {
    unicode::for_each_code_point(text, [&](const unicode::code_point_step& step, std::string_view bytes) {
      const bool valid = step.kind == unicode::sequence_kind::valid;
      if (valid && unicode::is_whitespace(step.code_point)) {
        end_unit(units);
        after_space_ = begun_;
        previous_ = 0;
        return;
      }
      const char32_t code_point = valid ? step.code_point : 0;
      if (unit_ == text_unit::character && !continues(code_point)) end_unit(units);
      if (current_.empty() && after_space_ && unit_ != text_unit::word) current_ = " ";
      current_ += bytes;
      begun_ = true;
      after_space_ = false;
      previous_ = code_point;
    });
  }

  // Whether a code point belongs to the character before it: marks, joined emoji, skin tones, the second half of a
  // flag.
  [[nodiscard]] bool continues(char32_t code_point) noexcept {
    constexpr char32_t joiner = 0x200D;
    const auto is_flag_half = [](char32_t c) { return c >= 0x1F1E6 && c <= 0x1F1FF; };
    if (current_.empty()) {
      joined_ = false;
      return true;
    }
    if (is_flag_half(code_point) && is_flag_half(previous_) && !joined_) return joined_ = true;
    joined_ = false;
    const bool is_skin_tone = code_point >= 0x1F3FB && code_point <= 0x1F3FF;
    return unicode::is_mark(code_point) || code_point == joiner || previous_ == joiner || is_skin_tone;
  }

  void end_unit(std::vector<std::string>& units) {
    if (current_.empty()) return;
    if (unit_ == text_unit::token) {
      // A vocabulary that changes the text or lacks bytes of it still must not lose any.
      encode_options options;
      options.continues = true;
      const auto ids = vocabulary_->encode(current_, options);
      std::string pieces;
      for (const auto id : ids) pieces += vocabulary_->piece(id);
      if (pieces == current_) {
        for (const auto id : ids) units.emplace_back(vocabulary_->piece(id));
        current_.clear();
        return;
      }
    }
    units.push_back(std::move(current_));
    current_.clear();
  }

  text_unit unit_;
  const tokenizer* vocabulary_;
  std::string undecoded_;  // at most 3 bytes between calls
  std::string current_;    // the unit that is not complete yet
  char32_t previous_ = 0;
  bool begun_ = false;        // something other than white space has come
  bool after_space_ = false;  // white space has come since, and no unit holds it yet
  bool joined_ = false;       // the current character is a whole flag
};

}  // namespace runnel::text
