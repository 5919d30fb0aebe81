// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <fstream>
#include <iterator>

#include "io/support.hpp"
#include "support/random_values.hpp"

#include <runnel/io/safetensors_writer.hpp>

namespace {

using namespace runnel;
using namespace runnel::tests;
using runnel_test::failure;
using runnel_test::holds;

/// A golden checkpoint whose tensors and config can be changed.
struct changed_checkpoint {
  runnel_test::scratch_folder folder;
  io::safetensors_checkpoint from;
  std::vector<io::safetensors_output> tensors;
  std::string config;

  explicit changed_checkpoint(std::string_view name) : from(io::open_safetensors(speech_golden(name))) {
    for (const auto& one : from.tensors()) tensors.push_back({one.name, *one.format, one.shape, one.bytes});
    config = runnel_test::content(speech_golden(name) / "config.json");
  }
  void replace(std::string_view old, std::string_view now) {
    const auto at = config.find(old);
    REQUIRE(at != std::string::npos);
    config.replace(at, old.size(), now);
  }
  io::safetensors_output& at(std::string_view name) {
    for (auto& one : tensors) {
      if (one.name == name) return one;
    }
    FAIL(name);
    return tensors.front();
  }
  speech::encoder load() {
    io::write_safetensors(folder / "model.safetensors", tensors);
    runnel_test::put(folder / "config.json", config);
    return speech::load_encoder(folder.path());
  }
  std::string refusal() {
    return failure<format_error>([&] { (void)load(); });
  }
};

TEST_CASE("both spellings of weight norm, with and without a head, give the same encoder") {
  const auto samples = golden_samples(9000);
  const auto config = speech::read_encoder_config(speech_golden("stable"));
  const auto expected = run_stream(golden_encoder("stable", config), samples, 9000);
  changed_checkpoint old("stable");
  const std::string place = "encoder.pos_conv_embed.conv.";
  old.at(place + "parametrizations.weight.original0").name = place + "weight_g";
  old.at(place + "parametrizations.weight.original1").name = place + "weight_v";
  CHECK(same_bits(run_stream(old.load(), samples, 9000), expected));
  changed_checkpoint headed("stable");
  for (auto& one : headed.tensors) one.name = "wav2vec2." + one.name;
  CHECK(same_bits(run_stream(headed.load(), samples, 9000), expected));
}

TEST_CASE("group norm is refused without frozen statistics, and taken from the checkpoint where they are") {
  changed_checkpoint base("base");
  const auto text = base.refusal();
  CAPTURE(text);
  CHECK(holds(text, "feat_extract_norm is group"));
  CHECK(holds(text, "frozen statistics"));
  const auto frozen = golden_statistics(speech_golden("base"));
  const std::string place = "wav2vec2.feature_extractor.conv_layers.0.layer_norm.";
  base.tensors.push_back(
      {place + "running_mean", quant::weight_format::f32, {8}, std::as_bytes(std::span(frozen.mean))});
  base.tensors.push_back(
      {place + "running_var", quant::weight_format::f32, {8}, std::as_bytes(std::span(frozen.variance))});
  const auto samples = golden_samples();
  CHECK(away_from(speech_golden("base") / "hidden.npy", run_stream(base.load(), samples, 6400)) < 1e-4);
  const auto config = speech::read_encoder_config(speech_golden("base"));
  CHECK_THROWS_AS((void)speech::load_encoder(speech_golden("base"), config, {{1, 2}, {1, 2}}), format_error);
  auto negative = frozen;
  negative.variance[3] = -1;
  CHECK_THROWS_AS((void)speech::load_encoder(speech_golden("base"), config, negative), format_error);
}

TEST_CASE("the streaming form is read from the config") {
  changed_checkpoint model("stable");
  model.replace("{\n", R"({ "streaming": {"causal_position": true, "causal_attention": true, "left_context": 20,
    "left_pad": 80},)");
  const auto loaded = model.load();
  CHECK(loaded.config().streams());
  CHECK(away_from(speech_golden("stable") / "causal.npy", run_stream(loaded, golden_samples(), 6400)) < 1e-4);
}

TEST_CASE("what is refused names file and key or tensor") {
  const auto config_says = [](std::string_view old, std::string_view now, std::string_view part) {
    changed_checkpoint model("stable");
    model.replace(old, now);
    const auto text = model.refusal();
    CAPTURE(text);
    CHECK(holds(text, "config.json: "));
    CHECK(holds(text, part));
  };
  config_says("\"wav2vec2\"", "\"hubert\"", "model_type");
  config_says("\"layer\"", "\"batch\"", "feat_extract_norm");
  config_says("\"hidden_size\": 12", "\"hidden_size\": 13", "num_attention_heads");
  config_says("\"hidden_size\": 12", "\"hidden_size\": -12", "hidden_size");
  config_says("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 99999999999", "num_hidden_layers");
  config_says("\"num_conv_pos_embedding_groups\": 2", "\"num_conv_pos_embedding_groups\": 5", "groups");
  config_says("{\n", "{ \"add_adapter\": true,", "add_adapter");
  config_says("\"conv_stride\": [\n  5,", "\"conv_stride\": [", "conv_stride");
  config_says("{\n", "{ \"streaming\": {\"causal\": true},", "streaming.'causal'");
  config_says("{\n", "{ \"streaming\": {\"normalization\": \"loud\"},", "loud");
  config_says("{\n", "{ \"streaming\": {\"left_context\": 5},", "left_context");
  config_says("{\n",
              "{ \"streaming\": {\"causal_position\": true, \"causal_attention\": true, \"normalization\": "
              "\"utterance\"},",
              "utterance");
  changed_checkpoint missing("stable");
  std::erase_if(missing.tensors, [](const auto& one) { return one.name == "encoder.layers.1.attention.k_proj.bias"; });
  CHECK(holds(missing.refusal(), "model.safetensors: tensor encoder.layers.1.attention.k_proj.bias is missing"));
  changed_checkpoint shaped("stable");
  shaped.at("feature_projection.projection.weight").shape = {8, 12};
  CHECK(holds(shaped.refusal(), "expected shape [12, 8], found [8, 12]"));
  changed_checkpoint larger("stable");  // sizes are taken from the file before memory is
  larger.replace("\"intermediate_size\": 20", "\"intermediate_size\": 16000000");
  CHECK(holds(larger.refusal(), "expected shape [16000000, 12], found [20, 12]"));
}

}  // namespace
