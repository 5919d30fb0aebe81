// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>

namespace runnel::text {

/// One rule of byte-pair encoding: `left` and `right` side by side become `merged`. Lower ranks go first.
struct merge_rule {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
  std::uint32_t rank = 0;
};

/// The rules of a vocabulary, found by their pair. Rules are stored by left token and then right token, so that a
/// look-up is a short binary search and no choice of rules makes it slow.
class merge_table {
 public:
  merge_table() = default;

  /// Takes rules over ids in [0, vocabulary_size). Of several for one pair the one with the largest rank counts.
  /// Linear.
  merge_table(std::vector<merge_rule> rules, std::size_t vocabulary_size) : rules_(std::move(rules)) {
    std::vector<merge_rule> by_right(rules_.size());
    order_by(&merge_rule::right, rules_, by_right, vocabulary_size);
    order_by(&merge_rule::left, by_right, rules_, vocabulary_size);
    std::size_t kept = 0;
    for (const merge_rule& rule : rules_) {
      const bool again = kept > 0 && rules_[kept - 1].left == rule.left && rules_[kept - 1].right == rule.right;
      if (!again)
        rules_[kept++] = rule;
      else if (rule.rank > rules_[kept - 1].rank)
        rules_[kept - 1] = rule;
    }
    rules_.resize(kept);
    first_of_left_ = count_before(&merge_rule::left, rules_, vocabulary_size);
  }

  /// The rule for a pair, or null.
  [[nodiscard]] const merge_rule* find(std::int32_t left, std::int32_t right) const noexcept {
    const auto* const begin = rules_.data() + first_of_left_[static_cast<std::size_t>(left)];
    const auto* const end = rules_.data() + first_of_left_[static_cast<std::size_t>(left) + 1];
    const auto* const found = std::lower_bound(
        begin, end, right, [](const merge_rule& rule, std::int32_t value) { return rule.right < value; });
    return found != end && found->right == right ? found : nullptr;
  }

  /// Number of rules.
  [[nodiscard]] std::size_t size() const noexcept { return rules_.size(); }

  /// All rules, by left token and then right token.
  [[nodiscard]] std::span<const merge_rule> rules() const noexcept { return rules_; }

 private:
  using id_member = std::int32_t merge_rule::*;

  /// For each id, how many rules have a lower one; and how many there are.
  [[nodiscard]] static std::vector<std::uint32_t> count_before(id_member id, const std::vector<merge_rule>& rules,
                                                               std::size_t num_ids) {
    std::vector<std::uint32_t> counts(num_ids + 1);
    for (const auto& rule : rules) ++counts[static_cast<std::size_t>(rule.*id) + 1];
    for (std::size_t i = 0; i < num_ids; ++i) counts[i + 1] += counts[i];
    return counts;
  }

  /// Writes `from` to `to`, of the same size, in the order of an id; those with the same one keep their order.
  static void order_by(id_member id, const std::vector<merge_rule>& from, std::vector<merge_rule>& to,
                       std::size_t num_ids) {
    auto next = count_before(id, from, num_ids);
    for (const auto& rule : from) to[next[static_cast<std::size_t>(rule.*id)]++] = rule;
  }

  std::vector<merge_rule> rules_;
  std::vector<std::uint32_t> first_of_left_;
};

/// Merges the symbols of one piece of text until no rule fits: always the rule of lowest rank, leftmost first. Keeps
/// its buffers from piece to piece. O(n log n) for n symbols.
class bpe_merger {
 public:
  explicit bpe_merger(const merge_table& rules) noexcept : rules_(&rules) {}

  /// Starts a piece.
  void clear() noexcept {
    symbols_.clear();
    last_ = nullptr;
  }

  /// Adds a symbol at the end of the piece. \throws limit_error past 2^31 - 1 of them
  void push(std::int32_t id) {
    const auto place = symbols_.size();
    expect<limit_error>(place < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
                        "a piece of text without a break is longer than 2^31 - 1 bytes");
    symbols_.push_back({id, static_cast<std::int32_t>(place) - 1, static_cast<std::int32_t>(place) + 1});
  }

  /// Whether the piece has no symbol yet.
  [[nodiscard]] bool empty() const noexcept { return symbols_.empty(); }

  /// Id of the last symbol; the piece must not be empty.
  [[nodiscard]] std::int32_t back() const noexcept { return symbols_.back().id; }

  /// The rule that was applied last in the piece, or null.
  [[nodiscard]] const merge_rule* last() const noexcept { return last_; }

  /// Merges and appends the resulting ids to `out`.
  void finish(std::vector<std::int32_t>& out) {
    if (symbols_.empty()) return;
    symbols_.back().next = -1;
    queue_.clear();
    for (std::int32_t place = 0; symbols_[at(place)].next >= 0; ++place) propose(place);
    std::make_heap(queue_.begin(), queue_.end(), later{});
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), later{});
      const auto best = queue_.back();
      queue_.pop_back();
      merge(best);
    }
    for (std::int32_t place = 0; place >= 0; place = symbols_[at(place)].next) out.push_back(symbols_[at(place)].id);
  }

 private:
  struct symbol {
    std::int32_t id;  // -1: merged into the one before
    std::int32_t previous;
    std::int32_t next;  // -1: the last one
  };

  struct candidate {
    const merge_rule* rule;
    std::int32_t place;
  };

  struct later {
    bool operator()(const candidate& a, const candidate& b) const noexcept {
      return a.rule->rank != b.rule->rank ? a.rule->rank > b.rule->rank : a.place > b.place;
    }
  };

  [[nodiscard]] static std::size_t at(std::int32_t place) noexcept { return static_cast<std::size_t>(place); }

  // Queues the pair that begins at `place`, if a rule fits it; the caller keeps the heap.
  bool propose(std::int32_t place) {
    const auto& left = symbols_[at(place)];
    const auto* const rule = rules_->find(left.id, symbols_[at(left.next)].id);
    if (rule != nullptr) queue_.push_back({rule, place});
    return rule != nullptr;
  }

  void merge(const candidate& best) {
    auto& left = symbols_[at(best.place)];
    if (left.id != best.rule->left || left.next < 0) return;  // a neighbour was merged meanwhile
    auto& right = symbols_[at(left.next)];
    if (right.id != best.rule->right) return;
    last_ = best.rule;
    left.id = best.rule->merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      symbols_[at(left.next)].previous = best.place;
      if (propose(best.place)) std::push_heap(queue_.begin(), queue_.end(), later{});
    }
    if (left.previous >= 0 && propose(left.previous)) std::push_heap(queue_.begin(), queue_.end(), later{});
  }

  const merge_table* rules_;
  const merge_rule* last_ = nullptr;
  std::vector<symbol> symbols_;
  std::vector<candidate> queue_;
};

}  // namespace runnel::text
