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

/// What the tokens of a vocabulary are written in.
enum class vocabulary_form : std::uint8_t {
  byte_level,      ///< bytes in GPT-2's alphabet; text is cut by a pre-tokenizer, then bytes are merged
  sentence_piece,  ///< text in which U+2581 is a space; characters are merged, those without a token are bytes
};

/// Where a space is put in front of text, so that its first word looks like any other (`sentence_piece` only).
enum class space_prefix : std::uint8_t {
  none,
  each_segment,  ///< every stretch between added tokens, whatever it begins with (a normaliser's Prepend)
  each_run,      ///< the same, unless it begins with a space already (Metaspace, "always")
  first_run,     ///< only the beginning of the text, unless it is a space already (Metaspace, "first")
};

/// How an added token (control or user_defined) is found in text; tokens without a rule have none of the flags.
struct added_token_rule {
  std::int32_t id = 0;
  bool strip_left = false;   ///< takes white space before it along
  bool strip_right = false;  ///< takes white space after it along
  bool normalized = false;   ///< looked for after normalisation, in what the others left
  bool single_word = false;  ///< only found where no word character touches it
};

/// A BPE vocabulary as files have it; a `tokenizer` is made from one and checks it.
struct tokenizer_data {
  std::string source_name = "tokenizer";  ///< for messages: the file it came from
  vocabulary_form form = vocabulary_form::byte_level;
  std::vector<std::string> tokens;                          ///< by id, see `form`
  std::vector<token_type> types;                            ///< by id; empty: all normal
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank
  /// By id; where there are no merges they follow from these: two tokens that together are a token merge, those of
  /// highest score first.
  std::vector<float> scores;
  bool leftmost_ties = false;  ///< merges that follow from scores: one token's go from left to right, as in Tiktoken
  std::vector<added_token_rule> added_rules;                    ///< exceptions to the plain way of finding added tokens
  pre_tokenizer_kind pre_tokenizer = pre_tokenizer_kind::gpt2;  ///< `byte_level` only
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
  space_prefix prefix = space_prefix::none;
  bool split_spaces = false;         ///< `sentence_piece`: no merge goes on into a space
  bool collapse_spaces = false;      ///< `sentence_piece`: runs of spaces are one, those at both ends are dropped
  bool strip_leading_space = false;  ///< decoded text loses one space in front
  std::string chat_template;         ///< Jinja text; only looked at to recognise a chat format
  std::string chat_format;           ///< what `chat_format.json` says; where it is empty the template tells
};

}  // namespace runnel::text
