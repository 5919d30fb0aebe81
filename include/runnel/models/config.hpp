// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <runnel/kernels/elementwise.hpp>
#include <runnel/models/family.hpp>
#include <runnel/nn/attention.hpp>
#include <runnel/nn/rotary.hpp>

namespace runnel::models {

/// In what the layers of one model may differ.
struct layer_config {
  bool windowed = false;  ///< sees `sliding_window` positions back, not all
  int rotary = 0;         ///< 0: `rope`, 1: `local_rope`, `ops::no_rotary`: none

  friend bool operator==(const layer_config&, const layer_config&) = default;
};

/// What a decoder is made of, in the terms of Hugging Face's `config.json`. A family is a reader that fills this.
struct model_config {
  std::string model_type;  ///< "llama", "gemma2", ...: a name of models/family.hpp
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
  bool attention_bias = false;         ///< on query, key and value
  bool attention_output_bias = false;  ///< on the attention's output
  bool mlp_bias = false;
  bool qk_norm = false;               ///< a norm over each head of query and key, before rotation
  bool post_norms = false;            ///< a norm after attention and one after the MLP, before they are added
  float norm_offset = 0;              ///< 1 where norm weights are stored as w - 1
  float embedding_scale = 1;          ///< what embeddings are multiplied by
  double query_pre_attn_scalar = 0;   ///< scores are divided by its root; 0: head_dim
  float attn_logit_softcapping = 0;   ///< 0: none
  float final_logit_softcapping = 0;  ///< 0: none
  index_t sliding_window = 0;         ///< of windowed layers; 0: there are none
  std::vector<layer_config> layers;   ///< [num_hidden_layers], or empty: all alike
  nn::rotary_config rope;
  nn::rotary_config local_rope;  ///< a second table, if `dimension` is not 0

  [[nodiscard]] layer_config layer(index_t i) const {
    return layers.empty() ? layer_config{sliding_window > 0, 0} : layers[static_cast<std::size_t>(i)];
  }
};

/// `count` layers as a family's rule has them, in a model with a window or without.
[[nodiscard]] inline std::vector<layer_config> layers_by(const layer_rule& rule, index_t count, bool has_window) {
  std::vector<layer_config> layers;
  for (index_t i = 1; i <= count; ++i) {
    layer_config layer;
    layer.windowed = has_window && rule.windows && (rule.full_every == 0 || i % rule.full_every != 0);
    if (rule.local_rotary && layer.windowed) layer.rotary = 1;
    if (rule.no_rotary_every != 0 && i % rule.no_rotary_every == 0) layer.rotary = ops::no_rotary;
    layers.push_back(layer);
  }
  return layers;
}

namespace detail {

/// Throws format_error unless a rotary table can be made of this.
inline void validate(const nn::rotary_config& rope, index_t head_dim, const std::string& source) {
  const auto positive = [&](const char* key, double value) {
    expect<format_error>(std::isfinite(value) && value > 0, source, ": ", key, ": expected a positive number, found ",
                         value);
  };
  expect<format_error>(rope.dimension > 0 && rope.dimension <= head_dim && rope.dimension % 2 == 0, source,
                       ": rotary dimension: expected an even number up to head_dim (", head_dim, "), found ",
                       rope.dimension);
  positive("rope_theta", rope.theta);
  positive("rope_scaling: factor", rope.factor);
  positive("rope_scaling: attention_factor", rope.attention_factor);
  if (rope.scaling == nn::rope_scaling::llama3) {
    expect<format_error>(
        std::isfinite(rope.high_frequency_factor) && rope.low_frequency_factor < rope.high_frequency_factor, source,
        ": rope_scaling: low_freq_factor must be below high_freq_factor, found ", rope.low_frequency_factor, " and ",
        rope.high_frequency_factor);
  }
  if (rope.scaling == nn::rope_scaling::yarn) {
    positive("rope_scaling: beta_fast", rope.beta_fast);
    positive("rope_scaling: beta_slow", rope.beta_slow);
    expect<format_error>(rope.theta > 1, source, ": rope_theta: expected more than 1 for yarn, found ", rope.theta);
  }
  if (rope.scaling != nn::rope_scaling::none && rope.scaling != nn::rope_scaling::linear) {
    expect<format_error>(rope.original_context > 0, source,
                         ": rope_scaling: original_max_position_embeddings: expected a positive number, found ",
                         rope.original_context);
  }
  const auto half = static_cast<std::size_t>(rope.dimension / 2);
  for (const auto* divisors : {&rope.frequency_divisors, &rope.long_frequency_divisors}) {
    expect<format_error>(divisors->empty() || divisors->size() == half, source, ": rope_scaling: expected ", half,
                         " factors, one for each rotated pair of features, found ", divisors->size());
    for (const double divisor : *divisors) positive("rope_scaling: frequency factors", divisor);
  }
}

inline void validate_layers(const model_config& config, const std::string& source) {
  expect<format_error>(config.sliding_window >= 0, source, ": sliding_window: expected a positive number, found ",
                       config.sliding_window);
  expect<format_error>(config.layers.empty() || static_cast<index_t>(config.layers.size()) == config.num_hidden_layers,
                       source, ": layer_types: expected ", config.num_hidden_layers, " layers, found ",
                       config.layers.size());
  for (const layer_config& layer : config.layers) {
    expect<format_error>(!layer.windowed || config.sliding_window > 0, source,
                         ": sliding_window: expected a positive number for layers of sliding attention");
  }
}

}  // namespace detail

/// Throws format_error (naming `source`) unless the sizes make a decoder: positive, heads divisible, within what
/// kernels take.
inline void validate(const model_config& config, const std::string& source) {
  constexpr index_t most = index_t{1} << 24;
  const auto size = [&](const char* key, index_t value) {
    expect<format_error>(value > 0 && value <= most, source, ": ", key, ": expected 1 to ", most, ", found ", value);
  };
  const auto not_negative = [&](const char* key, double value) {
    expect<format_error>(std::isfinite(value) && value >= 0, source, ": ", key,
                         ": expected a number of at least 0, found ", value);
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
  not_negative("rms_norm_eps", static_cast<double>(config.rms_norm_eps));
  not_negative("query_pre_attn_scalar", config.query_pre_attn_scalar);
  not_negative("attn_logit_softcapping", static_cast<double>(config.attn_logit_softcapping));
  not_negative("final_logit_softcapping", static_cast<double>(config.final_logit_softcapping));
  not_negative("embedding_scale", static_cast<double>(config.embedding_scale));
  detail::validate(config.rope, config.head_dim, source);
  if (config.local_rope.dimension != 0) detail::validate(config.local_rope, config.head_dim, source);
  detail::validate_layers(config, source);
}

}  // namespace runnel::models
