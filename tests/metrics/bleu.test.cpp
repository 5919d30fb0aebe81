// SPDX-License-Identifier: Apache-2.0
// BLEU is what sacreBLEU says, to the last digits, on sentences and on what breaks tokenizers.

#include <runnel/metrics/bleu.hpp>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "golden.hpp"

namespace {

using namespace runnel;
using namespace runnel::metrics;
using runnel_test::golden;
using runnel_test::nearly;
using runnel_test::strings_of;

/// sacreBLEU's signature with our version in the place of its.
std::string with_our_version(std::string signature) {
  return signature.substr(0, signature.rfind("|version:")) + "|version:runnel-" + std::to_string(RUNNEL_VERSION_MAJOR) +
         '.' + std::to_string(RUNNEL_VERSION_MINOR) + '.' + std::to_string(RUNNEL_VERSION_PATCH);
}

std::vector<bleu_statistics> statistics_of(const nlohmann::json& corpus, const bleu& metric) {
  const auto hypotheses = strings_of(corpus["hypotheses"]), references = strings_of(corpus["references"]);
  std::vector<bleu_statistics> all;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    all.push_back(metric.statistics(hypotheses[i], std::string_view(references[i])));
  }
  return all;
}

TEST_CASE("tokenizer 13a cuts as sacreBLEU's") {
  const auto cases = golden("tokenized.json");
  REQUIRE(cases.size() > 400);
  for (const auto& one : cases) {
    const auto text = one[0].get<std::string>();
    CAPTURE(text);
    CHECK(tokenize_13a(text) == one[1].get<std::string>());
  }
}

TEST_CASE("corpus BLEU equals sacreBLEU's, with its parts and its signature") {
  const auto corpora = golden("corpora.json");
  REQUIRE(corpora.size() > 40);
  double sum = 0;
  for (const auto& corpus : corpora) {
    const auto name = corpus["name"].get<std::string>();
    CAPTURE(name);
    for (const auto tokenizer : {bleu_tokenizer::mteval_13a, bleu_tokenizer::none}) {
      for (const bool lowercase : {false, true}) {
        const bleu metric(tokenizer, lowercase);
        const auto& expected = corpus["bleu"][std::string(name_of(tokenizer)) + (lowercase ? " lc" : " mixed")];
        const auto found = corpus_bleu(strings_of(corpus["hypotheses"]), strings_of(corpus["references"]), metric);
        CHECK(found.score == nearly(expected["score"]));
        CHECK(found.brevity_penalty == nearly(expected["bp"]));
        CHECK(found.statistics.hypothesis_length == expected["sys_len"]);
        CHECK(found.statistics.reference_length == expected["ref_len"]);
        for (std::size_t n = 0; n < bleu_order; ++n) {
          CHECK(found.precisions[n] == nearly(expected["precisions"][n]));
          CHECK(found.statistics.matches[n] == expected["counts"][n]);
          CHECK(found.statistics.totals[n] == expected["totals"][n]);
        }
        CHECK(metric.signature() == with_our_version(expected["signature"]));
        sum += found.score;
      }
    }
  }
  CHECK(sum > 100);  // not all of them are nothing
}

TEST_CASE("several references: most occurrences, closest length") {
  const auto file = golden("several_references.json");
  const auto hypotheses = strings_of(file["hypotheses"]);
  bleu_statistics sum;
  const bleu metric;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    std::vector<std::string> texts;
    for (const auto& references : file["references"]) texts.push_back(references[i]);
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    sum += metric.statistics(hypotheses[i], views);
  }
  CHECK(score_bleu(sum).score == nearly(file["bleu"]));
  CHECK(metric.signature(3).starts_with(file["signature"].get<std::string>()));
  CHECK_THROWS_AS((void)metric.statistics("a", std::span<const std::string_view>()), config_error);
}

TEST_CASE("a tie between two references' lengths goes to the shorter, whatever their order") {
  const bleu metric;
  const std::array<std::string_view, 2> up{"a b", "a b c d"}, down{"a b c d", "a b"};
  CHECK(metric.statistics("a b c", up).reference_length == 2);
  CHECK(metric.statistics("a b c", down).reference_length == 2);
}

TEST_CASE("the interval of scores is the one sacreBLEU takes") {
  for (const auto& one : golden("confidence.json")) {
    const auto found = estimate_confidence(one[0].get<std::vector<double>>());
    CHECK(found.mean == nearly(one[1]));
    CHECK(found.half_width == nearly(one[2]));
  }
  CHECK_THROWS_AS((void)estimate_confidence({}), config_error);
}

TEST_CASE("bootstrap: near sacreBLEU's with other draws, the same again, others with another seed") {
  int compared = 0;
  for (const auto& corpus : golden("corpora.json")) {
    if (!corpus.contains("confidence")) continue;
    const auto all = statistics_of(corpus, bleu());
    const auto score = [](const bleu_statistics& sum) { return score_bleu(sum).score; };
    const auto found = bootstrap(std::span<const bleu_statistics>(all), score);
    const double mean = corpus["confidence"]["mean"], half_width = corpus["confidence"]["half_width"];
    CAPTURE(mean);
    CAPTURE(half_width);
    CHECK(found.mean == doctest::Approx(mean).epsilon(0.02));
    CHECK(std::abs(found.mean - mean) < 0.2 * half_width);
    CHECK(std::abs(found.half_width - half_width) < 0.2 * half_width);
    const auto again = bootstrap(std::span<const bleu_statistics>(all), score);
    CHECK(again.mean == found.mean);
    CHECK(again.half_width == found.half_width);
    CHECK(bootstrap(std::span<const bleu_statistics>(all), score, {1000, 1}).mean != found.mean);
    const bootstrap_options drawn;
    CHECK(bleu().signature(1, &drawn) == with_our_version(corpus["confidence"]["signature"]));
    ++compared;
  }
  CHECK(compared == 4);
}

TEST_CASE("bootstrap: one sentence has no spread, none is refused, so are no resamples") {
  const std::vector<bleu_statistics> one{bleu().statistics("a b c d e", "a b c d f")};
  const auto score = [](const bleu_statistics& sum) { return score_bleu(sum).score; };
  const auto found = bootstrap(std::span(one), score);
  CHECK(found.mean == nearly(score_bleu(one[0]).score));
  CHECK(found.half_width == 0);
  CHECK_THROWS_AS((void)bootstrap(std::span<const bleu_statistics>(), score), config_error);
  CHECK_THROWS_AS((void)bootstrap(std::span(one), score, {0, 1}), config_error);
}

TEST_CASE("texts that do not pair up are refused; bytes that are no UTF-8 are characters") {
  const std::vector<std::string> two{"a", "b"}, one{"a"};
  CHECK_THROWS_AS((void)corpus_bleu(two, one), shape_error);
  CHECK(corpus_bleu(std::span<const std::string>(), std::span<const std::string>()).score == 0);
  const bleu metric(bleu_tokenizer::mteval_13a, true);
  const auto found = metric.statistics("\xFF\xC3 \xE2\x82 A", std::string_view("\xFF\xC3 \xE2\x82 a"));
  CHECK(found.matches[0] == 3);
  CHECK(found.totals[0] == 3);
}

TEST_CASE("a long line of one mark is cut in linear time") {
  const std::string dots(1'000'000, '.');
  const auto found = bleu().statistics(dots, std::string_view(dots));
  CHECK(found.matches == found.totals);
  CHECK(found.totals[0] == 1'000'000);
}

}  // namespace
