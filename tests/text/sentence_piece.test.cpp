// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/unicode/utf8.hpp>

#include "support.hpp"

namespace text = runnel::text;
namespace io = runnel::io;
using nlohmann::json;
using runnel_test::failure;
using runnel_test::holds;
using ids = std::vector<std::int32_t>;

namespace {

text::encode_options parsing() {
  text::encode_options options;
  options.parse_special = true;
  return options;
}

text::tokenizer from_json(const std::string& name) {
  return text::tokenizer(text::read_tokenizer_json(runnel_test::text_golden(name) / "tokenizer.json"));
}

text::tokenizer from_model(const std::string& name) {
  return text::tokenizer(text::read_tokenizer_model(runnel_test::text_golden(name) / "tokenizer.model"));
}

/// llama2's tokenizer.json with Metaspace in place of its normaliser.
text::tokenizer with_metaspace(const std::string& scheme, bool split) {
  auto root = json::parse(runnel_test::content(runnel_test::text_golden("llama2") / "tokenizer.json"));
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", split}};
  return text::tokenizer(text::parse_tokenizer_json(root.dump(), "metaspace"));
}

/// What llama.cpp's converter writes: scores of user-defined tokens lowered, their spaces plain.
text::tokenizer from_gguf(const std::string& name, bool adds_prefix) {
  const auto data = text::read_tokenizer_model(runnel_test::text_golden(name) / "tokenizer.model");
  io::gguf_writer out;
  out.set("general.architecture", "llama");
  out.set("tokenizer.ggml.model", "llama");
  out.set("tokenizer.ggml.pre", "default");
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const bool user_defined = data.types[id] == text::token_type::user_defined;
    std::string token = data.tokens[id];
    if (user_defined) {
      std::string plain;
      text::detail::append_with_spaces(plain, token);
      token = plain;
    }
    tokens.push_back(token);
    scores.push_back(user_defined ? -1000.0F : data.scores[id]);
    types.push_back(static_cast<std::int32_t>(data.types[id]));
  }
  out.set("tokenizer.ggml.tokens", tokens);
  out.set("tokenizer.ggml.scores", scores);
  out.set("tokenizer.ggml.token_type", types);
  out.set("tokenizer.ggml.unknown_token_id", std::uint32_t{0});
  out.set("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  out.set("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  if (!adds_prefix) out.set("tokenizer.ggml.add_space_prefix", false);
  const runnel_test::scratch_folder folder;
  out.write(folder / "model.gguf");
  return text::tokenizer(text::read_tokenizer_gguf(io::gguf_file(folder / "model.gguf")));
}

std::vector<std::string> third_lines() {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < runnel_test::corpus().size(); i += 3) lines.push_back(runnel_test::corpus()[i]);
  return lines;
}

void check_corpus(const text::tokenizer& vocabulary, const std::string& name) {
  CAPTURE(name);
  const auto lines = third_lines();
  const auto plain = runnel_test::golden_lines(name + ".plain.ids");
  REQUIRE(plain.size() == lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CHECK_MESSAGE(vocabulary.encode(lines[i]) == runnel_test::decode_ids(plain[i]), "line ", i, ": ", lines[i]);
  }
  auto expected = plain;
  for (const auto& line : runnel_test::golden_lines(name + ".parsed.ids")) {
    const auto space = line.find(' ');
    expected[static_cast<std::size_t>(std::stoi(line.substr(0, space)))] = line.substr(space + 1);
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool same = vocabulary.encode(lines[i], parsing()) == runnel_test::decode_ids(expected[i]);
    CHECK_MESSAGE(same, "parsed line ", i, ": ", lines[i]);
  }
}

}  // namespace

TEST_CASE("ids equal Hugging Face's: from tokenizer.json and from tokenizer.model") {
  check_corpus(from_json("llama2"), "llama2");
  check_corpus(from_model("llama2"), "llama2");
  check_corpus(from_json("gemma"), "gemma");
  check_corpus(from_model("gemma"), "gemma");
  check_corpus(with_metaspace("first", false), "mistral");
  check_corpus(with_metaspace("always", true), "metaspace");
}

TEST_CASE("ids of GGUF files are the same where they have the same added tokens") {
  for (const std::string name : {"llama2", "gemma"}) {
    CAPTURE(name);
    const auto vocabulary = from_gguf(name, name == "llama2");
    const auto other = from_json(name);
    int compared = 0;
    for (const auto& line : runnel_test::corpus()) {
      if (line.find("word") != std::string::npos || line.find("[INST]") != std::string::npos) continue;
      CHECK_MESSAGE(vocabulary.encode(line) == other.encode(line), line);
      ++compared;
    }
    CHECK(compared > 1900);
    CHECK(vocabulary.adds_bos());
    CHECK(vocabulary.bos() == 1);
    CHECK(vocabulary.is_eos(2));
    CHECK(vocabulary.unknown() == 0);
  }
}

TEST_CASE("a model that collapses spaces gives SentencePiece's ids") {
  const text::tokenizer vocabulary(text::read_tokenizer_model(runnel_test::text_golden("spaces.model")));
  const auto plain = runnel_test::golden_lines("spaces.plain.ids");
  const auto lines = third_lines();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CHECK_MESSAGE(vocabulary.encode(lines[i]) == runnel_test::decode_ids(plain[i]), lines[i]);
  }
  CHECK(vocabulary.decode(vocabulary.encode("  a   b ")) == "a b");
  CHECK(vocabulary.encode("   ").empty());
}

TEST_CASE("added tokens and spaces side by side") {
  const std::vector<std::pair<std::string, text::tokenizer>> vocabularies = [] {
    std::vector<std::pair<std::string, text::tokenizer>> out;
    out.emplace_back("llama2", from_json("llama2"));
    out.emplace_back("gemma", from_json("gemma"));
    out.emplace_back("mistral", with_metaspace("first", false));
    out.emplace_back("metaspace", with_metaspace("always", true));
    return out;
  }();
  const auto llama2 = from_model("llama2");
  const auto gemma = from_model("gemma");
  for (const auto& line : runnel_test::golden_lines("sentences.jsonl")) {
    const auto row = json::parse(line);
    const auto sentence = row[0].get<std::string>();
    for (std::size_t i = 0; i < vocabularies.size(); ++i) {
      const auto expected = runnel_test::decode_ids(row[i + 1].get<std::string>());
      CHECK_MESSAGE(vocabularies[i].second.encode(sentence, parsing()) == expected, vocabularies[i].first, ": ", line);
    }
    CHECK_MESSAGE(llama2.encode(sentence, parsing()) == runnel_test::decode_ids(row[1].get<std::string>()), line);
    CHECK_MESSAGE(gemma.encode(sentence, parsing()) == runnel_test::decode_ids(row[2].get<std::string>()), line);
  }
}

TEST_CASE("decoding equals Hugging Face's, whole and token by token") {
  const auto llama2 = from_json("llama2");
  const auto gemma = from_model("gemma");
  std::size_t count = 0;
  for (const auto& line : runnel_test::golden_lines("sentence_piece.decoded.jsonl")) {
    const auto row = json::parse(line);
    const auto& vocabulary = row[0].get<std::string>() == "llama2" ? llama2 : gemma;
    const auto tokens = row[1].get<ids>();
    const auto expected = row[2].get<std::string>();
    CHECK_MESSAGE(vocabulary.decode(tokens) == expected, line);
    text::incremental_detokenizer out(vocabulary);
    std::string together;
    for (const auto id : tokens) together += out.push(id);
    together += out.finish();
    CHECK_MESSAGE(together == expected, line);
    ++count;
  }
  CHECK(count > 150);
}

TEST_CASE("any bytes come back") {
  std::mt19937 random(12);
  for (const std::string name : {"llama2", "gemma"}) {
    const auto vocabulary = from_model(name);
    CHECK(vocabulary.missing_bytes().empty());
    for (int round = 0; round < 3000; ++round) {
      const auto bytes = runnel_test::random_bytes(random, random() % 60);
      std::string expected;
      text::detail::append_with_spaces(expected, bytes);
      REQUIRE(vocabulary.decode(vocabulary.encode(bytes)) == expected);
    }
    // SentencePiece's sign for a space is one.
    CHECK(vocabulary.decode(vocabulary.encode("a\u2581b")) == "a b");
  }
  const auto first = with_metaspace("first", false);
  CHECK(first.decode(first.encode("a b")) == "a b");
  CHECK(first.decode(first.encode(" a b")) == "a b");  // as with Hugging Face, the space in front is the one it adds
}

TEST_CASE("the space in front") {
  const auto vocabulary = from_json("llama2");
  const auto user = vocabulary.find("<|user|>").value();
  const auto with_space = vocabulary.encode("Hello");
  text::encode_options on;
  on.continues = true;
  on.parse_special = true;
  CHECK(vocabulary.encode(" Hello", on) == with_space);
  CHECK(vocabulary.encode("Hello", on) != with_space);
  CHECK(vocabulary.encode("", on).empty());
  CHECK(vocabulary.encode("").empty());
  ids expected{user};
  expected.insert(expected.end(), with_space.begin(), with_space.end());
  CHECK(vocabulary.encode("<|user|> \nHello", parsing()) == expected);  // takes white space along
  CHECK(vocabulary.encode("<|user|>Hello", on) == expected);            // a new segment
  CHECK(vocabulary.decode(with_space) == "Hello");
  CHECK(vocabulary.decode(expected) == "<|user|> Hello");
  CHECK(vocabulary.decode(expected, true) == "Hello");
  text::incremental_detokenizer out(vocabulary, true);
  std::string together;
  for (const auto id : expected) together += out.push(id);
  CHECK(together + out.finish() == "Hello");
  CHECK(out.push(with_space[0]).front() != ' ');  // a new text drops its space as well
  const auto gemma = from_json("gemma");
  CHECK(gemma.prefix() == text::space_prefix::none);
  CHECK(gemma.decode(gemma.encode(" a")) == " a");
}

TEST_CASE("long texts without a break take no long time") {
  const auto vocabulary = from_model("gemma");
  std::mt19937 random(9);
  std::string letters;
  for (int i = 0; i < 1000000; ++i) letters += static_cast<char>('a' + random() % 26);
  for (const auto& whole : {letters, std::string(1000000, 'a'), std::string(1000000, ' '), std::string(1000000, '\n'),
                            std::string(1000000, '<'), std::string(1000000, '\xFF')}) {
    CHECK(vocabulary.decode(vocabulary.encode(whole)) == whole);
  }
}

TEST_CASE("vocabularies without all bytes fuse what they lack") {
  text::tokenizer_data data;
  data.form = text::vocabulary_form::sentence_piece;
  data.tokens = {"<unk>", "a", "b", "ab", "\u2581"};
  data.types = {text::token_type::unknown, text::token_type::normal, text::token_type::normal, text::token_type::normal,
                text::token_type::normal};
  data.merges = {{"a", "b"}};
  data.missing_byte = 0;
  CHECK(text::tokenizer(data).encode("ab x\u00E9y a") == ids{3, 4, 0, 0, 0, 4, 1});
  data.fuse_missing = true;
  const text::tokenizer fused(data);
  CHECK(fused.encode("ab x\u00E9y a") == ids{3, 4, 0, 4, 1});
  CHECK(fused.missing_bytes().size() == 253);
  text::encode_options strict;
  strict.missing = text::missing_byte_policy::refuse;
  CHECK(fused.encode("ab a", strict) == ids{3, 4, 1});
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(fused.encode("x", strict)); }), "byte 120"));
}

TEST_CASE("malformed scores") {
  text::tokenizer_data data;
  data.form = text::vocabulary_form::sentence_piece;
  data.tokens = {"a", "b", "ab"};
  const auto problem = [&] { return failure<runnel::format_error>([&] { const text::tokenizer made(data); }); };
  data.scores = {0, 0};
  CHECK(holds(problem(), "there are 2 scores for 3 tokens"));
  data.scores = {0, std::stof("nan"), 0};
  CHECK(holds(problem(), "the score of token 1 is not a number"));
  data.scores = {0, 0, 0};
  CHECK_NOTHROW(text::tokenizer{data});
  data.tokens[2] = std::string(2000, 'a');
  CHECK(holds(problem(), "token 2 has 2000 bytes"));
  data.tokens = {"a"};
  for (std::size_t i = 2; i < 1000; ++i) data.tokens.emplace_back(i, 'a');
  data.scores.assign(data.tokens.size(), 0.0F);
  CHECK(holds(problem(), "merges follow from the scores of 999 tokens"));
  data.tokens = {"a", "<0xZZ>"};
  data.types = {text::token_type::normal, text::token_type::byte};
  data.scores = {};
  CHECK(holds(problem(), "token 1 (\"<0xZZ>\") is a byte"));
}
