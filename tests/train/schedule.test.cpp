// SPDX-License-Identifier: Apache-2.0
#include <runnel/train/schedule.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace {

using namespace runnel;
using train::decay;
using train::schedule;

TEST_CASE("the rate warms up in a straight line and is never zero at first") {
  for (const decay kind : {decay::constant, decay::linear, decay::cosine}) {
    const schedule rate{kind, 0.5, 4, 20, 0.1};
    CHECK(rate.at(0) == doctest::Approx(0.5 * 1 / 5));
    CHECK(rate.at(1) == doctest::Approx(0.5 * 2 / 5));
    CHECK(rate.at(3) == doctest::Approx(0.5 * 4 / 5));
    CHECK(rate.at(4) == 0.5);
  }
}

TEST_CASE("the rate falls to its final ratio and stays there") {
  const schedule linear{decay::linear, 2, 0, 10, 0.2}, cosine{decay::cosine, 2, 0, 10, 0.2};
  CHECK(linear.at(0) == 2);
  CHECK(cosine.at(0) == 2);
  CHECK(linear.at(5) == doctest::Approx(2 * (0.2 + 0.8 * 0.5)));
  CHECK(cosine.at(5) == doctest::Approx(2 * (0.2 + 0.8 * 0.5)));
  CHECK(linear.at(2) == doctest::Approx(2 * (0.2 + 0.8 * 0.8)));
  CHECK(cosine.at(2) == doctest::Approx(2 * (0.2 + 0.8 * 0.9045084971874737)));
  CHECK(cosine.at(8) == doctest::Approx(2 * (0.2 + 0.8 * 0.09549150281252627)));
  for (const index_t step : {index_t{10}, index_t{11}, index_t{1} << 40}) {
    CHECK(linear.at(step) == doctest::Approx(0.4));
    CHECK(cosine.at(step) == doctest::Approx(0.4));
  }
  CHECK(schedule{decay::constant, 2, 0, 10, 0.2}.at(1000) == 2);
  for (index_t step = 1; step < 10; ++step) {
    CHECK(linear.at(step) < linear.at(step - 1));
    CHECK(cosine.at(step) < cosine.at(step - 1));
  }
}

TEST_CASE("schedules that make no sense are refused") {
  CHECK_NOTHROW((schedule{decay::cosine, 1, 3, 4, 1}.check()));
  CHECK_NOTHROW((schedule{decay::constant, 1, 30, 4, 1}.check()));
  CHECK_THROWS_AS((schedule{decay::cosine, -1, 0, 4, 0}.check()), config_error);
  CHECK_THROWS_AS((schedule{decay::cosine, std::numeric_limits<double>::infinity(), 0, 4, 0}.check()), config_error);
  CHECK_THROWS_AS((schedule{decay::cosine, 1, -1, 4, 0}.check()), config_error);
  CHECK_THROWS_AS((schedule{decay::linear, 1, 4, 4, 0}.check()), config_error);
  CHECK_THROWS_AS((schedule{decay::linear, 1, 0, 4, 1.5}.check()), config_error);
  CHECK_THROWS_AS((schedule{decay::linear, 1, 0, 4, std::nan("")}.check()), config_error);
}

}  // namespace
