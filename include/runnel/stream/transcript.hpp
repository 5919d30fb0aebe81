// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/position/group.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::stream {

/// Whether `text` begins with a white-space character.
[[nodiscard]] inline bool starts_with_space(std::string_view text) noexcept {
  return !text.empty() && unicode::is_whitespace(unicode::decode(text, 0).code_point);
}

/// How much source had been read when something happened: words, and whether the source's end as well.
struct source_progress {
  index_t words = 0;
  bool finished = false;

  /// Words read, the source's end being one more.
  [[nodiscard]] index_t delay() const noexcept { return words + (finished ? 1 : 0); }
};

/// What a session has written: tokens, their text, and the words in it, with what had been read when each was complete.
///
/// Words are what white space separates. They are completed in **units**: usually a unit is a word, but a word may be
/// completed, go on without a space after more source was read, and so be completed in several. All lists only grow, so
/// that a mark and a truncation restore any earlier state.
class transcript {
 public:
  /// A completed piece of text: bytes [begin, end) of the text, part of word `word` (or of none, if empty).
  struct unit {
    std::size_t begin = 0;
    std::size_t end = 0;
    index_t word = 0;
    bool continues = false;
    source_progress read;
  };

  /// A state to go back to.
  struct mark {
    std::size_t tokens = 0;
    std::size_t bytes = 0;
    std::size_t units = 0;
    std::size_t announced = 0;
    std::size_t open_begin = none;
    index_t unit_tokens = 0;
  };

  [[nodiscard]] mark now() const noexcept {
    return {tokens_.size(), text_.size(), units_.size(), announced_, open_begin_, unit_tokens_};
  }

  /// Goes back to a state that `now` returned earlier.
  void rewind(const mark& point) {
    tokens_.resize(point.tokens);
    text_.resize(point.bytes);
    units_.resize(point.units);
    announced_ = point.announced;
    open_begin_ = point.open_begin;
    unit_tokens_ = point.unit_tokens;
  }

  /// Adds a token and the text it completes. White space inside `text` completes units.
  void keep(std::int32_t id, std::string_view text, source_progress read) {
    tokens_.push_back(id);
    ++unit_tokens_;
    append(text, read);
  }

  /// Adds text that belongs to no new token.
  void append(std::string_view text, source_progress read) {
    const std::size_t start = text_.size();
    text_ += text;
    for (std::size_t at = start; at < text_.size();) {
      const auto step = unicode::decode(text_, at);
      if (!unicode::is_whitespace(step.code_point)) {
        if (open_begin_ == none) open_begin_ = at;
      } else if (open_begin_ != none) {
        complete(at, read);
        if (at + step.length < text_.size()) unit_tokens_ = 1;  // the token's rest counts for the next unit
      }
      at += step.length;
    }
  }

  /// Whether the current unit has a character that is not white space.
  [[nodiscard]] bool has_content() const noexcept { return open_begin_ != none; }

  /// Completes the current unit if it has content.
  void complete(source_progress read) {
    if (has_content()) complete(text_.size(), read);
  }

  /// Completes the current unit even if it is empty: then the new unit has no text and belongs to no word.
  void cut(source_progress read) {
    if (has_content()) {
      complete(text_.size(), read);
    } else {
      units_.push_back({end_of_words(), end_of_words(), num_words(), true, read});
      unit_tokens_ = 0;
    }
  }

  /// Tokens in the current unit.
  [[nodiscard]] index_t unit_tokens() const noexcept { return unit_tokens_; }

  /// The next completed unit that was not announced yet, or nullptr; it is announced with this call.
  [[nodiscard]] const unit* announce() noexcept { return announced_ < units_.size() ? &units_[announced_++] : nullptr; }

  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] std::span<const unit> units() const noexcept { return units_; }
  [[nodiscard]] std::string_view text_of(const unit& u) const noexcept {
    return std::string_view(text_).substr(u.begin, u.end - u.begin);
  }

  /// Completed words.
  [[nodiscard]] index_t num_words() const noexcept { return units_.empty() ? 0 : words_after(units_.back()); }

  /// Completed words, in order.
  [[nodiscard]] std::vector<std::string> words() const {
    std::vector<std::string> result(static_cast<std::size_t>(num_words()));
    for (const unit& u : units_) {
      if (u.begin != u.end) result[static_cast<std::size_t>(u.word)] += text_of(u);
    }
    return result;
  }

  /// What had been read when each word was completed (for the last time).
  [[nodiscard]] std::vector<source_progress> delays() const {
    std::vector<source_progress> result(static_cast<std::size_t>(num_words()));
    for (const unit& u : units_) {
      if (u.begin != u.end) result[static_cast<std::size_t>(u.word)] = u.read;
    }
    return result;
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  static index_t words_after(const unit& u) noexcept { return u.begin == u.end ? u.word : u.word + 1; }

  [[nodiscard]] std::size_t end_of_words() const noexcept { return units_.empty() ? 0 : units_.back().end; }

  void complete(std::size_t end, source_progress read) {
    const bool continues = num_words() > 0 && end_of_words() == open_begin_;
    units_.push_back({open_begin_, end, num_words() - (continues ? 1 : 0), continues, read});
    open_begin_ = none;
    unit_tokens_ = 0;
  }

  std::vector<std::int32_t> tokens_;
  std::string text_;
  std::vector<unit> units_;
  std::size_t announced_ = 0;
  std::size_t open_begin_ = none;
  index_t unit_tokens_ = 0;
};

}  // namespace runnel::stream
