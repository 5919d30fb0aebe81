// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/added_tokens.hpp>
#include <runnel/text/text_encoder.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::text {

/// Token ids of a text that arrives in chunks of any size, with a watermark: the ids in front of it are final, whatever
/// comes; those behind it can still change, because merges reach across chunks. At any time the final ids followed by
/// `tentative()` are what `tokenizer::encode` gives for the text so far, and where the chunks are cut makes no
/// difference to what all of them are in the end.
///
/// An id is final as soon as the text after it shows so: at a cut of the pre-tokenizer, or, without one
/// (SentencePiece), between two characters that no merge joins, such as in front of a space. Text of a piece of more
/// than 4 KiB without such a place is looked through again only when it has grown by a sixteenth. What is final is
/// forgotten, so memory is bounded by the longest such piece, and that by `most_held_bytes`.
class streaming_tokenizer {
 public:
  /// Text without a place to cut that is held at most, unless another number is given.
  static constexpr std::size_t usual_most_held_bytes = std::size_t{1} << 20U;

  /// Begins a text. `vocabulary` must outlive the tokenizer.
  /// \throws config_error if `options` ask for a bos and the vocabulary has none
  explicit streaming_tokenizer(const tokenizer& vocabulary, const encode_options& options = {},
                               std::size_t most_held_bytes = usual_most_held_bytes)
      : vocabulary_(&vocabulary),
        options_(options),
        most_held_bytes_(most_held_bytes),
        encoder_(*vocabulary.tables_, options.missing, options.continues) {
    begin();
  }

  /// Takes the next bytes of the text and returns the ids that became final.
  /// \throws limit_error if more than `most_held_bytes` would have to be held, which a text without spaces or signs can
  /// do; nothing was changed then
  /// \throws config_error if a byte is missing and `missing` is `refuse`; the text must be begun anew then
  std::vector<std::int32_t> push(std::string_view bytes) {
    // Text that is encoded leaves, so a chunk of any size is taken in parts.
    constexpr std::size_t part = std::size_t{1} << 16U;
    if (encoder_.held() + bytes.size() > most_held_bytes_) {
      auto whole = encoder_;
      take(whole, bytes, part);
      encoder_ = std::move(whole);
    } else {
      take(encoder_, bytes, bytes.size());
    }
    return hand_out();
  }

  /// Ids of the text that is held, as if it ended here. O(n log n) in that.
  [[nodiscard]] std::vector<std::int32_t> tentative() const {
    auto rest = encoder_;
    rest.finish(wanted());
    return std::move(rest.ids());
  }

  /// Ends the text and returns the last ids. A new text can begin after it.
  std::vector<std::int32_t> finish() {
    encoder_.finish(wanted());
    auto last = hand_out();
    encoder_ = detail::text_encoder(*vocabulary_->tables_, options_.missing, options_.continues);
    num_final_ = 0;
    begin();
    return last;
  }

  /// How many ids of this text were returned; they are final.
  [[nodiscard]] std::uint64_t num_final() const noexcept { return num_final_; }

  /// Bytes of text whose ids are not final yet.
  [[nodiscard]] std::size_t held() const noexcept { return encoder_.held(); }

 private:
  [[nodiscard]] added_token_finder::filter wanted() const noexcept {
    return {options_.parse_special, options_.parse_user_defined};
  }

  void begin() {
    if (options_.add_bos) encoder_.ids().push_back(vocabulary_->need_bos());
  }

  void take(detail::text_encoder& encoder, std::string_view bytes, std::size_t part) const {
    while (!bytes.empty()) {
      encoder.read(bytes.substr(0, part), wanted(), false);
      encoder.settle(wanted());
      bytes.remove_prefix(std::min(part, bytes.size()));
      expect<limit_error>(encoder.held() <= most_held_bytes_, vocabulary_->source_name(), ": more than ",
                          most_held_bytes_, " bytes of text have no place where their ids could be parted");
    }
  }

  std::vector<std::int32_t> hand_out() {
    num_final_ += encoder_.ids().size();
    return std::exchange(encoder_.ids(), {});
  }

  const tokenizer* vocabulary_;
  encode_options options_;
  std::size_t most_held_bytes_;
  detail::text_encoder encoder_;
  std::uint64_t num_final_ = 0;
};

}  // namespace runnel::text
