// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/text/byte_alphabet.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

#include "../io/support.hpp"

/// \file
/// What the tests of this room share: goldens, small vocabularies, random bytes.

namespace runnel_test {

inline constexpr std::array<const char*, 4> vocabulary_names{"gpt2", "llama3", "qwen2", "smollm"};

inline std::filesystem::path text_golden(std::string_view name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "text" / name;
}

inline std::vector<std::string> golden_lines(std::string_view name) {
  std::ifstream in(text_golden(name), std::ios::binary);
  if (!in) throw std::runtime_error("golden file missing: " + std::string(name));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline const std::vector<std::string>& corpus() {
  static const auto texts = [] {
    std::vector<std::string> out;
    for (const auto& line : golden_lines("corpus.jsonl")) out.push_back(nlohmann::json::parse(line).get<std::string>());
    return out;
  }();
  return texts;
}

/// Ids written as two characters each.
inline std::vector<std::int32_t> decode_ids(std::string_view code) {
  std::vector<std::int32_t> ids;
  for (std::size_t at = 0; at + 1 < code.size(); at += 2) ids.push_back((code[at] - 33) * 94 + (code[at + 1] - 33));
  return ids;
}

/// One of the golden vocabularies.
inline runnel::text::tokenizer golden_tokenizer(std::string_view name) {
  return runnel::text::tokenizer(runnel::text::read_tokenizer_json(text_golden(name)));
}

/// All 256 bytes, then `more` tokens given as bytes, each merged from all but its last byte and that.
inline runnel::text::tokenizer_data byte_vocabulary(const std::vector<std::string>& more = {}) {
  runnel::text::tokenizer_data data;
  data.source_name = "bytes";
  for (int byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(runnel::text::to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  }
  for (const auto& token : more) {
    data.tokens.push_back(runnel::text::to_byte_alphabet(token));
    data.merges.emplace_back(runnel::text::to_byte_alphabet(token.substr(0, token.size() - 1)),
                             runnel::text::to_byte_alphabet(token.substr(token.size() - 1)));
  }
  data.types.assign(data.tokens.size(), runnel::text::token_type::normal);
  return data;
}

/// Adds a control token to a vocabulary and returns its id.
inline std::int32_t add_token(runnel::text::tokenizer_data& data, std::string token,
                              runnel::text::token_type type = runnel::text::token_type::control) {
  data.tokens.push_back(std::move(token));
  data.types.push_back(type);
  return static_cast<std::int32_t>(data.tokens.size()) - 1;
}

/// Bytes of which many are parts of UTF-8, spaces or quotes.
inline std::string random_bytes(std::mt19937& random, std::size_t length) {
  constexpr std::string_view favourites =
      " \n\r\t'sStT1\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xCC\x81\xC2\xA0\xED\xA0\xC0\xFF";
  std::string out;
  for (std::size_t i = 0; i < length; ++i) {
    const auto draw = random();
    out += draw % 3 == 0 ? favourites[(draw >> 8U) % favourites.size()] : static_cast<char>(draw >> 16U);
  }
  return out;
}

}  // namespace runnel_test
