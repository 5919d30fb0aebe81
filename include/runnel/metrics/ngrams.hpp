// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace runnel::metrics {

/// A text of units that stand behind one another, so that every run of them is a view. What n-grams are counted in.
class unit_sequence {
 public:
  unit_sequence() = default;
  /// `between` goes between units; it must not occur in them (or be empty, and units be characters).
  explicit unit_sequence(const std::vector<std::string_view>& units, std::string_view between = {}) {
    begins_.reserve(units.size());
    ends_.reserve(units.size());
    for (const auto unit : units) {
      if (!begins_.empty()) text_ += between;
      begins_.push_back(text_.size());
      text_ += unit;
      ends_.push_back(text_.size());
    }
  }

  /// Number of units.
  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(begins_.size()); }
  /// Number of runs of `order` units.
  [[nodiscard]] std::int64_t runs(std::int64_t order) const noexcept {
    return std::max<std::int64_t>(size() - order + 1, 0);
  }
  /// The `i`-th run of `order` units.
  [[nodiscard]] std::string_view run(std::int64_t i, std::int64_t order) const noexcept {
    const auto first = static_cast<std::size_t>(i);
    const std::size_t begin = begins_[first];
    return std::string_view(text_).substr(begin, ends_[first + static_cast<std::size_t>(order) - 1] - begin);
  }

 private:
  std::string text_;
  std::vector<std::size_t> begins_;
  std::vector<std::size_t> ends_;
};

/// How often each run of `order` units occurs in `units`, whose views the keys are.
using ngram_counts = std::unordered_map<std::string_view, std::int64_t>;

[[nodiscard]] inline ngram_counts count_ngrams(const unit_sequence& units, std::int64_t order) {
  ngram_counts counts;
  for (std::int64_t i = 0; i < units.runs(order); ++i) ++counts[units.run(i, order)];
  return counts;
}

/// Occurrences of `hypothesis` that `reference` has as well, each as often as the reference has it.
[[nodiscard]] inline std::int64_t clipped_matches(const ngram_counts& hypothesis, const ngram_counts& reference) {
  std::int64_t matches = 0;
  for (const auto& [ngram, count] : hypothesis) {
    const auto found = reference.find(ngram);
    if (found != reference.end()) matches += std::min(count, found->second);
  }
  return matches;
}

}  // namespace runnel::metrics
