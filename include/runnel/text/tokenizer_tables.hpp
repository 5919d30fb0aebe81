// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/added_tokens.hpp>
#include <runnel/text/bpe.hpp>
#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/merge_derivation.hpp>
#include <runnel/text/piece_index.hpp>
#include <runnel/text/token_index.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/unicode/normalization.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// What to do with a byte that no token of the vocabulary can make.
enum class missing_byte_policy : std::uint8_t {
  as_vocabulary,  ///< as Hugging Face's tokenizers: the vocabulary's unknown token if it declares one, else nothing
  refuse,         ///< throw config_error
};

namespace detail {

/// U+2581, which stands for a space in the tokens of SentencePiece.
inline constexpr std::string_view space_mark = "\xE2\x96\x81";

/// Appends `text` with every U+2581 made a space.
inline void append_with_spaces(std::string& out, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t mark = text.find(space_mark, at);
    out += text.substr(at, mark == std::string_view::npos ? mark : mark - at);
    if (mark == std::string_view::npos) return;
    out += ' ';
    at = mark + space_mark.size();
  }
}

[[nodiscard]] constexpr bool is_markup(token_type type) noexcept {
  return type == token_type::control || type == token_type::unknown;
}

/// The byte of `<0x0A>`.
[[nodiscard]] inline std::optional<std::uint8_t> parse_byte_token(std::string_view token) noexcept {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return {};
  std::size_t value = 0;
  for (const char digit : token.substr(3, 2)) {
    const auto place = std::string_view("0123456789ABCDEFabcdef").find(digit);
    if (place == std::string_view::npos) return {};
    value = value * 16 + (place < 16 ? place : place - 6);
  }
  return static_cast<std::uint8_t>(value);
}

/// The tables that a vocabulary is looked up in, and how one piece of text becomes ids. Pieces, and the text that is
/// merged, are bytes as a reader sees them: spaces are spaces in both forms of vocabularies.
class tokenizer_tables {
 public:
  explicit tokenizer_tables(tokenizer_data data) : data_(std::move(data)) {
    expect_format(!data_.tokens.empty(), "the vocabulary is empty");
    expect_format(data_.tokens.size() <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
                  "the vocabulary has more than 2^31 - 1 tokens");
    if (data_.types.empty()) data_.types.assign(data_.tokens.size(), token_type::normal);
    expect_format(data_.types.size() == data_.tokens.size(), "there are ", data_.types.size(), " token types for ",
                  data_.tokens.size(), " tokens");
    check_ids();
    build_index();
    build_pieces();
    build_bytes();
    build_merges();
    build_added();
    known_.reset(new std::atomic<std::uint8_t>[data_.tokens.size()]());
  }

  [[nodiscard]] const tokenizer_data& data() const noexcept { return data_; }
  [[nodiscard]] std::string_view piece(std::size_t id) const noexcept { return pieces_.at(id); }
  [[nodiscard]] const std::string& missing_bytes() const noexcept { return missing_bytes_; }
  [[nodiscard]] const added_token_finder& added() const noexcept { return added_; }
  [[nodiscard]] const added_token_finder& normalized_added() const noexcept { return normalized_added_; }
  [[nodiscard]] const merge_table& merges() const noexcept { return merges_; }
  [[nodiscard]] bool is_sentence_piece() const noexcept { return data_.form == vocabulary_form::sentence_piece; }

  /// Id of a token given as the file writes it, or -1.
  [[nodiscard]] std::int32_t find(std::string_view token) const noexcept { return index_.find(token, data_.tokens); }

  /// Id of the token that text of these bytes can become, or -1.
  [[nodiscard]] std::int32_t find_piece(std::string_view bytes) const noexcept { return pieces_.find(bytes); }

  /// Normal form of a part of a text that begins and ends where normalisation leaves no trace.
  void normalize(std::string_view text, std::string& out) const {
    if (data_.nfc && is_sentence_piece()) return append_with_spaces(out, unicode::nfc(text));
    if (data_.nfc) {
      out += unicode::nfc(text);
    } else if (is_sentence_piece()) {
      append_with_spaces(out, text);
    } else {
      out += text;
    }
  }

  /// End of the piece of normalised text (`sentence_piece`) that begins at `at`: no merge leaves it. `certain` becomes
  /// false where text that follows could move the end.
  [[nodiscard]] std::size_t piece_end(std::string_view text, std::size_t at, bool& certain) const noexcept {
    auto step = unicode::decode(text, at);
    for (std::size_t end = at + step.length; end < text.size(); end += step.length) {
      const char32_t before = step.code_point;
      step = unicode::decode(text, end);
      if (data_.split_spaces && step.code_point == U' ') return end;
      if (can_cut_ && !joins_.joins(before, step.code_point)) return end;
    }
    certain = false;
    return text.size();
  }

  /// Appends the ids of a piece. \throws config_error if a byte is missing and `missing` is `refuse`
  void encode_piece(std::string_view piece, bpe_merger& merger, missing_byte_policy missing,
                    std::vector<std::int32_t>& ids) const {
    const std::int32_t whole = pieces_.find(piece);
    constexpr std::uint8_t unmerged = 1;  // merging gives this very token
    constexpr std::uint8_t parted = 2;
    std::atomic<std::uint8_t>* known = nullptr;
    if (whole >= 0) {
      known = &known_[static_cast<std::size_t>(whole)];
      const bool takes = data_.ignore_merges && data_.types[static_cast<std::size_t>(whole)] == token_type::normal;
      if (takes || known->load(std::memory_order_relaxed) == unmerged) return ids.push_back(whole);
    }
    push_piece(piece, merger, missing);
    const std::size_t before = ids.size();
    merger.finish(ids);
    if (known == nullptr) return;
    known->store(ids.size() == before + 1 && ids.back() == whole ? unmerged : parted, std::memory_order_relaxed);
  }

  /// Starts `merger` with what a piece is before anything is merged. Throws as `encode_piece`.
  void push_piece(std::string_view piece, bpe_merger& merger, missing_byte_policy missing) const {
    merger.clear();
    if (is_sentence_piece()) {
      push_characters(piece, merger, missing);
    } else {
      push_bytes(piece, merger, missing);
    }
  }

 private:
  template <class... Parts>
  void expect_format(bool condition, const Parts&... parts) const {
    expect<format_error>(condition, data_.source_name, ": ", parts...);
  }

  void check_id(std::string_view what, std::optional<std::int32_t> id) const {
    expect_format(!id || (*id >= 0 && static_cast<std::size_t>(*id) < data_.tokens.size()), what, " id ",
                  id.value_or(0), " is outside the vocabulary of ", data_.tokens.size());
  }

  void check_ids() {
    check_id("bos", data_.bos);
    check_id("unknown", data_.unknown);
    check_id("padding", data_.padding);
    check_id("missing byte", data_.missing_byte);
    for (const auto id : data_.eos_ids) check_id("eos", id);
    for (const auto& rule : data_.added_rules) check_id("added token", rule.id);
    sort_eos();
    expect_format(!data_.add_bos || data_.bos.has_value(), "bos is to be added, but no bos id is given");
    for (std::size_t id = 0; id < data_.types.size(); ++id) {
      const auto type = static_cast<std::int32_t>(data_.types[id]);
      expect_format(type >= 1 && type <= 6, "token ", id, " has type ", type, ", expected 1 to 6");
    }
  }

  // Puts the eos ids in order, each once.
  void sort_eos() {
    std::vector<char> ends(data_.tokens.size());
    for (const auto id : data_.eos_ids) ends[static_cast<std::size_t>(id)] = 1;
    data_.eos_ids.clear();
    for (std::size_t id = 0; id < ends.size(); ++id) {
      if (ends[id] != 0) data_.eos_ids.push_back(static_cast<std::int32_t>(id));
    }
  }

  void build_index() {
    index_ = token_index(data_.tokens.size());
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      auto& type = data_.types[id];
      if (data_.tokens[id].empty()) {
        type = token_type::unused;
        continue;
      }
      std::int32_t& known = index_.place(data_.tokens[id], data_.tokens);
      const bool is_taken = known >= 0 && data_.types[static_cast<std::size_t>(known)] != token_type::unused;
      expect_format(!is_taken || type == token_type::unused, "tokens ", known, " and ", id, " are both \"",
                    data_.tokens[id], '"');
      // An unused id can be asked for by name where no other token has it.
      if (known < 0 || (!is_taken && type != token_type::unused)) known = static_cast<std::int32_t>(id);
    }
  }

  void build_pieces() {
    std::string bytes;
    std::vector<bool> is_spelled(data_.tokens.size());  // in the alphabet, so that text can become it
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      const auto& token = data_.tokens[id];
      const auto type = data_.types[id];
      bytes.clear();
      if (const auto byte = type == token_type::byte ? parse_byte_token(token) : std::nullopt) {
        bytes.push_back(static_cast<char>(*byte));
      } else if (is_sentence_piece()) {
        append_with_spaces(bytes, token);
        is_spelled[id] = true;
      } else if (!is_markup(type) && type != token_type::user_defined && append_from_byte_alphabet(bytes, token)) {
        is_spelled[id] = true;
      } else {
        bytes = token;  // a token with characters outside the alphabet stands for its own text
      }
      pieces_.add(bytes);
    }
    pieces_.finish([&](std::int32_t id) { return is_spelled[static_cast<std::size_t>(id)] && can_be_text(id); });
  }

  [[nodiscard]] bool can_be_text(std::int32_t id) const noexcept {
    const auto type = data_.types[static_cast<std::size_t>(id)];
    if (is_sentence_piece() && type == token_type::byte) return false;
    return !is_markup(type) && type != token_type::unused;
  }

  void build_bytes() {
    byte_ids_.fill(-1);
    for (std::size_t id = 0; is_sentence_piece() && id < data_.tokens.size(); ++id) {
      if (data_.types[id] != token_type::byte) continue;
      const auto byte = parse_byte_token(data_.tokens[id]);
      expect_format(byte.has_value(), "token ", id, " (\"", data_.tokens[id],
                    "\") is a byte, expected it to be written like <0x0A>");
      if (byte_ids_[*byte] < 0) byte_ids_[*byte] = static_cast<std::int32_t>(id);
    }
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      const char character = static_cast<char>(static_cast<std::uint8_t>(byte));
      if (!is_sentence_piece()) {
        const std::int32_t found = find(unicode::encode(byte_alphabet[byte]));
        if (found >= 0 && can_be_text(found)) byte_ids_[byte] = found;
      }
      ascii_ids_[byte] = byte < 128 ? pieces_.find({&character, 1}) : -1;
      if (byte_ids_[byte] < 0 && ascii_ids_[byte] < 0) missing_bytes_.push_back(character);
    }
    // Where characters can be missing, how many unknown tokens they give depends on their neighbours.
    can_cut_ = !data_.ignore_merges && missing_bytes_.empty();
    expect_format(is_sentence_piece() || missing_bytes_.size() < byte_ids_.size(),
                  "no token stands for a single byte, expected a byte-level vocabulary in GPT-2's alphabet");
  }

  void build_merges() {
    expect_format(data_.merges.size() <= std::numeric_limits<std::uint32_t>::max(), "there are too many merges");
    auto rules = data_.merges.empty() && !data_.scores.empty() ? rules_of_scores() : rules_of_merges();
    if (is_sentence_piece()) {
      std::size_t num_pairs = 0;
      for (const merge_rule& rule : rules) num_pairs += piece(static_cast<std::size_t>(rule.merged)).size();
      joins_.reserve(num_pairs / 4);
      for (const merge_rule& rule : rules) joins_.add(piece(static_cast<std::size_t>(rule.merged)));
    }
    merges_ = merge_table(std::move(rules), data_.tokens.size());
    data_.merges = {};
    data_.scores = {};
  }

  [[nodiscard]] std::vector<merge_rule> rules_of_merges() const {
    std::vector<merge_rule> rules;
    rules.reserve(data_.merges.size());
    std::string merged;
    for (std::size_t rank = 0; rank < data_.merges.size(); ++rank) {
      const auto& [left, right] = data_.merges[rank];
      merged.assign(left).append(right);
      const merge_rule rule{merge_token(left, rank), merge_token(right, rank), merge_token(merged, rank),
                            static_cast<std::uint32_t>(rank)};
      // Text never becomes markup, whatever the merges say.
      if (can_be_text(rule.left) && can_be_text(rule.right) && can_be_text(rule.merged)) rules.push_back(rule);
    }
    return rules;
  }

  // Id of a token that merge `rank` needs.
  [[nodiscard]] std::int32_t merge_token(const std::string& token, std::size_t rank) const {
    std::int32_t id = find(token);
    if (id < 0 && is_sentence_piece()) {  // files may have spaces already in tokens, and not in merges
      std::string bytes;
      append_with_spaces(bytes, token);
      id = pieces_.find(bytes);
    }
    expect_format(id >= 0, "merge ", rank, " (\"", data_.merges[rank].first, "\" and \"", data_.merges[rank].second,
                  "\") needs the token \"", token, "\", which the vocabulary lacks");
    return id;
  }

  [[nodiscard]] std::vector<merge_rule> rules_of_scores() const {
    constexpr std::size_t longest = 1024;  // bytes; SentencePiece's own are 16 characters unless asked for more
    const std::size_t count = data_.tokens.size();
    expect_format(data_.scores.size() == count, "there are ", data_.scores.size(), " scores for ", count, " tokens");
    const std::size_t most = 64 * count + 65536;
    std::vector<derived_merge> derived;
    std::vector<std::uint32_t> lengths(count);
    const auto find_piece = [&](std::string_view bytes) { return pieces_.find(bytes); };
    for (std::size_t id = 0; id < count; ++id) {
      const auto bytes = piece(id);
      lengths[id] = static_cast<std::uint32_t>(unicode::length(bytes));
      const auto number = static_cast<std::int32_t>(id);
      if (!can_be_text(number) || pieces_.find(bytes) != number) continue;
      const float score = data_.scores[id];
      if (score == -std::numeric_limits<float>::infinity()) continue;  // was added after the others were learned
      expect_format(score == score, "the score of token ", id, " is not a number");
      expect_format(bytes.size() <= longest, "token ", id, " has ", bytes.size(), " bytes, expected at most ", longest);
      expect_format(derive_merges(bytes, number, score, is_sentence_piece(), most, find_piece, derived), "more than ",
                    most, " merges follow from the scores of ", count, " tokens");
    }
    return rank_merges(std::move(derived), lengths, data_.leftmost_ties);
  }

  void build_added() {
    std::vector<const added_token_rule*> rules(data_.tokens.size());
    for (const auto& rule : data_.added_rules) {
      auto& first = rules[static_cast<std::size_t>(rule.id)];
      if (first == nullptr) first = &rule;
    }
    std::vector<added_token_finder::entry> raw;
    std::vector<added_token_finder::entry> normalized;
    for (std::size_t place = 0; place < data_.tokens.size(); ++place) {
      const bool control = is_markup(data_.types[place]);
      if (!control && data_.types[place] != token_type::user_defined) continue;
      const auto id = static_cast<std::int32_t>(place);
      const added_token_rule rule = rules[place] == nullptr ? added_token_rule{} : *rules[place];
      std::string text;
      if (rule.normalized) {
        if (data_.prefix == space_prefix::each_segment) text = " ";
        normalize(data_.tokens[place], text);
      } else {
        text = data_.tokens[place];
      }
      (rule.normalized ? normalized : raw)
          .push_back({std::move(text), id, control, rule.strip_left, rule.strip_right, rule.single_word});
    }
    added_ = added_token_finder(std::move(raw));
    normalized_added_ = added_token_finder(std::move(normalized));
  }

  // Stands in for bytes without a token; false if it goes unsaid.
  void push_missing(std::string_view bytes, bpe_merger& merger, missing_byte_policy missing) const {
    expect(missing == missing_byte_policy::as_vocabulary, data_.source_name, ": the text has byte ",
           static_cast<int>(static_cast<std::uint8_t>(bytes.front())), ", which no token of the vocabulary can make");
    if (!data_.missing_byte) return;
    if (data_.fuse_missing && !merger.empty() && merger.back() == *data_.missing_byte) return;
    merger.push(*data_.missing_byte);
  }

  void push_bytes(std::string_view piece, bpe_merger& merger, missing_byte_policy missing) const {
    for (std::size_t at = 0; at < piece.size(); ++at) {
      const auto id = byte_ids_[static_cast<std::uint8_t>(piece[at])];
      if (id < 0) {
        push_missing(piece.substr(at, 1), merger, missing);
      } else {
        merger.push(id);
      }
    }
  }

  void push_characters(std::string_view piece, bpe_merger& merger, missing_byte_policy missing) const {
    for (std::size_t at = 0; at < piece.size();) {
      const auto first = static_cast<std::uint8_t>(piece[at]);
      const auto step =
          first < 128 ? unicode::code_point_step{first, 1, unicode::sequence_kind::valid} : unicode::decode(piece, at);
      const auto bytes = piece.substr(at, step.length);
      at += step.length;
      const std::int32_t id = first < 128 ? ascii_ids_[first] : pieces_.find(bytes);
      if (id >= 0) {
        merger.push(id);
        continue;
      }
      bool has_bytes = true;
      for (const char byte : bytes) has_bytes = has_bytes && byte_ids_[static_cast<std::uint8_t>(byte)] >= 0;
      if (!has_bytes) {
        push_missing(bytes, merger, missing);
        continue;
      }
      for (const char byte : bytes) merger.push(byte_ids_[static_cast<std::uint8_t>(byte)]);
    }
  }

  tokenizer_data data_;
  token_index index_;   // of data_.tokens
  piece_index pieces_;  // what they stand for
  std::array<std::int32_t, 256> byte_ids_{};
  std::array<std::int32_t, 256> ascii_ids_{};  // sentence_piece: tokens of one ASCII character
  std::string missing_bytes_;
  merge_table merges_;
  join_filter joins_;
  bool can_cut_ = false;  // whether text may be cut where `joins_` says that no merge joins
  added_token_finder added_;
  added_token_finder normalized_added_;
  // By token: what merging its bytes gives, once that was seen. Threads that find out at once note the same.
  std::unique_ptr<std::atomic<std::uint8_t>[]> known_;
};

}  // namespace detail

}  // namespace runnel::text
