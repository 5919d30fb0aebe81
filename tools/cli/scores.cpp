// SPDX-License-Identifier: Apache-2.0

#include "scores.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/metrics/chrf.hpp>
#include <runnel/metrics/english_text.hpp>

namespace runnel::cli {

namespace {

using nlohmann::ordered_json;

/// Scores by a metric whose statistics of sentences add up.
template <class Metric, class Score>
text_score corpus_score(const std::vector<instance>& sentences, const Metric& metric, Score score,
                        const score_options& how) {
  using statistics = decltype(metric.statistics(std::string_view(), std::string_view()));
  std::vector<statistics> all;
  all.reserve(sentences.size());
  statistics sum{};
  for (const auto& one : sentences) {
    all.push_back(metric.statistics(one.prediction, std::string_view(*one.reference)));
    sum += all.back();
  }
  text_score result{score(sum), metric.signature(1, how.confidence ? &*how.confidence : nullptr), std::nullopt};
  if (how.confidence) result.confidence = metrics::bootstrap(std::span<const statistics>(all), score, *how.confidence);
  return result;
}

void score_texts(const std::vector<instance>& sentences, const score_options& how, scores& all) {
  const auto of_bleu = [](const metrics::bleu_statistics& sum) { return metrics::score_bleu(sum).score; };
  all.bleu = corpus_score(sentences, metrics::bleu(how.tokenizer, how.lowercase), of_bleu, how);
  using words = metrics::chrf::words;
  all.chrf = corpus_score(sentences, metrics::chrf(words::no, how.lowercase), metrics::score_chrf, how);
  all.chrf_words = corpus_score(sentences, metrics::chrf(words::yes, how.lowercase), metrics::score_chrf, how);
}

void score_errors(const std::vector<instance>& sentences, const score_options& how, scores& all) {
  const auto is_speech = [](const instance& one) { return one.is_speech; };
  const bool speech = !sentences.empty() && std::all_of(sentences.begin(), sentences.end(), is_speech);
  if (how.error_rates || speech) {  // what is said has one text
    all.words.emplace();
    all.characters.emplace();
    for (const auto& one : sentences) {
      *all.words += metrics::word_edits(one.prediction, *one.reference);
      *all.characters += metrics::character_edits(one.prediction, *one.reference);
    }
  }
  if (how.normalized_error_rates) {
    const metrics::english_normalizer normalize;
    all.normalized_words.emplace();
    all.normalized_characters.emplace();
    for (const auto& one : sentences) {
      const std::string ours = normalize(one.prediction);
      const std::string theirs = normalize(*one.reference);
      *all.normalized_words += metrics::word_edits(ours, theirs);
      *all.normalized_characters += metrics::character_edits(ours, theirs);
    }
  }
}

metrics::latencies aware_latency(const instance& one, std::optional<std::int64_t> length, const score_options& how) {
  if (how.unit_ms <= 0 || one.is_speech) return metrics::measure_latency({one.elapsed, one.source_length, length});
  const auto& computed = one.computed_ms ? *one.computed_ms : one.elapsed;
  const auto delays = metrics::computation_aware_delays(one.delays, computed, how.unit_ms);
  return metrics::measure_latency({delays, one.source_length * how.unit_ms, length});
}

void score_latency(const std::vector<instance>& sentences, const score_options& how, scores& all) {
  metrics::mean_latency plain;
  metrics::mean_latency aware;
  for (const auto& one : sentences) {
    std::optional<std::int64_t> length;
    if (how.reference_length && one.reference) length = metrics::reference_length(*one.reference, how.unit);
    plain.add(metrics::measure_latency({one.delays, one.source_length, length}));
    if (!how.computation_aware) continue;
    expect<config_error>(one.delays.empty() || !one.elapsed.empty() || one.computed_ms.has_value(),
                         "computation-aware latency: sentence ", one.index, " of the log has no 'elapsed'");
    aware.add(aware_latency(one, length, how));
  }
  all.timed_sentences = plain.sentences();
  all.latency = plain.mean();
  if (how.computation_aware) all.aware = aware.mean();
}

/// What the log says of the work that was done.
void add_up_work(const std::vector<instance>& sentences, scores& all) {
  std::int64_t rows = 0;
  std::int64_t again = 0;
  std::int64_t words = 0;
  std::int64_t early = 0;
  double ms = 0;
  bool counted = true;
  bool timed = true;
  for (const auto& one : sentences) {
    counted = counted && one.rows && one.rows_again;
    timed = timed && one.computed_ms.has_value();
    rows += one.rows.value_or(0);
    again += one.rows_again.value_or(0);
    words += static_cast<std::int64_t>(one.delays.size());
    early += std::count_if(one.delays.begin(), one.delays.end(), [&](double d) { return d < one.source_length; });
    if (timed && !one.computed_ms->empty()) ms += one.computed_ms->back();
  }
  if (sentences.empty()) return;
  if (words > 0) all.words_while_reading = static_cast<double>(early) / static_cast<double>(words);
  if (counted) all.rows = rows;
  if (counted) all.rows_again = again;
  if (timed) all.words_per_second = metrics::throughput(words, ms / 1000);
}

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

void put_text(ordered_json& to, const std::string& name, const std::optional<text_score>& score,
              const score_options& how) {
  if (!score) {
    to[name] = nullptr;
    return;
  }
  to[name] = score->score;
  to[name + "_signature"] = score->signature;
  if (!score->confidence) return;
  to[name + "_confidence"] = {{"mean", score->confidence->mean},
                              {"half_width", score->confidence->half_width},
                              {"resamples", how.confidence->resamples},
                              {"seed", how.confidence->seed}};
}

void put_errors(ordered_json& to, const std::string& name, const std::optional<metrics::edit_counts>& edits) {
  if (!edits) return;
  to[name] = 100 * edits->rate();
  to[name + "_counts"] = {{"substitutions", edits->substitutions},
                          {"insertions", edits->insertions},
                          {"deletions", edits->deletions},
                          {"reference_length", edits->reference_length}};
}

void put_latency(ordered_json& to, const std::string& suffix, const std::optional<metrics::latencies>& of) {
  if (!of) return;
  to["AL" + suffix] = or_null(of->al);
  to["LAAL" + suffix] = or_null(of->laal);
  to["AP" + suffix] = or_null(of->ap);
  to["DAL" + suffix] = or_null(of->dal);
}

/// A value as pandas writes it, rounded to three decimals.
std::string in_table(const std::optional<double>& value) {
  if (!value) return "";
  const double rounded = std::round(*value * 1000) / 1000;
  std::string text = message(rounded);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

scores compute_scores(const std::vector<instance>& sentences, const score_options& how) {
  scores all;
  all.sentences = static_cast<std::int64_t>(sentences.size());
  const bool referenced = !sentences.empty() && std::all_of(sentences.begin(), sentences.end(),
                                                            [](const instance& one) { return one.reference; });
  if (referenced) {
    score_texts(sentences, how, all);
    score_errors(sentences, how, all);
  }
  if (how.latency) {
    score_latency(sentences, how, all);
    add_up_work(sentences, all);
  }
  return all;
}

std::string to_json(const scores& all, const score_options& how) {
  ordered_json out;
  out["sentences"] = all.sentences;
  put_text(out, "BLEU", all.bleu, how);
  put_text(out, "chrF2", all.chrf, how);
  put_text(out, "chrF2++", all.chrf_words, how);
  put_errors(out, "WER", all.words);
  put_errors(out, "CER", all.characters);
  put_errors(out, "WER_normalized", all.normalized_words);
  put_errors(out, "CER_normalized", all.normalized_characters);
  if (all.latency) out["timed_sentences"] = all.timed_sentences;
  put_latency(out, "", all.latency);
  put_latency(out, "_CA", all.aware);
  if (all.words_while_reading) out["words_while_reading"] = *all.words_while_reading;
  if (all.rows) out["rows"] = *all.rows;
  if (all.rows_again) out["rows_again"] = *all.rows_again;
  if (all.words_per_second) out["words_per_second"] = *all.words_per_second;
  return out.dump() + "\n";
}

std::string to_tsv(const scores& all) {
  std::string names;
  std::string values;
  const auto add = [&](const char* name, const std::optional<double>& value) {
    const char* const between = names.empty() ? "" : "\t";
    names += std::string(between) + name;
    values += between + in_table(value);
  };
  if (all.words) add("WER", 100 * all.words->rate());
  if (all.bleu) add("BLEU", all.bleu->score);
  const auto latency = all.latency.value_or(metrics::latencies{});
  const auto aware = all.aware.value_or(metrics::latencies{});
  add("LAAL", latency.laal);
  if (all.aware) add("LAAL_CA", aware.laal);
  add("AL", latency.al);
  if (all.aware) add("AL_CA", aware.al);
  add("AP", latency.ap);
  if (all.aware) add("AP_CA", aware.ap);
  add("DAL", latency.dal);
  if (all.aware) add("DAL_CA", aware.dal);
  return names + "\n" + values + "\n";
}

}  // namespace runnel::cli
