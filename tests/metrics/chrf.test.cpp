// SPDX-License-Identifier: Apache-2.0
// chrF2 and chrF2++ are what sacreBLEU says.

#include <runnel/metrics/chrf.hpp>

#include <string>
#include <vector>

#include "golden.hpp"

namespace {

using namespace runnel;
using namespace runnel::metrics;
using runnel_test::golden;
using runnel_test::nearly;
using runnel_test::strings_of;

TEST_CASE("corpus chrF2 and chrF2++ equal sacreBLEU's, with its names and signatures") {
  double sum = 0;
  for (const auto& corpus : golden("corpora.json")) {
    const auto name = corpus["name"].get<std::string>();
    CAPTURE(name);
    for (const bool words : {false, true}) {
      for (const bool lowercase : {false, true}) {
        const chrf metric(words ? chrf::words::yes : chrf::words::no, lowercase);
        const auto& expected = corpus["chrf"][std::string(words ? "2" : "0") + (lowercase ? " lc" : " mixed")];
        const double found = corpus_chrf(strings_of(corpus["hypotheses"]), strings_of(corpus["references"]), metric);
        CHECK(found == nearly(expected["score"]));
        CHECK(metric.name() == expected["name"].get<std::string>());
        const auto signature = expected["signature"].get<std::string>();
        CHECK(metric.signature().starts_with(signature.substr(0, signature.rfind(':'))));
        sum += found;
      }
    }
  }
  CHECK(sum > 100);
}

TEST_CASE("several references: the best of them for each sentence") {
  const auto file = golden("several_references.json");
  const auto hypotheses = strings_of(file["hypotheses"]);
  const chrf plain, with_words(chrf::words::yes);
  chrf_statistics sum, words;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    std::vector<std::string> texts;
    for (const auto& references : file["references"]) texts.push_back(references[i]);
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    sum += plain.statistics(hypotheses[i], views);
    words += with_words.statistics(hypotheses[i], views);
  }
  CHECK(score_chrf(sum) == nearly(file["chrf"]));
  CHECK(score_chrf(words) == nearly(file["chrf++"]));
  CHECK_THROWS_AS((void)plain.statistics("a", std::span<const std::string_view>()), config_error);
}

TEST_CASE("chrF of bytes that are no UTF-8, of texts that do not pair up") {
  const chrf metric(chrf::words::yes, true);
  CHECK(score_chrf(metric.statistics("\xFF \xC3 x", std::string_view("\xFF \xC3 x"))) == nearly(100));
  const std::vector<std::string> two{"a", "b"}, one{"a"};
  CHECK_THROWS_AS((void)corpus_chrf(two, one), shape_error);
}

}  // namespace
