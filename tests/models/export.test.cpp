// SPDX-License-Identifier: Apache-2.0
// What is written is what was read: every tiny checkpoint through both containers and back.
#include <runnel/models/export.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "golden.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel;
using quant::weight_format;

std::vector<std::filesystem::path> all_checkpoints() {
  std::vector<std::filesystem::path> found;
  for (const auto& folder : {tests::golden_models(), tests::golden_models() / "families"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (std::filesystem::exists(entry.path() / "config.json")) found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

models::decoder through_gguf(const models::decoder& model, weight_format format, const std::filesystem::path& path) {
  io::gguf_writer out;
  models::add_to_gguf(model, models::matrices_as(format), out);
  out.write(path);
  return models::load_gguf_decoder(io::gguf_file(path));
}

TEST_CASE("config and weights survive a Hugging Face directory bit for bit") {
  for (const auto& checkpoint : all_checkpoints()) {
    CAPTURE(checkpoint.string());
    const runnel_test::scratch_folder folder;
    const auto model = models::load_hugging_face_decoder(checkpoint);
    models::write_hugging_face(model, weight_format::f32, folder.path());
    const auto again = models::load_hugging_face_decoder(folder.path());
    for (const char* which : {"", "_short"}) {
      if (!std::filesystem::exists(checkpoint / ("tokens" + std::string(which) + ".npy"))) continue;
      const auto golden = tests::read_golden(checkpoint, which);
      ops::eval context;
      CHECK(tests::prefill(again, context, golden.tokens) == tests::prefill(model, context, golden.tokens));
    }
    const auto config = nlohmann::json::parse(std::ifstream(folder / "config.json"));
    CHECK(config.at("architectures").size() == 1);
    CHECK(config.at("pad_token_id").is_null());  // a class's own default might lie outside of the vocabulary
    if (config.contains("query_pre_attn_scalar")) CHECK(config.at("query_pre_attn_scalar").is_number_integer());
  }
}

TEST_CASE("a GGUF file says the same, where its metadata can; else that is said before anything is written") {
  int refused = 0;
  for (const auto& checkpoint : all_checkpoints()) {
    const std::string name = checkpoint.filename().string();
    CAPTURE(name);
    const runnel_test::scratch_folder folder;
    const auto model = models::load_hugging_face_decoder(checkpoint);
    try {
      const auto again = through_gguf(model, weight_format::f32, folder / "model.gguf");
      for (const char* which : {"", "_short"}) {
        if (!std::filesystem::exists(checkpoint / ("tokens" + std::string(which) + ".npy"))) continue;
        const auto golden = tests::read_golden(checkpoint, which);
        ops::eval context;
        CHECK(tests::largest_difference(tests::prefill(again, context, golden.tokens), golden.logits) <= 1e-4);
      }
      // And from there to a Hugging Face directory, unless it holds divisors that no config is known for.
      if (name == "llama3") {
        CHECK_THROWS_AS(models::write_hugging_face(again, weight_format::f32, folder / "back"), config_error);
        continue;
      }
      models::write_hugging_face(again, weight_format::f32, folder / "back");
      const auto back = models::load_hugging_face_decoder(folder / "back");
      const auto golden = tests::read_golden(checkpoint);
      ops::eval context;
      CHECK(tests::largest_difference(tests::prefill(back, context, golden.tokens), golden.logits) <= 1e-4);
    } catch (const config_error& refusal) {
      CAPTURE(std::string(refusal.what()));
      ++refused;
      const std::set<std::string> known{"qwen2_window",    "qwen3_window",   "gemma3_scaled", "gemma3_old_keys",
                                        "smollm3_list",    "smollm3_window", "f16",           "odd_bf16",
                                        "gemma2_uncapped", "gemma2_mqa",     "qwen3_bias"};
      CHECK(known.contains(name));
      CHECK_FALSE(std::filesystem::exists(folder / "model.gguf"));
    }
  }
  CHECK(refused == 11);
}

TEST_CASE("matrices are written in the format that was asked for, norms and biases in f32") {
  const auto model = models::load_hugging_face_decoder(tests::golden_models() / "quantised");
  const runnel_test::scratch_folder folder;
  for (const auto format : {weight_format::bf16, weight_format::q8_0, weight_format::q4_1}) {
    static_cast<void>(through_gguf(model, format, folder / "model.gguf"));
    const io::gguf_file file(folder / "model.gguf");
    for (const auto& tensor : file.tensors()) {
      CHECK(tensor.format == (tensor.shape.size() == 1 ? weight_format::f32 : format));
    }
  }
  models::write_hugging_face(model, weight_format::bf16, folder / "model");
  const auto weights = io::open_safetensors(folder / "model");
  CHECK(weights.tensor("model.embed_tokens.weight").format == weight_format::bf16);
  CHECK(weights.tensor("model.norm.weight").format == weight_format::f32);
  CHECK_THROWS_AS(models::write_hugging_face(model, weight_format::q8_0, folder / "other"), config_error);
  CHECK_FALSE(std::filesystem::exists(folder / "other"));
}

models::merged_adapters active_of(const nn::active_adapter<nn::inference_parameters>& one) { return {&one, 1}; }

TEST_CASE("adapters are merged while a model is written: logits are PEFT's, or what has no place is said") {
  const auto adapters = tests::golden_models() / "adapters";
  int refused = 0;
  for (const std::string name : {"plain", "rslora", "bias_all", "bias_lora", "up_bias", "fused", "patterns", "head"}) {
    CAPTURE(name);
    const runnel_test::scratch_folder folder;
    std::string base_name;
    std::getline(std::ifstream(adapters / name / "base.txt"), base_name);
    const auto base = models::load_hugging_face_decoder(tests::golden_models() / base_name);
    const auto adapter = models::load_adapter(adapters / name, base);
    const nn::active_adapter<nn::inference_parameters> active{adapter.get(), 1};
    const auto golden = tests::read_golden(adapters / name);
    models::export_options options;
    options.threads = 2;
    options.adapters = active_of(active);
    std::size_t reported = 0;
    options.progress = [&](const models::quantized_tensor& one) { CHECK(one.number == reported++); };
    const auto check = [&](const models::decoder& merged) {
      ops::eval context;
      CHECK(tests::largest_difference(tests::prefill(merged, context, golden.tokens), golden.logits) <= 1e-4);
    };
    try {
      models::write_hugging_face(base, weight_format::f32, folder / "model", {}, options);
      CHECK(reported == models::list_weights(base, &models::weight_name::hugging_face, active_of(active)).size());
      check(models::load_hugging_face_decoder(folder / "model"));
      io::gguf_writer out;
      reported = 0;
      models::add_to_gguf(base, models::matrices_as(weight_format::f32), out, options);
      out.write(folder / "model.gguf");
      check(models::load_gguf_decoder(io::gguf_file(folder / "model.gguf")));
      // An adapter that counts nothing changes no bit.
      const nn::active_adapter<nn::inference_parameters> off{adapter.get(), 0};
      if (name != "plain" && name != "head") continue;
      options.adapters = active_of(off);
      reported = 0;
      models::write_hugging_face(base, weight_format::f32, folder / "same", {}, options);
      ops::eval context;
      CHECK(tests::prefill(models::load_hugging_face_decoder(folder / "same"), context, golden.tokens) ==
            tests::prefill(base, context, golden.tokens));
    } catch (const config_error& refusal) {
      CAPTURE(std::string(refusal.what()));
      ++refused;
      CHECK(name == "up_bias");  // biases in a model without any
      CHECK(std::string(refusal.what()).find("_proj.bias") != std::string::npos);
      CHECK_FALSE(std::filesystem::exists(folder / "model"));
    }
  }
  CHECK(refused == 1);
}

TEST_CASE("a GGUF file takes changed weights in place of its own, and keeps every other bit") {
  const auto source = tests::golden_models() / "quantised" / "model.gguf";
  const runnel_test::scratch_folder folder;
  const io::gguf_file from(source);
  const auto base = models::load_gguf_decoder(from);
  nn::adapter<nn::inference_parameters> change;
  change.layers.resize(base.weights().layers.size());
  const std::vector<float> down(32, 0.05f), up(static_cast<std::size_t>(base.config().vocab_size), 0.1f);
  const auto matrix = [](std::span<const float> values, index_t outputs, index_t inputs) {
    return ops::prepared_matrix::prepare({weight_format::f32, outputs, inputs, std::as_bytes(values), {}});
  };
  change.layers[0][0].down = change.head.down = matrix(down, 1, 32);
  change.layers[0][0].up = matrix(std::span(up).first(32), 32, 1);
  change.head.up = matrix(up, base.config().vocab_size, 1);
  const nn::active_adapter<nn::inference_parameters> active{&change, 2};
  auto changed = models::list_weights(base, &models::weight_name::gguf, active_of(active));
  std::erase_if(changed, [](const models::weight_rows& one) { return !one.changed; });
  REQUIRE(changed.size() == 2);
  models::quantize_options options;
  options.kind = models::find_quantization("q4_1").value();
  options.allow_requantize = true;  // the file holds several formats
  options.changed = changed;
  options.threads = 2;
  models::quantize_gguf(source, folder / "merged.gguf", options);
  const io::gguf_file to(folder / "merged.gguf");
  const bool was_tied = from.find_tensor("output.weight") == nullptr;
  CHECK(to.tensors().size() == from.tensors().size() + (was_tied ? 1 : 0));
  for (const auto& tensor : from.tensors()) {
    CAPTURE(tensor.name);
    const auto& is = to.tensor(tensor.name);
    const bool is_changed = tensor.name == "blk.0.attn_q.weight" || tensor.name == "output.weight";
    if (is.format != tensor.format) continue;
    CHECK(std::ranges::equal(is.bytes, tensor.bytes) == !is_changed);
  }
  // What is written is near the merge in f32, as near as the format is.
  options.kind = models::find_quantization("f32").value();
  models::quantize_gguf(source, folder / "exact.gguf", options);
  const auto exact = models::load_gguf_decoder(io::gguf_file(folder / "exact.gguf"));
  const auto merged = models::merge_adapters(base, active_of(active), models::requantise::allow);
  const auto beside = [&] {
    ops::eval context;
    const std::vector<std::int32_t> tokens{1, 5, 7, 3, 9};
    const auto rows = tests::causal_rows(0, 5);
    auto cache = base.make_cache(cache::storage_type::f32, 5);
    const std::vector<index_t> all{0, 1, 2, 3, 4};
    const models::stream_rows stream{&cache, &rows, tokens, all, active_of(active)};
    return tests::copy_rows(base.forward(context, std::span(&stream, 1)));
  }();
  ops::eval context;
  std::vector<float> expected;
  for (const auto& row : beside) expected.insert(expected.end(), row.begin(), row.end());
  const std::vector<std::int32_t> tokens{1, 5, 7, 3, 9};
  CHECK(tests::largest_difference(tests::prefill(exact, context, tokens), expected) <= 1e-4);
  CHECK(tests::largest_difference(tests::prefill(merged, context, tokens), expected) > 1e-4);
}

TEST_CASE("writing stops when asked to, and refuses what is not finite; nothing appears") {
  const auto model = models::load_hugging_face_decoder(tests::golden_models() / "gqa");
  const runnel_test::scratch_folder folder;
  std::stop_source stop;
  models::export_options options;
  options.stop = stop.get_token();
  options.progress = [&](const models::quantized_tensor& one) {
    if (one.number == 3) stop.request_stop();
  };
  CHECK_THROWS_AS(models::write_hugging_face(model, weight_format::f32, folder / "model", {}, options),
                  cancelled_error);
  CHECK_FALSE(std::filesystem::exists(folder / "model" / "model.safetensors"));
  CHECK_FALSE(std::filesystem::exists(folder / "model" / "config.json"));
  const auto with_last_row = [](float last) {
    return models::weight_rows{"some.weight", {2, 32}, weight_format::f32, [last] {
                                 return [last](index_t row, std::span<float> values) {
                                   for (float& value : values) value = row == 1 ? last : 1;
                                 };
                               }};
  };
  thread_team team(2);
  for (const auto& [last, format] : {std::pair(INFINITY, weight_format::f16),
                                     {-1e6f, weight_format::f16},
                                     {1e6f, weight_format::q4_0},
                                     {1e38f, weight_format::q8_0}}) {
    try {
      static_cast<void>(models::encode_weight(with_last_row(last), format, team));
      FAIL("infinity was written");
    } catch (const format_error& refusal) {
      CHECK(std::string(refusal.what()) ==
            message("tensor 'some.weight': a value is not finite, or too large for ", quant::info(format).name));
    }
  }
  CHECK_NOTHROW(static_cast<void>(models::encode_weight(with_last_row(6e4f), weight_format::f16, team)));
}

}  // namespace
