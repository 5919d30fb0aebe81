// SPDX-License-Identifier: Apache-2.0
// Adapters that are written and read again: those that PEFT wrote (golden/models/make_adapters.py), and made ones.
#include <runnel/models/adapter_writer.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/rng.hpp>

#include "golden.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel;
using runnel_test::content;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::scratch_folder;

std::filesystem::path adapters() { return tests::golden_models() / "adapters"; }

models::decoder base_of(const std::string& name) {
  std::ifstream file(adapters() / name / "base.txt");
  std::string base;
  std::getline(file, base);
  return models::load_hugging_face_decoder(tests::golden_models() / base);
}

tests::logit_rows logits_with(const models::decoder& model, const models::adapter& adapter,
                              std::span<const std::int32_t> tokens) {
  const nn::active_adapter<nn::inference_parameters> active[] = {{&adapter, 1}};
  ops::eval context({1, ops::compute_mode::f32});
  const auto count = static_cast<index_t>(tokens.size());
  auto cache = model.make_cache(cache::storage_type::f32, count);
  const auto rows = tests::causal_rows(0, count, model.config().sliding_window);
  std::vector<index_t> all(tokens.size());
  std::iota(all.begin(), all.end(), index_t{0});
  const models::stream_rows stream{&cache, &rows, tokens, all, active};
  return tests::copy_rows(model.forward(context, std::span(&stream, 1)));
}

double largest_difference(const tests::logit_rows& a, const tests::logit_rows& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t r = 0; r < a.size(); ++r) most = std::max(most, tests::largest_difference({a[r]}, b[r]));
  return most;
}

/// A matrix of the given size with random values.
ops::prepared_matrix random_matrix(random_stream& random, index_t outputs, index_t inputs) {
  std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
  for (float& value : values) value = static_cast<float>(0.3 * (random.uniform() - 0.5));
  return ops::prepared_matrix::prepare(
      {quant::weight_format::f32, outputs, inputs, std::as_bytes(std::span(values)), {}});
}

void adapt(random_stream& random, models::adapter& to, const models::decoder& base, index_t layer,
           models::adapted_module which, index_t rank, float scale) {
  to.layers.resize(base.weights().layers.size());
  const auto at = static_cast<std::size_t>(layer);
  const auto& weight = models::module_of(base.weights().layers[at], which).weight;
  auto& change = to.layers[at][static_cast<std::size_t>(which)];
  change.down = random_matrix(random, rank, weight.inputs());
  change.up = random_matrix(random, weight.outputs(), rank);
  change.scale = scale;
}

nlohmann::json config_in(const std::filesystem::path& folder) {
  return nlohmann::json::parse(content(folder / "adapter_config.json"));
}

const std::vector<std::int32_t> some_tokens{3, 1, 4, 1, 5, 9, 2, 6};

TEST_CASE("adapters that PEFT wrote come back from what is written of them") {
  for (const std::string name : {"plain", "rslora", "patterns", "fused", "head"}) {
    CAPTURE(name);
    scratch_folder folder;
    const auto base = base_of(name);
    const auto tokens = tests::read_golden(adapters() / name).tokens;
    const auto before = models::load_adapter(adapters() / name, base);
    models::write_peft(*before, base, folder / "deep/er", {"some/base", 0.1});
    const auto after = models::load_adapter(folder / "deep/er", base);
    const auto expected = logits_with(base, *before, tokens), found = logits_with(base, *after, tokens);
    if (name == "fused") {  // its three parts had one A, which now is there three times
      CHECK(largest_difference(found, expected) <= 1e-5);
    } else {
      CHECK(found == expected);
    }
    const auto config = config_in(folder / "deep/er");
    CHECK(config["base_model_name_or_path"] == "some/base");
    CHECK(config["lora_dropout"] == 0.1);
    CHECK(config["bias"] == "none");
    if (name == "plain") {
      CHECK(config["r"] == 8);
      CHECK(config["lora_alpha"] == 16);
      CHECK(config["target_modules"].size() == 7);
      CHECK(config["target_modules"][0] == "q_proj");
      CHECK(config["rank_pattern"].empty());
      CHECK(content(folder / "deep/er/adapter_model.safetensors").size() > 1000);
    }
  }
}

TEST_CASE("modules of some layers, with ranks and scales of their own") {
  random_stream random(5);
  for (const std::string name : {"plain", "fused"}) {
    CAPTURE(name);
    scratch_folder folder;
    const auto base = base_of(name);
    using models::adapted_module;
    models::adapter adapter;
    adapt(random, adapter, base, 0, adapted_module::query, 3, 0.5f);
    adapt(random, adapter, base, 0, adapted_module::value, 2, 0.25f);
    adapt(random, adapter, base, 1, adapted_module::query, 1, -2.0f);
    adapt(random, adapter, base, 1, adapted_module::up, 4, 1.0f);
    models::write_peft(adapter, base, folder.path());
    const auto after = models::load_adapter(folder.path(), base);
    const auto expected = logits_with(base, adapter, some_tokens);
    CHECK(largest_difference(logits_with(base, *after, some_tokens), expected) <= 1e-5);
    models::adapter none;
    none.layers.resize(base.weights().layers.size());
    CHECK(largest_difference(logits_with(base, none, some_tokens), expected) > 1e-3);
    const auto config = config_in(folder.path());
    CHECK(config["base_model_name_or_path"].is_null());
    CHECK_FALSE(config["alpha_pattern"].empty());
    CHECK_FALSE(config["rank_pattern"].empty());
  }
}

TEST_CASE("what cannot be written is refused before anything is") {
  scratch_folder folder;
  random_stream random(5);
  const auto base = base_of("plain");
  const auto refused = [&](const models::adapter& adapter) {
    const auto text = failure<config_error>([&] { models::write_peft(adapter, base, folder / "out"); });
    CHECK_FALSE(std::filesystem::exists(folder / "out"));
    return text;
  };
  models::adapter adapter;
  CHECK(holds(refused(adapter), "layers"));
  adapter.layers.resize(base.weights().layers.size());
  CHECK(holds(refused(adapter), "nothing is adapted"));
  adapt(random, adapter, base, 0, models::adapted_module::query, 2, 0);
  CHECK(holds(refused(adapter), "scale of 0"));
  auto& change = adapter.layers[0][0];
  change.scale = 1;
  change.bias = tensor<float, 1>({base.weights().layers[0].attention.query.weight.outputs()});
  CHECK(holds(refused(adapter), "has a bias"));
  change.bias = {};
  change.up = random_matrix(random, 3, 2);
  CHECK(holds(refused(adapter), "does not fit"));
  adapt(random, adapter, base, 0, models::adapted_module::query, 2, 1);
  runnel_test::put(folder / "file", "x");
  CHECK(holds(failure<io_error>([&] { models::write_peft(adapter, base, folder / "file"); }), "file"));
}

}  // namespace
