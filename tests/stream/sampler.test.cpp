// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/sampler.hpp>

using namespace runnel;
using namespace runnel::stream;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

std::vector<int> histogram(const sampler_options& options, const std::vector<float>& logits, int draws) {
  sampler choose(options);
  random_stream random(options.seed);
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(choose.choose(logits, random))];
  return counts;
}

TEST_CASE("the largest of many logits is found among numbers that are none, at any place and length") {
  random_stream random(5);
  for (int turn = 0; turn < 2000; ++turn) {
    std::vector<float> logits(static_cast<std::size_t>(1 + random.below(300)));
    for (float& one : logits) {
      const auto kind = random.below(8);
      one = kind == 0   ? std::numeric_limits<float>::quiet_NaN()
            : kind == 1 ? -std::numeric_limits<float>::infinity()
                        : static_cast<float>(random.below(20)) - 10.0f;
    }
    std::int32_t best = -1;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const bool better = best < 0 || logits[i] > logits[static_cast<std::size_t>(best)];
      if (logits[i] > -std::numeric_limits<float>::infinity() && better) best = static_cast<std::int32_t>(i);
    }
    stream::sampler greedy;
    if (best >= 0) {
      CHECK(greedy.choose(logits, random) == best);
    } else {
      CHECK_THROWS_AS(static_cast<void>(greedy.choose(logits, random)), error);
    }
  }
}

}  // namespace

TEST_CASE("greedy takes the largest logit, ties to the lowest id, and uses no random number") {
  sampler choose;
  random_stream random(1);
  const random_stream before = random;
  CHECK(choose.choose(std::vector<float>{1, 3, 2}, random) == 1);
  CHECK(choose.choose(std::vector<float>{2, 5, 5, 5}, random) == 1);
  CHECK(choose.choose(std::vector<float>{-infinity, -4, nan_value, -3}, random) == 3);
  CHECK(choose.choose(std::vector<float>{nan_value, nan_value, -7}, random) == 2);
  CHECK(random == before);
}

TEST_CASE("logits without a number are an error") {
  for (const double temperature : {0.0, 1.0}) {
    sampler choose({.temperature = temperature});
    random_stream random(1);
    CHECK_THROWS_AS(static_cast<void>(choose.choose(std::vector<float>{nan_value, -infinity}, random)), error);
    CHECK_THROWS_AS(static_cast<void>(choose.choose(std::vector<float>{}, random)), error);
    CHECK_THROWS_AS(static_cast<void>(choose.choose(std::vector<float>{1, infinity}, random)), error);
  }
}

TEST_CASE("one random number a draw above temperature 0") {
  sampler choose({.temperature = 0.7, .top_k = 2, .top_p = 0.9});
  random_stream random(5), twin(5);
  static_cast<void>(choose.choose(std::vector<float>{1, 2, 3, 4}, random));
  static_cast<void>(twin());
  CHECK(random == twin);
}

TEST_CASE("temperature 1 draws from the softmax") {
  const std::vector<float> logits{0, std::log(2.0f), std::log(5.0f), -infinity, nan_value};
  const auto counts = histogram({.temperature = 1, .seed = 3}, logits, 80000);
  CHECK(std::abs(counts[0] - 10000) < 600);
  CHECK(std::abs(counts[1] - 20000) < 700);
  CHECK(std::abs(counts[2] - 50000) < 900);
  CHECK(counts[3] == 0);
  CHECK(counts[4] == 0);
}

TEST_CASE("a low temperature sharpens, a high one flattens") {
  const std::vector<float> logits{0, 1};
  CHECK(histogram({.temperature = 0.1, .seed = 1}, logits, 10000)[0] < 20);
  CHECK(std::abs(histogram({.temperature = 1000, .seed = 1}, logits, 10000)[0] - 5000) < 300);
}

TEST_CASE("top_k keeps the k most likely, ties to the lowest ids") {
  const std::vector<float> logits{1, 4, 2, 4, 3, 4};
  const auto counts = histogram({.temperature = 5, .top_k = 2, .seed = 2}, logits, 4000);
  CHECK(counts[1] > 1000);
  CHECK(counts[3] > 1000);
  CHECK(counts[1] + counts[3] == 4000);
  CHECK(histogram({.temperature = 5, .top_k = 1, .seed = 2}, logits, 100)[1] == 100);
  const auto all = histogram({.temperature = 1000, .top_k = 100, .seed = 2}, logits, 6000);
  for (const int count : all) CHECK(count > 700);
}

TEST_CASE("top_p keeps the fewest that add up to p") {
  const std::vector<float> logits{std::log(0.1f), std::log(0.6f), std::log(0.3f)};
  const auto narrow = histogram({.temperature = 1, .top_p = 0.5, .seed = 4}, logits, 1000);
  CHECK(narrow[1] == 1000);
  const auto wider = histogram({.temperature = 1, .top_p = 0.7, .seed = 4}, logits, 9000);
  CHECK(wider[0] == 0);
  CHECK(std::abs(wider[1] - 6000) < 300);
  CHECK(histogram({.temperature = 1, .top_p = 0.95, .seed = 4}, logits, 5000)[0] > 300);
  CHECK(histogram({.temperature = 1, .top_p = 1e-9, .seed = 4}, logits, 100)[1] == 100);
}

TEST_CASE("equal seeds give equal draws") {
  const std::vector<float> logits{0.5f, 0.1f, 0.9f, 0.3f, 0.2f};
  for (const double top_p : {1.0, 0.8}) {
    sampler a({.temperature = 1.5, .top_k = 4, .top_p = top_p}), b({.temperature = 1.5, .top_k = 4, .top_p = top_p});
    random_stream one(9), two(9);
    for (int i = 0; i < 200; ++i) REQUIRE(a.choose(logits, one) == b.choose(logits, two));
  }
}

TEST_CASE("options out of range are refused") {
  CHECK_THROWS_AS(sampler({.temperature = -1}), config_error);
  CHECK_THROWS_AS(sampler({.temperature = std::numeric_limits<double>::infinity()}), config_error);
  CHECK_THROWS_AS(sampler({.temperature = std::numeric_limits<double>::quiet_NaN()}), config_error);
  CHECK_THROWS_AS(sampler({.top_k = -1}), config_error);
  CHECK_THROWS_AS(sampler({.top_p = 0}), config_error);
  CHECK_THROWS_AS(sampler({.top_p = 1.01}), config_error);
}
