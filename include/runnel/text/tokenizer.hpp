// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/added_tokens.hpp>
#include <runnel/text/bpe.hpp>
#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/token_index.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/unicode/normalization.hpp>

namespace runnel::text {

/// What to do with a byte that no token of the vocabulary can make.
enum class missing_byte_policy : std::uint8_t {
  as_vocabulary,  ///< as Hugging Face's tokenizers: the vocabulary's unknown token if it declares one, else nothing
  refuse,         ///< throw config_error
};

/// How `tokenizer::encode` reads a text.
struct encode_options {
  bool parse_special = false;      ///< control tokens written in the text become those tokens; never so for source text
  bool add_bos = false;            ///< put the bos id first (the vocabulary must have one)
  bool parse_user_defined = true;  ///< user-defined tokens, which are text, are found as wholes
  missing_byte_policy missing = missing_byte_policy::as_vocabulary;
};

/// A stretch of a text with its own rule for special tokens; see `tokenizer::encode_parts`.
struct text_part {
  std::string_view text;
  bool parse_special = false;
  bool parse_user_defined = true;
};

/// Byte-level byte-pair encoding: text to token ids and back. Immutable, so one can be shared between threads; it can
/// be moved, not copied. For valid UTF-8 the ids are those of Hugging Face's tokenizers; any other bytes are encoded
/// too. `decode(encode(x)) == x` for all bytes if `missing_bytes()` is empty and, where `normalizes_nfc()`, x is in
/// that form.
class tokenizer {
 public:
  /// Checks the vocabulary and builds the tables. Linear in its size, up to sorting.
  /// \throws format_error naming `data.source_name` and what is wrong with which token, merge or id
  explicit tokenizer(tokenizer_data data) : data_(std::move(data)) {
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
  }

  tokenizer(const tokenizer&) = delete;
  tokenizer& operator=(const tokenizer&) = delete;
  tokenizer(tokenizer&&) = default;
  tokenizer& operator=(tokenizer&&) = default;
  ~tokenizer() = default;

  /// Token ids of `text` (any bytes). O(n log n).
  /// \throws config_error if a bos is asked for and there is none, or a byte is missing and `missing` is `refuse`
  /// \throws limit_error for a piece without a break of 2^31 bytes or more
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, const encode_options& options = {}) const {
    const std::array parts{text_part{text, options.parse_special, options.parse_user_defined}};
    return encode_parts(parts, options);
  }

  /// Token ids of a text given in parts that differ in whether special tokens are looked for, as in a chat template
  /// around a user's words. Apart from that the cuts between parts leave no trace: merges cross them. The parts' own
  /// flags count, not those of `options`.
  [[nodiscard]] std::vector<std::int32_t> encode_parts(std::span<const text_part> parts,
                                                       const encode_options& options = {}) const {
    std::vector<std::int32_t> ids;
    if (options.add_bos) {
      expect(data_.bos.has_value(), data_.source_name, ": a bos token was asked for, but the vocabulary has none");
      ids.push_back(*data_.bos);
    }
    encoding state{ids, bpe_merger(merges_), {}, options.missing};
    for (const auto& part : parts) encode_part(part, state);
    end_run(state);
    return ids;
  }

  /// Bytes of the tokens one after another; `skip_special` leaves control tokens out.
  /// \throws config_error for an id outside the vocabulary
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const {
    std::string out;
    for (const auto id : ids) {
      const auto bytes = piece(id);
      if (!skip_special || !is_special(id)) out += bytes;
    }
    return out;
  }

  /// Bytes that a token stands for, perhaps only a part of a UTF-8 sequence; control tokens give their name.
  /// \throws config_error for an id outside the vocabulary
  [[nodiscard]] std::string_view piece(std::int32_t id) const {
    const auto place = checked(id);
    return std::string_view(piece_bytes_).substr(piece_begins_[place], piece_begins_[place + 1] - piece_begins_[place]);
  }

  /// A token as the file writes it (GPT-2's alphabet). \throws config_error for an id outside the vocabulary
  [[nodiscard]] const std::string& token(std::int32_t id) const { return data_.tokens[checked(id)]; }

  /// Kind of a token. \throws config_error for an id outside the vocabulary
  [[nodiscard]] token_type type(std::int32_t id) const { return data_.types[checked(id)]; }

  /// Whether a token is markup and not text. \throws config_error for an id outside the vocabulary
  [[nodiscard]] bool is_special(std::int32_t id) const { return is_markup(type(id)); }

  /// Id of a token given as the file writes it, such as `<|im_end|>`.
  [[nodiscard]] std::optional<std::int32_t> find(std::string_view token) const {
    const std::int32_t id = index_.find(token, data_.tokens);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  /// Number of ids: all are in [0, vocabulary_size()).
  [[nodiscard]] std::int32_t vocabulary_size() const noexcept { return static_cast<std::int32_t>(data_.tokens.size()); }
  /// Id that begins a text, if there is one.
  [[nodiscard]] std::optional<std::int32_t> bos() const noexcept { return data_.bos; }
  /// Id that stands for the unknown, if there is one.
  [[nodiscard]] std::optional<std::int32_t> unknown() const noexcept { return data_.unknown; }
  /// Id that fills batches, if there is one.
  [[nodiscard]] std::optional<std::int32_t> padding() const noexcept { return data_.padding; }
  /// Ids that end a text, sorted.
  [[nodiscard]] std::span<const std::int32_t> eos_ids() const noexcept { return data_.eos_ids; }
  /// Whether `id` ends a text.
  [[nodiscard]] bool is_eos(std::int32_t id) const noexcept {
    return std::binary_search(data_.eos_ids.begin(), data_.eos_ids.end(), id);
  }
  /// Whether the model expects bos at the beginning of a text; `encode` adds it only when asked.
  [[nodiscard]] bool adds_bos() const noexcept { return data_.add_bos; }
  /// Whether text is brought to normalization form C before it is encoded.
  [[nodiscard]] bool normalizes_nfc() const noexcept { return data_.nfc; }
  /// How text is cut before merging.
  [[nodiscard]] pre_tokenizer_kind pre_tokenizer() const noexcept { return data_.pre_tokenizer; }
  /// The file's chat template, or nothing.
  [[nodiscard]] const std::string& chat_template() const noexcept { return data_.chat_template; }
  /// Where the vocabulary came from.
  [[nodiscard]] const std::string& source_name() const noexcept { return data_.source_name; }
  /// Bytes that no token of this vocabulary can make, in ascending order; SmolLM2's lacks 21, most of them never in
  /// UTF-8.
  [[nodiscard]] const std::string& missing_bytes() const noexcept { return missing_bytes_; }

 private:
  [[nodiscard]] static constexpr bool is_markup(token_type type) noexcept {
    return type == token_type::control || type == token_type::unknown;
  }

  template <class... Parts>
  void expect_format(bool condition, const Parts&... parts) const {
    expect<format_error>(condition, data_.source_name, ": ", parts...);
  }

  [[nodiscard]] std::size_t checked(std::int32_t id) const {
    expect(id >= 0 && id < vocabulary_size(), data_.source_name, ": token id ", id, " is outside the vocabulary of ",
           data_.tokens.size());
    return static_cast<std::size_t>(id);
  }

  void check_id(std::string_view what, std::optional<std::int32_t> id) const {
    expect_format(!id || (*id >= 0 && *id < vocabulary_size()), what, " id ", id.value_or(0),
                  " is outside the vocabulary of ", data_.tokens.size());
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

  // The bytes of `<0x0A>`.
  [[nodiscard]] static std::optional<char> parse_byte_token(std::string_view token) noexcept {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return {};
    int value = 0;
    for (const char digit : token.substr(3, 2)) {
      const auto place = std::string_view("0123456789ABCDEFabcdef").find(digit);
      if (place == std::string_view::npos) return {};
      value = value * 16 + static_cast<int>(place < 16 ? place : place - 6);
    }
    return static_cast<char>(static_cast<unsigned char>(value));
  }

  void build_pieces() {
    piece_begins_.reserve(data_.tokens.size() + 1);
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      const auto& token = data_.tokens[id];
      piece_begins_.push_back(piece_bytes_.size());
      const auto byte = data_.types[id] == token_type::byte ? parse_byte_token(token) : std::nullopt;
      if (byte) {
        piece_bytes_.push_back(*byte);
      } else if (is_markup(data_.types[id]) || data_.types[id] == token_type::user_defined ||
                 !append_from_byte_alphabet(piece_bytes_, token)) {
        // A token with characters outside the alphabet stands for its own text.
        piece_bytes_ += token;
      }
    }
    piece_begins_.push_back(piece_bytes_.size());
  }

  void build_bytes() {
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      byte_ids_[byte] = -1;
      const auto found = find(unicode::encode(detail::byte_alphabet[byte]));
      if (found && can_be_text(*found)) byte_ids_[byte] = *found;
      if (byte_ids_[byte] < 0) missing_bytes_.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    }
    expect_format(missing_bytes_.size() < byte_ids_.size(),
                  "no token stands for a single byte, expected a byte-level vocabulary in GPT-2's alphabet");
  }

  [[nodiscard]] bool can_be_text(std::int32_t id) const noexcept {
    const auto type = data_.types[static_cast<std::size_t>(id)];
    return !is_markup(type) && type != token_type::unused;
  }

  void build_merges() {
    std::vector<merge_rule> rules;
    rules.reserve(data_.merges.size());
    expect_format(data_.merges.size() <= std::numeric_limits<std::uint32_t>::max(), "there are too many merges");
    std::string merged;
    for (std::size_t rank = 0; rank < data_.merges.size(); ++rank) {
      const auto& [left, right] = data_.merges[rank];
      merged.assign(left).append(right);
      const merge_rule rule{merge_token(left, rank), merge_token(right, rank), merge_token(merged, rank),
                            static_cast<std::uint32_t>(rank)};
      // Text never becomes markup, whatever the merges say.
      if (can_be_text(rule.left) && can_be_text(rule.right) && can_be_text(rule.merged)) rules.push_back(rule);
    }
    merges_ = merge_table(std::move(rules), data_.tokens.size());
    data_.merges = {};
  }

  // Id of a token that merge `rank` needs.
  [[nodiscard]] std::int32_t merge_token(const std::string& token, std::size_t rank) const {
    const std::int32_t id = index_.find(token, data_.tokens);
    expect_format(id >= 0, "merge ", rank, " (\"", data_.merges[rank].first, "\" and \"", data_.merges[rank].second,
                  "\") needs the token \"", token, "\", which the vocabulary lacks");
    return id;
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
      auto text = rule.normalized && data_.nfc ? unicode::nfc(data_.tokens[place]) : data_.tokens[place];
      (rule.normalized ? normalized : raw).push_back({std::move(text), id, control, rule.strip_left, rule.strip_right});
    }
    added_ = added_token_finder(std::move(raw));
    normalized_added_ = added_token_finder(std::move(normalized));
  }

  // A text on its way to ids: `run` is what was read since the last added token.
  struct encoding {
    std::vector<std::int32_t>& ids;
    bpe_merger merger;
    std::string run;
    missing_byte_policy missing;
  };

  void encode_part(const text_part& part, encoding& state) const {
    const added_token_finder::filter wanted{part.parse_special, part.parse_user_defined};
    for (std::size_t at = 0; at < part.text.size();) {
      const auto found = added_.next(part.text, at, wanted);
      encode_normalized(part.text.substr(at, found.begin - at), wanted, state);
      if (found.id >= 0) add_token(found.id, state);
      at = found.end;
    }
  }

  // Text between added tokens, in which those that are looked for after normalisation may be.
  void encode_normalized(std::string_view text, added_token_finder::filter wanted, encoding& state) const {
    if (normalized_added_.empty()) {
      state.run += text;
      return;
    }
    const std::string form = data_.nfc ? unicode::nfc(text) : std::string();
    if (data_.nfc) text = form;
    for (std::size_t at = 0; at < text.size();) {
      const auto found = normalized_added_.next(text, at, wanted);
      state.run += text.substr(at, found.begin - at);
      if (found.id >= 0) add_token(found.id, state);
      at = found.end;
    }
  }

  void add_token(std::int32_t id, encoding& state) const {
    end_run(state);
    state.ids.push_back(id);
  }

  void end_run(encoding& state) const {
    if (state.run.empty()) return;
    if (data_.nfc) state.run = unicode::nfc(state.run);
    for_each_piece(data_.pre_tokenizer, state.run, [&](std::string_view piece) { encode_piece(piece, state); });
    state.run.clear();
  }

  void encode_piece(std::string_view piece, encoding& state) const {
    if (data_.ignore_merges) {
      const auto whole = find(to_byte_alphabet(piece));
      if (whole && data_.types[static_cast<std::size_t>(*whole)] == token_type::normal)
        return state.ids.push_back(*whole);
    }
    bpe_merger& merger = state.merger;
    merger.clear();
    for (const char byte : piece) {
      const auto value = static_cast<std::uint8_t>(byte);
      auto id = byte_ids_[value];
      if (id < 0) {
        expect(state.missing == missing_byte_policy::as_vocabulary, data_.source_name, ": the text has byte ",
               static_cast<int>(value), ", which no token of the vocabulary can make");
        if (!data_.missing_byte) continue;
        id = *data_.missing_byte;
        if (data_.fuse_missing && !merger.empty() && merger.back() == id) continue;
      }
      merger.push(id);
    }
    merger.finish(state.ids);
  }

  tokenizer_data data_;
  token_index index_;  // of data_.tokens
  std::string piece_bytes_;
  std::vector<std::size_t> piece_begins_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::string missing_bytes_;
  merge_table merges_;
  added_token_finder added_;
  added_token_finder normalized_added_;
};

}  // namespace runnel::text
