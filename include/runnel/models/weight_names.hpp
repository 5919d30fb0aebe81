// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <runnel/core/index.hpp>

namespace runnel::models {

/// How the containers call one weight; "{}" stands for the layer. The part before ".weight" or ".bias".
struct weight_name {
  std::string_view hugging_face;
  std::string_view gguf;
};

/// Names of a family's weights: data, the same for every family that has the same modules.
struct decoder_names {
  weight_name embedding{"model.embed_tokens", "token_embd"};
  weight_name norm{"model.norm", "output_norm"};
  weight_name head{"lm_head", "output"};
  weight_name attention_norm{"model.layers.{}.input_layernorm", "blk.{}.attn_norm"};
  weight_name query{"model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"};
  weight_name key{"model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"};
  weight_name value{"model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"};
  weight_name output{"model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"};
  weight_name mlp_norm{"model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"};
  weight_name gate{"model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"};
  weight_name up{"model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"};
  weight_name down{"model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"};
};

/// `pattern` with the layer's number in place of "{}".
[[nodiscard]] inline std::string with_layer(std::string_view pattern, index_t layer) {
  std::string name(pattern);
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

}  // namespace runnel::models
