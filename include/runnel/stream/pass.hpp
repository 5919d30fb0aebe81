// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/stream/plan.hpp>

namespace runnel::stream {

/// No limit on the rows of a pass.
inline constexpr index_t unlimited = std::numeric_limits<index_t>::max();

/// Rows that go through the network together for one stream: a piece of work as data. A decoder takes any number of
/// them, from any number of streams, in one forward pass.
struct pass {
  row_table rows;
  /// Token of each row.
  std::vector<std::int32_t> tokens;
  /// The rows whose logits are wanted (none, where only source is read).
  std::vector<index_t> logit_rows;
  /// Of the target rows, in order: source rows visible to each.
  std::vector<index_t> limits;
  index_t source_rows = 0;
  index_t target_rows = 0;

  void clear() noexcept {
    rows.clear();
    tokens.clear();
    logit_rows.clear();
    limits.clear();
    source_rows = target_rows = 0;
  }
};

/// Rows that a stream has sent through the network. Every plan computes what its ranges need and nothing else:
/// group-streaming each row once, and the last row of a word once more where source was read.
struct row_counters {
  index_t source_rows = 0;     ///< source rows, the first time
  index_t target_rows = 0;     ///< target rows, the first time (the assistant header included)
  index_t refed_rows = 0;      ///< rows fed again because they predict over newly read source, or after a rewind
  index_t refreshed_rows = 0;  ///< rows computed again by a plan that refreshes
  index_t passes = 0;          ///< forward passes
  index_t tokens_kept = 0;
  index_t tokens_discarded = 0;  ///< chosen tokens that showed only that a word had ended
  friend bool operator==(const row_counters&, const row_counters&) = default;
};

/// What is known of a stream when its next pass is planned.
struct pass_request {
  const plan& how;
  const row_rules& rules;
  const arrivals& when;
  /// Tokens of all source rows (more than were read do no harm) and of all target rows.
  std::span<const std::int32_t> source;
  std::span<const std::int32_t> target;
  /// The row whose logits are wanted. Without it, target rows that may yet change are left for later.
  std::optional<row_id> predicting;
  index_t max_rows = unlimited;
};

/// Knows which rows of one stream are in the cache, and whether they are still what the plan wants.
///
/// A target row in the cache is valid if it was computed over the source rows that the plan wants it to see now, and if
/// all rows before it are valid. What is not valid is cut off before a pass and computed again; so feeding a row again,
/// full re-encoding and rewinding are one mechanism, and a pass that fails loses nothing.
class row_ledger {
 public:
  /// Fills `out` with the rows that are known and not computed, at most `max_rows` of them, in an order in which each
  /// row follows all rows it sees. The cache loses rows that are no longer valid.
  void plan_pass(const pass_request& wanted, cache::key_value_cache& cache, pass& out) {
    const auto& [how, rules, when, source, target, predicting, max_rows] = wanted;
    out.clear();
    if (how.refresh == refresh_rule::before_every_token && !begin_token(when, predicting, cache)) return;
    const bool with_target = predicting.has_value() || how.source_sees_target();
    if (with_target) drop_stale(how, when, predicting, cache);
    index_t s = cache.size(group::source);
    index_t t = cache.size(group::target);
    const index_t read = when.read_now();
    const index_t written = with_target ? when.written() : t;
    while (out.rows.size() < max_rows && (s < read || t < written)) {
      const index_t limit = t < written ? how.visible_source(when, t) : read;
      row_id row;
      if (s < read && (t >= written || s < limit)) {
        row = {group::source, s};
        out.tokens.push_back(source[static_cast<std::size_t>(s++)]);
        out.rows.add_source(rules, when, row.index);
        ++out.source_rows;
      } else {
        row = {group::target, t};
        out.tokens.push_back(target[static_cast<std::size_t>(t++)]);
        out.rows.add_target(rules, when, row.index, limit);
        out.limits.push_back(limit);
        ++out.target_rows;
      }
      if (predicting == row) out.logit_rows.push_back(out.rows.size() - 1);
    }
  }

  /// Notes that `done` went through the network.
  void note(const plan& how, const pass& done, row_counters& counters) {
    const auto first = static_cast<index_t>(limits_.size());
    limits_.insert(limits_.end(), done.limits.begin(), done.limits.end());
    const index_t again = std::clamp<index_t>(target_seen_ - first, 0, done.target_rows);
    target_seen_ = std::max(target_seen_, static_cast<index_t>(limits_.size()));
    const index_t source_again = std::clamp<index_t>(source_seen_ - source_done_, 0, done.source_rows);
    source_done_ += done.source_rows;
    source_seen_ = std::max(source_seen_, source_done_);
    counters.source_rows += done.source_rows - source_again;
    counters.target_rows += done.target_rows - again;
    const bool always = how.refresh == refresh_rule::before_every_token;
    (always ? counters.refreshed_rows : counters.refed_rows) += source_again;
    (how.refresh == refresh_rule::none ? counters.refed_rows : counters.refreshed_rows) += again;
    ++counters.passes;
  }

  /// Forgets rows after the first `source` and `target` ones, whose tokens are no longer known.
  void rewind(index_t source, index_t target, cache::key_value_cache& cache) {
    begun_.reset();
    truncate_source(std::min(source, cache.size(group::source)), cache);
    truncate_target(std::min(target, cache.size(group::target)), cache);
  }

 private:
  /// Forgets all rows, once for each token. Nothing is computed ahead.
  bool begin_token(const arrivals& when, std::optional<row_id> predicting, cache::key_value_cache& cache) {
    if (!predicting) return false;
    const row_id now{predicting->of, when.read_now() + when.written()};
    if (begun_ != now) rewind(0, 0, cache);
    begun_ = now;
    return true;
  }

  void drop_stale(const plan& how, const arrivals& when, std::optional<row_id> predicting,
                  cache::key_value_cache& cache) {
    index_t valid = 0;
    const auto computed = static_cast<index_t>(limits_.size());
    while (valid < computed && limits_[static_cast<std::size_t>(valid)] == how.visible_source(when, valid)) ++valid;
    if (predicting && predicting->of == group::target) valid = std::min(valid, predicting->index);
    if (valid < computed) truncate_target(valid, cache);
    if (predicting && predicting->of == group::source && cache.size(group::source) > predicting->index) {
      truncate_source(predicting->index, cache);
    }
  }

  void truncate_source(index_t rows, cache::key_value_cache& cache) {
    cache.truncate(group::source, rows);
    source_done_ = rows;
  }

  void truncate_target(index_t rows, cache::key_value_cache& cache) {
    cache.truncate(group::target, rows);
    limits_.resize(static_cast<std::size_t>(rows));
  }

  std::vector<index_t> limits_;  // of each target row in the cache: source rows it was computed over
  index_t source_done_ = 0;      // source rows in the cache
  index_t source_seen_ = 0;      // most source rows that were ever in the cache
  index_t target_seen_ = 0;
  std::optional<row_id> begun_;  // where each token begins anew: rows there are, and the group that predicts
};

}  // namespace runnel::stream
