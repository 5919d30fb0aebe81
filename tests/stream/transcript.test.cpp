// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/transcript.hpp>

using namespace runnel::stream;
using strings = std::vector<std::string>;

TEST_CASE("white space in any script begins a word") {
  for (const char* space : {" ", "\n", "\t", " a", "\xC2\xA0x", "\xE3\x80\x80", "\xE2\x80\xAFy"}) {
    CHECK(starts_with_space(space));
  }
  for (const char* other : {"", "a", "a ", "\xC3\xA9", "\xEF\xBF\xBD", "\xE3"}) CHECK_FALSE(starts_with_space(other));
}

TEST_CASE("words are what white space separates, however tokens cut them") {
  transcript written;
  written.keep(1, "Gu", {1, false});
  written.keep(2, "ten", {1, false});
  CHECK(written.num_words() == 0);
  CHECK(written.has_content());
  written.complete({1, false});
  written.keep(3, " Tag.\nWie", {2, false});
  CHECK(written.num_words() == 2);
  CHECK(written.has_content());
  CHECK(written.unit_tokens() == 1);
  written.keep(4, "\n \n", {3, false});
  CHECK_FALSE(written.has_content());
  written.complete({3, true});
  CHECK(written.words() == strings{"Guten", "Tag.", "Wie"});
  CHECK(written.text() == "Guten Tag.\nWie\n \n");
  std::vector<runnel::index_t> delays;
  for (const auto& read : written.delays()) delays.push_back(read.delay());
  CHECK(delays == std::vector<runnel::index_t>{1, 2, 3});
}

TEST_CASE("a word that goes on after it was complete is one word") {
  transcript written;
  written.keep(1, "Donau", {2, false});
  written.complete({2, false});
  written.keep(2, "dampf", {3, false});
  written.complete({3, false});
  written.keep(3, " x", {4, false});
  written.complete({4, true});
  CHECK(written.words() == strings{"Donaudampf", "x"});
  REQUIRE(written.units().size() == 3);
  CHECK_FALSE(written.units()[0].continues);
  CHECK(written.units()[1].continues);
  CHECK(written.units()[1].word == 0);
  CHECK_FALSE(written.units()[2].continues);
  CHECK(written.delays()[0].delay() == 3);
  CHECK(written.delays()[1].delay() == 5);
}

TEST_CASE("an empty unit belongs to no word") {
  transcript written;
  written.keep(1, "\n\n", {1, false});
  written.cut({1, false});
  written.keep(2, "a", {1, false});
  written.cut({2, false});
  written.keep(3, "  ", {2, false});
  written.cut({3, false});
  written.keep(4, "b", {3, false});
  written.complete({4, false});
  CHECK(written.words() == strings{"a", "b"});
  CHECK(written.units().size() == 4);
  CHECK_FALSE(written.units()[3].continues);
  CHECK(written.delays()[0].delay() == 2);
}

TEST_CASE("each unit is announced once, and a mark restores everything") {
  transcript written;
  written.keep(1, "a b", {1, false});
  const auto mark = written.now();
  const auto* first = written.announce();
  REQUIRE(first != nullptr);
  CHECK(written.text_of(*first) == "a");
  CHECK(written.announce() == nullptr);
  written.keep(2, "c d", {2, false});
  written.complete({2, true});
  CHECK(written.words() == strings{"a", "bc", "d"});
  written.rewind(mark);
  CHECK(written.text() == "a b");
  CHECK(written.words() == strings{"a"});
  CHECK(written.tokens().size() == 1);
  CHECK(written.unit_tokens() == 1);
  CHECK(written.announce() != nullptr);
  written.complete({9, false});
  CHECK(written.words() == strings{"a", "b"});
}
