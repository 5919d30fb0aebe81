// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/unicode/normalization.hpp>

namespace unicode = runnel::unicode;

TEST_CASE("forms known from the standard") {
  CHECK(unicode::nfc("") == "");
  CHECK(unicode::nfc("plain") == "plain");
  CHECK(unicode::nfc("e\u0301") == "\u00E9");
  CHECK(unicode::nfc("A\u030A") == "\u00C5");
  CHECK(unicode::nfc("\u212B") == "\u00C5");                // a singleton
  CHECK(unicode::nfc("\u0958") == "\u0915\u093C");          // excluded from composition
  CHECK(unicode::nfc("e\u0302\u0323") == "\u1EC7");         // reordered, then composed twice
  CHECK(unicode::nfc("q\u0307\u0323") == "q\u0323\u0307");  // only reordered
  CHECK(unicode::nfc("\u1112\u1161\u11AB") == "\uD55C");    // Hangul, three jamo
  CHECK(unicode::nfc("\uD558\u11AB") == "\uD55C");          // Hangul, a syllable and a tail
  CHECK(unicode::nfc("\uD55C\u11AB") == "\uD55C\u11AB");    // a second tail stays
  CHECK(unicode::nfc("\uD558\u11A7") == "\uD558\u11A7");    // just before the first tail
  CHECK(unicode::nfc("a\u0308\u0301") == "\u00E4\u0301");   // nothing has both marks: one composes, one stays
  CHECK(unicode::nfc("a\u0315\u0300\u05AE\u0300b") ==
        "\u00E0\u05AE\u0300\u0315"
        "b");
  CHECK(unicode::nfc("\U0001D15E") == "\U0001D157\U0001D165");
  CHECK(unicode::nfc("\u0301") == "\u0301");
  CHECK(unicode::nfc("\uFB01") == "\uFB01");  // compatibility forms stay
}

TEST_CASE("pairs from another implementation") {
  const auto path = std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "text" / "nfc.jsonl";
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.good());
  int changed = 0;
  int pairs = 0;
  for (std::string line; std::getline(in, line); ++pairs) {
    const auto pair = nlohmann::json::parse(line);
    const auto text = pair[0].get<std::string>();
    const auto form = pair[1].get<std::string>();
    CHECK_MESSAGE(unicode::nfc(text) == form, line);
    CHECK_MESSAGE(unicode::nfc(form) == form, line);
    changed += text != form ? 1 : 0;
  }
  CHECK(pairs == 800);
  CHECK(changed > 300);
}

TEST_CASE("bytes that are no text stay and nothing composes across them") {
  CHECK(unicode::nfc("e\xFF\u0301") == "e\xFF\u0301");
  CHECK(unicode::nfc("\xCC") == "\xCC");
  CHECK(unicode::nfc("e\u0301\xE2\x82") == "\u00E9\xE2\x82");
  CHECK(unicode::nfc("\xED\xA0\x80\xCC\x81") == "\xED\xA0\x80\xCC\x81");
}

TEST_CASE("many marks in a row") {
  std::string text = "e";
  for (int i = 0; i < 50000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const auto form = unicode::nfc(text);
  CHECK(form.starts_with("\u1EB9"));
  CHECK(unicode::nfc(form) == form);
}

TEST_CASE("marks are sorted by class as a stable sort does it, run by run") {
  std::mt19937 random(17);
  for (int round = 0; round < 2000; ++round) {
    std::vector<unicode::detail::ranked_code_point> points;
    for (auto left = random() % 40; left > 0; --left) {
      const auto rank = random() % 3 == 0 ? 0U : random() % 2 == 0 ? random() % 4 : random() % 256;
      points.push_back({static_cast<char32_t>(points.size()), static_cast<std::uint8_t>(rank)});
    }
    auto expected = points;
    const auto is_starter = [](const auto& point) { return point.rank == 0; };
    for (auto begin = expected.begin(); begin != expected.end();) {
      const auto end = std::find_if(begin, expected.end(), is_starter);
      std::stable_sort(begin, end, [](const auto& a, const auto& b) { return a.rank < b.rank; });
      begin = end == expected.end() ? end : end + 1;
    }
    unicode::detail::reorder(points);
    for (std::size_t i = 0; i < points.size(); ++i) REQUIRE(points[i].value == expected[i].value);
  }
}
