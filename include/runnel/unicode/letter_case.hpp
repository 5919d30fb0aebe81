// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/letter_tables.hpp>

namespace runnel::unicode {

/// Case of a letter; scripts without case, modifier letters and everything that is no letter have none.
enum class letter_case : std::uint8_t {
  none,
  upper,  ///< `\p{Lu}` and `\p{Lt}`
  lower,  ///< `\p{Ll}`
};

/// Case of a code point. Logarithmic.
[[nodiscard]] constexpr letter_case case_of(char32_t c) noexcept {
  if (c < 128) {
    return c >= 'a' && c <= 'z' ? letter_case::lower : c >= 'A' && c <= 'Z' ? letter_case::upper : letter_case::none;
  }
  const std::uint32_t key = (static_cast<std::uint32_t>(c) << 2U) | 3U;
  const auto next = std::upper_bound(detail::case_starts.begin(), detail::case_starts.end(), key);
  return static_cast<letter_case>(*(next - 1) & 3U);
}

/// `\w`: letters, marks, decimal digits and letter-like numbers, connecting punctuation, joiners, circled letters.
[[nodiscard]] constexpr bool is_word_character(char32_t c) noexcept {
  const auto in = [c](const auto& runs) {
    const auto run = std::lower_bound(runs.begin(), runs.end(), c,
                                      [](const auto& entry, char32_t value) { return entry[1] < value; });
    return run != runs.end() && (*run)[0] <= c;
  };
  const auto group = category_of(c);
  if (group == category::letter || group == category::mark) return true;
  return group == category::number ? !in(detail::word_numbers_not) : in(detail::word_others);
}

}  // namespace runnel::unicode
