// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/models/decoder.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::stream {

/// A decoder with everything needed to talk to it. Cheap to copy: the parts are shared and never change.
struct language_model {
  std::shared_ptr<const models::decoder> network;
  std::shared_ptr<const text::tokenizer> tokenizer;
  text::chat_format format;
  std::string name;

  /// Whether the network has all ids of the tokenizer, but for markup at its end (Gemma 3's has a token for images,
  /// fine-tuned ones one for padding): that is never chosen, and refused in a text.
  [[nodiscard]] bool tokenizer_fits() const {
    index_t id = network->config().vocab_size;
    while (id < tokenizer->vocabulary_size() && tokenizer->is_special(static_cast<std::int32_t>(id))) ++id;
    return id >= tokenizer->vocabulary_size();
  }

  /// Throws config_error if a part is missing, or if the tokenizer does not fit the network.
  void validate() const {
    expect(network != nullptr && tokenizer != nullptr, "language model '", name,
           "': the network or the tokenizer is missing");
    expect(tokenizer_fits(), "language model '", name, "': the tokenizer has ", tokenizer->vocabulary_size(),
           " tokens, the network only ", network->config().vocab_size);
  }

  /// Positions the network was declared for.
  [[nodiscard]] index_t context() const { return network->config().max_position_embeddings; }

  /// s0: everything before the first source word.
  [[nodiscard]] std::vector<std::int32_t> prompt_tokens(std::string_view instruction) const {
    return text::encode_source_prefix(*tokenizer, format, instruction);
  }

  /// A source word with what goes before it; `first` says that it is the source's first. Never special tokens, whatever
  /// the text says. Throws config_error if the format's source is not text.
  [[nodiscard]] std::vector<std::int32_t> word_tokens(std::string_view word, std::string_view separator,
                                                      bool first = false) const {
    expect(format.source == text::source_kind::text, "language model '", name, "': the source of format \"",
           format.name, "\" is audio, and no words");
    const bool begins = first && text::ends_in_token(*tokenizer, format.source_prefix);
    return text::encode_word(*tokenizer, word, separator, !begins);
  }

  /// The end of the source.
  [[nodiscard]] std::vector<std::int32_t> end_tokens() const {
    return text::encode_segment(*tokenizer, format.source_suffix, true);
  }

  /// g0: what comes before the first written token; may be empty.
  [[nodiscard]] std::vector<std::int32_t> header_tokens() const {
    const bool begins = text::ends_in_token(*tokenizer, format.source_suffix);
    return text::encode_segment(*tokenizer, format.target_prefix, true, !begins);
  }

  /// Tokens that end what the model writes: the tokenizer's, and the markup with which the format ends a target.
  [[nodiscard]] std::vector<std::int32_t> end_ids() const {
    std::vector<std::int32_t> ids(tokenizer->eos_ids().begin(), tokenizer->eos_ids().end());
    const auto suffix = text::encode_segment(*tokenizer, format.target_suffix, true);
    if (!suffix.empty() && tokenizer->is_special(suffix.front()) && !tokenizer->is_eos(suffix.front())) {
      ids.push_back(suffix.front());
    }
    return ids;
  }

  /// Ids that have both a text and a logit.
  [[nodiscard]] std::size_t vocabulary() const {
    return static_cast<std::size_t>(std::min<index_t>(tokenizer->vocabulary_size(), network->config().vocab_size));
  }

  [[nodiscard]] text::incremental_detokenizer make_detokenizer() const {
    return text::incremental_detokenizer(*tokenizer, true);
  }

  /// Text of tokens, control tokens left out.
  [[nodiscard]] std::string text_of(std::span<const std::int32_t> tokens) const {
    return tokenizer->decode(tokens, true);
  }

  /// Throws config_error for an id outside the vocabulary.
  void check(std::span<const std::int32_t> tokens) const {
    for (const std::int32_t id : tokens) {
      static_cast<void>(tokenizer->piece(id));
      expect(id < network->config().vocab_size, "token id ", id, " is not among the ", network->config().vocab_size,
             " of the network");
    }
  }
};

}  // namespace runnel::stream
