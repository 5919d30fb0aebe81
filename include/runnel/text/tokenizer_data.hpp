// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/text/pre_tokenizer.hpp>

namespace runnel::text {

/// Kinds of tokens, with the values that GGUF gives them.
enum class token_type : std::int32_t {
  normal = 1,        ///< text
  unknown = 2,       ///< stands for what the vocabulary lacks
  control = 3,       ///< markup: never made from text unless asked
  user_defined = 4,  ///< text added as a whole, found before anything is merged
  unused = 5,        ///< a hole in the numbering
  byte = 6,          ///< one byte, written `<0x0A>`
};

/// How an added token (control or user_defined) is found in text; tokens without a rule have none of the flags.
struct added_token_rule {
  std::int32_t id = 0;
  bool strip_left = false;   ///< takes white space before it along
  bool strip_right = false;  ///< takes white space after it along
  bool normalized = false;   ///< looked for after normalisation, in what the others left
};

/// A byte-level BPE vocabulary as files have it; a `tokenizer` is made from one and checks it.
struct tokenizer_data {
  std::string source_name = "tokenizer";                    ///< for messages: the file it came from
  std::vector<std::string> tokens;                          ///< by id, in GPT-2's alphabet (see byte_alphabet.hpp)
  std::vector<token_type> types;                            ///< by id; empty: all normal
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank
  std::vector<added_token_rule> added_rules;                ///< exceptions to the plain way of finding added tokens
  pre_tokenizer_kind pre_tokenizer = pre_tokenizer_kind::gpt2;
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> unknown;
  std::optional<std::int32_t> padding;
  std::vector<std::int32_t> eos_ids;  ///< any of them ends a text
  /// Stands for bytes that have no token; without it they are dropped, as Hugging Face's tokenizers do.
  std::optional<std::int32_t> missing_byte;
  bool fuse_missing = false;   ///< one `missing_byte` for a run of such bytes
  bool add_bos = false;        ///< the model expects bos at the beginning
  bool ignore_merges = false;  ///< a piece that is a token is that token, whatever the merges say (Llama 3)
  bool nfc = false;            ///< text is brought to normalization form C first (Qwen2)
  std::string chat_template;   ///< Jinja text; only looked at to recognise a chat format
};

}  // namespace runnel::text
