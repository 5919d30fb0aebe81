// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>

#include "command.hpp"
#include "console.hpp"
#include "instance_log.hpp"
#include "scores.hpp"
#include "text_lines.hpp"

namespace runnel::cli {

namespace {

class score_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "score"; }
  [[nodiscard]] const char* summary() const override { return "Score translations: BLEU, chrF, latency, error rates"; }

  void declare(arguments& options) override {
    const auto log = options.text("-i,--instances", instances_, "FILE",
                                  "A log of SimulEval, 'runnel translate --output' or 'runnel transcribe --output'; a "
                                  "folder means its instances.log");
    hypothesis_option_ =
        options
            .text("--hypothesis", hypothesis_, "FILE", "Translations, one a line, instead of a log; -: standard input")
            .excludes(log);
    options.text(
        "-r,--reference,--target", reference_, "FILE",
        "References, one a line; for a log, those of the lines that its indices count from 0, instead of its own");
    options.text("--tokenizer,--sacrebleu-tokenizer", tokenizer_, "NAME", "What BLEU takes for words: 13a or none")
        .one_of({"13a", "none"});
    options.flag("--lowercase", how_.lowercase, "Score BLEU and chrF without regard to case");
    options.flag("--confidence", confidence_, "Bootstrap 95 % intervals of BLEU and chrF");
    resamples_option_ = options.whole("--resamples", resamples_, "N", "Resamples for --confidence", 1, 1'000'000);
    options.whole("--seed", seed_, "N", "Seed for --confidence");
    options.flag("--wer", how_.error_rates,
                 "Word and character error rates of the texts as they are; logs of speech always have them");
    options.flag("--wer-normalized", how_.normalized_error_rates,
                 "Word and character error rates after Whisper's normalisation of English");
    options.text("--latency-unit,--eval-latency-unit", unit_, "UNIT", "What references are counted in: word or char")
        .one_of({"word", "char"});
    options.flag("--no-use-ref-len", hypothesis_length_,
                 "Measure AL, LAAL and AP by the hypothesis's length alone, as SimulEval's option does");
    options.flag("--computation-aware", how_.computation_aware,
                 "Latencies from measured times too, with _CA in their names");
    unit_ms_option_ = options.real(
        "--source-unit-ms", how_.unit_ms, "MS",
        "For logs of text: milliseconds from one source unit to the next. Then the latencies with _CA are in "
        "ms: the source's time and the computing's. 0, and for logs of 'runnel transcribe': times are used as "
        "the log has them (speech)",
        0, static_cast<double>(most_of_anything));
    options.footer(
        "Prints one JSON object. BLEU and chrF are sacreBLEU's, from 0 to 100, and null where a sentence has no "
        "reference;\n"
        "AL, LAAL, AP and DAL are SimulEval's means over sentences with a translation, in the unit of the log's "
        "delays, "
        "and\n"
        "null where there is no such sentence; WER and CER are in percent. Draws for intervals are our own: they do "
        "not\n"
        "repeat sacreBLEU's.\n"
        "Examples:\n"
        "  runnel score --instances results/ --confidence\n"
        "  runnel score --instances results/instances.log --computation-aware --source-unit-ms 400\n"
        "  runnel score --hypothesis out.txt --reference test.fr\n"
        "  runnel score --hypothesis heard.txt --reference said.txt --wer --wer-normalized");
  }

  void run() override {
    expect<config_error>(!instances_.empty() || hypothesis_option_.given(),
                         "score: expected --instances or --hypothesis");
    expect<config_error>(!hypothesis_option_.given() || !reference_.empty(),
                         "score: --hypothesis needs --reference, or there is nothing to compare it with");
    expect<config_error>(!(hypothesis_ == "-" && reference_ == "-"),
                         "score: --hypothesis and --reference cannot both be standard input");
    expect<config_error>(how_.computation_aware || !unit_ms_option_.given(),
                         "score: --source-unit-ms is for --computation-aware, which is missing");
    expect<config_error>(confidence_ || !resamples_option_.given(),
                         "score: --resamples is for --confidence, which is missing");
    if (confidence_) how_.confidence = {resamples_, static_cast<std::uint64_t>(seed_)};
    how_.tokenizer = tokenizer_ == "none" ? metrics::bleu_tokenizer::none : metrics::bleu_tokenizer::mteval_13a;
    how_.unit = unit_ == "char" ? metrics::latency_unit::character : metrics::latency_unit::word;
    how_.reference_length = !hypothesis_length_;
    how_.latency = !hypothesis_option_.given();
    expect<config_error>(how_.latency || !how_.computation_aware,
                         "score: --computation-aware needs a log's times; give --instances");
    const auto sentences = how_.latency ? from_log() : from_texts();
    check_references(sentences);
    check_pace(sentences);
    output out;
    out.write(to_json(compute_scores(sentences, how_), how_));
    out.flush();
  }

 private:
  [[nodiscard]] std::vector<instance> from_log() const {
    std::filesystem::path path(instances_);
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) path /= "instances.log";
    auto log = read_instance_log(path);
    expect<format_error>(!log.lines.empty(), path.string(), ": the log is empty");
    if (reference_.empty()) return std::move(log.lines);
    const auto references = read_lines(reference_);
    for (auto& one : log.lines) {
      expect<config_error>(one.index < static_cast<std::int64_t>(references.size()), "--reference: '", reference_,
                           "' has ", references.size(), " lines, but ", path.string(), " has a sentence with index ",
                           one.index);
      one.reference = references[static_cast<std::size_t>(one.index)];
    }
    return std::move(log.lines);
  }

  [[nodiscard]] std::vector<instance> from_texts() const {
    auto hypotheses = read_lines(hypothesis_);
    auto references = read_lines(reference_);
    expect<config_error>(hypotheses.size() == references.size(), "--reference: expected as many lines as '",
                         hypothesis_, "' has, ", hypotheses.size(), ", found ", references.size(), " in '", reference_,
                         "'");
    expect<config_error>(!hypotheses.empty(), "--hypothesis: '", hypothesis_, "' is empty");
    std::vector<instance> sentences(hypotheses.size());
    for (std::size_t i = 0; i < sentences.size(); ++i) {
      sentences[i].index = static_cast<std::int64_t>(i);
      sentences[i].prediction = std::move(hypotheses[i]);
      sentences[i].reference = std::move(references[i]);
    }
    return sentences;
  }

  /// Scores that were asked for by name must not go missing in silence.
  void check_references(const std::vector<instance>& sentences) const {
    if (!confidence_ && !how_.error_rates && !how_.normalized_error_rates) return;
    for (const auto& one : sentences) {
      expect<config_error>(one.reference.has_value(), "score: ",
                           confidence_        ? "--confidence"
                           : how_.error_rates ? "--wer"
                                              : "--wer-normalized",
                           " needs references, but sentence ", one.index, " of the log has none; give --reference");
    }
  }

  /// Times in milliseconds beside delays in units of text would give numbers that mean nothing.
  void check_pace(const std::vector<instance>& sentences) const {
    if (!how_.computation_aware) return;
    for (const auto& one : sentences) {
      if (unit_ms_option_.given()) {
        expect<config_error>(!one.is_speech || how_.unit_ms == 0,
                             "score: --source-unit-ms is for logs of text, but sentence ", one.index,
                             " of the log is speech, with times in ms");
        continue;
      }
      expect<config_error>(
          one.is_speech || !one.computed_ms.has_value(), "score: --computation-aware: sentence ", one.index,
          " of the log is text, with times in ms; give --source-unit-ms, the time from one source unit "
          "to the next");
    }
  }

  std::string instances_;
  argument hypothesis_option_;
  std::string hypothesis_;
  std::string reference_;
  std::string tokenizer_ = "13a";
  bool confidence_ = false;
  argument resamples_option_;
  std::int64_t resamples_ = 1000;
  std::int64_t seed_ = 12345;
  std::string unit_ = "word";
  bool hypothesis_length_ = false;
  argument unit_ms_option_;
  score_options how_;
};

}  // namespace

std::unique_ptr<command> make_score_command() { return std::make_unique<score_command>(); }

}  // namespace runnel::cli
