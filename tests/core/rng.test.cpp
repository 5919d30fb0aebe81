// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/core/rng.hpp>

using namespace runnel;

TEST_CASE("splitmix64 gives the published sequence") {
  splitmix64 random(1234567);
  CHECK(random() == 6457827717110365317u);
  CHECK(random() == 3203168211198807973u);
  CHECK(random() == 9817491932198370423u);
}

TEST_CASE("derived seeds stay what they were, and differ with every part and its place") {
  CHECK(derive_seed(1, 2, 3) == 15020427595393229491u);
  CHECK(derive_seed(1, 2, -1, 3) == 1926782692964428029u);
  CHECK(derive_seed(1234567) == 6457827717110365317u);
  CHECK(derive_seed(1, 2, 3) != derive_seed(1, 3, 2));
  CHECK(derive_seed(1, 2, 3) != derive_seed(2, 2, 3));
  CHECK(derive_seed(1, 2) != derive_seed(1, 2, 0));
}

TEST_CASE("a random stream is a value") {
  random_stream random(7);
  for (int i = 0; i < 5; ++i) static_cast<void>(random());
  random_stream copy = random;
  CHECK(copy == random);
  const auto first = random();
  CHECK_FALSE(copy == random);
  CHECK(copy() == first);
  CHECK(copy == random);
  CHECK_FALSE(random_stream(7) == random_stream(8));
}

TEST_CASE("uniform numbers are in [0, 1) and spread evenly") {
  random_stream random(3);
  std::array<int, 10> bins{};
  for (int i = 0; i < 100000; ++i) {
    const double u = random.uniform();
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    ++bins[static_cast<std::size_t>(u * 10)];
  }
  for (const int count : bins) CHECK(std::abs(count - 10000) < 600);
  for (int i = 0; i < 1000; ++i) {
    const auto k = random.below(3);
    REQUIRE((k >= 0 && k < 3));
  }
}

TEST_CASE("a random stream serves the standard library") {
  static_assert(std::uniform_random_bit_generator<random_stream>);
  std::vector<int> values{1, 2, 3, 4, 5};
  random_stream random(1);
  std::shuffle(values.begin(), values.end(), random);
  CHECK(std::is_permutation(values.begin(), values.end(), std::vector<int>{1, 2, 3, 4, 5}.begin()));
}
