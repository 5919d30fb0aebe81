// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <runnel/position/window.hpp>

namespace runnel {

/// Keys of one segment that a row sees: logical indices [begin, end). Empty gives zeros.
struct key_range {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  friend constexpr bool operator==(key_range, key_range) = default;
};

/// What a plan says about rows, as data: everything in which the paradigms differ inside one forward pass.
struct row_rules {
  position_scheme positions;
  /// Input-attention: may source rows see target rows written before them?
  bool source_sees_target = false;
  /// Does a target row see what had been read when its successor was produced (c(p+1): it is re-fed when source
  /// arrives), or only what had been read when it was produced itself (c(p): the latest arrival predicts)?
  bool sees_until_successor = true;
  /// Sliding window of the layers that have one; 0: none has.
  index_t window = 0;
};

/// Rows of one forward pass over one stream, erased into the columns that kernels take.
///
/// Per row: group, position value (rotates its key), storage (index in its group's key/value arena). Per row and
/// segment: visible range and rotary offset of the query. Segments are the groups, in the order of `group`.
class row_table {
 public:
  /// Columns of one segment, `[rows]` each.
  struct segment {
    std::vector<key_range> ranges;
    std::vector<key_range> windowed;  // the same for layers with a sliding window
    std::vector<double> offsets;
  };

  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(groups_.size()); }
  [[nodiscard]] bool empty() const noexcept { return groups_.empty(); }
  [[nodiscard]] std::span<const group> groups() const noexcept { return groups_; }
  [[nodiscard]] std::span<const double> values() const noexcept { return values_; }
  [[nodiscard]] std::span<const index_t> storage() const noexcept { return storage_; }
  [[nodiscard]] static constexpr std::size_t num_segments() noexcept { return num_groups; }
  [[nodiscard]] const segment& toward(std::size_t key_group) const noexcept { return segments_[key_group]; }
  [[nodiscard]] const segment& toward(group keys) const noexcept { return segments_[static_cast<std::size_t>(keys)]; }

  /// The sliding window that `windowed` ranges keep to; 0: none.
  [[nodiscard]] index_t window() const noexcept { return window_; }

  /// Largest position, as a key or as a query in any frame: what the rotary table must cover.
  [[nodiscard]] double max_position() const noexcept { return max_position_; }

  void clear() noexcept {
    groups_.clear();
    values_.clear();
    storage_.clear();
    for (auto& columns : segments_) {
      columns.ranges.clear();
      columns.windowed.clear();
      columns.offsets.clear();
    }
    max_position_ = 0;
    window_ = 0;
  }

  /// Says that free rows keep to this window.
  void set_window(index_t window) noexcept { window_ = window; }

  /// Appends source row r: causal over the source; sees target rows [0, u(r)) where the rules say so.
  void add_source(const row_rules& rules, const arrivals& when, index_t r) {
    const source_position own = position_of_source(rules.positions, when, r);
    const index_t seen_targets = rules.source_sees_target ? when.u(r) : 0;
    const double offset = rules.source_sees_target ? offset_to_target(rules.positions).tokens() : 0;
    const window_begins from =
        rules.window == 0 ? window_begins{} : window_of_source(rules.positions, when, r, seen_targets, rules.window);
    add({group::source, own.value(), r}, {0, to_int(r + 1)}, 0, {0, to_int(seen_targets)}, offset, from);
    window_ = rules.window;
  }

  /// Appends target row p: causal over the target; sees source rows [0, c(p+1)) or [0, c(p)) as the rules say, or
  /// [0, `visible_source`) where given (full re-encoding: what is read now, for every row). A row of a copy of the
  /// target prefix is stored, and sees that copy, from `first_key` on; its position is that of row p all the same.
  void add_target(const row_rules& rules, const arrivals& when, index_t p,
                  std::optional<index_t> visible_source = std::nullopt, index_t first_key = 0) {
    const target_position own = position_of_target(rules.positions, when, p);
    const index_t limit = visible_source.value_or(when.c(rules.sees_until_successor ? p + 1 : p));
    const double offset = offset_to_source(rules.positions, limit).tokens();
    window_begins from =
        rules.window == 0 ? window_begins{} : window_of_target(rules.positions, when, p, limit, rules.window);
    from.target += first_key;
    const key_range seen{to_int(first_key), to_int(first_key + p + 1)};
    add({group::target, own.value(), first_key + p}, {0, to_int(limit)}, offset, seen, 0, from);
    window_ = rules.window;
  }

  /// One row's own columns.
  struct row {
    group of = group::source;
    double value = 0;
    index_t storage = 0;
  };

  /// Appends a row with free ranges and offsets toward source and target, and where its windows begin: for schemes of
  /// your own and for tests.
  void add(row own, key_range source, double source_offset, key_range target, double target_offset,
           window_begins from = {}) {
    groups_.push_back(own.of);
    values_.push_back(own.value);
    storage_.push_back(own.storage);
    segments_[0].ranges.push_back(source);
    segments_[0].windowed.push_back({std::max(source.begin, to_int(from.source)), source.end});
    segments_[0].offsets.push_back(source_offset);
    segments_[1].ranges.push_back(target);
    segments_[1].windowed.push_back({std::max(target.begin, to_int(from.target)), target.end});
    segments_[1].offsets.push_back(target_offset);
    max_position_ = std::max({max_position_, own.value, own.value + source_offset, own.value + target_offset});
  }

 private:
  static std::int32_t to_int(index_t value) { return static_cast<std::int32_t>(value); }

  std::vector<group> groups_;
  std::vector<double> values_;
  std::vector<index_t> storage_;
  std::array<segment, num_groups> segments_;
  double max_position_ = 0;
  index_t window_ = 0;
};

}  // namespace runnel
