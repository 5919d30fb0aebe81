// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/text_encoder.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

/// How `tokenizer::encode` reads a text.
struct encode_options {
  bool parse_special = false;      ///< control tokens written in the text become those tokens; never so for source text
  bool add_bos = false;            ///< put the bos id first (the vocabulary must have one)
  bool parse_user_defined = true;  ///< user-defined tokens, which are text, are found as wholes
  missing_byte_policy missing = missing_byte_policy::as_vocabulary;
  bool continues = false;  ///< the text goes on from another one: no space is put in front of its first word
};

/// A stretch of a text with its own rule for special tokens; see `tokenizer::encode_parts`.
struct text_part {
  std::string_view text;
  bool parse_special = false;
  bool parse_user_defined = true;
};

/// Byte-pair encoding, byte-level or SentencePiece's: text to token ids and back. Immutable, so one can be shared
/// between threads; it can be moved, not copied. For valid UTF-8 the ids are those of Hugging Face's tokenizers; any
/// other bytes are encoded too. `decode(encode(x)) == x` for all bytes if `missing_bytes()` is empty, with exceptions:
/// - text is given back in normalization form C where `normalizes_nfc()`;
/// - U+2581 is a space to SentencePiece, and where spaces are collapsed they stay so;
/// - where a space is only put in front of text that has none (`space_prefix::each_run` and `first_run`) one space at
///   the beginning is lost; where it is put in front of every segment or run, it stays behind added tokens.
class tokenizer {
 public:
  /// Checks the vocabulary and builds the tables. Linear in its size, up to sorting.
  /// \throws format_error naming `data.source_name` and what is wrong with which token, merge or id
  explicit tokenizer(tokenizer_data data) : tables_(std::make_unique<detail::tokenizer_tables>(std::move(data))) {}

  /// Token ids of `text` (any bytes). O(n log n).
  /// \throws config_error if a bos is asked for and there is none, or a byte is missing and `missing` is `refuse`
  /// \throws limit_error for 2^31 bytes or more
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, const encode_options& options = {}) const {
    const std::array parts{text_part{text, options.parse_special, options.parse_user_defined}};
    return encode_parts(parts, options);
  }

  /// Token ids of a text given in parts that differ in whether special tokens are looked for, as in a chat template
  /// around a user's words. Apart from that the cuts between parts leave no trace: merges cross them. The parts' own
  /// flags count, not those of `options`.
  [[nodiscard]] std::vector<std::int32_t> encode_parts(std::span<const text_part> parts,
                                                       const encode_options& options = {}) const {
    constexpr std::size_t most = std::numeric_limits<std::int32_t>::max();
    std::size_t length = 0;
    for (const auto& part : parts) {
      expect<limit_error>(part.text.size() <= most - length, source_name(), ": a text of ", length + part.text.size(),
                          " bytes, expected at most ", most, " at once");
      length += part.text.size();
    }
    detail::text_encoder encoder(*tables_, options.missing, options.continues);
    if (options.add_bos) encoder.ids().push_back(need_bos());
    added_token_finder::filter wanted;
    for (const auto& part : parts) {
      wanted = {part.parse_special, part.parse_user_defined};
      encoder.read(part.text, wanted, true);
    }
    encoder.finish(wanted);
    return std::move(encoder.ids());
  }

  /// Bytes of the tokens one after another, less a space in front where `strips_leading_space()`; `skip_special` leaves
  /// control tokens out.
  /// \throws config_error for an id outside the vocabulary
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const {
    std::string out;
    for (const auto id : ids) {
      const auto bytes = piece(id);
      if (!skip_special || !is_special(id)) out += bytes;
    }
    if (strips_leading_space() && out.starts_with(' ')) out.erase(0, 1);
    return out;
  }

  /// Bytes that a token stands for, perhaps only a part of a UTF-8 sequence; control tokens give their name.
  /// \throws config_error for an id outside the vocabulary
  [[nodiscard]] std::string_view piece(std::int32_t id) const { return tables_->piece(checked(id)); }

  /// A token as the file writes it (GPT-2's alphabet, or with U+2581 for spaces). \throws config_error for an id
  /// outside the vocabulary
  [[nodiscard]] const std::string& token(std::int32_t id) const { return data().tokens[checked(id)]; }

  /// Kind of a token. \throws config_error for an id outside the vocabulary
  [[nodiscard]] token_type type(std::int32_t id) const { return data().types[checked(id)]; }

  /// Whether a token is markup and not text. \throws config_error for an id outside the vocabulary
  [[nodiscard]] bool is_special(std::int32_t id) const { return detail::is_markup(type(id)); }

  /// Id of a token given as the file writes it, such as `<|im_end|>`.
  [[nodiscard]] std::optional<std::int32_t> find(std::string_view token) const {
    const std::int32_t id = tables_->find(token);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  /// Number of ids: all are in [0, vocabulary_size()).
  [[nodiscard]] std::int32_t vocabulary_size() const noexcept {
    return static_cast<std::int32_t>(data().tokens.size());
  }
  /// Id that begins a text, if there is one.
  [[nodiscard]] std::optional<std::int32_t> bos() const noexcept { return data().bos; }
  /// Id that stands for the unknown, if there is one.
  [[nodiscard]] std::optional<std::int32_t> unknown() const noexcept { return data().unknown; }
  /// Id that fills batches, if there is one.
  [[nodiscard]] std::optional<std::int32_t> padding() const noexcept { return data().padding; }
  /// Ids that end a text, sorted.
  [[nodiscard]] std::span<const std::int32_t> eos_ids() const noexcept { return data().eos_ids; }
  /// Whether `id` ends a text.
  [[nodiscard]] bool is_eos(std::int32_t id) const noexcept {
    return std::binary_search(data().eos_ids.begin(), data().eos_ids.end(), id);
  }
  /// Whether the model expects bos at the beginning of a text; `encode` adds it only when asked.
  [[nodiscard]] bool adds_bos() const noexcept { return data().add_bos; }
  /// Whether text is brought to normalization form C before it is encoded.
  [[nodiscard]] bool normalizes_nfc() const noexcept { return data().nfc; }
  /// Whether tokens are bytes in GPT-2's alphabet or SentencePiece's text.
  [[nodiscard]] vocabulary_form form() const noexcept { return data().form; }
  /// Where `encode` puts a space in front of text.
  [[nodiscard]] space_prefix prefix() const noexcept { return data().prefix; }
  /// Whether `decode` drops a space in front of text, as `encode` has put it there.
  [[nodiscard]] bool strips_leading_space() const noexcept { return data().strip_leading_space; }
  /// How text is cut before merging; of byte-level vocabularies.
  [[nodiscard]] pre_tokenizer_kind pre_tokenizer() const noexcept { return data().pre_tokenizer; }
  /// The file's chat template, or nothing.
  [[nodiscard]] const std::string& chat_template() const noexcept { return data().chat_template; }
  /// The chat format that the model's files name, as JSON, or nothing; see `chat_format_of`.
  [[nodiscard]] const std::string& chat_format() const noexcept { return data().chat_format; }
  /// Where the vocabulary came from.
  [[nodiscard]] const std::string& source_name() const noexcept { return data().source_name; }
  /// Bytes that no token of this vocabulary can make, in ascending order; SmolLM2's lacks 21, most of them never in
  /// UTF-8.
  [[nodiscard]] const std::string& missing_bytes() const noexcept { return tables_->missing_bytes(); }

 private:
  friend class streaming_tokenizer;

  [[nodiscard]] const tokenizer_data& data() const noexcept { return tables_->data(); }

  [[nodiscard]] std::size_t checked(std::int32_t id) const {
    expect(id >= 0 && id < vocabulary_size(), source_name(), ": token id ", id, " is outside the vocabulary of ",
           vocabulary_size());
    return static_cast<std::size_t>(id);
  }

  [[nodiscard]] std::int32_t need_bos() const {
    expect(bos().has_value(), source_name(), ": a bos token was asked for, but the vocabulary has none");
    return *bos();
  }

  std::unique_ptr<const detail::tokenizer_tables> tables_;
};

}  // namespace runnel::text
