// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <runnel/speech/initialize.hpp>
#include <runnel/speech/map_weights.hpp>
#include <runnel/transcribe/speech_model.hpp>

#include "support/random_values.hpp"
#include "support/tiny_language.hpp"

namespace runnel::tests {

/// What a tiny speech model is made of.
struct tiny_speech_options {
  bool causal = true;
  index_t stack = 1;
  index_t chunk_rows = 3;
  index_t left_context = 7;
  bool norm_first = true;
  bool any_family = false;
  index_t right_pad = 0;
};

/// Biases that are not 0: layer norm of nothing but zeros is too steep for finite differences.
inline speech::encoder with_biases(const speech::encoder& of, random_stream& random) {
  const auto matrix = [](const std::string&, const ops::prepared_matrix& from) { return from; };
  const auto vector = [&](const std::string& name, const tensor<float, 1>& from) {
    auto out = from.clone();
    if (!name.ends_with(".bias")) return out;
    for (index_t i = 0; i < out.size(); ++i) out(i) += static_cast<float>(random.uniform() - 0.5);
    return out;
  };
  return {of.config(), speech::map_weights<nn::inference_parameters>(of.weights(), matrix, vector)};
}

/// A random speech model: frames of 25 samples every 20, the tiny vocabulary.
inline transcribe::speech_model tiny_speech(std::uint64_t seed, const tiny_speech_options& options = {}) {
  speech::encoder_config config;
  config.convs = {{6, 5, 5}, {5, 3, 2}, {6, 2, 2}};
  config.conv_bias = true;
  config.norm = speech::front_end_norm::layer;
  config.hidden_size = 8;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 12;
  config.position_kernel = 6;
  config.position_groups = 2;
  config.do_stable_layer_norm = options.norm_first;
  config.sample_rate = 1000;
  config.causal_position = config.causal_attention = options.causal;
  config.left_context = options.causal ? options.left_context : 0;
  config.left_pad = config.receptive_field() - config.hop();
  config.pad_tail = true;
  config.right_pad = options.right_pad;
  transcribe::speech_model made;
  tiny_model_options decoder;
  decoder.any_family = options.any_family;
  made.language = tiny_language(seed, decoder);
  made.language.format.source = text::source_kind::audio;
  random_stream random(seed);
  made.encoder = std::make_shared<const speech::encoder>(with_biases(speech::random_encoder(config, seed), random));
  const index_t width = made.language.network->config().hidden_size;
  made.projector = std::make_shared<const speech::projector>(
      speech::random_projector({config.hidden_size, 10, width, options.stack}, seed));
  made.settings.chunk_rows = options.chunk_rows;
  made.settings.instruction = "a";
  return made;
}

/// Something like speech: tones that come and go.
inline std::vector<float> tiny_audio(random_stream& random, index_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  double phase = 0, pitch = 0.3, loud = 0.5;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i % 60 == 0) {
      pitch = 0.1 + random.uniform();
      loud = random.uniform();
    }
    phase += pitch;
    out[i] = static_cast<float>(loud * std::sin(phase) + 0.05 * random.uniform());
  }
  return out;
}

}  // namespace runnel::tests
