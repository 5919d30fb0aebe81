// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>

#include "support.hpp"

namespace text = runnel::text;
using runnel_test::failure;
using runnel_test::holds;

namespace {

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 128; value >>= 7U) out += static_cast<char>(value | 128U);
  return out + static_cast<char>(value);
}

std::string number(std::uint64_t field, std::uint64_t value) { return varint(field << 3U) + varint(value); }

std::string bytes(std::uint64_t field, std::string_view value) {
  return varint(field << 3U | 2U) + varint(value.size()) + std::string(value);
}

std::string real(std::uint64_t field, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  std::string out = varint(field << 3U | 5U);
  for (unsigned i = 0; i < 4; ++i) out += static_cast<char>(bits >> (8 * i));
  return out;
}

std::string piece(std::string_view token, float score, std::uint64_t type = 1) {
  return bytes(1, bytes(1, token) + real(2, score) + number(3, type));
}

/// A vocabulary of five tokens; `trainer` and `normalizer` are added to their messages.
std::string model(const std::string& trainer = {}, const std::string& normalizer = {}) {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581", -2) + piece("a", -3) +
         piece("\u2581a", -1) + bytes(2, number(3, 2) + trainer) +
         bytes(3, bytes(1, "identity") + number(4, 0) + normalizer);
}

text::tokenizer parse(std::string_view from) {
  return text::tokenizer(text::parse_tokenizer_model(from, "folder/tokenizer.model"));
}

std::string problem_of(std::string_view from) {
  return failure<runnel::format_error>([&] { static_cast<void>(parse(from)); });
}

}  // namespace

TEST_CASE("what a model says") {
  const auto vocabulary = parse(model());
  CHECK(vocabulary.vocabulary_size() == 6);
  CHECK(vocabulary.form() == text::vocabulary_form::sentence_piece);
  CHECK(vocabulary.prefix() == text::space_prefix::each_segment);
  CHECK(vocabulary.bos() == 1);
  CHECK(vocabulary.is_eos(2));
  CHECK(vocabulary.unknown() == 0);
  CHECK_FALSE(vocabulary.padding().has_value());
  CHECK(vocabulary.adds_bos());
  CHECK(vocabulary.encode("a aa") == std::vector<std::int32_t>{5, 5, 4});
  CHECK(vocabulary.encode("  a") == std::vector<std::int32_t>{3, 3, 5});
  CHECK(vocabulary.encode("axxa") == std::vector<std::int32_t>{5, 0, 4});
  CHECK(parse(model({}, number(3, 0))).encode("a a") == std::vector<std::int32_t>{4, 5});
  CHECK(parse(model(number(41, ~std::uint64_t{0}))).bos() == std::nullopt);  // -1: none
  CHECK(parse(model(number(41, 3))).bos() == std::nullopt);                  // an ordinary piece
  CHECK(parse(model(number(43, 2))).padding() == 2);
  // Fields that nobody asked for are skipped: a double, a number, text.
  CHECK(parse(varint(9U << 3U | 1U) + "12345678" + number(1000, 7) + bytes(4, "self test") + model()).bos() == 1);
  // Spaces collapse unless the model says otherwise.
  const auto collapsing = parse(piece("<unk>", 0, 2) + piece("\u2581", -2) + piece("a", -3) + bytes(2, number(3, 2)));
  CHECK(collapsing.encode("  a   a ") == std::vector<std::int32_t>{1, 2, 1, 2});
}

TEST_CASE("what is not supported or malformed is refused with file, field and finding") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "has no pieces"},
      {bytes(2, number(3, 2)), "has no pieces"},
      {model(number(3, 1)), "trainer_spec.model_type is 1 (Unigram), which is not supported, expected 2 (BPE)"},
      {piece("a", 0), "trainer_spec.model_type is 1 (Unigram)"},
      {model(number(3, 4)), "trainer_spec.model_type is 4, which"},
      {model(number(24, 1)), "trainer_spec.treat_whitespace_as_suffix"},
      {model(number(40, 6)), "trainer_spec.unk_id 6 is outside the vocabulary of 6"},
      {model(number(42, std::uint64_t{1} << 40U)), "trainer_spec.eos_id does not fit 32 bits"},
      {model({}, bytes(2, "map")), "normalizer_spec.precompiled_charsmap (\"identity\") is not supported"},
      {model({}, number(5, 0)), "normalizer_spec.escape_whitespaces is false"},
      {model() + piece("b", 0, 7), "piece 6 has type 7, expected 1 to 6"},
      {model() + piece("b", 0, 0), "piece 6 has type 0"},
      {model() + piece("", 0), "piece 6 has no text"},
      {model() + piece("a", 0), "tokens 4 and 6 are both \"a\""},
      {model() + piece("b", std::bit_cast<float>(0x7FC00000U)), "the score of token 6 is not a number"},
      {model() + piece("<0x-1>", 0, 6), "token 6 (\"<0x-1>\") is a byte"},
      {model() + bytes(1, number(1, 7)), "piece: at byte 2: field 1 has wire type 0, expected bytes"},
      {model() + bytes(1, bytes(2, "x")), "field 2 has wire type 2, expected a 32-bit number"},
      {model() + bytes(1, real(3, 1)), "field 3 has wire type 5, expected a number"},
      {model() + varint(1U << 3U | 2U) + varint(~std::uint64_t{0}),
       "field 1 has 18446744073709551615 bytes, but only 0"},
      {model() + varint(1U << 3U | 2U) + varint(1), "field 1 has 1 bytes, but only 0 remain"},
      {model() + '\x80', "the message ends inside a number"},
      {model() + std::string(11, '\xFF'), "a number has more than 10 bytes"},
      {model() + varint(1U << 3U | 3U), "wire type 3 of field 1"},
      {model() + varint(1U << 3U | 7U), "wire type 7 of field 1"},
      {model() + std::string(1, '\0'), "field number 0"},
      {"GGUF\x03", "folder/tokenizer.model: at byte"},
      {"{\"model\": 1}", "folder/tokenizer.model: at byte"},
  };
  for (const auto& [from, expected] : cases) {
    const auto problem = problem_of(from);
    CHECK_MESSAGE(holds(problem, "folder/tokenizer.model: "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
  }
}

TEST_CASE("damaged models are refused or usable") {
  const auto whole = runnel_test::content(runnel_test::text_golden("spaces.model"));
  std::mt19937 random(3);
  for (int round = 0; round < 400; ++round) {
    auto damaged = whole;
    if (round % 3 == 0) damaged.resize(random() % damaged.size());
    for (auto changes = random() % 4; changes > 0 && !damaged.empty(); --changes) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    try {
      const auto vocabulary = parse(damaged);
      static_cast<void>(vocabulary.decode(vocabulary.encode("It's 2 d\u00E9j\u00E0 vu\n  \xFF")));
    } catch (const runnel::format_error&) {
    }
  }
}

TEST_CASE("folders with only a tokenizer.model, and what lies beside it") {
  const runnel_test::scratch_folder folder;
  runnel_test::put(folder / "tokenizer.model", model());
  const auto load = [&] { return text::tokenizer(text::read_tokenizer(folder.path())); };
  CHECK(load().vocabulary_size() == 6);
  runnel_test::put(folder / "added_tokens.json", R"({"<pad>": 6})");
  CHECK(load().type(6) == text::token_type::user_defined);
  runnel_test::put(folder / "tokenizer_config.json", R"({"added_tokens_decoder": {
      "6": {"content": "<pad>", "special": true, "rstrip": true}, "0": {"content": "<unk>", "special": true},
      "8": {"content": "aa", "special": false}}, "pad_token": "<pad>", "add_bos_token": false, "legacy": false})");
  const auto vocabulary = load();
  CHECK(vocabulary.vocabulary_size() == 9);
  CHECK(vocabulary.padding() == 6);
  CHECK(vocabulary.type(0) == text::token_type::unknown);
  CHECK(vocabulary.type(6) == text::token_type::control);
  CHECK(vocabulary.type(7) == text::token_type::unused);
  CHECK_FALSE(vocabulary.adds_bos());
  CHECK(vocabulary.prefix() == text::space_prefix::first_run);
  text::encode_options options;
  options.parse_special = true;
  CHECK(vocabulary.encode("a<pad>  aaa", options) == std::vector<std::int32_t>{5, 6, 8, 4});
  options.parse_user_defined = false;
  CHECK(vocabulary.encode("aa", options) == std::vector<std::int32_t>{5, 4});  // it came after merges were learned
  const auto problem = [&](const std::string& config) {
    runnel_test::put(folder / "tokenizer_config.json", config);
    return failure<runnel::format_error>([&] { static_cast<void>(load()); });
  };
  runnel_test::put(folder / "tokenizer_config.json", R"({"pad_token": "[PAD]", "unk_token": "[UNK]"})");
  CHECK_FALSE(load().padding().has_value());  // training tools name padding that no network has
  CHECK(holds(problem(R"({"eos_token": "[END]"})"), "eos_token: token \"[END]\" is not in the vocabulary"));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"x": {"content": "b"}}})"), "expected token ids, found \"x\""));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"-1": {"content": "b"}}})"), "expected token ids, found \"-1\""));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"99999999": {"content": "b"}}})"), "far beyond 7 tokens"));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"7": {"content": ""}}})"), "added token 7 has no text"));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"7": {}}})"), "added_tokens_decoder.7.content is missing"));
  CHECK(holds(problem(R"({"added_tokens_decoder": {"7": {"content": "a"}}})"), "tokens 4 and 7 are both \"a\""));
  runnel_test::put(folder / "tokenizer_config.json", "{}");
  runnel_test::put(folder / "tokenizer.json", "{}");
  CHECK(holds(failure<runnel::format_error>([&] { static_cast<void>(load()); }), "tokenizer.json: model is missing"));
  const runnel_test::scratch_folder empty;
  CHECK_THROWS_AS(static_cast<void>(text::read_tokenizer(empty.path())), runnel::io_error);
}
