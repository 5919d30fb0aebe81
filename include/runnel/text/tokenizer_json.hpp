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
#include <runnel/text/tokenizer_data.hpp>

namespace runnel::text {

namespace detail {

/// Largest tokenizer.json that is read.
inline constexpr std::uint64_t most_tokenizer_bytes = std::uint64_t{256} << 20U;

/// Split patterns as tokenizer.json files spell them.
inline constexpr std::array<std::pair<std::string_view, pre_tokenizer_kind>, 3> known_patterns{{
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", pre_tokenizer_kind::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     pre_tokenizer_kind::qwen2},
}};

/// Reads one parsed tokenizer.json into a `tokenizer_data`.
class tokenizer_json_reader {
 public:
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
    if (root_.find("normalizer")) read_normalizer();
    read_pre_tokenizer();
    if (root_.find("decoder")) check_decoder();
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
    if (type != "BPE") fail("model.type \"", type, "\" is not supported yet, expected byte-level BPE");
    if (model_.flag_or("byte_fallback", false)) {
      fail("model.byte_fallback (as SentencePiece has it) is not supported yet, expected byte-level BPE");
    }
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
      if (token.flag_or("single_word", false)) fail(token.path_to("single_word"), " is not supported, expected false");
      const bool special = token.flag_or("special", false);
      place(token.text("content"), rule.id, count, special ? token_type::control : token_type::user_defined);
      if (rule.strip_left || rule.strip_right || rule.normalized) data_.added_rules.push_back(rule);
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
  [[nodiscard]] std::vector<io::json_object> steps_of(std::string_view key, std::string_view list) const {
    const auto member = root_.object(key);
    if (member.text("type") != "Sequence") return {member};
    std::vector<io::json_object> steps;
    for (const auto step : member.array(list)) steps.emplace_back(step, std::string(key));
    return steps;
  }

  void read_normalizer() {
    for (const auto& step : steps_of("normalizer", "normalizers")) {
      const auto& type = step.text("type");
      if (type != "NFC") fail("normalizer \"", type, "\" is not supported, expected NFC or none");
      data_.nfc = true;
    }
  }

  void read_pre_tokenizer() {
    const auto steps = steps_of("pre_tokenizer", "pretokenizers");
    if (steps.empty() || steps.back().text("type") != "ByteLevel") {
      fail("pre_tokenizer ", steps.empty() ? "(none)" : steps.back().text("type"),
           " is not supported yet, expected one that ends with ByteLevel (byte-level BPE)");
    }
    if (steps.back().flag_or("add_prefix_space", true)) {
      fail("pre_tokenizer.add_prefix_space is not supported, expected false");
    }
    const bool gpt2_cuts = steps.back().flag_or("use_regex", true);
    if (steps.size() == 1 && gpt2_cuts) {
      data_.pre_tokenizer = pre_tokenizer_kind::gpt2;
    } else if (steps.size() == 2 && gpt2_cuts && steps[0].text("type") == "Digits" &&
               steps[0].flag_or("individual_digits", false)) {
      data_.pre_tokenizer = pre_tokenizer_kind::smollm;
    } else if (steps.size() == 2 && !gpt2_cuts && steps[0].text("type") == "Split") {
      data_.pre_tokenizer = known_split(steps[0]);
    } else {
      fail("this combination of pre-tokenizers is not supported, expected that of GPT-2, Llama 3, Qwen2 or SmolLM");
    }
    data_.ignore_merges = model_.flag_or("ignore_merges", false);
  }

  [[nodiscard]] pre_tokenizer_kind known_split(const io::json_object& split) const {
    const auto pattern = split.object("pattern").text("Regex");
    if (split.text("behavior") != "Isolated" || split.flag_or("invert", false)) {
      fail("pre_tokenizer: Split is supported as Isolated and not inverted only");
    }
    for (const auto& [known, kind] : known_patterns) {
      if (pattern == known) return kind;
    }
    fail("pre_tokenizer: the pattern ", pattern, " is not supported, expected that of GPT-2, Llama 3 or Qwen2");
  }

  void check_decoder() const {
    for (const auto& step : steps_of("decoder", "decoders")) {
      const auto& type = step.text("type");
      if (type != "ByteLevel") fail("decoder \"", type, "\" is not supported yet, expected ByteLevel (byte-level BPE)");
    }
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

/// Reads the files that lie beside a tokenizer.json into what it gave.
class tokenizer_companions {
 public:
  tokenizer_companions(std::filesystem::path folder, tokenizer_data& data) : folder_(std::move(folder)), data_(&data) {}

  void read() {
    read_tokenizer_config();
    read_generation_config();
    const auto separate = folder_ / "chat_template.jinja";
    if (!exists(separate)) return;
    const io::mapped_file file(separate);
    expect<format_error>(file.bytes().size() <= io::most_config_bytes, file.name(),
                         ": is too large for a chat template");
    data_->chat_template.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }

 private:
  [[nodiscard]] static bool exists(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) > 0;
  }

  // A token is written as its text or as an object with its `content`.
  [[nodiscard]] std::optional<std::int32_t> token_at(const io::json_object& config, std::string_view key) const {
    const auto member = config.find(key);
    if (!member) return {};
    const std::string_view token = member->is_object() ? config.object(key).text("content") : config.text(key);
    const auto found = std::find(data_->tokens.begin(), data_->tokens.end(), token);
    expect<format_error>(found != data_->tokens.end(), config.source_name(), ": ", key, ": token \"", token,
                         "\" is not in the vocabulary of ", data_->source_name);
    return static_cast<std::int32_t>(found - data_->tokens.begin());
  }

  void read_tokenizer_config() {
    const auto path = folder_ / "tokenizer_config.json";
    if (!exists(path)) return;
    const auto document = io::read_json_file(path, io::most_config_bytes);
    const io::json_object config(document.root());
    if (const auto id = token_at(config, "bos_token")) data_->bos = id;
    if (const auto id = token_at(config, "unk_token")) data_->unknown = id;
    if (const auto id = token_at(config, "pad_token")) data_->padding = id;
    if (const auto id = token_at(config, "eos_token")) data_->eos_ids.push_back(*id);
    data_->add_bos = config.flag_or("add_bos_token", data_->add_bos) && data_->bos.has_value();
    read_chat_template(config);
  }

  void read_chat_template(const io::json_object& config) {
    const auto member = config.find("chat_template");
    if (!member) return;
    if (!member->is_array()) {
      data_->chat_template = config.text("chat_template");
      return;
    }
    std::size_t i = 0;
    for (const auto one : *member) {
      const io::json_object named(one, message("chat_template[", i, ']'));
      if (i++ == 0 || named.text("name") == "default") data_->chat_template = named.text("template");
    }
  }

  void read_generation_config() {
    const auto path = folder_ / "generation_config.json";
    if (!exists(path)) return;
    const auto document = io::read_json_file(path, io::most_config_bytes);
    const io::json_object config(document.root());
    const auto eos = config.find("eos_token_id");
    if (!eos) return;
    if (!eos->is_array()) {
      data_->eos_ids.push_back(config.id("eos_token_id"));
      return;
    }
    for (const auto id : *eos) data_->eos_ids.push_back(io::json_object::to_id(id, "eos_token_id"));
  }

  std::filesystem::path folder_;
  tokenizer_data* data_;
};

}  // namespace detail

/// The vocabulary in the text of a Hugging Face `tokenizer.json`: byte-level BPE with the pre-tokenizer of GPT-2,
/// Llama 3, Qwen2 or SmolLM, which is recognised by its structure.
/// \throws format_error naming `source_name`, the key, what was expected and what was found
[[nodiscard]] inline tokenizer_data parse_tokenizer_json(std::string_view text, const std::string& source_name) {
  const io::json_document document(text, source_name);
  return detail::tokenizer_json_reader(document).read();
}

/// The vocabulary in a `tokenizer.json`, given as that file or the folder that holds it; what `tokenizer_config.json`
/// (bos, eos and others, chat template), `generation_config.json` (further eos ids) and `chat_template.jinja` beside it
/// say is added.
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
