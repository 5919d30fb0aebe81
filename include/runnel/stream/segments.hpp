// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/position/group.hpp>
#include <runnel/tensor/tensor.hpp>

namespace runnel::stream {

/// The source of one stream: a prompt, words, and an end, each with its tokens.
///
/// What was pushed stays: reading and taking back reads only moves a counter. The prompt counts as read from the start.
class segment_queue {
 public:
  struct segment {
    std::string text;
    index_t end_row = 0;  // source rows up to and including this segment
  };

  explicit segment_queue(std::span<const std::int32_t> prompt = {}) : tokens_(prompt.begin(), prompt.end()) {}

  /// Adds a word. Throws config_error after `finish`.
  void push(std::string text, std::span<const std::int32_t> tokens) {
    expect(!finished_, "push: the source was finished, no more words can follow");
    append(std::move(text), tokens);
  }

  /// Adds a word of vectors, [rows, width]; all have one width. Their tokens are -1 - r for vector r. Throws
  /// config_error after `finish`.
  void push_vectors(std::string text, tensor_view<const float, 2> rows) {
    expect(!finished_, "push: the source was finished, no more words can follow");
    expect<limit_error>(num_vectors_ + rows.size(0) < (index_t{1} << 31), "push: too many vectors");
    std::vector<std::int32_t> tokens;
    for (index_t r = 0; r < rows.size(0); ++r) tokens.push_back(static_cast<std::int32_t>(-1 - num_vectors_ - r));
    const std::size_t before = vectors_.size();
    try {
      for (index_t r = 0; r < rows.size(0); ++r) {
        const auto row = rows.row(r);
        vectors_.insert(vectors_.end(), row.begin(), row.end());
      }
      append(std::move(text), tokens);
    } catch (...) {
      vectors_.resize(before);
      throw;
    }
    num_vectors_ += rows.size(0);
    width_ = rows.size(1);
  }

  /// Adds the end. Calling it again does nothing.
  void finish(std::span<const std::int32_t> tokens) {
    if (finished_) return;
    append(std::string(), tokens);
    finished_ = true;
  }

  /// Whether the end was pushed.
  [[nodiscard]] bool finished() const noexcept { return finished_; }
  /// Words pushed.
  [[nodiscard]] index_t words_pushed() const noexcept {
    return static_cast<index_t>(segments_.size()) - (finished_ ? 1 : 0);
  }
  /// Segments pushed: words, and the end.
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(segments_.size()); }
  [[nodiscard]] const segment& at(index_t i) const noexcept { return segments_[static_cast<std::size_t>(i)]; }
  /// Whether segment i is the end.
  [[nodiscard]] bool is_end(index_t i) const noexcept { return finished_ && i + 1 == size(); }

  /// Tokens of everything pushed, the prompt first.
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  [[nodiscard]] index_t rows_pushed() const noexcept { return static_cast<index_t>(tokens_.size()); }
  /// Vectors pushed, [any, width].
  [[nodiscard]] tensor_view<const float, 2> vectors() const noexcept {
    return {vectors_.data(), {num_vectors_, width_}};
  }

 private:
  void append(std::string text, std::span<const std::int32_t> tokens) {
    const std::size_t needed = tokens_.size() + tokens.size();
    // Room first (doubling, so that pushing stays linear): after it only push_back can fail.
    if (needed > tokens_.capacity()) tokens_.reserve(std::max(2 * tokens_.capacity(), needed));
    segments_.push_back({std::move(text), rows_pushed() + static_cast<index_t>(tokens.size())});
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }

  std::vector<std::int32_t> tokens_;
  std::vector<float> vectors_;
  index_t num_vectors_ = 0;
  index_t width_ = 0;
  std::vector<segment> segments_;
  bool finished_ = false;
};

}  // namespace runnel::stream
