// SPDX-License-Identifier: Apache-2.0
// Adapters that PEFT wrote, with the logits of Transformers and PEFT (golden/models/make_adapters.py).
#include <runnel/models/adapter.hpp>

#include <doctest/doctest.h>

#include <fstream>

#include <nlohmann/json.hpp>

#include <runnel/models/export.hpp>
#include <runnel/models/merge.hpp>

#include "golden.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel;
using active_adapter = nn::active_adapter<nn::inference_parameters>;

std::filesystem::path adapters() { return tests::golden_models() / "adapters"; }

const std::string all_cases[] = {"plain", "rslora", "bias_all", "bias_lora", "up_bias", "fused", "patterns", "head"};

models::decoder base_of(const std::string& name) {
  std::ifstream file(adapters() / name / "base.txt");
  std::string base;
  std::getline(file, base);
  return models::load_hugging_face_decoder(tests::golden_models() / base);
}

tests::logit_rows logits_with(const models::decoder& model, std::span<const active_adapter> active,
                              std::span<const std::int32_t> tokens, ops::compute_mode mode = ops::compute_mode::f32) {
  ops::eval context({1, mode});
  const auto count = static_cast<index_t>(tokens.size());
  auto cache = model.make_cache(cache::storage_type::f32, count);
  const auto rows = tests::causal_rows(0, count, model.config().sliding_window);
  std::vector<index_t> all(tokens.size());
  std::iota(all.begin(), all.end(), index_t{0});
  const models::stream_rows stream{&cache, &rows, tokens, all, active};
  return tests::copy_rows(model.forward(context, std::span(&stream, 1)));
}

TEST_CASE("logits with an adapter are those of PEFT, beside the base and merged into it") {
  for (const std::string& name : all_cases) {
    CAPTURE(name);
    const auto base = base_of(name);
    const auto expected = tests::read_golden(adapters() / name);
    const auto adapter = models::load_adapter(adapters() / name, base);
    const active_adapter active[] = {{adapter.get(), 1}};
    CHECK(tests::largest_difference(logits_with(base, active, expected.tokens), expected.logits) <= 1e-4);
    CHECK(tests::largest_difference(logits_with(base, {}, expected.tokens), expected.logits) > 1e-2);
    const active_adapter off[] = {{adapter.get(), 0}};
    if (name != "bias_all" && name != "bias_lora") {  // trained biases count whatever the scale
      CHECK(logits_with(base, off, expected.tokens) == logits_with(base, {}, expected.tokens));
    }
    const auto merged = models::merge_adapters(base, active);
    CHECK(merged.weights().layers[0].attention.key.weight.planes() == models::key_planes);
    CHECK(tests::largest_difference(logits_with(merged, {}, expected.tokens), expected.logits) <= 1e-4);
    if (!std::filesystem::exists(adapters() / name / "adapter.gguf")) continue;
    const auto from_gguf = models::load_adapter(adapters() / name / "adapter.gguf", base);
    const active_adapter same[] = {{from_gguf.get(), 1}};
    CHECK(tests::largest_difference(logits_with(base, same, expected.tokens), expected.logits) <= 1e-4);
  }
}

TEST_CASE("adapters add up, each with its scale") {
  const auto base = base_of("plain");
  const auto tokens = tests::read_golden(adapters() / "plain").tokens;
  const auto adapter = models::load_adapter(adapters() / "plain", base);
  const active_adapter twice[] = {{adapter.get(), 0.25f}, {adapter.get(), 0.75f}}, once[] = {{adapter.get(), 1}};
  const auto one = logits_with(base, once, tokens), two = logits_with(base, twice, tokens);
  double most = 0;
  for (std::size_t r = 0; r < one.size(); ++r) {
    for (std::size_t i = 0; i < one[r].size(); ++i) {
      most = std::max(most, std::fabs(static_cast<double>(one[r][i]) - static_cast<double>(two[r][i])));
    }
  }
  CHECK(most <= 1e-4);
  const auto merged = models::merge_adapters(base, twice);
  const auto expected = tests::read_golden(adapters() / "plain");
  CHECK(tests::largest_difference(logits_with(merged, {}, tokens), expected.logits) <= 1e-4);
}

TEST_CASE("a base of any format takes an adapter; a quantised one is merged only where that is allowed") {
  const auto base = models::load_hugging_face_decoder(tests::golden_models() / "quantised");
  const auto quantised = models::load_gguf_decoder(io::gguf_file(tests::golden_models() / "quantised" / "model.gguf"));
  nn::adapter<nn::inference_parameters> change;
  change.layers.resize(base.weights().layers.size());
  auto& query = change.layers[0][0];
  const std::vector<float> down(32, 0.05f), up(32, 0.1f);
  query.down = ops::prepared_matrix::prepare({quant::weight_format::f32, 1, 32, std::as_bytes(std::span(down)), {}});
  query.up = ops::prepared_matrix::prepare({quant::weight_format::f32, 32, 1, std::as_bytes(std::span(up)), {}});
  const active_adapter active[] = {{&change, 1}};
  const std::vector<std::int32_t> tokens{1, 5, 7, 3, 9};
  const auto beside = logits_with(base, active, tokens);
  CHECK(logits_with(quantised, active, tokens) == beside);  // the same weights, whatever holds them
  CHECK(beside != logits_with(base, {}, tokens));
  for (const auto mode : {ops::compute_mode::bf16, ops::compute_mode::int8}) {
    CHECK(logits_with(quantised, active, tokens, mode) != logits_with(quantised, {}, tokens, mode));
  }
  try {
    static_cast<void>(models::merge_adapters(quantised, active));
    FAIL("a quantised base was merged into");
  } catch (const config_error& refusal) {
    const std::string text = refusal.what();
    CHECK(text.find("self_attn.q_proj") != std::string::npos);
    CHECK(text.find("q4_1") != std::string::npos);
  }
  const auto merged = models::merge_adapters(quantised, active, models::requantise::allow);
  CHECK(merged.weights().layers[0].attention.query.weight.format() == quant::weight_format::q4_1);
  CHECK(logits_with(merged, {}, tokens) != logits_with(quantised, {}, tokens));
}

TEST_CASE("streams of one pass have their own adapters, and nobody else's bits change") {
  const auto base = base_of("plain");
  const auto tokens = tests::read_golden(adapters() / "plain").tokens;
  const auto adapter = models::load_adapter(adapters() / "plain", base);
  const active_adapter full[] = {{adapter.get(), 1}}, half[] = {{adapter.get(), 0.5f}};
  const std::span<const active_adapter> choices[] = {full, {}, half, {}};
  for (const int threads : {1, 3}) {
    ops::eval context({threads});
    std::vector<cache::key_value_cache> caches;
    std::vector<models::stream_rows> streams;
    const auto rows = tests::causal_rows(0, static_cast<index_t>(tokens.size()));
    std::vector<index_t> all(tokens.size());
    std::iota(all.begin(), all.end(), index_t{0});
    for (std::size_t i = 0; i < 4; ++i) caches.push_back(base.make_cache());
    for (std::size_t i = 0; i < 4; ++i) streams.push_back({&caches[i], &rows, tokens, all, choices[i]});
    const auto together = tests::copy_rows(base.forward(context, streams));
    for (std::size_t i = 0; i < 4; ++i) {
      const auto alone = logits_with(base, choices[i], tokens);
      for (std::size_t r = 0; r < alone.size(); ++r) CHECK(together[i * alone.size() + r] == alone[r]);
    }
  }
}

TEST_CASE("the head that PEFT saves beside its adapter is known again in any format of the base") {
  const auto exact = base_of("head");
  const auto expected = tests::read_golden(adapters() / "head");
  for (const auto format : {quant::weight_format::f16, quant::weight_format::bf16}) {
    const runnel_test::scratch_folder folder;
    models::write_hugging_face(exact, format, folder.path());
    const auto base = models::load_hugging_face_decoder(folder.path());
    const auto adapter = models::load_adapter(adapters() / "head", base);
    const active_adapter active[] = {{adapter.get(), 1}};
    const auto logits = logits_with(base, active, expected.tokens);
    CHECK(tests::largest_difference(logits, expected.logits) <= 0.1);
    CHECK(logits != logits_with(base, {}, expected.tokens));
  }
  const auto other = models::load_hugging_face_decoder(tests::golden_models() / "mqa");
  CHECK_THROWS_AS(static_cast<void>(models::load_adapter(adapters() / "head", other)), format_error);
}

TEST_CASE("adapters that do not fit, or do what is not supported, are refused by name") {
  const auto base = base_of("plain");
  const auto config = nlohmann::json::parse(std::ifstream(adapters() / "plain" / "adapter_config.json"));
  const auto weights = adapters() / "plain" / "adapter_model.safetensors";
  const auto refuses = [&](const nlohmann::json& changed, const std::string& part) {
    const runnel_test::scratch_folder folder;
    std::ofstream(folder / "adapter_config.json") << changed.dump();
    std::filesystem::copy_file(weights, folder / "adapter_model.safetensors");
    CAPTURE(part);
    try {
      static_cast<void>(models::load_adapter(folder.path(), base));
      FAIL("no error");
    } catch (const format_error& refusal) {
      const std::string text = refusal.what();
      CAPTURE(text);
      CHECK(text.find(part) != std::string::npos);
    }
  };
  const auto with = [&](const char* key, nlohmann::json value) {
    auto changed = config;
    changed[key] = std::move(value);
    return changed;
  };
  CHECK_NOTHROW(static_cast<void>(models::load_adapter(adapters() / "plain", base)));
  refuses(with("peft_type", "IA3"), "peft_type");
  refuses(with("use_dora", true), "use_dora");
  refuses(with("fan_in_fan_out", true), "fan_in_fan_out");
  refuses(with("modules_to_save", {"lm_head"}), "modules_to_save");
  refuses(with("modules_to_save", "lm_head"), "modules_to_save");
  for (const char* changing : {"pissa_niter_4", "OLoRA", "lora_ga", "LoftQ", "corda"}) {
    refuses(with("init_lora_weights", changing), "init_lora_weights");
  }
  CHECK_NOTHROW(static_cast<void>(models::load_adapter(adapters() / "plain", base)));
  refuses(with("alora_invocation_tokens", {1, 2}), "alora_invocation_tokens");
  refuses(with("layer_replication", {{0, 1}, {0, 1}}), "layer_replication");
  refuses(with("use_bdlora", {{"nblocks", 2}}), "use_bdlora");
  refuses(with("lora_alpha", 1e60), "lora_alpha");
  refuses(with("r", 4), "rank 4");
  refuses(with("lora_alpha", "x"), "lora_alpha");
  refuses(with("alpha_pattern", {{"q_.*", 2}}), "alpha_pattern");
  auto missing = config;
  missing.erase("lora_alpha");
  refuses(missing, "lora_alpha");
  // Another model: a tensor's shape is wrong, or it belongs to a layer that is not there.
  CHECK_THROWS_AS(static_cast<void>(models::load_adapter(adapters() / "plain", base_of("bias_all"))), format_error);
  CHECK_THROWS_AS(static_cast<void>(models::load_adapter(adapters() / "patterns", base_of("plain"))), format_error);
  CHECK_THROWS_AS(static_cast<void>(models::load_adapter(adapters() / "nowhere", base)), io_error);
  nn::adapter<nn::inference_parameters> shallow;
  CHECK_THROWS_AS(base.check(shallow), config_error);
  // As many layers, other widths: nothing is merged.
  const auto wide = models::load_hugging_face_decoder(tests::golden_models() / "gqa");
  const auto narrow = models::load_hugging_face_decoder(tests::golden_models() / "mha");
  nn::adapter<nn::inference_parameters> foreign;
  foreign.layers.resize(narrow.weights().layers.size());
  auto& query = foreign.layers[0][0];
  const auto inputs = static_cast<std::size_t>(wide.config().hidden_size);
  const auto outputs = static_cast<std::size_t>(wide.weights().layers[0].attention.query.weight.outputs());
  const std::vector<float> down(inputs, 1), up(outputs, 1);
  const auto pack = [](std::size_t rows, std::size_t columns, const std::vector<float>& values) {
    return ops::prepared_matrix::prepare({quant::weight_format::f32,
                                          static_cast<index_t>(rows),
                                          static_cast<index_t>(columns),
                                          std::as_bytes(std::span(values)),
                                          {}});
  };
  query.down = pack(1, inputs, down);
  query.up = pack(outputs, 1, up);
  const active_adapter active[] = {{&foreign, 1}};
  CHECK_THROWS_AS(static_cast<void>(models::merge_adapters(narrow, active)), config_error);
  CHECK_THROWS_AS(static_cast<void>(models::list_weights(narrow, &models::weight_name::gguf, active)), config_error);
}

}  // namespace
