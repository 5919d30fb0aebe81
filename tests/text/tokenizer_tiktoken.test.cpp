// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>

#include "support.hpp"

namespace text = runnel::text;
using runnel_test::failure;
using runnel_test::holds;
using ids = std::vector<std::int32_t>;

namespace {

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8U | (i + k < bytes.size() ? static_cast<std::uint8_t>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) out += i + k > bytes.size() ? '=' : digits[bits >> (18 - 6 * k) & 63U];
  }
  return out;
}

/// Ranks of the bytes, then of `more`.
std::string ranks(const std::vector<std::string>& more = {}) {
  std::string out;
  for (int byte = 0; byte < 256; ++byte)
    out += base64(std::string(1, static_cast<char>(byte))) + ' ' + std::to_string(byte) + '\n';
  for (std::size_t i = 0; i < more.size(); ++i) out += base64(more[i]) + ' ' + std::to_string(256 + i) + '\n';
  return out;
}

text::tiktoken_options plain() {
  text::tiktoken_options options;
  options.special_tokens = {"<|begin|>", "<|end|>"};
  options.bos = "<|begin|>";
  options.eos = {"<|end|>"};
  return options;
}

std::string problem_of(const std::string& from, const text::tiktoken_options& options = plain()) {
  return failure<runnel::format_error>(
      [&] { const text::tokenizer made(text::parse_tiktoken(from, "some/tokenizer.model", options)); });
}

}  // namespace

TEST_CASE("base64") {
  CHECK(text::detail::from_base64("") == "");
  CHECK(text::detail::from_base64("Zg==") == "f");
  CHECK(text::detail::from_base64("Zm8=") == "fo");
  CHECK(text::detail::from_base64("Zm9v") == "foo");
  CHECK(text::detail::from_base64("Zm9vYg==") == "foob");
  CHECK(text::detail::from_base64("/+8=") == "\xFF\xEF");
  for (const char* const bad : {"Z", "Zg=", "Zg", "====", "Z===", "Zm9*", "Zg==Zg=="}) {
    CHECK_FALSE(text::detail::from_base64(bad).has_value());
  }
}

TEST_CASE("ranks give the ids of the tokenizer.json they came from") {
  const auto data = text::read_tokenizer_json(runnel_test::text_golden("gpt2"));
  std::string lines;
  for (std::size_t id = 0; id < 2000; ++id) {
    lines += base64(text::from_byte_alphabet(data.tokens[id]).value()) + ' ' + std::to_string(id) + '\n';
  }
  auto options = plain();
  options.pre_tokenizer = text::pre_tokenizer_kind::gpt2;
  const text::tokenizer vocabulary(text::parse_tiktoken(lines, "ranks", options));
  const auto other = runnel_test::golden_tokenizer("gpt2");
  text::encode_options nothing;
  nothing.parse_user_defined = false;
  for (const auto& line : runnel_test::corpus()) {
    CHECK_MESSAGE(vocabulary.encode(line) == other.encode(line, nothing), line);
  }
}

TEST_CASE("what a file says and what is told") {
  const text::tokenizer vocabulary(text::parse_tiktoken(ranks({"ab", "bc", "abc"}), "ranks", plain()));
  CHECK(vocabulary.encode("abc") == ids{258});  // a piece that is a token
  CHECK(vocabulary.encode("zabc") == ids{'z', 258});
  CHECK(vocabulary.encode("bcab") == ids{257, 256});
  CHECK(vocabulary.bos() == 259);
  CHECK(vocabulary.adds_bos());
  CHECK(vocabulary.is_eos(260));
  CHECK(vocabulary.vocabulary_size() == 261);
  text::encode_options options;
  options.parse_special = true;
  CHECK(vocabulary.encode("a<|end|>", options) == ids{'a', 260});
  CHECK(vocabulary.decode(ids{259, 258}) == "<|begin|>abc");
  std::string windows;
  for (const char c : ranks()) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  CHECK(text::is_tiktoken(windows));
  CHECK(text::tokenizer(text::parse_tiktoken(windows, "ranks", plain())).encode("a") == ids{'a'});
}

TEST_CASE("known vocabularies") {
  const auto llama = text::find_tiktoken_options(128000, "file");
  CHECK(llama.special_tokens.size() == 256);
  CHECK(llama.special_tokens[6] == "<|start_header_id|>");
  CHECK(llama.special_tokens[9] == "<|eot_id|>");
  CHECK(llama.special_tokens[255] == "<|reserved_special_token_247|>");
  CHECK(text::find_tiktoken_options(151643, "file").nfc);
  CHECK(text::find_tiktoken_options(199998, "file").pre_tokenizer == text::pre_tokenizer_kind::o200k);
}

TEST_CASE("what is malformed is refused with file and line") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "the vocabulary has"},
      {"!!!! 0\n", "line 1: expected bytes in base64, a space and a rank"},
      {"YQ== 0\nYg==\n", "line 2: expected bytes"},
      {"YQ== 0\nYg== \n", "line 2: expected bytes"},
      {"YQ== 0\nYg== x\n", "line 2: expected bytes"},
      {"YQ== 0\nYg== 1x\n", "line 2: expected bytes"},
      {"YQ== 0\n 1\n", "line 2: expected bytes"},
      {"YQ== 0\nYg== -1\n", "line 2: expected bytes"},
      {"YQ== 0\nYg== 99999999999999999999999\n", "line 2: expected bytes"},
      {"YQ== 0\nYg== 2\n", "line 2: rank 2, expected 1"},
      {"YQ== 1\n", "line 1: rank 1, expected 0"},
      {ranks({"a"}), "tokens 97 and 256 are both \"a\""},
  };
  for (const auto& [from, expected] : cases) {
    auto options = plain();
    if (from.empty()) options = {};
    const auto problem = problem_of(from, options);
    CHECK_MESSAGE(holds(problem, "some/tokenizer.model: "), problem);
    CHECK_MESSAGE((from.empty() || holds(problem, expected)), problem);
  }
  auto options = plain();
  options.bos = "<|other|>";
  CHECK(holds(problem_of(ranks(), options), "\"<|other|>\" is none of the special tokens given"));
  CHECK(holds(failure<runnel::format_error>([] { static_cast<void>(text::parse_tiktoken(ranks(), "file")); }),
              "file: has 256 ranks, which is no vocabulary whose pattern is known"));
  for (const char* const other : {"", "a", "YQ== 0", "YQ==\n", "YQ== \n", "{} 0\n", "YQ== 0x\n"}) {
    CHECK_FALSE(text::is_tiktoken(other));
  }
}

TEST_CASE("files") {
  const runnel_test::scratch_folder folder;
  runnel_test::put(folder / "tokenizer.model", ranks());
  const auto problem = failure<runnel::format_error>([&] { static_cast<void>(text::read_tokenizer(folder.path())); });
  CHECK(holds(problem, "has 256 ranks"));
  runnel_test::put(folder / "tokenizer_config.json",
                   R"({"added_tokens_decoder": {"258": {"content": "<x>", "special": true}}, "eos_token": "<x>"})");
  const text::tokenizer vocabulary(text::read_tiktoken(folder / "tokenizer.model", plain()));
  CHECK(vocabulary.is_eos(258));
}
