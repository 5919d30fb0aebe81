// SPDX-License-Identifier: Apache-2.0
#include <runnel/position/position.hpp>

#include <doctest/doctest.h>

#include <sstream>

#include <runnel/core/rng.hpp>

namespace {

using namespace runnel;

using target_to_source = group_offset<target_group, source_group>;
using source_distance = distance<source_group>;

TEST_CASE("points and displacements obey the rules of an affine line") {
  random_stream random(1);
  const auto number = [&] { return static_cast<double>(random.below(1 << 21)) / 8; };  // sums stay exact
  for (int i = 0; i < 1000; ++i) {
    const source_position a(number()), b(number());
    const source_distance d(number()), e(number());
    CHECK((a - b) + (b - a) == source_distance());
    CHECK(a + (b - a) == b);
    CHECK((a + d) - d == a);
    CHECK((a + d) + e == a + (d + e));
    CHECK(d + a == a + d);
    CHECK((a + d) - a == d);
    CHECK((a + d) - (b + d) == a - b);
    CHECK(-d + d == source_distance());
    CHECK(2 * d == d + d);
    CHECK((a < b) == ((b - a).tokens() > 0));
    const target_position p(number()), q(number());
    const target_to_source phi(number());
    CHECK((p + phi).value() == p.value() + phi.tokens());
    CHECK(((p + phi) - (q + phi)).tokens() == (p - q).tokens());  // an offset keeps distances
  }
}

TEST_CASE("fractions and large whole numbers are exact") {
  CHECK((target_position(128) + target_to_source(0.5)).value() == 128.5);
  const double large = 9007199254740992;  // 2^53
  CHECK((source_position(large) - source_position(large - 1)).tokens() == 1);
}

TEST_CASE("they print their group") {
  std::ostringstream out;
  out << source_position(3) << ' ' << target_position(1.5) << ' ' << source_distance(2);
  CHECK(out.str() == "source:3 target:1.5 source+2");
}

}  // namespace
