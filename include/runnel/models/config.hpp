// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <runnel/kernels/elementwise.hpp>
#include <runnel/nn/rotary.hpp>

namespace runnel::models {

/// What a decoder is made of, in the terms of Hugging Face's `config.json`. A family is a reader that fills this.
struct model_config {
  std::string model_type;  ///< "llama", ...
  index_t vocab_size = 0;
  index_t hidden_size = 0;
  index_t intermediate_size = 0;
  index_t num_hidden_layers = 0;
  index_t num_attention_heads = 0;
  index_t num_key_value_heads = 0;
  index_t head_dim = 0;
  index_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-5f;
  kernels::activation hidden_act = kernels::activation::silu;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< on query, key, value and output
  bool mlp_bias = false;
  nn::rotary_config rope;
};

/// Throws format_error (naming `source`) unless the sizes make a decoder: positive, heads divisible, within what
/// kernels take.
inline void validate(const model_config& config, const std::string& source) {
  constexpr index_t most = index_t{1} << 24;
  const auto size = [&](const char* key, index_t value) {
    expect<format_error>(value > 0 && value <= most, source, ": ", key, ": expected 1 to ", most, ", found ", value);
  };
  size("vocab_size", config.vocab_size);
  size("hidden_size", config.hidden_size);
  size("intermediate_size", config.intermediate_size);
  size("num_attention_heads", config.num_attention_heads);
  size("num_key_value_heads", config.num_key_value_heads);
  size("head_dim", config.head_dim);
  size("max_position_embeddings", config.max_position_embeddings);
  expect<format_error>(config.num_hidden_layers > 0 && config.num_hidden_layers <= 1024, source,
                       ": num_hidden_layers: expected 1 to 1024, found ", config.num_hidden_layers);
  expect<format_error>(config.num_attention_heads % config.num_key_value_heads == 0, source, ": num_attention_heads (",
                       config.num_attention_heads, ") must be a multiple of num_key_value_heads (",
                       config.num_key_value_heads, ")");
  expect<format_error>(config.head_dim <= 1024 && config.head_dim % 2 == 0, source,
                       ": head_dim: expected an even number up to 1024, found ", config.head_dim);
  expect<format_error>(
      config.rope.dimension > 0 && config.rope.dimension <= config.head_dim && config.rope.dimension % 2 == 0, source,
      ": rotary dimension: expected an even number up to head_dim (", config.head_dim, "), found ",
      config.rope.dimension);
  expect<format_error>(std::isfinite(config.rms_norm_eps) && config.rms_norm_eps >= 0, source,
                       ": rms_norm_eps: expected a number of at least 0, found ", config.rms_norm_eps);
  expect<format_error>(std::isfinite(config.rope.theta) && config.rope.theta > 0, source,
                       ": rope_theta: expected a positive number, found ", config.rope.theta);
  const nn::rotary_config& rope = config.rope;
  expect<format_error>(std::isfinite(rope.factor) && rope.factor > 0, source,
                       ": rope_scaling: factor: expected a positive number, found ", rope.factor);
  if (rope.scaling == nn::rope_scaling::llama3) {
    expect<format_error>(
        std::isfinite(rope.high_frequency_factor) && rope.low_frequency_factor < rope.high_frequency_factor, source,
        ": rope_scaling: low_freq_factor must be below high_freq_factor, found ", rope.low_frequency_factor, " and ",
        rope.high_frequency_factor);
    expect<format_error>(rope.original_context > 0, source,
                         ": rope_scaling: original_max_position_embeddings: expected a positive number, found ",
                         rope.original_context);
  }
}

}  // namespace runnel::models
