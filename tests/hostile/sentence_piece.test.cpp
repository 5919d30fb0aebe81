// SPDX-License-Identifier: Apache-2.0
// SentencePiece vocabularies in GGUF files and in tokenizer.model, and Tiktoken files, that lie.
#include "hostile.hpp"

#include <limits>

#include <runnel/io/gguf.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_model.hpp>
#include <runnel/text/tokenizer_tiktoken.hpp>

namespace {

using namespace runnel_test;
namespace text = runnel::text;

/// The model file of this room with a SentencePiece vocabulary.
model_file with_pieces() {
  model_file file;
  file.text("tokenizer.ggml.model", "llama").without("tokenizer.ggml.pre").without("tokenizer.ggml.merges");
  file.texts("tokenizer.ggml.tokens", {"<unk>", "a", "b", "ab", "<s>", "</s>", "<0x0A>"});
  file.whole_numbers("tokenizer.ggml.token_type", {2, 1, 1, 1, 3, 3, 6});
  file.number("tokenizer.ggml.unknown_token_id", 0);
  return file;
}

byte_builder floats(std::initializer_list<float> values) {
  byte_builder list;
  list.number(std::uint32_t{6}).number(std::uint64_t{values.size()});
  for (const float value : values) list.number(value);
  return list;
}

constexpr const char* scores = "tokenizer.ggml.scores";

model_file scored() { return with_pieces().entry(scores, 9, floats({0, -1, -2, -3, 0, 0, 0})); }

void read(const std::string& bytes) {
  const runnel::io::gguf_file file(in_memory(bytes, "some.gguf"));
  const text::tokenizer vocabulary(text::read_tokenizer_gguf(file));
  static_cast<void>(vocabulary.decode(vocabulary.encode("ab a\n\xFF")));
}

hostile_case gguf_case(std::string about, std::vector<std::string> parts, const model_file& file) {
  parts.emplace_back("some.gguf: ");
  return {std::move(about), [bytes = file.bytes()] { read(bytes); }, std::move(parts)};
}

/// Messages of Protocol Buffers, put together by hand.
class message_builder {
 public:
  message_builder& number(unsigned field, std::uint64_t value) {
    varint(field << 3U);
    varint(value);
    return *this;
  }
  message_builder& bytes(unsigned field, std::string_view value) {
    varint(field << 3U | 2U);
    varint(value.size());
    text_ += value;
    return *this;
  }
  message_builder& real(unsigned field, float value) {
    varint(field << 3U | 5U);
    text_ += byte_builder().number(value).text();
    return *this;
  }
  message_builder& raw(std::string_view value) {
    text_ += value;
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) text_ += static_cast<char>((value & 0x7FU) | 0x80U);
    text_ += static_cast<char>(value);
  }

  std::string text_;
};

std::string piece(std::string_view text, float score, std::uint64_t type = 1) {
  return message_builder().bytes(1, text).real(2, score).number(3, type).text();
}

/// A small model; fields that come later replace earlier ones.
message_builder small_model() {
  message_builder out;
  out.bytes(1, piece("<unk>", 0, 2)).bytes(1, piece("<s>", 0, 3)).bytes(1, piece("</s>", 0, 3));
  out.bytes(1, piece("a", -1)).bytes(1, piece("b", -2)).bytes(1, piece("ab", -3)).bytes(1, piece("<0x0A>", 0, 6));
  out.bytes(2, message_builder().number(3, 2).text());
  return out;
}

void read_model(const std::string& bytes) {
  const text::tokenizer vocabulary(text::parse_tokenizer_model(bytes, "tokenizer.model"));
  static_cast<void>(vocabulary.decode(vocabulary.encode("ab a\n\xFF")));
}

}  // namespace

TEST_CASE("scores and bytes in GGUF files") {
  CHECK_NOTHROW(read(scored().bytes()));
  const auto infinite = std::numeric_limits<float>::infinity();
  const auto tokens = [](const std::string& byte) {
    return scored().texts("tokenizer.ggml.tokens", {"<unk>", "a", "b", "ab", "<s>", "</s>", byte});
  };
  check_refused({
      gguf_case("no scores", {scores, "missing"}, with_pieces()),
      // L#26690, L#20735: scores of another type or number.
      gguf_case("too few scores", {scores, "6", "7"}, with_pieces().entry(scores, 9, floats({0, 0, 0, 0, 0, 0}))),
      gguf_case("too many scores", {scores, "8", "7"},
                with_pieces().entry(scores, 9, floats({0, 0, 0, 0, 0, 0, 0, 0}))),
      gguf_case("scores as whole numbers", {scores, "array of 7 int32"},
                with_pieces().whole_numbers(scores, {0, 0, 0, 0, 0, 0, 0})),
      gguf_case("scores as texts", {scores, "array of 7 string"},
                with_pieces().texts(scores, {"0", "0", "0", "0", "0", "0", "0"})),
      gguf_case("scores as one number", {scores, "float32"},
                with_pieces().entry(scores, 6, byte_builder().number(1.0f))),
      // A score that is no number has no place in an order: sorting would leave its list.
      gguf_case("a score that is no number", {"score", "3"},
                with_pieces().entry(scores, 9, floats({0, -1, -2, std::numeric_limits<float>::quiet_NaN(), 0, 0, 0}))),
      // L#27226: bytes that are none.
      gguf_case("the byte <0x-1>", {"<0x-1>"}, tokens("<0x-1>")),
      gguf_case("the byte <0xZZ>", {"<0xZZ>"}, tokens("<0xZZ>")),
      gguf_case("the byte <0x100>", {"<0x100>"}, tokens("<0x100>")),
      gguf_case("the byte <0x>", {"<0x>"}, tokens("<0x>")),
      gguf_case("a byte of another spelling", {"\"x\""}, tokens("x")),
      gguf_case("space prefix as a number", {"add_space_prefix"},
                scored().number("tokenizer.ggml.add_space_prefix", 1)),
      gguf_case("an unknown token that is not there", {"unknown_token_id", "9"},
                scored().number("tokenizer.ggml.unknown_token_id", 9)),
  });
  CHECK_NOTHROW(read(with_pieces().entry(scores, 9, floats({infinite, -infinite, -2, infinite, 0, 0, 0})).bytes()));
}

TEST_CASE("tokenizer.model") {
  CHECK_NOTHROW(read_model(small_model().text()));
  const auto trainer = [](const message_builder& fields) { return small_model().bytes(2, fields.text()).text(); };
  const auto normalizer = [](const message_builder& fields) { return small_model().bytes(3, fields.text()).text(); };
  struct row {
    const char* about;
    std::string bytes;
    const char* part;
  };
  const std::string endless(11, '\xFF');
  const row rows[] = {
      {"no pieces", message_builder().bytes(2, message_builder().number(3, 2).text()).text(), "pieces"},
      {"Unigram", trainer(message_builder().number(3, 1)), "model_type"},
      // CVE-2026-1260: a crafted model overflowed the heap.
      {"a piece longer than the file", small_model().raw("\x0A\xFF\xFF\xFF\xFF\x0F").raw("abc").text(), "bytes"},
      {"a piece of 2^64 - 1 bytes", small_model().raw("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01").text(), "bytes"},
      {"a text longer than its piece", small_model().bytes(1, "\x0A\x09x").text(), "piece"},
      {"an endless number", small_model().raw(endless).text(), "number"},
      {"an endless number as a length", small_model().raw("\x0A").raw(endless).text(), "number"},
      {"a number that does not end", small_model().raw("\x08\x80").text(), "number"},
      {"a group, which old files have", small_model().raw("\x0B").text(), "wire type"},
      {"field 0", small_model().raw(std::string_view("\x00\x01", 2)).text(), "field number 0"},
      {"a piece that is a number", small_model().number(1, 7).text(), "wire type"},
      {"a score that is a text", small_model().bytes(1, message_builder().bytes(1, "x").bytes(2, "1").text()).text(),
       "piece"},
      {"a score that is no number",
       small_model()
           .bytes(1, piece("bb", std::numeric_limits<float>::quiet_NaN()))
           .bytes(1, piece("bbb", std::numeric_limits<float>::quiet_NaN()))
           .text(),
       "score"},
      {"an empty piece", small_model().bytes(1, piece("", 0)).text(), "piece 7"},
      {"a piece of type 7", small_model().bytes(1, piece("x", 0, 7)).text(), "type 7"},
      {"a piece of type 2^64 - 1", small_model().bytes(1, piece("x", 0, ~std::uint64_t{0})).text(), "type"},
      {"a piece twice", small_model().bytes(1, piece("a", 0)).text(), "\"a\""},
      {"a byte that is none", small_model().bytes(1, piece("<0xZZ>", 0, 6)).text(), "<0xZZ>"},
      {"an id outside of the pieces", trainer(message_builder().number(41, 7)), "bos_id"},
      {"an id beyond 32 bits", trainer(message_builder().number(40, std::uint64_t{1} << 40)), "unk_id"},
      // L#25258, SP#1269: the trie of a character map of a few bytes.
      {"a character map of one byte", normalizer(message_builder().bytes(2, "x")), "precompiled_charsmap"},
      {"a character map of three bytes", normalizer(message_builder().bytes(2, "xyz")), "precompiled_charsmap"},
      {"a character map whose trie is longer than it", normalizer(message_builder().bytes(2, "\xFF\xFF\xFF\xFFxyz")),
       "precompiled_charsmap"},
  };
  std::vector<hostile_case> cases;
  for (const auto& one : rows) {
    cases.push_back({one.about, [&] { read_model(one.bytes); }, {"tokenizer.model: ", one.part}});
  }
  check_refused(cases);
}

TEST_CASE("a piece of 100 KB in tokenizer.model, and one of a null byte") {
  // SP#1263: it overflowed a stack. SP#1308: it was refused.
  const auto long_piece = small_model().bytes(1, piece(std::string(100'000, 'b'), -9)).text();
  check_refused({{"100 KB", [&] { read_model(long_piece); }, {"tokenizer.model: ", "token 7", "100000 bytes"}}});
  CHECK_NOTHROW(read_model(small_model().bytes(1, piece(std::string_view("\0", 1), -9)).text()));
}

TEST_CASE("a tokenizer.model cut anywhere, or with any byte changed, is read or refused") {
  const auto whole = small_model().text();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(reads_or_refuses([&] { read_model(whole.substr(0, size)); }));
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    CAPTURE(at);
    for (const unsigned change : {0x01u, 0x02u, 0x04u, 0x08u, 0x10u, 0x20u, 0x40u, 0x80u, 0xFFu}) {
      auto changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ change);
      static_cast<void>(reads_or_refuses([&] { read_model(changed); }));
    }
  }
}

TEST_CASE("Tiktoken files") {
  struct row {
    const char* about;
    std::string bytes;
    const char* part;
  };
  const row rows[] = {
      {"no rank", "YQ==\n", "line 1"},
      {"a rank that is no number", "YQ== x\n", "line 1"},
      {"a rank beyond 64 bits", "YQ== 99999999999999999999\n", "line 1"},
      {"a negative rank", "YQ== -1\n", "line 1"},
      {"a rank that is left out", "YQ== 0\nYg== 2\n", "line 2"},
      {"a rank twice", "YQ== 0\nYg== 0\n", "line 2"},
      {"no base64", "Y!== 0\n", "line 1"},
      {"base64 of another length", "YQ= 0\n", "line 1"},
      {"a token of no bytes", " 0\n", "line 1"},
      {"padding alone", "==== 0\n", "line 1"},
      {"the same token twice", "YQ== 0\nYQ== 1\n", "\"a\""},
      {"no tokens", "\n", ""},
  };
  std::vector<hostile_case> cases;
  for (const auto& one : rows) {
    cases.push_back({one.about,
                     [&] {
                       static_cast<void>(
                           text::tokenizer(text::parse_tiktoken(one.bytes, "some.tiktoken", text::tiktoken_options{})));
                     },
                     {"some.tiktoken: ", one.part}});
  }
  check_refused(cases);
}
