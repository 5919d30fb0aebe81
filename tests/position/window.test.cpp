// SPDX-License-Identifier: Apache-2.0
#include <runnel/position/window.hpp>

#include <doctest/doctest.h>

#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/position/row_table.hpp>

// Where windows begin, against a look at every key.

namespace {

using namespace runnel;

arrivals random_arrivals(random_stream& random, index_t source, index_t target) {
  std::vector<index_t> read_at;
  index_t read = random.below(source + 1);
  for (index_t p = 0; p < target; ++p) {
    if (random.below(3) == 0) read += random.below(source - read + 1);
    read_at.push_back(read);
  }
  return {read_at, source};
}

/// First key that a look at each of them finds within the window; none after it may be outside.
template <class Distance>
index_t looked_up(index_t end, index_t window, Distance&& distance) {
  index_t begin = end;
  for (index_t k = end; k-- > 0 && distance(k) < static_cast<double>(window);) begin = k;
  for (index_t k = 0; k < begin; ++k) CHECK(distance(k) >= static_cast<double>(window));
  return begin;
}

const position_scheme schemes[] = {contiguous_positions{},
                                   interleaved_positions{},
                                   grouped_positions{0},
                                   grouped_positions{6.5},
                                   removed_positions{removed_positions::side::source},
                                   removed_positions{removed_positions::side::target},
                                   removed_positions{removed_positions::side::both}};

TEST_CASE("a key is in the window iff it is less than the window away, in the keys' frame") {
  random_stream random(5);
  for (int turn = 0; turn < 200; ++turn) {
    const index_t source = 1 + random.below(30), target = random.below(30), window = 1 + random.below(25);
    const arrivals when = random_arrivals(random, source, target);
    for (const position_scheme& scheme : schemes) {
      CAPTURE(name_of(scheme));
      // Distances of removed positions are those of arrival.
      const bool removed = std::holds_alternative<removed_positions>(scheme);
      const position_scheme frame = removed ? position_scheme(interleaved_positions{}) : scheme;
      const auto source_at = [&](index_t k) { return position_of_source(frame, when, k).value(); };
      const auto target_at = [&](index_t k) { return position_of_target(frame, when, k).value(); };
      for (index_t r = 0; r < source; ++r) {
        const bool sees_target = !std::holds_alternative<contiguous_positions>(scheme);
        const index_t seen = sees_target ? when.u(r) : 0;
        const auto found = window_of_source(scheme, when, r, seen, window);
        CHECK(found.source == looked_up(r + 1, window, [&](index_t k) { return source_at(r) - source_at(k); }));
        if (seen == 0) continue;
        const double there = source_at(r) + offset_to_target(frame).tokens();
        CHECK(found.target == looked_up(seen, window, [&](index_t k) { return there - target_at(k); }));
      }
      for (index_t p = 0; p < target; ++p) {
        const index_t seen = when.c(p + 1);
        const auto found = window_of_target(scheme, when, p, seen, window);
        const double there = target_at(p) + offset_to_source(frame, seen).tokens();
        CHECK(found.source == looked_up(seen, window, [&](index_t k) { return there - source_at(k); }));
        CHECK(found.target == looked_up(p + 1, window, [&](index_t k) { return target_at(p) - target_at(k); }));
      }
    }
  }
}

TEST_CASE("row tables keep both ranges, and say which window it was") {
  arrivals when;
  when.read(10);
  row_table rows;
  const row_rules rules{contiguous_positions{}, false, true, 4};
  for (index_t r = 0; r < 10; ++r) rows.add_source(rules, when, r);
  CHECK(rows.window() == 4);
  CHECK(rows.toward(group::source).ranges[9] == key_range{0, 10});
  CHECK(rows.toward(group::source).windowed[9] == key_range{6, 10});
  CHECK(rows.toward(group::source).windowed[2] == key_range{0, 3});
  rows.clear();
  CHECK(rows.window() == 0);
  const row_rules plain{contiguous_positions{}, false, true};
  for (index_t r = 0; r < 10; ++r) rows.add_source(plain, when, r);
  CHECK(rows.window() == 0);
  CHECK(rows.toward(group::source).windowed == rows.toward(group::source).ranges);
}

}  // namespace
