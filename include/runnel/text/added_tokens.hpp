// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/checked.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// Finds added tokens in text: leftmost first, of several at one place the longest.
class added_token_finder {
 public:
  /// A token to find.
  struct entry {
    std::string text;
    std::int32_t id = 0;
    bool control = false;
    bool strip_left = false;
    bool strip_right = false;
  };

  /// Which kinds count; the others are text.
  struct filter {
    bool control = false;
    bool user_defined = true;
  };

  added_token_finder() = default;

  /// Takes tokens whose texts differ; empty ones are left out.
  explicit added_token_finder(std::vector<entry> entries) {
    std::vector<std::string_view> texts;
    for (const entry& added : entries) texts.push_back(added.text);
    const io::name_index by_text(std::move(texts));
    for (const std::size_t place : by_text.order()) {
      if (entries[place].text.empty()) continue;
      begins_[static_cast<std::uint8_t>(entries[place].text.front())] = true;
      entries_.push_back(std::move(entries[place]));
    }
  }

  /// Whether there is no token to find.
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

  /// A token found: bytes [begin, end) of the text, the white space that it takes along included. `id` -1: none is
  /// left, and both are the text's end.
  struct match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;
  };

  /// The first token in `text` at or after byte `from` that `wanted` lets through.
  [[nodiscard]] match next(std::string_view text, std::size_t from, filter wanted) const noexcept {
    for (std::size_t at = from; at < text.size();) {
      const entry* const found = longest_at(text, at);
      if (found == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at;
      std::size_t end = at += found->text.size();
      if (found->control ? !wanted.control : !wanted.user_defined) continue;
      if (found->strip_left) begin = std::max(from, without_trailing_space(text.substr(0, begin)));
      if (found->strip_right) end += leading_space(text.substr(end));
      return {begin, end, found->id};
    }
    return {text.size(), text.size(), -1};
  }

 private:
  // Narrows the sorted entries byte by byte to those that go on as the text does.
  [[nodiscard]] const entry* longest_at(std::string_view text, std::size_t at) const noexcept {
    if (!begins_[static_cast<std::uint8_t>(text[at])]) return nullptr;
    const entry* best = nullptr;
    const entry* low = entries_.data();
    const entry* high = low + entries_.size();
    for (std::size_t depth = 0; low != high; ++depth) {
      if (low->text.size() == depth) best = low++;  // texts differ, so at most one ends here
      if (at + depth >= text.size()) break;
      const auto byte = static_cast<std::uint8_t>(text[at + depth]);
      const auto byte_at = [depth](const entry& e) { return static_cast<std::uint8_t>(e.text[depth]); };
      low = std::partition_point(low, high, [&](const entry& e) { return byte_at(e) < byte; });
      high = std::partition_point(low, high, [&](const entry& e) { return byte_at(e) <= byte; });
    }
    return best;
  }

  [[nodiscard]] static std::size_t leading_space(std::string_view text) noexcept {
    std::size_t at = 0;
    while (at < text.size()) {
      const auto step = unicode::decode(text, at);
      if (!unicode::is_whitespace(step.code_point)) break;
      at += step.length;
    }
    return at;
  }

  // Length of `text` without white space at its end.
  [[nodiscard]] static std::size_t without_trailing_space(std::string_view text) noexcept {
    std::size_t end = text.size();
    while (end > 0) {
      std::size_t begin = end - 1;
      while (begin > 0 && end - begin < 4 && (static_cast<std::uint8_t>(text[begin]) & 0xC0U) == 0x80U) --begin;
      const auto step = unicode::decode(text, begin);
      if (begin + step.length != end || !unicode::is_whitespace(step.code_point)) break;
      end = begin;
    }
    return end;
  }

  std::vector<entry> entries_;
  std::array<bool, 256> begins_{};
};

}  // namespace runnel::text
