// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

/// \file
/// What metrics take for a word and for a character. The published scorers are written in Python, so its notion of
/// white space holds here: `\p{White_Space}` and the four ASCII separators. Bytes that are no UTF-8 are characters.

namespace runnel::metrics {

/// Whether `c` separates words.
[[nodiscard]] constexpr bool is_space(char32_t c) noexcept {
  return unicode::is_whitespace(c) || (c >= 0x1C && c <= 0x1F);
}

/// The words of `text`: what stands between white space. Views into `text`. Linear.
[[nodiscard]] inline std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  std::size_t begin = 0;
  std::size_t at = 0;
  const auto close = [&] {
    if (at > begin) words.push_back(text.substr(begin, at - begin));
  };
  while (at < text.size()) {
    const auto step = unicode::decode(text, at);
    if (is_space(step.code_point)) {
      close();
      begin = at + step.length;
    }
    at += step.length;
  }
  close();
  return words;
}

/// `text` without white space at its end.
[[nodiscard]] inline std::string_view trim_end(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t begin = unicode::last_begin(text, text.size());
    if (!is_space(unicode::decode(text, begin).code_point)) break;
    text = text.substr(0, begin);
  }
  return text;
}

/// `text` without white space at either end.
[[nodiscard]] inline std::string_view trim(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto step = unicode::decode(text, 0);
    if (!is_space(step.code_point)) break;
    text.remove_prefix(step.length);
  }
  return trim_end(text);
}

/// The characters of `text`, white space included. Views into `text`. Linear.
[[nodiscard]] inline std::vector<std::string_view> split_characters(std::string_view text) {
  std::vector<std::string_view> characters;
  unicode::for_each_code_point(
      text, [&](const unicode::code_point_step&, std::string_view bytes) { characters.push_back(bytes); });
  return characters;
}

}  // namespace runnel::metrics
