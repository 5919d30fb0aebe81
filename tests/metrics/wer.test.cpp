// SPDX-License-Identifier: Apache-2.0
// Word and character error rates are what jiwer says, and its substitutions, insertions and deletions.

#include <runnel/metrics/wer.hpp>

#include <array>
#include <string>
#include <vector>

#include <runnel/core/rng.hpp>

#include "golden.hpp"

namespace {

using namespace runnel;
using namespace runnel::metrics;
using runnel_test::golden;
using runnel_test::nearly;

void check_counts(const edit_counts& found, const nlohmann::json& expected) {
  CHECK(found.substitutions == expected[0]);
  CHECK(found.insertions == expected[1]);
  CHECK(found.deletions == expected[2]);
  CHECK(found.reference_length == expected[0].get<int>() + expected[2].get<int>() + expected[3].get<int>());
}

TEST_CASE("error rates equal jiwer's, sentence by sentence and over all") {
  const auto file = golden("error_rates.json");
  edit_counts words, characters;
  for (const auto& pair : file["pairs"]) {
    const auto hypothesis = pair["hypothesis"].get<std::string>(), reference = pair["reference"].get<std::string>();
    CAPTURE(hypothesis);
    CAPTURE(reference);
    const auto of_words = word_edits(hypothesis, reference);
    check_counts(of_words, pair["words"]);
    CHECK(of_words.rate() == nearly(pair["wer"]));
    const auto of_characters = character_edits(hypothesis, reference);
    check_counts(of_characters, pair["characters"]);
    CHECK(of_characters.rate() == nearly(pair["cer"]));
    words += of_words;
    characters += of_characters;
  }
  CHECK(words.rate() == nearly(file["wer"]));
  CHECK(characters.rate() == nearly(file["cer"]));
}

TEST_CASE("an empty reference: every word is an error") {
  CHECK(word_edits("", " \t").rate() == 0.0);
  const auto found = word_edits("two words", "");
  CHECK(found.insertions == 2);
  CHECK(found.edits() == 2);
  CHECK(found.rate() == 2.0);
  CHECK(word_edits("", "two words").rate() == 1.0);
  CHECK(word_edits("a b c d", "x").rate() == 4.0);  // more errors than words
}

TEST_CASE("swapping the texts swaps insertions and deletions in number of edits") {
  random_stream random(3);
  for (int i = 0; i < 200; ++i) {
    std::array<std::string, 2> texts;
    for (auto& text : texts) {
      for (std::int64_t n = random.below(15); n > 0; --n) text += static_cast<char>('a' + random.below(3));
    }
    const auto there = character_edits(texts[0], texts[1]), back = character_edits(texts[1], texts[0]);
    CHECK(there.edits() == back.edits());
    CHECK(there.insertions - there.deletions == back.deletions - back.insertions);
    CHECK(there.insertions - there.deletions == static_cast<std::int64_t>(texts[0].size()) - there.reference_length);
    CHECK(character_edits(texts[0], texts[0]).edits() == 0);
  }
}

TEST_CASE("what cannot be compared is refused before memory is asked for; equal texts of any length can") {
  const std::vector<std::string_view> long_one(20'000, "a"), other(20'000, "b");
  CHECK_THROWS_AS((void)count_edits(long_one, other), limit_error);
  CHECK(count_edits(long_one, long_one).edits() == 0);
}

}  // namespace
