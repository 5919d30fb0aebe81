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
  explicit added_token_finder(std::vector<entry> entries) : entries_(std::move(entries)) {
    std::erase_if(entries_, [](const entry& candidate) { return candidate.text.empty(); });
    std::sort(entries_.begin(), entries_.end(), [](const entry& a, const entry& b) { return a.text < b.text; });
    for (const auto& added : entries_) begins_[static_cast<std::uint8_t>(added.text.front())] = true;
  }

  /// Whether there is no token to find.
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

  /// Cuts `text` at the tokens that `wanted` lets through: calls `plain(std::string_view)` for what lies between (never
  /// empty) and `added(std::int32_t id)` for them, in order.
  template <class Plain, class Added>
  void split(std::string_view text, filter wanted, Plain&& plain, Added&& added) const {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const entry* const found = longest_at(text, at);
      if (found == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at;
      at += found->text.size();
      if (found->control ? !wanted.control : !wanted.user_defined) continue;
      std::size_t end = at;
      if (found->strip_left) begin = std::max(done, without_trailing_space(text.substr(0, begin)));
      if (found->strip_right) end += leading_space(text.substr(end));
      if (begin > done) plain(text.substr(done, begin - done));
      added(found->id);
      done = at = end;
    }
    if (done < text.size()) plain(text.substr(done));
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
