// SPDX-License-Identifier: Apache-2.0
#include <runnel/core/thread_team.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace runnel;

/// Squares [0, count) with a team that is running; true if every element was done once by a worker that exists.
bool squares(thread_team& team, std::ptrdiff_t count, std::ptrdiff_t grain) {
  std::vector<std::ptrdiff_t> out(static_cast<std::size_t>(count), -1);
  std::atomic<bool> good{true};
  team.parallel_for(count, grain, [&](std::ptrdiff_t begin, std::ptrdiff_t end, int worker) {
    if (worker < 0 || worker >= team.size() || begin >= end || end > count) good = false;
    for (std::ptrdiff_t i = begin; i < end; ++i) {
      auto& cell = out[static_cast<std::size_t>(i)];
      if (cell != -1) good = false;
      cell = i * i;
    }
  });
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    if (out[static_cast<std::size_t>(i)] != i * i) return false;
  }
  return good;
}

TEST_CASE("work is done once, by any number of threads") {
  for (int threads = 1; threads <= 8; ++threads) {
    thread_team team(threads);
    CHECK(team.size() == threads);
    for (const std::ptrdiff_t count : {0, 1, 2, 7, 100, 1000}) {
      for (const std::ptrdiff_t grain : {0, 1, 3, 64, 5000}) {
        CHECK(squares(team, count, grain));  // without a region: on the caller
        bool good = false;
        team.run([&] { good = squares(team, count, grain); });
        CHECK(good);
      }
    }
  }
}

TEST_CASE("hundreds of small pieces of work follow one another in one region") {
  for (const int threads : {1, 2, 3, 8}) {
    thread_team team(threads);
    for (int step = 0; step < 3; ++step) {
      long total = 0;
      team.run([&] {
        std::vector<long> values(37, 0);
        for (int i = 0; i < 300; ++i) {
          team.parallel_for(37, 4, [&](std::ptrdiff_t begin, std::ptrdiff_t end, int) {
            for (std::ptrdiff_t k = begin; k < end; ++k)
              values[static_cast<std::size_t>(k)] += k;  // no lock: each is one's own
          });
        }
        total = std::accumulate(values.begin(), values.end(), 0L);
      });
      CHECK(total == 300L * 37 * 36 / 2);
    }
  }
}

TEST_CASE("what was written before a hand-over is seen by all, and what they write is seen after") {
  thread_team team(4);
  bool good = true;
  team.run([&] {
    std::vector<int> a(64, 0), b(64, 0);
    for (int turn = 1; turn < 200; ++turn) {
      for (int& value : a) value = turn;
      team.parallel_for(64, 1, [&](std::ptrdiff_t begin, std::ptrdiff_t, int) {
        const auto at = static_cast<std::size_t>(begin);
        b[at] = a[63 - at] + 1;
      });
      for (const int value : b) good = good && value == turn + 1;
    }
  });
  CHECK(good);
}

TEST_CASE("exceptions of the body pass, and the team works on") {
  for (const int threads : {1, 4}) {
    thread_team team(threads);
    for (int turn = 0; turn < 20; ++turn) {
      CHECK_THROWS_WITH_AS(team.run([&] {
        (void)squares(team, 100, 1);
        throw std::runtime_error("from the body");
      }),
                           "from the body", std::runtime_error);
      bool good = false;
      team.run([&] { good = squares(team, 100, 1); });
      CHECK(good);
    }
  }
}

TEST_CASE("a region inside a region runs on the caller") {
  thread_team team(3);
  bool outer = false, inner = false, after = false;
  team.run([&] {
    outer = squares(team, 50, 1);
    team.run([&] { inner = squares(team, 50, 1); });
    after = squares(team, 50, 1);
  });
  CHECK((outer && inner && after));
}

TEST_CASE("an exception of an inner region passes both") {
  thread_team team(3);
  CHECK_THROWS_AS(team.run([&] { team.run([] { throw std::logic_error("inner"); }); }), std::logic_error);
  bool good = false;
  team.run([&] { good = squares(team, 50, 1); });
  CHECK(good);
}

TEST_CASE("teams of several threads do not meet") {
  std::atomic<int> good{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      thread_team team(1 + caller % 3);
      for (int step = 0; step < 10; ++step) {
        bool all = true;
        team.run([&] {
          for (int i = 0; i < 20; ++i) all = squares(team, 60 + caller, 2) && all;
        });
        good += all ? 1 : 0;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(good == 40);
}

#if defined(_OPENMP)
TEST_CASE("inside a host's parallel region a step still runs") {
  std::atomic<int> good{0}, workers{0};
  omp_set_max_active_levels(2);  // the host allows regions inside regions
#pragma omp parallel num_threads(3)
  {
    thread_team team(4);
    bool all = false;
    team.run([&] {
      all = squares(team, 100, 1);
      team.parallel_for(100, 1, [&](std::ptrdiff_t, std::ptrdiff_t, int worker) { workers += worker; });
    });
    if (all) ++good;
  }
  omp_set_max_active_levels(1);
  CHECK(good == 3);
  CHECK(workers == 0);  // no thread but the host's
}
#endif

TEST_CASE("numbers of threads that make no sense are refused") {
  CHECK_THROWS_AS(thread_team(-1), config_error);
  CHECK_THROWS_AS(thread_team(1025), config_error);
  CHECK(thread_team(0).size() >= 1);
}

}  // namespace
