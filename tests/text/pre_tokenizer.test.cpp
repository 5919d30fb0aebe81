// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/text/pre_tokenizer.hpp>

#include "support.hpp"

namespace text = runnel::text;
using text::pre_tokenizer_kind;

namespace {

using pieces = std::vector<std::string>;

pieces cut(pre_tokenizer_kind kind, std::string_view whole) {
  pieces out;
  text::for_each_piece(kind, whole, [&](std::string_view piece) { out.emplace_back(piece); });
  return out;
}

pieces gpt2(std::string_view whole) { return cut(pre_tokenizer_kind::gpt2, whole); }
pieces llama3(std::string_view whole) { return cut(pre_tokenizer_kind::llama3, whole); }
pieces qwen2(std::string_view whole) { return cut(pre_tokenizer_kind::qwen2, whole); }
pieces smollm(std::string_view whole) { return cut(pre_tokenizer_kind::smollm, whole); }

}  // namespace

TEST_CASE("GPT-2's pattern") {
  CHECK(gpt2("").empty());
  CHECK(gpt2("Hello world") == pieces{"Hello", " world"});
  CHECK(gpt2("  two  spaces ") == pieces{" ", " two", " ", " spaces", " "});
  CHECK(gpt2("a \n b") == pieces{"a", " \n", " b"});
  CHECK(gpt2("a\t\tb") == pieces{"a", "\t", "\t", "b"});
  CHECK(gpt2("a\nb") == pieces{"a", "\n", "b"});
  CHECK(gpt2("end   ") == pieces{"end", "   "});
  CHECK(gpt2("don't DON'T we'll") == pieces{"don", "'t", " DON", "'", "T", " we", "'ll"});
  CHECK(gpt2("'''s") == pieces{"'''", "s"});
  CHECK(gpt2("x 's") == pieces{"x", " '", "s"});
  CHECK(gpt2("'tis 'rest 'vex") == pieces{"'t", "is", " '", "rest", " '", "vex"});
  CHECK(gpt2("'rest'vex") == pieces{"'re", "st", "'ve", "x"});
  CHECK(gpt2("ab12cd!?") == pieces{"ab", "12", "cd", "!?"});
  CHECK(gpt2(" 12 !") == pieces{" 12", " !"});
  CHECK(gpt2("x\u00A0y") == pieces{"x", "\u00A0", "y"});
  CHECK(gpt2("e\u0301x") == pieces{"e", "\u0301", "x"});  // a mark is no letter
  CHECK(gpt2("'") == pieces{"'"});
  CHECK(gpt2("'l") == pieces{"'", "l"});
  CHECK(gpt2("\xFF\xFE a\xC3") == pieces{"\xFF\xFE", " a", "\xC3"});
}

TEST_CASE("Llama 3's pattern") {
  CHECK(llama3("Hello world") == pieces{"Hello", " world"});
  CHECK(llama3("12345678") == pieces{"123", "456", "78"});
  CHECK(llama3("a 1234") == pieces{"a", " ", "123", "4"});
  CHECK(llama3("DON'T we'Ll x'\u017F") == pieces{"DON", "'T", " we", "'Ll", " x", "'\u017F"});
  CHECK(llama3("'sa \"so") == pieces{"'s", "a", " \"", "so"});
  CHECK(llama3("(so)[x") == pieces{"(so", ")[", "x"});
  CHECK(llama3("\tx") == pieces{"\tx"});
  CHECK(llama3("\u00A0x") == pieces{"\u00A0x"});
  CHECK(llama3("\nx") == pieces{"\n", "x"});
  CHECK(llama3("!\r\n\nx") == pieces{"!\r\n\n", "x"});
  CHECK(llama3(" !\nx") == pieces{" !\n", "x"});
  CHECK(llama3("a  \n\n  b") == pieces{"a", "  \n\n", " ", " b"});
  CHECK(llama3("a \n \n") == pieces{"a", " \n \n"});
  CHECK(llama3("a   b") == pieces{"a", "  ", " b"});
  CHECK(llama3("a   1") == pieces{"a", "  ", " ", "1"});
  CHECK(llama3("a  ") == pieces{"a", "  "});
  CHECK(llama3("e\u0301x") == pieces{"e", "\u0301x"});
  CHECK(llama3("\xFFx\xC3") == pieces{"\xFFx", "\xC3"});
}

TEST_CASE("Qwen2's pattern cuts numbers one by one") {
  CHECK(qwen2("a 123") == pieces{"a", " ", "1", "2", "3"});
  CHECK(qwen2("x\u00BD\u00B2") == pieces{"x", "\u00BD", "\u00B2"});
  CHECK(qwen2("DON'T\n") == pieces{"DON", "'T", "\n"});
}

TEST_CASE("SmolLM cuts at every digit first") {
  CHECK(smollm("a 123 b") == pieces{"a", " ", "1", "2", "3", " b"});
  CHECK(smollm("a  1") == pieces{"a", "  ", "1"});  // the two spaces end a text of their own
  CHECK(smollm("we'll 4'll") == pieces{"we", "'ll", " ", "4", "'ll"});
  CHECK(smollm("\u0663x\u2167") == pieces{"\u0663", "x", "\u2167"});
}

TEST_CASE("pieces are never empty and together are the text, whatever the bytes") {
  std::mt19937 random(3);
  for (int round = 0; round < 4000; ++round) {
    const auto whole = runnel_test::random_bytes(random, random() % 40);
    for (const auto kind : {pre_tokenizer_kind::gpt2, pre_tokenizer_kind::llama3, pre_tokenizer_kind::qwen2,
                            pre_tokenizer_kind::smollm}) {
      std::string together;
      bool empty = false;
      for (const auto& piece : cut(kind, whole)) {
        empty = empty || piece.empty();
        together += piece;
      }
      REQUIRE_FALSE(empty);
      REQUIRE(together == whole);
    }
  }
}

TEST_CASE("patterns with capitals") {
  int count = 0;
  for (const auto& line : runnel_test::golden_lines("pieces.jsonl")) {
    const auto row = nlohmann::json::parse(line);
    const auto kind = row[0].get<std::string>() == "o200k" ? pre_tokenizer_kind::o200k : pre_tokenizer_kind::tekken;
    CHECK_MESSAGE(cut(kind, row[1].get<std::string>()) == row[2].get<pieces>(), line);
    ++count;
  }
  CHECK(count > 900);
}

TEST_CASE("an answer that is certain does not change, whatever follows") {
  std::mt19937 random(6);
  const auto& corpus = runnel_test::corpus();
  for (int round = 0; round < 3000; ++round) {
    const auto kind = static_cast<pre_tokenizer_kind>(random() % 6);
    const std::string whole = random() % 3 == 0 ? runnel_test::random_bytes(random, random() % 30)
                                                : corpus[random() % corpus.size()] + corpus[random() % corpus.size()];
    const auto all = cut(kind, whole);
    const std::string_view part = std::string_view(whole).substr(0, random() % (whole.size() + 1));
    text::piece_scanner scanner(kind, part);
    std::size_t count = 0;
    for (std::size_t at = 0; at < part.size(); ++count) {
      const std::size_t end = scanner.next(at);
      if (!scanner.is_certain()) break;
      CAPTURE(whole);
      REQUIRE(part.substr(at, end - at) == all[count]);
      at = end;
    }
  }
}

TEST_CASE("names") {
  for (const auto kind : {pre_tokenizer_kind::gpt2, pre_tokenizer_kind::llama3, pre_tokenizer_kind::qwen2,
                          pre_tokenizer_kind::smollm, pre_tokenizer_kind::o200k, pre_tokenizer_kind::tekken}) {
    CHECK(text::find_pre_tokenizer(text::pre_tokenizer_name(kind), "file") == kind);
  }
  for (const auto* const name : {"default", "", "tekke", "smollm "}) {
    const auto problem = runnel_test::failure<runnel::format_error>(
        [&] { static_cast<void>(text::find_pre_tokenizer(name, "model.gguf")); });
    CHECK(runnel_test::holds(problem, "model.gguf"));
    CHECK(runnel_test::holds(problem, "gpt-2, llama-bpe, qwen2, smollm"));
  }
}
