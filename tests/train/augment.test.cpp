// SPDX-License-Identifier: Apache-2.0
#include <runnel/train/augment.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>
#include <vector>

#include "support/random_values.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;

constexpr index_t rate = 8000;

/// A tone of `hertz` of its samples' rate.
std::vector<float> tone(index_t count, double turns_a_sample, double phase = 0.3) {
  std::vector<float> out;
  for (index_t i = 0; i < count; ++i) {
    out.push_back(static_cast<float>(std::sin(2 * std::numbers::pi * turns_a_sample * static_cast<double>(i) + phase)));
  }
  return out;
}

double power(const std::vector<float>& of, std::size_t begin, std::size_t end) {
  double sum = 0;
  for (std::size_t i = begin; i < end; ++i) sum += static_cast<double>(of[i]) * static_cast<double>(of[i]);
  return sum / static_cast<double>(end - begin);
}
double power(const std::vector<float>& of) { return power(of, 0, of.size()); }

double decibels(double ratio) { return 10 * std::log10(ratio); }

}  // namespace

TEST_CASE("augmentation: speed changes length and pitch, and nothing else") {
  random_stream random(1);
  for (int trial = 0; trial < 40; ++trial) {
    const double factor = number_range{0.5, 1.6}.draw(random);
    const index_t count = tests::between(random, 200, 3000);
    const double pitch = number_range{0.01, 0.2}.draw(random);
    const auto fast = change_speed(tone(count, pitch), factor);
    CHECK(static_cast<index_t>(fast.size()) == samples_at_speed(count, factor));
    CHECK(std::abs(static_cast<double>(fast.size()) - static_cast<double>(count) / factor) <= 0.5);
    const auto expected = tone(static_cast<index_t>(fast.size()), pitch * factor);
    const auto edge = static_cast<std::size_t>(40 / std::min(1.0, factor));
    double worst = 0;
    for (std::size_t i = edge; i + edge < fast.size(); ++i) {
      worst = std::max(worst, static_cast<double>(std::abs(fast[i] - expected[i])));
    }
    CAPTURE(factor);
    CAPTURE(pitch);
    CHECK(worst < 0.01);
  }
  // What the faster one cannot hold is gone instead of folded down.
  const auto folded = change_speed(tone(4000, 0.45), 1.5);
  CHECK(power(folded, 100, folded.size() - 100) < 1e-4);
  const auto constant = change_speed(std::vector<float>(500, 1), 0.93);
  for (std::size_t i = 60; i + 60 < constant.size(); ++i) CHECK(std::abs(constant[i] - 1) < 2e-3f);
  CHECK(change_speed(tone(100, 0.1), 1) == tone(100, 0.1));
  CHECK(change_speed({}, 0.7).empty());
  CHECK(change_speed(std::vector<float>{1}, 1.9).size() == 1);
  CHECK_THROWS_AS(static_cast<void>(change_speed({}, 0)), config_error);
}

TEST_CASE(
    "augmentation: a filter keeps power, has the size that was asked for, and turns the sound over half the time") {
  random_stream random(11);
  std::set<double> signs;
  for (int trial = 0; trial < 20; ++trial) {
    const auto taps = draw_filter(0.5, rate, random);
    REQUIRE(taps.size() == 32);
    signs.insert(taps[0]);
    double squares = 0;
    for (std::size_t i = 1; i < taps.size(); ++i) squares += taps[i] * taps[i];
    CHECK(squares == doctest::Approx(0.25));
    std::vector<float> click(40);
    click[3] = 1;
    const auto heard = filtered(click, taps);
    CHECK(power(heard) == doctest::Approx(power(click)));
    for (std::size_t i = 0; i < click.size(); ++i) {
      const double tap = i >= 3 && i < 35 ? taps[i - 3] : 0;
      CHECK(static_cast<double>(heard[i]) == doctest::Approx(tap / std::sqrt(1.25)));
    }
  }
  CHECK(signs == std::set<double>{-1, 1});
  CHECK(filtered(std::vector<float>(9), draw_filter(1, rate, random)) == std::vector<float>(9));
  CHECK(filtered({}, draw_filter(1, rate, random)).empty());
}

TEST_CASE("augmentation: speed and filter are of each recording, the rest of the whole") {
  augment_options all{0.2, {-6, 6}, 1, {5, 30}, 0.5, {0, 50}, {0, 50}, 2, 30, 0.5};
  CHECK(all.of_each().speed == 0.2);
  CHECK(all.of_each().filter == 0.5);
  CHECK(all.of_each().noise_share == 0);
  CHECK(all.of_whole().speed == 0);
  CHECK(all.of_whole().filter == 0);
  all.speed = all.filter = 0;
  CHECK(all.of_whole() == all);
  CHECK(all.of_each() == augment_options{});
}

TEST_CASE("augmentation: nothing is asked for, nothing happens") {
  random_stream random(2);
  const auto clip = tests::normals<float>(random, 1000, 0.1);
  const augmentation none = draw_augmentation({}, 1000, rate, random);
  CHECK(tests::same_bits(none(clip), clip));
}

TEST_CASE("augmentation: gain, noise and silence are what was drawn") {
  random_stream random(3);
  std::set<bool> noisy, low;
  for (int trial = 0; trial < 60; ++trial) {
    augment_options options;
    options.gain_db = {-6, 9};
    options.noise_share = 0.8;
    options.snr_db = {-3, 40};
    options.silence_before_ms = {10, 200};
    options.silence_after_ms = {0, 300};
    const index_t count = tests::between(random, 2000, 6000);
    const auto clip = tests::normals<float>(random, count, 0.1);
    const augmentation what = draw_augmentation(options, count, rate, random);
    CHECK(options.gain_db.contains(what.gain_db));
    CHECK(what.silence_before >= 80);
    CHECK(what.silence_before <= 1600);
    CHECK(what.silence_after <= 2400);
    const auto full = what(clip);
    REQUIRE(static_cast<index_t>(full.size()) == what.length(count));
    CHECK(what.length(count) == what.silence_before + count + what.silence_after);
    augmentation quiet = what;
    quiet.snr_db.reset();
    const auto clean = quiet(clip);
    const auto begin = static_cast<std::size_t>(what.silence_before), end = begin + clip.size();
    CHECK(std::all_of(clean.begin(), clean.begin() + what.silence_before, [](float x) { return x == 0; }));
    CHECK(std::all_of(clean.end() - what.silence_after, clean.end(), [](float x) { return x == 0; }));
    CHECK(decibels(power(clean, begin, end) / power(clip)) == doctest::Approx(what.gain_db).epsilon(1e-5));
    noisy.insert(what.snr_db.has_value());
    if (!what.snr_db) {
      CHECK(tests::same_bits(full, clean));
      continue;
    }
    CHECK(options.snr_db.contains(*what.snr_db));
    std::vector<float> noise(full.size());
    for (std::size_t i = 0; i < full.size(); ++i) noise[i] = full[i] - clean[i];
    CHECK(decibels(power(clean, begin, end) / power(noise)) == doctest::Approx(*what.snr_db).epsilon(0.002));
    // White noise changes by its own power and half again from sample to sample, low-passed noise by less.
    std::vector<float> steps;
    for (std::size_t i = 1; i < noise.size(); ++i) steps.push_back(noise[i] - noise[i - 1]);
    const double change = power(steps) / power(noise);
    low.insert(what.noise_corner > 0);
    if (what.noise_corner > 0) {
      CHECK(change == doctest::Approx(2 - 2 * std::exp(-2 * std::numbers::pi * what.noise_corner)).epsilon(0.2));
      CHECK(what.noise_corner >= 1.0 / 80);
      CHECK(what.noise_corner <= 0.1);
    } else {
      CHECK(change == doctest::Approx(2).epsilon(0.15));
    }
  }
  CHECK(noisy.size() == 2);
  CHECK(low.size() == 2);
}

TEST_CASE("augmentation: noise is near normal; a silent recording gets none") {
  const auto noise = make_noise(100000, 0, random_stream(4));
  double mean = 0, square = 0, fourth = 0;
  for (const double x : noise) {
    mean += x / 100000;
    square += x * x / 100000;
    fourth += x * x * x * x / 100000;
  }
  CHECK(std::abs(mean) < 0.02);
  CHECK(square == doctest::Approx(1).epsilon(0.02));
  CHECK(fourth == doctest::Approx(3 - 0.3).epsilon(0.03));
  augmentation loud;
  loud.snr_db = 0;
  loud.silence_after = 50;
  const auto silent = loud(std::vector<float>(100));
  CHECK(silent == std::vector<float>(150));
  CHECK(loud({}) == std::vector<float>(50));
}

TEST_CASE("augmentation: masks are as long and as many as they may be, and lie inside") {
  random_stream random(5);
  augment_options options;
  options.time_masks = 3;
  options.longest_mask_ms = 100;
  options.noise_share = 1;
  index_t longest = 0;
  std::set<std::size_t> counts;
  bool first = false, last = false;
  for (int trial = 0; trial < 2000; ++trial) {
    const index_t count = trial % 3 == 0 ? tests::between(random, 0, 4) : tests::between(random, 500, 2000);
    const augmentation what = draw_augmentation(options, count, rate, random);
    counts.insert(what.masks.size());
    std::vector<float> clip(static_cast<std::size_t>(count), 1.0f);
    const auto out = what(clip);
    std::vector<bool> lost(clip.size());
    for (const auto& [begin, end] : what.masks) {
      REQUIRE(begin >= 0);
      REQUIRE(begin < end);
      REQUIRE(end <= count);
      longest = std::max(longest, end - begin);
      first = first || (count >= 1800 && begin < count / 50);
      last = last || (count >= 1800 && end > count - count / 50);
      std::fill(lost.begin() + begin, lost.begin() + end, true);
    }
    bool same = true;
    for (std::size_t i = 0; i < out.size(); ++i) same = same && (out[i] == 0) == lost[i];
    CHECK(same);
  }
  CHECK(longest <= 800);
  CHECK(longest > 780);
  CHECK(counts == std::set<std::size_t>{0, 1, 2, 3});
  CHECK(first);
  CHECK(last);
}

TEST_CASE("augmentation: the same state draws the same bits, another one others") {
  augment_options options{0.1, {-6, 6}, 1, {0, 20}, 0.5, {0, 100}, {0, 100}, 2, 50};
  random_stream random(6);
  const auto clip = tests::normals<float>(random, 3000);
  random_stream one(7), same(7), other(8);
  const auto result = draw_augmentation(options, 3000, rate, one)(clip);
  CHECK(tests::same_bits(result, draw_augmentation(options, 3000, rate, same)(clip)));
  CHECK(one == same);
  CHECK_FALSE(tests::same_bits(result, draw_augmentation(options, 3000, rate, other)(clip)));
  CHECK_FALSE(tests::same_bits(result, draw_augmentation(options, 3000, rate, one)(clip)));
}

TEST_CASE("augmentation: options that make no sense are refused") {
  const auto refused = [](auto change) {
    augment_options options;
    change(options);
    random_stream random;
    CHECK_THROWS_AS(static_cast<void>(draw_augmentation(options, 10, rate, random)), config_error);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refused([](augment_options& o) { o.speed = -0.1; });
  refused([](augment_options& o) { o.speed = 0.9; });
  refused([&](augment_options& o) { o.speed = nan; });
  refused([](augment_options& o) { o.filter = -1; });
  refused([&](augment_options& o) { o.filter = nan; });
  refused([](augment_options& o) { o.gain_db = {3, -3}; });
  refused([&](augment_options& o) { o.gain_db = {nan, nan}; });
  refused([](augment_options& o) { o.snr_db = {0, 1000}; });
  refused([](augment_options& o) { o.noise_share = 1.5; });
  refused([&](augment_options& o) { o.low_noise_share = nan; });
  refused([](augment_options& o) { o.silence_before_ms = {-1, 1}; });
  refused([](augment_options& o) { o.silence_after_ms = {0, 1e9}; });
  refused([](augment_options& o) { o.time_masks = -1; });
  refused([](augment_options& o) { o.longest_mask_ms = -1; });
}
