// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/speech/quiet_cut.hpp>

namespace {

using runnel::index_t;
using runnel::speech::quiet_cut;
using runnel::speech::quiet_cut_options;
using runnel::speech::quietest_place;
using samples = std::vector<float>;

samples noise(std::size_t count, unsigned seed, float gain = 1) {
  std::mt19937 draw(seed);
  samples out(count);
  for (float& one : out) one = gain * (static_cast<float>(draw() % 2001) / 1000 - 1);
  return out;
}

/// The stretches of `input`, pushed in pieces of random sizes up to `most`, where `limit` samples fit into each.
std::vector<samples> stretches_of(const samples& input, const quiet_cut_options& options, index_t limit,
                                  std::size_t most, index_t at_once = 100'000) {
  quiet_cut cutter(options);
  std::mt19937 draw(7);
  std::vector<samples> out(1);
  const auto drain = [&] {
    for (;;) {
      const index_t room = limit - static_cast<index_t>(out.back().size());
      const auto piece = cutter.next(room, at_once);
      out.back().insert(out.back().end(), piece.samples.begin(), piece.samples.end());
      CHECK(static_cast<index_t>(out.back().size()) <= limit);
      if (piece.cut) {
        out.emplace_back();
      } else if (piece.samples.empty()) {
        break;
      }
    }
  };
  for (std::size_t at = 0; at < input.size();) {
    const std::size_t count = std::min<std::size_t>(1 + draw() % most, input.size() - at);
    cutter.push(std::span(input).subspan(at, count));
    at += count;
    drain();
    CHECK_FALSE(cutter.done());
    CHECK(cutter.num_held() <= options.window);
  }
  cutter.finish();
  drain();
  CHECK(cutter.done());
  return out;
}

samples joined(const std::vector<samples>& stretches) {
  samples all;
  for (const auto& one : stretches) all.insert(all.end(), one.begin(), one.end());
  return all;
}

}  // namespace

TEST_CASE("quiet_cut: stretches are the input, whatever the pieces") {
  for (const auto& [window, frame, around] : {std::tuple(200, 10, 2), {50, 10, 0}, {10, 10, 3}, {7, 3, 1}, {1, 1, 0}}) {
    const quiet_cut_options options{window, frame, around};
    for (const index_t limit : {1, 2, 9, 60, 201, 999, 1000, 1001, 5000}) {
      const auto input = noise(1000, static_cast<unsigned>(limit));
      const auto expected = stretches_of(input, options, limit, 1000);
      CHECK(joined(expected) == input);
      for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
        CHECK_FALSE(expected[i].empty());
        CHECK(static_cast<index_t>(expected[i].size()) >= std::max<index_t>(1, limit - options.window));
      }
      if (limit >= 1000) CHECK(expected.size() == 1);
      if (limit < 1000) CHECK(expected.size() >= 2);
      for (const std::size_t most : {1U, 13U, 300U}) {
        CHECK(stretches_of(input, options, limit, most) == expected);
        CHECK(stretches_of(input, options, limit, most, 17) == expected);
      }
    }
  }
}

TEST_CASE("quiet_cut: where what went on takes up room, pieces of one size keep the cuts") {
  const auto input = noise(3000, 9);
  const auto cuts_of = [&](std::size_t piece) {
    quiet_cut cutter({60, 5, 1});
    std::vector<index_t> cuts;
    index_t whole = 0, went = 0, stretch = 0;
    for (std::size_t at = 0; at <= input.size(); at += piece) {
      cutter.push(std::span(input).subspan(at, std::min(piece, input.size() - at)));
      if (at + piece > input.size()) cutter.finish();
      for (;;) {
        const index_t chunks = stretch / 40;  // each whole one takes 7 samples' room
        const auto next = cutter.next(400 - stretch - 7 * chunks, 40 - stretch % 40);
        stretch += static_cast<index_t>(next.samples.size());
        went += static_cast<index_t>(next.samples.size());
        if (next.cut) cuts.push_back(went);
        if (next.cut) stretch = 0;
        if (!next.cut && next.samples.empty()) break;
      }
      whole = went;
    }
    CHECK(cutter.done());
    CHECK(whole == 3000);
    return cuts;
  };
  const auto expected = cuts_of(3000);
  CHECK(expected.size() > 7);
  for (const std::size_t piece : {1U, 11U, 40U, 500U}) CHECK(cuts_of(piece) == expected);
}

TEST_CASE("quiet_cut: the cut lies in the pause") {
  auto input = noise(10000, 3);
  // Two pauses in the window, the second one quieter; a quieter one before the window does not count.
  const auto pause = [&](std::size_t begin, std::size_t end, float gain) {
    for (std::size_t i = begin; i < end; ++i) input[i] *= gain;
  };
  pause(1000, 2000, 0);
  pause(6500, 6800, 0.05F);
  pause(7200, 7500, 0.01F);
  const auto stretches = stretches_of(input, {2000, 20, 3}, 8000, 77);
  REQUIRE(stretches.size() == 2);
  CHECK(stretches[0].size() > 7200 + 20);
  CHECK(stretches[0].size() < 7500 - 20);
  // A single zero is not a pause.
  auto tone = noise(1000, 5);
  for (std::size_t i = 500; i < 510; ++i) tone[i] = 0;
  for (std::size_t i = 700; i < 800; ++i) tone[i] *= 0.2F;
  const index_t place = quietest_place(tone, 10, 4);
  CHECK(place > 700);
  CHECK(place < 800);
  CHECK(quietest_place(tone, 10, 0) == 505);
}

TEST_CASE("quiet_cut: silence is cut in its middle, odd samples count for nothing") {
  CHECK(quietest_place(samples(100), 10, 2) == 55);
  CHECK(quietest_place(samples(90), 10, 2) == 45);
  auto loud = samples(200, 1);
  std::fill(loud.begin() + 20, loud.begin() + 50, 0.0F);
  std::fill(loud.begin() + 100, loud.begin() + 150, 0.0F);  // the longer one
  CHECK(quietest_place(loud, 10, 0) == 125);
  CHECK(quietest_place(samples(7, 1), 10, 2) == 3);
  CHECK(quietest_place({}, 10, 2) == 0);
  CHECK(quietest_place(samples(19, 1), 10, 2) == 5);  // one whole frame
  auto bad = samples(100, 1);
  bad[3] = std::numeric_limits<float>::quiet_NaN();
  bad[4] = std::numeric_limits<float>::infinity();
  std::fill(bad.begin() + 60, bad.begin() + 70, 0.0F);
  CHECK(quietest_place(bad, 10, 0) == 65);
}

TEST_CASE("quiet_cut: samples go on at once far from the limit, and all of them at the end") {
  quiet_cut cutter({100, 10, 1});
  cutter.push(samples(50, 1));
  auto piece = cutter.next(1000);
  CHECK(piece.samples.size() == 50);
  CHECK_FALSE(piece.cut);
  CHECK(cutter.next(950).samples.empty());
  cutter.push(samples(900, 1));
  CHECK(cutter.next(950).samples.size() == 850);  // the last 100 wait
  CHECK(cutter.num_held() == 50);
  CHECK(cutter.next(100).samples.empty());
  cutter.push(samples(50, 1));
  CHECK_FALSE(cutter.next(100).cut);  // it would just fit
  cutter.finish();
  CHECK_FALSE(cutter.done());
  piece = cutter.next(100);
  CHECK(piece.samples.size() == 100);
  CHECK_FALSE(piece.cut);
  CHECK(cutter.done());
  CHECK(cutter.next(0).samples.empty());
  CHECK_THROWS_AS(cutter.push(samples(1)), runnel::config_error);
}

TEST_CASE("quiet_cut: room may shrink, and none at all is refused") {
  quiet_cut cutter({100, 10, 1});
  cutter.push(samples(500, 1));
  CHECK(cutter.next(400).samples.size() == 300);
  CHECK(cutter.next(100).cut);
  CHECK(cutter.num_held() >= 100);
  quiet_cut other({100, 10, 1});
  other.push(samples(10, 1));
  CHECK(other.next(500).samples.size() == 10);
  other.push(samples(10, 1));
  const auto piece = other.next(0);  // what was written took the room
  CHECK(piece.cut);
  CHECK(piece.samples.empty());
  CHECK_THROWS_AS((void)other.next(0), runnel::config_error);
  CHECK(other.next(200).samples.size() == 10);
  CHECK_THROWS_AS(quiet_cut({0, 1, 1}), runnel::config_error);
  CHECK_THROWS_AS(quiet_cut({10, 11, 1}), runnel::config_error);
  CHECK_THROWS_AS(quiet_cut({10, 1, -1}), runnel::config_error);
  CHECK(quiet_cut_options::for_rate(8000).frame == 80);
  CHECK_THROWS_AS((void)quiet_cut_options::for_rate(99), runnel::config_error);
}
