// SPDX-License-Identifier: Apache-2.0

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include <runnel/speech/encoder_stream.hpp>
#include <runnel/speech/initialize.hpp>

/// \file
/// Times a streaming encoder of the shapes of wav2vec2-large-lv60 (random weights, causal) on chunks of 400 ms, as
/// pytorch_speech.py does with the same shapes, chunks and cache.
///
///   runnel_speech [threads] [f32|bf16] [seconds of audio] [frames of left context]
///
/// Prints one line: the label, threads, seconds of audio a second (median of the chunks of the second half), that of
/// the first quarter by that of the last, and the peak of memory in MB.

namespace {

using namespace runnel;

speech::encoder_config config_of(index_t left_context) {
  speech::encoder_config config;
  config.convs = {{512, 10, 5}, {512, 3, 2}, {512, 3, 2}, {512, 3, 2}, {512, 3, 2}, {512, 2, 2}, {512, 2, 2}};
  config.conv_bias = true;
  config.norm = speech::front_end_norm::layer;
  config.hidden_size = 1024;
  config.num_hidden_layers = 24;
  config.num_attention_heads = 16;
  config.intermediate_size = 4096;
  config.position_kernel = 128;
  config.position_groups = 16;
  config.do_stable_layer_norm = true;
  config.causal_position = config.causal_attention = true;
  config.left_context = left_context;
  config.left_pad = 80;
  return config;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::span<const double> of) {
  std::vector<double> sorted(of.begin(), of.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

}  // namespace

int main(int count, char** words) {
  const int threads = count > 1 ? std::atoi(words[1]) : 1;
  const std::string compute = count > 2 ? words[2] : "f32";
  const double audio = count > 3 ? std::atof(words[3]) : 20;
  const index_t left_context = count > 4 ? std::atoi(words[4]) : 500;
  constexpr std::size_t chunk = 6400;
  constexpr double chunk_seconds = 0.4;
  speech::encoder_stream_options options;
  options.compute.threads = threads;
  options.compute.compute = compute == "bf16" ? ops::compute_mode::bf16 : ops::compute_mode::f32;
  const auto format = compute == "bf16" ? quant::weight_format::bf16 : quant::weight_format::f32;
  const auto encoder = speech::random_encoder(config_of(left_context), 1, format);
  speech::encoder_stream stream(encoder, options);
  std::vector<float> samples(chunk);
  std::vector<double> seconds;
  index_t frames = 0;
  for (std::size_t at = 0; static_cast<double>(at) * chunk_seconds < audio; ++at) {
    for (std::size_t i = 0; i < chunk; ++i) {
      samples[i] = static_cast<float>(0.3 * std::sin(0.05 * static_cast<double>(at * chunk + i)));
    }
    const double start = now();
    frames += stream.push(samples).size(0);
    seconds.push_back(now() - start);
  }
  const std::span all(seconds);
  const std::size_t quarter = std::max<std::size_t>(1, all.size() / 4);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("runnel %s %d %.3f %.3f %.1f %lld\n", compute.c_str(), threads,
              chunk_seconds / median(all.subspan(all.size() / 2)),
              median(all.last(quarter)) / median(all.first(quarter)), static_cast<double>(usage.ru_maxrss) / 1024,
              static_cast<long long>(frames));
}
