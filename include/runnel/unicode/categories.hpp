// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <runnel/unicode/tables.hpp>

namespace runnel::unicode {

/// First letter of a code point's general category; controls, format characters and unassigned ones are `other`.
enum class category : std::uint8_t { other, letter, mark, number, punctuation, symbol, separator };

namespace detail {

[[nodiscard]] constexpr category search_category(char32_t code_point) noexcept {
  const std::uint32_t key = (static_cast<std::uint32_t>(code_point) << 3U) | 7U;
  const auto next = std::upper_bound(category_starts.begin(), category_starts.end(), key);
  return static_cast<category>(*(next - 1) & 7U);
}

[[nodiscard]] consteval std::array<category, 128> ascii_categories() {
  std::array<category, 128> table{};
  for (std::size_t c = 0; c < table.size(); ++c) table[c] = search_category(static_cast<char32_t>(c));
  return table;
}

inline constexpr auto ascii_category = ascii_categories();

}  // namespace detail

/// Category of a code point, as Unicode 16 has it. Values above U+10FFFF are `other`. Logarithmic; a table for ASCII.
[[nodiscard]] constexpr category category_of(char32_t code_point) noexcept {
  if (code_point < 128) return detail::ascii_category[code_point];
  return code_point > 0x10FFFF ? category::other : detail::search_category(code_point);
}

/// `\p{L}`
[[nodiscard]] constexpr bool is_letter(char32_t c) noexcept { return category_of(c) == category::letter; }
/// `\p{M}`
[[nodiscard]] constexpr bool is_mark(char32_t c) noexcept { return category_of(c) == category::mark; }
/// `\p{N}`
[[nodiscard]] constexpr bool is_number(char32_t c) noexcept { return category_of(c) == category::number; }
/// `\p{P}`
[[nodiscard]] constexpr bool is_punctuation(char32_t c) noexcept { return category_of(c) == category::punctuation; }
/// `\p{S}`
[[nodiscard]] constexpr bool is_symbol(char32_t c) noexcept { return category_of(c) == category::symbol; }

/// Whether a digit splitter takes `c` for a digit: `\p{N}`, and the few numbers that newer versions of Unicode added.
[[nodiscard]] constexpr bool is_numeric(char32_t c) noexcept {
  return is_number(c) || (c >= detail::newer_numbers.front() && c <= detail::newer_numbers.back() &&
                          std::binary_search(detail::newer_numbers.begin(), detail::newer_numbers.end(), c));
}

/// `\s`: the property White_Space (25 code points, among them no-break spaces, line and paragraph separators).
[[nodiscard]] constexpr bool is_whitespace(char32_t c) noexcept {
  if (c <= 0x20) return c == 0x20 || (c >= 0x09 && c <= 0x0D);
  if (c < 0x85) return false;
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Whether `c` matches the lower-case ASCII letter `letter` when case is ignored; U+017F (long s) matches `s` as well.
[[nodiscard]] constexpr bool matches_ignoring_case(char32_t c, char letter) noexcept {
  const auto lower = static_cast<char32_t>(letter);
  return c == lower || c + 0x20 == lower || (c == 0x17F && letter == 's') || (c == 0x212A && letter == 'k');
}

}  // namespace runnel::unicode
