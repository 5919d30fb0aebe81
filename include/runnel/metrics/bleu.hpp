// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
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

/// Longest n-gram that BLEU counts.
inline constexpr std::size_t bleu_order = 4;

/// How BLEU finds the words of a sentence.
enum class bleu_tokenizer : std::uint8_t {
  mteval_13a,  ///< sacreBLEU's default, that of mteval-v13a: punctuation stands alone, but not within numbers
  none,        ///< words are what stands between white space
};

/// sacreBLEU's name of a tokenizer: "13a" or "none".
[[nodiscard]] constexpr std::string_view name_of(bleu_tokenizer tokenizer) noexcept {
  return tokenizer == bleu_tokenizer::none ? "none" : "13a";
}

namespace detail {

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
[[nodiscard]] constexpr bool is_mark_of_numbers(char c) noexcept { return c == '.' || c == ','; }

/// ASCII punctuation that always stands alone: all of it but ' , - and the full stop; the space as well.
[[nodiscard]] constexpr bool always_stands_alone(char c) noexcept {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

inline void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  std::size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += to;
    done = at + from.size();
  }
  out.append(text, done);
  text = std::move(out);
}

/// The four rules in turn, each a pass that never looks at a byte twice. They speak of ASCII alone, so bytes will do.
[[nodiscard]] inline std::string separate_punctuation(const std::string& line) {
  std::string alone;
  for (const char c : line) {
    const bool is_alone = always_stands_alone(c);
    if (is_alone) alone += ' ';
    alone += c;
    if (is_alone) alone += ' ';
  }
  std::string after;  // a mark that no digit comes before
  for (std::size_t i = 0; i < alone.size(); ++i) {
    after += alone[i];
    if (is_digit(alone[i]) || i + 1 == alone.size() || !is_mark_of_numbers(alone[i + 1])) continue;
    after += {' ', alone[++i], ' '};
  }
  std::string before;  // a mark that no digit comes after
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (!is_mark_of_numbers(after[i]) || i + 1 == after.size() || is_digit(after[i + 1])) {
      before += after[i];
    } else {
      before += {' ', after[i], ' ', after[i + 1]};
      ++i;
    }
  }
  std::string out;  // a hyphen after a digit
  for (std::size_t i = 0; i < before.size(); ++i) {
    out += before[i];
    if (!is_digit(before[i]) || i + 1 == before.size() || before[i + 1] != '-') continue;
    out += " - ";
    ++i;
  }
  return out;
}

}  // namespace detail

/// `line` with spaces between its tokens, as sacreBLEU's tokenizer `13a` cuts it. Linear.
[[nodiscard]] inline std::string tokenize_13a(std::string_view line) {
  std::string text(line);
  detail::replace_all(text, "<skipped>", "");
  detail::replace_all(text, "-\n", "");
  std::replace(text.begin(), text.end(), '\n', ' ');
  detail::replace_all(text, "&quot;", "\"");
  detail::replace_all(text, "&amp;", "&");
  detail::replace_all(text, "&lt;", "<");
  detail::replace_all(text, "&gt;", ">");
  const std::string spaced = detail::separate_punctuation(' ' + text + ' ');
  std::string out;
  for (const auto token : split_words(spaced)) {
    if (!out.empty()) out += ' ';
    out += token;
  }
  return out;
}

/// What BLEU needs to know of a sentence, or, added up, of a corpus.
struct bleu_statistics {
  std::int64_t hypothesis_length = 0;                 ///< tokens
  std::int64_t reference_length = 0;                  ///< tokens of the reference that is closest in length
  std::array<std::int64_t, bleu_order> matches = {};  ///< n-grams that the reference has too, of 1, 2, 3, 4 tokens
  std::array<std::int64_t, bleu_order> totals = {};   ///< n-grams of the hypothesis

  bleu_statistics& operator+=(const bleu_statistics& more) noexcept {
    hypothesis_length += more.hypothesis_length;
    reference_length += more.reference_length;
    for (std::size_t n = 0; n < bleu_order; ++n) {
      matches[n] += more.matches[n];
      totals[n] += more.totals[n];
    }
    return *this;
  }
  friend bool operator==(const bleu_statistics&, const bleu_statistics&) = default;
};

/// A BLEU score and its parts, all but the brevity penalty from 0 to 100.
struct bleu_score {
  double score = 0;
  std::array<double, bleu_order> precisions = {};  ///< smoothed
  double brevity_penalty = 0;
  bleu_statistics statistics;
};

/// The score of added statistics (Papineni et al., 2002), with the exponential smoothing of mteval-v13a: the i-th
/// precision without a match counts as 1 / 2^i matches (Chen and Cherry, 2014, method 3). Without any match, and
/// without an n-gram of every order, the score is 0.
[[nodiscard]] inline bleu_score score_bleu(const bleu_statistics& of) {
  bleu_score result;
  result.statistics = of;
  result.brevity_penalty = 1;
  if (of.hypothesis_length < of.reference_length) {
    const auto ratio = static_cast<double>(of.reference_length) / static_cast<double>(of.hypothesis_length);
    result.brevity_penalty = of.hypothesis_length > 0 ? std::exp(1 - ratio) : 0;
  }
  if (std::all_of(of.matches.begin(), of.matches.end(), [](std::int64_t count) { return count == 0; })) return result;
  double smoothing = 1;
  for (std::size_t n = 0; n < bleu_order && of.totals[n] > 0; ++n) {
    const auto total = static_cast<double>(of.totals[n]);
    if (of.matches[n] == 0) {
      smoothing *= 2;
      result.precisions[n] = 100 / (smoothing * total);
    } else {
      result.precisions[n] = 100 * static_cast<double>(of.matches[n]) / total;
    }
  }
  double logarithms = 0;
  for (const double precision : result.precisions) {
    if (precision <= 0) return result;
    logarithms += std::log(precision);
  }
  result.score = result.brevity_penalty * std::exp(logarithms / static_cast<double>(bleu_order));
  return result;
}

/// Corpus BLEU, equal to what sacreBLEU (Post, 2018) gives with its defaults: n-grams up to 4, exponential smoothing,
/// no effective order. A value; const functions may be called from any thread.
class bleu {
 public:
  explicit bleu(bleu_tokenizer tokenizer = bleu_tokenizer::mteval_13a, bool lowercase = false)
      : tokenizer_(tokenizer), lowercase_(lowercase) {}

  /// Statistics of one sentence. With several references an n-gram counts as often as the one that has it most often.
  /// Throws config_error without a reference. Linear in the text.
  [[nodiscard]] bleu_statistics statistics(std::string_view hypothesis,
                                           std::span<const std::string_view> references) const {
    expect<config_error>(!references.empty(), "bleu: expected at least one reference, found none");
    const unit_sequence ours = tokens(hypothesis);
    std::vector<unit_sequence> theirs;
    for (const auto reference : references) theirs.push_back(tokens(reference));
    bleu_statistics found;
    found.hypothesis_length = ours.size();
    found.reference_length = theirs.front().size();
    for (const auto& reference : theirs) {
      const std::int64_t now = std::abs(found.reference_length - ours.size());
      const std::int64_t then = std::abs(reference.size() - ours.size());
      if (then < now || (then == now && reference.size() < found.reference_length)) {
        found.reference_length = reference.size();
      }
    }
    for (std::size_t n = 0; n < bleu_order; ++n) {
      const auto order = static_cast<std::int64_t>(n) + 1;
      ngram_counts most;
      for (const auto& reference : theirs) {
        for (const auto& [ngram, count] : count_ngrams(reference, order)) most[ngram] = std::max(most[ngram], count);
      }
      found.totals[n] = ours.runs(order);
      found.matches[n] = clipped_matches(count_ngrams(ours, order), most);
    }
    return found;
  }

  /// Statistics of one sentence with one reference.
  [[nodiscard]] bleu_statistics statistics(std::string_view hypothesis, std::string_view reference) const {
    return statistics(hypothesis, std::span(&reference, 1));
  }

  /// What makes a score reproducible, in sacreBLEU's order and words, with this library's version at its end.
  [[nodiscard]] std::string signature(std::int64_t num_references = 1, const bootstrap_options* drawn = nullptr) const {
    return detail::signature(num_references, drawn, lowercase_, message("no|tok:", name_of(tokenizer_), "|smooth:exp"));
  }

 private:
  [[nodiscard]] unit_sequence tokens(std::string_view sentence) const {
    std::string text = lowercase_ ? unicode::to_lower(sentence) : std::string(sentence);
    text.resize(trim_end(text).size());
    if (tokenizer_ == bleu_tokenizer::mteval_13a) text = tokenize_13a(text);
    return unit_sequence(split_words(text), " ");
  }

  bleu_tokenizer tokenizer_;
  bool lowercase_;
};

/// Corpus BLEU of as many hypotheses as references. Throws shape_error if their numbers differ.
[[nodiscard]] inline bleu_score corpus_bleu(std::span<const std::string> hypotheses,
                                            std::span<const std::string> references, const bleu& metric = bleu()) {
  expect<shape_error>(hypotheses.size() == references.size(), "bleu: expected as many references as hypotheses, ",
                      hypotheses.size(), ", found ", references.size());
  bleu_statistics sum;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    sum += metric.statistics(hypotheses[i], std::string_view(references[i]));
  }
  return score_bleu(sum);
}

}  // namespace runnel::metrics
