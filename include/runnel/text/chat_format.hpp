// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/json.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/text/built_in_formats.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::text {

/// What a source is made of.
enum class source_kind : std::uint8_t {
  text,   ///< words, each a segment of tokens
  audio,  ///< frames of an encoder, which take the place of the words' embeddings: between prefix and suffix, no tokens
};

/// How a model's own chat template is recognised as one of a format. Templates are only searched, never executed.
struct template_signs {
  std::vector<std::string> template_has;    ///< all of these must occur in the template; none at all: never recognised
  std::vector<std::string> template_lacks;  ///< none of these may
  std::vector<std::string> tokens;          ///< special tokens that the vocabulary must have

  friend bool operator==(const template_signs&, const template_signs&) = default;
};

/// A language that a model writes, and the instruction by which it does.
struct target_language {
  std::string code;  ///< "de"
  std::string instruction;

  friend bool operator==(const target_language&, const target_language&) = default;
};

/// The markup around a source and a target, in segments that are encoded one by one and whose ids are concatenated:
/// source_prefix, source words, source_suffix; target_prefix, target words, target_suffix. The first three are the
/// source's, the others the target's: positions of the target begin with target_prefix.
struct chat_format {
  std::string name;
  std::string source_prefix;         ///< before the first source word; `{instruction}` stands for the instruction
  std::string source_suffix;         ///< after the last source word
  std::string target_prefix;         ///< before the first target word: the header of the answer
  std::string target_suffix;         ///< after the last target word
  std::string word_separator = " ";  ///< at the front of every word but the first
  source_kind source = source_kind::text;
  std::string about{};  ///< for people: which models it is for, where it is from
  template_signs recognized_by{};
  std::vector<target_language> languages{};  ///< of a model of a few languages; the first is what is written unasked

  friend bool operator==(const chat_format&, const chat_format&) = default;
};

/// The instruction of the language that is called `name`, by its code or its instruction; of the first one for an empty
/// name. \throws config_error listing the languages
[[nodiscard]] inline const std::string& instruction_for(const chat_format& format, std::string_view name) {
  std::string list;
  for (const auto& one : format.languages) {
    if (name.empty() || one.code == name || one.instruction == name) return one.instruction;
    list += message(list.empty() ? "" : ", ", one.code);
  }
  fail<config_error>("chat format \"", format.name, "\": target language: expected ",
                     list.empty() ? "none, for it names no languages" : message("one of ", list), "; found ",
                     io::in_quotes(name));
}

namespace detail {

inline constexpr std::string_view instruction_placeholder = "{instruction}";

/// Reads the JSON of a format.
class chat_format_reader {
 public:
  chat_format_reader(const io::json_document& document, std::string_view name)
      : object_(document.root()), name_(name) {}

  [[nodiscard]] chat_format read() const {
    object_.check_names({"name", "about", "source", "source_prefix", "source_suffix", "target_prefix", "target_suffix",
                         "word_separator", "recognized_by", "languages"});
    chat_format format;
    format.name = object_.text_or("name", name_);
    format.about = object_.text_or("about", "");
    format.source = read_kind();
    format.source_prefix = joined("source_prefix");
    format.source_suffix = object_.find("source_suffix") ? joined("source_suffix") : std::string();
    format.target_prefix = joined("target_prefix");
    format.target_suffix = object_.find("target_suffix") ? joined("target_suffix") : std::string();
    format.word_separator = object_.text_or("word_separator", " ");
    if (object_.find("recognized_by")) format.recognized_by = read_signs(object_.object("recognized_by"));
    if (object_.find("languages")) format.languages = read_languages();
    const auto first = format.source_prefix.find(instruction_placeholder);
    const auto last = format.source_prefix.rfind(instruction_placeholder);
    expect<format_error>(first != std::string::npos && first == last, object_.source_name(),
                         ": source_prefix: expected ", instruction_placeholder, " once");
    return format;
  }

 private:
  [[nodiscard]] source_kind read_kind() const {
    const auto kind = object_.text_or("source", "text");
    if (kind == "audio") return source_kind::audio;
    expect<format_error>(kind == "text", object_.source_name(), ": source: expected text or audio, found ",
                         io::in_quotes(kind));
    return source_kind::text;
  }

  /// A text, or the texts of a list one after another.
  [[nodiscard]] std::string joined(std::string_view key) const {
    const auto member = object_.find(key);
    if (!member || !member->is_array()) return std::string(object_.text(key));
    std::string all;
    for (const auto& part : object_.texts(key)) all += part;
    return all;
  }

  [[nodiscard]] static template_signs read_signs(const io::json_object& object) {
    object.check_names({"template_has", "template_lacks", "tokens"});
    return {object.texts("template_has"), object.texts("template_lacks"), object.texts("tokens")};
  }

  [[nodiscard]] std::vector<target_language> read_languages() const {
    std::vector<target_language> list;
    for (const auto one : object_.array("languages")) {
      const io::json_object language(one, message("languages[", list.size(), "]"));
      language.check_names({"code", "instruction"});
      target_language next{std::string(language.text("code")), std::string(language.text("instruction"))};
      const auto same = [&](const target_language& other) { return other.code == next.code; };
      expect<format_error>(!next.code.empty() && std::none_of(list.begin(), list.end(), same), object_.source_name(),
                           ": languages: expected codes that differ, found ", io::in_quotes(next.code));
      list.push_back(std::move(next));
    }
    return list;
  }

  io::json_object object_;
  std::string_view name_;
};

}  // namespace detail

/// A format in JSON: an object with the members of `chat_format`, of which `source_prefix`, in which `{instruction}`
/// must stand once, and `target_prefix` are needed. Each of the four segments is a string, or a list of strings that
/// are joined; `source` is "text" (unless said otherwise) or "audio"; `recognized_by` is an object with the lists of
/// `template_signs`, `languages` a list of objects with the members of `target_language`. Without a `name` it is called
/// `source_name`. Special tokens are written as the vocabulary spells them. For example
///
///     {"source_prefix": "<|user|>\n{instruction}\n", "source_suffix": "<|end|>\n",
///      "target_prefix": "<|assistant|>\n", "target_suffix": "<|end|>\n"}
///
/// \throws format_error naming `source_name` and the member
[[nodiscard]] inline chat_format parse_chat_format(std::string_view text, const std::string& source_name) {
  constexpr std::size_t most_values = 4096;
  const io::json_document document(text, source_name, most_values);
  return detail::chat_format_reader(document, source_name).read();
}

/// The format in a JSON file of at most 1 MiB; see `parse_chat_format`. \throws io_error if it cannot be read
/// \throws format_error
[[nodiscard]] inline chat_format load_chat_format(const std::filesystem::path& path) {
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  constexpr std::size_t most = std::size_t{1} << 20U;
  expect<format_error>(bytes.size() <= most, file.name(), ": has ", bytes.size(), " bytes, expected at most ", most);
  return parse_chat_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name());
}

/// Names of the built-in formats.
[[nodiscard]] inline std::vector<std::string_view> chat_format_names() {
  std::vector<std::string_view> names;
  for (const auto& format : detail::built_in_formats) names.push_back(format.name);
  return names;
}

/// The built-in format called `name` as the text of a JSON file, to begin a format of one's own with.
/// \throws config_error listing the names
[[nodiscard]] inline std::string_view chat_format_json(std::string_view name) {
  std::string names;
  for (const auto& format : detail::built_in_formats) {
    if (format.name == name) return format.json;
    names += message(names.empty() ? "" : ", ", format.name);
  }
  fail<config_error>("chat format \"", name, "\" is unknown, expected one of ", names);
}

/// The built-in format called `name`. \throws config_error listing the names
[[nodiscard]] inline chat_format find_chat_format(std::string_view name) {
  return parse_chat_format(chat_format_json(name), std::string(name));
}

/// A special token that a format is written with and a vocabulary lacks; empty if there is none.
[[nodiscard]] inline std::string missing_token(const chat_format& format, const tokenizer& vocabulary) {
  for (const std::string& token : format.recognized_by.tokens) {
    const auto id = vocabulary.find(token);
    if (!id || !vocabulary.is_special(*id)) return token;
  }
  return {};
}

/// Whether a vocabulary's chat template has the signs of a format, and its special tokens exist.
[[nodiscard]] inline bool is_recognized(const chat_format& format, const tokenizer& vocabulary) {
  const template_signs& signs = format.recognized_by;
  const std::string_view written = vocabulary.chat_template();
  const auto occurs = [&](const std::string& sign) { return written.find(sign) != std::string_view::npos; };
  return !signs.template_has.empty() && std::all_of(signs.template_has.begin(), signs.template_has.end(), occurs) &&
         std::none_of(signs.template_lacks.begin(), signs.template_lacks.end(), occurs) &&
         missing_token(format, vocabulary).empty();
}

/// The first built-in format that a vocabulary's chat template is recognised as; else `plain`.
[[nodiscard]] inline chat_format detect_chat_format(const tokenizer& vocabulary) {
  for (const auto name : chat_format_names()) {
    auto format = find_chat_format(name);
    if (is_recognized(format, vocabulary)) return format;
  }
  return find_chat_format("plain");
}

/// The format of the model at `path`, whose vocabulary this is: what a folder's `chat_format.json` or a GGUF file's key
/// `runnel.chat_format` says (`runnel train` writes them), else the one that the template is recognised as.
/// \throws format_error if that is no format of such a source (nothing: of any) for this vocabulary
[[nodiscard]] inline chat_format chat_format_of(const std::filesystem::path& path, const tokenizer& vocabulary,
                                                std::optional<source_kind> source = source_kind::text) {
  if (vocabulary.chat_format().empty()) return detect_chat_format(vocabulary);
  std::error_code problem;
  const auto file = std::filesystem::is_directory(path, problem) ? (path / "chat_format.json").string()
                                                                 : path.string() + ": runnel.chat_format";
  auto format = parse_chat_format(vocabulary.chat_format(), file);
  const auto name_of = [](source_kind kind) { return kind == source_kind::text ? "text" : "audio"; };
  const auto missing = missing_token(format, vocabulary);
  const auto wanted = source.value_or(format.source);
  expect<format_error>(missing.empty() && format.source == wanted, file, ": expected a format of ", name_of(wanted),
                       " for this vocabulary, ",
                       missing.empty() ? message("found one of ", name_of(format.source))
                                       : message("which has no special token ", missing));
  return format;
}

/// Ids of one segment, encoded on its own. Only markup is to be parsed for special tokens; in other text nothing but
/// bytes is seen: neither control nor user-defined tokens. `continues` says that text stands before the segment, so
/// that tokenizers which put a space in front of a first word put none here.
[[nodiscard]] inline std::vector<std::int32_t> encode_segment(const tokenizer& vocabulary, std::string_view text,
                                                              bool parse_special, bool continues = true) {
  encode_options options;
  options.parse_special = options.parse_user_defined = parse_special;
  options.continues = continues;
  return vocabulary.encode(text, options);
}

/// Ids of a word with what separates it from the word before it, if there is one. Never special tokens. See
/// `encode_segment` for `continues`: false only for a word that nothing or markup stands before.
[[nodiscard]] inline std::vector<std::int32_t> encode_word(const tokenizer& vocabulary, std::string_view word,
                                                           std::string_view separator, bool continues = true) {
  return encode_segment(vocabulary, message(separator, word), false, continues);
}

/// Whether markup ends in a special token, so that what follows it is the beginning of a text; so does no markup.
[[nodiscard]] inline bool ends_in_token(const tokenizer& vocabulary, std::string_view markup) {
  const auto ids = encode_segment(vocabulary, markup, true);
  return ids.empty() || vocabulary.is_special(ids.back());
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
