// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <set>
#include <string>

#include <runnel/text/byte_alphabet.hpp>

namespace text = runnel::text;

TEST_CASE("every byte has a visible character of its own") {
  std::set<std::string> seen;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(byte));
    const auto letter = text::to_byte_alphabet(one);
    CHECK(seen.insert(letter).second);
    CHECK(text::from_byte_alphabet(letter) == one);
  }
  CHECK(text::to_byte_alphabet(" a\n\xC3\xA9") == "\u0120a\u010A\u00C3\u00A9");
  CHECK(text::to_byte_alphabet(std::string(1, '\0')) == "\u0100");
  CHECK(text::to_byte_alphabet("\x7F\xAD") == "\u0121\u0143");
}

TEST_CASE("text outside the alphabet means nothing in it") {
  CHECK_FALSE(text::from_byte_alphabet(" ").has_value());
  CHECK_FALSE(text::from_byte_alphabet("a\u0144").has_value());
  CHECK_FALSE(text::from_byte_alphabet("\u4E2D").has_value());
  CHECK_FALSE(text::from_byte_alphabet("\xFF").has_value());
  CHECK(text::from_byte_alphabet("") == "");
}
