// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/word_splitter.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

#include "support.hpp"

namespace text = runnel::text;
namespace unicode = runnel::unicode;
using units = std::vector<std::string>;

namespace {

units split(text::word_splitter& splitter, std::string_view whole) {
  auto out = splitter.push(whole);
  for (auto& unit : splitter.finish()) out.push_back(std::move(unit));
  return out;
}

/// White space at the ends dropped, every other run of it one space.
std::string normalized(std::string_view whole) {
  std::string out;
  bool space = false;
  unicode::for_each_code_point(whole, [&](const unicode::code_point_step& step, std::string_view bytes) {
    if (step.kind == unicode::sequence_kind::valid && unicode::is_whitespace(step.code_point)) {
      space = !out.empty();
      return;
    }
    if (space) out += ' ';
    space = false;
    out += bytes;
  });
  return out;
}

}  // namespace

TEST_CASE("words") {
  text::word_splitter words;
  CHECK(words.push("  Hello, wor") == units{"Hello,"});
  CHECK(words.push("ld").empty());
  CHECK(words.push("\n\n") == units{"world"});
  CHECK(words.push(" \t ").empty());
  CHECK(words.push("last") == units{});
  CHECK(words.finish() == units{"last"});
  CHECK(words.finish().empty());
  CHECK(split(words, "again\u00A0and\u3000again ") == units{"again", "and", "again"});
  CHECK(split(words, "") == units{});
  CHECK(split(words, " \r\n ") == units{});
  CHECK(words.separator() == " ");
}

TEST_CASE("a character cut by chunks is not white space and not lost") {
  text::word_splitter words;
  CHECK(words.push("a\xE3\x80").empty());
  CHECK(words.push("\x80"
                   "b") == units{"a"});  // U+3000
  CHECK(words.push("\xC2") == units{});
  CHECK(words.push("x ") == units{"b\xC2x"});  // what was never completed stays as it is
  CHECK(words.push("\xF0\x9F").empty());
  CHECK(words.finish() == units{"\xF0\x9F"});
}

TEST_CASE("characters") {
  text::word_splitter characters(text::text_unit::character);
  CHECK(characters.push("ab") == units{"a"});
  CHECK(characters.push("  c") == units{"b"});
  CHECK(characters.finish() == units{" c"});
  CHECK(split(characters, " \u6211\u6628 \u5929 ") == units{"\u6211", "\u6628", " \u5929"});
  CHECK(split(characters, "e\u0301x\u0323\u0302") == units{"e\u0301", "x\u0323\u0302"});
  const std::string family = "\U0001F469\u200D\U0001F469\u200D\U0001F467";
  const std::string thumb = "\U0001F44D\U0001F3FD";
  const std::string flags = "\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7";
  CHECK(split(characters, family + thumb + "!") == units{family, thumb, "!"});
  CHECK(split(characters, flags + "a") == units{flags.substr(0, 8), flags.substr(8), "a"});
  CHECK(split(characters, "\u2764\uFE0F\u2764") == units{"\u2764\uFE0F", "\u2764"});
  CHECK(split(characters, "\u0301a") == units{"\u0301", "a"});
  CHECK(characters.separator() == "");
}

TEST_CASE("tokens") {
  const text::tokenizer vocabulary(runnel_test::byte_vocabulary({" a", "bc"}));
  text::word_splitter tokens(text::text_unit::token, &vocabulary);
  CHECK(tokens.push("abc  abc").size() == 2);
  CHECK(tokens.finish() == units{" a", "bc"});
  CHECK_THROWS_AS(text::word_splitter{text::text_unit::token}, runnel::config_error);
  auto data = runnel_test::byte_vocabulary();
  data.tokens['b'] = "";
  const text::tokenizer lacking(std::move(data));
  text::word_splitter whole(text::text_unit::token, &lacking);
  CHECK(split(whole, "ac abc") == units{"a", "c", " abc"});  // better one unit too large than a byte lost
}

TEST_CASE("units joined are the text, and chunks make no difference") {
  const auto vocabulary = runnel_test::golden_tokenizer("qwen2");
  std::mt19937 random(6);
  for (int round = 0; round < 3000; ++round) {
    const auto whole = round % 2 == 0 ? runnel_test::random_bytes(random, random() % 50)
                                      : runnel_test::corpus()[random() % runnel_test::corpus().size()];
    for (const auto unit : {text::text_unit::word, text::text_unit::character, text::text_unit::token}) {
      text::word_splitter at_once(unit, &vocabulary);
      const auto expected = split(at_once, whole);
      std::string joined;
      bool empty = false;
      for (const auto& one : expected) {
        joined += (joined.empty() ? "" : std::string(at_once.separator())) + one;
        empty = empty || one.empty();
      }
      REQUIRE_FALSE(empty);
      REQUIRE(joined == normalized(whole));
      text::word_splitter chunked(unit, &vocabulary);
      units found;
      for (std::size_t at = 0; at < whole.size();) {
        const std::size_t size = 1 + random() % 4;
        for (auto& one : chunked.push(std::string_view(whole).substr(at, size))) found.push_back(std::move(one));
        at += size;
      }
      for (auto& one : chunked.finish()) found.push_back(std::move(one));
      REQUIRE(found == expected);
    }
  }
}

TEST_CASE("names of units") {
  CHECK(text::find_text_unit("word") == text::text_unit::word);
  CHECK(text::find_text_unit("char") == text::text_unit::character);
  CHECK(text::find_text_unit("token") == text::text_unit::token);
  CHECK_THROWS_AS(static_cast<void>(text::find_text_unit("line")), runnel::config_error);
}
