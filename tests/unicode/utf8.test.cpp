// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <string_view>

#include <runnel/unicode/utf8.hpp>

namespace unicode = runnel::unicode;
using unicode::sequence_kind;

TEST_CASE("every code point goes there and back") {
  int wrong = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const auto bytes = unicode::encode(c);
    const auto step = unicode::decode(bytes, 0);
    bool right = step.kind == sequence_kind::valid && step.code_point == c && step.length == bytes.size();
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto part = std::string_view(bytes).substr(0, cut);
      const auto begun = unicode::decode(part, 0);
      right = right && begun.kind == sequence_kind::incomplete && begun.length == cut;
      right = right && unicode::incomplete_tail(part) == cut;
    }
    right = right && unicode::incomplete_tail(bytes) == 0;
    if (!right && ++wrong < 10) FAIL_CHECK("code point ", static_cast<unsigned>(c));
  }
  CHECK(wrong == 0);
}

TEST_CASE("surrogates and values beyond Unicode are never written") {
  CHECK(unicode::encode(0xD800) == unicode::replacement_character);
  CHECK(unicode::encode(0xDFFF) == unicode::replacement_character);
  CHECK(unicode::encode(0x110000) == unicode::replacement_character);
}

TEST_CASE("invalid bytes are reported in maximal subparts") {
  // Table 3-8 of the Unicode standard: which runs become one replacement character each.
  CHECK(unicode::replace_invalid("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64") ==
        "a\uFFFD\uFFFD\uFFFD"
        "b\uFFFD"
        "c\uFFFD\uFFFD"
        "d");
  CHECK(unicode::length("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == 9);  // overlong: every byte on its own
  CHECK(unicode::length("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == 9);  // surrogates
  CHECK(unicode::length("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == 9);  // too large, stray
  CHECK(unicode::length("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == 5);  // truncated
  CHECK(unicode::find_invalid("ab\xC3\xA9") == std::string_view::npos);
  CHECK(unicode::find_invalid("ab\xC3") == 2);
  CHECK(unicode::is_valid(""));
  CHECK_FALSE(unicode::is_valid("\xFE"));
}

TEST_CASE("an incomplete tail is only what more bytes could complete") {
  CHECK(unicode::incomplete_tail("") == 0);
  CHECK(unicode::incomplete_tail("abc") == 0);
  CHECK(unicode::incomplete_tail("a\xE2\x82") == 2);
  CHECK(unicode::incomplete_tail("a\xF0\x9F\x98") == 3);
  CHECK(unicode::incomplete_tail("\x80\x80\x80") == 0);
  CHECK(unicode::incomplete_tail("\xE0\x80") == 0);  // overlong already
  CHECK(unicode::incomplete_tail("\xED\xA0") == 0);  // a surrogate already
  CHECK(unicode::incomplete_tail("\xF5") == 0);
  CHECK(unicode::incomplete_tail("\xC3\xA9\x80") == 0);
  CHECK(unicode::is_complete("\xC3\xA9"));
  CHECK_FALSE(unicode::is_complete("\xC3"));
}

TEST_CASE("no byte is lost in any bytes, and cutting at an incomplete tail changes nothing") {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (auto left = random() % 12; left > 0; --left) {
      constexpr std::string_view likely = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xA0\xF4\x8F\xBF\xE0\xC0";
      text += random() % 4 == 0 ? static_cast<char>(random()) : likely[random() % likely.size()];
    }
    std::string seen;
    bool all_valid = true;
    unicode::for_each_code_point(text, [&](const unicode::code_point_step& step, std::string_view bytes) {
      seen += bytes;
      all_valid = all_valid && step.kind == sequence_kind::valid;
      bool right = bytes.size() == step.length;
      if (step.kind == sequence_kind::valid) right = right && unicode::encode(step.code_point) == bytes;
      if (step.kind == sequence_kind::incomplete) right = right && seen.size() == text.size();
      if (!right) FAIL("bytes ", text);
    });
    REQUIRE(seen == text);
    REQUIRE(all_valid == unicode::is_valid(text));
    REQUIRE(unicode::is_valid(unicode::replace_invalid(text)));
    const auto tail = unicode::incomplete_tail(text);
    const auto head = std::string_view(text).substr(0, text.size() - tail);
    const std::string end = tail == 0 ? "" : std::string(unicode::replacement_character);
    REQUIRE(unicode::replace_invalid(head) + end == unicode::replace_invalid(text));
  }
}
