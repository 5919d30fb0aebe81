// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace runnel::unicode {

/// What the bytes at one place of a text are.
enum class sequence_kind : std::uint8_t {
  valid,       ///< one code point
  invalid,     ///< bytes that no continuation can make valid (overlong, surrogate, too large, stray)
  incomplete,  ///< the text ends inside a sequence that is valid so far
};

/// One step through arbitrary bytes: `length` bytes (1 to 4) are one code point, or one maximal run that is none.
struct code_point_step {
  char32_t code_point = 0xFFFD;                 ///< U+FFFD unless valid
  std::uint8_t length = 1;                      ///< bytes taken; at least 1
  sequence_kind kind = sequence_kind::invalid;  ///< see sequence_kind
};

/// UTF-8 of U+FFFD, which stands for bytes that are no text.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

namespace detail {

/// Length of the sequence that `lead` begins (0: none does) and the range its second byte must be in (RFC 3629,
/// section 4).
struct lead_byte {
  std::uint8_t length;
  std::uint8_t second_low;
  std::uint8_t second_high;
};

[[nodiscard]] constexpr lead_byte classify_lead(std::uint8_t lead) noexcept {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace detail

/// Reads the sequence at byte `at` of `text` (`at < text.size()`). Strict: no overlong forms, no surrogates, nothing
/// above U+10FFFF. An invalid run is as long as the longest valid beginning in it, so replacing each by U+FFFD is what
/// the Unicode standard recommends (section 3.9, "maximal subparts") and what Python's `errors="replace"` does.
[[nodiscard]] constexpr code_point_step decode(std::string_view text, std::size_t at) noexcept {
  const auto lead = static_cast<std::uint8_t>(text[at]);
  const auto rule = detail::classify_lead(lead);
  if (rule.length == 1) return {lead, 1, sequence_kind::valid};
  if (rule.length == 0) return {};
  char32_t code_point = lead & (0x7FU >> rule.length);
  for (std::uint8_t i = 1; i < rule.length; ++i) {
    if (at + i >= text.size()) return {0xFFFD, i, sequence_kind::incomplete};
    const auto byte = static_cast<std::uint8_t>(text[at + i]);
    const bool fits = i == 1 ? byte >= rule.second_low && byte <= rule.second_high : (byte & 0xC0U) == 0x80U;
    if (!fits) return {0xFFFD, i, sequence_kind::invalid};
    code_point = (code_point << 6U) | (byte & 0x3FU);
  }
  return {code_point, rule.length, sequence_kind::valid};
}

/// Appends the UTF-8 of `code_point`; a surrogate or a value above U+10FFFF becomes U+FFFD.
inline void append(std::string& out, char32_t code_point) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) code_point = 0xFFFD;
  char bytes[4];
  std::size_t length = 0;
  const auto put = [&](char32_t byte) { bytes[length++] = static_cast<char>(static_cast<std::uint8_t>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0U | (code_point >> 6U));
    put(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    put(0xE0U | (code_point >> 12U));
    put(0x80U | ((code_point >> 6U) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  } else {
    put(0xF0U | (code_point >> 18U));
    put(0x80U | ((code_point >> 12U) & 0x3FU));
    put(0x80U | ((code_point >> 6U) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  }
  out.append(bytes, length);
}

/// UTF-8 of one code point; see `append`.
[[nodiscard]] inline std::string encode(char32_t code_point) {
  std::string out;
  append(out, code_point);
  return out;
}

/// Calls `visit(code_point_step, std::string_view bytes)` for every sequence of `text`, valid or not; the views
/// together are `text`.
template <class Visit>
constexpr void for_each_code_point(std::string_view text, Visit&& visit) {
  for (std::size_t at = 0; at < text.size();) {
    const auto step = decode(text, at);
    visit(step, text.substr(at, step.length));
    at += step.length;
  }
}

/// Byte offset of the first sequence that is not valid UTF-8, or `npos`.
[[nodiscard]] constexpr std::size_t find_invalid(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const auto step = decode(text, at);
    if (step.kind != sequence_kind::valid) return at;
    at += step.length;
  }
  return std::string_view::npos;
}

/// Whether `text` is valid UTF-8 from end to end.
[[nodiscard]] constexpr bool is_valid(std::string_view text) noexcept {
  return find_invalid(text) == std::string_view::npos;
}

/// Number of bytes (0 to 3) at the end of `text` that are the valid beginning of a sequence whose rest is still to
/// come.
[[nodiscard]] constexpr std::size_t incomplete_tail(std::string_view text) noexcept {
  const std::size_t farthest = text.size() < 3 ? text.size() : 3;
  for (std::size_t back = 1; back <= farthest; ++back) {
    const std::size_t at = text.size() - back;
    if ((static_cast<std::uint8_t>(text[at]) & 0xC0U) == 0x80U) continue;
    const auto step = decode(text, at);
    return step.kind == sequence_kind::incomplete && step.length == back ? back : 0;
  }
  return 0;
}

/// Whether `text` does not end inside a sequence that more bytes could complete.
[[nodiscard]] constexpr bool is_complete(std::string_view text) noexcept { return incomplete_tail(text) == 0; }

/// Where the sequence, valid or not, begins that ends at byte `end` of `text` (`0 < end <= text.size()`, the end of
/// one).
[[nodiscard]] constexpr std::size_t last_begin(std::string_view text, std::size_t end) noexcept {
  for (std::size_t length = 1; length <= 4 && length <= end; ++length) {
    const std::size_t at = end - length;
    if ((static_cast<std::uint8_t>(text[at]) & 0xC0U) == 0x80U) continue;
    return decode(text.substr(0, end), at).length == length ? at : end - 1;
  }
  return end - 1;
}

/// Whether a sequence, valid or not, begins at byte `at` of `text` that more bytes could not change.
[[nodiscard]] constexpr bool is_complete_at(std::string_view text, std::size_t at) noexcept {
  return at < text.size() && decode(text, at).kind != sequence_kind::incomplete;
}

/// Number of sequences (code points, and invalid runs counted as one each) in `text`.
[[nodiscard]] constexpr std::size_t length(std::string_view text) noexcept {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += decode(text, at).length) ++count;
  return count;
}

/// `text` with every invalid or incomplete run replaced by U+FFFD.
[[nodiscard]] inline std::string replace_invalid(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](const code_point_step& step, std::string_view bytes) {
    out += step.kind == sequence_kind::valid ? bytes : replacement_character;
  });
  return out;
}

}  // namespace runnel::unicode
