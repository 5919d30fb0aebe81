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
#include <unordered_map>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/added_tokens.hpp>
#include <runnel/text/bpe.hpp>
#include <runnel/text/byte_alphabet.hpp>
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
    build_ids();
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
    bpe_merger merger(merges_);
    std::string run;
    const auto end_run = [&] {
      encode_run(run, options.missing, merger, ids);
      run.clear();
    };
    const auto plain = [&](std::string_view text) { run += text; };
    const auto added = [&](std::int32_t id) {
      end_run();
      ids.push_back(id);
    };
    for (const auto& part : parts) {
      const added_token_finder::filter wanted{part.parse_special, part.parse_user_defined};
      const auto rest = [&](std::string_view text) { split_normalized(text, wanted, plain, added); };
      added_.split(part.text, wanted, rest, added);
    }
    end_run();
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
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
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
    std::sort(data_.eos_ids.begin(), data_.eos_ids.end());
    data_.eos_ids.erase(std::unique(data_.eos_ids.begin(), data_.eos_ids.end()), data_.eos_ids.end());
    expect_format(!data_.add_bos || data_.bos.has_value(), "bos is to be added, but no bos id is given");
    for (std::size_t id = 0; id < data_.types.size(); ++id) {
      const auto type = static_cast<std::int32_t>(data_.types[id]);
      expect_format(type >= 1 && type <= 6, "token ", id, " has type ", type, ", expected 1 to 6");
    }
  }

  void build_ids() {
    ids_.reserve(data_.tokens.size());
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (data_.tokens[id].empty()) data_.types[id] = token_type::unused;
      if (data_.types[id] == token_type::unused) continue;
      const auto [earlier, is_new] = ids_.emplace(data_.tokens[id], static_cast<std::int32_t>(id));
      expect_format(is_new, "tokens ", earlier->second, " and ", id, " are both \"", data_.tokens[id], '"');
    }
    // Unused ids can still be asked for by name where no other token has it.
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!data_.tokens[id].empty()) ids_.emplace(data_.tokens[id], static_cast<std::int32_t>(id));
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
      } else if (is_markup(data_.types[id]) || data_.types[id] == token_type::user_defined) {
        piece_bytes_ += token;
      } else {
        // A token with characters outside the alphabet stands for its own text.
        piece_bytes_ += from_byte_alphabet(token).value_or(token);
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
      const auto& left = data_.merges[rank].first;
      const auto& right = data_.merges[rank].second;
      const auto id_of = [&](const std::string& token) {
        const auto found = find(token);
        expect_format(found.has_value(), "merge ", rank, " (\"", left, "\" and \"", right, "\") needs the token \"",
                      token, "\", which the vocabulary lacks");
        return *found;
      };
      merged = left + right;
      const merge_rule rule{id_of(left), id_of(right), id_of(merged), static_cast<std::uint32_t>(rank)};
      // Text never becomes markup, whatever the merges say.
      if (can_be_text(rule.left) && can_be_text(rule.right) && can_be_text(rule.merged)) rules.push_back(rule);
    }
    merges_ = merge_table(std::move(rules), data_.tokens.size());
    data_.merges = {};
  }

  void build_added() {
    std::unordered_map<std::int32_t, const added_token_rule*> rules;
    for (const auto& rule : data_.added_rules) rules.emplace(rule.id, &rule);
    std::vector<added_token_finder::entry> raw;
    std::vector<added_token_finder::entry> normalized;
    for (std::size_t place = 0; place < data_.tokens.size(); ++place) {
      const bool control = is_markup(data_.types[place]);
      if (!control && data_.types[place] != token_type::user_defined) continue;
      const auto id = static_cast<std::int32_t>(place);
      const auto found = rules.find(id);
      const added_token_rule rule = found == rules.end() ? added_token_rule{} : *found->second;
      auto text = rule.normalized && data_.nfc ? unicode::nfc(data_.tokens[place]) : data_.tokens[place];
      (rule.normalized ? normalized : raw).push_back({std::move(text), id, control, rule.strip_left, rule.strip_right});
    }
    added_ = added_token_finder(std::move(raw));
    normalized_added_ = added_token_finder(std::move(normalized));
  }

  template <class Plain, class Added>
  void split_normalized(std::string_view text, added_token_finder::filter wanted, const Plain& plain,
                        const Added& added) const {
    if (normalized_added_.empty()) return plain(text);
    const std::string form = data_.nfc ? unicode::nfc(text) : std::string();
    normalized_added_.split(data_.nfc ? std::string_view(form) : text, wanted, plain, added);
  }

  void encode_run(std::string_view run, missing_byte_policy missing, bpe_merger& merger,
                  std::vector<std::int32_t>& ids) const {
    if (run.empty()) return;
    const std::string form = data_.nfc ? unicode::nfc(run) : std::string();
    for_each_piece(data_.pre_tokenizer, data_.nfc ? std::string_view(form) : run,
                   [&](std::string_view piece) { encode_piece(piece, missing, merger, ids); });
  }

  void encode_piece(std::string_view piece, missing_byte_policy missing, bpe_merger& merger,
                    std::vector<std::int32_t>& ids) const {
    if (data_.ignore_merges) {
      const auto whole = find(to_byte_alphabet(piece));
      if (whole && data_.types[static_cast<std::size_t>(*whole)] == token_type::normal) return ids.push_back(*whole);
    }
    merger.clear();
    for (const char byte : piece) {
      const auto value = static_cast<std::uint8_t>(byte);
      auto id = byte_ids_[value];
      if (id < 0) {
        expect(missing == missing_byte_policy::as_vocabulary, data_.source_name, ": the text has byte ",
               static_cast<int>(value), ", which no token of the vocabulary can make");
        if (!data_.missing_byte) continue;
        id = *data_.missing_byte;
        if (data_.fuse_missing && !merger.empty() && merger.back() == id) continue;
      }
      merger.push(id);
    }
    merger.finish(ids);
  }

  tokenizer_data data_;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // views into data_.tokens, whose strings do not move
  std::string piece_bytes_;
  std::vector<std::size_t> piece_begins_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::string missing_bytes_;
  merge_table merges_;
  added_token_finder added_;
  added_token_finder normalized_added_;
};

}  // namespace runnel::text
