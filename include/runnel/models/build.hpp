// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include <runnel/models/decoder.hpp>
#include <runnel/models/weight_reader.hpp>

namespace runnel::models {

/// How a container stores query and key rows.
enum class head_rows : std::uint8_t {
  halves,       ///< feature i pairs with i + head_dim / 2 (Hugging Face)
  interleaved,  ///< feature 2i pairs with 2i + 1 (GGUF files of Llama models)
};

namespace detail {

/// For each row in Hugging Face order, where an interleaved container keeps it.
[[nodiscard]] inline std::vector<index_t> interleaved_row_order(index_t heads, index_t head_dim) {
  std::vector<index_t> order;
  order.reserve(static_cast<std::size_t>(heads * head_dim));
  for (index_t row = 0; row < heads * head_dim; ++row) {
    const index_t within = row % head_dim, half = head_dim / 2;
    order.push_back(row - within + 2 * (within % half) + within / half);
  }
  return order;
}

}  // namespace detail

/// Builds a decoder of the Llama architecture (and of what differs from it by config only) from a container's weights.
/// Throws format_error naming the tensor that is missing or does not fit.
[[nodiscard]] inline decoder build_decoder(const model_config& config, const weight_reader& read, head_rows rows) {
  using parameters = decoder::parameters;
  validate(config, read.source());
  const decoder_names names;
  const index_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const index_t queries = config.num_attention_heads * config.head_dim,
                keys = config.num_key_value_heads * config.head_dim;
  std::vector<index_t> query_order, key_order;
  if (rows == head_rows::interleaved) {
    // What is said of heads is what is there, so the orders are no larger.
    read.expect_matrix(names.query, 0, queries, hidden);
    read.expect_matrix(names.key, 0, keys, hidden);
    query_order = detail::interleaved_row_order(config.num_attention_heads, config.head_dim);
    key_order = detail::interleaved_row_order(config.num_key_value_heads, config.head_dim);
  }
  // Keys, values and logits are few products but carry most of what int8 inputs lose, so theirs have 16 bits.
  constexpr index_t fine = 2;
  const auto linear = [&](const weight_name& name, index_t layer, index_t outputs, index_t inputs, bool bias,
                          std::span<const index_t> order = {}, index_t planes = 1) {
    nn::linear<parameters> out;
    out.weight = read.matrix(name, layer, outputs, inputs, order, planes);
    if (bias) out.bias = read.vector(name, ".bias", layer, outputs, order);
    return out;
  };
  const auto norm = [&](const weight_name& name, index_t layer) {
    return nn::rms_norm<parameters>{read.vector(name, ".weight", layer, hidden), config.rms_norm_eps, 0};
  };

  decoder_weights<parameters> weights;
  weights.embedding.weight = read.matrix(names.embedding, 0, config.vocab_size, hidden, {}, fine);
  weights.norm = norm(names.norm, 0);
  if (!config.tie_word_embeddings) weights.head = linear(names.head, 0, config.vocab_size, hidden, false, {}, fine);
  const bool attention_bias = config.attention_bias;
  for (index_t i = 0; i < config.num_hidden_layers; ++i) {
    nn::decoder_layer<parameters> layer;
    layer.attention_norm = norm(names.attention_norm, i);
    layer.attention.query = linear(names.query, i, queries, hidden, attention_bias, query_order);
    layer.attention.key = linear(names.key, i, keys, hidden, attention_bias, key_order, fine);
    layer.attention.value = linear(names.value, i, keys, hidden, attention_bias, {}, fine);
    layer.attention.output = linear(names.output, i, hidden, queries, attention_bias);
    layer.attention.scores = {config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                              static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim))), 0};
    layer.mlp_norm = norm(names.mlp_norm, i);
    layer.mlp.gate = linear(names.gate, i, mlp, hidden, config.mlp_bias);
    layer.mlp.up = linear(names.up, i, mlp, hidden, config.mlp_bias);
    layer.mlp.down = linear(names.down, i, hidden, mlp, config.mlp_bias);
    layer.mlp.kind = config.hidden_act;
    weights.layers.push_back(std::move(layer));
  }
  return decoder(config, std::move(weights));
}

}  // namespace runnel::models
