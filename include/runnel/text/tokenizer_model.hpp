// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/text/tokenizer_companions.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_tables.hpp>

namespace runnel::text {

namespace detail {

/// Largest tokenizer.model that is read; Gemma's has 5 MB.
inline constexpr std::uint64_t most_tokenizer_model_bytes = std::uint64_t{64} << 20U;

/// Reads the fields of one message of Protocol Buffers, one after another, and never leaves it.
class protobuf_reader {
 public:
  /// `where` names the file and the message for complaints, and must outlive the reader.
  protobuf_reader(std::string_view bytes, std::string_view where) noexcept : bytes_(bytes), where_(where) {}

  /// Goes to the next field. \throws format_error if there is something that is none
  bool next() {
    if (at_ == bytes_.size()) return false;
    const std::uint64_t key = varint();
    field_ = key >> 3U;
    wire_ = static_cast<unsigned>(key & 7U);
    if (field_ == 0) fail("field number 0");
    switch (wire_) {
      case 0: number_ = varint(); return true;
      case 1: take(8); return true;
      case 2: take(varint()); return true;
      case 5: take(4); return true;
      default: fail("wire type ", wire_, " of field ", field_);
    }
  }

  [[nodiscard]] std::uint64_t field() const noexcept { return field_; }

  /// The field as what it must be. \throws format_error
  [[nodiscard]] std::uint64_t number() const {
    if (wire_ != 0) fail("field ", field_, " has wire type ", wire_, ", expected a number");
    return number_;
  }
  /// As `number()`; negative ones are stored as large ones. Nothing if it does not fit.
  [[nodiscard]] std::optional<std::int32_t> integer() const {
    const auto value = static_cast<std::int64_t>(number());
    if (value < -(std::int64_t{1} << 31U) || value >= std::int64_t{1} << 31U) return std::nullopt;
    return static_cast<std::int32_t>(value);
  }
  [[nodiscard]] std::string_view bytes() const {
    if (wire_ != 2) fail("field ", field_, " has wire type ", wire_, ", expected bytes");
    return value_;
  }
  [[nodiscard]] float real() const {
    if (wire_ != 5) fail("field ", field_, " has wire type ", wire_, ", expected a 32-bit number");
    std::uint32_t bits = 0;
    for (std::size_t i = 4; i-- > 0;) bits = (bits << 8U) | static_cast<std::uint8_t>(value_[i]);
    return std::bit_cast<float>(bits);
  }

  template <class... Parts>
  [[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(where_, ": at byte ", at_, ": ", parts...);
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("the message ends inside a number");
      const auto byte = static_cast<std::uint8_t>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number has more than 10 bytes");
  }

  void take(std::uint64_t count) {
    if (count > bytes_.size() - at_) {
      fail("field ", field_, " has ", count, " bytes, but only ", bytes_.size() - at_, " remain");
    }
    value_ = bytes_.substr(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
  }

  std::string_view bytes_;
  std::string_view where_;
  std::size_t at_ = 0;
  std::uint64_t field_ = 0;
  unsigned wire_ = 0;
  std::uint64_t number_ = 0;
  std::string_view value_;
};

/// Reads one SentencePiece model (its ModelProto) into a `tokenizer_data`.
class sentence_piece_reader {
 public:
  explicit sentence_piece_reader(const std::string& source_name) {
    data_.source_name = source_name;
    data_.form = vocabulary_form::sentence_piece;
  }

  [[nodiscard]] tokenizer_data read(std::string_view bytes) && {
    protobuf_reader model(bytes, data_.source_name);
    while (model.next()) {
      if (model.field() == 1) read_piece(model.bytes());
      if (model.field() == 2) read_trainer(model.bytes());
      if (model.field() == 3) read_normalizer(model.bytes());
    }
    if (data_.tokens.empty()) fail("has no pieces, expected a SentencePiece model");
    if (type_ != bpe) {
      fail("trainer_spec.model_type is ", type_, type_ == 1 ? " (Unigram)" : "",
           ", which is not supported, expected 2 ", "(BPE)");
    }
    data_.unknown = special("unk_id", unk_, token_type::unknown);
    data_.bos = special("bos_id", bos_, token_type::control);
    data_.padding = special("pad_id", pad_, token_type::control);
    if (const auto eos = special("eos_id", eos_, token_type::control)) data_.eos_ids.push_back(*eos);
    data_.prefix = dummy_prefix_ ? space_prefix::each_segment : space_prefix::none;
    data_.collapse_spaces = collapses_;
    data_.missing_byte = data_.unknown;
    data_.fuse_missing = true;
    data_.add_bos = data_.bos.has_value();
    data_.strip_leading_space = data_.prefix != space_prefix::none;
    return std::move(data_);
  }

 private:
  static constexpr std::uint64_t bpe = 2;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(data_.source_name, ": ", parts...);
  }

  // The name of a message inside the model, for complaints.
  [[nodiscard]] std::string inside(std::string_view what) const { return message(data_.source_name, ": ", what); }

  void read_piece(std::string_view bytes) {
    const std::size_t id = data_.tokens.size();
    const auto where = inside("piece");
    protobuf_reader piece(bytes, where);
    std::string_view text;
    float score = 0;
    std::uint64_t type = 1;
    while (piece.next()) {
      if (piece.field() == 1) text = piece.bytes();
      if (piece.field() == 2) score = piece.real();
      if (piece.field() == 3) type = piece.number();
    }
    if (type < 1 || type > 6) fail("piece ", id, " has type ", type, ", expected 1 to 6");
    if (text.empty()) fail("piece ", id, " has no text");
    data_.tokens.emplace_back(text);
    data_.types.push_back(static_cast<token_type>(type));
    data_.scores.push_back(score);
  }

  void read_trainer(std::string_view bytes) {
    const auto where = inside("trainer_spec");
    protobuf_reader trainer(bytes, where);
    while (trainer.next()) {
      switch (trainer.field()) {
        case 3: type_ = trainer.number(); break;
        case 24:
          if (trainer.number() != 0) fail("trainer_spec.treat_whitespace_as_suffix is not supported");
          break;
        case 40: unk_ = trainer.integer(); break;
        case 41: bos_ = trainer.integer(); break;
        case 42: eos_ = trainer.integer(); break;
        case 43: pad_ = trainer.integer(); break;
        default: break;
      }
    }
  }

  void read_normalizer(std::string_view bytes) {
    const auto where = inside("normalizer_spec");
    protobuf_reader normalizer(bytes, where);
    std::string_view name;
    while (normalizer.next()) {
      switch (normalizer.field()) {
        case 1: name = normalizer.bytes(); break;
        case 2:
          if (!normalizer.bytes().empty()) {
            fail("normalizer_spec.precompiled_charsmap (\"", name.substr(0, 40),
                 "\") is not supported, expected none, as with the normalizer \"identity\"");
          }
          break;
        case 3: dummy_prefix_ = normalizer.number() != 0; break;
        case 4: collapses_ = normalizer.number() != 0; break;
        case 5:
          if (normalizer.number() == 0) fail("normalizer_spec.escape_whitespaces is false, which is not supported");
          break;
        default: break;
      }
    }
  }

  // A special id, if the model has it. Those of the trainer that no piece of the kind stands for are not used.
  [[nodiscard]] std::optional<std::int32_t> special(std::string_view key, std::optional<std::int32_t> id,
                                                    token_type type) const {
    if (!id) fail("trainer_spec.", key, " does not fit 32 bits");
    if (*id < 0) return std::nullopt;
    const auto place = static_cast<std::size_t>(*id);
    if (place >= data_.tokens.size()) {
      fail("trainer_spec.", key, " ", *id, " is outside the vocabulary of ", data_.tokens.size());
    }
    return data_.types[place] == type ? id : std::nullopt;
  }

  tokenizer_data data_;
  std::uint64_t type_ = 1;
  std::optional<std::int32_t> unk_ = 0;
  std::optional<std::int32_t> bos_ = 1;
  std::optional<std::int32_t> eos_ = 2;
  std::optional<std::int32_t> pad_ = -1;
  bool dummy_prefix_ = true;
  bool collapses_ = true;
};

}  // namespace detail

/// The vocabulary in the bytes of a SentencePiece model (`tokenizer.model`) of type BPE whose normaliser changes
/// nothing but spaces, as Llama 2, Mistral, Phi-3 and Gemma have it. Ids are those of Hugging Face's tokenizers that
/// are made from such a file. \throws format_error naming `source_name`, the field and what was found
[[nodiscard]] inline tokenizer_data parse_tokenizer_model(std::string_view bytes, const std::string& source_name) {
  return detail::sentence_piece_reader(source_name).read(bytes);
}

/// The vocabulary in a `tokenizer.model`, given as that file or the folder that holds it. What `tokenizer_config.json`
/// (added tokens, bos, eos and others, chat template), `added_tokens.json`, `generation_config.json`,
/// `chat_template.jinja` and `chat_format.json` beside it say is added.
/// \throws io_error if a file cannot be read \throws format_error as above
[[nodiscard]] inline tokenizer_data read_tokenizer_model(std::filesystem::path path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) path /= "tokenizer.model";
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  expect<format_error>(bytes.size() <= detail::most_tokenizer_model_bytes, file.name(), ": has ", bytes.size(),
                       " bytes, expected at most ", detail::most_tokenizer_model_bytes);
  auto data = parse_tokenizer_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name());
  detail::tokenizer_companions(path.parent_path(), data).read_with_added_tokens();
  return data;
}

}  // namespace runnel::text
