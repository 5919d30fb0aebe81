// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/json.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::text {

/// The markup around a source and a target, in segments that are encoded one by one:
/// source_prefix, source words, source_suffix; target_prefix, target words, target_suffix.
struct chat_format {
  std::string name;
  std::string source_prefix;         ///< before the first source word; `{instruction}` stands for the instruction
  std::string source_suffix;         ///< after the last source word
  std::string target_prefix;         ///< before the first target word: the header of the answer
  std::string target_suffix;         ///< after the last target word
  std::string word_separator = " ";  ///< at the front of every word but the first

  friend bool operator==(const chat_format&, const chat_format&) = default;
};

namespace detail {

inline constexpr std::string_view instruction_placeholder = "{instruction}";

/// A built-in format: name, source prefix, source suffix, target prefix, target suffix.
using chat_format_row = std::array<std::string_view, 5>;

/// The chat templates that models were published with, and, named `paper-`, the formats of arXiv 2505.16983, figure 3,
/// which leave out line breaks (that of Qwen2.5 is from its code).
inline constexpr std::array<chat_format_row, 11> chat_format_table{{
    {"smollm2",
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n{instruction}\n",
     "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"},
    {"qwen2.5",
     "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n{instruction}\n",
     "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"},
    {"chatml", "<|im_start|>user\n{instruction}\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"},
    {"llama3", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{instruction}\n", "<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
    {"gemma2", "<bos><start_of_turn>user\n{instruction}\n", "<end_of_turn>\n", "<start_of_turn>model\n",
     "<end_of_turn>\n"},
    {"phi3", "<|user|>\n{instruction}\n", "<|end|>\n", "<|assistant|>\n", "<|end|>\n"},
    {"plain", "{instruction}\n", "\n", "", "\n"},
    {"paper-gemma2", "<bos><start_of_turn>user{instruction}\n", "<end_of_turn>", "<start_of_turn>", "<end_of_turn>"},
    {"paper-phi3", "<|system|>{instruction}<|end|><|user|>", "<|end|>", "<|assistant|>", "<|end|>"},
    {"paper-llama3.1",
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>{instruction}<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>",
     "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>", "<|eot_id|>"},
    {"paper-qwen2.5", "<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n",
     "<|im_start|>assistant\n", "<|im_end|>\n"},
}};

[[nodiscard]] inline chat_format make_chat_format(const chat_format_row& row) {
  return {std::string(row[0]), std::string(row[1]), std::string(row[2]), std::string(row[3]), std::string(row[4]), " "};
}

}  // namespace detail

/// Names of the built-in formats.
[[nodiscard]] inline std::vector<std::string_view> chat_format_names() {
  std::vector<std::string_view> names;
  for (const auto& row : detail::chat_format_table) names.push_back(row[0]);
  return names;
}

/// The built-in format called `name`. \throws config_error listing the names
[[nodiscard]] inline chat_format find_chat_format(std::string_view name) {
  std::string names;
  for (const auto& row : detail::chat_format_table) {
    if (row[0] == name) return detail::make_chat_format(row);
    names += message(names.empty() ? "" : ", ", row[0]);
  }
  fail<config_error>("chat format \"", name, "\" is unknown, expected one of ", names);
}

/// The built-in format that a vocabulary's chat template asks for, if its special tokens exist; else `plain`.
[[nodiscard]] inline chat_format detect_chat_format(const tokenizer& vocabulary) {
  const std::string_view written = vocabulary.chat_template();
  // What the template must contain, the token that must exist, and the format; the first row that fits wins.
  constexpr std::array<std::array<std::string_view, 3>, 6> rules{{
      {"named SmolLM, trained by Hugging Face", "<|im_start|>", "smollm2"},
      {"You are Qwen, created by Alibaba Cloud", "<|im_start|>", "qwen2.5"},
      {"<|im_start|>", "<|im_start|>", "chatml"},
      {"<|start_header_id|>", "<|start_header_id|>", "llama3"},
      {"<start_of_turn>", "<start_of_turn>", "gemma2"},
      {"<|assistant|>", "<|end|>", "phi3"},
  }};
  for (const auto& [sign, token, name] : rules) {
    if (written.find(sign) == std::string_view::npos) continue;
    const auto id = vocabulary.find(token);
    if (id && vocabulary.is_special(*id)) return find_chat_format(name);
  }
  return find_chat_format("plain");
}

/// A format in JSON: an object with the string members of `chat_format`, of which `source_prefix`, which must contain
/// `{instruction}` once, and `target_prefix` are needed. \throws format_error
[[nodiscard]] inline chat_format parse_chat_format(std::string_view text, const std::string& source_name) {
  const io::json_document document(text, source_name);
  const io::json_object object(document.root());
  for (const auto member : object.members()) {
    const auto key = member.name();
    const bool known = key == "name" || key == "source_prefix" || key == "source_suffix" || key == "target_prefix" ||
                       key == "target_suffix" || key == "word_separator";
    expect<format_error>(known, source_name, ": \"", key,
                         "\" is unknown, expected name, source_prefix, source_suffix, target_prefix, target_suffix or "
                         "word_separator");
  }
  chat_format format;
  format.name = object.text_or("name", source_name);
  format.source_prefix = object.text("source_prefix");
  format.source_suffix = object.text_or("source_suffix", "");
  format.target_prefix = object.text("target_prefix");
  format.target_suffix = object.text_or("target_suffix", "");
  format.word_separator = object.text_or("word_separator", " ");
  const auto first = format.source_prefix.find(detail::instruction_placeholder);
  const auto last = format.source_prefix.rfind(detail::instruction_placeholder);
  expect<format_error>(first != std::string::npos && first == last, source_name, ": source_prefix: expected ",
                       detail::instruction_placeholder, " once");
  return format;
}

/// The format in a JSON file; see `parse_chat_format`. \throws io_error if it cannot be read \throws format_error
[[nodiscard]] inline chat_format load_chat_format(const std::filesystem::path& path) {
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  constexpr std::size_t most = std::size_t{1} << 20U;
  expect<format_error>(bytes.size() <= most, file.name(), ": has ", bytes.size(), " bytes, expected at most ", most);
  return parse_chat_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name());
}

/// Ids of one segment, encoded on its own. Only markup is to be parsed for special tokens; in other text nothing but
/// bytes is seen: neither control nor user-defined tokens.
[[nodiscard]] inline std::vector<std::int32_t> encode_segment(const tokenizer& vocabulary, std::string_view text,
                                                              bool parse_special) {
  encode_options options;
  options.parse_special = options.parse_user_defined = parse_special;
  return vocabulary.encode(text, options);
}

/// Ids of a word with what separates it from the word before it, if there is one. Never special tokens.
[[nodiscard]] inline std::vector<std::int32_t> encode_word(const tokenizer& vocabulary, std::string_view word,
                                                           std::string_view separator) {
  return encode_segment(vocabulary, message(separator, word), false);
}

/// Ids of the source prefix with `instruction` in its place. The instruction is never parsed for special tokens. Where
/// it is empty, a line break after its place is left out. The bos id comes first if the vocabulary adds one and the
/// format does not write it. \throws config_error if the format lacks the place for the instruction
[[nodiscard]] inline std::vector<std::int32_t> encode_source_prefix(const tokenizer& vocabulary,
                                                                    const chat_format& format,
                                                                    std::string_view instruction) {
  const std::string_view prefix = format.source_prefix;
  const auto place = prefix.find(detail::instruction_placeholder);
  expect(place != std::string_view::npos, "chat format \"", format.name, "\": source_prefix: expected ",
         detail::instruction_placeholder);
  std::string_view after = prefix.substr(place + detail::instruction_placeholder.size());
  if (instruction.empty() && after.starts_with('\n')) after.remove_prefix(1);
  const std::array parts{text_part{prefix.substr(0, place), true, true}, text_part{instruction, false, false},
                         text_part{after, true, true}};
  auto ids = vocabulary.encode_parts(parts);
  if (vocabulary.adds_bos() && (ids.empty() || ids.front() != vocabulary.bos())) {
    ids.insert(ids.begin(), *vocabulary.bos());
  }
  return ids;
}

}  // namespace runnel::text
