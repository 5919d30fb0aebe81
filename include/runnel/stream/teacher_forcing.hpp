// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <runnel/models/decoder.hpp>
#include <runnel/ops/eval.hpp>
#include <runnel/stream/plan.hpp>

namespace runnel::stream {

/// A finished stream: what was read, what was written, and when. The prompt belongs to the source, the assistant header
/// to the target.
struct finished_stream {
  std::span<const std::int32_t> source;
  std::span<const std::int32_t> target;
  /// Of every target token, the source rows read when it was written.
  arrivals when;
  /// What negative source tokens name.
  tensor_view<const float, 2> vectors{};
};

/// The rows of one forward pass that predicts target tokens, for training, scoring and checks: the same ranges and
/// positions a session with that plan had when it wrote them.
struct forced_pass {
  row_table rows;
  std::vector<std::int32_t> tokens;
  /// For each predicted token, in order, the row that predicts it.
  std::vector<index_t> logit_rows;
};

namespace detail {

inline void check_forced(const finished_stream& stream) {
  const auto source = static_cast<index_t>(stream.source.size());
  const auto target = static_cast<index_t>(stream.target.size());
  expect(stream.when.written() == target, "teacher forcing: ", target, " target tokens, but arrivals of ",
         stream.when.written());
  expect(stream.when.read_now() == source, "teacher forcing: ", source, " source tokens, but arrivals of ",
         stream.when.read_now());
}

}  // namespace detail

/// The pass that predicts target tokens [`first`, `last`) of `stream`, and no rows it does not need beyond the source.
/// `last` may be one more than there are target tokens: then what would follow is predicted too.
///
/// A plan that refreshes has one such pass for each set of tokens written without a read in between (the copies of
/// re-encoding training): [first, last) must be within one; `forced_pieces` lists them. Throws config_error if it is
/// not, or if the first token has nothing to be predicted from. `window` is the model's sliding window (0: none).
[[nodiscard]] inline forced_pass plan_forced(const plan& how, const finished_stream& stream, index_t first,
                                             index_t last, index_t window = 0) {
  detail::check_forced(stream);
  const arrivals& when = stream.when;
  expect(first >= 0 && first <= last && last <= when.written() + 1, "teacher forcing: cannot predict tokens ", first,
         " to ", last, " of ", when.written());
  const bool refreshes = how.refresh != refresh_rule::none;
  expect(!refreshes || first == last || when.c(first) == when.c(last - 1),
         "teacher forcing: a plan that refreshes has no single pass over tokens with reads in between");
  // Source rows that arrived after the window would, where source sees target, see target rows that are not in it.
  const bool cut = first < last && (refreshes || how.source_sees_target());
  const index_t read = cut ? when.c(last - 1) : when.read_now();
  const index_t written = how.source_sees_target() && !cut ? when.written() : std::max<index_t>(0, last - 1);
  const row_rules rules = how.rules(window);
  forced_pass result;
  result.tokens.assign(stream.source.begin(), stream.source.begin() + read);
  result.tokens.insert(result.tokens.end(), stream.target.begin(), stream.target.begin() + written);
  for (index_t r = 0; r < read; ++r) result.rows.add_source(rules, when, r);
  for (index_t p = 0; p < written; ++p) {
    result.rows.add_target(rules, when, p, refreshes ? read : how.visible_source(when, p));
  }
  for (index_t p = first; p < last; ++p) {
    const auto row = how.row_predicting(when, p);
    expect(row.has_value(), "teacher forcing: target token ", p, " has no row before it");
    result.logit_rows.push_back(row->of == group::source ? row->index : read + row->index);
  }
  return result;
}

/// Pieces [first, last) of the target tokens (and of what follows them) such that each takes one pass: everything at
/// once, or, for a plan that refreshes, the runs of tokens written without a read in between.
[[nodiscard]] inline std::vector<std::pair<index_t, index_t>> forced_pieces(const plan& how, const arrivals& when) {
  const index_t count = when.written() + 1;
  if (how.refresh == refresh_rule::none) return {{0, count}};
  std::vector<std::pair<index_t, index_t>> pieces;
  for (index_t p = 0; p < count; ++p) {
    if (p == 0 || when.c(p) != when.c(p - 1)) pieces.emplace_back(p, p);
    pieces.back().second = p + 1;
  }
  return pieces;
}

/// Logits `[target tokens + 1, vocab_size]` of a finished stream, row by row: row p predicts target token p, the last
/// one what would follow. Bit for bit what a session with that plan computed, if `context` has its options. Throws
/// config_error if the arrivals do not fit the tokens. `type` is what the session keeps keys and values as
/// (not given: as a session does that was not told), `positions` how many it was declared for (0: the model's). Cost:
/// one forward pass, or one for each read for a plan that refreshes.
[[nodiscard]] inline std::vector<float> teacher_forced_logits(const models::decoder& network, ops::eval& context,
                                                              const plan& how, const finished_stream& stream,
                                                              std::optional<cache::storage_type> type = {},
                                                              index_t positions = 0) {
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>((stream.when.written() + 1) * network.config().vocab_size));
  for (const auto& [first, last] : forced_pieces(how, stream.when)) {
    const forced_pass work = plan_forced(how, stream, first, last, network.config().sliding_window);
    auto cache = network.make_cache(type.value_or(network.storage_for(context.options().compute)), positions);
    const models::stream_rows streams[] = {{&cache, &work.rows, work.tokens, work.logit_rows, {}, stream.vectors}};
    const auto logits = network.forward(context, streams);
    for (index_t i = 0; i < last - first; ++i) {
      const auto row = logits.row(i);
      result.insert(result.end(), row.begin(), row.end());
    }
  }
  return result;
}

}  // namespace runnel::stream
