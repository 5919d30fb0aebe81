// SPDX-License-Identifier: Apache-2.0
// A study as a user runs it: begun, stopped, gone on with, and reported.

#include "process.hpp"

#include <thread>

#include <nlohmann/json.hpp>

#include <runnel/core/rng.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;
using nlohmann::json;

/// A folder with text in two languages, the settings of a training, and a study of two plans.
class study_folder {
 public:
  study_folder() {
    std::string source, target;
    runnel::random_stream random(7);
    for (int i = 0; i < 40; ++i) {
      for (auto w = 1 + random.below(4); w > 0; --w) {
        const bool yes = random.below(2) == 0;
        source += yes ? "one " : "two ";
        target += yes ? "eins " : "zwei ";
      }
      source += '\n';
      target += '\n';
    }
    write_text(folder_ / "text.en", source);
    write_text(folder_ / "text.de", target);
    write_text(folder_ / "test.en", "one two one\ntwo\none one two two\n");
    write_text(folder_ / "test.de", "eins zwei eins\nzwei\neins eins zwei zwei\n");
    write_text(folder_ / "format.json",
               R"({"source_prefix": "{instruction}", "source_suffix": "<|im_end|>", "target_prefix": "<|im_start|>",
                   "target_suffix": "<|im_end|>", "languages": [{"code": "de", "instruction": "German"}]})");
    const json data =
        json::array({{{"instruction", "German"}, {"file", path("text.en")}, {"target_file", path("text.de")}}});
    const json training{{"output", path("unused")},
                        {"model",
                         {{"config",
                           {{"model_type", "llama"},
                            {"hidden_size", 16},
                            {"intermediate_size", 24},
                            {"num_hidden_layers", 1},
                            {"num_attention_heads", 2},
                            {"vocab_size", 264},
                            {"max_position_embeddings", 256},
                            {"tie_word_embeddings", true},
                            {"hidden_act", "silu"}}}}},
                        {"tokenizer", tiny_model()},
                        {"format", path("format.json")},
                        {"data", {{"train", data}, {"validation", data}}},
                        {"batch", {{"rows", 400}}},
                        {"steps", 4},
                        {"threads", 1},
                        {"schedule", {{"rate", 0.01}}},
                        {"validation", {{"every", 2}}},
                        {"result", {{"gguf", ""}}}};
    write_text(folder_ / "train.json", training.dump());
    write_text(folder_ / "study.json", study().dump());
  }

  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::string file(const std::string& name) const { return read_text(folder_ / name); }
  [[nodiscard]] bool has(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  [[nodiscard]] const scratch_folder& folder() const { return folder_; }

  [[nodiscard]] json study() const {
    const strings few{"--max-tokens", "12"};
    const auto model = [&](const char* name, const char* plan, json seeds) {
      strings translate{"--plan", plan};
      translate.insert(translate.end(), few.begin(), few.end());
      return json{{"name", name},
                  {"title", std::string("Plan <") + plan + ">"},
                  {"config", path("train.json")},
                  {"set", {std::string("plan.name=") + plan, "plan.k=1-2"}},
                  {"seeds", std::move(seeds)},
                  {"translate", translate},
                  {"waits", {1, 2}}};
    };
    const json measure{{"name", "fast"},
                       {"translate", {"-m", "{work}/group-s1/model", "--source", path("test.en"), "--max-tokens", "9"}},
                       {"waits", {1}}};
    const json prefill{{"name", "rows"},
                       {"bench", {"-m", "{work}/group-s1/model", "-t", "1", "-r", "1"}},
                       {"waits", {1}},
                       {"prefill", {12}}};
    return {
        {"title", "A study & its <report>"},
        {"text", {"What was asked."}},
        {"results", path("results")},
        {"work", path("work")},
        {"pairs", {{{"name", "en-de"}, {"language", "de"}, {"source", path("test.en")}, {"target", path("test.de")}}}},
        {"models", {model("group", "group-streaming", {1, 2}), model("interleaved", "interleaved", {1})}},
        {"measures", {measure, prefill}},
        {"rounds", 2},
        {"claims",
         {{{"text", "More <context>"},
           {"paper", "+1"},
           {"model", "group"},
           {"against", "interleaved"},
           {"better", true}},
          {{"text", "Equal"}, {"paper", "0"}, {"model", "group"}, {"against", "interleaved"}, {"within", 0.5}},
          {{"text", "No gain"}, {"paper", "0"}, {"model", "group"}, {"against", "interleaved"}, {"gains_at_most", 0.5}},
          {{"text", "No loss"}, {"paper", "0"}, {"model", "group"}, {"against", "interleaved"}, {"loses_at_most", 0}}}},
        {"tables", {{{"title", "Table 1"}, {"models", {"group", "interleaved"}}, {"against", "interleaved"}}}},
        {"figures", {{{"name", "curve"}, {"title", "Figure 4"}, {"models", {"group", "interleaved"}}}}},
        {"efficiency",
         {{{"title", "Efficiency"}, {"measures", {"fast", "rows"}}, {"against", "fast"}, {"prefill", "rows"}}}}};
  }

  [[nodiscard]] outcome run_study(const strings& more = {}) const {
    strings command{"study", path("study.json"), "-t", "1"};
    command.insert(command.end(), more.begin(), more.end());
    return run(command);
  }

 private:
  scratch_folder folder_;
};

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a study trains, translates, and reports; what is there is not done again") {
  const study_folder at;
  const auto before = at.run_study({"--list"});
  CHECK(before.code == 0);
  CHECK(before.out ==
        "group-s1\tnot trained\t0 of 2 evaluations\ninterleaved-s1\tnot trained\t0 of 2 evaluations\n"
        "group-s2\tnot trained\t0 of 2 evaluations\nfast\ttrained\t0 of 1 evaluations\n"
        "rows\ttrained\t0 of 1 evaluations\n");
  CHECK_FALSE(at.has("results"));

  const auto first = at.run_study({"--only", "group-s1"});
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  const auto partial = at.file("results/index.html");
  CHECK(holds(partial, "1 of 5 results are there"));
  CHECK_FALSE(at.has("results/group-s2.json"));

  const auto rest = at.run_study();
  CAPTURE(rest.err);
  REQUIRE(rest.code == 0);
  CHECK_FALSE(holds(rest.err, "group-s1,"));
  const auto result = json::parse(at.file("results/group-s2.json"));
  CHECK(result["training"]["steps"] == 4);
  CHECK(result["training"]["validation_loss"].get<double>() > 0);
  REQUIRE(result["evaluations"].size() == 2);
  const auto& one = result["evaluations"][1];
  CHECK(one["pair"] == "en-de");
  CHECK(one["wait"] == 2);
  CHECK(one["rows"]["source"].get<int>() > 0);
  CHECK(one["scores"].contains("BLEU"));
  CHECK(one["scores"].contains("LAAL_CA"));
  CHECK(holds(one["command"].get<std::string>(), "-k 2 --target-language de"));
  const auto timed = json::parse(at.file("results/fast.json"))["evaluations"][0];
  REQUIRE(timed["samples_s"].size() == 2);
  const double sum = timed["samples_s"][0].get<double>() + timed["samples_s"][1].get<double>();
  CHECK(timed["computed_s"].get<double>() == doctest::Approx(sum / 2));
  const auto pass = json::parse(at.file("results/rows.json"))["evaluations"][0];
  CHECK(pass["rows"] == json{{"source", 12}, {"passes", 1}});
  CHECK(pass["computed_s"].get<double>() > 0);
  CHECK(holds(pass["command"].get<std::string>(), "-p 12 -n 0 -d 0 -o json"));
  const auto report = at.file("results/index.html");
  for (const char* part :
       {"A study &amp; its &lt;report&gt;", "What was asked.", "Plan &lt;group-streaming&gt;", "k = 1",
        "BLEU less that of Plan &lt;interleaved&gt;", "4 steps", "rows/s", "More &lt;context&gt;", "of bench's"}) {
    CAPTURE(std::string(part));
    CHECK(holds(report, part));
  }
  CHECK_FALSE(holds(report, "results are there"));

  // A clone has the results, not what they were made from.
  std::filesystem::remove_all(at.folder() / "work");
  const auto again = at.run_study();
  CHECK(again.code == 0);
  CHECK_FALSE(at.has("work"));
  CHECK(at.file("results/index.html") == report);
  // Commands are there to be copied: each has a line of its own.
  const auto block = report.find("<pre>");
  REQUIRE(block != std::string::npos);
  const std::string commands = report.substr(block, report.find("</pre>", block) - block);
  const auto count_of = [&](std::string_view what) {
    std::size_t found = 0;
    for (auto i = commands.find(what); i != std::string::npos; i = commands.find(what, i + 1)) ++found;
    return found;
  };
  CHECK(count_of("runnel ") > 1);
  CHECK(count_of("\n") == count_of("runnel "));
}

TEST_CASE("a study that has changed does anew what it concerns, and nothing else") {
  const study_folder at;
  REQUIRE(at.run_study({"--only", "-s1"}).code == 0);
  auto study = at.study();
  study["models"][1]["set"][1] = "plan.k=2";
  study["models"][0]["waits"] = {2, 3};
  write_text(at.path("study.json"), study.dump());
  const auto list = at.run_study({"--list"}).out;
  CHECK(holds(list, "group-s1\ttrained\t1 of 2 evaluations"));
  CHECK(holds(list, "interleaved-s1\tnot trained\t0 of 2 evaluations"));
  const auto commands = at.run_study({"--commands", "--only", "group-s1"}).out;
  CHECK(commands.starts_with("runnel translate -m "));
  CHECK(std::count(commands.begin(), commands.end(), '\n') == 1);
  CHECK(holds(commands, " --output "));
}

TEST_CASE("what a result was made of is made again where it is gone, and what hangs on another model is done anew") {
  const study_folder at;
  REQUIRE(at.run_study({"--only", "group-s1"}).code == 0);
  REQUIRE(at.run_study({"--only", "fast"}).code == 0);
  const auto before = at.file("results/group-s1.json");
  std::filesystem::remove_all(at.folder() / "work");
  std::filesystem::remove(at.folder() / "results/fast.json");
  CHECK(holds(at.run_study({"--list"}).out, "fast\ttrained\t0 of 1"));
  const auto again = at.run_study({"--only", "fast"});
  CAPTURE(again.err);
  CHECK(again.code == 0);
  CHECK(at.has("work/group-s1/model/config.json"));
  CHECK(json::parse(at.file("results/group-s1.json"))["evaluations"] == json::parse(before)["evaluations"]);
  CHECK(json::parse(at.file("results/fast.json"))["made_from"]["uses"] == json::parse(before)["weights"]);

  // The same result with another model: its evaluations and what was measured with the old one go.
  auto other = json::parse(before);
  other["weights"] = "1";
  write_text(at.path("results/group-s1.json"), other.dump());
  CHECK(holds(at.run_study({"--list"}).out, "fast\ttrained\t0 of 1"));
  std::filesystem::remove_all(at.folder() / "work");
  REQUIRE(at.run_study({"--only", "fast"}).code == 0);
  CHECK(json::parse(at.file("results/group-s1.json"))["weights"] == json::parse(before)["weights"]);
  CHECK(json::parse(at.file("results/group-s1.json"))["evaluations"].size() == 2);
}

TEST_CASE("claims are held against each pair, wait and seed") {
  const study_folder at;
  REQUIRE(at.run_study({"--only", "-s1"}).code == 0);
  const auto group = json::parse(at.file("results/group-s1.json"));
  const auto verdicts = [&](double first, double second) {
    auto changed = json::parse(at.file("results/interleaved-s1.json"));
    changed["evaluations"][0]["scores"]["BLEU"] = 20;
    changed["evaluations"][1]["scores"]["BLEU"] = 20;
    write_text(at.path("results/interleaved-s1.json"), changed.dump());
    changed = group;
    changed["evaluations"][0]["scores"]["BLEU"] = 20 + first;
    changed["evaluations"][1]["scores"]["BLEU"] = 20 + second;
    write_text(at.path("results/group-s1.json"), changed.dump());
    REQUIRE(at.run_study({"--report"}).code == 0);
    const auto page = at.file("results/index.html");
    strings out;
    for (const char* text : {"More &lt;context&gt;", "Equal", "No gain", "No loss"}) {
      const auto row = page.find(std::string("<td>") + text);
      REQUIRE(row != std::string::npos);
      const auto end = page.find("</td></tr>", row), begin = page.rfind("<td>", end) + 4;
      out.push_back(page.substr(begin, end - begin));
    }
    CHECK(holds(page, "[+0.25, +0.50]") == (first == 0.25 && second == 0.5));
    return out;
  };
  CHECK(verdicts(0.25, 0.5) == strings{"yes", "yes", "yes", "yes"});
  CHECK(verdicts(1, 2) == strings{"yes", "no", "no", "yes"});
  CHECK(verdicts(-1, 2) == strings{"undecided", "no", "no", "no"});
  CHECK(verdicts(-1, -2) == strings{"no, the contrary", "no", "yes", "no"});
  CHECK(verdicts(0, 0) == strings{"undecided", "yes", "yes", "yes"});
}

TEST_CASE("a study that fails says which command did, and keeps what is done") {
  const study_folder at;
  auto study = at.study();
  study["models"][1]["translate"][1] = "sideways";
  write_text(at.path("study.json"), study.dump());
  const auto failed = at.run_study({"--only", "-s1"});
  CHECK(failed.code == 1);
  CHECK(holds(failed.err, "runnel translate -m "));
  CHECK(holds(failed.err, "ended with 2"));
  CHECK(holds(failed.err, "'sideways'"));
  CHECK(at.has("results/group-s1.json"));
  write_text(at.path("study.json"), at.study().dump());
  CHECK(at.run_study({"--only", "-s1"}).code == 0);
}

TEST_CASE("a study takes nothing for done that another recipe or model gave") {
  const study_folder at;
  REQUIRE(at.run_study({"--only", "-s1"}).code == 0);
  REQUIRE(at.run_study({"--only", "fast"}).code == 0);
  const auto training = at.file("train.json");
  // Another recipe in the same file.
  auto changed = json::parse(training);
  changed["schedule"]["rate"] = 0.5;
  write_text(at.path("train.json"), changed.dump());
  CHECK(holds(at.run_study({"--list"}).out, "group-s1\tnot trained\t0 of 2"));
  // A run that another recipe or command began is not gone on with.
  const auto other = at.run_study({"--only", "group-s1"});
  CHECK(other.code == 1);
  CHECK(holds(other.err, "was begun by another command or recipe"));
  write_text(at.path("train.json"), training);
  CHECK(holds(at.run_study({"--list"}).out, "group-s1\ttrained\t2 of 2"));
  auto study = at.study();
  study["models"][0]["set"].push_back("steps=8");
  write_text(at.path("study.json"), study.dump());
  CHECK(at.run_study({"--only", "group-s1"}).code == 1);
  // Another model where the trained one was: neither translated with, nor measured without a word.
  study = at.study();
  study["models"][0]["waits"] = {1, 2, 3};
  write_text(at.path("study.json"), study.dump());
  std::filesystem::remove_all(at.folder() / "work/group-s1/model");
  std::filesystem::copy(at.folder() / "work/interleaved-s1/model", at.folder() / "work/group-s1/model");
  const auto strange = at.run_study({"--only", "group-s1"});
  CHECK(strange.code == 1);
  CHECK(holds(strange.err, "is not the model of the results of group-s1"));
  std::filesystem::remove(at.folder() / "results/fast.json");
  const auto measured = at.run_study({"--only", "fast"});
  CHECK(measured.code == 1);
  CHECK(holds(measured.err, "is not the model of the results of group-s1"));
}

TEST_CASE("Ctrl-C lets the training of a study save where it is") {
  const study_folder at;
  auto training = json::parse(at.file("train.json"));
  training["steps"] = 1000000;
  training["checkpoint"] = {{"every", 0}, {"seconds", 0}};
  training["validation"]["every"] = 0;
  write_text(at.path("train.json"), training.dump());
  process running({"study", at.path("study.json"), "--only", "group-s1"});
  for (int i = 0;
       i < 3000 && !holds(at.has("work/group-s1/metrics.jsonl") ? at.file("work/group-s1/metrics.jsonl") : "", "\n");
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  running.send(SIGINT);
  const auto ended = running.finish();
  CAPTURE(ended.err);
  CHECK(ended.code == 130);
  CHECK(holds(ended.err, "--resume goes on"));
  CHECK_FALSE(at.has("results/group-s1.json"));
}

TEST_CASE("studies that make no sense are refused") {
  const study_folder at;
  const auto refused = [&](auto&& change, const std::string& part, int code) {
    auto study = at.study();
    change(study);
    write_text(at.path("study.json"), study.dump());
    const auto said = at.run_study({"--list"});
    CAPTURE(said.err);
    CHECK(said.code == code);
    CHECK(holds(said.err, part));
  };
  refused([](json& study) { study.erase("work"); }, "work is missing", 1);
  refused([](json& study) { study["model"] = 1; }, "'model' is unknown", 1);
  refused([](json& study) { study["models"][0]["name"] = "../x"; }, "models[0].name", 1);
  refused([](json& study) { study["models"][0]["name"] = "interleaved"; }, "two are called 'interleaved'", 2);
  refused([](json& study) { study["models"][0]["waits"] = {0}; }, "models[0].waits[0]", 1);
  refused(
      [](json& study) {
        study["models"][0]["waits"] = {1, 2, 1};
      },
      "waits of 'group': expected numbers that differ", 2);
  refused(
      [](json& study) {
        study["models"][0]["seeds"] = {1, 1};
      },
      "seeds of 'group': expected numbers that differ", 2);
  refused(
      [](json& study) {
        study["measures"][0]["name"] = "group-s2";
        study.erase("efficiency");
      },
      "two results are called 'group-s2'", 2);
  refused([](json& study) { study["measures"][1]["prefill"] = {1, 2}; }, "either translate, or bench", 1);
  refused([](json& study) { study["measures"][1]["translate"] = {"-m", "demo"}; }, "either translate, or bench", 1);
  refused([](json& study) { study["claims"][0]["against"] = "none"; }, "no model is called 'none'", 2);
  refused([](json& study) { study["claims"][1]["within"] = -1; }, "claims[1].within: expected 0 or more", 1);
  refused([](json& study) { study["claims"][0]["within"] = 1; }, "claims[0].better: expected one of", 1);
  refused([](json& study) { study["claims"][0].erase("better"); }, "claims[0].better: expected one of", 1);
  refused([](json& study) { study["efficiency"][0]["prefill"] = "none"; }, "no measure is called 'none'", 2);
  refused([](json& study) { study["rounds"] = 0; }, "rounds: expected at least 1", 1);
  refused([](json& study) { study["figures"][0]["x"] = "Laal"; }, "figures[0].x: expected one of BLEU", 1);
  refused([](json& study) { study["tables"][0]["models"] = {"none"}; }, "no model is called 'none'", 2);
  refused([](json& study) { study["efficiency"][0].erase("against"); }, "efficiency[0].against is missing", 1);
  write_text(at.path("study.json"), at.study().dump());
  for (const auto& more : {strings{}, {"--list"}, {"--report"}, {"--commands"}}) {
    strings all{"--only", "nobody"};
    all.insert(all.end(), more.begin(), more.end());
    CHECK(at.run_study(all).code == 2);
  }
  std::filesystem::create_directories(at.folder() / "results");
  write_text(at.path("results/group-s1.json"), "[1");
  const auto broken = at.run_study({"--list"});
  CHECK(broken.code == 1);
  CHECK(holds(broken.err, "group-s1.json: expected a JSON object"));
  write_text(at.path("results/group-s1.json"), R"({"command": 5})");
  CHECK(holds(at.run_study({"--list"}).err, "group-s1.json: expected command and weights as text"));
  CHECK(run({"study", at.path("none.json")}).code == 1);
}
