// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_json.hpp>

#include "support.hpp"

namespace text = runnel::text;
namespace io = runnel::io;
using runnel_test::failure;
using runnel_test::holds;

namespace {

const char* gguf_name(std::string_view golden) {
  if (golden == "gpt2") return "gpt-2";
  if (golden == "llama3") return "llama-bpe";
  return golden == "qwen2" ? "qwen2" : "smollm";
}

/// The keys that a converter would write for one of the golden vocabularies.
io::gguf_writer converted(const std::string& name) {
  const auto data = text::read_tokenizer_json(runnel_test::text_golden(name));
  io::gguf_writer out;
  out.set("general.architecture", "llama");
  out.set("tokenizer.ggml.model", "gpt2");
  out.set("tokenizer.ggml.pre", gguf_name(name));
  out.set("tokenizer.ggml.tokens", data.tokens);
  std::vector<std::int32_t> types;
  for (const auto type : data.types) types.push_back(static_cast<std::int32_t>(type));
  out.set("tokenizer.ggml.token_type", types);
  std::vector<std::string> merges;
  for (const auto& [left, right] : data.merges) merges.push_back(left + " " + right);
  out.set("tokenizer.ggml.merges", merges);
  return out;
}

text::tokenizer load(const io::gguf_writer& out) {
  const runnel_test::scratch_folder folder;
  out.write(folder / "model.gguf");
  return text::tokenizer(text::read_tokenizer_gguf(io::gguf_file(folder / "model.gguf")));
}

}  // namespace

TEST_CASE("GGUF and tokenizer.json give the same tokenizer") {
  for (const std::string name : runnel_test::vocabulary_names) {
    CAPTURE(name);
    auto out = converted(name);
    out.set("tokenizer.ggml.add_bos_token", false);
    const auto vocabulary = load(out);
    const auto other = runnel_test::golden_tokenizer(name);
    CHECK(vocabulary.vocabulary_size() == other.vocabulary_size());
    CHECK(vocabulary.normalizes_nfc() == other.normalizes_nfc());
    CHECK(vocabulary.pre_tokenizer() == other.pre_tokenizer());
    bool same = true;
    for (const auto& line : runnel_test::corpus()) same = same && vocabulary.encode(line) == other.encode(line);
    CHECK(same);
  }
}

TEST_CASE("optional keys") {
  auto out = converted("smollm");
  const auto bare = load(out);
  CHECK_FALSE(bare.bos().has_value());
  CHECK(bare.eos_ids().empty());
  CHECK(bare.chat_template().empty());
  CHECK_FALSE(bare.adds_bos());
  out.set("tokenizer.ggml.bos_token_id", std::uint32_t{2001});
  out.set("tokenizer.ggml.eos_token_id", std::uint32_t{2002});
  out.set("tokenizer.ggml.eot_token_id", std::uint32_t{2000});
  out.set("tokenizer.ggml.unknown_token_id", std::uint32_t{2000});
  out.set("tokenizer.ggml.padding_token_id", std::uint32_t{2002});
  out.set("tokenizer.ggml.add_bos_token", true);
  out.set("tokenizer.chat_template", "template");
  const auto full = load(out);
  CHECK(full.bos() == 2001);
  CHECK(full.is_eos(2000));
  CHECK(full.is_eos(2002));
  CHECK(full.unknown() == 2000);
  CHECK(full.padding() == 2002);
  CHECK(full.adds_bos());
  CHECK(full.chat_template() == "template");
  CHECK(holds(full.source_name(), "model.gguf"));

  auto llama = converted("llama3");
  llama.set("tokenizer.ggml.bos_token_id", std::uint32_t{2001});
  CHECK(load(llama).adds_bos());  // this kind of vocabulary does, unless the file says otherwise
}

TEST_CASE("malformed metadata is refused with file and key") {
  using change = std::function<void(io::gguf_writer&)>;
  const std::vector<std::string> few{"a", "b"};
  const std::vector<std::pair<change, std::string>> cases{
      {[](auto& w) { w.set("tokenizer.ggml.model", "bert"); }, "tokenizer.ggml.model \"bert\" is not supported"},
      {[](auto& w) { w.set("tokenizer.ggml.model", "llama"); }, "tokenizer.ggml.scores"},
      {[](auto& w) {
         w.set("tokenizer.ggml.model", "llama");
         w.set("tokenizer.ggml.scores", std::vector<float>(7, 1.0F));
       },
       "tokenizer.ggml.scores has 7 elements for 2007 tokens"},
      {[](auto& w) {
         w.set("tokenizer.ggml.model", "llama");
         w.set("tokenizer.ggml.scores", std::vector<std::string>(2007, "1"));
       },
       "tokenizer.ggml.scores"},
      {[](auto& w) {
         w.set("tokenizer.ggml.model", "llama");
         w.set("tokenizer.ggml.scores", std::vector<float>(2007, std::numeric_limits<float>::quiet_NaN()));
       },
       "the score of token 0 is not a number"},
      {[](auto& w) {
         w.set("tokenizer.ggml.model", "llama");
         w.set("tokenizer.ggml.scores", std::vector<float>(2007, 0.0F));
         w.set("tokenizer.ggml.add_space_prefix", "yes");
       },
       "tokenizer.ggml.add_space_prefix"},
      {[](auto& w) { w.set("tokenizer.ggml.model", std::uint32_t{1}); }, "tokenizer.ggml.model"},
      {[](auto& w) { w.set("tokenizer.ggml.pre", "default"); }, "tokenizer.ggml.pre: pre-tokenizer \"default\""},
      {[](auto& w) { w.set("tokenizer.ggml.tokens", "abc"); }, "tokenizer.ggml.tokens"},
      {[](auto& w) { w.set("tokenizer.ggml.tokens", std::vector<std::string>{}); }, "tokenizer.ggml.token_type has"},
      {[&](auto& w) { w.set("tokenizer.ggml.tokens", few); }, "elements for 2 tokens"},
      {[](auto& w) { w.set("tokenizer.ggml.token_type", std::vector<float>(2007, 1.0F)); },
       "tokenizer.ggml.token_type"},
      {[](auto& w) { w.set("tokenizer.ggml.token_type", std::vector<std::int32_t>(2007, 77)); }, "has type 77"},
      {[&](auto& w) { w.set("tokenizer.ggml.merges", few); },
       "tokenizer.ggml.merges[0]: expected two tokens and a space"},
      {[](auto& w) { w.set("tokenizer.ggml.merges", std::vector<std::string>{"\x01 \x02"}); },
       "which the vocabulary lacks"},
      {[](auto& w) { w.set("tokenizer.ggml.merges", std::vector<std::int32_t>{1}); }, "tokenizer.ggml.merges"},
      {[](auto& w) { w.set("tokenizer.ggml.bos_token_id", std::uint32_t{2007}); },
       "bos_token_id 2007 is outside the vocabulary"},
      {[](auto& w) { w.set("tokenizer.ggml.eos_token_id", std::int32_t{-1}); },
       "eos_token_id -1 is outside the vocabulary"},
      {[](auto& w) { w.set("tokenizer.ggml.eos_token_id", ~std::uint64_t{0}); }, "eos_token_id"},
      {[](auto& w) { w.set("tokenizer.ggml.eos_token_id", "2"); }, "eos_token_id"},
      {[](auto& w) { w.set("tokenizer.ggml.add_bos_token", std::uint32_t{1}); }, "add_bos_token"},
      {[](auto& w) { w.set("tokenizer.ggml.add_bos_token", true); }, "no bos id is given"},
      {[](auto& w) { w.set("tokenizer.chat_template", std::uint32_t{1}); }, "chat_template"},
  };
  for (const auto& [spoil, expected] : cases) {
    auto out = converted("smollm");
    spoil(out);
    const auto problem = failure<runnel::format_error>([&] { static_cast<void>(load(out)); });
    CHECK_MESSAGE(holds(problem, "model.gguf: "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
  }
  io::gguf_writer nothing;
  nothing.set("general.architecture", "llama");
  CHECK(holds(failure<runnel::format_error>([&] { static_cast<void>(load(nothing)); }), "tokenizer.ggml.model"));
}
