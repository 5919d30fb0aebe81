// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

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
    CHECK_FALSE(format.about.empty());
    CHECK(text::parse_chat_format(text::chat_format_json(name), std::string(name)) == format);
  }
  const auto problem = failure<runnel::config_error>([] { static_cast<void>(text::find_chat_format("alpaca")); });
  CHECK(holds(problem, "chat format \"alpaca\" is unknown, expected one of smollm3, smollm2, qwen2.5, "));
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
  CHECK(detected(marked("'Reasoning Mode: ' + mode, named SmolLM, trained by Hugging Face, <|im_start|>")) ==
        "smollm3");
  CHECK(detected(marked("'<|im_start|>system\nYou are a helpful assistant.<|im_end|>'")) == "qwen2");
  CHECK(detected(marked("<|im_start|>{% if enable_thinking is defined %}<think>")) == "qwen3");
  CHECK(detected(marked("Cutting Knowledge Date: <|start_header_id|>")) == "llama3.1");
  CHECK(detected(marked("<start_of_turn><start_of_image>")) == "gemma3");
  CHECK(detected(marked("[INST]")) == "plain");  // without its tokens
  auto without = runnel_test::byte_vocabulary();
  without.chat_template = "<|im_start|>";
  CHECK(detected(std::move(without)) == "plain");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("smollm")).name == "smollm2");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("qwen2")).name == "chatml");
  CHECK(text::detect_chat_format(runnel_test::golden_tokenizer("gpt2")).name == "plain");
}

TEST_CASE("a format whose special tokens a vocabulary lacks is told apart") {
  const auto vocabulary = runnel_test::golden_tokenizer("smollm");
  CHECK(text::missing_token(text::find_chat_format("chatml"), vocabulary).empty());
  CHECK(text::missing_token(text::find_chat_format("plain"), vocabulary).empty());
  CHECK(text::missing_token(text::find_chat_format("llama3"), vocabulary) == "<|start_header_id|>");
}

TEST_CASE("formats of Llama 2 and Mistral differ in spaces and special tokens") {
  const auto with = [](std::string chat_template, bool has_instruction_tokens) {
    auto data = marked(std::move(chat_template));
    runnel_test::add_token(data, "<s>");
    if (has_instruction_tokens) runnel_test::add_token(data, "[INST]");
    return detected(std::move(data));
  };
  CHECK(with("bos_token + '[INST] ' + '<<SYS>>'", false) == "llama2");
  CHECK(with("'[INST] ' + message['content'] + ' [/INST]'", false) == "mistral");
  CHECK(with("\"[INST] \" + message[\"content\"] + \"[/INST]\"", true) == "mistral-v3");
  CHECK(with("\"[INST]\" + message[\"content\"] + \"[/INST]\"", true) == "mistral-nemo");
}

namespace {

/// A sentence as a stream sees it: segments encoded one by one.
struct streamed {
  ids prompt;  ///< with the header of the answer
  ids whole;   ///< with the answer and its end
};

std::vector<std::string> words_of(std::string_view sentence) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < sentence.size();) {
    const auto end = std::min(sentence.find(' ', begin), sentence.size());
    words.emplace_back(sentence.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

streamed stream_through(const text::tokenizer& vocabulary, const text::chat_format& format,
                        const nlohmann::json& talk) {
  streamed out;
  const auto append = [](ids& all, const ids& more) { all.insert(all.end(), more.begin(), more.end()); };
  const auto append_words = [&](ids& all, const char* key) {
    std::string_view separator;
    for (const auto& word : words_of(talk[key].get<std::string>())) {
      append(all, text::encode_word(vocabulary, word, std::exchange(separator, format.word_separator)));
    }
  };
  out.prompt = text::encode_source_prefix(vocabulary, format, talk["instruction"].get<std::string>());
  append_words(out.prompt, "source");
  append(out.prompt, text::encode_segment(vocabulary, format.source_suffix, true));
  append(out.prompt, text::encode_segment(vocabulary, format.target_prefix, true));
  out.whole = out.prompt;
  append_words(out.whole, "target");
  append(out.whole, text::encode_segment(vocabulary, format.target_suffix, true));
  return out;
}

}  // namespace

TEST_CASE("formats write what the published chat templates write, in text and in ids") {
  const auto golden = nlohmann::json::parse(runnel_test::content(runnel_test::text_golden("chat_formats.json")));
  const text::tokenizer vocabulary(marked(""));
  const auto target = golden["target"].get<std::string>();
  CHECK(golden["formats"].size() == 16);
  for (const auto& item : golden["formats"].items()) {
    const std::string& name = item.key();
    const auto& expected = item.value();
    CAPTURE(name);
    const auto format = text::find_chat_format(name);
    const auto found = stream_through(vocabulary, format, golden);
    CHECK(vocabulary.decode(found.prompt) == expected["prompt"].get<std::string>());
    if (expected.contains("whole")) {
      auto whole = expected["whole"].get<std::string>();
      // A space that the tokenizers of these models put before a first word.
      if (name == "llama2" || name == "mistral-v3") whole.erase(whole.find(' ' + target), 1);
      CHECK(vocabulary.decode(found.whole) == whole);
    }
    if (expected.contains("ids")) {
      const auto real = runnel_test::golden_tokenizer(expected["vocabulary"].get<std::string>());
      CHECK(stream_through(real, format, golden).whole == expected["ids"].get<ids>());
    }
  }
}

TEST_CASE("formats of the paper's figures 3 and 4") {
  const text::tokenizer vocabulary(marked(""));
  struct figure {
    const char* name;
    const char* instruction;  // without the colon that some have
    const char* prompt;
    const char* header;
    const char* end;
  };
  const figure figures[] = {
      {"paper-gemma2", "Translate the following English paragraph to German",
       "<bos><start_of_turn>userTranslate the following English paragraph to German\n", "<start_of_turn>",
       "<end_of_turn>"},
      {"paper-phi3", "Translate the following English paragraph to German",
       "<|system|>Translate the following English paragraph to German:<|end|><|user|>", "<|assistant|>", "<|end|>"},
      {"paper-llama3.1", "Translate the following English paragraph to German",
       "<|begin_of_text|><|start_header_id|>system<|end_header_id|>Translate the following English paragraph to "
       "German:<|eot_id|><|start_header_id|>user<|end_header_id|>",
       "<|start_header_id|>assistant<|end_header_id|>", "<|eot_id|>"},
      {"paper-gemma2-speech", "Transcribe the following English audio to English text",
       "<bos><start_of_turn>userTranscribe the following English audio to English text\n", "<start_of_turn>",
       "<end_of_turn>"},
      {"paper-phi3-speech", "Transcribe the following English audio to English text",
       "<|system|>Transcribe the following English audio to English text:<|end|><|user|>", "<|assistant|>", "<|end|>"},
      {"paper-llama3.1-speech", "Transcribe the following English audio to English text",
       "<|begin_of_text|><|start_header_id|>system<|end_header_id|>Transcribe the following English audio to English "
       "text:<|eot_id|><|start_header_id|>user<|end_header_id|>",
       "<|start_header_id|>assistant<|end_header_id|>", "<|eot_id|>"},
  };
  for (const auto& one : figures) {
    CAPTURE(one.name);
    const auto format = text::find_chat_format(one.name);
    CHECK(vocabulary.decode(text::encode_source_prefix(vocabulary, format, one.instruction)) == one.prompt);
    CHECK(format.source_suffix == one.end);
    CHECK(format.target_prefix == one.header);
    CHECK(format.target_suffix == one.end);
    const bool speech = std::string_view(one.name).ends_with("-speech");
    CHECK(format.source == (speech ? text::source_kind::audio : text::source_kind::text));
  }
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

TEST_CASE("segments of SentencePiece vocabularies go on from one another") {
  text::tokenizer_data data;
  data.source_name = "pieces";
  data.form = text::vocabulary_form::sentence_piece;
  data.prefix = text::space_prefix::each_segment;
  data.tokens = {"\u2581", "a", "b", "\u2581a", "\u2581b", "\n", ":", "<s>", "<e>"};
  data.types.assign(data.tokens.size(), text::token_type::normal);
  data.types[7] = data.types[8] = text::token_type::control;
  data.merges = {{"\u2581", "a"}, {"\u2581", "b"}};
  const text::tokenizer vocabulary(std::move(data));
  const text::chat_format after_text{"text", "<s>{instruction}\n", "<e>", ":", ""};
  CHECK(text::encode_source_prefix(vocabulary, after_text, "a") == ids{7, 3, 5});
  CHECK_FALSE(text::ends_in_token(vocabulary, after_text.source_prefix));
  CHECK(text::encode_word(vocabulary, "a", "") == ids{1});  // as in "\na b"
  CHECK(text::encode_word(vocabulary, "b", " ") == ids{4});
  CHECK(text::encode_segment(vocabulary, " b:", true) == ids{4, 6});
  CHECK(text::ends_in_token(vocabulary, "{instruction}<e>"));
  CHECK(text::encode_word(vocabulary, "a", "", false) == ids{3});  // as in "<e>a b"
  // What a stream gives is what the whole text gives.
  CHECK(vocabulary.encode("<s>a\na b a<e>", {true}) == ids{7, 3, 5, 1, 4, 3, 8});
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
  const auto full = text::parse_chat_format(
      R"({"about": "mine", "source": "audio", "source_prefix": ["S ", "{instruc", "tion}"], "source_suffix": [],
          "target_prefix": ["T"], "recognized_by": {"template_has": ["a", "b"], "tokens": ["<s>"]}})",
      "file.json");
  CHECK(full.name == "file.json");
  CHECK(full.source == text::source_kind::audio);
  CHECK(full.source_prefix == "S {instruction}");
  CHECK(full.source_suffix.empty());
  CHECK(full.target_prefix == "T");
  CHECK(full.recognized_by == text::template_signs{{"a", "b"}, {}, {"<s>"}});
  const auto problem = [](std::string_view content) {
    return failure<runnel::format_error>([&] { static_cast<void>(text::parse_chat_format(content, "mine.json")); });
  };
  const auto speaks = [](const std::string& languages) {
    return R"({"source_prefix": "{instruction}", "target_prefix": "", "languages": )" + languages + "}";
  };
  const std::string two = R"([{"code": "de", "instruction": "German"}, {"code": "fr", "instruction": "French"}])";
  const auto polyglot = text::parse_chat_format(speaks(two), "file.json");
  CHECK(text::instruction_for(polyglot, "") == "German");
  CHECK(text::instruction_for(polyglot, "fr") == "French");
  CHECK(text::instruction_for(polyglot, "French") == "French");
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(text::instruction_for(polyglot, "it")); }),
              "expected one of de, fr; found 'it'"));
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(text::instruction_for(format, "")); }),
              "names no languages"));
  CHECK(holds(problem(speaks("{}")), "mine.json: languages: expected an array"));
  CHECK(holds(problem(speaks(R"([{"code": "de"}])")), "mine.json: languages[0].instruction is missing"));
  CHECK(holds(problem(speaks(R"([{"code": "", "instruction": "German"}])")), "expected codes that differ, found ''"));
  CHECK(holds(problem(speaks(R"([{"code": "de", "instruction": ""}, {"code": "de", "instruction": ""}])")),
              "expected codes that differ, found 'de'"));
  CHECK(holds(problem(speaks(R"([{"code": "de", "instruction": "", "name": ""}])")), "'name' is unknown"));
  CHECK(holds(problem("[]"), "mine.json: the file: expected an object"));
  CHECK(holds(problem("{"), "mine.json: expected JSON"));
  CHECK(holds(problem("{}"), "source_prefix is missing"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}"})"), "target_prefix is missing"));
  CHECK(holds(problem(R"({"source_prefix": 1, "target_prefix": ""})"), "source_prefix: expected a string, found 1"));
  CHECK(holds(problem(R"({"source_prefix": "", "target_prefix": ""})"), "source_prefix: expected {instruction} once"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}{instruction}", "target_prefix": ""})"), "once"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "prefix": ""})"),
              "mine.json: 'prefix' is unknown, expected one of name, about, source, source_prefix"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "target_prefix": ""})"),
              "mine.json: target_prefix occurs more than once"));
  CHECK(holds(problem(R"({"source_prefix": ["{instruction}", 7], "target_prefix": ""})"),
              "mine.json: source_prefix[1]: expected a string, found 7"));
  CHECK(holds(problem(R"({"source_prefix": {}, "target_prefix": ""})"),
              "source_prefix: expected a string, found object"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "source": "video"})"),
              "mine.json: source: expected text or audio, found 'video'"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "recognized_by": ["x"]})"),
              "mine.json: recognized_by: expected an object, found array"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "recognized_by": {"has": []}})"),
              "mine.json: recognized_by.'has' is unknown, expected one of template_has, template_lacks, tokens"));
  CHECK(holds(problem(R"({"source_prefix": "{instruction}", "target_prefix": "", "recognized_by": {"tokens": [1]}})"),
              "mine.json: recognized_by.tokens[0]: expected a string, found 1"));
  std::string many = R"({"source_prefix": [")";
  for (int i = 0; i < 5000; ++i) many += R"(","x)";
  CHECK(holds(problem(many + R"("]})"), "more than 4096 values"));
  CHECK_THROWS_AS(static_cast<void>(text::load_chat_format(folder / "none.json")), runnel::io_error);
  text::chat_format without;
  const text::tokenizer vocabulary(marked(""));
  CHECK_THROWS_AS(static_cast<void>(text::encode_source_prefix(vocabulary, without, "x")), runnel::config_error);
}
