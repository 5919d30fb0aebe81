// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <variant>

#include <runnel/position/arrivals.hpp>
#include <runnel/position/position.hpp>

namespace runnel {

/// Target follows source without a gap: source r, target p, offset = the source rows visible to the row. With all of
/// the source read this is batch; while it grows, this is position re-encoding (paper section 3, "Pos re."): the keys
/// keep their rotation and the query's offset moves.
struct contiguous_positions {};

/// Order of arrival on one axis: source r + u(r), target c(p) + p (paper section 3, interleaved and "No re.").
struct interleaved_positions {};

/// Group position encoding (paper section 4.2): source r, target p, and a constant offset phi from target to source.
struct grouped_positions {
  double phi = 0;
};

/// Interleaved positions with one side, or both, at the constant 0 (paper section 4.1, Table 2).
struct removed_positions {
  enum class side : std::uint8_t { source, target, both };
  side removed = side::both;
};

/// How rows get their position values, and how far a target query stands from the source's frame.
using position_scheme = std::variant<contiguous_positions, interleaved_positions, grouped_positions, removed_positions>;

/// Position of source row r (group-local index). Fixed once the row was read.
[[nodiscard]] inline source_position position_of_source(const position_scheme& scheme, const arrivals& when,
                                                        index_t r) {
  const bool one_frame =
      std::holds_alternative<interleaved_positions>(scheme) || std::holds_alternative<removed_positions>(scheme);
  if (!one_frame) return source_position(static_cast<double>(r));
  if (const auto* removed = std::get_if<removed_positions>(&scheme)) {
    if (removed->removed != removed_positions::side::target) return source_position(0);
  }
  return source_position(static_cast<double>(r + when.u(r)));
}

/// Position of target row p (group-local index). Fixed once the row was produced.
[[nodiscard]] inline target_position position_of_target(const position_scheme& scheme, const arrivals& when,
                                                        index_t p) {
  const bool one_frame =
      std::holds_alternative<interleaved_positions>(scheme) || std::holds_alternative<removed_positions>(scheme);
  if (!one_frame) return target_position(static_cast<double>(p));
  if (const auto* removed = std::get_if<removed_positions>(&scheme)) {
    if (removed->removed != removed_positions::side::source) return target_position(0);
  }
  return target_position(static_cast<double>(when.c(p) + p));
}

/// Offset of a target query toward source keys, for a row that sees `visible_source` source rows.
[[nodiscard]] inline group_offset<target_group, source_group> offset_to_source(const position_scheme& scheme,
                                                                               index_t visible_source) {
  using offset = group_offset<target_group, source_group>;
  if (std::holds_alternative<contiguous_positions>(scheme)) return offset(static_cast<double>(visible_source));
  if (const auto* grouped = std::get_if<grouped_positions>(&scheme)) return offset(grouped->phi);
  return offset(0);
}

/// Offset of a source query toward target keys; used only where source rows see target rows.
/// Throws config_error for contiguous positions: there the target's start still moves, so no such offset exists.
[[nodiscard]] inline group_offset<source_group, target_group> offset_to_target(const position_scheme& scheme) {
  using offset = group_offset<source_group, target_group>;
  expect(!std::holds_alternative<contiguous_positions>(scheme),
         "positions: source rows cannot see target rows under contiguous positions; use interleaved or grouped");
  if (const auto* grouped = std::get_if<grouped_positions>(&scheme)) return offset(-grouped->phi);
  return offset(0);
}

/// Throws config_error unless phi is finite and within [0, `context`), the range in which rotary angles are declared.
inline void validate(const position_scheme& scheme, index_t context) {
  if (const auto* grouped = std::get_if<grouped_positions>(&scheme)) {
    expect(std::isfinite(grouped->phi) && grouped->phi >= 0 && grouped->phi < static_cast<double>(context),
           "phi: expected a number in [0, ", context, "), the positions the model was declared for, found ",
           grouped->phi);
  }
}

/// Short name for messages and logs, e.g. "grouped(phi=0.5)".
[[nodiscard]] inline std::string name_of(const position_scheme& scheme) {
  struct namer {
    std::string operator()(contiguous_positions) const { return "contiguous"; }
    std::string operator()(interleaved_positions) const { return "interleaved"; }
    std::string operator()(grouped_positions g) const { return message("grouped(phi=", g.phi, ")"); }
    std::string operator()(removed_positions r) const {
      constexpr const char* sides[] = {"source", "target", "both"};
      return message("removed(", sides[static_cast<std::size_t>(r.removed)], ")");
    }
  };
  return std::visit(namer{}, scheme);
}

}  // namespace runnel
