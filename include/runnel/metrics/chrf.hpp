// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/metrics/bootstrap.hpp>
#include <runnel/metrics/ngrams.hpp>
#include <runnel/metrics/words.hpp>
#include <runnel/unicode/lower_case.hpp>

namespace runnel::metrics {

/// Longest character n-gram that chrF counts.
inline constexpr std::size_t chrf_character_order = 6;
/// Longest word n-gram that chrF++ counts.
inline constexpr std::size_t chrf_word_order = 2;

/// n-grams of one order.
struct chrf_counts {
  std::int64_t hypothesis = 0;  ///< of the hypothesis; none where the reference has none
  std::int64_t reference = 0;
  std::int64_t matches = 0;
};

/// What chrF needs to know of a sentence, or, added up, of a corpus: characters of 1 to 6, then words of 1 and 2.
struct chrf_statistics {
  std::array<chrf_counts, chrf_character_order + chrf_word_order> orders = {};

  chrf_statistics& operator+=(const chrf_statistics& more) noexcept {
    for (std::size_t n = 0; n < orders.size(); ++n) {
      orders[n].hypothesis += more.orders[n].hypothesis;
      orders[n].reference += more.orders[n].reference;
      orders[n].matches += more.orders[n].matches;
    }
    return *this;
  }
};

/// The score of added statistics, from 0 to 100: precisions and recalls are averaged over the orders that both texts
/// have, and recall counts beta = 2 times as much (Popovic, 2015; orders as sacreBLEU counts them by default).
[[nodiscard]] inline double score_chrf(const chrf_statistics& of) {
  double precision = 0;
  double recall = 0;
  int effective = 0;
  for (const auto& order : of.orders) {
    if (order.hypothesis == 0 || order.reference == 0) continue;
    precision += static_cast<double>(order.matches) / static_cast<double>(order.hypothesis);
    recall += static_cast<double>(order.matches) / static_cast<double>(order.reference);
    ++effective;
  }
  if (effective == 0) return 0;
  precision /= effective;
  recall /= effective;
  if (precision + recall == 0) return 0;
  constexpr double factor = 4;  // beta squared
  return 100 * ((1 + factor) * precision * recall / (factor * precision + recall));
}

/// chrF2 and, with word n-grams, chrF2++ (Popovic, 2015 and 2017), equal to what sacreBLEU gives with its defaults.
/// White space is no character. A value; const functions may be called from any thread.
class chrf {
 public:
  enum class words : bool { no, yes };

  explicit chrf(words with_words = words::no, bool lowercase = false)
      : with_words_(with_words == words::yes), lowercase_(lowercase) {}

  /// Statistics of one sentence, with the reference that scores best. Throws config_error without a reference.
  [[nodiscard]] chrf_statistics statistics(std::string_view hypothesis,
                                           std::span<const std::string_view> references) const {
    expect<config_error>(!references.empty(), "chrf: expected at least one reference, found none");
    const parts ours(*this, hypothesis);
    chrf_statistics best;
    double best_score = -1;
    for (const auto reference : references) {
      const auto found = compare(ours, parts(*this, reference));
      const double score = score_chrf(found);
      if (score > best_score) {
        best_score = score;
        best = found;
      }
    }
    return best;
  }

  /// Statistics of one sentence with one reference.
  [[nodiscard]] chrf_statistics statistics(std::string_view hypothesis, std::string_view reference) const {
    return statistics(hypothesis, std::span(&reference, 1));
  }

  /// "chrF2" or "chrF2++".
  [[nodiscard]] std::string_view name() const noexcept { return with_words_ ? "chrF2++" : "chrF2"; }

  /// What makes a score reproducible, in sacreBLEU's order and words, with this library's version at its end.
  [[nodiscard]] std::string signature(std::int64_t num_references = 1, const bootstrap_options* drawn = nullptr) const {
    return detail::signature(
        num_references, drawn, lowercase_,
        message("yes|nc:", chrf_character_order, "|nw:", with_words_ ? chrf_word_order : 0, "|space:no"));
  }

 private:
  struct parts {
    parts(const chrf& how, std::string_view sentence) {
      const std::string text = how.lowercase_ ? unicode::to_lower(sentence) : std::string(sentence);
      const auto all = split_words(text);
      std::vector<std::string_view> single;
      for (const auto word : all) {
        const auto of_word = split_characters(word);
        single.insert(single.end(), of_word.begin(), of_word.end());
      }
      characters = unit_sequence(single);
      if (how.with_words_) words = unit_sequence(separate_punctuation(all), " ");
    }
    unit_sequence characters;
    unit_sequence words;
  };

  [[nodiscard]] static bool is_ascii_punctuation(char c) noexcept {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  }

  /// One mark goes from the end of each word, or else from its beginning: "(hi)" becomes "(hi" and ")".
  [[nodiscard]] static std::vector<std::string_view> separate_punctuation(const std::vector<std::string_view>& all) {
    std::vector<std::string_view> out;
    for (const auto word : all) {
      if (word.size() == 1) {
        out.push_back(word);
      } else if (is_ascii_punctuation(word.back())) {
        out.push_back(word.substr(0, word.size() - 1));
        out.push_back(word.substr(word.size() - 1));
      } else if (is_ascii_punctuation(word.front())) {
        out.push_back(word.substr(0, 1));
        out.push_back(word.substr(1));
      } else {
        out.push_back(word);
      }
    }
    return out;
  }

  [[nodiscard]] static chrf_counts compare(const unit_sequence& ours, const unit_sequence& theirs, std::size_t order) {
    const auto n = static_cast<std::int64_t>(order);
    if (theirs.runs(n) == 0) return {};
    return {ours.runs(n), theirs.runs(n), clipped_matches(count_ngrams(ours, n), count_ngrams(theirs, n))};
  }

  [[nodiscard]] chrf_statistics compare(const parts& ours, const parts& theirs) const {
    chrf_statistics found;
    for (std::size_t n = 0; n < chrf_character_order; ++n) {
      found.orders[n] = compare(ours.characters, theirs.characters, n + 1);
    }
    for (std::size_t n = 0; with_words_ && n < chrf_word_order; ++n) {
      found.orders[chrf_character_order + n] = compare(ours.words, theirs.words, n + 1);
    }
    return found;
  }

  bool with_words_;
  bool lowercase_;
};

/// Corpus chrF of as many hypotheses as references, from 0 to 100. Throws shape_error if their numbers differ.
[[nodiscard]] inline double corpus_chrf(std::span<const std::string> hypotheses,
                                        std::span<const std::string> references, const chrf& metric = chrf()) {
  expect<shape_error>(hypotheses.size() == references.size(), "chrf: expected as many references as hypotheses, ",
                      hypotheses.size(), ", found ", references.size());
  chrf_statistics sum;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    sum += metric.statistics(hypotheses[i], std::string_view(references[i]));
  }
  return score_chrf(sum);
}

}  // namespace runnel::metrics
