// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/metrics/words.hpp>

namespace runnel::metrics {

/// Edits that turn a reference into a hypothesis; added up, those of a corpus.
struct edit_counts {
  std::int64_t substitutions = 0;
  std::int64_t insertions = 0;  ///< units of the hypothesis that the reference lacks
  std::int64_t deletions = 0;   ///< units of the reference that the hypothesis lacks
  std::int64_t reference_length = 0;

  [[nodiscard]] std::int64_t edits() const noexcept { return substitutions + insertions + deletions; }

  /// Edits per unit of the references: may be above 1. Where the references have no unit, the number of edits, as
  /// jiwer 4 says it.
  [[nodiscard]] double rate() const noexcept {
    return static_cast<double>(edits()) / static_cast<double>(std::max<std::int64_t>(reference_length, 1));
  }

  edit_counts& operator+=(const edit_counts& more) noexcept {
    substitutions += more.substitutions;
    insertions += more.insertions;
    deletions += more.deletions;
    reference_length += more.reference_length;
    return *this;
  }
  friend bool operator==(const edit_counts&, const edit_counts&) = default;
};

/// The most pairs of units that `count_edits` compares: 1 GiB of its table.
inline constexpr std::int64_t most_edit_cells = std::int64_t{1} << 28U;

/// The fewest edits (Levenshtein, 1966) between two sequences of units. Where several alignments have as few, the one
/// that is found from the end, preferring a deletion, then an insertion that lowers the cost, then a pair: the choice
/// of jiwer 4. Throws limit_error beyond `most_edit_cells`. Quadratic in time and memory, after what both sequences
/// begin and end with alike was taken off.
[[nodiscard]] inline edit_counts count_edits(std::vector<std::string_view> hypothesis,
                                             std::vector<std::string_view> reference) {
  edit_counts found;
  found.reference_length = static_cast<std::int64_t>(reference.size());
  while (!hypothesis.empty() && !reference.empty() && hypothesis.back() == reference.back()) {
    hypothesis.pop_back();
    reference.pop_back();
  }
  const auto [ours, theirs] = std::mismatch(hypothesis.begin(), hypothesis.end(), reference.begin(), reference.end());
  hypothesis.erase(hypothesis.begin(), ours);
  reference.erase(reference.begin(), theirs);
  const std::size_t columns = hypothesis.size() + 1;
  expect<limit_error>(
      static_cast<std::int64_t>(reference.size() + 1) <= most_edit_cells / static_cast<std::int64_t>(columns),
      "edit distance: ", reference.size(), " by ", hypothesis.size(), " units are more than can be compared");
  std::vector<std::int32_t> cost((reference.size() + 1) * columns);
  for (std::size_t j = 0; j < columns; ++j) cost[j] = static_cast<std::int32_t>(j);
  for (std::size_t i = 1; i <= reference.size(); ++i) {
    cost[i * columns] = static_cast<std::int32_t>(i);
    for (std::size_t j = 1; j < columns; ++j) {
      const std::int32_t pair = cost[(i - 1) * columns + j - 1] + (reference[i - 1] == hypothesis[j - 1] ? 0 : 1);
      const std::int32_t one = std::min(cost[(i - 1) * columns + j], cost[i * columns + j - 1]) + 1;
      cost[i * columns + j] = std::min(pair, one);
    }
  }
  std::size_t i = reference.size();
  std::size_t j = hypothesis.size();
  while (i > 0 && j > 0) {
    const std::int32_t here = cost[i * columns + j];
    if (here == cost[(i - 1) * columns + j] + 1) {
      ++found.deletions;
      --i;
    } else if (j > 1 && cost[i * columns + j - 1] + 1 == cost[(i - 1) * columns + j - 1]) {
      ++found.insertions;
      --j;
    } else {
      --i;
      --j;
      if (reference[i] != hypothesis[j]) ++found.substitutions;
    }
  }
  found.deletions += static_cast<std::int64_t>(i);
  found.insertions += static_cast<std::int64_t>(j);
  return found;
}

/// Edits of a sentence's words: what word error rates are made of. Words are what stands between white space of any
/// kind, as for SimulEval; jiwer cuts at spaces alone, and so takes words with a single tab between them for one.
[[nodiscard]] inline edit_counts word_edits(std::string_view hypothesis, std::string_view reference) {
  return count_edits(split_words(hypothesis), split_words(reference));
}

/// Edits of a sentence's characters, spaces between words included, those around it not.
[[nodiscard]] inline edit_counts character_edits(std::string_view hypothesis, std::string_view reference) {
  return count_edits(split_characters(trim(hypothesis)), split_characters(trim(reference)));
}

}  // namespace runnel::metrics
