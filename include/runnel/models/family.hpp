// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>

/// \file
/// Families as data: what they are called, how they name their weights and how files hold these. What else differs
/// stands in `model_config`, which a family's reader fills; no family has a forward pass of its own.

namespace runnel::models {

/// How the containers call one weight; "{}" stands for the layer. The part before ".weight" or ".bias".
struct weight_name {
  std::string_view hugging_face;
  std::string_view gguf;
};

/// Names of a family's weights. Those that a family lacks are never asked for.
struct decoder_names {
  weight_name embedding{"model.embed_tokens", "token_embd"};
  weight_name norm{"model.norm", "output_norm"};
  weight_name head{"lm_head", "output"};
  weight_name attention_norm{"model.layers.{}.input_layernorm", "blk.{}.attn_norm"};
  weight_name query{"model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"};
  weight_name key{"model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"};
  weight_name value{"model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"};
  weight_name query_norm{"model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"};
  weight_name key_norm{"model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"};
  weight_name output{"model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"};
  weight_name attention_post_norm{"model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"};
  weight_name mlp_norm{"model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"};
  weight_name gate{"model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"};
  weight_name up{"model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"};
  weight_name down{"model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"};
  weight_name mlp_post_norm{"model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"};
  bool fused_qkv = false;      ///< query, key and value are rows of one matrix, in this order
  bool fused_gate_up = false;  ///< so are gate and up
};

/// How a container stores query and key rows.
enum class head_rows : std::uint8_t {
  halves,       ///< feature i pairs with i + head_dim / 2 (Hugging Face)
  interleaved,  ///< feature 2i pairs with 2i + 1 (GGUF files of Llama models)
};

/// What GGUF files leave unsaid of a family's layers.
struct layer_rule {
  bool windows = false;         ///< the window that a file may have is that of its layers ...
  index_t full_every = 0;       ///< ... but for the last of every so many; 0: of all
  bool local_rotary = false;    ///< windowed layers take the second rotary table
  index_t no_rotary_every = 0;  ///< the last of every so many has none; 0: each has one
};

/// A family of decoders.
struct family {
  std::string_view model_type;    ///< in `config.json`
  std::string_view architecture;  ///< `general.architecture` in GGUF metadata
  std::string_view hugging_face_class;
  head_rows gguf_rows = head_rows::halves;
  decoder_names names{};
  bool norms_less_one = false;  ///< Hugging Face files hold norm weights as w - 1 (GGUF files hold w)
  layer_rule gguf_layers{};
};

namespace detail {

[[nodiscard]] constexpr decoder_names gemma_names() {
  decoder_names names;
  names.mlp_norm = {"model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"};
  return names;
}

[[nodiscard]] constexpr decoder_names fused_names() {
  decoder_names names;
  names.query = names.key = names.value = {"model.layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"};
  names.gate = names.up = {"model.layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"};
  names.fused_qkv = names.fused_gate_up = true;
  return names;
}

inline constexpr layer_rule all_windowed{.windows = true};
inline constexpr layer_rule gemma2_rule{.windows = true, .full_every = 2};
inline constexpr layer_rule gemma3_rule{.windows = true, .full_every = 6, .local_rotary = true};

}  // namespace detail

/// Every family. Of several with one GGUF architecture the first reads it.
inline constexpr std::array<family, 10> families{{
    {"llama", "llama", "LlamaForCausalLM", head_rows::interleaved, {}, false, detail::all_windowed},
    {"mistral", "llama", "MistralForCausalLM", head_rows::interleaved, {}, false, detail::all_windowed},
    {"qwen2", "qwen2", "Qwen2ForCausalLM"},
    {"qwen3", "qwen3", "Qwen3ForCausalLM"},
    {"gemma", "gemma", "GemmaForCausalLM", head_rows::halves, {}, true},
    {"gemma2", "gemma2", "Gemma2ForCausalLM", head_rows::halves, detail::gemma_names(), true, detail::gemma2_rule},
    {"gemma3_text", "gemma3", "Gemma3ForCausalLM", head_rows::halves, detail::gemma_names(), true, detail::gemma3_rule},
    {"gemma3", "gemma3", "Gemma3ForCausalLM", head_rows::halves, detail::gemma_names(), true, detail::gemma3_rule},
    {"phi3", "phi3", "Phi3ForCausalLM", head_rows::halves, detail::fused_names(), false, detail::all_windowed},
    {"smollm3", "smollm3", "SmolLM3ForCausalLM", head_rows::interleaved, {}, false, {.no_rotary_every = 4}},
}};

/// The family whose `member` (model_type or architecture) is `name`. Throws format_error naming `where` and listing
/// what is known.
[[nodiscard]] inline const family& find_family(std::string_view family::*member, std::string_view name,
                                               std::string_view where) {
  std::string known;
  for (const family& one : families) {
    if (one.*member == name) return one;
    if (known.find(message(one.*member, ", ")) == std::string::npos) known += message(one.*member, ", ");
  }
  fail<format_error>(where, ": expected ", known.substr(0, known.size() - 2), ", found ", name);
}

/// `pattern` with the layer's number in place of "{}".
[[nodiscard]] inline std::string with_layer(std::string_view pattern, index_t layer) {
  std::string name(pattern);
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

}  // namespace runnel::models
