// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// Token ids to text as they come, in whole characters: a character whose bytes are spread over tokens appears with
/// its last byte. What is no UTF-8 becomes U+FFFD, so all that was returned, one after another, is
/// `unicode::replace_invalid(tokenizer.decode(ids))`; a space in front of the text is dropped where `decode` drops it.
/// (Hugging Face's decoders make U+FFFD of every byte of a run of SentencePiece's byte tokens if any of it is no UTF-8,
/// which can only be known at the run's end; where text is valid the two agree.) Holds a pointer to the tokenizer,
/// which must outlive it, and at most 3 bytes; copying one is cheap.
class incremental_detokenizer {
 public:
  /// Can only be assigned to.
  incremental_detokenizer() = default;

  /// Begins a text; `skip_special` leaves control tokens out.
  explicit incremental_detokenizer(const tokenizer& vocabulary, bool skip_special = false) noexcept
      : vocabulary_(&vocabulary), skip_special_(skip_special) {}

  /// Text that token `id` completes, perhaps empty. \throws config_error for an id outside the vocabulary
  [[nodiscard]] std::string push(std::int32_t id) {
    expect(vocabulary_ != nullptr, "incremental_detokenizer: was made without a tokenizer");
    auto piece = vocabulary_->piece(id);
    if (skip_special_ && vocabulary_->is_special(id)) return {};
    if (at_beginning_ && !piece.empty()) {
      if (vocabulary_->strips_leading_space() && piece.front() == ' ') piece.remove_prefix(1);
      at_beginning_ = false;
    }
    std::string bytes(held_.data(), num_held_);
    bytes += piece;
    const std::size_t tail = unicode::incomplete_tail(bytes);
    std::string text = unicode::replace_invalid(std::string_view(bytes).substr(0, bytes.size() - tail));
    num_held_ = static_cast<std::uint8_t>(bytes.copy(held_.data(), tail, bytes.size() - tail));
    return text;
  }

  /// Ends the text: U+FFFD for a character that was never completed, else nothing. A new text can begin after it.
  [[nodiscard]] std::string finish() {
    const bool held = num_held_ != 0;
    num_held_ = 0;
    at_beginning_ = true;
    return held ? std::string(unicode::replacement_character) : std::string();
  }

  /// Bytes of a character that is not complete yet, 0 to 3.
  [[nodiscard]] std::size_t held() const noexcept { return num_held_; }

 private:
  const tokenizer* vocabulary_ = nullptr;
  std::array<char, 3> held_{};
  std::uint8_t num_held_ = 0;
  bool skip_special_ = false;
  bool at_beginning_ = true;
};

}  // namespace runnel::text
