// SPDX-License-Identifier: Apache-2.0
// `runnel score`: logs as SimulEval scores them, plain texts, and what is no log.

#include "process.hpp"

#include <cmath>
#include <sstream>

#include <nlohmann/json.hpp>

#include "metrics/golden.hpp"

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;
using nlohmann::json;

std::string golden_path(const char* name) {
  return (std::filesystem::path(RUNNEL_TEST_DIR) / "golden/metrics" / name).string();
}

outcome score(strings arguments, std::string_view input = {}) {
  arguments.insert(arguments.begin(), "score");
  return run(arguments, input);
}

json scored(strings arguments, std::string_view input = {}) {
  const auto result = score(std::move(arguments), input);
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(result.err.empty());
  CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);
  return json::parse(result.out);
}

const std::string good =
    R"({"index": 0, "prediction": "a b", "delays": [1, 2], "elapsed": [5, 9], "prediction_length": 2, )"
    R"("reference": "a b", "source": "x y", "source_length": 2})";

TEST_CASE("a log's scores are SimulEval's, in both units, with computation-aware latencies by its own numbers") {
  const auto expected = golden("latencies.json");
  const scratch_folder folder;
  for (const std::string unit : {"word", "char"}) {
    std::istringstream all(read_text(golden_path("instances.log")));
    std::string lines;  // in characters, without the empty reference, on which SimulEval fails
    for (std::string line; std::getline(all, line);) {
      if (unit == "word" || json::parse(line)["reference"] != "") lines += line + "\n";
    }
    write_text(folder / "instances.log", lines);
    const auto found =
        scored({"--instances", folder.path().string(), "--computation-aware", "--eval-latency-unit", unit, "--wer"});
    for (const auto& one : expected["units"][unit].items()) {
      const std::string& name = one.key();
      CAPTURE(name);
      CHECK(found[name] == nearly(one.value()));
    }
    if (unit == "char") continue;
    for (const char* name : {"BLEU", "chrF2", "chrF2++", "WER"}) CHECK(found[name] == nearly(expected[name]));
    CHECK(found["sentences"] == 89);
    CHECK(found["timed_sentences"] == 88);
  }
}

TEST_CASE("scores of real runs are those of SimulEval, sacreBLEU, jiwer and Whisper's normaliser") {
  const auto expected = golden("real/scores.json");
  REQUIRE(expected.size() == 2);
  for (const auto& run : expected.items()) {
    const std::string& log = run.key();
    CAPTURE(log);
    const auto path = golden_path(("real/" + log).c_str());
    // SimulEval takes times as they are, whatever the delays count.
    const auto found =
        scored({"-i", path, "--computation-aware", "--source-unit-ms", "0", "--wer", "--wer-normalized"});
    CHECK(found["sentences"] == 40);
    CHECK(run.value().size() == 15);
    for (const auto& one : run.value().items()) {
      const std::string& name = one.key();
      CAPTURE(name);
      CHECK(found[name] == nearly(one.value()));
    }
  }
}

TEST_CASE("a folder means its log; what was not asked for is not there") {
  const scratch_folder folder;
  write_text(folder / "instances.log", good + "\n");
  const auto found = scored({"-i", folder.path().string()});
  CHECK(found["sentences"] == 1);
  CHECK(found["AL"] == 1.0);
  CHECK(found["BLEU"] == 0.0);  // two words hold no run of three
  CHECK(found["words_while_reading"] == 0.5);
  CHECK(
      found["BLEU_signature"].get<std::string>().starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"));
  for (const char* name : {"AL_CA", "WER", "CER", "WER_normalized", "BLEU_confidence", "rows", "words_per_second"}) {
    CHECK_FALSE(found.contains(name));
  }
}

TEST_CASE("with a pace, computation-aware latencies of text are in milliseconds") {
  const scratch_folder folder;
  write_text(folder / "log", good + "\n");
  const auto found = scored({"-i", (folder / "log").string(), "--computation-aware", "--source-unit-ms", "400"});
  CHECK(found["AL_CA"] == nearly((400 + 5 + (800 + 9 - 400)) / 2.0));
  // Times of computing alone, where the log has them, take the place of those that hold waits.
  write_text(folder / "log", good.substr(0, good.size() - 1) + R"(, "computed_ms": [1, 2]})" + "\n");
  const auto computed = scored({"-i", (folder / "log").string(), "--computation-aware", "--source-unit-ms", "400"});
  CHECK(computed["AL_CA"] == nearly((400 + 1 + (800 + 2 - 400)) / 2.0));
  CHECK(computed["words_per_second"] == nearly(1000));
  check_refused(score({"-i", (folder / "log").string(), "--computation-aware"}), 2, {"sentence 0", "--source-unit-ms"});
}

TEST_CASE("references of one's own take the place of a log's, by index") {
  const scratch_folder folder;
  const std::string second =
      R"({"index": 2, "prediction": "c d e f g", "delays": [1, 1, 1, 1, 1], "reference": null, "source_length": 1})";
  write_text(folder / "log", good + "\n" + second + "\n");
  const auto log = (folder / "log").string(), to = (folder / "to").string();
  const auto without = scored({"-i", log});
  CHECK(without["BLEU"].is_null());
  CHECK(without["chrF2"].is_null());
  CHECK(without["LAAL"].is_number());
  write_text(folder / "to", "a b\nnot this one\nc d e f g\n");
  CHECK(scored({"-i", log, "--reference", to})["BLEU"] == nearly(100));
  write_text(folder / "to", "a b\nnot this one\n");
  check_refused(score({"-i", log, "--reference", to}), 2, {"--reference", "2 lines", "index 2"});
  check_refused(score({"-i", log, "--wer"}), 2, {"--wer", "sentence 2", "--reference"});
  check_refused(score({"-i", log, "--confidence"}), 2, {"--confidence", "sentence 2"});
  check_refused(score({"-i", log, "--computation-aware"}), 2, {"sentence 2", "elapsed"});
}

TEST_CASE("plain texts: the scores of the libraries that everybody uses") {
  const scratch_folder folder;
  const auto ours = (folder / "ours").string(), theirs = (folder / "theirs").string();
  for (const auto& corpus : golden("corpora.json")) {
    if (corpus["name"] != "sentences") continue;
    std::string hypotheses, references;
    for (const auto& one : corpus["hypotheses"]) hypotheses += one.get<std::string>() + "\n";
    for (const auto& one : corpus["references"]) references += one.get<std::string>() + "\r\n";
    write_text(theirs, references);
    const auto mixed = scored({"--hypothesis", "-", "-r", theirs, "--confidence"}, hypotheses);
    CHECK(mixed["BLEU"] == nearly(corpus["bleu"]["13a mixed"]["score"]));
    CHECK(mixed["chrF2++"] == nearly(corpus["chrf"]["2 mixed"]["score"]));
    CHECK(mixed["BLEU_confidence"]["resamples"] == 1000);
    const double mean = corpus["confidence"]["mean"];
    CHECK(std::abs(mixed["BLEU_confidence"]["mean"].get<double>() - mean) < 1);
    CHECK_FALSE(mixed.contains("AL"));
    const auto lower = scored({"--hypothesis", "-", "-r", theirs, "--lowercase", "--tokenizer", "none"}, hypotheses);
    CHECK(lower["BLEU"] == nearly(corpus["bleu"]["none lc"]["score"]));
    CHECK(lower["chrF2"] == nearly(corpus["chrf"]["0 lc"]["score"]));
  }
  write_text(ours, "Mr. Smith's colour isn't 21\n");
  write_text(theirs, "mister smith is color is not twenty-one\n");
  const auto found = scored({"--hypothesis", ours, "-r", theirs, "--wer", "--wer-normalized"});
  CHECK(found["WER_normalized"] == 0.0);
  CHECK(found["CER_normalized"] == 0.0);
  CHECK(found["WER"] == nearly(100.0 * 7 / 7));
  CHECK(found["WER_counts"]["deletions"] == 2);
  write_text(theirs, "\n");
  CHECK(scored({"--hypothesis", ours, "-r", theirs, "--wer"})["WER"] == 500.0);  // of no word
}

TEST_CASE("what is no log is refused, by file, line and key") {
  const scratch_folder folder;
  const auto log = (folder / "some.log").string();
  const auto without = [](std::string text, std::string_view part, std::string_view with) {
    const auto at = text.find(part);
    REQUIRE(at != std::string::npos);
    return text.replace(at, part.size(), with);
  };
  const std::vector<std::pair<std::string, strings>> cases{
      {"", {"empty"}},
      {good + "\nnonsense\n", {"line 2", "JSON object", "nonsense"}},
      {good + "\n" + good.substr(0, 50), {"line 2", "JSON object"}},
      {good + "\n\n", {"line 2"}},
      {"[1]\n", {"line 1", "object", "array"}},
      {good + "\n" + good + "\n", {"line 2", "'index'", "line 1"}},
      {without(good, "\"index\": 0", "\"index\": -1"), {"'index'", "-1"}},
      {without(good, "\"index\": 0", "\"index\": 1.5"), {"'index'", "1.5"}},
      {without(good, "\"index\": 0", "\"index\": 18446744073709551615"), {"'index'"}},
      {without(good, "\"index\": 0, ", ""), {"'index'", "missing"}},
      {without(good, "\"prediction\": \"a b\", ", ""), {"'prediction'", "missing"}},
      {without(good, "\"prediction\": \"a b\"", "\"prediction\": 7"), {"'prediction'", "text", "number"}},
      {without(good, "[1, 2]", "[1, \"2\"]"), {"'delays[1]'", "string"}},
      {without(good, "[1, 2]", "[1, -2]"), {"'delays[1]'", "-2"}},
      {without(good, "[1, 2]", "[1, 1e999]"), {"line 1"}},
      {without(good, "[1, 2]", "[1, NaN]"), {"line 1"}},
      {without(good, "[1, 2]", "3"), {"'delays'", "list"}},
      {without(good, "[1, 2]", std::string(100'000, '[')), {"line 1"}},
      {without(good, "[1, 2]", std::string(50'000, '[') + std::string(50'000, ']')), {"'delays[0]'", "array"}},
      {without(good, "\"index\": 0", "\"index\": " + std::string(50'000, '[') + std::string(50'000, ']')), {"'index'"}},
      {without(good, "[5, 9]", "[5]"), {"'elapsed'", "2", "1"}},
      {without(good, "\"source_length\": 2", "\"source_length\": null"), {"'source_length'", "missing"}},
      {without(good, "\"source_length\": 2", "\"source_length\": 2, \"computed_ms\": [1]"),
       {"'computed_ms'", "2", "1"}},
      {without(good, "\"source_length\": 2", "\"source_length\": 2, \"rows\": {\"refed\": -1}"),
       {"'rows.refed'", "-1"}},
      {without(good, "\"reference\": \"a b\"", "\"reference\": [\"a b\"]"), {"'reference'", "array"}},
  };
  for (const auto& [text, parts] : cases) {
    const auto shown = text.substr(0, 300);
    CAPTURE(shown);
    write_text(log, text);
    auto all = parts;
    all.emplace_back("some.log");
    check_refused(score({"-i", log}), 1, all);
  }
  check_refused(score({"-i", (folder / "none").string()}), 1, {"none"});
  check_refused(score({"-i", folder.path().string()}), 1, {"instances.log"});
}

TEST_CASE("options that make no sense are refused, with 2") {
  const scratch_folder folder;
  const auto one = (folder / "one").string(), two = (folder / "two").string(), none = (folder / "empty").string();
  write_text(one, "a\n");
  write_text(two, "a\nb\n");
  write_text(none, "");
  const std::vector<std::pair<strings, strings>> cases{
      {{}, {"--instances", "--hypothesis"}},
      {{"--hypothesis", one}, {"--reference"}},
      {{"--hypothesis", one, "-i", one}, {"--hypothesis", "--instances"}},
      {{"--hypothesis", "-", "-r", "-"}, {"standard input"}},
      {{"--hypothesis", one, "-r", two}, {"--reference", "1", "2"}},
      {{"--hypothesis", none, "-r", none}, {"empty"}},
      {{"--hypothesis", one, "-r", one, "--computation-aware"}, {"--computation-aware", "--instances"}},
      {{"-i", one, "--source-unit-ms", "400"}, {"--source-unit-ms", "--computation-aware"}},
      {{"-i", one, "--computation-aware", "--source-unit-ms", "-1"}, {"--source-unit-ms"}},
      {{"-i", one, "--resamples", "10"}, {"--resamples", "--confidence"}},
      {{"-i", one, "--confidence", "--resamples", "0"}, {"--resamples"}},
      {{"-i", one, "--tokenizer", "intl"}, {"13a, none", "intl"}},
      {{"-i", one, "--latency-unit", "spm"}, {"word, char", "spm"}},
  };
  for (const auto& [arguments, parts] : cases) {
    std::string line;
    for (const auto& argument : arguments) line += argument + " ";
    CAPTURE(line);
    check_refused(score(arguments), 2, parts);
  }
}

}  // namespace
