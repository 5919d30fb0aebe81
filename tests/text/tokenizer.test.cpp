// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/unicode/normalization.hpp>

#include "support.hpp"

namespace text = runnel::text;
using runnel_test::failure;
using runnel_test::holds;
using ids = std::vector<std::int32_t>;

namespace {

text::encode_options parsing() {
  text::encode_options options;
  options.parse_special = true;
  return options;
}

std::string construction_problem(text::tokenizer_data data) {
  return failure<runnel::format_error>([&] { const text::tokenizer made(std::move(data)); });
}

}  // namespace

TEST_CASE("ids equal Hugging Face's on the corpus, special tokens as text and parsed") {
  const auto& corpus = runnel_test::corpus();
  REQUIRE(corpus.size() >= 2000);
  for (const std::string name : runnel_test::vocabulary_names) {
    CAPTURE(name);
    const auto vocabulary = runnel_test::golden_tokenizer(name);
    const auto plain = runnel_test::golden_lines(name + ".plain.ids");
    REQUIRE(plain.size() == corpus.size());
    for (std::size_t i = 0; i < corpus.size(); ++i) {
      const bool same = vocabulary.encode(corpus[i]) == runnel_test::decode_ids(plain[i]);
      CHECK_MESSAGE(same, "line ", i, ": ", corpus[i]);
    }
    std::vector<std::string> expected = plain;
    for (const auto& line : runnel_test::golden_lines(name + ".parsed.ids")) {
      const auto space = line.find(' ');
      expected[static_cast<std::size_t>(std::stoi(line.substr(0, space)))] = line.substr(space + 1);
    }
    for (std::size_t i = 0; i < corpus.size(); ++i) {
      const bool same = vocabulary.encode(corpus[i], parsing()) == runnel_test::decode_ids(expected[i]);
      CHECK_MESSAGE(same, "parsed line ", i, ": ", corpus[i]);
    }
  }
}

TEST_CASE("any bytes come back") {
  std::mt19937 random(2);
  for (const std::string name : runnel_test::vocabulary_names) {
    const auto vocabulary = runnel_test::golden_tokenizer(name);
    CHECK(vocabulary.missing_bytes().empty());
    for (int round = 0; round < 2000; ++round) {
      const auto bytes = runnel_test::random_bytes(random, random() % 60);
      const auto expected = vocabulary.normalizes_nfc() ? runnel::unicode::nfc(bytes) : bytes;
      REQUIRE(vocabulary.decode(vocabulary.encode(bytes)) == expected);
    }
    for (const auto& line : runnel_test::corpus()) {
      const auto form = vocabulary.normalizes_nfc() ? runnel::unicode::nfc(line) : line;
      REQUIRE(vocabulary.decode(vocabulary.encode(form)) == form);
    }
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    CHECK(vocabulary.decode(vocabulary.encode(all)) == all);
  }
}

TEST_CASE("text never becomes a control token unless asked") {
  std::mt19937 random(4);
  for (const std::string name : runnel_test::vocabulary_names) {
    const auto vocabulary = runnel_test::golden_tokenizer(name);
    std::vector<std::string> parts{" ", "\n", "a", "<", "|", ">"};
    for (std::int32_t id = 0; id < vocabulary.vocabulary_size(); ++id) {
      if (vocabulary.is_special(id)) parts.push_back(vocabulary.token(id));
    }
    REQUIRE(parts.size() > 8);
    for (int round = 0; round < 500; ++round) {
      std::string whole;
      for (int i = 0; i < 6; ++i) whole += parts[random() % parts.size()];
      for (const auto id : vocabulary.encode(whole)) REQUIRE_FALSE(vocabulary.is_special(id));
    }
  }
}

TEST_CASE("long texts without a break") {
  const auto vocabulary = runnel_test::golden_tokenizer("llama3");
  std::mt19937 random(9);
  std::string letters;
  for (int i = 0; i < 200000; ++i) letters += static_cast<char>('a' + random() % 26);
  for (const std::string& whole : {letters, std::string(200000, 'a'), std::string(200000, ' '),
                                   std::string(200000, '!'), std::string(200000, '<'), std::string(200000, '\n')}) {
    CHECK(vocabulary.decode(vocabulary.encode(whole)) == whole);
    CHECK(vocabulary.decode(vocabulary.encode(whole, parsing())) == whole);
  }
}

TEST_CASE("added tokens: longest first, and what they let through") {
  auto data = runnel_test::byte_vocabulary();
  const auto start = runnel_test::add_token(data, "<s>");
  const auto longer = runnel_test::add_token(data, "<s>>");
  const auto think = runnel_test::add_token(data, "<think>", text::token_type::user_defined);
  const auto mask = runnel_test::add_token(data, "<mask>");
  data.added_rules.push_back({mask, true, true, false});
  const text::tokenizer vocabulary(std::move(data));
  CHECK(vocabulary.encode("<s>a", parsing()) == ids{start, 'a'});
  CHECK(vocabulary.encode("<s>>>", parsing()) == ids{longer, '>'});
  CHECK(vocabulary.encode("<<s>", parsing()) == ids{'<', start});
  CHECK(vocabulary.encode("<s", parsing()) == ids{'<', 's'});
  CHECK(vocabulary.encode("<s>") == ids{'<', 's', '>'});
  CHECK(vocabulary.encode("a<think>b") == ids{'a', think, 'b'});
  CHECK(vocabulary.encode("a \u00A0\n<mask> \t<mask>\u3000b ", parsing()) == ids{'a', mask, mask, 'b', ' '});
  CHECK(vocabulary.encode("<mask>", parsing()) == ids{mask});
  text::encode_options nothing;
  nothing.parse_user_defined = false;
  CHECK(vocabulary.encode("<think>", nothing) == ids{'<', 't', 'h', 'i', 'n', 'k', '>'});
  CHECK(vocabulary.decode(ids{start, 'a', think}) == "<s>a<think>");
  CHECK(vocabulary.decode(ids{start, 'a', think}, true) == "a<think>");
}

TEST_CASE("parts of a text differ in parsing only: merges cross the cuts") {
  auto data = runnel_test::byte_vocabulary({":\n", "ab"});
  const auto start = runnel_test::add_token(data, "<s>");
  data.bos = start;
  data.pre_tokenizer = text::pre_tokenizer_kind::llama3;
  const text::tokenizer vocabulary(std::move(data));
  const std::array parts{text::text_part{"<s>a", true, true}, text::text_part{"b<s>:", false, false},
                         text::text_part{"\n<s>", true, true}};
  CHECK(vocabulary.encode_parts(parts) == ids{start, 257, '<', 's', '>', 256, start});
  const std::array colon{text::text_part{"x:", false, false}, text::text_part{"\n", true, true}};
  text::encode_options with_bos;
  with_bos.add_bos = true;
  CHECK(vocabulary.encode_parts(colon, with_bos) == ids{start, 'x', 256});
  CHECK(vocabulary.encode_parts({}).empty());
}

TEST_CASE("a piece that is a token ignores merges where the vocabulary says so, but never becomes markup") {
  auto data = runnel_test::byte_vocabulary();
  const auto word = runnel_test::add_token(data, "hello", text::token_type::normal);
  runnel_test::add_token(data, "secret");
  CHECK(text::tokenizer(data).encode("hello").size() == 5);
  data.ignore_merges = true;
  const text::tokenizer vocabulary(std::move(data));
  CHECK(vocabulary.encode("hello") == ids{word});
  CHECK(vocabulary.encode("secret").size() == 6);
}

TEST_CASE("merges never make markup") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  data.types[256] = text::token_type::control;
  const text::tokenizer vocabulary(std::move(data));
  CHECK(vocabulary.encode("ab") == ids{'a', 'b'});
  CHECK(vocabulary.encode("ab", parsing()) == ids{256});
}

TEST_CASE("bytes that the vocabulary lacks") {
  auto data = runnel_test::byte_vocabulary({"ac"});
  data.tokens['b'] = "";
  const text::tokenizer dropping(data);
  CHECK(dropping.missing_bytes() == "b");
  CHECK(dropping.encode("abc") == ids{256});  // as if it had not been there
  text::encode_options strict;
  strict.missing = text::missing_byte_policy::refuse;
  CHECK(dropping.encode("ac", strict) == ids{256});
  const auto problem = failure<runnel::config_error>([&] { static_cast<void>(dropping.encode("abc", strict)); });
  CHECK(holds(problem, "byte 98"));
  data.missing_byte = 'x';
  CHECK(text::tokenizer(data).encode("abbc") == ids{'a', 'x', 'x', 'c'});
  data.fuse_missing = true;
  CHECK(text::tokenizer(data).encode("abbc") == ids{'a', 'x', 'c'});
}

TEST_CASE("what a vocabulary says about itself") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  const auto bos = runnel_test::add_token(data, "<bos>");
  const auto eos = runnel_test::add_token(data, "<eos>");
  const auto byte = runnel_test::add_token(data, "<0x0a>", text::token_type::byte);
  const auto foreign = runnel_test::add_token(data, "\u4E2D", text::token_type::normal);
  const auto hole = runnel_test::add_token(data, "", text::token_type::normal);
  data.bos = bos;
  data.eos_ids = {eos, bos, eos};
  data.add_bos = true;
  data.chat_template = "template";
  data.source_name = "some file";
  text::tokenizer vocabulary(std::move(data));
  CHECK(vocabulary.vocabulary_size() == 262);
  CHECK(vocabulary.piece(256) == "ab");
  CHECK(vocabulary.piece(byte) == "\n");
  CHECK(vocabulary.piece(foreign) == "\u4E2D");
  CHECK(vocabulary.piece(hole) == "");
  CHECK(vocabulary.type(hole) == text::token_type::unused);
  CHECK(vocabulary.find("<eos>") == eos);
  CHECK_FALSE(vocabulary.find("").has_value());
  CHECK_FALSE(vocabulary.find("nothing").has_value());
  CHECK(vocabulary.bos() == bos);
  CHECK_FALSE(vocabulary.padding().has_value());
  CHECK(std::vector<std::int32_t>(vocabulary.eos_ids().begin(), vocabulary.eos_ids().end()) == ids{bos, eos});
  CHECK(vocabulary.is_eos(eos));
  CHECK_FALSE(vocabulary.is_eos('a'));
  CHECK(vocabulary.adds_bos());
  CHECK(vocabulary.encode("a") == ids{'a'});
  text::encode_options options;
  options.add_bos = true;
  CHECK(vocabulary.encode("", options) == ids{bos});
  CHECK(vocabulary.chat_template() == "template");
  CHECK_THROWS_AS(static_cast<void>(vocabulary.piece(262)), runnel::config_error);
  CHECK_THROWS_AS(static_cast<void>(vocabulary.type(-1)), runnel::config_error);
  CHECK_THROWS_AS(static_cast<void>(vocabulary.decode(ids{1, 262})), runnel::config_error);
  const text::tokenizer moved(std::move(vocabulary));
  CHECK(moved.find("<eos>") == eos);
  CHECK(moved.encode("xab") == ids{'x', 256});
  const text::tokenizer without(runnel_test::byte_vocabulary());
  CHECK_THROWS_AS(static_cast<void>(without.encode("a", options)), runnel::config_error);
}

TEST_CASE("malformed vocabularies are refused with file, thing and number") {
  using change = std::function<void(text::tokenizer_data&)>;
  const std::vector<std::pair<change, std::string>> cases{
      {[](auto& d) { d.tokens.clear(); }, "the vocabulary is empty"},
      {[](auto& d) { d.types.pop_back(); }, "256 token types for 257 tokens"},
      {[](auto& d) { d.types[7] = static_cast<text::token_type>(9); }, "token 7 has type 9, expected 1 to 6"},
      {[](auto& d) { d.types[7] = static_cast<text::token_type>(0); }, "token 7 has type 0"},
      {[](auto& d) { d.bos = 257; }, "bos id 257 is outside the vocabulary of 257"},
      {[](auto& d) { d.unknown = -1; }, "unknown id -1"},
      {[](auto& d) { d.padding = 1 << 30; }, "padding id 1073741824"},
      {[](auto& d) { d.missing_byte = 257; }, "missing byte id 257"},
      {[](auto& d) {
         d.eos_ids = {1, 300};
       },
       "eos id 300"},
      {[](auto& d) {
         d.added_rules.push_back({300, false, false, false});
       },
       "added token id 300"},
      {[](auto& d) { d.add_bos = true; }, "no bos id is given"},
      {[](auto& d) { d.tokens[66] = "A"; }, "tokens 65 and 66 are both \"A\""},
      {[](auto& d) { d.merges.emplace_back("a", "zz"); }, "merge 1 (\"a\" and \"zz\") needs the token \"zz\""},
      {[](auto& d) { d.merges.emplace_back("zz", "a"); }, "needs the token \"zz\""},
      {[](auto& d) { d.merges.emplace_back("a", "c"); }, "needs the token \"ac\""},
      {[](auto& d) { d.merges.emplace_back("", ""); }, "merge 1 (\"\" and \"\")"},
      {[](auto& d) { d.merges.clear(), d.tokens = {"\u4E2D"}, d.types.clear(); }, "expected a byte-level vocabulary"},
  };
  for (const auto& [spoil, expected] : cases) {
    auto data = runnel_test::byte_vocabulary({"ab"});
    data.source_name = "model.gguf";
    spoil(data);
    const auto problem = construction_problem(std::move(data));
    CHECK_MESSAGE(holds(problem, "model.gguf: "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
  }
}

TEST_CASE("merges beyond the vocabulary's own and repeated ones are harmless") {
  auto data = runnel_test::byte_vocabulary({"ab", "abc"});
  for (int i = 0; i < 1000; ++i) data.merges.push_back(data.merges[static_cast<std::size_t>(i % 2)]);
  CHECK(text::tokenizer(std::move(data)).encode("abcab") == ids{257, 256});
}

TEST_CASE("one tokenizer, several threads") {
  const auto vocabulary = runnel_test::golden_tokenizer("qwen2");
  const auto& corpus = runnel_test::corpus();
  std::vector<ids> expected;
  for (std::size_t i = 0; i < 300; ++i) expected.push_back(vocabulary.encode(corpus[i]));
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (std::size_t i = 0; i < 300; ++i) wrong += vocabulary.encode(corpus[i]) == expected[i] ? 0 : 1;
      });
    }
  }
  CHECK(wrong == 0);
}
