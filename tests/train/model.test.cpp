// SPDX-License-Identifier: Apache-2.0

#include <runnel/train/model.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/io/npy.hpp>
#include <runnel/models/hugging_face_model.hpp>
#include <runnel/models/initialize.hpp>
#include <runnel/stream/plan.hpp>
#include <runnel/train/optimizer.hpp>

#include "support/random_values.hpp"
#include "support/tiny_model.hpp"

namespace {

using namespace runnel;

/// Tokens that each predict the next.
train::training_rows next_tokens(std::span<const std::int32_t> tokens, index_t window) {
  train::training_rows out;
  const auto count = static_cast<index_t>(tokens.size()) - 1;
  arrivals when;
  when.read(count);
  for (index_t r = 0; r < count; ++r) {
    out.rows.add_source(stream::batch().rules(window), when, r);
    out.logit_rows.push_back(r);
  }
  out.tokens.assign(tokens.begin(), tokens.end() - 1);
  out.labels.assign(tokens.begin() + 1, tokens.end());
  return out;
}

std::vector<train::training_rows> random_batch(random_stream& random, const models::model_config& config,
                                               index_t sequences, index_t length) {
  std::vector<train::training_rows> out;
  for (index_t i = 0; i < sequences; ++i) {
    std::vector<std::int32_t> tokens;
    for (index_t t = 0; t < length; ++t) tokens.push_back(static_cast<std::int32_t>(random.below(config.vocab_size)));
    out.push_back(next_tokens(tokens, config.sliding_window));
  }
  return out;
}

std::vector<float> gradients(const train::model<float>& of) {
  std::vector<float> out;
  for (const auto& one : of.parameters()) {
    const auto values = one.gradient.values();
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

}  // namespace

TEST_CASE("one step equals PyTorch's on the same weights and batch") {
  const auto here = std::filesystem::path(RUNNEL_TEST_DIR) / "golden";
  for (const char* name :
       {"gqa", "families/gemma2_mqa", "families/qwen3_bias", "families/phi3_window", "families/mistral_window"}) {
    CAPTURE(name);
    const auto folder = here / "models" / name;
    const auto decoder = models::load_hugging_face_decoder(folder);
    const auto tokens = io::read_npy<std::int32_t>(folder / "tokens.npy").values;
    train::model<float> model(decoder);
    const std::vector<train::training_rows> batch{next_tokens(tokens, decoder.config().sliding_window)};
    const auto labels = static_cast<double>(batch.front().labels.size());
    const auto loss = model.accumulate(batch, {.scale = 1 / labels, .label_smoothing = 0.1});
    train::adamw optimizer(model.parameters(), {.epsilon = 1e-4, .weight_decay = 0.1});
    thread_team team;
    const double norm = optimizer.gradient_norm(team);
    optimizer.step(0.01, train::adamw::clip_factor(norm, 1), team);

    const auto file = here / "train" / (folder.filename().string() + ".step.safetensors");
    const io::safetensors_file after(file);
    const auto* said = after.find_tensor("loss_and_norm");
    REQUIRE(said != nullptr);
    std::array<float, 2> expected;
    std::memcpy(expected.data(), said->bytes.data(), sizeof expected);
    CHECK(loss.sum / labels == doctest::Approx(expected[0]).epsilon(1e-6));
    CHECK(norm == doctest::Approx(expected[1]).epsilon(1e-5));
    const models::weight_reader read(file.string(), &models::weight_name::hugging_face,
                                     [&](const std::string& tensor) { return after.find_tensor(tensor); });
    train::model<float> theirs(models::build_decoder(decoder.config(), read, models::head_rows::halves));
    auto other = theirs.parameters().begin();
    for (const auto& one : model.parameters()) {
      CAPTURE(one.name);
      REQUIRE(one.values.shape() == other->values.shape());
      double most = 0;
      for (index_t i = 0; i < one.values.size(); ++i) {
        most = std::max(
            most, std::abs(static_cast<double>(one.values.data()[i]) - static_cast<double>(other->values.data()[i])));
      }
      CHECK(most <= 1e-5);
      ++other;
    }
  }
}

TEST_CASE("the decoder that was trained computes what training computed; names are Hugging Face's") {
  random_stream random(21);
  tests::tiny_model_options options;
  options.any_family = true;
  options.bias = true;
  const auto start = tests::tiny_decoder(random, options);
  train::model<float> model(*start);
  const auto batch = random_batch(random, start->config(), 1, 9);
  model.accumulate(batch, {.scale = 1});
  train::adamw optimizer(model.parameters(), {});
  thread_team team;
  optimizer.step(0.05, 1, team);
  const auto after = model.to_decoder();
  train::model<float> again(after);
  CHECK(tests::same_bits(model.logits(batch), again.logits(batch)));
  CHECK_FALSE(tests::same_bits(model.logits(batch), train::model<float>(*start).logits(batch)));
  ops::eval context;
  auto cache = after.make_cache();
  const models::stream_rows rows{&cache, &batch[0].rows, batch[0].tokens, batch[0].logit_rows};
  const auto logits = after.forward(context, {&rows, 1});
  const auto trained = model.logits(batch);
  for (index_t i = 0; i < logits.size(); ++i) {
    CHECK(logits.data()[i] == doctest::Approx(trained[static_cast<std::size_t>(i)]).epsilon(1e-4));
  }
  CHECK(after.weights().layers.back().attention.key.weight.planes() == models::key_planes);
  CHECK(after.weights().layers.back().attention.value.weight.planes() == models::value_planes);
  CHECK(model.parameters().front().name == "model.embed_tokens.weight");
  CHECK(std::any_of(model.parameters().begin(), model.parameters().end(), [](const auto& one) {
    return one.name == "model.layers.0.self_attn.q_proj.bias" && one.is_vector;
  }));
}

TEST_CASE("adapters: only they are trained, their gradients are right, and inference applies them") {
  random_stream random(22);
  tests::tiny_model_options options;
  options.any_family = true;
  const auto base = tests::tiny_decoder(random, options);
  train::lora_options lora{.rank = 3, .alpha = 5, .seed = 4};
  lora.targets = {models::adapted_module::query, models::adapted_module::value, models::adapted_module::gate,
                  models::adapted_module::down};
  train::model<double> model(*base, {}, lora);
  const auto batch = random_batch(random, base->config(), 2, 6);
  for (auto& one : model.parameters()) {
    const bool adapter = one.name.find(".lora_") != std::string::npos;
    CHECK(one.trainable() == adapter);
    if (one.name.find(".lora_B") == std::string::npos) continue;
    CHECK(std::all_of(one.values.data(), one.values.data() + one.values.size(), [](double v) { return v == 0; }));
    const auto values = tests::normals<double>(random, one.values.size(), 0.3);
    std::copy(values.begin(), values.end(), one.values.data());
  }
  model.accumulate(batch, {.scale = 0.2});
  for (auto& one : model.parameters()) {
    if (!one.trainable()) continue;
    for (int turn = 0; turn < 4; ++turn) {
      const index_t i = random.below(one.values.size());
      const double found = one.gradient.data()[i], before = one.values.data()[i], h = 1e-5;
      one.values.data()[i] = before + h;
      const double above = model.evaluate(batch).sum;
      one.values.data()[i] = before - h;
      const double below = model.evaluate(batch).sum;
      one.values.data()[i] = before;
      CHECK(std::abs(found - 0.2 * (above - below) / (2 * h)) <= 1e-6 * std::max(1.0, std::abs(found)));
    }
  }
  // What is dropped of the adapters' input is dropped on the way back as well, and again for the same seed.
  const auto dropped = [&] { return model.accumulate(batch, {.scale = 0.2, .adapter_dropout = 0.4, .seed = 6}).sum; };
  CHECK(dropped() == dropped());
  CHECK(dropped() != model.evaluate(batch).sum);
  for (auto& one : model.parameters()) {
    if (!one.trainable() || one.name.find("layers.0.mlp.down_proj.lora_A") == std::string::npos) continue;
    one.train(true);
    dropped();
    const double found = one.gradient.data()[0], before = one.values.data()[0], h = 1e-5;
    one.values.data()[0] = before + h;
    const double above = dropped();
    one.values.data()[0] = before - h;
    const double below = dropped();
    one.values.data()[0] = before;
    CHECK(std::abs(found - 0.2 * (above - below) / (2 * h)) <= 1e-6 * std::max(1.0, std::abs(found)));
  }
  const auto adapter = model.to_adapter();
  base->check(adapter);
  const nn::active_adapter<nn::inference_parameters> active{&adapter, 1};
  ops::eval context;
  std::vector<float> logits;
  for (const auto& rows : batch) {
    auto cache = base->make_cache();
    const models::stream_rows one{&cache, &rows.rows, rows.tokens, rows.logit_rows, {&active, 1}};
    const auto found = base->forward(context, {&one, 1});
    logits.insert(logits.end(), found.data(), found.data() + found.size());
  }
  const auto trained = model.logits(batch);
  for (std::size_t i = 0; i < trained.size(); ++i) {
    CHECK(static_cast<double>(logits[i]) == doctest::Approx(trained[i]).epsilon(1e-3));
  }
  CHECK_THROWS_AS(train::model<float>(*base, {}, train::lora_options{.rank = 0}), config_error);
}

TEST_CASE("gradients are the same bits whatever the threads, with and without checkpointing") {
  random_stream random(23);
  models::model_config config;
  config.model_type = "llama";
  config.vocab_size = 700;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  config.max_position_embeddings = 128;
  config.tie_word_embeddings = true;
  config.rope.dimension = 16;
  const auto start = models::random_decoder(config, {.seed = 5});
  const auto batch = random_batch(random, config, 9, 70);
  std::vector<float> exact, rounded;
  for (const auto compute : {ops::compute_mode::f32, ops::compute_mode::bf16}) {
    std::vector<float> first;
    double nll = 0;
    for (const int threads : {1, 2, 3}) {
      for (const bool checkpointing : {false, true}) {
        train::model<float> model(start, {threads, compute, best_instruction_set});
        const auto loss =
            model.accumulate(batch, {.scale = 1e-3, .dropout = 0.1, .seed = 3, .checkpointing = checkpointing});
        if (first.empty()) {
          first = gradients(model);
          nll = loss.nll;
        }
        CHECK(loss.nll == nll);
        CHECK(tests::same_bits(first, gradients(model)));
      }
    }
    CHECK(nll / (9 * 69) == doctest::Approx(std::log(700.0)).epsilon(0.02));
    (compute == ops::compute_mode::f32 ? exact : rounded) = first;
  }
  // bf16 points where f32 does.
  double along = 0, squares = 0, others = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    along += static_cast<double>(exact[i]) * static_cast<double>(rounded[i]);
    squares += static_cast<double>(exact[i]) * static_cast<double>(exact[i]);
    others += static_cast<double>(rounded[i]) * static_cast<double>(rounded[i]);
  }
  CHECK(along / std::sqrt(squares * others) > 0.98);
  CHECK_FALSE(tests::same_bits(exact, rounded));
  // What a pass takes is about what was said, and less with checkpointing.
  std::array<std::size_t, 2> taken{};
  for (const bool checkpointing : {false, true}) {
    train::model<float> model(start);
    for (int pass = 0; pass < 2; ++pass) {  // the first grows
      model.accumulate(batch, {.scale = 1, .dropout = 0.1, .checkpointing = checkpointing});
    }
    taken[checkpointing ? 1 : 0] = model.tape_bytes();
    const double said = static_cast<double>(model.activation_bytes(9 * 69, checkpointing));
    CHECK(static_cast<double>(model.tape_bytes()) < 1.15 * said + 1e6);
    CHECK(static_cast<double>(model.tape_bytes()) > 0.6 * said);
  }
  CHECK(taken[1] < taken[0]);
}

TEST_CASE("a new decoder is the same for a seed, and as wide as it was asked to be") {
  random_stream random(24);
  auto config = tests::tiny_decoder(random)->config();
  config.hidden_size = 64;
  config.vocab_size = 400;
  train::model<float> one(models::random_decoder(config, {.seed = 1})),
      same(models::random_decoder(config, {.seed = 1})), other(models::random_decoder(config, {.seed = 2}));
  const auto& embedding = one.parameters().front().values;
  const auto embedding_of = [](const train::model<float>& of) {
    const auto values = of.parameters().front().values.values();
    return std::vector<float>(values.begin(), values.end());
  };
  CHECK(tests::same_bits(embedding_of(one), embedding_of(same)));
  CHECK_FALSE(tests::same_bits(embedding_of(one), embedding_of(other)));
  double squares = 0;
  for (const float value : embedding.values()) squares += static_cast<double>(value) * static_cast<double>(value);
  CHECK(std::sqrt(squares / static_cast<double>(embedding.size())) == doctest::Approx(0.02).epsilon(0.05));
}

TEST_CASE("what overflows is named, and rows that do not fit are refused") {
  random_stream random(25);
  tests::tiny_model_options options;
  options.layers = 3;
  const auto start = tests::tiny_decoder(random, options);
  train::model<float> model(*start);
  auto batch = random_batch(random, start->config(), 1, 5);
  CHECK(model.first_non_finite(batch).empty());
  for (auto& one : model.parameters()) {
    if (one.name == "model.layers.1.mlp.up_proj.weight") one.values(0, 0) = INFINITY;
  }
  CHECK(model.first_non_finite(batch) == "model.layers.1");
  CHECK_FALSE(std::isfinite(model.evaluate(batch).sum));
  auto bad = batch;
  bad[0].labels.pop_back();
  CHECK_THROWS_AS((void)model.evaluate(bad), config_error);
  bad = batch;
  bad[0].labels[0] = static_cast<std::int32_t>(start->config().vocab_size);
  CHECK_THROWS_AS((void)model.evaluate(bad), config_error);
  bad = batch;
  bad[0].tokens[0] = -1;
  CHECK_THROWS_AS((void)model.evaluate(bad), config_error);
  bad = batch;
  bad[0].tokens.pop_back();
  CHECK_THROWS_AS((void)model.evaluate(bad), config_error);
}
