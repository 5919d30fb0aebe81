// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/letter_case.hpp>
#include <runnel/unicode/lower_case_tables.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::unicode {

/// Lower-case form of one code point, or itself. U+0130 becomes `i`, without the dot that `to_lower` keeps.
/// Logarithmic.
[[nodiscard]] constexpr char32_t lower_of(char32_t c) noexcept {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
  if (c == 0x130) return U'i';
  const auto value = static_cast<std::int32_t>(c);
  const auto run = std::lower_bound(detail::lower_runs.begin(), detail::lower_runs.end(), value,
                                    [](const auto& entry, std::int32_t key) { return entry[1] < key; });
  if (run == detail::lower_runs.end() || (*run)[0] > value || (value - (*run)[0]) % (*run)[2] != 0) return c;
  return static_cast<char32_t>(value + (*run)[3]);
}

namespace detail {

/// Whether the rule of the final sigma looks past `c`: marks, apostrophes, what binds within words.
[[nodiscard]] constexpr bool is_skipped_by_sigma(char32_t c) noexcept {
  return is_mark(c) || c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD ||
         c == 0xAF || c == 0xB4 || c == 0xB7 || c == 0xB8 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

/// Whether the capital sigma at byte `at` of `text` ends a word: a letter with case before it, none after it.
[[nodiscard]] inline bool is_final_sigma(std::string_view text, std::size_t at) noexcept {
  bool before = false;
  for (std::size_t end = at; end > 0;) {
    const std::size_t begin = last_begin(text, end);
    const char32_t c = decode(text, begin).code_point;
    if (!is_skipped_by_sigma(c)) {
      before = case_of(c) != letter_case::none;
      break;
    }
    end = begin;
  }
  if (!before) return false;
  for (std::size_t next = at + 2; next < text.size();) {
    const auto step = decode(text, next);
    if (!is_skipped_by_sigma(step.code_point)) return case_of(step.code_point) == letter_case::none;
    next += step.length;
  }
  return true;
}

}  // namespace detail

/// `text` in lower case, independent of language (The Unicode Standard, section 3.13, toLowercase, with the rule of the
/// final sigma). Bytes that are not UTF-8 stay as they are. Linear but for runs of marks around capital sigmas.
[[nodiscard]] inline std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  for_each_code_point(text, [&](const code_point_step& step, std::string_view bytes) {
    if (step.kind != sequence_kind::valid) {
      out += bytes;
    } else if (step.code_point == 0x130) {
      out += "i\xCC\x87";
    } else if (step.code_point == 0x3A3 && detail::is_final_sigma(text, at)) {
      append(out, 0x3C2);
    } else {
      append(out, lower_of(step.code_point));
    }
    at += bytes.size();
  });
  return out;
}

}  // namespace runnel::unicode
