// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/text/canonical_merges.hpp>
#include <runnel/text/json_writer.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_json.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

namespace detail {

/// Writes a vocabulary as the files that `tokenizer_json_reader` and Hugging Face's tokenizers read.
class tokenizer_json_writer {
 public:
  explicit tokenizer_json_writer(const tokenizer_data& data)
      : source_(data), tables_(data), data_(tables_.data()), merges_(listed_merges(tables_)) {
    expect_utf8(data);
    expect_sayable();
    spell_tokens();
  }

  [[nodiscard]] std::string tokenizer() {
    json_writer out;
    out.begin_object();
    out.member("version", "1.0");
    out.member("truncation", nullptr);
    out.member("padding", nullptr);
    write_added_tokens(out);
    if (tables_.is_sentence_piece()) {
      write_sentence_piece(out);
    } else {
      write_byte_level(out);
    }
    write_post_processor(out);
    write_model(out);
    out.end();
    return out.text() + '\n';
  }

  [[nodiscard]] std::string config() const {
    json_writer out;
    out.begin_object();
    out.member("add_bos_token", data_.add_bos);
    out.member("clean_up_tokenization_spaces", false);
    out.member("tokenizer_class", "PreTrainedTokenizerFast");
    const auto name = [&](std::string_view key, std::optional<std::int32_t> id) {
      if (id) out.member(key, spelled_[static_cast<std::size_t>(*id)]);
    };
    name("bos_token", data_.bos);
    if (!source_.eos_ids.empty()) name("eos_token", source_.eos_ids.front());
    name("unk_token", data_.unknown);
    name("pad_token", data_.padding);
    if (!data_.chat_template.empty()) out.member("chat_template", data_.chat_template);
    out.end();
    return out.text() + '\n';
  }

  /// Several tokens that end a text; empty where `config` says the only one.
  [[nodiscard]] std::string generation_config() const {
    if (data_.eos_ids.size() < 2) return {};
    json_writer out;
    out.begin_object();
    if (data_.bos) out.member("bos_token_id", *data_.bos);
    out.key("eos_token_id");
    out.begin_array(true);
    std::unordered_set<std::int32_t> listed;
    for (const auto id : source_.eos_ids) {
      if (listed.insert(id).second) out.value(id);
    }
    out.end();
    if (data_.padding) out.member("pad_token_id", *data_.padding);
    out.end();
    return out.text() + '\n';
  }

 private:
  template <class... Parts>
  void expect_said(bool condition, const Parts&... parts) const {
    expect(condition, source_.source_name, ": tokenizer.json cannot say that ", parts...);
  }

  [[nodiscard]] token_type type_of(std::int32_t id) const { return data_.types[static_cast<std::size_t>(id)]; }

  [[nodiscard]] bool is_added(std::size_t id) const {
    return is_markup(data_.types[id]) || data_.types[id] == token_type::user_defined;
  }

  void expect_sayable() const {
    expect_said(!data_.collapse_spaces, "runs of spaces are one");
    expect_said(data_.prefix != space_prefix::each_segment || !data_.split_spaces,
                "a space stands in front of all text, and no merge goes on into one");
    const auto expect_added = [&](std::string_view what, std::optional<std::int32_t> id) {
      expect_said(!id || is_added(static_cast<std::size_t>(*id)), "its ", what, " token ", id.value_or(0),
                  " is ordinary text, but ", io::in_quotes(data_.tokens[static_cast<std::size_t>(id.value_or(0))]),
                  " is");
    };
    expect_added("bos", data_.bos);
    expect_added("unknown", data_.unknown);
    expect_added("padding", data_.padding);
    if (!source_.eos_ids.empty()) expect_added("eos", source_.eos_ids.front());
    expect_said(!data_.missing_byte || can_stay(static_cast<std::size_t>(*data_.missing_byte)),
                "an unused token stands for what has none");
  }

  /// Whether readers that know no unused tokens would never make text this one.
  [[nodiscard]] bool can_stay(std::size_t id) const {
    if (data_.types[id] != token_type::unused) return true;
    const auto& token = data_.tokens[id];
    return !token.empty() && !data_.ignore_merges && unicode::length(token) > 1 && !parse_byte_token(token) &&
           tables_.find(token) == static_cast<std::int32_t>(id);
  }

  /// Every token as the files spell it; empty: left out.
  void spell_tokens() {
    const bool has_bytes = tables_.is_sentence_piece() && has_type(token_type::byte);
    std::vector<bool> is_merged(data_.tokens.size());
    for (const auto& rule : merges_) {
      for (const auto id : {rule.left, rule.right, rule.merged}) is_merged[static_cast<std::size_t>(id)] = true;
    }
    std::unordered_set<std::string_view> taken;
    spelled_.resize(data_.tokens.size());
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!can_stay(id)) continue;
      const auto type = data_.types[id];
      const auto byte = parse_byte_token(data_.tokens[id]);
      if (!tables_.is_sentence_piece()) {
        expect_said(type != token_type::byte || !byte, "token ", id, " is a byte beside GPT-2's alphabet");
        spelled_[id] = data_.tokens[id];
      } else if (type == token_type::byte) {
        spelled_[id] = spell_byte(*byte);
      } else {
        expect_said(!byte || !has_bytes || is_added(id), "token ", id, " (", io::in_quotes(data_.tokens[id]),
                    ") is text and no byte");
        spelled_[id] = is_added(id) && !is_merged[id] ? data_.tokens[id] : spell_piece(id);
      }
      expect_said(taken.insert(spelled_[id]).second, "token ", id, " is one of two that are both ",
                  io::in_quotes(spelled_[id]));
    }
  }

  [[nodiscard]] static std::string spell_byte(std::uint8_t byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    return {'<', '0', 'x', digits[byte >> 4U], digits[byte & 15U], '>'};
  }

  /// Merges work on text in which U+2581 stands for spaces.
  [[nodiscard]] std::string spell_piece(std::size_t id) const {
    const auto& token = data_.tokens[id];
    if (token.find(' ') == std::string::npos) return token;
    // A run of spaces that is looked for as a whole comes out of merges just so; other tokens may not.
    expect_said(!is_added(id) || token.find_first_not_of(' ') == std::string::npos, "token ", id, " (",
                io::in_quotes(token), ") is looked for in text and made by merges, with plain spaces");
    std::string out;
    for (const char c : token) {
      if (c == ' ') {
        out += space_mark;
      } else {
        out += c;
      }
    }
    return out;
  }

  [[nodiscard]] bool has_type(token_type wanted) const {
    return std::find(data_.types.begin(), data_.types.end(), wanted) != data_.types.end();
  }

  void write_added_tokens(json_writer& out) const {
    const auto rules = effective_rules(data_.added_rules, data_.types);
    auto rule = rules.begin();
    out.key("added_tokens");
    out.begin_array();
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!is_added(id)) continue;
      const auto number = static_cast<std::int32_t>(id);
      added_token_rule flags;
      while (rule != rules.end() && rule->id < number) ++rule;
      if (rule != rules.end() && rule->id == number) flags = *rule;
      out.begin_object(true);
      out.member("id", number);
      out.member("content", spelled_[id]);
      out.member("single_word", flags.single_word);
      out.member("lstrip", flags.strip_left);
      out.member("rstrip", flags.strip_right);
      out.member("normalized", flags.normalized);
      out.member("special", is_markup(data_.types[id]));
      out.end();
    }
    out.end();
  }

  struct step {
    std::string_view type;
    std::vector<std::pair<std::string_view, std::string_view>> texts = {};
    std::vector<std::pair<std::string_view, bool>> flags = {};
    std::string_view pattern_kind = {};
    std::string_view pattern = {};
    int start = -1;
  };

  static void write_step(json_writer& out, const step& one) {
    out.begin_object(true);
    out.member("type", one.type);
    if (!one.pattern_kind.empty()) {
      out.key("pattern");
      out.begin_object();
      out.member(one.pattern_kind, one.pattern);
      out.end();
    }
    for (const auto& [name, text] : one.texts) out.member(name, text);
    for (const auto& [name, flag] : one.flags) out.member(name, flag);
    if (one.start >= 0) {
      out.member("start", one.start);
      out.member("stop", 0);
    }
    out.end();
  }

  /// None, one, or several in a Sequence.
  static void write_steps(json_writer& out, std::string_view key, std::string_view list,
                          const std::vector<step>& steps) {
    out.key(key);
    if (steps.empty()) return out.value(nullptr);
    if (steps.size() == 1) return write_step(out, steps.front());
    out.begin_object();
    out.member("type", "Sequence");
    out.key(list);
    out.begin_array();
    for (const auto& one : steps) write_step(out, one);
    out.end();
    out.end();
  }

  [[nodiscard]] std::vector<step> normalizers() const {
    std::vector<step> steps;
    if (data_.nfc) steps.push_back({"NFC"});
    return steps;
  }

  void write_byte_level(json_writer& out) const {
    write_steps(out, "normalizer", "normalizers", normalizers());
    const auto kind = data_.pre_tokenizer;
    const bool own_cuts = kind == pre_tokenizer_kind::gpt2 || kind == pre_tokenizer_kind::smollm;
    const auto byte_level = [](bool prefix, bool cuts) {
      return step{"ByteLevel", {}, {{"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", cuts}}};
    };
    std::vector<step> cutters;
    if (kind == pre_tokenizer_kind::smollm) cutters.push_back({"Digits", {}, {{"individual_digits", true}}});
    if (!own_cuts) {
      const auto* const known = std::find_if(known_patterns.begin(), known_patterns.end(),
                                             [&](const auto& one) { return one.second == kind; });
      cutters.push_back({"Split", {{"behavior", "Isolated"}}, {{"invert", false}}, "Regex", known->first});
    }
    cutters.push_back(byte_level(false, own_cuts));
    write_steps(out, "pre_tokenizer", "pretokenizers", cutters);
    write_steps(out, "decoder", "decoders", {byte_level(true, true)});
  }

  void write_sentence_piece(json_writer& out) const {
    auto steps = normalizers();
    std::vector<step> cutters;
    const bool each_segment = data_.prefix == space_prefix::each_segment;
    if (each_segment || (data_.prefix == space_prefix::none && !data_.split_spaces)) {
      if (each_segment) steps.push_back({"Prepend", {{"prepend", space_mark}}});
      steps.push_back({"Replace", {{"content", space_mark}}, {}, "String", " "});
    } else {
      const std::string_view scheme = data_.prefix == space_prefix::each_run    ? "always"
                                      : data_.prefix == space_prefix::first_run ? "first"
                                                                                : "never";
      cutters.push_back(
          {"Metaspace", {{"replacement", space_mark}, {"prepend_scheme", scheme}}, {{"split", data_.split_spaces}}});
    }
    write_steps(out, "normalizer", "normalizers", steps);
    write_steps(out, "pre_tokenizer", "pretokenizers", cutters);
    std::vector<step> decoders{{"Replace", {{"content", " "}}, {}, "String", space_mark}, {"ByteFallback"}, {"Fuse"}};
    if (data_.strip_leading_space) decoders.push_back({"Strip", {{"content", " "}}, {}, {}, {}, 1});
    write_steps(out, "decoder", "decoders", decoders);
  }

  // A template in which bos stands first: what its readers take for the model's wish to have it there.
  void write_post_processor(json_writer& out) const {
    out.key("post_processor");
    if (!data_.add_bos) return out.value(nullptr);
    const auto& bos = spelled_[static_cast<std::size_t>(*data_.bos)];
    const auto part = [&](std::string_view kind, std::string_view id, int type_id) {
      out.begin_object(true);
      out.key(kind);
      out.begin_object();
      out.member("id", id);
      out.member("type_id", type_id);
      out.end();
      out.end();
    };
    out.begin_object();
    out.member("type", "TemplateProcessing");
    for (const bool pair : {false, true}) {
      out.key(pair ? "pair" : "single");
      out.begin_array();
      for (const int text : {0, 1}) {
        if (text == 1 && !pair) break;
        part("SpecialToken", bos, text);
        part("Sequence", text == 0 ? "A" : "B", text);
      }
      out.end();
    }
    out.key("special_tokens");
    out.begin_object();
    out.key(bos);
    out.begin_object();
    out.member("id", bos);
    out.key("ids");
    out.begin_array(true);
    out.value(*data_.bos);
    out.end();
    out.key("tokens");
    out.begin_array(true);
    out.value(bos);
    out.end();
    out.end();
    out.end();
    out.end();
  }

  void write_model(json_writer& out) const {
    out.key("model");
    out.begin_object();
    out.member("type", "BPE");
    for (const auto* const none : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      out.member(none, nullptr);
    }
    out.key("unk_token");
    if (data_.missing_byte) {
      out.value(spelled_[static_cast<std::size_t>(*data_.missing_byte)]);
    } else {
      out.value(nullptr);
    }
    out.member("fuse_unk", data_.missing_byte.has_value() && data_.fuse_missing);
    out.member("byte_fallback", tables_.is_sentence_piece() && has_type(token_type::byte));
    out.member("ignore_merges", data_.ignore_merges);
    out.key("vocab");
    out.begin_object();
    std::size_t written = 0;
    for (std::size_t id = 0; id < spelled_.size(); ++id) {
      if (spelled_[id].empty()) continue;
      out.member(spelled_[id], id);
      ++written;
    }
    out.end();
    constexpr std::size_t most_holes = 65536;  // as readers bound them
    expect_said(spelled_.size() - written < most_holes, spelled_.size() - written, " of ", spelled_.size(),
                " ids have no token");
    write_merges(out);
    out.end();
  }

  // As pairs where a space in a token would part it; else in the form that older readers know too.
  void write_merges(json_writer& out) const {
    const bool as_pairs = std::ranges::any_of(merges_, [&](const merge_rule& rule) {
      return name_of(rule.left).find(' ') != std::string::npos || name_of(rule.right).find(' ') != std::string::npos;
    });
    out.key("merges");
    out.begin_array();
    std::string both;
    for (const auto& rule : merges_) {
      if (as_pairs) {
        out.begin_array(true);
        out.value(name_of(rule.left));
        out.value(name_of(rule.right));
        out.end();
        continue;
      }
      both.assign(name_of(rule.left)).append(1, ' ').append(name_of(rule.right));
      out.value(both);
    }
    out.end();
  }

  [[nodiscard]] const std::string& name_of(std::int32_t id) const { return spelled_[static_cast<std::size_t>(id)]; }

  const tokenizer_data& source_;
  const tokenizer_tables tables_;
  const tokenizer_data& data_;
  std::vector<merge_rule> merges_;
  std::vector<std::string> spelled_;
};

}  // namespace detail

/// The text of a `tokenizer.json`. What is read from it, here and by Hugging Face's tokenizers, gives the same ids for
/// every text. Ranks of Tiktoken and scores of SentencePiece become merges.
/// \throws config_error naming the vocabulary and what the format cannot say
/// \throws format_error as `tokenizer` does for a vocabulary that is none
[[nodiscard]] inline std::string tokenizer_json(const tokenizer_data& data) {
  return detail::tokenizer_json_writer(data).tokenizer();
}

/// Writes `tokenizer.json`, `tokenizer_config.json` (special tokens, chat template) and, where several tokens end a
/// text, `generation_config.json` into a folder that is there. Each file appears whole or not at all.
/// \throws config_error and format_error as `tokenizer_json`, before anything is written
/// \throws io_error that names the path and the reason
inline void write_tokenizer_json(const tokenizer_data& data, const std::filesystem::path& folder) {
  detail::tokenizer_json_writer writer(data);
  const std::array<std::pair<const char*, std::string>, 3> files{
      {{"tokenizer.json", writer.tokenizer()},
       {"tokenizer_config.json", writer.config()},
       {"generation_config.json", writer.generation_config()}}};
  for (const auto& [name, text] : files) {
    if (text.empty()) continue;
    io::atomic_file file(folder / name);
    file.write(text);
    file.commit();
  }
}

}  // namespace runnel::text
