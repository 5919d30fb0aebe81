// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/config.hpp>
#include <runnel/core/error.hpp>
#include <runnel/core/rng.hpp>

namespace runnel::metrics {

/// How a corpus is drawn again.
struct bootstrap_options {
  std::int64_t resamples = 1000;  ///< at least 1
  std::uint64_t seed = 12345;     ///< sacreBLEU's default; the draws are not its draws
};

namespace detail {

/// What makes a score reproducible, in sacreBLEU's order and words, with this library's version at its end; `drawn` may
/// be null, `rest` is the metric's own.
[[nodiscard]] inline std::string signature(std::int64_t num_references, const bootstrap_options* drawn, bool lowercase,
                                           std::string_view rest) {
  std::string text = message("nrefs:", num_references);
  if (drawn != nullptr) text += message("|bs:", drawn->resamples, "|seed:", drawn->seed);
  return text + message("|case:", lowercase ? "lc" : "mixed", "|eff:", rest, "|version:runnel-", RUNNEL_VERSION_MAJOR,
                        '.', RUNNEL_VERSION_MINOR, '.', RUNNEL_VERSION_PATCH);
}

}  // namespace detail

/// Mean of the resampled scores, and half of the interval that holds 95 % of them.
struct confidence {
  double mean = 0;
  double half_width = 0;
};

/// Mean and half width of resampled scores as sacreBLEU takes them: from the score at place n / 40 of the sorted ones
/// to the one as far from the end. Throws config_error if there are none.
[[nodiscard]] inline confidence estimate_confidence(std::vector<double> scores) {
  expect<config_error>(!scores.empty(), "confidence: expected at least one score, found none");
  std::sort(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += score;
  const std::size_t low = scores.size() / 40;
  const std::size_t high = scores.size() - low - 1;
  return {sum / static_cast<double>(scores.size()), 0.5 * (scores[high] - scores[low])};
}

/// Confidence in a corpus score by bootstrap resampling (Koehn, 2004): draws as many sentences as there are, with
/// replacement, adds up their statistics (`Statistics` has `+=`) and scores the sum, `resamples` times. Draws come
/// from `random_stream`, so they are the same on every machine, and others than numpy's with this seed. Throws
/// config_error if there are no sentences or resamples. Costs sentences times resamples additions.
template <class Statistics, class Score>
[[nodiscard]] confidence bootstrap(std::span<const Statistics> sentences, Score&& score,
                                   const bootstrap_options& how = {}) {
  expect<config_error>(!sentences.empty(), "bootstrap: expected at least one sentence, found none");
  expect<config_error>(how.resamples > 0, "bootstrap: expected at least one resample, found ", how.resamples);
  random_stream draw(how.seed);
  const auto count = static_cast<std::int64_t>(sentences.size());
  std::vector<double> scores;
  scores.reserve(static_cast<std::size_t>(how.resamples));
  for (std::int64_t i = 0; i < how.resamples; ++i) {
    Statistics sum{};
    for (std::int64_t j = 0; j < count; ++j) sum += sentences[static_cast<std::size_t>(draw.below(count))];
    scores.push_back(static_cast<double>(score(sum)));
  }
  return estimate_confidence(std::move(scores));
}

}  // namespace runnel::metrics
