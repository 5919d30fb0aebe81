// SPDX-License-Identifier: Apache-2.0

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <runnel/models/initialize.hpp>
#include <runnel/stream/teacher_forcing.hpp>
#include <runnel/train/model.hpp>
#include <runnel/train/optimizer.hpp>

/// \file
/// Times whole training steps (forward, backward, clipping, AdamW) of the decoder that pytorch_training.py trains:
/// hidden size 256, 6 layers, 8 heads, gated MLP of 768, tied vocabulary of 8,000, batches of 32 x 48 tokens, a loss on
/// each.
///
///   runnel_training [threads] [f32|bf16] [steps]
///
/// Prints one line: the label, threads, tokens a second (median of steps), the last loss, and the peak of memory in MB.

namespace {

using namespace runnel;

models::model_config config_of() {
  models::model_config config;
  config.model_type = "llama";
  config.vocab_size = 8000;
  config.hidden_size = 256;
  config.intermediate_size = 768;
  config.num_hidden_layers = 6;
  config.num_attention_heads = config.num_key_value_heads = 8;
  config.head_dim = 32;
  config.max_position_embeddings = 2048;
  config.tie_word_embeddings = true;
  config.rope.dimension = 32;
  return config;
}

/// One sequence of `count` tokens, each predicting the next.
train::training_rows sequence(random_stream& random, index_t count) {
  train::training_rows out;
  arrivals when;
  when.read(count);
  for (index_t r = 0; r <= count; ++r) {
    const auto token = static_cast<std::int32_t>(random.below(8000));
    if (r > 0) out.labels.push_back(token);
    if (r == count) break;
    out.tokens.push_back(token);
    out.logit_rows.push_back(r);
    out.rows.add_source(stream::batch().rules(), when, r);
  }
  return out;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

int main(int count, char** words) {
  const int threads = count > 1 ? std::atoi(words[1]) : 1;
  const std::string compute = count > 2 ? words[2] : "f32";
  const int steps = count > 3 ? std::atoi(words[3]) : 10;
  constexpr index_t sequences = 32, length = 48;
  ops::eval_options options;
  options.threads = threads;
  options.compute = compute == "bf16" ? ops::compute_mode::bf16 : ops::compute_mode::f32;
  train::model<float> model(models::random_decoder(config_of()), options);
  train::adamw optimizer(model.parameters(), {});
  thread_team team(threads);
  random_stream random(1);
  std::vector<train::training_rows> batch;
  for (index_t i = 0; i < sequences; ++i) batch.push_back(sequence(random, length));
  std::vector<double> seconds;
  double loss = 0;
  for (int step = 0; step < steps + 2; ++step) {
    const double start = now();
    const auto found = model.accumulate(batch, {.scale = 1.0 / (sequences * length)});
    loss = found.sum / static_cast<double>(found.labels);
    const double norm = optimizer.gradient_norm(team);
    optimizer.step(1e-3, train::adamw::clip_factor(norm, 1.0), team);
    if (step >= 2) seconds.push_back(now() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("runnel %s %d %.1f %.4f %.1f\n", compute.c_str(), threads,
              static_cast<double>(sequences * length) / seconds[seconds.size() / 2], loss,
              static_cast<double>(usage.ru_maxrss) / 1024);
}
