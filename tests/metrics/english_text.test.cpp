// SPDX-License-Identifier: Apache-2.0
// English is normalised as Whisper's published code does it.

#include <runnel/metrics/english_text.hpp>

#include <string>
#include <vector>

#include "golden.hpp"

namespace {

using namespace runnel::metrics;
using runnel_test::golden;

TEST_CASE("normal forms are those of the published normaliser") {
  const english_normalizer normalize;
  int compared = 0;
  for (const auto& one : golden("normalised.json")) {
    if (one[1].is_null()) continue;  // the published code fails on it
    const auto text = one[0].get<std::string>();
    CAPTURE(text);
    CHECK(normalize(text) == one[1].get<std::string>());
    ++compared;
  }
  CHECK(compared > 600);
}

TEST_CASE("numbers of any length, fractions that do not multiply, what is no number") {
  const english_normalizer normalize;
  CHECK(normalize("nine decillion nine hundred ninety nine") == "9000000000000000000000000000000999");
  CHECK(normalize("2.5 hundred") == "250");
  CHECK(normalize("2.555 hundred") == "2.555 100");
  CHECK(normalize(std::string(400, '9')) == std::string(400, '9'));
  CHECK(normalize("one point") == "one point");
  CHECK(normalize("") == "");
  CHECK(normalize(" \t\n") == "");
}

TEST_CASE("spelling: every word has a form of its own, and American words stay") {
  const american_spelling spelling;
  CHECK(spelling.size() > 1700);
  CHECK(spelling("colour") == "color");
  CHECK(spelling("battleax") == "battleaxe");
  CHECK(spelling("archaeology") == "archeology");
  CHECK(spelling("travelled") == "traveled");
  CHECK(spelling("color") == "color");
  CHECK(spelling("hour") == "hour");
  CHECK(spelling("") == "");
}

TEST_CASE("bytes that are no text, and long runs of brackets, end in linear time") {
  const english_normalizer normalize;
  CHECK(normalize("a\xFF\xC3 b") == "a b");
  const std::string opened(200'000, '('), angled(200'000, '<'), spaces(200'000, ' ');
  CHECK(normalize(opened) == "");
  CHECK(normalize(angled) == "");
  CHECK(normalize("a" + spaces + "b") == "a b");
  CHECK(normalize("5" + spaces + "x") == "5 x");
}

}  // namespace
