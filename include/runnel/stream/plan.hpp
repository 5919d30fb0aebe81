// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include <runnel/position/row_table.hpp>

namespace runnel::stream {

/// Input-attention (paper section 3): what source rows see besides the source rows before them.
enum class source_visibility : std::uint8_t { source_only, source_and_target };

/// Output-attention (paper section 3): whether written rows are computed again when source arrives; or all rows, source
/// too, before every token (what the paper's Appendix F measures against: the same logits at many times the rows).
enum class refresh_rule : std::uint8_t { none, when_source_arrives, before_every_token };

/// Who orders reads and writes: a policy, or nobody because all is read first.
enum class event_order : std::uint8_t { read_all_first, by_policy };

/// The row whose logits give the next token: the last target row (fed again when source arrived, so that it sees it),
/// or whatever arrived last, source or target.
enum class predicting_row : std::uint8_t { last_target, latest_arrival };

/// One row of a stream, by its index within its group.
struct row_id {
  group of = group::source;
  index_t index = 0;
  friend constexpr bool operator==(row_id, row_id) = default;
};

/// A streaming paradigm as five independent choices. Ranges, offsets, positions and what is computed again all follow
/// from them, from the arrivals, and from nothing else; sessions and models know no paradigm by name.
struct plan {
  source_visibility visibility = source_visibility::source_only;
  refresh_rule refresh = refresh_rule::none;
  position_scheme positions = grouped_positions{};
  event_order order = event_order::by_policy;
  predicting_row predicts = predicting_row::last_target;

  [[nodiscard]] bool source_sees_target() const noexcept { return visibility == source_visibility::source_and_target; }

  /// The rules that the row table applies, for a model whose windowed layers have this sliding window (0: none).
  [[nodiscard]] row_rules rules(index_t window = 0) const {
    return {positions, source_sees_target(), predicts == predicting_row::last_target, window};
  }

  /// Source rows visible to target row p, [0, result): c(p+1), c(p), or all that is read now, as the choices say.
  [[nodiscard]] index_t visible_source(const arrivals& when, index_t p) const noexcept {
    if (refresh != refresh_rule::none) return when.read_now();
    return when.c(predicts == predicting_row::last_target ? p + 1 : p);
  }

  /// The row that predicts target token p, once p tokens are written; nothing if there is no row yet.
  [[nodiscard]] std::optional<row_id> row_predicting(const arrivals& when, index_t p) const noexcept {
    const index_t read = when.c(p);
    const bool source_came_last = p == 0 || (predicts == predicting_row::latest_arrival && when.c(p - 1) < read);
    if (!source_came_last) return row_id{group::target, p - 1};
    if (read == 0) return std::nullopt;
    return row_id{group::source, read - 1};
  }

  /// Throws config_error if the choices contradict each other, or phi is outside [0, `context`).
  void validate(index_t context) const {
    if (source_sees_target()) {
      expect(refresh == refresh_rule::none,
             "plan: target rows cannot be refreshed where source rows see them: the source rows would be stale");
      expect(!std::holds_alternative<contiguous_positions>(positions),
             "plan: source rows cannot see target rows under contiguous positions, where the target's start still "
             "moves; use interleaved or grouped positions");
      expect(predicts == predicting_row::latest_arrival,
             "plan: where source rows see target rows, the latest arrival has to predict: feeding the last target row "
             "again would leave the source rows that saw it stale");
    } else {
      expect(predicts == predicting_row::last_target,
             "plan: where source rows do not see target rows, the last target row has to predict: a source row does "
             "not know what was written");
    }
    runnel::validate(positions, context);
  }
};

/// Read everything, then write; target positions follow the source's (the ordinary use of a language model).
[[nodiscard]] inline plan batch() {
  return {.positions = contiguous_positions{}, .order = event_order::read_all_first};
}

/// Read everything, then write, with the target at positions of its own that start at `phi`.
[[nodiscard]] inline plan batch_grouped(double phi = 0) {
  return {.positions = grouped_positions{phi}, .order = event_order::read_all_first};
}

/// Source and target in one sequence, in order of arrival; source rows see what was written before them.
[[nodiscard]] inline plan interleaved() {
  return {.visibility = source_visibility::source_and_target,
          .positions = interleaved_positions{},
          .predicts = predicting_row::latest_arrival};
}

/// What batch-streaming computes again when source arrives.
enum class reencode : std::uint8_t {
  none,       ///< Nothing: rows keep the positions at which they arrived.
  positions,  ///< Where the target stands, never its keys and values (it costs nothing: only the query's offset moves).
  all,        ///< Every target row, over the source read by now.
  everything,  ///< What was read and written, before every token (the paper's Appendix F): `all` without a memory.
};

/// Source rows see the source only, and the target follows them (paper section 3).
[[nodiscard]] inline plan batch_streaming(reencode what = reencode::none) {
  plan result;
  if (what == reencode::none) {
    result.positions = interleaved_positions{};
  } else {
    result.positions = contiguous_positions{};
  }
  if (what == reencode::all) result.refresh = refresh_rule::when_source_arrives;
  if (what == reencode::everything) result.refresh = refresh_rule::before_every_token;
  return result;
}

/// Source and target each count their own positions; the target starts at `phi` (paper section 4.2). Nothing is ever
/// computed again but the last row of a word.
[[nodiscard]] inline plan group_streaming(double phi = 0) { return {.positions = grouped_positions{phi}}; }

/// No re-encoding, and one side (or both) held at position 0 (paper section 4.1, Table 2).
[[nodiscard]] inline plan removed(removed_positions::side side = removed_positions::side::both) {
  return {.positions = removed_positions{side}};
}

/// The name under which `parse_plan` knows the choices, or a description of them if it knows none.
[[nodiscard]] inline std::string name_of(const plan& p) {
  const bool by_policy = p.order == event_order::by_policy;
  const bool plain = !p.source_sees_target() && p.refresh == refresh_rule::none;
  const bool contiguous = std::holds_alternative<contiguous_positions>(p.positions);
  const bool arrival_order = std::holds_alternative<interleaved_positions>(p.positions);
  if (std::holds_alternative<grouped_positions>(p.positions) && plain) {
    const double phi = std::get<grouped_positions>(p.positions).phi;
    return message(by_policy ? "group-streaming(phi=" : "batch-grouped(phi=", phi, ")");
  }
  if (contiguous && plain) return by_policy ? "batch-streaming(reencode=positions)" : "batch";
  if (by_policy && arrival_order && plain) return "batch-streaming(reencode=none)";
  if (by_policy && arrival_order && p.source_sees_target()) return "interleaved";
  if (by_policy && contiguous && !p.source_sees_target()) {
    const bool always = p.refresh == refresh_rule::before_every_token;
    return always ? "batch-streaming(reencode=everything)" : "batch-streaming(reencode=all)";
  }
  if (const auto* which = std::get_if<removed_positions>(&p.positions); which && plain && by_policy) {
    constexpr const char* sides[] = {"source", "target", "both"};
    return message("removed-", sides[static_cast<std::size_t>(which->removed)]);
  }
  return message(p.source_sees_target() ? "source sees target" : "source sees source", ", ",
                 p.refresh == refresh_rule::none ? "no refresh" : "refresh", ", ", runnel::name_of(p.positions), ", ",
                 by_policy ? "by policy" : "read all first");
}

/// The plan of a command line: `name` is batch, batch-grouped, interleaved, batch-streaming, group-streaming,
/// removed-source, removed-target or removed-both. `reencoding` (none, positions, all, everything) goes with
/// batch-streaming only, `phi` with batch-grouped and group-streaming only. Throws config_error otherwise.
[[nodiscard]] inline plan parse_plan(std::string_view name, std::optional<std::string_view> reencoding = std::nullopt,
                                     std::optional<double> phi = std::nullopt) {
  expect(!reencoding || name == "batch-streaming",
         "plan: re-encoding is a choice of batch-streaming only, and the plan is '", name, "'");
  expect(!phi || name == "batch-grouped" || name == "group-streaming",
         "plan: phi is a choice of group-streaming and batch-grouped only, and the plan is '", name, "'");
  if (name == "batch") return batch();
  if (name == "batch-grouped") return batch_grouped(phi.value_or(0));
  if (name == "interleaved") return interleaved();
  if (name == "group-streaming") return group_streaming(phi.value_or(0));
  if (name == "removed-source") return removed(removed_positions::side::source);
  if (name == "removed-target") return removed(removed_positions::side::target);
  if (name == "removed-both") return removed(removed_positions::side::both);
  expect(name == "batch-streaming",
         "plan: expected batch, batch-grouped, interleaved, batch-streaming, group-streaming, removed-source, "
         "removed-target or removed-both, found '",
         name, "'");
  const std::string_view what = reencoding.value_or("none");
  if (what == "none") return batch_streaming(reencode::none);
  if (what == "positions") return batch_streaming(reencode::positions);
  if (what == "all") return batch_streaming(reencode::all);
  if (what == "everything") return batch_streaming(reencode::everything);
  throw config_error(message("plan: re-encoding: expected none, positions, all or everything, found '", what, "'"));
}

}  // namespace runnel::stream
