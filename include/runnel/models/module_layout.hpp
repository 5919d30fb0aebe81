// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <vector>

#include <runnel/models/config.hpp>
#include <runnel/models/family.hpp>
#include <runnel/nn/lora.hpp>

namespace runnel::models {

using nn::adapted_module;

/// Planes of the inputs of products that carry much of what rounding inputs loses, and are few where heads share keys:
/// keys and values in int8, keys in bf16. (Logits carry as much, but are a fifth of the products of many streams.)
inline constexpr ops::input_planes key_planes{2, 2}, value_planes{2, 1};

/// Where containers keep one linear module of a layer: its matrix, or its rows in a matrix that holds several.
struct module_layout {
  weight_name name;
  index_t outputs = 0;
  index_t inputs = 0;
  index_t first_row = 0;
  index_t stored_rows = 0;
  index_t rotated_heads = 0;  ///< heads whose rows an interleaved container reorders; 0: none
  bool bias = false;
};

/// The layout of a module under a family's names.
[[nodiscard]] inline module_layout layout_of(const model_config& config, const decoder_names& names,
                                             adapted_module which) {
  const index_t hidden = config.hidden_size, inner = config.intermediate_size;
  const index_t queries = config.num_attention_heads * config.head_dim;
  const index_t keys = config.num_key_value_heads * config.head_dim;
  const index_t qkv = names.fused_qkv ? queries + 2 * keys : 0, gates = names.fused_gate_up ? 2 * inner : 0;
  const auto make = [](weight_name name, index_t outputs, index_t inputs, index_t fused, index_t first, bool bias) {
    return module_layout{name, outputs, inputs, fused == 0 ? 0 : first, fused == 0 ? outputs : fused, 0, bias};
  };
  module_layout out;
  switch (which) {
    case adapted_module::query:
      out = make(names.query, queries, hidden, qkv, 0, config.attention_bias);
      out.rotated_heads = config.num_attention_heads;
      break;
    case adapted_module::key:
      out = make(names.key, keys, hidden, qkv, queries, config.attention_bias);
      out.rotated_heads = config.num_key_value_heads;
      break;
    case adapted_module::value:
      out = make(names.value, keys, hidden, qkv, queries + keys, config.attention_bias);
      break;
    case adapted_module::output: out = make(names.output, hidden, queries, 0, 0, config.attention_output_bias); break;
    case adapted_module::gate: out = make(names.gate, inner, hidden, gates, 0, config.mlp_bias); break;
    case adapted_module::up: out = make(names.up, inner, hidden, gates, inner, config.mlp_bias); break;
    case adapted_module::down: out = make(names.down, hidden, inner, 0, 0, config.mlp_bias); break;
  }
  return out;
}

/// That of the output head.
[[nodiscard]] inline module_layout head_layout(const model_config& config, const decoder_names& names) {
  return {names.head, config.vocab_size, config.hidden_size, 0, config.vocab_size};
}

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

/// The linear module of a layer.
template <class Layer>
[[nodiscard]] auto& module_of(Layer& layer, adapted_module which) noexcept {
  switch (which) {
    case adapted_module::query: return layer.attention.query;
    case adapted_module::key: return layer.attention.key;
    case adapted_module::value: return layer.attention.value;
    case adapted_module::output: return layer.attention.output;
    case adapted_module::gate: return layer.mlp.gate;
    case adapted_module::up: return layer.mlp.up;
    case adapted_module::down: break;
  }
  return layer.mlp.down;
}

inline constexpr std::array<adapted_module, nn::num_adapted_modules> all_modules{
    adapted_module::query, adapted_module::key, adapted_module::value, adapted_module::output,
    adapted_module::gate,  adapted_module::up,  adapted_module::down};

}  // namespace runnel::models
