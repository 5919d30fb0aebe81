// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/unicode/utf8.hpp>

#include "support.hpp"

namespace text = runnel::text;
namespace unicode = runnel::unicode;

TEST_CASE("a character appears with its last byte") {
  const text::tokenizer vocabulary(runnel_test::byte_vocabulary());
  text::incremental_detokenizer out(vocabulary);
  CHECK(out.push(0xE2) == "");
  CHECK(out.held() == 1);
  CHECK(out.push(0x82) == "");
  CHECK(out.held() == 2);
  CHECK(out.push(0xAC) == "\u20AC");
  CHECK(out.held() == 0);
  CHECK(out.push('a') == "a");
  CHECK(out.push(0xF0) == "");
  CHECK(out.push(0x9F) == "");
  CHECK(out.push('b') ==
        "\uFFFD"
        "b");  // the beginning can no longer be completed
  CHECK(out.push(0x80) == "\uFFFD");
  CHECK(out.push(0xF0) == "");
  CHECK(out.push(0x9F) == "");
  CHECK(out.push(0x98) == "");
  auto copy = out;
  CHECK(out.finish() == "\uFFFD");
  CHECK(out.finish() == "");
  CHECK(out.push('c') == "c");
  CHECK(copy.push(0x80) == "\U0001F600");
  CHECK(copy.finish() == "");
}

TEST_CASE("all that comes out is the decoded text with invalid bytes replaced, and always valid") {
  auto data = runnel_test::byte_vocabulary({"\xE2\x82", "\x82\xAC", "ab", "\xAC\xE2", "\xF0\x9F", "\x98\x80"});
  const auto end = runnel_test::add_token(data, "<end>");
  const text::tokenizer vocabulary(std::move(data));
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    const bool skip = random() % 2 == 0;
    text::incremental_detokenizer out(vocabulary, skip);
    std::vector<std::int32_t> ids;
    std::string together;
    bool valid = true;
    for (auto left = random() % 30; left > 0; --left) {
      const auto draw = random();
      constexpr std::int32_t likely[] = {0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0xED, 0xA0, 256, 257, 259, 260, 261};
      const auto id = draw % 3 != 0 ? likely[(draw >> 8U) % 14] : static_cast<std::int32_t>((draw >> 8U) % 263);
      ids.push_back(id);
      const auto shown = out.push(id);
      valid = valid && unicode::is_valid(shown) && out.held() <= 3;
      together += shown;
    }
    together += out.finish();
    REQUIRE(valid);
    REQUIRE(together == unicode::replace_invalid(vocabulary.decode(ids, skip)));
  }
  text::incremental_detokenizer shown(vocabulary);
  text::incremental_detokenizer hidden(vocabulary, true);
  CHECK(shown.push(end) == "<end>");
  CHECK(hidden.push(end) == "");
}

TEST_CASE("another implementation decodes alike") {
  const auto vocabulary = runnel_test::golden_tokenizer("qwen2");
  int replaced = 0;
  for (const auto& line : runnel_test::golden_lines("detokenized.jsonl")) {
    const auto pair = nlohmann::json::parse(line);
    const auto expected = pair[1].get<std::string>();
    text::incremental_detokenizer out(vocabulary);
    std::string together;
    for (const auto& id : pair[0]) together += out.push(id.get<std::int32_t>());
    together += out.finish();
    CHECK(together == expected);
    replaced += expected.find("\uFFFD") != std::string::npos ? 1 : 0;
  }
  CHECK(replaced > 100);
}

TEST_CASE("wrong use") {
  text::incremental_detokenizer nothing;
  CHECK_THROWS_AS(static_cast<void>(nothing.push(0)), runnel::config_error);
  CHECK(nothing.finish() == "");
  const text::tokenizer vocabulary(runnel_test::byte_vocabulary());
  text::incremental_detokenizer out(vocabulary);
  CHECK(out.push(0xC3) == "");
  CHECK_THROWS_AS(static_cast<void>(out.push(256)), runnel::config_error);
  CHECK_THROWS_AS(static_cast<void>(out.push(-1)), runnel::config_error);
  CHECK(out.push(0xA9) == "\u00E9");  // the refused ids left no trace
}
