// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

namespace detail {

/// Bytes that stand for themselves in the alphabet: the printable ones of Latin-1.
[[nodiscard]] constexpr bool is_printable_byte(std::size_t byte) noexcept {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

[[nodiscard]] consteval std::array<char32_t, 256> make_byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 256;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    alphabet[byte] = is_printable_byte(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return alphabet;
}

inline constexpr auto byte_alphabet = make_byte_alphabet();

[[nodiscard]] consteval std::array<std::int16_t, 324> invert_byte_alphabet() {
  std::array<std::int16_t, 324> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) bytes[byte_alphabet[byte]] = static_cast<std::int16_t>(byte);
  return bytes;
}

inline constexpr auto alphabet_bytes = invert_byte_alphabet();

}  // namespace detail

/// Bytes written in GPT-2's alphabet, in which every byte is one visible character (a space is U+0120): the form in
/// which vocabularies of byte-level tokenizers are stored.
[[nodiscard]] inline std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char byte : bytes) unicode::append(out, detail::byte_alphabet[static_cast<std::uint8_t>(byte)]);
  return out;
}

/// Appends the bytes that `text` means in GPT-2's alphabet; or nothing, and returns false, where one of its characters
/// is not in it.
inline bool append_from_byte_alphabet(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  for (std::size_t at = 0; at < text.size();) {
    const auto step = unicode::decode(text, at);
    const bool known = step.kind == unicode::sequence_kind::valid && step.code_point < detail::alphabet_bytes.size() &&
                       detail::alphabet_bytes[step.code_point] >= 0;
    if (!known) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(static_cast<std::uint8_t>(detail::alphabet_bytes[step.code_point])));
    at += step.length;
  }
  return true;
}

/// The bytes that `text` means in GPT-2's alphabet, or nothing where one of its characters is not in it.
[[nodiscard]] inline std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string out;
  if (!append_from_byte_alphabet(out, text)) return {};
  return out;
}

}  // namespace runnel::text
