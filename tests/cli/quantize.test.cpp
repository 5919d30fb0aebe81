// SPDX-License-Identifier: Apache-2.0
// Models written again: fewer bits, another container, adapters merged.

#include "process.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>

#include <nlohmann/json.hpp>

#include <runnel/io/gguf.hpp>
#include <runnel/io/npy.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/io/safetensors_writer.hpp>

namespace {

using namespace runnel_test;
using runnel::io::gguf_file;
using strings = std::vector<std::string>;

constexpr const char* counted = "Eins zwei drei vier f\xC3\xBCnf";

std::set<std::string> entries(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& one : std::filesystem::directory_iterator(folder)) names.insert(one.path().filename().string());
  return names;
}

/// Runs `quantize`, which has to succeed without a word on standard output; returns its notes.
std::string quantize(const std::string& from, const std::string& to, const std::string& type,
                     const strings& more = {}) {
  strings arguments{"quantize", "-m", from, "-o", to, "--type", type};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const auto done = run(arguments);
  CAPTURE(done.err);
  CHECK(done.code == 0);
  CHECK(done.out.empty());
  return done.err;
}

outcome refused(const std::string& from, const std::string& to, const std::string& type, const strings& more = {}) {
  strings arguments{"quantize", "-m", from, "-o", to, "--type", type};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

std::vector<float> logits(const std::string& model, const scratch_folder& scratch, const strings& more = {}) {
  const auto file = (scratch / "logits.npy").string();
  strings arguments{"logits", "-m", model, "--tokens", "12,3,99,258,260,100", "-o", file, "--compute", "f32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const auto done = run(arguments);
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  return runnel::io::read_npy<float>(file).values;
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

const strings texts{"ab", "count: Eins zwei", "a<|im_end|>b <|im_start|>", "\xFF\xC3\xA4 123", "  \t", "\xE2\x96\x81"};

/// Ids of some texts, special tokens as text and parsed.
std::string all_ids(const std::string& model) {
  std::string out;
  for (const auto& text : texts) {
    out += run({"tokenize", "-m", model, "-p", text}).out;
    out += run({"tokenize", "-m", model, "-p", text, "--parse-special"}).out;
  }
  return out;
}

/// A PEFT folder that changes how the first layer goes down, in a way that anybody notices.
void write_adapter(const std::filesystem::path& folder) {
  std::filesystem::create_directory(folder);
  std::vector<float> down(2 * 32), up(16 * 2);
  for (std::size_t i = 0; i < down.size(); ++i) down[i] = static_cast<float>(i % 7) - 3;
  for (std::size_t i = 0; i < up.size(); ++i) up[i] = (static_cast<float>(i % 5) - 2) / 8;
  const std::string module = "base_model.model.model.layers.0.mlp.down_proj.";
  const runnel::io::safetensors_output weights[] = {
      {module + "lora_A.weight", runnel::quant::weight_format::f32, {2, 32}, std::as_bytes(std::span(down))},
      {module + "lora_B.weight", runnel::quant::weight_format::f32, {16, 2}, std::as_bytes(std::span(up))}};
  runnel::io::write_safetensors(folder / "adapter_model.safetensors", weights);
  write_text(folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
}

TEST_CASE("a GGUF file becomes a Hugging Face folder and a GGUF file again: equal ids, equal logits") {
  const scratch_folder scratch;
  const std::string model = tiny_model(), folder = (scratch / "model").string(),
                    file = (scratch / "back.gguf").string();
  const auto note = quantize(model, folder, "f32", {"-t", "2"});
  CHECK(note.find("model: f32") != std::string::npos);
  CHECK(entries(folder) ==
        std::set<std::string>{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"});
  CHECK(entries(scratch.path()) == std::set<std::string>{"model"});
  const auto expected = logits(model, scratch);
  CHECK(logits(folder, scratch) == expected);
  CHECK(all_ids(folder) == all_ids(model));
  CHECK(run({"generate", "-m", folder, "-p", "count:\n"}).out == std::string(counted) + "\n");
  CHECK(run({"generate", "-m", folder, "--chat", "-p", "hm"}).out == std::string(counted) + "\n");
  const auto config = nlohmann::json::parse(read_text(scratch / "model" / "config.json"));
  CHECK(config["eos_token_id"] == 1);
  CHECK(config["bos_token_id"] == 0);

  quantize(folder, file, "F32");
  CHECK(logits(file, scratch) == expected);
  CHECK(all_ids(file) == all_ids(model));
  CHECK(run({"generate", "-m", file, "--chat", "-p", "hm"}).out == std::string(counted) + "\n");
  const gguf_file from(model), to(file);
  CHECK(to.string("general.name") == "model");
  CHECK(to.get<std::uint32_t>("general.file_type") == 0);
  for (const auto& tensor : from.tensors()) {
    CHECK(std::ranges::equal(to.tensor(tensor.name).bytes, tensor.bytes));
  }
  // The same formats are chosen on either way.
  const auto one = (scratch / "one.gguf").string(), other = (scratch / "other.gguf").string();
  quantize(model, one, "q4_k_m");
  quantize(folder, other, "q4_k_m");
  const gguf_file first(one), second(other);
  CHECK(second.get<std::uint32_t>("general.file_type") == 15);
  for (const auto& tensor : first.tensors()) {
    CHECK(second.tensor(tensor.name).format == tensor.format);
    CHECK(std::ranges::equal(second.tensor(tensor.name).bytes, tensor.bytes));
  }
}

TEST_CASE("a chat format of a model's own goes along, from folder to file and back") {
  const scratch_folder scratch;
  const std::string folder = (scratch / "model").string(), file = (scratch / "model.gguf").string(),
                    back = (scratch / "back").string(), copy = (scratch / "copy").string();
  quantize(tiny_model(), folder, "f32");
  const std::string format = R"({"name": "mine", "source_prefix": "{instruction}: ", "target_prefix": "\n"})";
  write_text(scratch / "model" / "chat_format.json", format);
  quantize(folder, file, "q8_0");
  CHECK(gguf_file(file).string("runnel.chat_format") == format);
  quantize(file, (scratch / "again.gguf").string(), "f32", {"--allow-requantize"});
  quantize(file, back, "f32", {"--allow-requantize"});
  quantize(folder, copy, "f32");
  for (const auto& model : {folder, file, (scratch / "again.gguf").string(), back, copy}) {
    CAPTURE(model);
    const auto said = run({"inspect", "-m", model, "--json"});
    CAPTURE(said.err);
    REQUIRE(said.code == 0);
    CHECK(nlohmann::json::parse(said.out)["chat_format"]["name"] == "mine");
  }
  CHECK(read_text(scratch / "back" / "chat_format.json") == format);

  std::string bytes = read_text(file);
  bytes.replace(bytes.find("\"mine\""), 6, "123456");
  const auto broken = (scratch / "broken.gguf").string();
  write_text(broken, bytes);
  const auto said = run({"translate", "-m", broken, "--source", "-"});
  CHECK(said.code == 1);
  CHECK(said.err.find("broken.gguf: runnel.chat_format") != std::string::npos);
}

TEST_CASE("a folder becomes another with the same tokenizer files, in the type asked for") {
  const scratch_folder scratch;
  const auto folder = scratch / "model", half = scratch / "half";
  quantize(tiny_model(), folder.string(), "f32");
  write_text(folder / "special_tokens_map.json", "{ }\n");
  write_text(folder / "readme.txt", "not part of a tokenizer");
  std::filesystem::create_directory(half);  // an empty one will do
  quantize(folder.string(), half.string() + "/", "f16");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    CHECK(read_text(half / name) == read_text(folder / name));
  }
  CHECK_FALSE(std::filesystem::exists(half / "readme.txt"));
  CHECK(nlohmann::json::parse(read_text(half / "config.json"))["torch_dtype"] == "float16");
  CHECK(runnel::io::open_safetensors(half).tensor("lm_head.weight").format == runnel::quant::weight_format::f16);
  CHECK(difference(logits(half.string(), scratch), logits(folder.string(), scratch)) < 0.05);
}

TEST_CASE("what may not be written is refused, and nothing appears") {
  const scratch_folder scratch;
  const auto model = tiny_model(), folder = (scratch / "out").string();
  check_refused(refused(model, folder, "q8_0"), 2, {"--type", "f32, f16 or bf16", "q8_0", ".gguf"});
  std::filesystem::create_directory(folder);
  write_text(scratch / "out" / "mine", "x");
  check_refused(refused(model, folder, "f32"), 2, {"--out", "out", "empty"});
  check_refused(refused(model, (scratch / "out" / "mine").string(), "f32"), 2, {"--out", "mine"});
  CHECK(entries(folder) == std::set<std::string>{"mine"});
  check_refused(refused(model, (scratch / "no" / "such").string(), "f32"), 1, {"such"});
  check_refused(refused((scratch / "out").string(), (scratch / "x.gguf").string(), "f32"), 1, {"out"});
  write_text(scratch / "text.txt", "no model");
  check_refused(refused((scratch / "text.txt").string(), (scratch / "x.gguf").string(), "f32"), 2, {"text.txt"});
  // What is quantized is not rounded again unasked, in a folder neither.
  const auto small = (scratch / "small.gguf").string(), half = (scratch / "half").string();
  quantize(model, small, "q8_0");
  check_refused(refused(small, half, "f16"), 2, {"small.gguf", "down_proj", "q8_0", "allow-requantize"});
  CHECK(entries(scratch.path()) == std::set<std::string>{"out", "small.gguf", "text.txt"});
  quantize(small, half, "f16", {"--allow-requantize"});
  quantize(small, (scratch / "whole").string(), "f32");
  CHECK(logits((scratch / "whole").string(), scratch) == logits(small, scratch));
}

TEST_CASE("adapters are merged on every way, each with its scale") {
  const scratch_folder scratch;
  const std::string model = tiny_model(), adapter = (scratch / "adapter").string();
  write_adapter(adapter);
  const auto folder = (scratch / "folder").string();
  quantize(model, folder, "f32");
  const strings once{"--lora", adapter}, scaled{"--lora-scaled", adapter, "-0.5"};
  int number = 0;
  for (const auto& adapters : {once, scaled, strings{"--lora", adapter, "--lora-scaled", adapter, "0.25"}}) {
    const auto expected = logits(model, scratch, adapters);
    CHECK(difference(expected, logits(model, scratch)) > 0.1);
    for (const auto& from : {model, folder}) {
      const auto base = (scratch / std::to_string(number++)).string();
      CHECK(quantize(from, base, "f32", adapters).find("requantizes") == std::string::npos);
      CHECK(quantize(from, base + ".gguf", "f32", adapters).find("requantizes") == std::string::npos);
      CHECK(difference(logits(base, scratch), expected) < 1e-4);
      CHECK(difference(logits(base + ".gguf", scratch), expected) < 1e-4);
      CHECK(all_ids(base + ".gguf") == all_ids(model));
    }
  }
  const auto bits = [&](const std::string& a, const char* tensor) {
    return std::ranges::equal(gguf_file(a).tensor(tensor).bytes, gguf_file(model).tensor(tensor).bytes);
  };
  CHECK(bits((scratch / "0.gguf").string(), "blk.0.ffn_up.weight"));
  CHECK_FALSE(bits((scratch / "0.gguf").string(), "blk.0.ffn_down.weight"));
}

TEST_CASE("merging into quantized weights says so, and leaves the others as they are") {
  const scratch_folder scratch;
  const auto small = (scratch / "small.gguf").string(), merged = (scratch / "merged.gguf").string();
  const auto adapter = (scratch / "adapter").string();
  write_adapter(adapter);
  quantize(tiny_model(), small, "q8_0");
  const auto note = quantize(small, merged, "q8_0", {"--lora", adapter});
  CHECK(note.find("1 matrix that the model holds quantized: merging requantizes it") != std::string::npos);
  const gguf_file from(small), to(merged);
  REQUIRE(from.tensors().size() == to.tensors().size());
  for (const auto& tensor : from.tensors()) {
    CAPTURE(tensor.name);
    CHECK(to.tensor(tensor.name).format == tensor.format);
    CHECK(std::ranges::equal(to.tensor(tensor.name).bytes, tensor.bytes) == (tensor.name != "blk.0.ffn_down.weight"));
  }
  const auto beside = logits(small, scratch, {"--lora", adapter});
  CHECK(difference(logits(merged, scratch), beside) < difference(logits(small, scratch), beside) / 5);
  // In f32 nothing is rounded a second time.
  const auto whole = (scratch / "whole").string();
  CHECK(quantize(small, whole, "f32", {"--lora", adapter}).find("requantizes") == std::string::npos);
  CHECK(difference(logits(whole, scratch), beside) < 1e-4);

  const auto problem = [&](const strings& more) { return refused(small, (scratch / "x.gguf").string(), "q8_0", more); };
  check_refused(problem({"--lora", (scratch / "none").string()}), 1, {"none"});
  check_refused(problem({"--lora-scaled", adapter, "much"}), 2, {"--lora-scaled", "much"});
  write_text(scratch / "adapter" / "adapter_config.json", R"({"peft_type": "LORA", "r": 3, "lora_alpha": 2})");
  check_refused(problem({"--lora", adapter}), 1, {"adapter_config.json", "rank"});
  CHECK_FALSE(std::filesystem::exists(scratch / "x.gguf"));
}

TEST_CASE("what GGUF cannot say of a tokenizer is refused, or left out and named") {
  const scratch_folder scratch;
  const auto folder = scratch / "model";
  quantize(tiny_model(), folder.string(), "f32");
  auto tokenizer = nlohmann::json::parse(read_text(folder / "tokenizer.json"));
  tokenizer["added_tokens"][1]["lstrip"] = true;
  write_text(folder / "tokenizer.json", tokenizer.dump());
  const auto file = (scratch / "model.gguf").string();
  check_refused(refused(folder.string(), file, "f32"), 2, {"tokenizer.json", "GGUF cannot say", "<|im_end|>"});
  CHECK_FALSE(std::filesystem::exists(file));
  const auto note = quantize(folder.string(), file, "f32", {"--lossy-tokenizer"});
  CHECK(note.find("--lossy-tokenizer: the file does not say that the added token '<|im_end|>'") != std::string::npos);
  CHECK(all_ids(file) == all_ids(tiny_model()));
}

}  // namespace
