// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <runnel/text/bpe.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text::detail {

/// A merge that follows from the vocabulary: `left` and `right` together are the token `merged`.
struct derived_merge {
  merge_rule rule;
  float score;
  std::uint32_t left_length;  // characters
};

/// Adds every way to make the token `merged` from two others. `find(bytes)` gives the id of a token or -1; with
/// `characters` tokens are only parted between characters. Returns false once there are more than `most`.
template <class Find>
bool derive_merges(std::string_view token, std::int32_t merged, float score, bool characters, std::size_t most,
                   const Find& find, std::vector<derived_merge>& out) {
  std::uint32_t length = 0;
  for (std::size_t at = 0; at < token.size();) {
    at += characters ? unicode::decode(token, at).length : std::size_t{1};
    ++length;
    if (at >= token.size()) break;
    const std::int32_t left = find(token.substr(0, at));
    if (left < 0) continue;
    const std::int32_t right = find(token.substr(at));
    if (right < 0) continue;
    if (out.size() == most) return false;
    out.push_back({{left, right, merged, 0}, score, length});
  }
  return true;
}

/// Gives ranks: highest score first, then the longest left part, then the longest right part, then the lowest id, which
/// is the order in which Hugging Face's converter puts merges. With `leftmost_ties` the merges of one token share
/// their rank, so that the leftmost in the text goes first. O(n log n).
[[nodiscard]] inline std::vector<merge_rule> rank_merges(std::vector<derived_merge> merges,
                                                         const std::vector<std::uint32_t>& lengths,
                                                         bool leftmost_ties) {
  const auto right_length = [&](const derived_merge& m) { return lengths[static_cast<std::size_t>(m.rule.right)]; };
  std::sort(merges.begin(), merges.end(), [&](const derived_merge& a, const derived_merge& b) {
    if (a.score != b.score) return a.score > b.score;
    if (leftmost_ties && a.rule.merged != b.rule.merged) return a.rule.merged < b.rule.merged;
    if (a.left_length != b.left_length) return a.left_length > b.left_length;
    if (right_length(a) != right_length(b)) return right_length(a) > right_length(b);
    return a.rule.merged < b.rule.merged;
  });
  std::vector<merge_rule> rules;
  rules.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    auto rule = merges[i].rule;
    const bool same = leftmost_ties && i > 0 && rules.back().merged == rule.merged;
    rule.rank = same ? rules.back().rank : static_cast<std::uint32_t>(i);
    rules.push_back(rule);
  }
  return rules;
}

}  // namespace runnel::text::detail
