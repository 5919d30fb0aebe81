// SPDX-License-Identifier: Apache-2.0
// Training on recordings as a user does it: an encoder by itself, a model in stages, and what comes of them is heard.

#include "process.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <nlohmann/json.hpp>

#include <runnel/core/rng.hpp>
#include <runnel/io/wav.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;
using nlohmann::json;

/// Recordings of two words, a high and a low tone, and the settings of runs over them that take a moment.
class recordings_folder {
 public:
  recordings_folder() {
    runnel::random_stream random(5);
    std::string list;
    for (int i = 0; i < 8; ++i) {
      const bool high = i % 2 == 0;
      std::vector<float> samples(static_cast<std::size_t>(2400 + random.below(1200)));
      for (std::size_t t = 0; t < samples.size(); ++t) {
        samples[t] = static_cast<float>(0.4 * std::sin((high ? 1.2 : 0.3) * static_cast<double>(t)));
      }
      const std::string name = std::to_string(i) + ".wav";
      runnel::io::write_wav(folder_ / name, samples, {8000, 1, runnel::io::wav_format::pcm16});
      list += name + "\t" + (high ? "eins" : "zwei") + "\tspeaker\n";
    }
    write_text(folder_ / "list.tsv", list);
  }

  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }
  [[nodiscard]] bool has(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

  /// Settings of a run that starts from the tiny speech model, written to a file.
  [[nodiscard]] std::string settings(const std::string& name, const json& more) const {
    json all{{"output", path(name)},
             {"seed", 1},
             {"threads", 1},
             {"compute", "f32"},
             {"speech", {{"init", tiny_speech()}}},
             {"data",
              {{"train", {{{"name", "tones"}, {"format", "audio"}, {"file", path("list.tsv")}, {"strings_most", 3}}}},
               {"validation", {{{"name", "held out"}, {"format", "audio"}, {"file", path("list.tsv")}}}}}},
             {"steps", 4},
             {"schedule", {{"rate", 0.01}}},
             {"validation", {{"every", 2}}},
             {"checkpoint", {{"every", 2}}}};
    all.merge_patch(more);
    write_text(path(name + ".json"), all.dump());
    return path(name + ".json");
  }

 private:
  scratch_folder folder_;
};

json metrics_of(const std::string& path) {
  json last;
  std::istringstream all(read_text(path));
  for (std::string line; std::getline(all, line);) last = json::parse(line);
  return last;
}

TEST_CASE("train: an encoder learns by itself, then a model is trained in stages, and hears") {
  const recordings_folder folder;
  const json without_decoder{
      {"speech", {{"init", nullptr}, {"encoder", tiny_speech() + "/encoder"}, {"ctc", true}, {"form", "original"}}},
      {"model", {{"init", tiny_speech() + "/decoder"}}}};
  const auto ctc = run({"train", folder.settings("ctc", without_decoder)});
  INFO(ctc.err);
  CHECK(ctc.code == 0);
  CHECK(ctc.err.find("CTC; an epoch: ") != std::string::npos);
  CHECK(ctc.err.find("seconds of audio/s") != std::string::npos);
  REQUIRE(folder.has("ctc/encoder/config.json"));
  const auto config = json::parse(read_text(folder.path("ctc/encoder/config.json")));
  CHECK(config["streaming"]["causal_attention"] == false);
  CHECK(config["streaming"]["sample_rate"] == 8000);

  const json first{
      {"speech",
       {{"init", nullptr}, {"encoder", folder.path("ctc/encoder")}, {"chunk_rows", 20}, {"longest_seconds", 9.5}}},
      {"model", {{"init", tiny_speech() + "/decoder"}}},
      {"plan", {{"name", "batch-grouped"}}},
      {"freeze", {"encoder.*", "model.*", "lm_head.*"}}};
  const auto one = run({"train", folder.settings("one", first)});
  INFO(one.err);
  CHECK(one.code == 0);
  REQUIRE(folder.has("one/model/speech.json"));
  const json second{{"speech", {{"init", folder.path("one/model")}, {"form", "causal"}, {"left_context", 25}}},
                    {"plan", {{"name", "batch-grouped"}}},
                    {"freeze", {"model.*", "lm_head.*"}}};
  CHECK(run({"train", folder.settings("two", second)}).code == 0);
  const json third{{"speech", {{"init", folder.path("two/model")}}},
                   {"plan", {{"k", "1-3"}}},
                   {"lora", {{"rank", 2}}},
                   {"freeze", {"encoder.*", "projector.*"}},
                   {"result", {{"type", "bf16"}}}};
  const auto last = run({"train", folder.settings("three", third)});
  INFO(last.err);
  CHECK(last.code == 0);
  CHECK(last.err.find("runnel transcribe -m ") != std::string::npos);
  CHECK(json::parse(read_text(folder.path("three/model/speech.json")))["longest_seconds"] == 9.5);
  const auto heard = run({"transcribe", "-m", folder.path("three/model"), folder.path("0.wav"), "--wait-k", "1"});
  INFO(heard.err);
  CHECK(heard.code == 0);
  CHECK(heard.out.starts_with(folder.path("0.wav") + "\t"));
}

TEST_CASE("train: recordings go on where they were, bit for bit") {
  const recordings_folder folder;
  const json kind{{"augment", {{"gain_db", {-6, 6}}, {"noise_share", 0.5}, {"speed", 0.1}}}, {"dropout", 0.1}};
  REQUIRE(run({"train", folder.settings("whole", kind)}).code == 0);
  const auto parts = folder.settings("parts", kind);
  REQUIRE(run({"train", parts, "--set", "steps=2", "--set", "schedule.steps=4"}).code == 0);
  const auto rest = run({"train", parts, "--resume"});
  INFO(rest.err);
  REQUIRE(rest.code == 0);
  CHECK(rest.err.find("going on after step 2") != std::string::npos);
  for (const char* file : {"encoder/model.safetensors", "projector.safetensors", "decoder/model.safetensors"}) {
    CHECK(read_text(folder.path(std::string("whole/model/") + file)) ==
          read_text(folder.path(std::string("parts/model/") + file)));
  }
  CHECK(metrics_of(folder.path("whole/metrics.jsonl"))["validation_loss"] ==
        metrics_of(folder.path("parts/metrics.jsonl"))["validation_loss"]);
}

TEST_CASE("train: settings of recordings that make no sense are refused, naming the key") {
  const recordings_folder folder;
  const auto refuse = [&](const json& more, const char* part) {
    const auto result = run({"train", folder.settings("none", more)});
    CAPTURE(part);
    INFO(result.err);
    CHECK(result.code != 0);
    CHECK(result.err.find(part) != std::string::npos);
    CHECK_FALSE(folder.has("none"));
  };
  refuse({{"speech", {{"encoder", "x"}}}}, "expected one of init, encoder and config, found 2");
  refuse({{"speech", {{"form", "sideways"}}}}, "speech.form");
  refuse({{"speech", {{"init", nullptr}}}, {"model", {{"init", tiny_model()}}}}, "recordings, which need");
  refuse({{"model", {{"init", tiny_model()}}}}, "the decoder is in it");
  refuse({{"augment", {{"speed", 0.95}}}}, "augment.speed");
  refuse({{"augment", {{"gain_db", {1, 2, 3}}}}}, "augment.gain_db");
  refuse({{"data", {{"train", {{{"file", folder.path("list.tsv")}, {"format", "tsv"}}}}}}}, "format audio");
  refuse({{"freeze", {"encodr.*"}}}, "encodr");
  write_text(folder.path("bad.tsv"), "0.wav\n");
  refuse({{"data", {{"train", {{{"file", folder.path("bad.tsv")}, {"format", "audio"}}}}}}}, "bad.tsv: line 1");
  write_text(folder.path("gone.tsv"), "gone.wav\teins\n");
  refuse({{"data", {{"train", {{{"file", folder.path("gone.tsv")}, {"format", "audio"}}}}}}}, "gone.wav");
}

}  // namespace
