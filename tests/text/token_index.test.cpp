// SPDX-License-Identifier: Apache-2.0
#include <runnel/text/token_index.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

using runnel::text::token_index;

TEST_CASE("an index without tokens finds none") {
  const std::vector<std::string> tokens;
  CHECK(token_index().find("a", tokens) == -1);
  CHECK(token_index(0).find("", tokens) == -1);
}

TEST_CASE("tokens are found by their text and nothing else is, at every size") {
  std::mt19937 random(3);
  for (std::size_t size = 1; size < 300; ++size) {
    std::vector<std::string> tokens;
    std::map<std::string, std::int32_t> known;
    token_index index(size);
    for (std::size_t id = 0; id < size; ++id) {
      // Few letters, so that some come twice: the first keeps its place.
      std::string text;
      for (auto left = random() % 6; left > 0; --left) text += static_cast<char>('a' + random() % 3);
      tokens.push_back(text);
      std::int32_t& place = index.place(text, tokens);
      CHECK(place == (known.contains(text) ? known[text] : -1));
      if (place < 0) known[text] = place = static_cast<std::int32_t>(id);
    }
    for (const auto& [text, id] : known) REQUIRE(index.find(text, tokens) == id);
    REQUIRE(index.find("other", tokens) == -1);
    REQUIRE(index.find(std::string_view("\0", 1), tokens) == -1);
  }
}
