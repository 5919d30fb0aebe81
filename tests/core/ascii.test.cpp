// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <doctest/doctest.h>

#include <runnel/core/ascii.hpp>

using namespace runnel;

TEST_CASE("ASCII capitals become small, every other byte stays") {
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    CHECK(ascii_lower(c) == (i >= 'A' && i <= 'Z' ? static_cast<char>(i + 32) : c));
  }
  CHECK(ascii_lower("Q4_K @[`{ \xC3\x84") == "q4_k @[`{ \xC3\x84");
  CHECK(ascii_lower("").empty());
  static_assert(ascii_lower('Z') == 'z');
}
