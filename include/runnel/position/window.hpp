// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/position/scheme.hpp>

/// \file
/// Sliding windows as the beginnings of ranges.
///
/// A row sees a key within the window iff the row's position in the keys' frame, less the key's, is below the window:
/// what a family means by it in batch, carried over to every plan. Where positions are removed, distance is that of
/// arrival. Keys of a group stand in ascending order, so what a row sees begins at one place.

namespace runnel {

namespace detail {

/// First of keys [0, end) less than `window` before `query`; `at(k)` is the position of key k, ascending.
template <class At>
[[nodiscard]] index_t first_within(index_t end, double query, index_t window, At&& at) {
  index_t begin = 0;
  while (begin < end) {
    const index_t middle = begin + (end - begin) / 2;
    if (query - at(middle) < static_cast<double>(window)) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

/// The scheme whose positions give distances: that of arrival where positions are removed.
[[nodiscard]] inline position_scheme distance_scheme(const position_scheme& scheme) {
  return std::holds_alternative<removed_positions>(scheme) ? position_scheme(interleaved_positions{}) : scheme;
}

}  // namespace detail

/// First key of each group that a row sees within its window; 0 where there is no window.
struct window_begins {
  index_t source = 0;
  index_t target = 0;
};

/// Those of source row r, which sees target rows below `seen_target`. Logarithmic.
[[nodiscard]] inline window_begins window_of_source(const position_scheme& scheme, const arrivals& when, index_t r,
                                                    index_t seen_target, index_t window) {
  const position_scheme frame = detail::distance_scheme(scheme);
  const source_position own = position_of_source(frame, when, r);
  window_begins out;
  out.source = detail::first_within(r + 1, own.value(), window,
                                    [&](index_t k) { return position_of_source(frame, when, k).value(); });
  if (seen_target > 0) {
    const target_position there = own + offset_to_target(frame);
    out.target = detail::first_within(seen_target, there.value(), window,
                                      [&](index_t k) { return position_of_target(frame, when, k).value(); });
  }
  return out;
}

/// Those of target row p, which sees source rows below `seen_source`. Logarithmic.
[[nodiscard]] inline window_begins window_of_target(const position_scheme& scheme, const arrivals& when, index_t p,
                                                    index_t seen_source, index_t window) {
  const position_scheme frame = detail::distance_scheme(scheme);
  const target_position own = position_of_target(frame, when, p);
  const source_position there = own + offset_to_source(frame, seen_source);
  window_begins out;
  out.source = detail::first_within(seen_source, there.value(), window,
                                    [&](index_t k) { return position_of_source(frame, when, k).value(); });
  out.target = detail::first_within(p + 1, own.value(), window,
                                    [&](index_t k) { return position_of_target(frame, when, k).value(); });
  return out;
}

}  // namespace runnel
