// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <runnel/metrics/bleu.hpp>
#include <runnel/metrics/bootstrap.hpp>
#include <runnel/metrics/latency.hpp>
#include <runnel/metrics/wer.hpp>

#include "instance_log.hpp"

namespace runnel::cli {

/// What is scored, and how.
struct score_options {
  metrics::bleu_tokenizer tokenizer = metrics::bleu_tokenizer::mteval_13a;
  bool lowercase = false;
  std::optional<metrics::bootstrap_options> confidence;
  bool error_rates = false;
  bool normalized_error_rates = false;  ///< after Whisper's normalisation of English
  bool latency = true;                  ///< the texts come from a log
  metrics::latency_unit unit = metrics::latency_unit::word;
  bool reference_length = true;  ///< AL, LAAL and AP look at the reference's length, where there is one
  bool computation_aware = false;
  /// Milliseconds from one source unit to the next; 0: the log's `elapsed` and `source_length` share a unit, as in
  /// SimulEval's logs of speech. Lines that say they are speech are always taken so.
  double unit_ms = 0;
};

/// A score of texts, and how sure it is.
struct text_score {
  double score = 0;
  std::string signature;
  std::optional<metrics::confidence> confidence;
};

/// All scores; nothing where one was not asked for or cannot be had.
struct scores {
  std::int64_t sentences = 0;
  std::int64_t timed_sentences = 0;  ///< those with delays
  std::optional<text_score> bleu;    ///< nothing where a sentence has no reference
  std::optional<text_score> chrf;
  std::optional<text_score> chrf_words;
  std::optional<metrics::latencies> latency;
  std::optional<metrics::latencies> aware;
  std::optional<metrics::edit_counts> words;
  std::optional<metrics::edit_counts> characters;
  std::optional<metrics::edit_counts> normalized_words;
  std::optional<metrics::edit_counts> normalized_characters;
  std::optional<std::int64_t> rows;  ///< computed; nothing where a sentence does not say
  std::optional<std::int64_t> rows_again;
  std::optional<double> words_while_reading;  ///< share of the words that came before the source's end was read
  std::optional<double> words_per_second;     ///< of computing, where every sentence says when
};

/// Scores sentences. Throws config_error that names the sentence for times that a score asked for does not have.
[[nodiscard]] scores compute_scores(const std::vector<instance>& sentences, const score_options& how);

/// One JSON object on one line, with its line feed.
[[nodiscard]] std::string to_json(const scores& all, const score_options& how);

/// The table that SimulEval writes: names, then values of three decimals, between tabs.
[[nodiscard]] std::string to_tsv(const scores& all);

}  // namespace runnel::cli
