// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/models/decoder.hpp>

namespace runnel::tests {

/// What a random tiny decoder is made of; zeros are chosen at random from small sizes.
struct tiny_model_options {
  index_t vocab_size = 28;
  index_t layers = 0;
  index_t kv_heads = 0;
  index_t heads_per_kv_head = 0;
  index_t head_dim = 0;
  index_t max_position_embeddings = 4096;
  double theta = 0;
  bool tied = false;
  bool bias = false;
  /// Windows, soft-caps, norms and rotary tables as any family might combine them; else the Llama architecture.
  bool any_family = false;
  quant::weight_format format =
      quant::weight_format::f32;  ///< of matrices; blocks make all sizes multiples of them, and a format of
                                  ///< super-blocks is that of the down projections among others in q8_0
};

namespace detail {

class tiny_weights {
 public:
  tiny_weights(random_stream& random, quant::weight_format format) : random_(random), format_(format) {}

  /// Uniform with the standard deviation `scale`.
  [[nodiscard]] std::vector<float> values(index_t count, double scale) {
    std::vector<float> result(static_cast<std::size_t>(count));
    for (float& value : result) value = static_cast<float>((2 * random_.uniform() - 1) * std::sqrt(3.0) * scale);
    return result;
  }
  [[nodiscard]] ops::prepared_matrix matrix(index_t outputs, index_t inputs, double gain,
                                            const ops::input_planes& planes = {}) {
    const auto all = values(outputs * inputs, gain / std::sqrt(static_cast<double>(inputs)));
    const auto block = static_cast<index_t>(quant::info(format_).block_size);
    const auto format = inputs % block == 0 ? format_ : quant::weight_format::q8_0;
    std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(format, all.size())));
    quant::encode(format, all.data(), all.size(), bytes.data());
    return ops::prepared_matrix::prepare({format, outputs, inputs, bytes, {}, planes});
  }
  [[nodiscard]] tensor<float, 1> vector(index_t size, double center, double scale) {
    tensor<float, 1> result({size});
    const auto all = values(size, scale);
    for (index_t i = 0; i < size; ++i) result(i) = static_cast<float>(center) + all[static_cast<std::size_t>(i)];
    return result;
  }
  [[nodiscard]] nn::linear<nn::inference_parameters> linear(index_t outputs, index_t inputs, double gain, bool bias,
                                                            const ops::input_planes& planes = {}) {
    nn::linear<nn::inference_parameters> result;
    result.weight = matrix(outputs, inputs, gain, planes);
    if (bias) result.bias = vector(outputs, 0, 0.1);
    return result;
  }

 private:
  random_stream& random_;
  quant::weight_format format_;
};

}  // namespace detail

/// Gives a config what families have beyond the Llama architecture, each with some probability.
inline void add_family_features(random_stream& random, models::model_config& config) {
  const auto one_in = [&](index_t n) { return random.below(n) == 0; };
  config.layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  if (one_in(2)) {
    config.sliding_window = 5 + random.below(40);
    const bool two_tables = one_in(2);
    bool any = false;
    for (auto& layer : config.layers) {
      any |= layer.windowed = one_in(2);
      if (layer.windowed && two_tables) layer.rotary = 1;
    }
    if (!any) config.layers.front().windowed = true;
    if (two_tables) config.local_rope = config.rope;
    config.local_rope.theta = 20 + 80 * random.uniform();
  }
  if (one_in(3) && config.layers.size() > 1) config.layers.back().rotary = ops::no_rotary;
  if (one_in(3) && config.head_dim % 4 == 0) config.rope.dimension = config.head_dim / 2;
  if (one_in(3)) {
    config.rope.scaling = nn::rope_scaling::longrope;
    config.rope.original_context = 8;
    config.rope.attention_factor = 1.1;
    for (index_t i = 0; i < config.rope.dimension / 2; ++i) {
      config.rope.frequency_divisors.push_back(1);
      config.rope.long_frequency_divisors.push_back(1 + random.uniform());
    }
  }
  config.qk_norm = one_in(3);
  config.post_norms = one_in(3);
  if (one_in(3)) config.norm_offset = 1;
  if (one_in(3)) config.embedding_scale = 1.5f;
  if (one_in(3)) config.query_pre_attn_scalar = 1 + 20 * random.uniform();
  if (one_in(3)) config.attn_logit_softcapping = 2;
  if (one_in(3)) config.final_logit_softcapping = 3;
}

/// A random decoder, small enough for thousands of passes a second.
inline std::shared_ptr<const models::decoder> tiny_decoder(random_stream& random, tiny_model_options options = {}) {
  const auto pick = [&](index_t given, std::initializer_list<index_t> from) {
    const index_t chosen = *(from.begin() + random.below(static_cast<index_t>(from.size())));
    return given != 0 ? given : chosen;
  };
  models::model_config config;
  config.model_type = "llama";
  config.vocab_size = options.vocab_size;
  config.num_hidden_layers = pick(options.layers, {1, 2, 3});
  config.num_key_value_heads = pick(options.kv_heads, {1, 2, 3});
  config.num_attention_heads = config.num_key_value_heads * pick(options.heads_per_kv_head, {1, 2, 3});
  config.head_dim = pick(options.head_dim, {4, 6, 8, 16});
  config.hidden_size = 4 * pick(0, {3, 5, 8});
  config.intermediate_size = 4 * pick(0, {4, 7});
  if (quant::info(options.format).block_size > 1) {
    config.head_dim = 32;
    config.hidden_size = 32 * (config.hidden_size > 12 ? 2 : 1);
    config.intermediate_size = std::max<index_t>(64, static_cast<index_t>(quant::info(options.format).block_size));
  }
  config.max_position_embeddings = options.max_position_embeddings;
  config.tie_word_embeddings = options.tied;
  config.rope.dimension = config.head_dim;
  config.rope.theta = options.theta != 0 ? options.theta : 100 + 9900 * random.uniform();

  if (options.any_family) add_family_features(random, config);

  detail::tiny_weights make(random, options.format);
  const double norm_center = 1 - static_cast<double>(config.norm_offset);
  const auto norm = [&](index_t size) {
    return nn::rms_norm<nn::inference_parameters>{make.vector(size, norm_center, 0.2), 1e-5f, config.norm_offset};
  };
  const index_t hidden = config.hidden_size;
  const index_t queries = config.num_attention_heads * config.head_dim;
  const index_t keys = config.num_key_value_heads * config.head_dim;
  models::decoder_weights<nn::inference_parameters> weights;
  weights.embedding.weight = make.matrix(config.vocab_size, hidden, std::sqrt(static_cast<double>(hidden)));
  weights.embedding.scale = config.embedding_scale;
  weights.norm = norm(hidden);
  if (!options.tied) weights.head = make.linear(config.vocab_size, hidden, 3, false);
  for (index_t i = 0; i < config.num_hidden_layers; ++i) {
    nn::decoder_layer<nn::inference_parameters> layer;
    layer.attention_norm = norm(hidden);
    layer.mlp_norm = norm(hidden);
    if (config.post_norms) {
      layer.attention_post_norm = norm(hidden);
      layer.mlp_post_norm = norm(hidden);
    }
    if (config.qk_norm) {
      layer.attention.query_norm = norm(config.head_dim);
      layer.attention.key_norm = norm(config.head_dim);
    }
    layer.attention.query = make.linear(queries, hidden, 2, options.bias);
    layer.attention.key = make.linear(keys, hidden, 2, options.bias, models::key_planes);
    layer.attention.value = make.linear(keys, hidden, 2, options.bias, models::value_planes);
    layer.attention.output = make.linear(hidden, queries, 2, options.bias);
    layer.attention.scores.heads = config.num_attention_heads;
    layer.attention.scores.kv_heads = config.num_key_value_heads;
    layer.attention.scores.head_dim = config.head_dim;
    const double scalar =
        config.query_pre_attn_scalar > 0 ? config.query_pre_attn_scalar : static_cast<double>(config.head_dim);
    layer.attention.scores.scale = static_cast<float>(1 / std::sqrt(scalar));
    layer.attention.scores.soft_cap = config.attn_logit_softcapping;
    layer.attention.scores.windowed = config.layer(i).windowed;
    layer.attention.rotary = config.layer(i).rotary;
    layer.mlp.gate = make.linear(config.intermediate_size, hidden, 1, false);
    layer.mlp.up = make.linear(config.intermediate_size, hidden, 1, false);
    layer.mlp.down = make.linear(hidden, config.intermediate_size, 1, false);
    weights.layers.push_back(std::move(layer));
  }
  return std::make_shared<const models::decoder>(std::move(config), std::move(weights));
}

}  // namespace runnel::tests
