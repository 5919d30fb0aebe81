// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include <runnel/core/digest.hpp>

using namespace runnel;

TEST_CASE("digests see every byte, the length and the order") {
  const std::string text(100, 'a');
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string other = text;
    other[i] = 'b';
    CHECK(digest(other, 1) != digest(text, 1));
    CHECK(digest(text.substr(0, i), 1) != digest(text, 1));
  }
  CHECK(digest(std::string(8, '\0'), 0) != digest(std::string(9, '\0'), 0));
  CHECK(digest("ab", digest("c", 0)) != digest("bc", digest("a", 0)));
  CHECK(digest("", 0) != digest("", 1));
}

TEST_CASE("digests stay what they were: checkpoints hold them") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('a' + i % 26);
  for (const auto& [size, expected] : {std::pair<std::size_t, std::uint64_t>{0, 18302623408770073939U},
                                       {1, 14293477320621038652U},
                                       {7, 11501214292644912941U},
                                       {8, 1074866893938951683U},
                                       {9, 569579493375175809U},
                                       {31, 18304809315006299751U},
                                       {32, 18157708535436784920U},
                                       {33, 2167507475628847544U},
                                       {100, 4331343536184785697U}}) {
    CHECK(digest(std::string_view(text).substr(0, size), 5) == expected);
  }
}
