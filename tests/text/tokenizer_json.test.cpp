// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

#include "support.hpp"

namespace text = runnel::text;
using nlohmann::json;
using runnel_test::failure;
using runnel_test::holds;

namespace {

/// A tokenizer.json with all bytes, one merge and one special token.
json small() {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[text::to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  }
  vocabulary["ab"] = 256;
  return {{"added_tokens", json::array({{{"id", 257}, {"content", "<end>"}, {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array({"a b"})}}}};
}

text::tokenizer parse(const json& root) {
  return text::tokenizer(text::parse_tokenizer_json(root.dump(), "folder/tokenizer.json"));
}

std::string problem_of(const std::string& content) {
  return failure<runnel::format_error>(
      [&] { const text::tokenizer made(text::parse_tokenizer_json(content, "folder/tokenizer.json")); });
}

}  // namespace

TEST_CASE("the kinds of files there are") {
  using text::pre_tokenizer_kind;
  const auto gpt2 = runnel_test::golden_tokenizer("gpt2");
  CHECK(gpt2.pre_tokenizer() == pre_tokenizer_kind::gpt2);
  CHECK_FALSE(gpt2.normalizes_nfc());
  CHECK(gpt2.chat_template().empty());
  CHECK(gpt2.eos_ids().empty());
  CHECK(holds(gpt2.source_name(), "tokenizer.json"));

  const auto llama3 = runnel_test::golden_tokenizer("llama3");
  CHECK(llama3.pre_tokenizer() == pre_tokenizer_kind::llama3);
  CHECK(llama3.adds_bos());
  CHECK(llama3.bos() == llama3.find("<|im_start|>"));

  const auto qwen2 = runnel_test::golden_tokenizer("qwen2");
  CHECK(qwen2.pre_tokenizer() == pre_tokenizer_kind::qwen2);
  CHECK(qwen2.normalizes_nfc());
  CHECK(qwen2.chat_template() == "<|im_start|>user");
  CHECK(qwen2.eos_ids().size() == 2);
  CHECK_FALSE(qwen2.bos().has_value());

  const auto smollm = runnel_test::golden_tokenizer("smollm");
  CHECK(smollm.pre_tokenizer() == pre_tokenizer_kind::smollm);
  CHECK(smollm.bos() == 2001);
  CHECK(smollm.unknown() == 2000);
  CHECK(smollm.padding() == 2002);
  CHECK_FALSE(smollm.adds_bos());
  CHECK(smollm.is_eos(2002));
  CHECK(smollm.is_eos(2000));
  CHECK_FALSE(smollm.is_eos(2001));
}

TEST_CASE("spellings that mean the same") {
  auto root = small();
  CHECK(parse(root).encode("ab") == std::vector<std::int32_t>{256});
  root["model"]["merges"] = json::array({json::array({"a", "b"})});
  CHECK(parse(root).encode("ab") == std::vector<std::int32_t>{256});
  root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array({root["pre_tokenizer"]})}};
  root["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
  root["decoder"] = {{"type", "Sequence"}, {"decoders", json::array({root["decoder"]})}};
  root["model"]["dropout"] = nullptr;
  root["model"]["unk_token"] = nullptr;
  root["model"]["end_of_word_suffix"] = "";
  root.erase("added_tokens");
  CHECK(parse(root).encode("ab") == std::vector<std::int32_t>{256});
  root["model"]["unk_token"] = "!";
  root["model"]["vocab"].erase("x");
  CHECK(parse(root).encode("x") == std::vector<std::int32_t>{'!'});
  root["model"]["vocab"]["<far>"] = 60000;  // holes are allowed
  CHECK(parse(root).vocabulary_size() == 60001);
  CHECK(parse(root).piece(50000).empty());
}

TEST_CASE("what is not supported or malformed is refused with file, key and finding") {
  using change = std::function<void(json&)>;
  const json digits{{"type", "Digits"}, {"individual_digits", false}};
  const std::vector<std::pair<change, std::string>> cases{
      {[](json& r) { r = json::array(); }, "the file: expected an object, found array"},
      {[](json& r) { r.erase("model"); }, "model is missing"},
      {[](json& r) { r["model"] = nullptr; }, "model is missing"},
      {[](json& r) { r["model"] = 7; }, "model: expected an object, found 7"},
      {[](json& r) { r["model"]["type"] = "Unigram"; }, "model.type \"Unigram\" is not supported, expected BPE"},
      {[](json& r) { r["model"]["type"] = "WordPiece"; }, "WordPiece"},
      {[](json& r) { r["model"]["type"] = 1; }, "model.type: expected a string, found 1"},
      {[](json& r) { r["model"]["byte_fallback"] = true; }, "model.byte_fallback makes no sense"},
      {[](json& r) { r["model"]["byte_fallback"] = "yes"; },
       "model.byte_fallback: expected true or false, found \"yes\""},
      {[](json& r) { r["model"]["continuing_subword_prefix"] = "##"; }, "model.continuing_subword_prefix"},
      {[](json& r) { r["model"]["dropout"] = 0.1; }, "model.dropout"},
      {[](json& r) { r["model"].erase("vocab"); }, "model.vocab is missing"},
      {[](json& r) { r["model"]["vocab"] = json::object(); }, "model.vocab is empty"},
      {[](json& r) { r["model"]["vocab"] = json::array({"a"}); }, "model.vocab: expected an object"},
      {[](json& r) { r["model"]["vocab"]["x"] = -1; }, "model.vocab of \"x\": expected a token id, found -1"},
      {[](json& r) { r["model"]["vocab"]["x"] = 1.5; }, "expected a token id, found 1.5"},
      {[](json& r) { r["model"]["vocab"]["x"] = "7"; }, "expected a token id, found \"7\""},
      {[](json& r) { r["model"]["vocab"]["x"] = 18446744073709551615U; }, "expected a token id"},
      {[](json& r) { r["model"]["vocab"]["x"] = 2147483647; }, "\"x\" has id 2147483647, far beyond 257 tokens"},
      {[](json& r) { r["model"]["vocab"]["x"] = 65; }, "both have id 65"},
      {[](json& r) { r["model"].erase("merges"); }, "model.merges is missing"},
      {[](json& r) { r["model"]["merges"] = "a b"; }, "model.merges: expected an array, found \"a b\""},
      {[](json& r) { r["model"]["merges"] = json::array({"ab"}); },
       "model.merges[0]: expected two tokens and a space, found \"ab\""},
      {[](json& r) { r["model"]["merges"] = json::array({""}); }, "model.merges[0]"},
      {[](json& r) { r["model"]["merges"] = json::array({" "}); }, "model.merges[0]"},
      {[](json& r) {
         r["model"]["merges"] = json::array({"a b", json::array({"a"})});
       },
       "model.merges[1]"},
      {[](json& r) {
         r["model"]["merges"] = json::array({json::array({"a", 2})});
       },
       "model.merges[0]"},
      {[](json& r) { r["model"]["merges"] = json::array({"a c"}); }, "needs the token \"ac\""},
      {[](json& r) { r["model"]["merges"] = json::array({"a b c"}); }, "needs the token"},
      {[](json& r) { r["model"]["unk_token"] = "<nope>"; },
       "model.unk_token: token \"<nope>\" is not in the vocabulary"},
      {[](json& r) { r["model"]["ignore_merges"] = 1; }, "model.ignore_merges: expected true or false, found 1"},
      {[](json& r) { r["added_tokens"] = json::object(); }, "added_tokens: expected an array"},
      {[](json& r) { r["added_tokens"][0] = "x"; }, "added_tokens[0]: expected an object, found \"x\""},
      {[](json& r) { r["added_tokens"][0].erase("id"); }, "added_tokens[0].id is missing"},
      {[](json& r) { r["added_tokens"][0]["id"] = 1U << 31U; }, "added_tokens[0].id: expected a token id"},
      {[](json& r) { r["added_tokens"][0]["id"] = 100000; }, "far beyond"},
      {[](json& r) { r["added_tokens"][0]["id"] = 65; }, "both have id 65"},
      {[](json& r) { r["added_tokens"][0]["content"] = "ab"; }, "tokens 256 and 257 are both \"ab\""},
      {[](json& r) { r["added_tokens"][0]["special"] = "no"; }, "added_tokens[0].special: expected true or false"},
      {[](json& r) { r["added_tokens"][0]["single_word"] = 1; }, "added_tokens[0].single_word: expected true or"},
      {[](json& r) {
         r["normalizer"] = {{"type", "Lowercase"}};
       },
       "normalizer \"Lowercase\" is not supported"},
      {[](json& r) { r["normalizer"] = "NFC"; }, "normalizer: expected an object"},
      {[](json& r) {
         r["normalizer"] = {{"type", "Sequence"}};
       },
       "normalizer.normalizers is missing"},
      {[](json& r) { r.erase("pre_tokenizer"); }, "neither the normalizer nor the pre_tokenizer makes spaces"},
      {[](json& r) { r["pre_tokenizer"] = nullptr; }, "neither the normalizer"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}};
       },
       "pre_tokenizer.replacement is supported as"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "last"}};
       },
       "pre_tokenizer.prepend_scheme \"last\" is unknown"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}};
       },
       "decoder \"ByteLevel\" is not supported here"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "pre_tokenizer Whitespace is not supported here"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}};
         r["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
       },
       "normalizer \"Precompiled\" is not supported"},
      {[](json& r) {
         r["pre_tokenizer"] = nullptr;
         r["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", " +"}}}, {"content", "\u2581"}};
       },
       "normalizer Replace is supported for"},
      {[](json& r) {
         r["pre_tokenizer"] = nullptr;
         r["normalizer"] = {{"type", "Prepend"}, {"prepend", "_"}};
       },
       "normalizer Prepend is supported for"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}};
         r["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", 2}, {"stop", 0}};
       },
       "decoder Strip is supported for at most one space"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Metaspace"}};
         r["decoder"] = {{"type", "Replace"}, {"pattern", {{"String", "_"}}}, {"content", " "}};
       },
       "decoder Replace is supported for"},
      {[](json& r) {
         r["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array()}};
       },
       "neither the normalizer"},
      {[](json& r) { r["pre_tokenizer"]["use_regex"] = false; }, "this combination of pre-tokenizers"},
      {[](json& r) { r["pre_tokenizer"].erase("add_prefix_space"); }, "add_prefix_space is not supported"},
      {[&](json& r) {
         r["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, r["pre_tokenizer"]}}};
       },
       "this combination of pre-tokenizers"},
      {[](json& r) {
         const json split{{"type", "Split"}, {"pattern", {{"Regex", "\\w+"}}}, {"behavior", "Isolated"}};
         r["pre_tokenizer"]["use_regex"] = false;
         r["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, r["pre_tokenizer"]}}};
       },
       "the pattern \\w+ is not supported"},
      {[](json& r) {
         const json split{{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "Isolated"}};
         r["pre_tokenizer"]["use_regex"] = false;
         r["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, r["pre_tokenizer"]}}};
       },
       "pre_tokenizer.pattern.Regex is missing"},
      {[](json& r) {
         r["decoder"] = {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}}}};
       },
       "decoder \"ByteFallback\" is not supported here, expected ByteLevel"},
      {[](json& r) {
         const json first{{"SpecialToken", {{"id", "<nope>"}}}};
         r["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {first}}};
       },
       "token \"<nope>\" is not in the vocabulary"},
  };
  for (const auto& [spoil, expected] : cases) {
    auto root = small();
    spoil(root);
    const auto problem = problem_of(root.dump());
    CHECK_MESSAGE(holds(problem, "folder/tokenizer.json: "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
  }
}

TEST_CASE("bytes that are no JSON") {
  const auto whole = small().dump();
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, whole.size() / 3, whole.size() / 2, whole.size() - 1}) {
    CHECK(holds(problem_of(whole.substr(0, cut)), "folder/tokenizer.json: expected JSON"));
  }
  CHECK(holds(problem_of("GGUF\x03\0\0\0"), "expected JSON"));
  CHECK(holds(problem_of("\"\xFF\""), "expected JSON"));
  CHECK(holds(problem_of(std::string(3000000, '[')), "nested deeper than 64 levels"));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  CHECK(holds(problem_of(objects), "nested deeper than 64 levels"));
  CHECK(holds(problem_of("\"" + std::string(200, '[') + "\""), "the file: expected an object"));
  CHECK(holds(problem_of("[\"\\\"" + std::string(200, '[') + "\"]"), "the file: expected an object"));
  CHECK(holds(problem_of("{\"model\": 1e999}"), "folder/tokenizer.json: "));
}

TEST_CASE("files beside it") {
  const runnel_test::scratch_folder folder;
  runnel_test::put(folder / "tokenizer.json", small().dump());
  const auto load = [&] { return text::tokenizer(text::read_tokenizer_json(folder.path())); };
  CHECK(load().eos_ids().empty());
  runnel_test::put(folder / "tokenizer_config.json", R"({"eos_token": "<end>", "chat_template": "first"})");
  runnel_test::put(folder / "generation_config.json", R"({"eos_token_id": [7, 257]})");
  CHECK(load().eos_ids().size() == 2);
  CHECK(load().chat_template() == "first");
  runnel_test::put(folder / "chat_template.jinja", "second");
  CHECK(load().chat_template() == "second");

  const auto problem = [&](const std::string& name, const std::string& content) {
    const auto before = runnel_test::content(folder / name);
    runnel_test::put(folder / name, content);
    const auto found = failure<runnel::format_error>([&] { static_cast<void>(load()); });
    runnel_test::put(folder / name, before);
    return found;
  };
  CHECK(holds(problem("tokenizer_config.json", R"({"eos_token": "</s>"})"), "eos_token: token \"</s>\" is not in the"));
  CHECK(holds(problem("tokenizer_config.json", R"({"eos_token": 7})"), "eos_token: expected a string, found 7"));
  CHECK(holds(problem("tokenizer_config.json", R"({"eos_token": {}})"), "eos_token.content is missing"));
  CHECK(holds(problem("tokenizer_config.json", R"({"chat_template": [{"name": "a"}]})"),
              "chat_template[0].template is missing"));
  CHECK(holds(problem("tokenizer_config.json", R"({"add_bos_token": 1})"), "add_bos_token: expected true or false"));
  CHECK(holds(problem("tokenizer_config.json", "{"), "tokenizer_config.json: expected JSON"));
  CHECK(holds(problem("generation_config.json", R"({"eos_token_id": 258})"),
              "eos id 258 is outside the vocabulary of 258"));
  CHECK(holds(problem("generation_config.json", R"({"eos_token_id": [1, -2]})"),
              "eos_token_id: expected a token id, found -2"));

  CHECK(holds(failure<runnel::io_error>([&] { static_cast<void>(text::read_tokenizer_json(folder / "none.json")); }),
              "none.json"));
  runnel_test::put(folder / "empty.json", "");
  CHECK_THROWS_AS(static_cast<void>(text::read_tokenizer_json(folder / "empty.json")), runnel::io_error);
}
