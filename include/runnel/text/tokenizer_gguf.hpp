// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

namespace detail {

/// What converters give tokens that were added to a SentencePiece model.
inline constexpr float lowered_score = -1000;

/// Phi-3's markup takes the white space after it along, which GGUF does not say.
[[nodiscard]] inline std::vector<added_token_rule> phi3_rules(const std::vector<std::string>& tokens,
                                                              const std::vector<token_type>& types) {
  std::vector<added_token_rule> rules;
  for (std::size_t id = 0; id < types.size(); ++id) {
    const bool plain = tokens[id] == "<unk>" || tokens[id] == "<s>" || tokens[id] == "<|endoftext|>";
    if ((types[id] == token_type::control && !plain) || tokens[id] == "</s>") {
      rules.push_back({static_cast<std::int32_t>(id), false, true, false, false});
    }
  }
  return rules;
}

/// Whether files with this pre-tokenizer mean that a piece that is a token is that token.
[[nodiscard]] constexpr bool ignores_merges(pre_tokenizer_kind kind) noexcept {
  return kind == pre_tokenizer_kind::llama3 || kind == pre_tokenizer_kind::tekken;
}

/// Reads the vocabulary in the metadata of a GGUF file into a `tokenizer_data`.
class tokenizer_gguf_reader {
 public:
  explicit tokenizer_gguf_reader(const io::gguf_file& file) : file_(file) { data_.source_name = file.name(); }

  [[nodiscard]] tokenizer_data read() && {
    const auto model = file_.string("tokenizer.ggml.model");
    const bool byte_level = model == "gpt2";
    const bool scores = model == "llama";
    if (!byte_level && !scores && model != "gemma4") {
      fail("tokenizer.ggml.model \"", model, "\" is not supported, expected \"gpt2\" (byte-level BPE), \"llama\" or ",
           "\"gemma4\" (SentencePiece BPE)");
    }
    read_tokens();
    if (byte_level) {
      read_pre_tokenizer();
    } else {
      data_.form = vocabulary_form::sentence_piece;
    }
    if (scores) {
      read_scores();
    } else {
      read_merges();
    }
    read_special();
    if (!byte_level) read_sentence_piece(scores);
    const bool usually = scores || data_.ignore_merges;  // both forms of Llama, and Tekken
    data_.add_bos = file_.get_or<bool>("tokenizer.ggml.add_bos_token", usually && data_.bos.has_value());
    data_.chat_template = file_.get_or<std::string>("tokenizer.chat_template", {});
    data_.chat_format = file_.get_or<std::string>("runnel.chat_format", {});
    return std::move(data_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(file_.name(), ": ", parts...);
  }

  void read_tokens() {
    const auto tokens = file_.strings("tokenizer.ggml.tokens");
    data_.tokens.assign(tokens.begin(), tokens.end());
    if (!file_.contains("tokenizer.ggml.token_type")) return;
    const auto types = file_.numbers<std::int32_t>("tokenizer.ggml.token_type");
    data_.types.reserve(types.size());
    for (const auto type : types) data_.types.push_back(static_cast<token_type>(type));
    if (types.size() != tokens.size()) {
      fail("tokenizer.ggml.token_type has ", types.size(), " elements for ", tokens.size(), " tokens");
    }
  }

  // GGUF does not say whether a byte-level vocabulary normalises text or ignores merges; both follow from the name of
  // its pre-tokenizer.
  void read_pre_tokenizer() {
    const auto pre = file_.string("tokenizer.ggml.pre");
    data_.pre_tokenizer = find_pre_tokenizer(pre, file_.name() + ": tokenizer.ggml.pre");
    data_.nfc = pre == "qwen2";
    data_.ignore_merges = ignores_merges(data_.pre_tokenizer);
  }

  void read_merges() {
    const auto merges = file_.strings("tokenizer.ggml.merges");
    data_.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const auto space = merges[i].find(' ', 1);
      if (space == std::string_view::npos) {
        fail("tokenizer.ggml.merges[", i, "]: expected two tokens and a space, found \"", merges[i], '"');
      }
      data_.merges.emplace_back(merges[i].substr(0, space), merges[i].substr(space + 1));
    }
  }

  void read_scores() {
    const auto scores = file_.numbers<float>("tokenizer.ggml.scores");
    if (scores.size() != data_.tokens.size()) {
      fail("tokenizer.ggml.scores has ", scores.size(), " elements for ", data_.tokens.size(), " tokens");
    }
    data_.scores.assign(scores.begin(), scores.end());
    // Converters lower the scores of user-defined tokens, which the model has as 0.
    for (std::size_t id = 0; id < data_.types.size(); ++id) {
      if (data_.types[id] == token_type::user_defined && data_.scores[id] == lowered_score) data_.scores[id] = 0;
    }
  }

  [[nodiscard]] std::optional<std::int32_t> id_at(std::string_view key) const {
    if (!file_.contains(key)) return {};
    const auto id = file_.get<std::int64_t>(key);
    if (id < 0 || static_cast<std::uint64_t>(id) >= data_.tokens.size()) {
      fail(key, ' ', id, " is outside the vocabulary of ", data_.tokens.size());
    }
    return static_cast<std::int32_t>(id);
  }

  void read_special() {
    data_.bos = id_at("tokenizer.ggml.bos_token_id");
    data_.unknown = id_at("tokenizer.ggml.unknown_token_id");
    data_.padding = id_at("tokenizer.ggml.padding_token_id");
    for (const auto* const name : {"eos", "eot", "eom"}) {
      if (const auto id = id_at(message("tokenizer.ggml.", name, "_token_id"))) data_.eos_ids.push_back(*id);
    }
  }

  void read_sentence_piece(bool prefixes) {
    data_.missing_byte = data_.unknown;
    data_.fuse_missing = true;
    if (file_.get_or<bool>("tokenizer.ggml.add_space_prefix", prefixes)) data_.prefix = space_prefix::each_segment;
    data_.strip_leading_space = data_.prefix != space_prefix::none;
    data_.collapse_spaces = file_.get_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false);
    if (data_.types.empty()) mark_types();
    if (file_.get_or<std::string>("general.architecture", {}) == "phi3") {
      data_.added_rules = phi3_rules(data_.tokens, data_.types);
    }
  }

  // Files without types: bytes can be told by their text, unknown and the ends of texts by their ids.
  void mark_types() {
    data_.types.assign(data_.tokens.size(), token_type::normal);
    for (std::size_t id = 0; id < data_.types.size(); ++id) {
      if (parse_byte_token(data_.tokens[id])) data_.types[id] = token_type::byte;
    }
    const auto mark = [&](std::int32_t id, token_type type) { data_.types[static_cast<std::size_t>(id)] = type; };
    for (const auto id : data_.eos_ids) mark(id, token_type::control);
    if (data_.bos) mark(*data_.bos, token_type::control);
    if (data_.unknown) mark(*data_.unknown, token_type::unknown);
  }

  const io::gguf_file& file_;
  tokenizer_data data_;
};

}  // namespace detail

/// The vocabulary in the metadata of a GGUF file: `tokenizer.ggml.model` "gpt2" (byte-level BPE), "llama"
/// (SentencePiece BPE by scores) or "gemma4" (the same by merges). \throws format_error naming file and key
[[nodiscard]] inline tokenizer_data read_tokenizer_gguf(const io::gguf_file& file) {
  return detail::tokenizer_gguf_reader(file).read();
}

}  // namespace runnel::text
