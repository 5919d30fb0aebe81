// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/tokenizer.hpp>

#include "support/tiny_model.hpp"

namespace runnel::tests {

/// A byte-level vocabulary of 26 tokens in which a third begin with a space, so that random models end words often:
/// two control tokens, space, line break, a to h, full stop, comma, the two bytes of U+00E9, space with a letter, and a
/// letter with a full stop and a line break.
inline std::shared_ptr<const text::tokenizer> tiny_tokenizer() {
  text::tokenizer_data data;
  data.source_name = "tiny";
  const auto add = [&](std::string_view bytes) { data.tokens.push_back(text::to_byte_alphabet(bytes)); };
  data.tokens = {"<|im_start|>", "<|im_end|>"};
  add(" ");
  add("\n");
  for (char c = 'a'; c <= 'h'; ++c) add(std::string(1, c));
  add(".");
  add(",");
  add("\xC3");
  add("\xA9");
  for (char c = 'a'; c <= 'h'; ++c) {
    add(std::string(" ") + c);
    data.merges.emplace_back(text::to_byte_alphabet(" "), std::string(1, c));
  }
  add(".\n");
  add("d.\n");
  data.merges.emplace_back(".", text::to_byte_alphabet("\n"));
  data.merges.emplace_back("d", text::to_byte_alphabet(".\n"));
  data.types.assign(data.tokens.size(), text::token_type::normal);
  data.types[0] = data.types[1] = text::token_type::control;
  data.eos_ids = {1};
  return std::make_shared<const text::tokenizer>(std::move(data));
}

/// Id of the token that stands for `bytes` (or of a control token, by name).
inline std::int32_t tiny_id(const text::tokenizer& vocabulary, std::string_view bytes) {
  const auto found = vocabulary.find(bytes.starts_with("<|") ? std::string(bytes) : text::to_byte_alphabet(bytes));
  expect(found.has_value(), "tiny vocabulary: there is no token for '", bytes, "'");
  return *found;
}

/// A random tiny decoder with the tiny vocabulary (and two more logits than it has tokens), and a chat format in
/// three-row pieces: prompt `<|im_start|>ab`, end `<|im_end|>\n`, header `<|im_start|>c\n`.
inline stream::language_model tiny_language(std::uint64_t seed, tiny_model_options options = {}) {
  random_stream random(seed);
  stream::language_model made;
  made.tokenizer = tiny_tokenizer();
  made.network = tiny_decoder(random, options);
  made.format = {"tiny", "<|im_start|>{instruction}ab", "<|im_end|>\n", "<|im_start|>c\n", "<|im_end|>\n", " "};
  made.name = "tiny";
  return made;
}

/// `count` words of one to three letters.
inline std::vector<std::string> random_words(random_stream& random, std::int64_t count) {
  std::vector<std::string> words;
  for (std::int64_t i = 0; i < count; ++i) {
    std::string word;
    const auto letters = 1 + random.below(3);
    for (std::int64_t j = 0; j < letters; ++j) word += static_cast<char>('a' + random.below(8));
    words.push_back(std::move(word));
  }
  return words;
}

}  // namespace runnel::tests
