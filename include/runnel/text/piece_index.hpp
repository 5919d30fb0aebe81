// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <runnel/unicode/utf8.hpp>

namespace runnel::text::detail {

/// The bytes that tokens stand for, one after another, and the way back from bytes to a token.
class piece_index {
 public:
  /// Adds the next token's bytes.
  void add(std::string_view bytes) {
    begins_.push_back(bytes_.size());
    bytes_ += bytes;
  }

  /// Ends the list; `is_text(id)` says which tokens can be found by their bytes. Of several with the same bytes the
  /// first counts.
  template <class IsText>
  void finish(const IsText& is_text) {
    begins_.push_back(bytes_.size());
    const std::size_t count = begins_.size() - 1;
    ids_.assign(std::bit_ceil(2 * count + 1), -1);
    for (std::size_t id = 0; id < count; ++id) {
      const auto bytes = at(id);
      if (bytes.empty() || !is_text(static_cast<std::int32_t>(id))) continue;
      std::int32_t& known = ids_[place_of(bytes)];
      if (known < 0) known = static_cast<std::int32_t>(id);
      if (bytes.size() > longest_) longest_ = bytes.size();
    }
  }

  /// Bytes of a token.
  [[nodiscard]] std::string_view at(std::size_t id) const noexcept {
    return std::string_view(bytes_).substr(begins_[id], begins_[id + 1] - begins_[id]);
  }

  /// The token that stands for these bytes, or -1. Constant on average, up to hashing.
  [[nodiscard]] std::int32_t find(std::string_view bytes) const noexcept {
    return bytes.size() > longest_ ? -1 : ids_[place_of(bytes)];
  }

 private:
  [[nodiscard]] std::size_t place_of(std::string_view bytes) const noexcept {
    const std::size_t mask = ids_.size() - 1;
    std::size_t place = std::hash<std::string_view>{}(bytes)&mask;
    while (ids_[place] >= 0 && at(static_cast<std::size_t>(ids_[place])) != bytes) place = (place + 1) & mask;
    return place;
  }

  std::string bytes_;
  std::vector<std::size_t> begins_;
  std::vector<std::int32_t> ids_{-1};
  std::size_t longest_ = 0;  // of those that can be found
};

/// Knows of two characters whether some merge can join what ends with the one and what begins with the other. Answers
/// "perhaps" for a few that no merge joins, never the other way round: where it says no, a text can be cut and its
/// parts be merged each for itself.
class join_filter {
 public:
  /// Room for about `num_pairs` pairs.
  void reserve(std::size_t num_pairs) { bits_.assign(std::bit_ceil(num_pairs / 4 + 16), 0); }

  /// Notes all neighbours in a token that merges make.
  void add(std::string_view token) {
    char32_t before = 0;
    for (std::size_t at = 0; at < token.size();) {
      const auto step = unicode::decode(token, at);
      if (at > 0) bits_[word_of(before, step.code_point)] |= bit_of(before, step.code_point);
      before = step.code_point;
      at += step.length;
    }
  }

  /// Whether a merge may join the two.
  [[nodiscard]] bool joins(char32_t before, char32_t after) const noexcept {
    return (bits_[word_of(before, after)] & bit_of(before, after)) != 0;
  }

 private:
  [[nodiscard]] static std::uint64_t mix(char32_t before, char32_t after) noexcept {
    const std::uint64_t both = (std::uint64_t{before} << 21U) ^ after;
    return both * 0x9E3779B97F4A7C15U;
  }
  [[nodiscard]] std::size_t word_of(char32_t before, char32_t after) const noexcept {
    return static_cast<std::size_t>(mix(before, after) >> 32U) & (bits_.size() - 1);
  }
  [[nodiscard]] static std::uint64_t bit_of(char32_t before, char32_t after) noexcept {
    return std::uint64_t{1} << (mix(before, after) >> 26U & 63U);
  }

  std::vector<std::uint64_t> bits_{0};
};

}  // namespace runnel::text::detail
