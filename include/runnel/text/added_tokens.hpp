// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/checked.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/letter_case.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// Finds added tokens in text: leftmost first, of several at one place the longest.
class added_token_finder {
 public:
  /// A token to find.
  struct entry {
    std::string text;
    std::int32_t id = 0;
    bool control = false;
    bool strip_left = false;
    bool strip_right = false;
    bool single_word = false;
  };

  /// Which kinds count; the others are text.
  struct filter {
    bool control = false;
    bool user_defined = true;
  };

  /// Where in a text we are.
  struct place {
    std::size_t at = 0;       ///< bytes before it are done with
    std::size_t looked = 0;   ///< no token begins between `at` and here, and all of that is white space or undecided
    bool skip_space = false;  ///< the last token takes the white space after it along
    char32_t before = 0;      ///< the character before `at`, 0 at the beginning; needed where `looks_around()`
  };

  added_token_finder() = default;

  /// Takes tokens whose texts differ; empty ones are left out.
  explicit added_token_finder(std::vector<entry> entries) {
    std::vector<std::string_view> texts;
    for (const entry& added : entries) texts.push_back(added.text);
    const io::name_index by_text(std::move(texts));
    for (const std::size_t i : by_text.order()) {
      if (entries[i].text.empty()) continue;
      begins_[static_cast<std::uint8_t>(entries[i].text.front())] = true;
      auto& strips_left = entries[i].control ? controls_strip_left_ : users_strip_left_;
      strips_left = strips_left || entries[i].strip_left;
      looks_around_ = looks_around_ || entries[i].single_word;
      entries_.push_back(std::move(entries[i]));
    }
  }

  /// Whether there is no token to find.
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  /// Whether some token is only found as a word of its own.
  [[nodiscard]] bool looks_around() const noexcept { return looks_around_; }

  /// Bytes [begin, end) are text; then comes the token `id` (-1: none was found). `after` is where to go on.
  struct match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;
    place after;
  };

  /// The first token in `text` from `from` on that `wanted` lets through. If `more` text may follow and could change
  /// what is found, the answer ends before that place. Linear, up to the length of the longest token.
  [[nodiscard]] match next(std::string_view text, place from, filter wanted, bool more) const noexcept {
    // White space in front of a token that is still to come may belong to it.
    const bool holds_space = (wanted.control && controls_strip_left_) || (wanted.user_defined && users_strip_left_);
    std::size_t at = std::max(from.at, from.looked);
    std::size_t space = from.at;  // where the white space in front of `at` begins
    while (at < text.size()) {
      const found here = longest_at(text, at);
      if (here.open && more) break;
      if (here.token != nullptr) {
        const entry& token = *here.token;
        const std::size_t end = at + token.text.size();
        if (token.single_word && more && !unicode::is_complete_at(text, end)) break;
        const bool lets = token.control ? wanted.control : wanted.user_defined;
        if (lets && (!token.single_word || stands_alone(text, at, end, from))) {
          const std::size_t stop = token.strip_left ? space : at;
          return {from.at, stop, token.id, {end, end, token.strip_right, last_character(text, end)}};
        }
      }
      if (!from.skip_space && !holds_space) {
        at += here.token != nullptr ? here.token->text.size() : 1;
        continue;
      }
      const auto step = unicode::decode(text, at);
      if (more && step.kind == unicode::sequence_kind::incomplete) break;
      if (unicode::is_whitespace(step.code_point)) {
        at += step.length;
        if (from.skip_space) {
          from = {at, at, true, step.code_point};
          space = at;
        }
        continue;
      }
      from.skip_space = false;
      at += here.token != nullptr ? here.token->text.size() : std::size_t{step.length};
      space = at;
    }
    std::size_t end = more && holds_space ? space : at;
    if (more && looks_around_) end = std::min(end, text.size() - unicode::incomplete_tail(text));
    const char32_t before = end == from.at ? from.before : last_character(text, end);
    return {from.at, end, -1, {end, at, from.skip_space, before}};
  }

 private:
  struct found {
    const entry* token = nullptr;
    bool open = false;  // more text could make it a longer token
  };

  // Narrows the sorted entries byte by byte to those that go on as the text does.
  [[nodiscard]] found longest_at(std::string_view text, std::size_t at) const noexcept {
    if (!begins_[static_cast<std::uint8_t>(text[at])]) return {};
    found best;
    const entry* low = entries_.data();
    const entry* high = low + entries_.size();
    for (std::size_t depth = 0; low != high; ++depth) {
      if (low->text.size() == depth) best.token = low++;  // texts differ, so at most one ends here
      if (at + depth >= text.size()) {
        best.open = low != high;
        break;
      }
      const auto byte = static_cast<std::uint8_t>(text[at + depth]);
      const auto byte_at = [depth](const entry& e) { return static_cast<std::uint8_t>(e.text[depth]); };
      low = std::partition_point(low, high, [&](const entry& e) { return byte_at(e) < byte; });
      high = std::partition_point(low, high, [&](const entry& e) { return byte_at(e) <= byte; });
    }
    return best;
  }

  [[nodiscard]] static bool stands_alone(std::string_view text, std::size_t begin, std::size_t end,
                                         const place& from) noexcept {
    const char32_t before = begin == from.at ? from.before : last_character(text, begin);
    const bool open_left = before == 0 || !unicode::is_word_character(before);
    return open_left && (end == text.size() || !unicode::is_word_character(unicode::decode(text, end).code_point));
  }

  [[nodiscard]] static char32_t last_character(std::string_view text, std::size_t end) noexcept {
    return end == 0 ? 0 : unicode::decode(text.substr(0, end), unicode::last_begin(text, end)).code_point;
  }

  std::vector<entry> entries_;
  std::array<bool, 256> begins_{};
  bool controls_strip_left_ = false;
  bool users_strip_left_ = false;
  bool looks_around_ = false;
};

}  // namespace runnel::text
