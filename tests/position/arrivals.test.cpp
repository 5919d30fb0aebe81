// SPDX-License-Identifier: Apache-2.0
#include <runnel/position/arrivals.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <runnel/core/rng.hpp>

namespace {

using namespace runnel;

/// The same by its definition, from the list of what happened: true for a source row read, false for a target row
/// produced.
struct by_definition {
  std::vector<bool> events;

  [[nodiscard]] index_t count(bool which, std::size_t before) const {
    index_t found = 0;
    for (std::size_t i = 0; i < before; ++i) found += events[i] == which;
    return found;
  }
  /// How many of the other kind came before the n-th of this kind; all of them if there is no n-th.
  [[nodiscard]] index_t others_before(bool which, index_t n) const {
    for (std::size_t i = 0; i < events.size(); ++i) {
      if (events[i] == which && n-- == 0) return count(!which, i);
    }
    return count(!which, events.size());
  }
};

void check_same(const arrivals& found, const by_definition& expected) {
  const auto size = expected.events.size();
  CHECK(found.read_now() == expected.count(true, size));
  CHECK(found.written() == expected.count(false, size));
  for (index_t p = 0; p <= found.written() + 1; ++p) CHECK(found.c(p) == expected.others_before(false, p));
  for (index_t r = 0; r <= found.read_now(); ++r) CHECK(found.u(r) == expected.others_before(true, r));
}

TEST_CASE("c and u are what they say, while it happens and after rewinding") {
  random_stream random(1);
  for (int turn = 0; turn < 200; ++turn) {
    arrivals when;
    by_definition expected;
    struct moment {
      index_t read, written;
      std::size_t events;
    };
    std::vector<moment> moments;
    for (int step = 0; step < 30; ++step) {
      moments.push_back({when.read_now(), when.written(), expected.events.size()});
      switch (random.below(4)) {
        case 0: {
          const index_t rows = random.below(4);
          when.read(rows);
          expected.events.insert(expected.events.end(), static_cast<std::size_t>(rows), true);
          break;
        }
        case 1: {
          const auto& back = moments[static_cast<std::size_t>(random.below(static_cast<index_t>(moments.size())))];
          when.rewind(back.read, back.written);
          expected.events.resize(back.events);
          std::erase_if(moments, [&](const moment& m) { return m.events > expected.events.size(); });
          break;
        }
        default: when.write(); expected.events.push_back(false);
      }
      check_same(when, expected);
    }
  }
}

TEST_CASE("a finished sequence is the same as one that happened") {
  const std::vector<index_t> read{2, 2, 3, 7};
  const arrivals finished(read, 9);
  by_definition expected;
  expected.events = {true, true, false, false, true, false, true, true, true, true, false, true, true};
  check_same(finished, expected);
  CHECK(finished.c(4) == 9);
  CHECK(arrivals(std::vector<index_t>{}, 0).c(0) == 0);
}

TEST_CASE("sequences that could not have happened are refused") {
  CHECK_THROWS_WITH_AS(arrivals(std::vector<index_t>{3, 2}, 5),
                       "arrivals: source rows read must not decrease, found 2 after 3", config_error);
  CHECK_THROWS_WITH_AS(arrivals(std::vector<index_t>{3, 4}, 3), "arrivals: 4 source rows were read of 3", config_error);
  CHECK_THROWS_AS(arrivals(std::vector<index_t>{-1}, 3), config_error);
  arrivals when(std::vector<index_t>{1, 2}, 4);
  CHECK_THROWS_AS(when.read(-1), config_error);
  CHECK_THROWS_AS(when.rewind(5, 1), config_error);
  CHECK_THROWS_AS(when.rewind(1, 3), config_error);
  CHECK_THROWS_AS(when.rewind(-1, 0), config_error);
  CHECK_THROWS_AS(when.rewind(1, 2), config_error);  // row 1 was produced with 2 rows read
  CHECK(when.read_now() == 4);
  CHECK(when.written() == 2);
}

}  // namespace
