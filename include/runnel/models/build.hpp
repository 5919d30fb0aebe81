// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include <runnel/models/decoder.hpp>
#include <runnel/models/weight_reader.hpp>

namespace runnel::models {

namespace detail {

/// Takes the modules of one decoder out of a container: a `weight_reader`, or what else gives matrices and vectors by
/// the family's names.
template <class Reader>
class decoder_builder {
 public:
  using parameters = decoder::parameters;

  decoder_builder(const model_config& config, const Reader& read, head_rows rows)
      : config_(config),
        names_(find_family(&family::model_type, config.model_type, read.source()).names),
        read_(read),
        hidden_(config.hidden_size) {
    if (rows != head_rows::interleaved) return;
    // What is said of heads is what is there, so the orders are no larger.
    read.expect_matrix(names_.query, 0, config.num_attention_heads * config.head_dim, hidden_);
    read.expect_matrix(names_.key, 0, config.num_key_value_heads * config.head_dim, hidden_);
    query_order_ = interleaved_row_order(config.num_attention_heads, config.head_dim);
    key_order_ = interleaved_row_order(config.num_key_value_heads, config.head_dim);
  }

  [[nodiscard]] decoder_weights<parameters> build() const {
    decoder_weights<parameters> weights;
    weights.embedding.weight = read_.matrix(names_.embedding, 0, {config_.vocab_size, hidden_});
    weights.embedding.scale = config_.embedding_scale;
    weights.norm = norm(names_.norm, 0, hidden_);
    if (!config_.tie_word_embeddings) {
      weights.head = linear(names_.head, 0, {config_.vocab_size, hidden_}, false);
    }
    for (index_t i = 0; i < config_.num_hidden_layers; ++i) weights.layers.push_back(layer(i));
    return weights;
  }

 private:
  using request = matrix_request;

  [[nodiscard]] nn::linear<parameters> linear(const weight_name& name, index_t layer, const request& want,
                                              bool bias) const {
    nn::linear<parameters> out;
    out.weight = read_.matrix(name, layer, want);
    if (bias) out.bias = read_.vector(name, ".bias", layer, want.outputs, want.row_order);
    return out;
  }

  [[nodiscard]] nn::linear<parameters> module(adapted_module which, index_t layer,
                                              std::span<const index_t> row_order = {},
                                              const ops::input_planes& planes = {}) const {
    const module_layout where = layout_of(config_, names_, which);
    return linear(where.name, layer,
                  {where.outputs, where.inputs, row_order, planes, where.first_row, where.stored_rows}, where.bias);
  }

  [[nodiscard]] nn::rms_norm<parameters> norm(const weight_name& name, index_t layer, index_t size) const {
    return {read_.vector(name, ".weight", layer, size), config_.rms_norm_eps, config_.norm_offset};
  }

  [[nodiscard]] nn::decoder_layer<parameters> layer(index_t i) const {
    nn::decoder_layer<parameters> out;
    out.attention_norm = norm(names_.attention_norm, i, hidden_);
    out.attention = attention(i);
    out.mlp_norm = norm(names_.mlp_norm, i, hidden_);
    out.mlp = mlp(i);
    if (config_.post_norms) {
      out.attention_post_norm = norm(names_.attention_post_norm, i, hidden_);
      out.mlp_post_norm = norm(names_.mlp_post_norm, i, hidden_);
    }
    return out;
  }

  [[nodiscard]] nn::attention<parameters> attention(index_t i) const {
    nn::attention<parameters> out;
    out.query = module(adapted_module::query, i, query_order_);
    out.key = module(adapted_module::key, i, key_order_, key_planes);
    out.value = module(adapted_module::value, i, {}, value_planes);
    out.output = module(adapted_module::output, i);
    if (config_.qk_norm) {
      out.query_norm = norm(names_.query_norm, i, config_.head_dim);
      out.key_norm = norm(names_.key_norm, i, config_.head_dim);
    }
    const double scalar = config_.query_pre_attn_scalar;
    const layer_config layer = config_.layer(i);
    out.scores.heads = config_.num_attention_heads;
    out.scores.kv_heads = config_.num_key_value_heads;
    out.scores.head_dim = config_.head_dim;
    out.scores.scale = static_cast<float>(1.0 / std::sqrt(scalar > 0 ? scalar : static_cast<double>(config_.head_dim)));
    out.scores.soft_cap = config_.attn_logit_softcapping;
    out.scores.windowed = layer.windowed;
    out.rotary = layer.rotary;
    return out;
  }

  [[nodiscard]] nn::gated_mlp<parameters> mlp(index_t i) const {
    nn::gated_mlp<parameters> out;
    out.gate = module(adapted_module::gate, i);
    out.up = module(adapted_module::up, i);
    out.down = module(adapted_module::down, i);
    out.kind = config_.hidden_act;
    return out;
  }

  const model_config& config_;
  const decoder_names& names_;
  const Reader& read_;
  index_t hidden_;
  std::vector<index_t> query_order_;
  std::vector<index_t> key_order_;
};

}  // namespace detail

/// Builds the decoder of any family from a container's weights. Throws format_error naming the tensor that is missing
/// or does not fit.
[[nodiscard]] inline decoder build_decoder(const model_config& config, const weight_reader& read, head_rows rows) {
  validate(config, read.source());
  auto weights = detail::decoder_builder(config, read, rows).build();
  return decoder(config, std::move(weights));
}

}  // namespace runnel::models
