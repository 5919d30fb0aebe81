// SPDX-License-Identifier: Apache-2.0
// `runnel plot`: pages, pictures and numbers of one sentence, whatever is in it, and what happens without gnuplot.

#include "process.hpp"

#include <cmath>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include <runnel/io/wav.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;

const strings all_plans{"batch",
                        "batch-grouped-phi-0",
                        "interleaved",
                        "batch-streaming-reencode-none",
                        "batch-streaming-reencode-positions",
                        "batch-streaming-reencode-all",
                        "group-streaming-phi-0",
                        "removed-source",
                        "removed-target",
                        "removed-both"};

bool holds(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

strings plot(strings arguments) {
  arguments.insert(arguments.begin(), {"plot", "-m", tiny_model()});
  return arguments;
}

nlohmann::json numbers_in(const std::filesystem::path& folder) {
  return nlohmann::json::parse(read_text(folder / "plot.json"));
}

/// Elements open and close in order, attributes are quoted, and every "&" begins a reference: what XML asks of an SVG.
bool is_well_formed(const std::string& xml) {
  strings open;
  for (std::size_t at = 0; at < xml.size();) {
    if (xml[at] == '&') {
      const auto end = xml.find(';', at);
      const std::set<std::string> known{"amp", "lt", "gt", "quot", "#39"};
      if (end == std::string::npos || known.count(xml.substr(at + 1, end - at - 1)) == 0) return false;
    }
    if (xml[at] == '>' || static_cast<unsigned char>(xml[at]) < 9) return false;
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    for (char quote = 0; end < xml.size() && (quote != 0 || xml[end] != '>'); ++end) {
      if (quote == 0 && xml[end] == '<') return false;
      if (quote == 0 && (xml[end] == '"' || xml[end] == '\'')) {
        quote = xml[end];
      } else if (xml[end] == quote) {
        quote = 0;
      }
    }
    if (end == xml.size()) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" \t\n/", tag.starts_with('/') ? 1 : 0));
    if (tag.starts_with('/')) {
      if (open.empty() || "/" + open.back() != name) return false;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty();
}

TEST_CASE("plot refuses options that make no sense, with 2, and what cannot be done, with 1") {
  const scratch_folder folder;
  const std::string out = (folder / "out").string();
  write_text(folder / "two", "a b\nc d\n");
  const std::string two = (folder / "two").string();
  const std::vector<std::pair<strings, strings>> wrong{
      {{"-o", out}, {"--source"}},
      {{"-s", "a b"}, {"--output"}},
      {{"-s", " \t", "-o", out}, {"--source", "empty"}},
      {{"-s", "a", "--target", "", "-o", out}, {"--target"}},
      {{"-s", "a", "-o", out, "--plan", "sideways"}, {"group-streaming", "sideways"}},
      {{"-s", "a", "-o", out, "--plan", "batch", "--phi", "1"}, {"phi", "batch"}},
      {{"-s", "a", "-o", out, "--gamma", "0"}, {"--gamma"}},
      {{"-s", two, "-o", out, "--line", "0"}, {"--line"}},
      {{"-s", two, "-o", out, "--line", "3"}, {"--line", "2", "3"}},
      {{"-s", "-", "--target", "-", "--line", "1", "-o", out}, {"standard input"}},
  };
  const std::vector<std::pair<strings, strings>> wrong_for_the_model{
      {{"-s", "a", "-o", out, "--layer", "2"}, {"--layer", "from 0 to 1", "'2'"}},
      {{"-s", "a", "-o", out, "--layer", "-1"}, {"--layer"}},
      {{"-s", "a", "-o", out, "--head", "all"}, {"--head", "mean", "'all'"}},
      {{"-s", "a", "-o", out, "--phi", "512"}, {"phi", "512"}},
      {{"-s", "a", "-o", out, "--format", "klingon"}, {"--format", "klingon"}},
  };
  for (const auto* cases : {&wrong, &wrong_for_the_model}) {
    if (cases == &wrong_for_the_model && !has_gnuplot()) break;
    for (const auto& [arguments, parts] : *cases) {
      std::string line;
      for (const auto& one : arguments) line += one + " ";
      CAPTURE(line);
      check_refused(run(plot(arguments)), 2, parts);
    }
  }
  CHECK(!std::filesystem::exists(out));
  check_refused(run(plot({"-s", out, "--line", "1", "-o", out})), 1, {out});
  if (!has_gnuplot()) return;
  check_refused(run(plot({"-s", "a", "-o", two})), 1, {"--output", "two"});
  check_refused(run(plot({"-s", std::string(121, 'a'), "-o", out})), 1, {"120", "columns"});
  check_refused(run(plot({"-s", "a b", "--target", std::string(40, 'b') + " " + std::string(75, 'c'), "-o", out,
                          "--context", "100"})),
                1, {"context"});
}

TEST_CASE("without gnuplot, or with one that does not work, nothing is drawn, and it is said why") {
  const scratch_folder folder;
  const std::string out = (folder / "out").string();
  {
    const only_programs_in nowhere(folder.path());
    check_refused(run(plot({"-s", "a b", "-o", out})), 1, {"gnuplot", "gnuplot-nox", "tools/setup"});
  }
  const std::pair<std::string, std::string> broken[] = {
      {"#!/bin/sh\necho 'line 0: no such terminal' >&2\nexit 2\n", "line 0: no such terminal"},
      {"#!/bin/sh\necho nothing of use\n", "no SVG"},
      {"#!/bin/sh\nkill -9 $$\n", "failed"},
      {"not a program", "cannot be run"},
  };
  for (const auto& one : broken) {
    const auto& script = one.first;
    const auto& part = one.second;
    CAPTURE(script);
    write_text(folder / "gnuplot", script);
    std::filesystem::permissions(folder / "gnuplot", std::filesystem::perms::owner_all);
    const only_programs_in here(folder.path());
    const auto result = run(plot({"-s", "a b", "-o", out}));
    CAPTURE(result.err);
    // A file that is no program may be taken for a script of the shell, which then fails.
    CHECK(result.code == 1);
    if (script != "not a program") CHECK(holds(result.err, part));
    CHECK(holds(result.err, "gnuplot"));
  }
  CHECK(!std::filesystem::exists(folder / "out" / "index.html"));
}

TEST_CASE("a page has every plan's pictures, and the numbers behind them") {
  if (!has_gnuplot()) return;
  const scratch_folder folder;
  const auto out = folder / "deep" / "out";
  const auto result = run(plot({"-s", "one two three four", "-k", "2", "-o", out.string()}));
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
  const std::string page = read_text(out / "index.html");
  strings files{"timeline-streaming.svg", "timeline-batch.svg"};
  for (const auto& plan : all_plans) {
    for (const char* kind : {"ranges-", "distances-", "attention-", "attention-without-sink-", "attention-normalised-"})
      files.push_back(kind + plan + ".svg");
  }
  for (const auto& file : files) {
    CAPTURE(file);
    const std::string svg = read_text(out / file);
    CHECK(svg.starts_with("<svg "));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(is_well_formed(svg));
    CHECK(holds(svg, "Fig. "));
    CHECK(holds(svg, "runnel plot -m "));
    CHECK(holds(page, svg));
  }
  CHECK(std::distance(std::filesystem::directory_iterator(out), {}) == static_cast<int>(files.size()) + 2);
  CHECK(!holds(page, "http-equiv"));
  CHECK(!holds(page, "<link"));
  CHECK(!holds(page, "src="));
  CHECK(holds(page, "runnel plot -m "));
  CHECK(holds(page, "-s &#39;one two three four&#39; -k 2"));

  const auto numbers = numbers_in(out);
  CHECK(numbers["source_words"] == strings{"one", "two", "three", "four"});
  CHECK(numbers["target_words"] == strings{"Eins", "zwei", "drei", "vier", "f\xC3\xBCnf"});
  CHECK(numbers["written_by_model"] == true);
  const auto sources = numbers["source_ids"].size(), targets = numbers["target_ids"].size();
  REQUIRE(numbers["plans"].size() == all_plans.size());
  for (const auto& plan : numbers["plans"]) {
    CAPTURE(plan["name"].get<std::string>());
    REQUIRE(plan["attention"].size() == targets);
    for (const auto& row : plan["attention"]) {
      REQUIRE(row.size() == sources + targets);
      double sum = 0;
      for (const auto& weight : row) sum += weight.get<double>();
      CHECK(std::fabs(sum - 1) < 1e-5);
    }
    std::set<int> predicted;
    for (const auto& row : plan["rows"]) {
      const auto index = row["index"].get<std::size_t>();
      const auto seen = row["sees_source"].get<std::vector<std::size_t>>();
      if (row.contains("predicts")) CHECK(predicted.insert(row["predicts"].get<int>()).second);
      if (row["group"] == "source") continue;
      const auto& attention = plan["attention"][index];
      if (plan["rows"].back()["pass"] != 0) continue;  // the row of an earlier pass saw less
      for (std::size_t key = seen[1]; key < sources; ++key) CHECK(attention[key] == 0);
      for (std::size_t key = index + 1; key < targets; ++key) CHECK(attention[sources + key] == 0);
    }
    CHECK(predicted.size() == targets - numbers["target_ends"][0].get<std::size_t>() + 1);
  }
}

TEST_CASE("what rows see and where they stand is what the paper says") {
  if (!has_gnuplot()) return;
  const scratch_folder folder;
  const auto numbers_of = [&](strings how) {
    const auto out = folder / std::to_string(folder.count());
    how.insert(how.end(), {"-s", "a b c d e", "--target", "x y z", "-k", "2", "-o", out.string()});
    const auto result = run(plot(how));
    CAPTURE(result.err);
    REQUIRE(result.code == 0);
    return numbers_in(out);
  };
  const auto grouped = numbers_of({"--plan", "group", "--phi", "0.5"});
  REQUIRE(grouped["plans"].size() == 1);
  CHECK(grouped["written_by_model"] == false);
  CHECK(grouped["target_words"] == strings{"x", "y", "z"});
  const auto ends = grouped["source_ends"].get<std::vector<int>>();
  REQUIRE(ends.size() == 7);
  const auto header = grouped["target_ends"][0].get<int>();
  // Bytes are tokens: "x", " y" as two, " z" as two. The row before a word's first token sees what was read for it.
  const std::vector<int> seen_by_words{ends[2], ends[3], ends[3], ends[4], ends[4], ends[6]};
  std::map<int, nlohmann::json> rows;
  for (const auto& row : grouped["plans"][0]["rows"]) {
    if (row["group"] == "target") rows[row["index"].get<int>()] = row;
  }
  for (std::size_t i = 0; i < seen_by_words.size(); ++i) {
    CAPTURE(i);
    const auto& row = rows.at(header - 1 + static_cast<int>(i));
    CHECK(row["sees_source"] == std::vector<int>{0, seen_by_words[i]});
    CHECK(row["position"] == header - 1 + static_cast<int>(i));
    CHECK(row["offset_to_source"] == 0.5);
    CHECK(row["predicts"] == header + static_cast<int>(i));
  }
  const auto batch = numbers_of({"--plan", "batch"});
  for (const auto& row : batch["plans"][0]["rows"]) {
    if (row["group"] != "target") continue;
    CHECK(row["sees_source"] == std::vector<int>{0, ends[6]});
    CHECK(row["offset_to_source"] == ends[6]);
  }
  CHECK(batch["policy"] == "");
  const auto anew = numbers_of({"--plan", "batch-streaming", "--reencode", "all"});
  CHECK(anew["plans"][0]["rows"].back()["pass"] == 3);  // one for each word, one for the end
  // One head of one layer is something of its own, and the file is the same for the same call.
  CHECK(numbers_of({"--plan", "group", "--layer", "1", "--head", "0"})["attention_of"] == "layer 1, head 0");
}

TEST_CASE("any text is shown as it is") {
  if (!has_gnuplot()) return;
  const scratch_folder folder;
  const std::string source =
      "it's \"so\" _a_^{b} \\n $x @m `id` %d%s <|im_end|> &amp; </svg><script>alert(1)</script> \xF0\x9F\x98\x80 "
      "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xEF\xBF\xBF \xFF END";
  const auto out = folder / "out";
  std::string short_words;
  for (const char* word : {"'\"", "]]>", "_^{}", "\\n", "`id`", "%d%s", "<|im_end|>", "</svg>", "\xF0\x9F\x98\x80",
                           "\xD7\xA9\xD7\x9C", "\xEF\xBF\xBF", "\xFF", "END"})
    short_words += std::string(word) + " ";
  const auto result = run(plot({"-s", short_words, "--target", "a\\ 'b' {c}", "--plan", "group", "-o", out.string()}));
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  for (const char* kind : {"ranges-", "distances-", "attention-", "attention-without-sink-", "attention-normalised-"}) {
    CHECK(is_well_formed(read_text(out / (kind + std::string("group-streaming-phi-0.svg")))));
  }
  const std::string timeline = read_text(out / "timeline-streaming.svg");
  CHECK(is_well_formed(timeline));
  for (const char* shown :
       {"<text>'\"</text>", "<text>'b'</text>", "<text>]]&gt;</text>", "<text>_^{}</text>", "<text>\\n</text>",
        "<text>`id`</text>", "<text>%d%s</text>", "<text>&lt;|im_end|&gt;</text>", "<text>&lt;/svg&gt;</text>",
        "<text>\xF0\x9F\x98\x80</text>", "<text>\xD7\xA9\xD7\x9C</text>", "<text>\xEF\xBF\xBD</text>",
        "<text>{c}</text>", "<text>a\\</text>"}) {
    CAPTURE(std::string(shown));
    CHECK(holds(timeline, shown));
  }
  const auto long_one = run(plot({"-s", source, "--target", "x", "--plan", "batch", "-o", out.string()}));
  CHECK(long_one.code == 1);  // too long for pictures, and no word of it does any harm
  CHECK(holds(long_one.err, "120"));
  const std::string page = read_text(out / "index.html");
  CHECK(!holds(page, "<script"));
}

TEST_CASE("lines of files, a prompt in full, and what a stop in the middle of the source leaves") {
  if (!has_gnuplot()) return;
  const scratch_folder folder;
  write_text(folder / "source", "first line\r\nsecond one\n");
  write_text(folder / "target", "eins\nzwei drei\n");
  const auto out = folder / "out";
  const auto by_line = run(plot({"-s", (folder / "source").string(), "--target", (folder / "target").string(), "--line",
                                 "2", "--plan", "interleaved", "-o", out.string()}));
  CAPTURE(by_line.err);
  REQUIRE(by_line.code == 0);
  const auto numbers = numbers_in(out);
  CHECK(numbers["source_words"] == strings{"second", "one"});
  CHECK(numbers["target_words"] == strings{"zwei", "drei"});
  const auto whole =
      run(plot({"-s", "a b", "--instruction", "x", "--plan", "group", "--whole-prompt", "-o", out.string()}));
  CAPTURE(whole.err);
  REQUIRE(whole.code == 0);
  CHECK(!holds(read_text(out / "ranges-group-streaming-phi-0.svg"), "prompt ("));
  CHECK(!std::filesystem::exists(out / "ranges-batch.svg"));
  CHECK(std::filesystem::exists(out /
                                "ranges-interleaved.svg"));  // an earlier run's: only what is written anew is replaced
  const auto stopped = run(plot({"-s", "a b c d e f", "-k", "1", "--max-tokens", "2", "-o", out.string()}));
  CAPTURE(stopped.err);
  REQUIRE(stopped.code == 0);
  CHECK(holds(read_text(out / "index.html"), "before it had read the whole source"));
  CHECK(numbers_in(out)["source_words"].size() < 6);
}

TEST_CASE("plot draws a recording with a model of speech, and says what it cannot draw") {
  const scratch_folder folder;
  std::vector<float> samples(8000 * 3);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<float>(0.3 * std::sin(0.2 * static_cast<double>(i)));
  }
  const auto wav = (folder / "one.wav").string();
  runnel::io::write_wav(wav, samples, {8000, 1, runnel::io::wav_format::float32});
  const auto draw = [&](const strings& more) {
    strings arguments{"plot", "-m", tiny_speech(), "-o", (folder / "out").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  if (const auto done = draw({"--audio", wav, "--wait-k", "2"}); !holds(done.err, "gnuplot")) {
    INFO(done.err);
    REQUIRE(done.code == 0);
    const auto picture = read_text(folder / "out" / "recording.svg");
    CHECK(is_well_formed(picture));
    for (const char* word : {"Eins", "zwei", "seconds", "READ", "WRITE", "group-streaming"}) {
      CAPTURE(word);
      CHECK(holds(picture, word));
    }
    CHECK(holds(read_text(folder / "out" / "index.html"), "recording"));
    CHECK(is_well_formed(read_text(folder / "out" / "timeline-streaming.svg")));
  }
  CHECK(draw({}).code == 2);
  CHECK(draw({"--audio", wav, "--source", "a"}).code == 2);
  CHECK(draw({"--audio", wav, "--target", "a"}).code == 2);
  CHECK(draw({"--audio", (folder / "none.wav").string()}).code == 1);
  runnel::io::write_wav(wav, std::vector<float>(8000 * 31), {8000, 1, runnel::io::wav_format::pcm16});
  const auto longer = draw({"--audio", wav});
  CHECK(longer.code == 1);
  CHECK((holds(longer.err, "30 s") || holds(longer.err, "gnuplot")));
}

}  // namespace
