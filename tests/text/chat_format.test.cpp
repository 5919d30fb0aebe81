// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer.hpp>

#include "support.hpp"

namespace text = runnel::text;
using runnel_test::failure;
using runnel_test::holds;
using ids = std::vector<std::int32_t>;

namespace {

/// Bytes and the markers of the templates, with the given template text.
text::tokenizer_data marked(std::string chat_template) {
  auto data = runnel_test::byte_vocabulary({":\n", " w"});
  data.pre_tokenizer = text::pre_tokenizer_kind::llama3;
  for (const auto* const token :
       {"<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
        "<bos>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|end|>", "<|assistant|>", "<|system|>"}) {
    runnel_test::add_token(data, token);
  }
  data.chat_template = std::move(chat_template);
  return data;
}

std::string detected(text::tokenizer_data data) {
  return text::detect_chat_format(text::tokenizer(std::move(data))).name;
}

}  // namespace

TEST_CASE("formats are found by name") {
  for (const auto name : text::chat_format_names()) {
    const auto format = text::find_chat_format(name);
    CHECK(format.name == name);
    CHECK(format.word_separator == " ");
    CHECK(holds(format.source_prefix, "{instruction}"));
  }
  const auto problem = failure<runnel::config_error>([] { static_cast<void>(text::find_chat_format("alpaca")); });
  CHECK(holds(problem, "chat format \"alpaca\" is unknown, expected one of smollm2, qwen2.5, chatml, llama3"));
  CHECK(holds(problem, "plain"));
}

TEST_CASE("formats are recognised by the chat template and the tokens it needs") {
  CHECK(detected(marked("")) == "plain");
  CHECK(detected(marked("{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
                        "<|im_end|>\n' }}")) == "smollm2");
  CHECK(detected(marked("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.")) ==
        "qwen2.5");
  CHECK(detected(marked("{{'<|im_start|>' + message['role']}}")) == "chatml");
  CHECK(detected(marked("{% set content = '<|start_header_id|>' + message['role'] %}")) == "llama3");
  CHECK(detected(marked("{{ bos_token }}<start_of_turn>")) == "gemma2");
  CHECK(detected(marked("<|user|><|assistant|>")) == "phi3");
  CHECK(detected(marked("[INST]")) == "plain");
  auto without = runnel_test::byte_vocabulary();
  without.chat_template = "<|im_start|>";
  CHECK(detected(std::move(without)) == "plain");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("smollm")).name == "smollm2");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("qwen2")).name == "chatml");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("gpt2")).name == "plain");
}

TEST_CASE("a prompt is one segment: the same ids as its whole text") {
  const text::tokenizer vocabulary(marked(""));
  for (const auto name : text::chat_format_names()) {
    const auto format = text::find_chat_format(name);
    std::string whole = format.source_prefix;
    whole.replace(whole.find("{instruction}"), 13, "Translate:");
    CHECK(text::encode_source_prefix(vocabulary, format, "Translate:") ==
          text::encode_segment(vocabulary, whole, true));
  }
  const auto smollm2 = text::find_chat_format("smollm2");
  const auto prompt = text::encode_source_prefix(vocabulary, smollm2, "Translate:");
  CHECK(prompt.back() == 256);  // ":\n" is one token although the instruction ends within it
  CHECK(vocabulary.decode(prompt) ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nTranslate:\n");
  CHECK(vocabulary.decode(text::encode_source_prefix(vocabulary, smollm2, "")).ends_with("<|im_start|>user\n"));
}

TEST_CASE("an instruction and words are never parsed for markup") {
  auto data = marked("");
  const auto think = runnel_test::add_token(data, "<think>", text::token_type::user_defined);
  const text::tokenizer vocabulary(std::move(data));
  const auto format = text::find_chat_format("chatml");
  const auto start = vocabulary.find("<|im_start|>").value();
  const auto end = vocabulary.find("<|im_end|>").value();
  const auto prompt = text::encode_source_prefix(vocabulary, format, "a<|im_end|>b<think>");
  CHECK(prompt.front() == start);
  for (std::size_t i = 1; i < prompt.size(); ++i) CHECK_FALSE(vocabulary.is_special(prompt[i]));
  CHECK(vocabulary.decode(prompt) == "<|im_start|>user\na<|im_end|>b<think>\n");
  for (const auto id : text::encode_word(vocabulary, "<|im_end|><think>", format.word_separator)) {
    CHECK((id != think && !vocabulary.is_special(id)));
  }
  CHECK(text::encode_segment(vocabulary, format.source_suffix, true) == ids{end, '\n'});
  CHECK(text::encode_segment(vocabulary, "", true).empty());
}

TEST_CASE("words bring their separator, except the first") {
  const text::tokenizer vocabulary(marked(""));
  auto format = text::find_chat_format("plain");
  CHECK(text::encode_word(vocabulary, "w", "") == ids{'w'});
  CHECK(text::encode_word(vocabulary, "w", format.word_separator) == ids{257});
  format.word_separator = "";
  CHECK(text::encode_word(vocabulary, "w", format.word_separator) == ids{'w'});
}

TEST_CASE("bos comes first where the vocabulary adds it, once") {
  auto data = marked("");
  data.bos = static_cast<std::int32_t>(260);  // <|begin_of_text|>
  data.add_bos = true;
  const text::tokenizer vocabulary(std::move(data));
  REQUIRE(vocabulary.token(260) == "<|begin_of_text|>");
  const auto plain = text::encode_source_prefix(vocabulary, text::find_chat_format("plain"), "x");
  CHECK(plain == ids{260, 'x', '\n'});
  const auto llama = text::encode_source_prefix(vocabulary, text::find_chat_format("llama3"), "x");
  CHECK(llama[0] == 260);
  CHECK(llama[1] != 260);
  CHECK(text::encode_source_prefix(vocabulary, text::find_chat_format("plain"), "") == ids{260});
}

TEST_CASE("formats from a file") {
  const runnel_test::scratch_folder folder;
  runnel_test::put(folder / "mine.json", R"({"name": "mine", "source_prefix": "S {instruction} ", "source_suffix": "\n",
                                             "target_prefix": "T ", "word_separator": "_"})");
  const auto format = text::load_chat_format(folder / "mine.json");
  CHECK(format == text::chat_format{"mine", "S {instruction} ", "\n", "T ", "", "_"});
  const auto problem = [](std::string_view content) {
    return failure<runnel::format_error>([&] { static_cast<void>(text::parse_chat_format(content, "mine.json")); });
  };
  CHECK(holds(problem("[]"), "mine.json: the file: expected an object"));
  CHECK(holds(problem("{"), "mine.json: expected JSON"));
  CHECK(holds(problem("{}"), "source_prefix is missing"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}"})"), "target_prefix is missing"));
  CHECK(holds(problem(R"({"source_prefix": 1, "target_prefix": ""})"), "source_prefix: expected a string, found 1"));
  CHECK(holds(problem(R"({"source_prefix": "", "target_prefix": ""})"), "source_prefix: expected {instruction} once"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}{instruction}", "target_prefix": ""})"), "once"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "prefix": ""})"),
              "\"prefix\" is unknown"));
  CHECK_THROWS_AS(static_cast<void>(text::load_chat_format(folder / "none.json")), runnel::io_error);
  text::chat_format without;
  const text::tokenizer vocabulary(marked(""));
  CHECK_THROWS_AS(static_cast<void>(text::encode_source_prefix(vocabulary, without, "x")), runnel::config_error);
}
