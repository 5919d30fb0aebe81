// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace runnel::text {

/// Finds the tokens of a vocabulary by their text: an open table of ids, at most half full. It does not hold the
/// tokens; what it is asked with must be the list that it was filled with.
class token_index {
 public:
  token_index() = default;

  /// Room for `num_tokens` tokens.
  explicit token_index(std::size_t num_tokens) : ids_(std::bit_ceil(2 * num_tokens + 1), none) {}

  /// The place of the token with this text: its id, or -1 where it belongs if there is none. Constant on average.
  [[nodiscard]] std::int32_t& place(std::string_view text, const std::vector<std::string>& tokens) noexcept {
    return ids_[find_place(text, tokens)];
  }

  /// The id of the token with this text, or -1.
  [[nodiscard]] std::int32_t find(std::string_view text, const std::vector<std::string>& tokens) const noexcept {
    return ids_[find_place(text, tokens)];
  }

 private:
  static constexpr std::int32_t none = -1;

  [[nodiscard]] std::size_t find_place(std::string_view text, const std::vector<std::string>& tokens) const noexcept {
    const std::size_t mask = ids_.size() - 1;
    std::size_t at = std::hash<std::string_view>{}(text)&mask;
    while (ids_[at] != none && tokens[static_cast<std::size_t>(ids_[at])] != text) at = (at + 1) & mask;
    return at;
  }

  std::vector<std::int32_t> ids_{none};
};

}  // namespace runnel::text
