// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/json.hpp>
#include <runnel/text/tokenizer_data.hpp>

namespace runnel::text::detail {

/// Reads the files that lie beside a vocabulary into what it gave.
class tokenizer_companions {
 public:
  tokenizer_companions(std::filesystem::path folder, tokenizer_data& data) : folder_(std::move(folder)), data_(&data) {}

  void read() {
    read_tokenizer_config(false);
    read_rest();
  }

  /// As `read`, for vocabularies that do not hold their added tokens, which these files name then.
  void read_with_added_tokens() {
    read_added_tokens();
    read_tokenizer_config(true);
    read_rest();
  }

 private:
  void read_rest() {
    read_generation_config();
    read_whole("chat_template.jinja", data_->chat_template);
    read_whole("chat_format.json", data_->chat_format);
  }

  /// A file's text, if it is there.
  void read_whole(const char* name, std::string& out) const {
    const auto path = folder_ / name;
    if (!exists(path)) return;
    const io::mapped_file file(path);
    expect<format_error>(file.bytes().size() <= io::most_config_bytes, file.name(), ": has ", file.bytes().size(),
                         " bytes, expected at most ", io::most_config_bytes);
    out.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }

  [[nodiscard]] static bool exists(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) > 0;
  }

  // A token is written as its text or as an object with its `content`. Training tools name padding that no network
  // has; nothing here needs it, so a token that is `needed` alone must be in the vocabulary.
  [[nodiscard]] std::optional<std::int32_t> token_at(const io::json_object& config, std::string_view key,
                                                     bool needed) const {
    const auto member = config.find(key);
    if (!member) return {};
    const std::string_view token = member->is_object() ? config.object(key).text("content") : config.text(key);
    const auto found = std::find(data_->tokens.begin(), data_->tokens.end(), token);
    if (found == data_->tokens.end() && !needed) return {};
    expect<format_error>(found != data_->tokens.end(), config.source_name(), ": ", key, ": token \"", token,
                         "\" is not in the vocabulary of ", data_->source_name);
    return static_cast<std::int32_t>(found - data_->tokens.begin());
  }

  // Older directories: an object of ids by token.
  void read_added_tokens() {
    const auto path = folder_ / "added_tokens.json";
    if (!exists(path)) return;
    const auto document = io::read_json_file(path, io::most_config_bytes);
    for (const auto id : io::json_object(document.root()).members()) {
      place(document.source_name(), id.name(), io::json_object::to_id(id, id.name()), document.root().size(),
            token_type::user_defined);
    }
  }

  // The same in tokenizer_config.json: an object of tokens by id.
  void read_added_tokens(const io::json_object& config) {
    if (!config.find("added_tokens_decoder")) return;
    const auto members = config.object("added_tokens_decoder").members();
    for (const auto member : members) {
      const auto name = member.name();
      const io::json_object token(member, message("added_tokens_decoder.", name));
      added_token_rule rule;
      const auto number = std::from_chars(name.data(), name.data() + name.size(), rule.id);
      expect<format_error>(number.ec == std::errc() && number.ptr == name.data() + name.size() && rule.id >= 0,
                           config.source_name(), ": added_tokens_decoder: expected token ids, found \"", name, '"');
      const auto type = token.flag_or("special", false) ? token_type::control : token_type::user_defined;
      place(config.source_name(), token.text("content"), rule.id, members.size(), type);
      rule.strip_left = token.flag_or("lstrip", false);
      rule.strip_right = token.flag_or("rstrip", false);
      rule.normalized = token.flag_or("normalized", false);
      rule.single_word = token.flag_or("single_word", false);
      const bool plain = !rule.strip_left && !rule.strip_right && !rule.normalized && !rule.single_word;
      if (!plain) data_->added_rules.push_back(rule);
    }
  }

  void place(std::string_view file, std::string_view token, std::int32_t id, std::size_t num_entries, token_type type) {
    const auto at = static_cast<std::size_t>(id);
    constexpr std::size_t most_holes = 65536;
    expect<format_error>(at < data_->tokens.size() + num_entries + most_holes, file, ": added token \"", token,
                         "\" has id ", id, ", far beyond ", data_->tokens.size(), " tokens");
    expect<format_error>(!token.empty(), file, ": added token ", id, " has no text");
    if (at >= data_->tokens.size()) {
      data_->tokens.resize(at + 1);
      data_->types.resize(at + 1, token_type::unused);
      if (!data_->scores.empty()) data_->scores.resize(at + 1, -std::numeric_limits<float>::infinity());
    }
    data_->tokens[at] = token;
    if (data_->types[at] != token_type::unknown) data_->types[at] = type;
  }

  void read_tokenizer_config(bool with_added_tokens) {
    const auto path = folder_ / "tokenizer_config.json";
    if (!exists(path)) return;
    const auto document = io::read_json_file(path, io::most_config_bytes);
    const io::json_object config(document.root());
    if (with_added_tokens) {
      read_added_tokens(config);
      read_prefix(config);
    }
    if (const auto id = token_at(config, "bos_token", true)) data_->bos = id;
    if (const auto id = token_at(config, "unk_token", false)) data_->unknown = id;
    if (const auto id = token_at(config, "pad_token", false)) data_->padding = id;
    if (const auto id = token_at(config, "eos_token", true)) data_->eos_ids.push_back(*id);
    data_->add_bos = config.flag_or("add_bos_token", data_->add_bos) && data_->bos.has_value();
    read_chat_template(config);
  }

  // What became of the space in front of text after SentencePiece's own way of putting it there.
  void read_prefix(const io::json_object& config) {
    if (data_->prefix == space_prefix::none) return;
    if (!config.flag_or("legacy", true)) data_->prefix = space_prefix::first_run;
    if (!config.flag_or("add_prefix_space", true)) {
      data_->prefix = space_prefix::none;
      data_->strip_leading_space = false;
    }
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

}  // namespace runnel::text::detail
