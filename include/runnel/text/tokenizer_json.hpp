// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/json.hpp>
#include <runnel/text/tokenizer_companions.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

namespace detail {

/// Largest tokenizer.json that is read.
inline constexpr std::uint64_t most_tokenizer_bytes = std::uint64_t{256} << 20U;

/// Split patterns as tokenizer.json files spell them.
inline constexpr std::array<std::pair<std::string_view, pre_tokenizer_kind>, 5> known_patterns{{
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", pre_tokenizer_kind::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::qwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
     R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::o200k},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::tekken},
}};

/// Reads one parsed tokenizer.json into a `tokenizer_data`.
class tokenizer_json_reader {
 public:
  using steps = std::vector<io::json_object>;

  explicit tokenizer_json_reader(const io::json_document& document)
      : root_(document.root()), model_(root_.object("model")) {
    data_.source_name = document.source_name();
  }

  [[nodiscard]] tokenizer_data read() && {
    check_model();
    read_vocabulary();
    read_added_tokens();
    read_merges();
    read_unknown();
    data_.ignore_merges = model_.flag_or("ignore_merges", false);
    const auto cutters = root_.find("pre_tokenizer") ? steps_of("pre_tokenizer", "pretokenizers") : steps();
    if (!cutters.empty() && cutters.back().text("type") == "ByteLevel") {
      read_byte_level(cutters);
    } else {
      read_sentence_piece(cutters);
    }
    if (root_.find("post_processor")) read_post_processor();
    return std::move(data_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(data_.source_name, ": ", parts...);
  }

  void check_model() const {
    const auto type = model_.text_or("type", "BPE");
    if (type != "BPE") fail("model.type \"", type, "\" is not supported, expected BPE");
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model_.text_or(key, "").empty()) fail("model.", key, " is not supported, expected none");
    }
    if (model_.number_or("dropout", 0) != 0) fail("model.dropout makes ids random and is not supported");
  }

  // Places a token; ids may leave holes, but not so many that a small file makes a large table.
  void place(std::string_view token, std::int32_t id, std::size_t num_entries, token_type type) {
    const auto at = static_cast<std::size_t>(id);
    constexpr std::size_t most_holes = 65536;
    if (at >= num_entries + most_holes) {
      fail("token \"", token, "\" has id ", id, ", far beyond ", num_entries, " tokens");
    }
    if (at >= data_.tokens.size()) {
      data_.tokens.resize(at + 1);
      data_.types.resize(at + 1, token_type::unused);
    }
    if (data_.types[at] != token_type::unused && data_.tokens[at] != token) {
      fail("tokens \"", data_.tokens[at], "\" and \"", token, "\" both have id ", id);
    }
    data_.tokens[at] = token;
    data_.types[at] = type;
  }

  void read_vocabulary() {
    const auto vocabulary = model_.object("vocab");
    const io::json_value members = vocabulary.members();
    const std::size_t count = members.size();
    if (count == 0) fail("model.vocab is empty");
    data_.tokens.reserve(count);
    data_.types.reserve(count);
    for (const auto id : members) {
      place(id.name(), io::json_object::to_id(id, "model.vocab", id.name()), count, token_type::normal);
    }
  }

  void read_added_tokens() {
    if (!root_.find("added_tokens")) return;
    const auto list = root_.array("added_tokens");
    const std::size_t count = data_.tokens.size() + list.size();
    std::size_t i = 0;
    for (const auto added : list) {
      const io::json_object token(added, message("added_tokens[", i++, ']'));
      added_token_rule rule;
      rule.id = token.id("id");
      rule.strip_left = token.flag_or("lstrip", false);
      rule.strip_right = token.flag_or("rstrip", false);
      rule.normalized = token.flag_or("normalized", false);
      rule.single_word = token.flag_or("single_word", false);
      const bool special = token.flag_or("special", false);
      place(token.text("content"), rule.id, count, special ? token_type::control : token_type::user_defined);
      const bool plain = !rule.strip_left && !rule.strip_right && !rule.normalized && !rule.single_word;
      if (!plain) data_.added_rules.push_back(rule);
    }
  }

  void read_merges() {
    const auto list = model_.array("merges");
    data_.merges.reserve(list.size());
    std::size_t i = 0;
    for (const auto merge : list) {
      const auto fail = [&](std::string_view expected) {
        io::json_object::fail(message("model.merges[", i, ']'), expected, merge);
      };
      if (const auto both = merge.text()) {
        const auto space = both->find(' ', 1);
        if (space == std::string_view::npos) fail("two tokens and a space");
        data_.merges.emplace_back(both->substr(0, space), both->substr(space + 1));
      } else {
        if (!merge.is_array() || merge.size() != 2) fail("\"a b\" or [\"a\", \"b\"]");
        auto part = merge.begin();
        const auto left = (*part).text();
        const auto right = (*++part).text();
        if (!left || !right) fail("\"a b\" or [\"a\", \"b\"]");
        data_.merges.emplace_back(*left, *right);
      }
      ++i;
    }
  }

  [[nodiscard]] std::int32_t need_token(std::string_view token, std::string_view where) const {
    const auto found = std::find(data_.tokens.begin(), data_.tokens.end(), token);
    if (found == data_.tokens.end()) fail(where, ": token \"", token, "\" is not in the vocabulary");
    return static_cast<std::int32_t>(found - data_.tokens.begin());
  }

  void read_unknown() {
    if (!model_.find("unk_token")) return;
    data_.unknown = data_.missing_byte = need_token(model_.text("unk_token"), "model.unk_token");
    data_.fuse_missing = model_.flag_or("fuse_unk", false);
  }

  // The steps of member `key`, which is one or a Sequence that holds them under the name `list`.
  [[nodiscard]] steps steps_of(std::string_view key, std::string_view list) const {
    const auto member = root_.object(key);
    if (member.text("type") != "Sequence") return {member};
    steps found;
    for (const auto step : member.array(list)) found.emplace_back(step, std::string(key));
    return found;
  }

  // Byte-level BPE: what comes before the step ByteLevel is recognised by its structure.
  void read_byte_level(const steps& cutters) {
    if (model_.flag_or("byte_fallback", false)) fail("model.byte_fallback makes no sense with pre_tokenizer ByteLevel");
    if (root_.find("normalizer")) {
      for (const auto& step : steps_of("normalizer", "normalizers")) {
        const auto type = step.text("type");
        if (type != "NFC") fail("normalizer \"", type, "\" is not supported with ByteLevel, expected NFC or none");
        data_.nfc = true;
      }
    }
    if (cutters.back().flag_or("add_prefix_space", true)) {
      fail("pre_tokenizer.add_prefix_space is not supported, expected false");
    }
    const bool gpt2_cuts = cutters.back().flag_or("use_regex", true);
    if (cutters.size() == 1 && gpt2_cuts) {
      data_.pre_tokenizer = pre_tokenizer_kind::gpt2;
    } else if (cutters.size() == 2 && gpt2_cuts && cutters[0].text("type") == "Digits" &&
               cutters[0].flag_or("individual_digits", false)) {
      data_.pre_tokenizer = pre_tokenizer_kind::smollm;
    } else if (cutters.size() == 2 && !gpt2_cuts && cutters[0].text("type") == "Split") {
      data_.pre_tokenizer = known_split(cutters[0]);
    } else {
      fail(
          "this combination of pre-tokenizers is not supported, expected that of GPT-2, Llama 3, Qwen2, SmolLM, o200k ",
          "or Tekken");
    }
    if (!root_.find("decoder")) return;
    for (const auto& step : steps_of("decoder", "decoders")) {
      const auto type = step.text("type");
      if (type != "ByteLevel") fail("decoder \"", type, "\" is not supported here, expected ByteLevel");
    }
  }

  // SentencePiece: characters, with U+2581 for spaces, put there by the normaliser or by the pre-tokenizer Metaspace.
  void read_sentence_piece(const steps& cutters) {
    data_.form = vocabulary_form::sentence_piece;
    bool replaces = false;
    if (root_.find("normalizer")) {
      for (const auto& step : steps_of("normalizer", "normalizers")) replaces = read_normalizer(step) || replaces;
    }
    for (const auto& step : cutters) {
      const auto type = step.text("type");
      if (type == "Metaspace" && cutters.size() == 1) {
        read_metaspace(step);
        replaces = true;
      } else if (type == "Split" && replaces && step.object("pattern").text_or("String", "") == " " &&
                 step.text("behavior") == "MergedWithPrevious") {
        continue;  // no space is left after the normaliser
      } else {
        fail("pre_tokenizer ", type, " is not supported here, expected one that ends with ByteLevel, Metaspace alone, ",
             "or none after a normalizer that replaces spaces");
      }
    }
    if (!replaces) {
      fail("neither the normalizer nor the pre_tokenizer makes spaces \"\xE2\x96\x81\", and there is no ByteLevel: ",
           "this kind of tokenizer is not supported");
    }
    if (model_.flag_or("byte_fallback", false)) mark_bytes();
    if (root_.find("decoder")) read_decoder();
  }

  // Returns whether it replaces spaces.
  [[nodiscard]] bool read_normalizer(const io::json_object& step) {
    const auto type = step.text("type");
    if (type == "Replace") {
      const auto pattern = step.object("pattern").text_or("String", "");
      if (pattern == " " && step.text("content") == space_mark) return true;
      fail("normalizer Replace is supported for \" \" by \"\xE2\x96\x81\" only");
    }
    if (type == "Prepend") {
      if (step.text("prepend") != space_mark) fail("normalizer Prepend is supported for \"\xE2\x96\x81\" only");
      data_.prefix = space_prefix::each_segment;
    } else if (type == "NFC") {
      data_.nfc = true;
    } else {
      fail("normalizer \"", type, "\" is not supported, expected NFC, Prepend, Replace or none");
    }
    return false;
  }

  void read_metaspace(const io::json_object& step) {
    if (step.text_or("replacement", space_mark) != space_mark) {
      fail("pre_tokenizer.replacement is supported as \"\xE2\x96\x81\" only");
    }
    // Older files say only whether there is a prefix, and mean every stretch of text.
    const auto scheme = step.text_or("prepend_scheme", step.flag_or("add_prefix_space", true) ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      fail("pre_tokenizer.prepend_scheme \"", scheme, "\" is unknown, expected always, first or never");
    }
    if (scheme != "never") data_.prefix = scheme == "first" ? space_prefix::first_run : space_prefix::each_run;
    data_.split_spaces = step.flag_or("split", true);
  }

  // Tokens written like <0x0A> are bytes.
  void mark_bytes() {
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (data_.types[id] == token_type::normal && parse_byte_token(data_.tokens[id])) {
        data_.types[id] = token_type::byte;
      }
    }
  }

  void read_decoder() {
    for (const auto& step : steps_of("decoder", "decoders")) {
      const auto type = step.text("type");
      if (type == "Strip") {
        const auto start = step.integer_or("start", 0);
        if (step.text("content") != " " || start > 1 || start < 0 || step.integer_or("stop", 0) != 0) {
          fail("decoder Strip is supported for at most one space in front only");
        }
        data_.strip_leading_space = start == 1;
      } else if (type == "Replace") {
        const auto pattern = step.object("pattern").text_or("String", "");
        if (pattern != space_mark || step.text("content") != " ") {
          fail("decoder Replace is supported for \"\xE2\x96\x81\" by \" \" only");
        }
      } else if (type == "Metaspace") {
        const bool prefixed = step.text_or("prepend_scheme", "always") != "never";
        data_.strip_leading_space = prefixed && step.flag_or("add_prefix_space", true);
      } else if (type != "ByteFallback" && type != "Fuse") {
        fail("decoder \"", type, "\" is not supported here, expected Replace, ByteFallback, Fuse, Strip or Metaspace");
      }
    }
  }

  [[nodiscard]] pre_tokenizer_kind known_split(const io::json_object& split) const {
    const auto pattern = split.object("pattern").text("Regex");
    // The patterns leave nothing between their matches, so it makes no difference what becomes of that.
    const bool inverted = split.text("behavior") == "Removed" && split.flag_or("invert", false);
    if (!inverted && (split.text("behavior") != "Isolated" || split.flag_or("invert", false))) {
      fail("pre_tokenizer: Split is supported as Isolated, or as Removed and inverted, only");
    }
    for (const auto& [known, kind] : known_patterns) {
      if (pattern == known) return kind;
    }
    fail("pre_tokenizer: the pattern ", pattern, " is not supported, expected that of GPT-2, Llama 3, Qwen2, o200k or ",
         "Tekken");
  }

  // A template that begins with a special token is how a vocabulary says that texts begin with bos.
  void read_post_processor() {
    for (const auto& processor : steps_of("post_processor", "processors")) {
      if (processor.text("type") != "TemplateProcessing") continue;
      const auto single = processor.array("single");
      if (single.size() == 0) continue;
      const io::json_object first(*single.begin(), "post_processor.single[0]");
      if (!first.find("SpecialToken")) continue;
      data_.bos = need_token(first.object("SpecialToken").text("id"), "post_processor");
      data_.add_bos = true;
    }
  }

  io::json_object root_;
  io::json_object model_;
  tokenizer_data data_;
};

}  // namespace detail

/// The vocabulary in the text of a Hugging Face `tokenizer.json`: byte-level BPE with the pre-tokenizer of GPT-2,
/// Llama 3, Qwen2, SmolLM, o200k or Tekken, or SentencePiece's BPE with the normaliser or pre-tokenizer that puts
/// U+2581 for spaces. What a file asks for beyond that is refused. \throws format_error naming `source_name`, the key,
/// what was expected and what was found
[[nodiscard]] inline tokenizer_data parse_tokenizer_json(std::string_view text, const std::string& source_name) {
  const io::json_document document(text, source_name);
  return detail::tokenizer_json_reader(document).read();
}

/// The vocabulary in a `tokenizer.json`, given as that file or the folder that holds it; what `tokenizer_config.json`
/// (bos, eos and others, chat template), `generation_config.json` (further eos ids), `chat_template.jinja` and
/// `chat_format.json` beside it say is added.
/// \throws io_error if a file cannot be read \throws format_error as above
[[nodiscard]] inline tokenizer_data read_tokenizer_json(std::filesystem::path path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) path /= "tokenizer.json";
  const auto document = io::read_json_file(path, detail::most_tokenizer_bytes);
  auto data = detail::tokenizer_json_reader(document).read();
  detail::tokenizer_companions(path.parent_path(), data).read();
  return data;
}

}  // namespace runnel::text
