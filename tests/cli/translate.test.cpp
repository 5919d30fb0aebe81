// SPDX-License-Identifier: Apache-2.0
// `runnel translate`: plans, logs, live reading, the terminal, signals.

#include "process.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <nlohmann/json.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;

const std::string counted = "Eins zwei drei vier f\xC3\xBCnf";

strings translate(strings arguments) {
  arguments.insert(arguments.begin(), {"translate", "-m", tiny_model()});
  return arguments;
}

outcome translated(strings arguments, std::string_view input) {
  arguments.insert(arguments.end(), {"--source", "-"});
  return run(translate(std::move(arguments)), input);
}

std::vector<nlohmann::json> read_log(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> lines;
  std::istringstream all(read_text(folder / "instances.log"));
  for (std::string line; std::getline(all, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST_CASE("translate refuses options that make no sense together, with 2") {
  const scratch_folder folder;
  write_text(folder / "two", "a b\nc d\n");
  write_text(folder / "three", "a\nb\nc\n");
  const std::string two = (folder / "two").string();
  const std::vector<std::pair<strings, strings>> cases{
      {{}, {"--source"}},
      {{"-s", two, "--plan", "sideways"}, {"batch-streaming", "group-streaming", "sideways"}},
      {{"-s", two, "--plan", "interleaved", "--phi", "1"}, {"phi", "interleaved"}},
      {{"-s", two, "--plan", "batch", "--phi", "0"}, {"phi", "batch"}},
      {{"-s", two, "--plan", "group-streaming", "--reencode", "all"}, {"re-encoding", "group-streaming"}},
      {{"-s", two, "--plan", "batch-streaming", "--reencode", "some"}, {"none, positions, all or everything", "some"}},
      {{"-s", two, "--phi", "-0.5"}, {"--phi", "-0.5"}},
      {{"-s", two, "--phi", "nan"}, {"--phi"}},
      {{"-s", two, "--phi", "512"}, {"phi", "512"}},
      {{"-s", two, "--phi", "100", "--context", "100"}, {"phi", "100"}},
      {{"-s", two, "--wait-k", "0"}, {"--wait-k", "'0'"}},
      {{"-s", two, "--waitk", "x"}, {"'x'"}},
      {{"-s", two, "--max-tokens", "0"}, {"--max-tokens"}},
      {{"-s", two, "--source-unit", "sentence"}, {"word, char, token", "sentence"}},
      {{"-s", two, "--format", "klingon"}, {"--format", "chatml", "klingon"}},
      {{"-s", two, "--format", "paper-gemma2-speech"}, {"--format", "paper-gemma2-speech", "audio"}},
      {{"-s", two, "--format", "llama3"}, {"--format", "llama3", "<|start_header_id|>"}},
      {{"-s", two, "--instruction", "x", "--target-language", "German"}, {"--instruction", "--target-language"}},
      {{"-s", two, "--target", (folder / "three").string()}, {"--target", "2", "3"}},
      {{"-s", "-", "--target", "-"}, {"standard input"}},
  };
  for (const auto& [arguments, parts] : cases) {
    std::string line;
    for (const auto& one : arguments) line += one + " ";
    CAPTURE(line);
    check_refused(run(translate(arguments)), 2, parts);
  }
}

TEST_CASE("translate: files that are not there end with 1") {
  const scratch_folder folder;
  write_text(folder / "some", "a\n");
  const std::string some = (folder / "some").string(), none = (folder / "none").string();
  check_refused(run(translate({"-s", none})), 1, {"none"});
  check_refused(run(translate({"-s", folder.path().string()})), 1, {"directory"});
  check_refused(run(translate({"-s", some, "--target", none})), 1, {"none"});
  check_refused(run(translate({"-s", some, "--output", some})), 1, {"--output", "some"});
  write_text(folder / "format.json", "{\"source_prefix\": \"no place\", \"target_prefix\": \"\"}");
  check_refused(run(translate({"-s", some, "--format", (folder / "format.json").string()})), 1,
                {"format.json", "{instruction}"});
}

TEST_CASE("every plan gives one line a sentence on standard output, and counts its rows on standard error") {
  // How often rows are computed follows from the plan alone; what is written, here, from the model alone.
  struct expectation {
    strings how;
    std::string rows;
  };
  const std::vector<expectation> cases{
      {{"--plan", "batch"}, "0 re-fed, 0 refreshed"},
      {{"--plan", "batch-grouped", "--phi", "3.25"}, "0 re-fed, 0 refreshed"},
      {{"--plan", "interleaved"}, "0 re-fed, 0 refreshed"},
      {{"--plan", "batch-streaming"}, "5 re-fed, 0 refreshed"},
      {{"--plan", "batch-streaming", "--reencode", "none"}, "5 re-fed, 0 refreshed"},
      {{"--plan", "batch-streaming", "--reencode", "positions"}, "5 re-fed, 0 refreshed"},
      {{"--plan", "batch-streaming", "--reencode", "all"}, "0 re-fed, 70 refreshed"},
      {{"--plan", "group-streaming"}, "5 re-fed, 0 refreshed"},
      {{"--plan", "group", "--phi", "0.5"}, "5 re-fed, 0 refreshed"},
      {{"--plan", "removed-both"}, "5 re-fed, 0 refreshed"},
  };
  for (const auto& one : cases) {
    const strings& how = one.how;
    const std::string& rows = one.rows;
    CAPTURE(how.back());
    const auto result = translated(how, "one two three four five six seven\n");
    CHECK(result.code == 0);
    if (how[1] != "interleaved") CHECK(result.out == counted + "\n");
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);
    CAPTURE(result.err);
    CHECK(result.err.find(rows) != std::string::npos);
    CHECK(result.err.find("sentences: 1; source words: 7;") != std::string::npos);
  }
}

TEST_CASE("the log has what SimulEval's has, and what computing took; its scores lie beside it") {
  const scratch_folder folder;
  write_text(folder / "source", "one two three four five\r\n\nx <|im_end|> y\n");
  write_text(folder / "target", "eins zwei\nnichts\n\n");
  const auto to = folder / "deep" / "results";
  const auto result = run(translate({"-s", (folder / "source").string(), "--target", (folder / "target").string(), "-k",
                                     "2", "--output", to.string()}));
  CHECK(result.code == 0);
  CHECK(result.out == counted + "\n\n" + counted + "\n");
  CHECK(read_text(to / "config.yaml").find("policy: \"wait-2\"") != std::string::npos);
  const auto log = read_log(to);
  REQUIRE(log.size() == 3);
  const auto& first = log[0];
  CHECK(first["index"] == 0);
  CHECK(first["prediction"] == counted);
  CHECK(first["delays"] == nlohmann::json{2, 3, 4, 5, 5});
  CHECK(first["prediction_length"] == 5);
  CHECK(first["elapsed"].size() == 5);
  CHECK(std::is_sorted(first["elapsed"].begin(), first["elapsed"].end()));
  CHECK(first["reference"] == "eins zwei");
  CHECK(first["source"] == "one two three four five");
  CHECK(first["source_length"] == 5);
  CHECK(first["computed_ms"].size() == 5);
  CHECK(first["computed_total_ms"] >= first["computed_ms"][4]);
  CHECK(std::is_sorted(first["computed_ms"].begin(), first["computed_ms"].end()));
  CHECK(first["rows"]["refed"] == 4);
  CHECK(first["rows"]["refreshed"] == 0);
  CHECK(first.size() == 11);
  CHECK(log[1]["prediction"] == "");
  CHECK(log[1]["delays"] == nlohmann::json::array());
  CHECK(log[1]["source_length"] == 0);
  CHECK(log[1]["reference"] == "nichts");
  CHECK(log[2]["source"] == "x <|im_end|> y");
  CHECK(log[2]["source_length"] == 3);
  const auto table = read_text(to / "scores.tsv");
  CHECK(table.starts_with("BLEU\tLAAL\tLAAL_CA\tAL\tAL_CA\tAP\tAP_CA\tDAL\tDAL_CA\n"));
  const auto scored = nlohmann::json::parse(run({"score", "-i", to.string()}).out);
  const double laal = scored["LAAL"];
  CHECK(std::abs(std::stod(table.substr(table.find('\t', table.find('\n')) + 1)) - laal) <= 0.0005 + 1e-12);
  CHECK(scored["rows_again"] == 4 + log[2]["rows"]["refed"].get<int>());
}

TEST_CASE("scores without references are latencies; units other than words have no pace of their own") {
  const scratch_folder folder;
  const auto table = [&](strings more) {
    more.insert(more.end(), {"--output", folder.path().string()});
    CHECK(translated(more, "one two three\n").code == 0);
    const auto text = read_text(folder / "scores.tsv");
    CHECK(std::count(text.begin(), text.end(), '\n') == 2);
    return text.substr(0, text.find('\n'));
  };
  CHECK(table({}) == "LAAL\tLAAL_CA\tAL\tAL_CA\tAP\tAP_CA\tDAL\tDAL_CA");
  CHECK(table({"--source-unit-ms", "0"}) == "LAAL\tAL\tAP\tDAL");
  CHECK(table({"--source-unit", "char"}) == "LAAL\tAL\tAP\tDAL");
  CHECK(table({"--source-unit", "char", "--source-unit-ms", "50"}).find("AL_CA") != std::string::npos);
  CHECK(translated({"--output", folder.path().string()}, "").code == 0);
  CHECK(read_text(folder / "scores.tsv").ends_with("\n\t\t\t\t\t\t\t\n"));
}

/// The log's lines without what differs from run to run.
std::vector<nlohmann::json> timeless_log(const std::filesystem::path& folder) {
  auto lines = read_log(folder);
  for (auto& line : lines) {
    for (const char* key : {"elapsed", "computed_ms", "computed_total_ms"}) line.erase(key);
  }
  return lines;
}

TEST_CASE("an interrupted run is resumed: what the log has is not translated again, a torn line is dropped") {
  const scratch_folder folder;
  write_text(folder / "source", "one two three\n\nfour five\r\nsix\nseven eight nine ten\n");
  write_text(folder / "target", "eins\n\nzwei drei\nvier\n5\n");
  const auto source = (folder / "source").string(), target = (folder / "target").string();
  const auto go = [&](const std::string& to, strings more = {}) {
    strings all{"-s", source, "--target", target, "-k", "2", "--output", to};
    all.insert(all.end(), more.begin(), more.end());
    return run(translate(all));
  };
  const auto whole = folder / "whole", part = folder / "part";
  const auto expected = go(whole.string());
  REQUIRE(expected.code == 0);
  const auto log = read_text(whole / "instances.log");
  std::vector<std::size_t> cuts{0, 1, log.size() - 1, log.size()};
  for (std::size_t at = log.find('\n'); at != std::string::npos; at = log.find('\n', at + 1)) {
    for (const std::size_t cut : {at - 40, at, at + 1, at + 9}) {
      if (cut <= log.size()) cuts.push_back(cut);
    }
  }
  for (const std::size_t cut : cuts) {
    CAPTURE(cut);
    std::filesystem::create_directories(part);
    std::filesystem::copy_file(whole / "config.yaml", part / "config.yaml",
                               std::filesystem::copy_options::overwrite_existing);
    write_text(part / "instances.log", log.substr(0, cut));
    write_text(part / "scores.tsv", "stale");
    const auto found = go(part.string(), {"--resume", "--threads", "2"});
    CHECK(found.code == 0);
    CHECK(found.out == expected.out);
    CHECK(timeless_log(part) == timeless_log(whole));
    // Lines that were whole keep even their times; one that lacked but its line feed was whole.
    const auto kept = log.substr(
        0, log.rfind('\n', cut == 0 ? 0 : cut - 1) == std::string::npos || cut == 0 ? 0 : log.rfind('\n', cut - 1) + 1);
    CHECK(read_text(part / "instances.log").starts_with(kept));
    CHECK(read_text(part / "scores.tsv").starts_with("BLEU"));
    const auto lines = std::count(kept.begin(), kept.end(), '\n') + (cut < log.size() && log[cut] == '\n' ? 1 : 0);
    const bool said = found.err.find("from the log: " + std::to_string(lines)) != std::string::npos;
    CHECK(said == (lines > 0));
  }
}

TEST_CASE("resuming where there is nothing begins anew; without it a log is replaced") {
  const scratch_folder folder;
  const auto to = (folder / "new").string();
  CHECK(translated({"--output", to, "--resume"}, "a b\n").code == 0);
  CHECK(read_log(to).size() == 1);
  CHECK(translated({"--output", to}, "c\nd\n").code == 0);
  CHECK(read_log(to)[0]["source"] == "c");
  const auto more = translated({"--output", to, "--resume"}, "c\nd\ne\n");
  CHECK(more.code == 0);
  CHECK(more.out == counted + "\n" + counted + "\n" + counted + "\n");
  CHECK(read_log(to).size() == 3);
}

TEST_CASE("a run is resumed only as it was begun") {
  const scratch_folder folder;
  const auto to = (folder / "to").string();
  write_text(folder / "source", "a b\nc d\n");
  write_text(folder / "target", "x\ny\n");
  const auto source = (folder / "source").string(), target = (folder / "target").string();
  const auto go = [&](strings more) {
    strings all{"-s", source, "--target", target, "--output", to};
    all.insert(all.end(), more.begin(), more.end());
    return run(translate(all));
  };
  REQUIRE(go({}).code == 0);
  const auto log = read_text(folder / "to/instances.log"), settings = read_text(folder / "to/config.yaml");
  check_refused(go({"--resume", "-k", "5"}), 2, {"--resume", "config.yaml", "policy", "wait-3", "wait-5"});
  check_refused(go({"--resume", "--plan", "batch"}), 2, {"plan"});
  check_refused(go({"--resume", "--instruction", "Go"}), 2, {"instruction"});
  check_refused(go({"--resume", "--seed", "5"}), 2, {"seed"});
  check_refused(go({"--resume", "--top-k", "5"}), 2, {"top_k"});
  check_refused(go({"--resume", "--max-word-tokens", "5"}), 2, {"max_word_tokens", "50", "5"});
  check_refused(go({"--resume", "--early-end", "stop"}), 2, {"early_end", "read", "stop"});
  check_refused(go({"--resume", "--punctuation-reads"}), 2, {"punctuation_reads"});
  check_refused(go({"--resume", "--context", "100"}), 2, {"context", "100"});
  write_text(folder / "source", "a b\nother\n");
  const auto other = go({"--resume"});
  CHECK(other.code == 2);
  CHECK(other.err.find("line 2: instances.log has another source") != std::string::npos);
  write_text(folder / "source", "a b\nc d\n");
  write_text(folder / "target", "x\nother\n");
  const auto reference = go({"--resume"});
  CHECK(reference.code == 2);
  CHECK(reference.err.find("line 2: instances.log has another reference") != std::string::npos);
  write_text(folder / "source", "a b\n");
  write_text(folder / "target", "x\n");
  check_refused(go({"--resume"}), 2, {"--resume", "index 1", "1 lines"});
  CHECK(read_text(folder / "to/instances.log") == log);
  CHECK(read_text(folder / "to/config.yaml") == settings);
  write_text(folder / "source", "a b\nc d\n");
  write_text(folder / "target", "x\ny\n");
  write_text(folder / "to/config.yaml", "source_type: text\ntarget_type: text\n");  // what SimulEval leaves there
  CHECK(go({"--resume"}).code == 0);
  CHECK(go({"--resume", "--skip-long", "--source-unit-ms", "300"}).code == 0);  // of lines to come, and of scores
  write_text(folder / "to/instances.log", "nonsense\n" + log);
  check_refused(go({"--resume"}), 1, {"instances.log", "line 1"});
  CHECK(read_text(folder / "to/instances.log") == "nonsense\n" + log);
  check_refused(run(translate({"-s", source, "--resume"})), 2, {"--resume", "--output"});
}

TEST_CASE("a run is not resumed with another model of the same name") {
  const scratch_folder folder;
  const auto one = folder / "one" / "model.gguf", other = folder / "other" / "model.gguf";
  std::filesystem::create_directories(one.parent_path());
  std::filesystem::create_directories(other.parent_path());
  std::filesystem::copy_file(tiny_model(), one);
  REQUIRE(run({"quantize", "-m", tiny_model(), "-o", other.string(), "--type", "f16"}).code == 0);
  write_text(folder / "source", "a b\nc d\n");
  const auto go = [&](const std::filesystem::path& model) {
    return run({"translate", "-m", model.string(), "-s", (folder / "source").string(), "--output",
                (folder / "to").string(), "--resume"});
  };
  REQUIRE(go(one).code == 0);
  CHECK(go(one).code == 0);
  check_refused(go(other), 2, {"--resume", "weights"});
}

TEST_CASE("wait-k decides how much is read first, under each of its names") {
  const scratch_folder folder;
  for (const char* name : {"-k", "--wait-k", "--waitk", "--wait_k"}) {
    for (const int k : {1, 4, 7, 100}) {
      CAPTURE(name);
      CAPTURE(k);
      const auto to = (folder / "out").string();
      CHECK(translated({name, std::to_string(k), "--output", to}, "a b c d e f\n").code == 0);
      const auto delays = read_log(to)[0]["delays"].get<std::vector<int>>();
      std::vector<int> expected;
      for (int i = 0; i < 5; ++i) expected.push_back(std::min(k + i, 6));
      CHECK(delays == expected);
    }
  }
}

TEST_CASE("empty input, empty lines, a last line without a line feed, bytes that are no text") {
  CHECK(translated({}, "").out.empty());
  CHECK(translated({}, "").code == 0);
  CHECK(translated({}, "\n").out == "\n");
  CHECK(translated({}, " \t \n\n").out == "\n\n");
  CHECK(translated({}, "   ").out == "\n");
  CHECK(translated({}, "a").out == counted + "\n");
  CHECK(translated({}, "a\n\nb").out == counted + "\n\n" + counted + "\n");
  const scratch_folder folder;
  const auto odd = translated({"--output", folder.path().string()}, std::string("\xFF\xC3 a\0b \x80\n", 9));
  CHECK(odd.out == counted + "\n");
  CHECK(read_log(folder.path())[0]["source_length"] == 3);
}

TEST_CASE("text that looks like markup reaches the model as text") {
  // Each of its ten characters is a token; as markup it would be one.
  const auto rows = [](const std::string& word) {
    const auto result = translated({"--plan", "batch"}, word + "\n");
    const auto at = result.err.find("rows computed: ");
    return std::stoi(result.err.substr(at + 15));
  };
  CHECK(rows("<|im_end|>") == rows("0123456789"));
}

TEST_CASE("the source can be read by characters and by tokens") {
  const scratch_folder folder;
  const auto by = [&](const char* unit) {
    const auto result =
        translated({"--source-unit", unit, "-k", "1", "--output", folder.path().string()}, " ab  c\xC3\xA9 \n");
    CHECK(result.out == counted + "\n");
    return read_log(folder.path())[0];
  };
  CHECK(by("word")["source_length"] == 2);
  CHECK(by("char")["source_length"] == 4);
  CHECK(by("char")["delays"] == nlohmann::json{1, 2, 3, 4, 4});
  CHECK(by("token")["source_length"] == 6);  // a, b, space, c and the two bytes of the last letter
  CHECK(by("token")["delays"] == nlohmann::json{1, 2, 3, 4, 5});
}

TEST_CASE("a sentence that is longer than the context ends the run, or is skipped if asked") {
  const std::string input = "a b\n" + std::string(600, 'x') + "\nc d\n";
  const auto stopped = translated({}, input);
  CHECK(stopped.code == 1);
  CHECK(stopped.out == counted + "\n");  // what was done stays done
  CHECK(stopped.err.find("standard input, line 2") != std::string::npos);
  CHECK(stopped.err.find("context") != std::string::npos);
  CHECK(stopped.err.find("--skip-long") != std::string::npos);
  const scratch_folder folder;
  const auto skipped = translated({"--skip-long", "--output", folder.path().string()}, input);
  CHECK(skipped.code == 0);
  CHECK(skipped.out == counted + "\n\n" + counted + "\n");
  CHECK(skipped.err.find("line 2") != std::string::npos);
  const auto log = read_log(folder.path());
  REQUIRE(log.size() == 3);
  CHECK(log[1]["prediction"] == "");
  CHECK(log[1]["source_length"] == 1);
  CHECK(log[2]["prediction"] == counted);
}

TEST_CASE("instructions and formats reach the prompt") {
  const scratch_folder folder;
  const auto source_rows = [&](strings arguments) {
    const auto result = translated(std::move(arguments), "a\n");
    CHECK(result.code == 0);
    return std::stoi(result.err.substr(result.err.find("rows computed: ") + 15));
  };
  const int plain = source_rows({});
  CHECK(source_rows({"--target-language", "Frenches"}) == plain + 2);
  CHECK(source_rows({"--source-language", ""}) == plain - 7);
  CHECK(source_rows({"--instruction", "Go"}) == plain - 49);
  CHECK(source_rows({"--format", "chatml"}) == plain);
  CHECK(source_rows({"--format", "plain"}) < plain);
  write_text(folder / "mine.json", R"({"source_prefix": "{instruction}:", "target_prefix": "\n"})");
  CHECK(source_rows({"--format", (folder / "mine.json").string(), "--instruction", "Go"}) == 4);
  // A model of a few languages has an instruction for each.
  write_text(folder / "two.json", R"({"source_prefix": "{instruction}", "target_prefix": "\n", "languages": [
      {"code": "de", "instruction": "in German"}, {"code": "fr", "instruction": "in French, please"}]})");
  const std::string two = (folder / "two.json").string();
  CHECK(source_rows({"--format", two}) == 10);
  CHECK(source_rows({"--format", two, "--target-language", "de"}) == 10);
  CHECK(source_rows({"--format", two, "--target-language", "fr"}) == 18);
  const auto unknown = translated({"--format", two, "--target-language", "Frenches"}, "a\n");
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("expected one of de, fr; found 'Frenches'") != std::string::npos);
}

TEST_CASE("a model that comes along is known by its name") {
  const scratch_folder folder;
  const std::string named = (folder / "little").string();
  REQUIRE(run({"quantize", "-m", tiny_model(), "--out", named, "--type", "f32"}).code == 0);
  ::setenv("RUNNEL_MODELS", folder.path().c_str(), 1);
  const auto found = run({"inspect", "-m", "little"});
  CHECK(found.code == 0);
  for (const char* strange : {"big", "../little", "little/config.json"}) {
    CHECK(run({"inspect", "-m", strange}).code == 1);
  }
  CHECK(run({"inspect", "-m", "big"}).err.find("the name of one in " + folder.path().string()) != std::string::npos);
  ::unsetenv("RUNNEL_MODELS");
}

TEST_CASE("the translator that comes along writes German and French while it reads") {
  const scratch_folder folder;
  const std::string source = (folder / "source").string();
  write_text(source, "A man in a red shirt is playing the guitar.\n");
  const auto into = [&](const char* language) {
    const auto said = run({"translate", "-m", "demo", "--target-language", language, "--source", source, "-k", "3",
                           "--compute", "f32", "-t", "1", "--output", (folder / language).string()});
    CAPTURE(said.err);
    CHECK(said.code == 0);
    return said.out;
  };
  for (const char* word : {"Mann", "rote", "Gitarre"}) CHECK(into("de").find(word) != std::string::npos);
  for (const char* word : {"homme", "rouge", "guitare"}) CHECK(into("fr").find(word) != std::string::npos);
  const auto scores = run({"score", "-i", (folder / "de").string()}).out;
  CHECK(scores.find("\"words_while_reading\":0.0") == std::string::npos);
}

TEST_CASE("sentences from a pipe are answered while the pipe is open") {
  process one(translate({"--source", "-"}));
  one.write("a b");
  one.write(" c\n");
  CHECK(one.wait_for(counted + "\n"));
  one.write("d e f");
  one.close_input();
  CHECK(one.finish().out == counted + "\n" + counted + "\n");
}

TEST_CASE("how a sentence arrives makes no difference") {
  const std::string sentence = "one tw\xC3\xB6 three four five six\n";
  const auto whole = translated({}, sentence);
  process one(translate({"--source", "-"}));
  for (const char byte : sentence) one.write(std::string_view(&byte, 1));
  one.close_input();
  const auto pieces = one.finish();
  CHECK(pieces.out == whole.out);
  const auto rows = [](const outcome& result) {
    const auto at = result.err.find("rows computed");
    return result.err.substr(at, result.err.find("passes") - at);
  };
  CHECK(rows(pieces) == rows(whole));
}

TEST_CASE("a terminal shows reads and writes as they happen, before the sentence has ended") {
  process one(translate({"--source", "-", "-k", "2"}), process::screen::yes);
  one.write("alpha ");
  CHECK(one.wait_for("alpha"));
  CHECK(one.so_far().out.find("Eins") == std::string::npos);
  one.write("beta ");
  CHECK(one.wait_for("Eins"));
  CHECK(one.so_far().out.find("zwei") == std::string::npos);
  one.write("gamma ");
  CHECK(one.wait_for("zwei"));
  one.write("delta\n");
  CHECK(one.wait_for("= " + counted));
  one.close_input();
  const auto result = one.finish();
  CHECK(result.code == 0);
  const auto& shown = result.out;
  CHECK(shown.find("1: \x1b[2malpha beta\x1b[0m Eins \x1b[2mgamma\x1b[0m zwei") == 0);
  for (const char* moves : {"\x1b[A", "\x1b[H", "\x1b[K", "\x1b[J"}) CHECK(shown.find(moves) == std::string::npos);
}

TEST_CASE("text cannot steer the terminal") {
  process one(translate({"--source", "-"}), process::screen::yes);
  one.write(
      "a\x1b[31mb \xC2\x9B"
      "31m\n");
  one.close_input();
  const auto shown = one.finish().out;
  CHECK(shown.find("a [31mb") != std::string::npos);
  CHECK(shown.find("\x1b[31m") == std::string::npos);
  CHECK(shown.find("\xC2\x9B") == std::string::npos);
}

TEST_CASE("Ctrl-C ends with 130, whole lines, and a summary") {
  const scratch_folder folder;
  process one(translate({"--source", "-", "--output", folder.path().string()}));
  one.write("a b\nc d");
  CHECK(one.wait_for(counted + "\n"));
  one.send(SIGINT);
  const auto result = one.finish();
  CHECK(result.code == 130);
  CHECK(result.out == counted + "\n");
  CHECK(result.err.find("sentences: 1;") != std::string::npos);
  CHECK(result.err.ends_with("runnel: interrupted\n"));
  CHECK(read_log(folder.path()).size() == 1);
}

TEST_CASE("SIGTERM ends with 143") {
  process one(translate({"--source", "-"}));
  one.write("a b\n");
  CHECK(one.wait_for(counted + "\n"));
  one.send(SIGTERM);
  CHECK(one.finish().code == 143);
}

TEST_CASE("a reader that goes away ends the run in silence") {
  process one(translate({"--source", "-"}));
  one.write("a b\n");
  CHECK(one.wait_for(counted + "\n"));
  one.close_output();
  one.write("c d\n");
  const auto result = one.finish();
  CHECK(result.code == 0);
  CHECK(result.err.empty());
}

}  // namespace
