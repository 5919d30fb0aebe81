// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <runnel/unicode/letter_case.hpp>
#include <runnel/unicode/utf8.hpp>

namespace unicode = runnel::unicode;
using unicode::letter_case;

TEST_CASE("case of letters") {
  CHECK(unicode::case_of(U'a') == letter_case::lower);
  CHECK(unicode::case_of(U'Z') == letter_case::upper);
  CHECK(unicode::case_of(U'\u00DF') == letter_case::lower);
  CHECK(unicode::case_of(U'\u1E9E') == letter_case::upper);
  CHECK(unicode::case_of(U'\u01C5') == letter_case::upper);  // title case
  CHECK(unicode::case_of(U'\u0416') == letter_case::upper);
  CHECK(unicode::case_of(U'\U00010428') == letter_case::lower);
  for (const char32_t c : {U'1', U'@', U'[', U'`', U'{', U'\u4E2D', U'\u02B0', U'\u0301', U'\u00AA', U'\u2160',
                           char32_t{0x10FFFF}, char32_t{0x110000}}) {
    CHECK(unicode::case_of(c) == letter_case::none);
  }
  static_assert(unicode::case_of(U'\u00E9') == letter_case::lower);
}

TEST_CASE("characters of words") {
  for (const char32_t c :
       {U'a', U'Z', U'_', U'7', U'\u0663', U'\u2160', U'\u0301', U'\u4E2D', U'\u200D', U'\u203F', U'\u24B6'}) {
    CHECK(unicode::is_word_character(c));
  }
  for (const char32_t c : {U' ', U'-', U'\'', U'.', U'\u00BD', U'\u00B2', U'\u2460', U'\u3000', U'\u20AC',
                           U'\U0001F600', char32_t{0xFFFD}, char32_t{0x110000}}) {
    CHECK_FALSE(unicode::is_word_character(c));
  }
}

TEST_CASE("where the last sequence of a text begins") {
  CHECK(unicode::last_begin("a", 1) == 0);
  CHECK(unicode::last_begin("a\u00E9", 3) == 1);
  CHECK(unicode::last_begin("\U0001F600", 4) == 0);
  CHECK(unicode::last_begin("\u00E9z", 2) == 0);
  CHECK(unicode::last_begin("\xED\x95\x98\x80", 4) == 3);  // a stray byte after a character
  CHECK(unicode::last_begin("\xE1\x85\xA1\x8C\x86", 5) == 4);
  CHECK(unicode::last_begin("x\x80\x80\x80\x80", 5) == 4);
  CHECK(unicode::last_begin("x\xE1\x85", 3) == 1);  // one run that is none
  CHECK(unicode::is_complete_at("a", 0));
  CHECK_FALSE(unicode::is_complete_at("a", 1));
  CHECK_FALSE(unicode::is_complete_at("a\xE1\x85", 1));
  CHECK(unicode::is_complete_at("a\xE1x", 1));
}
