// SPDX-License-Identifier: Apache-2.0
// Training as a user does it: runs that end, are interrupted, killed and gone on with; settings; what does not fit.

#include "process.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <thread>

#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <runnel/core/rng.hpp>
#include <runnel/io/safetensors.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;
using nlohmann::json;

/// A folder with data, and the settings of a run that takes a moment.
class training_folder {
 public:
  training_folder() {
    std::string source, target;
    runnel::random_stream random(3);
    for (int i = 0; i < 60; ++i) {
      const auto words = 1 + random.below(4);
      for (std::int64_t w = 0; w < words; ++w) {
        const bool yes = random.below(2) == 0;
        source += yes ? "one " : "two ";
        target += yes ? "eins " : "zwei ";
      }
      source += '\n';
      target += '\n';
    }
    write_text(folder_ / "train.en", source);
    write_text(folder_ / "train.de", target);
    write_text(folder_ / "run.json", settings().dump());
  }

  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::string file(const std::string& name) const { return read_text(folder_ / name); }
  [[nodiscard]] bool has(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  [[nodiscard]] const scratch_folder& folder() const { return folder_; }

  [[nodiscard]] json settings() const {
    const json data = json::array({{{"name", "pairs"}, {"file", path("train.en")}, {"target_file", path("train.de")}}});
    return {{"output", path("out")},
            {"model",
             {{"config",
               {{"model_type", "llama"},
                {"hidden_size", 16},
                {"intermediate_size", 24},
                {"num_hidden_layers", 2},
                {"num_attention_heads", 2},
                {"num_key_value_heads", 1},
                {"vocab_size", 264},
                {"max_position_embeddings", 256},
                {"rms_norm_eps", 1e-5},
                {"tie_word_embeddings", true},
                {"hidden_act", "silu"}}}}},
            {"tokenizer", tiny_model()},
            {"data", {{"train", data}, {"validation", data}}},
            {"plan", {{"name", "group-streaming"}, {"k", "1-3"}}},
            {"batch", {{"rows", 160}, {"accumulation", 2}}},
            {"steps", 24},
            {"compute", "f32"},
            {"threads", 1},
            {"dropout", 0.1},
            {"schedule", {{"rate", 0.01}, {"warmup", 3}}},
            {"validation", {{"every", 8}}},
            {"checkpoint", {{"every", 3}}}};
  }

  [[nodiscard]] strings command(const strings& more = {}) const {
    strings out{"train", path("run.json")};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  [[nodiscard]] outcome train(const strings& more = {}) const { return run(command(more)); }

  /// Lines of the metrics without times.
  [[nodiscard]] std::vector<json> metrics(const std::string& output) const {
    std::vector<json> out;
    std::istringstream lines(file(output + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      auto one = json::parse(line);
      one.erase("seconds");
      one.erase("rows_per_second");
      out.push_back(one);
    }
    return out;
  }

 private:
  scratch_folder folder_;
};

/// While it is there, no program that is started writes files of more bytes.
class file_limit {
 public:
  explicit file_limit(rlim_t most) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    struct rlimit small = before_;
    small.rlim_cur = most;
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  }
  file_limit(const file_limit&) = delete;
  file_limit& operator=(const file_limit&) = delete;
  ~file_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  struct rlimit before_ {};
  void (*handler_)(int) = nullptr;
};

/// Values of a checkpoint or model by name.
std::map<std::string, std::string> tensors(const std::string& path) {
  std::map<std::string, std::string> out;
  const runnel::io::safetensors_file file(path);
  for (const auto& one : file.tensors()) {
    out[one.name] = std::string(reinterpret_cast<const char*>(one.bytes.data()), one.bytes.size());
  }
  return out;
}

constexpr const char* last_checkpoint = "/checkpoints/step-0000000024.safetensors";

bool same_result(const training_folder& at, const std::string& a, const std::string& b) {
  return tensors(at.path(a + last_checkpoint)) == tensors(at.path(b + last_checkpoint)) &&
         at.metrics(a) == at.metrics(b) &&
         at.file(a + "/model/model.safetensors") == at.file(b + "/model/model.safetensors") &&
         at.file(a + "/model.gguf") == at.file(b + "/model.gguf");
}

TEST_CASE("a run goes on without its picture where that cannot be drawn, and says so once") {
  const training_folder at;
  write_text(at.path("gnuplot"), "#!/bin/sh\necho no such terminal >&2\nexit 3\n");
  std::filesystem::permissions(at.path("gnuplot"), std::filesystem::perms::owner_all);
  std::filesystem::create_directory(at.path("empty"));
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {at.path("empty"), {"gnuplot-nox"}},
      {std::filesystem::path(at.path("gnuplot")).parent_path().string(), {"failed", "no such terminal"}},
  };
  int number = 0;
  for (const auto& [programs, parts] : cases) {
    const only_programs_in nothing_else(programs);
    const std::string out = "out" + std::to_string(number++);
    const auto done = at.train({"--set", "output=" + at.path(out)});
    CAPTURE(done.err);
    CHECK(done.code == 0);
    for (const auto& part : parts) CHECK(holds(done.err, part));
    const auto first = done.err.find("there will be no loss.svg");
    REQUIRE(first != std::string::npos);
    CHECK(done.err.find("loss.svg", first + 25) == std::string::npos);
    CHECK(!std::filesystem::exists(at.path(out + "/loss.svg")));
    CHECK(std::filesystem::exists(at.path(out + "/model.gguf")));
  }
}

TEST_CASE("a run says what is to come, learns, and leaves models that run") {
  const training_folder at;
  const auto done = at.train();
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  CHECK(done.out.empty());
  for (const char* part : {"parameters: ", "group-streaming(phi=0)", "60 pairs", "memory: about ", "time: about ",
                           " 24 steps", "step 24: validation loss ", "written: "}) {
    CAPTURE(std::string(part));
    CHECK(holds(done.err, part));
  }
  const auto metrics = at.metrics("out");
  CHECK(metrics.size() == 24 + 4);
  CHECK(metrics.front()["step"] == 0);
  CHECK(metrics.back()["validation_loss"].get<double>() < metrics.front()["validation_loss"].get<double>() - 0.5);
  if (has_gnuplot()) {
    const auto picture = at.file("out/loss.svg");
    CHECK(picture.starts_with("<svg "));
    CHECK(picture.ends_with("</svg>\n"));
    CHECK(holds(picture, "validation, best "));
    CHECK(holds(picture, "<title>Loss: "));
  }
  for (const char* model : {"out/model", "out/model.gguf"}) {
    const auto said = run({"generate", "-m", at.path(model), "-p", "one two", "-n", "2", "--compute", "f32"});
    CAPTURE(said.err);
    CHECK(said.code == 0);
  }
  // The settings that it kept give the same again.
  const auto again =
      run({"train", at.path("out/config.json"), "--set", "output=" + at.path("again"), "--set", "threads=2"});
  CHECK(again.code == 0);
  CHECK(same_result(at, "out", "again"));
  CHECK(at.train({"--resume"}).code == 0);  // done stays done
  CHECK(same_result(at, "out", "again"));
}

TEST_CASE("a run that is killed again and again ends as one that is not, bit for bit") {
  const training_folder at;
  REQUIRE(at.train().code == 0);
  runnel::random_stream random(11);
  const auto command = at.command({"--resume", "--set", "output=" + at.path("killed")});
  outcome last;
  for (int patience = 0;; ++patience) {
    process one(command);
    one.close_input();
    std::this_thread::sleep_for(std::chrono::milliseconds(random.below(60 + 40 * patience)));
    one.send(SIGKILL);
    last = one.finish();
    if (last.code != 1000 + SIGKILL) break;
  }
  CAPTURE(last.err);
  CHECK(last.code == 0);
  CHECK(same_result(at, "out", "killed"));
  for (const auto& one : std::filesystem::recursive_directory_iterator(at.folder() / "killed")) {
    CHECK_FALSE(one.path().filename().string().starts_with(".runnel-"));
  }
}

TEST_CASE("an interrupt saves and stops, and damage to the last checkpoint is survived") {
  const training_folder at;
  REQUIRE(at.train().code == 0);
  const strings elsewhere{"--set", "output=" + at.path("cut"), "--set", "checkpoint.every=5"};
  outcome stopped;
  for (int attempt = 0; attempt < 50 && stopped.code != 130; ++attempt) {  // it may be faster than the signal
    std::filesystem::remove_all(at.folder() / "cut");
    process one(at.command(elsewhere));
    one.close_input();
    for (int turn = 0;
         turn < 20000 && (!at.has("cut/metrics.jsonl") || !holds(at.file("cut/metrics.jsonl"), "\"step\": 7,"));
         ++turn) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    one.send(SIGINT);
    stopped = one.finish();
  }
  CAPTURE(stopped.err);
  REQUIRE(stopped.code == 130);
  {
    CHECK(holds(stopped.err, "--resume goes on"));
    CHECK_FALSE(at.has("cut/model"));
    check_refused(at.train(elsewhere), 2, {"is there already"});
    strings other = elsewhere;
    other.insert(other.end(), {"--resume", "--set", "seed=5"});
    check_refused(at.train(other), 1, {"expected 'seed = 5', found 'seed = 0'"});
    std::vector<std::string> checkpoints;
    for (const auto& file : std::filesystem::directory_iterator(at.folder() / "cut/checkpoints")) {
      if (file.path().filename().string().starts_with("step-")) checkpoints.push_back(file.path().string());
    }
    std::sort(checkpoints.begin(), checkpoints.end());
    REQUIRE(checkpoints.size() == 2);
    std::filesystem::resize_file(checkpoints.back(), std::filesystem::file_size(checkpoints.back()) / 2);
    strings on = elsewhere;
    on.push_back("--resume");
    const auto rest = at.train(on);
    CAPTURE(rest.err);
    CHECK(rest.code == 0);
    CHECK(holds(rest.err, checkpoints.back()));
    CHECK(holds(rest.err, "going on from " + checkpoints.front()));
  }
  CHECK(same_result(at, "out", "cut"));
}

TEST_CASE("a full disk ends the run with its last checkpoint whole, or is only told") {
  const training_folder at;
  REQUIRE(at.train().code == 0);
  const strings elsewhere{"--set", "output=" + at.path("full")};
  strings first = elsewhere, on = elsewhere;
  first.insert(first.end(), {"--set", "checkpoint.every=1"});
  on.push_back("--resume");
  process one(at.command(first));
  one.close_input();
  for (int turn = 0; turn < 20000 && !at.has("full/checkpoints/step-0000000003.safetensors"); ++turn) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  one.send(SIGKILL);
  (void)one.finish();

  strings patient = on;
  patient.insert(patient.end(), {"--set", "checkpoint.on_failure=go_on"});
  outcome full, noted;
  {
    const file_limit small(20'000);  // metrics fit, checkpoints do not
    full = at.train(on);
    noted = at.train(patient);
  }
  check_refused(full, 1, {"checkpoints/", "too large"});
  check_refused(noted, 1, {"no checkpoint was written, training goes on", "24 steps", "model"});
  CHECK(at.train(on).code == 0);
  CHECK(same_result(at, "out", "full"));
}

TEST_CASE("adapters are trained beside a model and go on where they were") {
  const training_folder at;
  REQUIRE(at.train({"--set", "steps=6"}).code == 0);
  json settings = at.settings();
  settings.erase("tokenizer");
  settings["output"] = at.path("tuned");
  settings["model"] = {{"init", at.path("out/model.gguf")}};
  settings["lora"] = {{"rank", 2}, {"alpha", 4}, {"targets", {"q_proj", "down_proj"}}};
  write_text(at.path("tuned.json"), settings.dump());
  const auto done = run({"train", at.path("tuned.json")});
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  const auto adapter = tensors(at.path("tuned/adapter/adapter_model.safetensors"));
  CHECK(adapter.size() == 8);
  CHECK(adapter.contains("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"));
  const auto metrics = at.metrics("tuned");
  CHECK(metrics.back()["validation_loss"].get<double>() < metrics.front()["validation_loss"].get<double>());
  const auto said =
      run({"generate", "-m", at.path("out/model.gguf"), "--lora", at.path("tuned/adapter"), "-p", "one", "-n", "2"});
  CHECK(said.code == 0);
  CHECK_FALSE(at.has("tuned/model"));
  settings["lora"]["targets"] = {"q_proj", "lm_head"};
  settings["output"] = at.path("none");
  write_text(at.path("tuned.json"), settings.dump());
  check_refused(run({"train", at.path("tuned.json")}), 2, {"lora.targets", "'lm_head'"});
}

/// As gzip has it, not compressed at all.
std::string as_gzip(std::string_view text) {
  std::uint32_t crc = ~0U;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  byte_builder out;
  const auto size = static_cast<std::uint16_t>(text.size());
  out.raw(std::string_view("\x1f\x8b\x08\0\0\0\0\0\0\xff\x01", 11))
      .number(size)
      .number(static_cast<std::uint16_t>(~size));
  return out.raw(text).number(~crc).number(static_cast<std::uint32_t>(text.size())).text();
}

TEST_CASE("a model goes on with pairs joined to long streams, and declares more positions") {
  const training_folder at;
  REQUIRE(at.train({"--set", "steps=6"}).code == 0);
  json settings = at.settings();
  settings.erase("tokenizer");
  settings["output"] = at.path("long");
  settings["model"] = {{"init", at.path("out/model")}, {"context", 512}};
  settings["plan"] = {{"name", "batch"}};
  settings["batch"] = {{"rows", 320}, {"joined", 300}};
  settings["steps"] = 4;
  write_text(at.path("long.json"), settings.dump());
  const auto done = run({"train", at.path("long.json")});
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  CHECK(json::parse(at.file("long/model/config.json"))["max_position_embeddings"] == 512);
  CHECK(json::parse(at.file("out/model/config.json"))["max_position_embeddings"] == 256);
  const auto trained = [&](const strings& more) {
    strings command{"train", at.path("long.json"), "--set", "output=" + at.path("none")};
    command.insert(command.end(), more.begin(), more.end());
    return run(command);
  };
  check_refused(trained({"--set", "plan.name=group-streaming"}), 2, {"pairs are joined under the plan batch only"});
  check_refused(trained({"--set", "batch.joined=321"}), 2, {"joined", "320", "321"});
  check_refused(trained({"--set", "lora.rank=2"}), 2, {"model.context", "512"});
}

TEST_CASE("compressed text is read, and damage to it is told") {
  const training_folder at;
  write_text(at.path("train.en.gz"), as_gzip(at.file("train.en")));
  json settings = at.settings();
  settings["data"]["train"][0]["file"] = at.path("train.en.gz");
  settings["output"] = at.path("zipped");
  write_text(at.path("zipped.json"), settings.dump());
  const auto done = run({"train", at.path("zipped.json")});
  CAPTURE(done.err);
  if (holds(done.err, "built without zlib")) return;
  REQUIRE(done.code == 0);
  REQUIRE(at.train().code == 0);
  CHECK(at.metrics("out") == at.metrics("zipped"));
  auto damaged = at.file("train.en.gz");
  damaged[40] = '#';
  write_text(at.path("train.en.gz"), damaged);
  settings["output"] = at.path("other");
  write_text(at.path("zipped.json"), settings.dump());
  check_refused(run({"train", at.path("zipped.json")}), 1, {"train.en.gz"});
  write_text(at.path("train.en.gz"), damaged.substr(0, 30));
  check_refused(run({"train", at.path("zipped.json")}), 1, {"train.en.gz"});
}

TEST_CASE("settings are shown, and wrong ones refused before anything is made") {
  const training_folder at;
  const auto shown = at.train({"--print-config", "--set", "batch.rows=77"});
  CHECK(shown.code == 0);
  CHECK(json::parse(shown.out)["batch"]["rows"] == 77);
  CHECK(json::parse(shown.out)["model"]["config"]["hidden_size"] == 16);
  const auto help = run({"train", "--help"});
  CHECK(help.code == 0);
  CHECK(holds(help.out, "schedule.warmup = 0"));
  check_refused(at.train({"--set", "batch.row=1"}), 2,
                {"--set: 'batch.row' is no setting; did you mean 'batch.rows'?"});
  check_refused(at.train({"--set", "optimizer.lr=1"}), 2,
                {"'optimizer.lr' is no setting; did you mean 'schedule.rate'?"});
  CHECK(json::parse(at.train({"--print-config", "--set", "output=2024"}).out)["output"] == "2024");
  check_refused(at.train({"--set", "dropout=x"}), 2, {"dropout: expected a number from 0 to 0.999, found \"x\""});
  check_refused(at.train({"--set", "result.gguf=q9"}), 2, {"result.gguf", "'q9'"});
  check_refused(at.train({"--set", "freeze=[\"nothing\"]"}), 2, {"'nothing' matches no parameter"});
  check_refused(at.train({"--set", "model.config.vocab_size=100"}), 2, {"vocab_size", "264"});
  check_refused(at.train({"--set", "tokenizer=" + at.path("no")}), 1, {"tokenizer: '", "no' does not exist"});
  check_refused(at.train({"--set", "tokenizer=", "--set", "model.config=null", "--set", "model.init=" + at.path("no")}),
                1, {"model.init: '", "no' does not exist"});
  check_refused(at.train({"--set", "format=nothing"}), 2, {": format: ", "'nothing'"});
  check_refused(at.train({"--set", "batch.rows=1"}), 2, {"no pair that can be used"});
  check_refused(at.train({"--set", "model.config.hidden_size=8192", "--set", "model.config.num_hidden_layers=9999"}), 1,
                {"training would take ", " of memory"});
  check_refused(at.train({"--set", "schedule.warmup=24"}), 2, {"warm-up"});
  check_refused(run({"train", at.path("missing.json")}), 1, {"missing.json"});
  check_refused(run({"train"}), 2, {"output"});
  CHECK_FALSE(at.has("out"));
  write_text(at.path("file"), "x");
  check_refused(at.train({"--set", "output=" + at.path("file/out")}), 1, {"file/out"});
  // Before the data is read, which is not there.
  const std::string no_data = "data.train=[{\"file\": \"" + at.path("no.jsonl") + "\"}]";
  const auto early = [&](const std::string& one) { return at.train({"--set", no_data, "--set", one}); };
  check_refused(early("schedule.warmup=24"), 2, {"warm-up"});
  check_refused(early("optimizer.epsilon=0"), 2, {"epsilon"});
  check_refused(early("batch.accumulation=1000000"), 2, {"batch.accumulation"});
  check_refused(early("output=" + at.path("file/out")), 1, {"file/out"});
  std::filesystem::create_directories(at.folder() / "odd");
  write_text(at.path("odd/metrics.jsonl"), "");
  write_text(at.path("odd/config.json"), at.file("run.json"));
  write_text(at.path("odd/checkpoints"), "x");
  check_refused(at.train({"--resume", "--set", no_data, "--set", "output=" + at.path("odd")}), 1,
                {"odd/checkpoints", "no folder"});
  CHECK_FALSE(at.has("odd/.lock"));
  CHECK_FALSE(at.has("out"));
}

TEST_CASE("--resume leaves folders alone that are no run's, and what in a run's folder is not ours") {
  const training_folder at;
  std::filesystem::create_directories(at.folder() / "home/model");
  write_text(at.path("home/model/precious.txt"), "mine");
  write_text(at.path("home/config.json"), "{\"my\": 1}");
  const strings home{"--resume", "--set", "steps=5", "--set", "output=" + at.path("home")};
  check_refused(at.train(home), 2, {"home", "no folder of a training run"});
  CHECK(at.file("home/config.json") == "{\"my\": 1}");
  CHECK_FALSE(at.has("home/.lock"));
  CHECK_FALSE(at.has("home/metrics.jsonl"));
  // A new or an empty folder will do.
  const strings fresh{"--resume", "--set", "steps=5", "--set", "output=" + at.path("fresh")};
  CHECK(at.train(fresh).code == 0);
  CHECK(at.has("fresh/model/model.safetensors"));
  write_text(at.path("fresh/model/precious.txt"), "mine");
  const auto kept = at.train(fresh);
  CAPTURE(kept.err);
  CHECK(kept.code == 0);
  CHECK(holds(kept.err, "fresh/model.before-1"));
  CHECK(at.file("fresh/model.before-1/precious.txt") == "mine");
  CHECK(at.has("fresh/model/model.safetensors"));
  CHECK_FALSE(at.has("fresh/model/precious.txt"));
  CHECK(at.train(fresh).code == 0);
  CHECK_FALSE(at.has("fresh/model.before-2"));
}

TEST_CASE("a finished run that is gone on with on a full disk keeps its result") {
  const training_folder at;
  const strings twice{"--resume", "--set", "steps=5"};
  REQUIRE(at.train(twice).code == 0);
  const auto model = at.file("out/model/model.safetensors"), config = at.file("out/model/config.json");
  {
    const file_limit small(12'000);
    check_refused(at.train(twice), 1, {"model"});
  }
  CHECK(at.file("out/model/model.safetensors") == model);
  CHECK(at.file("out/model/config.json") == config);
  CHECK(at.train(twice).code == 0);
  CHECK(at.file("out/model/model.safetensors") == model);
}

TEST_CASE("two runs do not share a folder") {
  const training_folder at;
  process one(at.command({"--set", "steps=100000", "--set", "validation.every=0"}));
  one.close_input();
  for (int turn = 0; turn < 20000 && !at.has("out/metrics.jsonl"); ++turn) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  check_refused(at.train({"--resume", "--set", "steps=100000"}), 1, {"another run is writing there", "out"});
  one.send(SIGKILL);
  CHECK(one.finish().code == 1000 + SIGKILL);
  check_refused(at.train(), 2, {"is there already"});
  CHECK(at.train({"--resume", "--set", "steps=5"}).code == 0);  // the lock went with its process
}

TEST_CASE("a run that goes on wants the tokenizer and the format that it began with") {
  const training_folder at;
  const std::string format = R"({"source_prefix": "{instruction} ", "target_prefix": " = "})";
  write_text(at.path("format.json"), format);
  const strings begin{"--resume", "--set", "steps=5", "--set", "format=" + at.path("format.json")};
  REQUIRE(at.train(begin).code == 0);
  CHECK(holds(at.file("out/model/chat_format.json"), " = "));
  write_text(at.path("format.json"), R"({"source_prefix": "{instruction} ", "target_prefix": " : "})");
  check_refused(at.train(begin), 1, {"format (digest)"});
  write_text(at.path("format.json"), format + "\n");  // says the same
  CHECK(at.train(begin).code == 0);
  // The same tokens under other numbers.
  const strings other{
      "--resume", "--set", "steps=5", "--set", "tokenizer=" + at.path("tokens"), "--set", "output=" + at.path("other")};
  const auto tokens = at.file("out/model/tokenizer.json");
  std::filesystem::copy(at.folder() / "out/model", at.folder() / "tokens");
  const auto begun = at.train(other);
  CAPTURE(begun.err);
  REQUIRE(begun.code == 0);
  auto changed = json::parse(tokens);
  auto& vocabulary = changed["model"]["vocab"];
  std::swap(vocabulary["a"], vocabulary["b"]);
  REQUIRE(vocabulary["a"].is_number());
  write_text(at.path("tokens/tokenizer.json"), changed.dump());
  check_refused(at.train(other), 1, {"tokenizer (digest)"});
  write_text(at.path("tokens/tokenizer.json"), json::parse(tokens).dump());  // laid out otherwise
  CHECK(at.train(other).code == 0);
}

TEST_CASE("the result knows its format, and how it was trained is said") {
  const training_folder at;
  write_text(at.path("format.json"), R"({"source_prefix": "{instruction} ", "target_prefix": " =\u00e9= "})");
  const auto done = at.train({"--set", "steps=5", "--set", "format=" + at.path("format.json")});
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  CHECK(holds(done.err, "runnel translate -m " + at.path("out/model") + " --plan group-streaming -k 2 --instruction "));
  const auto written = json::parse(at.file("out/model/chat_format.json"));
  CHECK(written["target_prefix"] == " =\u00e9= ");
  CHECK(written["source_prefix"] == "{instruction} ");
  // A model to start from brings it along.
  json settings = at.settings();
  settings.erase("tokenizer");
  settings["output"] = at.path("tuned");
  settings["model"] = {{"init", at.path("out/model")}};
  settings["lora"] = {{"rank", 2}};
  settings["steps"] = 5;
  write_text(at.path("tuned.json"), settings.dump());
  const auto tuned = run({"train", at.path("tuned.json")});
  CAPTURE(tuned.err);
  REQUIRE(tuned.code == 0);
  CHECK(json::parse(at.file("tuned/adapter/chat_format.json"))["target_prefix"] == " =\u00e9= ");
  CHECK(holds(tuned.err, "-m " + at.path("out/model") + " --lora " + at.path("tuned/adapter") + " --format "));
  write_text(at.path("out/model/chat_format.json"), "{}");
  check_refused(run({"train", at.path("tuned.json"), "--set", "output=" + at.path("none")}), 1, {"chat_format.json"});
}

TEST_CASE("steps may change when a run goes on: the rate falls as it began to, or as is said then") {
  const training_folder at;
  const auto rates = [&](const std::string& output) {
    std::map<int, double> out;
    for (const auto& one : at.metrics(output)) {
      if (one.contains("rate")) out[one["step"].get<int>()] = one["rate"].get<double>();
    }
    return out;
  };
  const strings quick{"--set", "validation.every=0"};
  const auto train = [&](strings more) {
    more.insert(more.end(), quick.begin(), quick.end());
    return at.train(more);
  };
  REQUIRE(train({"--set", "steps=12", "--set", "schedule.final_ratio=0.5"}).code == 0);
  const auto first = rates("out");
  const auto more = train({"--resume", "--set", "steps=16", "--set", "schedule.final_ratio=0.5"});
  CAPTURE(more.err);
  REQUIRE(more.code == 0);
  CHECK(holds(more.err, "falls until step 12"));
  CHECK(holds(more.err, "--set schedule.steps=16"));
  auto all = rates("out");
  CHECK(all.size() == 16);
  CHECK(all[12] == first.at(12));
  CHECK(all[16] == 0.005);
  REQUIRE(train({"--resume", "--set", "steps=20", "--set", "schedule.final_ratio=0.5", "--set", "schedule.steps=40"})
              .code == 0);
  all = rates("out");
  CHECK(all[16] == 0.005);
  CHECK(all[20] > 0.007);
  check_refused(train({"--resume", "--set", "steps=20", "--set", "schedule.final_ratio=0.25"}), 1, {"final_ratio"});
}

TEST_CASE("a best model that cannot be kept, or is gone, is told, and the last is the result") {
  const training_folder at;
  std::filesystem::create_directories(at.folder() / "out/checkpoints/best.safetensors/x");
  write_text(at.path("out/.lock"), "runnel train\n");
  const auto done = at.train({"--resume", "--set", "checkpoint.on_failure=go_on"});
  CAPTURE(done.err);
  CHECK(done.code == 0);
  CHECK(holds(done.err, "no checkpoint was written, training goes on"));
  CHECK_FALSE(holds(done.err, "the best so far"));
  CHECK(at.has("out/model/model.safetensors"));
  const strings other{"--resume", "--set", "output=" + at.path("other")};
  REQUIRE(at.train(other).code == 0);
  std::filesystem::resize_file(at.folder() / "other/checkpoints/best.safetensors", 1000);
  const auto damaged = at.train(other);
  CAPTURE(damaged.err);
  CHECK(damaged.code == 0);
  CHECK(holds(damaged.err, "those of step 24 are taken"));
  CHECK(at.file("other/model/model.safetensors") == at.file("out/model/model.safetensors"));
}

TEST_CASE("validation has batches of its own size, and what it leaves out is told") {
  const training_folder at;
  const auto small = at.train({"--set", "validation.rows=27", "--set", "steps=5"});
  CAPTURE(small.err);
  CHECK(small.code == 0);
  CHECK(holds(small.err, "left out of validation: 0 pairs that cannot be used, "));
  check_refused(at.train({"--set", "validation.rows=2", "--set", "output=" + at.path("none")}), 2, {"no pair"});
  const auto none = at.train({"--set", "validation.rows=2", "--set", "validation.every=0", "--set", "steps=5", "--set",
                              "output=" + at.path("without")});
  CHECK(none.code == 0);  // never looked at
  // A validation takes less memory than training on as much, and none where there is none.
  const auto memory = [&](const char* rows, const char* every, const std::string& output) {
    const auto done =
        at.train({"--set", "batch.accumulation=1", "--set", std::string("batch.rows=") + rows, "--set",
                  std::string("validation.every=") + every, "--set", "steps=5", "--set", "output=" + at.path(output)});
    CAPTURE(done.err);
    REQUIRE(done.code == 0);
    const std::string before = "memory: about ";
    return std::stod(done.err.substr(done.err.find(before) + before.size()));
  };
  const double large = memory("4096", "5", "a"), validates = memory("160", "5", "b"),
               small_alone = memory("160", "0", "c");
  CHECK(large > validates);
  CHECK(validates > small_alone);
}

}  // namespace
