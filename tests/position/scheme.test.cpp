// SPDX-License-Identifier: Apache-2.0
// Positions, offsets and visible ranges of every plan, line by line.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/position/row_table.hpp>

namespace {

using namespace runnel;
using side = removed_positions::side;

/// A random sequence of reads and writes.
arrivals random_arrivals(random_stream& random) {
  arrivals when;
  const index_t steps = 1 + random.below(20);
  for (index_t i = 0; i < steps; ++i) {
    if (random.below(2) == 0)
      when.read(random.below(4));
    else
      when.write();
  }
  return when;
}

struct expected_row {
  double value = 0, source_offset = 0, target_offset = 0;
  index_t source_begin = 0, source_end = 0, target_end = 0;
};

void check_row(const row_table& rows, index_t at, group of, index_t storage, const expected_row& expected) {
  const auto i = static_cast<std::size_t>(at);
  CHECK(rows.groups()[i] == of);
  CHECK(rows.storage()[i] == storage);
  CHECK(rows.values()[i] == expected.value);
  CHECK(rows.toward(group::source).ranges[i] ==
        key_range{static_cast<std::int32_t>(expected.source_begin), static_cast<std::int32_t>(expected.source_end)});
  CHECK(rows.toward(group::target).ranges[i] == key_range{0, static_cast<std::int32_t>(expected.target_end)});
  // An offset counts only where there is something to see.
  if (expected.source_end > 0) CHECK(rows.toward(group::source).offsets[i] == expected.source_offset);
  if (expected.target_end > 0) CHECK(rows.toward(group::target).offsets[i] == expected.target_offset);
}

/// Checks all rows of a plan against formulas of (sequence, row).
template <class Source, class Target>
void check_plan(const row_rules& rules, bool all_read_first, Source&& source, Target&& target) {
  random_stream random(1);
  for (int turn = 0; turn < 50; ++turn) {
    arrivals when = random_arrivals(random);
    if (all_read_first) {
      when = arrivals(std::vector<index_t>(static_cast<std::size_t>(when.written()), when.read_now()), when.read_now());
    }
    row_table rows;
    for (index_t r = 0; r < when.read_now(); ++r) rows.add_source(rules, when, r);
    for (index_t p = 0; p < when.written(); ++p) rows.add_target(rules, when, p);
    REQUIRE(rows.size() == when.read_now() + when.written());
    for (index_t r = 0; r < when.read_now(); ++r) check_row(rows, r, group::source, r, source(when, r));
    for (index_t p = 0; p < when.written(); ++p) {
      check_row(rows, when.read_now() + p, group::target, p, target(when, p));
    }
  }
}

double number(index_t value) { return static_cast<double>(value); }

expected_row plain_source(const arrivals&, index_t r) { return {number(r), 0, 0, 0, r + 1, 0}; }

TEST_CASE("batch: source r, target p, offset S, all source visible") {
  check_plan({contiguous_positions{}, false, true}, true, plain_source, [](const arrivals& when, index_t p) {
    return expected_row{number(p), number(when.read_now()), 0, 0, when.read_now(), p + 1};
  });
}

TEST_CASE("batch with group positions: offset phi, all source visible") {
  check_plan({grouped_positions{2.5}, false, true}, true, plain_source, [](const arrivals& when, index_t p) {
    return expected_row{number(p), 2.5, 0, 0, when.read_now(), p + 1};
  });
}

TEST_CASE("group-streaming: offset phi, source [0, c(p + 1))") {
  for (const double phi : {0.0, 0.5, 1024.0}) {
    check_plan({grouped_positions{phi}, false, true}, false, plain_source, [&](const arrivals& when, index_t p) {
      return expected_row{number(p), phi, 0, 0, when.c(p + 1), p + 1};
    });
  }
}

TEST_CASE("batch-streaming without re-encoding: order of arrival in one frame, source [0, c(p + 1))") {
  check_plan(
      {interleaved_positions{}, false, true}, false,
      [](const arrivals& when, index_t r) { return expected_row{number(r + when.u(r)), 0, 0, 0, r + 1, 0}; },
      [](const arrivals& when, index_t p) {
        return expected_row{number(when.c(p) + p), 0, 0, 0, when.c(p + 1), p + 1};
      });
}

TEST_CASE("batch-streaming, positions re-encoded: offset c(p + 1), source [0, c(p + 1))") {
  check_plan({contiguous_positions{}, false, true}, false, plain_source, [](const arrivals& when, index_t p) {
    return expected_row{number(p), number(when.c(p + 1)), 0, 0, when.c(p + 1), p + 1};
  });
}

TEST_CASE("batch-streaming, all re-encoded: every target row as of now") {
  random_stream random(2);
  for (int turn = 0; turn < 50; ++turn) {
    const arrivals when = random_arrivals(random);
    const row_rules rules{contiguous_positions{}, false, true};
    row_table rows;
    for (index_t p = 0; p < when.written(); ++p) rows.add_target(rules, when, p, when.read_now());
    for (index_t p = 0; p < when.written(); ++p) {
      check_row(rows, p, group::target, p, {number(p), number(when.read_now()), 0, 0, when.read_now(), p + 1});
    }
  }
}

TEST_CASE("interleaved: order of arrival, source sees target [0, u(r)), target sees source [0, c(p))") {
  check_plan(
      {interleaved_positions{}, true, false}, false,
      [](const arrivals& when, index_t r) { return expected_row{number(r + when.u(r)), 0, 0, 0, r + 1, when.u(r)}; },
      [](const arrivals& when, index_t p) { return expected_row{number(when.c(p) + p), 0, 0, 0, when.c(p), p + 1}; });
}

TEST_CASE("interleaved positions number the order of arrival without gaps") {
  random_stream random(3);
  for (int turn = 0; turn < 50; ++turn) {
    const arrivals when = random_arrivals(random);
    std::vector<int> taken(static_cast<std::size_t>(when.read_now() + when.written()), 0);
    for (index_t r = 0; r < when.read_now(); ++r) {
      ++taken.at(static_cast<std::size_t>(position_of_source(interleaved_positions{}, when, r).value()));
    }
    for (index_t p = 0; p < when.written(); ++p) {
      ++taken.at(static_cast<std::size_t>(position_of_target(interleaved_positions{}, when, p).value()));
    }
    for (const int times : taken) CHECK(times == 1);
  }
}

TEST_CASE("removed: 0 on that side, order of arrival on the other, source [0, c(p + 1))") {
  for (const side which : {side::source, side::target, side::both}) {
    check_plan(
        {removed_positions{which}, false, true}, false,
        [&](const arrivals& when, index_t r) {
          return expected_row{which == side::target ? number(r + when.u(r)) : 0, 0, 0, 0, r + 1, 0};
        },
        [&](const arrivals& when, index_t p) {
          return expected_row{which == side::source ? number(when.c(p) + p) : 0, 0, 0, 0, when.c(p + 1), p + 1};
        });
  }
}

TEST_CASE("where source sees target, grouped positions give the way back, contiguous ones cannot") {
  CHECK(offset_to_target(grouped_positions{3.5}).tokens() == -3.5);
  CHECK(offset_to_target(interleaved_positions{}).tokens() == 0);
  CHECK(offset_to_target(removed_positions{}).tokens() == 0);
  CHECK_THROWS_AS((void)offset_to_target(contiguous_positions{}), config_error);
  arrivals when;
  when.write();
  when.read(2);
  row_table rows;
  rows.add_source({grouped_positions{3.5}, true, false}, when, 1);
  check_row(rows, 0, group::source, 1, {1, 0, -3.5, 0, 2, 1});
  CHECK_THROWS_AS(rows.add_source({contiguous_positions{}, true, false}, when, 0), config_error);
  CHECK(rows.size() == 1);
}

TEST_CASE("the table knows the largest position and can be used again") {
  row_table rows;
  CHECK(rows.empty());
  rows.add({group::source, 5, 0}, {0, 1}, 0, {}, 0);
  CHECK(rows.max_position() == 5);
  rows.add({group::target, 3, 0}, {0, 1}, 7.5, {0, 1}, 0);
  CHECK(rows.max_position() == 10.5);
  rows.add({group::source, 4, 1}, {0, 2}, 0, {0, 1}, -9);
  CHECK(rows.max_position() == 10.5);
  CHECK(row_table::num_segments() == 2);
  rows.clear();
  CHECK(rows.empty());
  CHECK(rows.max_position() == 0);
  CHECK(rows.toward(group::source).ranges.empty());
  CHECK(rows.toward(group::target).offsets.empty());
}

TEST_CASE("phi must be a number in the declared range") {
  CHECK_NOTHROW(validate(grouped_positions{0}, 10));
  CHECK_NOTHROW(validate(grouped_positions{9.99}, 10));
  CHECK_NOTHROW(validate(contiguous_positions{}, 0));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double phi : {-1e-9, 10.0, 1e300, infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(validate(grouped_positions{phi}, 10), config_error);
  }
  CHECK_THROWS_WITH(validate(grouped_positions{12}, 10),
                    "phi: expected a number in [0, 10), the positions the model was declared for, found 12");
}

TEST_CASE("schemes have names") {
  CHECK(name_of(contiguous_positions{}) == "contiguous");
  CHECK(name_of(interleaved_positions{}) == "interleaved");
  CHECK(name_of(grouped_positions{0.5}) == "grouped(phi=0.5)");
  CHECK(name_of(removed_positions{side::source}) == "removed(source)");
  CHECK(name_of(removed_positions{side::target}) == "removed(target)");
  CHECK(name_of(removed_positions{side::both}) == "removed(both)");
}

}  // namespace
