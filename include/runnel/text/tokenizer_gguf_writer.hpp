// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <runnel/core/ascii.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/text/canonical_merges.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

/// What `write_tokenizer_gguf` has to know of the file around the vocabulary.
struct gguf_tokenizer_options {
  std::string architecture;  ///< the file's `general.architecture`: readers know some rules by it
  /// Rows of the network's embedding, which readers want as many tokens as: unused ones fill up, markup beyond is left
  /// out. 0: as many as the vocabulary has.
  std::size_t num_tokens = 0;
  std::string name;    ///< `general.name`, by which some readers tell Phi-3; changed where that matters
  bool lossy = false;  ///< leave out what GGUF cannot say, where that is refused otherwise
};

namespace detail {

/// Writes a vocabulary as the metadata that `tokenizer_gguf_reader` and others read.
class tokenizer_gguf_writer {
 public:
  tokenizer_gguf_writer(const tokenizer_data& data, io::gguf_writer& out, const gguf_tokenizer_options& options)
      : source_(data), tables_(data), data_(tables_.data()), options_(options), out_(out) {
    expect_utf8(data);
  }

  /// Returns what was left out.
  [[nodiscard]] std::vector<std::string> write() {
    name_tokens();
    if (tables_.is_sentence_piece()) {
      write_sentence_piece();
    } else {
      write_byte_level();
    }
    write_tokens();
    write_special();
    check_added_rules();
    if (!options_.lossy && !losses_.empty()) {
      std::string all;
      for (const auto& one : losses_) all += (all.empty() ? "" : "; ") + one;
      fail<config_error>(source_.source_name, ": GGUF cannot say that ", all);
    }
    return std::move(losses_);
  }

 private:
  template <class... Parts>
  void lose_if(bool condition, const Parts&... parts) {
    if (condition) losses_.push_back(message(parts...));
  }

  // Readers want names that differ: holes get some, and so do ids that the vocabulary does not reach.
  void name_tokens() {
    names_ = data_.tokens;
    types_ = data_.types;
    std::unordered_set<std::string_view> taken;
    std::vector<std::size_t> nameless;
    for (std::size_t id = 0; id < names_.size(); ++id) {
      if (names_[id].empty() || !taken.insert(data_.tokens[id]).second) nameless.push_back(id);
    }
    for (auto& id : nameless) {
      // Of two with one name the unused one gives way.
      const auto first = names_[id].empty() ? -1 : tables_.find(names_[id]);
      if (first == static_cast<std::int32_t>(id)) {
        id = static_cast<std::size_t>(std::find(names_.begin(), names_.end(), names_[id]) - names_.begin());
      }
    }
    const std::size_t count = options_.num_tokens != 0 ? options_.num_tokens : names_.size();
    for (std::size_t id = count; id < names_.size(); ++id) {
      expect(is_markup(types_[id]), source_.source_name, ": token ", id, " (", io::in_quotes(names_[id]),
             ") is more than markup, but the network has only ", count, " tokens");
    }
    for (std::size_t id = names_.size(); id < count; ++id) nameless.push_back(id);
    names_.resize(count);
    types_.resize(count, token_type::unused);
    std::erase_if(nameless, [&](std::size_t id) { return id >= count; });
    for (const auto id : nameless) {
      std::string name = message("[PAD", id, ']');
      while (taken.contains(name)) name += '_';
      names_[id] = std::move(name);
    }
  }

  void write_byte_level() {
    auto pre = pre_tokenizer_name(data_.pre_tokenizer);
    // Qwen2's pattern goes by two names; with one of them text is normalised.
    const bool is_qwen2 = data_.pre_tokenizer == pre_tokenizer_kind::qwen2;
    if (is_qwen2 && !data_.nfc) pre = "deepseek-r1-qwen";
    lose_if(data_.nfc && !is_qwen2, "text is brought to normalization form C with the pre-tokenizer ", pre);
    out_.set("tokenizer.ggml.model", "gpt2");
    out_.set("tokenizer.ggml.pre", pre);
    std::vector<std::string> merges;
    for (const auto& rule : listed_merges(tables_)) {
      const auto &left = name_of(rule.left), &right = name_of(rule.right);
      expect(left.find(' ', 1) == std::string::npos, source_.source_name, ": GGUF cannot hold the merge of ",
             io::in_quotes(left), " and ", io::in_quotes(right), ": a space would part the first");
      merges.push_back(message(left, ' ', right));
    }
    out_.set("tokenizer.ggml.merges", merges);
    check_whole_pieces(ignores_merges(data_.pre_tokenizer));
    lose_if(!tables_.missing_bytes().empty() && data_.missing_byte, "bytes without a token become ",
            io::in_quotes(name_of(data_.missing_byte.value_or(0))), " (they are dropped)");
  }

  void write_sentence_piece() {
    out_.set("tokenizer.ggml.model", "llama");
    out_.set("tokenizer.ggml.pre", "default");
    auto scores = scores_of_merges();
    constexpr float unused_score = -10000;
    scores.resize(names_.size(), unused_score);
    out_.set("tokenizer.ggml.scores", scores);
    const bool prefixes = data_.prefix != space_prefix::none;
    out_.set("tokenizer.ggml.add_space_prefix", prefixes);
    if (data_.collapse_spaces) out_.set("tokenizer.ggml.remove_extra_whitespaces", true);
    lose_if(data_.prefix == space_prefix::each_run, "a space is put in front of text only where it has none");
    lose_if(data_.prefix == space_prefix::first_run, "a space is put in front of the first word only");
    lose_if(data_.strip_leading_space != prefixes, "decoded text ", prefixes ? "keeps" : "loses",
            " a space in front, unlike encoded text");
    lose_if(data_.nfc, "text is brought to normalization form C");
    lose_if(is_parted_at_spaces(), "no merge goes on into a space");
    check_whole_pieces(false);
    const bool is_fused = data_.missing_byte == unknown() && (data_.fuse_missing || !data_.missing_byte);
    lose_if(!tables_.missing_bytes().empty() && !is_fused, "what has no token ",
            data_.missing_byte ? "gives an unknown token each" : "is dropped");
  }

  void check_whole_pieces(bool read_so) {
    lose_if(data_.ignore_merges != read_so && has_unmerged_tokens(tables_), "a piece of text that is a token ",
            read_so ? "is merged like any other" : "is that token, whatever the merges say");
  }

  [[nodiscard]] bool is_parted_at_spaces() const {
    if (!data_.split_spaces) return false;
    return std::ranges::any_of(tables_.merges().rules(), [&](const merge_rule& rule) {
      return tables_.piece(static_cast<std::size_t>(rule.merged)).find(' ', 1) != std::string_view::npos;
    });
  }

  /// Those that the vocabulary has, else the order of the canonical merges. With these scores any two tokens that
  /// together are a token merge; but two that stand side by side are the canonical ones, or together a token that
  /// merging never makes, which has no score. So the tokens are the same.
  [[nodiscard]] std::vector<float> scores_of_merges() const {
    const bool has_scores = source_.merges.empty() && !source_.scores.empty() && !source_.leftmost_ties;
    if (has_scores && !loses_scores()) return source_.scores;
    constexpr float never = -std::numeric_limits<float>::infinity();
    const auto merges = canonical_merges(tables_);
    std::vector<float> scores(data_.tokens.size());
    for (std::size_t id = 0; id < scores.size(); ++id) {
      const auto type = data_.types[id];
      const bool is_merged = type == token_type::normal || type == token_type::user_defined;
      if (is_merged && unicode::length(tables_.piece(id)) > 1) scores[id] = never;
    }
    for (std::size_t i = 0; i < merges.size(); ++i) {  // the half keeps clear of `lowered_score`
      scores[static_cast<std::size_t>(merges[i].merged)] = -static_cast<float>(i) - 0.5F;
    }
    expect_readable(scores);
    return scores;
  }

  [[nodiscard]] bool loses_scores() const {
    for (std::size_t id = 0; id < data_.types.size(); ++id) {
      if (data_.types[id] == token_type::user_defined && source_.scores[id] == lowered_score) return true;
    }
    return false;
  }

  // Readers bound what they derive from scores.
  void expect_readable(const std::vector<float>& scores) const {
    tokenizer_data read;
    read.source_name = source_.source_name;
    read.form = data_.form;
    read.tokens = data_.tokens;
    read.types = data_.types;
    read.scores = scores;
    try {
      static_cast<void>(tokenizer_tables(std::move(read)));
    } catch (const format_error& refusal) {
      fail<config_error>("GGUF, which has scores in place of merges: ", refusal.what());
    }
  }

  void write_tokens() {
    out_.set("tokenizer.ggml.tokens", names_);
    std::vector<std::int32_t> types;
    for (const auto type : types_) types.push_back(static_cast<std::int32_t>(type));
    out_.set("tokenizer.ggml.token_type", types);
  }

  void write_special() {
    const auto is_there = [&](std::int32_t id) { return static_cast<std::size_t>(id) < names_.size(); };
    const auto set = [&](std::string_view name, std::optional<std::int32_t> id) {
      if (id && is_there(*id)) out_.set(message("tokenizer.ggml.", name, "_token_id"), static_cast<std::uint32_t>(*id));
    };
    set("bos", data_.bos);
    set("unknown", unknown());
    set("padding", data_.padding);
    // Not as the tables have them, which are sorted: the first is the one that others write.
    std::vector<std::int32_t> eos;
    for (const auto id : source_.eos_ids) {
      if (is_there(id) && std::find(eos.begin(), eos.end(), id) == eos.end()) eos.push_back(id);
    }
    constexpr std::array<std::string_view, 3> names{"eos", "eot", "eom"};
    for (std::size_t i = 0; i < std::min(eos.size(), names.size()); ++i) set(names[i], eos[i]);
    lose_if(eos.size() > names.size(), eos.size(), " tokens end a text, and not ", names.size());
    out_.set("tokenizer.ggml.add_bos_token", data_.add_bos && is_there(*data_.bos));
    if (!data_.chat_template.empty()) out_.set("tokenizer.chat_template", data_.chat_template);
    if (!data_.chat_format.empty()) out_.set("runnel.chat_format", data_.chat_format);
  }

  void check_added_rules() {
    auto rules = effective_rules(data_.added_rules, data_.types);
    std::erase_if(rules, [&](const auto& rule) { return static_cast<std::size_t>(rule.id) >= names_.size(); });
    std::vector<added_token_rule> read;
    if (tables_.is_sentence_piece() && options_.architecture == "phi3") {
      read = effective_rules(phi3_rules(names_, types_), types_);
    }
    const auto same = [](const added_token_rule& a, const added_token_rule& b) {
      return a.id == b.id && a.strip_left == b.strip_left && a.strip_right == b.strip_right &&
             a.normalized == b.normalized && a.single_word == b.single_word;
    };
    const auto [ours, theirs] = std::mismatch(rules.begin(), rules.end(), read.begin(), read.end(), same);
    const bool is_same = ours == rules.end() && theirs == read.end();
    write_name(is_same && !read.empty());
    if (is_same) return;
    const bool is_ours = ours != rules.end() && (theirs == read.end() || ours->id <= theirs->id);
    const auto id = is_ours ? ours->id : theirs->id;
    const char* what = is_ours ? "plainly" : "plainly, and not as in Phi-3";
    if (is_ours && ours->single_word) what = "as a word of its own only";
    if (is_ours && ours->normalized) what = "after normalisation";
    if (is_ours && (ours->strip_left || ours->strip_right)) what = "with the white space beside it";
    losses_.push_back(message("the added token ", io::in_quotes(name_of(id)), " is found ", what));
  }

  // llama.cpp knows Phi-3's rules by the model's name, and wants these tokens then.
  void write_name(bool has_phi3_rules) const {
    if (options_.name.empty()) return;
    const std::string lower = ascii_lower(options_.name);
    const bool says_phi3 = lower.find("phi-3") != std::string::npos || lower.find("phi3") != std::string::npos;
    for (const auto* const token : {"</s>", "<unk>", "<s>", "<|endoftext|>"}) {
      has_phi3_rules = has_phi3_rules && std::find(names_.begin(), names_.end(), token) != names_.end();
    }
    if (says_phi3 && !has_phi3_rules) return;
    out_.set("general.name", has_phi3_rules && !says_phi3 ? "Phi-3 " + options_.name : options_.name);
  }

  [[nodiscard]] std::optional<std::int32_t> unknown() const {
    const bool missing_too = tables_.is_sentence_piece() && !data_.unknown;
    return missing_too ? data_.missing_byte : data_.unknown;
  }

  [[nodiscard]] const std::string& name_of(std::int32_t id) const { return data_.tokens[static_cast<std::size_t>(id)]; }

  const tokenizer_data& source_;
  const tokenizer_tables tables_;
  const tokenizer_data& data_;
  gguf_tokenizer_options options_;
  io::gguf_writer& out_;
  std::vector<std::string> names_;
  std::vector<token_type> types_;
  std::vector<std::string> losses_;
};

}  // namespace detail

/// Sets the metadata of a GGUF file that say a vocabulary: `tokenizer.ggml.model` "gpt2" (byte-level) or "llama"
/// (SentencePiece), tokens, merges or scores, special ids, chat template. `read_tokenizer_gguf` gives a vocabulary with
/// the same ids for every text then. Ranks of Tiktoken become merges; merges of SentencePiece become scores where
/// these make the same tokens of every text. Takes about the time of making a `tokenizer` two or three times.
///
/// Returns what GGUF cannot say and was left out, a sentence each: nothing, unless `options.lossy`.
/// \throws config_error naming the vocabulary for what GGUF cannot say; then metadata are set in part
/// \throws format_error as `tokenizer` does for a vocabulary that is none
inline std::vector<std::string> write_tokenizer_gguf(const tokenizer_data& data, io::gguf_writer& out,
                                                     const gguf_tokenizer_options& options = {}) {
  return detail::tokenizer_gguf_writer(data, out, options).write();
}

}  // namespace runnel::text
