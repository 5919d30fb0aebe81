// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/tokenizer_companions.hpp>
#include <runnel/text/tokenizer_data.hpp>

namespace runnel::text {

/// What a Tiktoken file does not say itself.
struct tiktoken_options {
  pre_tokenizer_kind pre_tokenizer = pre_tokenizer_kind::llama3;
  bool nfc = false;                         ///< text is brought to normalization form C first
  std::vector<std::string> special_tokens;  ///< control tokens, with ids from the number of ranks on
  std::string bos;                          ///< one of them, or empty
  std::vector<std::string> eos;             ///< some of them
};

namespace detail {

inline constexpr std::uint64_t most_tiktoken_bytes = std::uint64_t{64} << 20U;

/// Value of a digit of base64, or -1.
[[nodiscard]] constexpr int base64_digit(char c) noexcept {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

/// Bytes written in base64 (RFC 4648, section 4), or nothing.
[[nodiscard]] inline std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < text.size() - padding; ++i) {
    const int digit = base64_digit(text[i]);
    if (digit < 0) return {};
    bits = (bits << 6U) | static_cast<std::uint32_t>(digit);
    if (i % 4 != 0) out.push_back(static_cast<char>(static_cast<std::uint8_t>(bits >> (6U - 2 * (i % 4)))));
  }
  return out;
}

/// Llama 3's 256 control tokens, as its later files name them.
[[nodiscard]] inline std::vector<std::string> llama3_special_tokens() {
  constexpr std::array<std::string_view, 11> named{"<|begin_of_text|>",
                                                   "<|end_of_text|>",
                                                   "",
                                                   "",
                                                   "<|finetune_right_pad_id|>",
                                                   "",
                                                   "<|start_header_id|>",
                                                   "<|end_header_id|>",
                                                   "<|eom_id|>",
                                                   "<|eot_id|>",
                                                   "<|python_tag|>"};
  std::vector<std::string> tokens;
  int reserved = 0;
  for (std::size_t i = 0; i < 256; ++i) {
    const bool has_name = i < named.size() && !named[i].empty();
    tokens.push_back(has_name ? std::string(named[i]) : message("<|reserved_special_token_", reserved++, "|>"));
  }
  return tokens;
}

}  // namespace detail

/// Whether a file begins as Tiktoken's do: bytes in base64, a space, a number, the end of the line.
[[nodiscard]] inline bool is_tiktoken(std::string_view beginning) noexcept {
  const auto space = beginning.find(' ');
  const auto line = beginning.find('\n');
  if (space == std::string_view::npos || space == 0 || line == std::string_view::npos || line <= space + 1)
    return false;
  for (const char c : beginning.substr(0, space)) {
    if (detail::base64_digit(c) < 0 && c != '=') return false;
  }
  for (std::size_t at = space + 1; at < line; ++at) {
    const bool ends = beginning[at] == '\r' && at + 1 == line;
    if (!ends && (beginning[at] < '0' || beginning[at] > '9')) return false;
  }
  return true;
}

/// The options of a known vocabulary, recognised by its number of ranks: Llama 3 (128,000), Qwen 1 to 3 (151,643),
/// o200k (199,998). \throws format_error for others
[[nodiscard]] inline tiktoken_options find_tiktoken_options(std::size_t num_ranks, std::string_view source_name) {
  tiktoken_options options;
  if (num_ranks == 128000) {
    options.special_tokens = detail::llama3_special_tokens();
    options.bos = "<|begin_of_text|>";
    options.eos = {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"};
  } else if (num_ranks == 151643) {
    options.pre_tokenizer = pre_tokenizer_kind::qwen2;
    options.nfc = true;
    options.special_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    options.eos = {"<|endoftext|>", "<|im_end|>"};
  } else if (num_ranks == 199998) {
    options.pre_tokenizer = pre_tokenizer_kind::o200k;
    options.special_tokens = {"", "<|endoftext|>"};  // 199,998 stands for nothing
    options.eos = {"<|endoftext|>"};
  } else {
    fail<format_error>(source_name, ": has ", num_ranks, " ranks, which is no vocabulary whose pattern is known; ",
                       "expected 128000 (Llama 3), 151643 (Qwen) or 199998 (o200k)");
  }
  return options;
}

/// The vocabulary in a Tiktoken file: lines of a token's bytes in base64, a space and its rank, which is its id and the
/// order of merging. Without `options` it must be a known one. \throws format_error naming `source_name` and the line
[[nodiscard]] inline tokenizer_data parse_tiktoken(std::string_view text, const std::string& source_name,
                                                   std::optional<tiktoken_options> options = {}) {
  tokenizer_data data;
  data.source_name = source_name;
  data.leftmost_ties = true;
  std::size_t line_number = 0;
  for (std::size_t at = 0; at < text.size();) {
    ++line_number;
    const auto end = std::min(text.find('\n', at), text.size());
    auto line = text.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto space = line.find(' ');
    const auto bytes = detail::from_base64(line.substr(0, space));
    std::size_t rank = 0;
    const char* const last = line.data() + line.size();
    const char* const digits = space == std::string_view::npos ? last : line.data() + space + 1;
    const auto number = std::from_chars(digits, last, rank);
    const bool has_rank = number.ec == std::errc() && number.ptr == last;
    expect<format_error>(bytes && !bytes->empty() && has_rank, source_name, ": line ", line_number,
                         ": expected bytes in base64, a space and a rank");
    expect<format_error>(rank == data.tokens.size(), source_name, ": line ", line_number, ": rank ", rank,
                         ", expected ", data.tokens.size());
    data.tokens.push_back(to_byte_alphabet(*bytes));
    data.scores.push_back(-static_cast<float>(rank));
  }
  if (!options) options = find_tiktoken_options(data.tokens.size(), source_name);
  data.pre_tokenizer = options->pre_tokenizer;
  data.nfc = options->nfc;
  data.ignore_merges = true;
  data.types.assign(data.tokens.size(), token_type::normal);
  const auto id_of = [&](std::string_view name) {
    for (std::size_t id = data.types.size() - options->special_tokens.size(); id < data.types.size(); ++id) {
      if (data.tokens[id] == name) return static_cast<std::int32_t>(id);
    }
    fail<format_error>(source_name, ": \"", name, "\" is none of the special tokens given");
  };
  for (auto& token : options->special_tokens) {
    data.types.push_back(token.empty() ? token_type::unused : token_type::control);
    data.tokens.push_back(std::move(token));
    data.scores.push_back(0);
  }
  if (!options->bos.empty()) data.bos = id_of(options->bos);
  data.add_bos = data.bos.has_value();
  for (const auto& name : options->eos) data.eos_ids.push_back(id_of(name));
  return data;
}

/// The vocabulary in a Tiktoken file; what the files beside it say is added, as with `read_tokenizer_model`.
/// \throws io_error if a file cannot be read \throws format_error as above
[[nodiscard]] inline tokenizer_data read_tiktoken(const std::filesystem::path& path,
                                                  std::optional<tiktoken_options> options = {}) {
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  expect<format_error>(bytes.size() <= detail::most_tiktoken_bytes, file.name(), ": has ", bytes.size(),
                       " bytes, expected at most ", detail::most_tiktoken_bytes);
  auto data =
      parse_tiktoken({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name(), std::move(options));
  detail::tokenizer_companions(path.parent_path(), data).read_with_added_tokens();
  return data;
}

}  // namespace runnel::text
