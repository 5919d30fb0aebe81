// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <runnel/io/json.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/models/build.hpp>

namespace runnel::models {

namespace detail {

/// `rope_scaling` of Transformers 4, or `rope_parameters` of Transformers 5 (theta included).
inline void read_rope(const io::json_object& config, nn::rotary_config& rope) {
  rope.theta = config.number_or("rope_theta", rope.theta);
  const char* key = config.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.find(key)) return;
  const auto scaling = config.object(key);
  rope.theta = scaling.number_or("rope_theta", rope.theta);
  const auto type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
  if (type == "default") return;
  if (type == "linear") {
    rope.scaling = nn::rope_scaling::linear;
  } else if (type == "llama3") {
    rope.scaling = nn::rope_scaling::llama3;
    rope.low_frequency_factor = scaling.number("low_freq_factor");
    rope.high_frequency_factor = scaling.number("high_freq_factor");
    rope.original_context = scaling.integer("original_max_position_embeddings");
  } else {
    fail<format_error>(scaling.source_name(), ": ", scaling.path_to("rope_type"),
                       ": expected default, linear or llama3, found ", type);
  }
  rope.factor = scaling.number("factor");
}

[[nodiscard]] inline kernels::activation read_activation(const io::json_object& config) {
  const auto name = config.text_or("hidden_act", "silu");
  if (name == "silu" || name == "swish") return kernels::activation::silu;
  if (name == "gelu") return kernels::activation::gelu;
  expect<format_error>(name == "gelu_pytorch_tanh", config.source_name(),
                       ": hidden_act: expected silu, gelu or gelu_pytorch_tanh, found ", name);
  return kernels::activation::gelu_tanh;
}

}  // namespace detail

/// Reads a decoder's config from a Hugging Face `config.json`. Throws format_error naming file and key.
[[nodiscard]] inline model_config read_hugging_face_config(const std::filesystem::path& path) {
  const auto document = io::read_json_file(path, io::most_config_bytes);
  const io::json_object json(document.root());
  model_config config;
  config.model_type = json.text("model_type");
  expect<format_error>(config.model_type == "llama", json.source_name(), ": model_type: expected llama, found ",
                       config.model_type);
  config.vocab_size = json.integer("vocab_size");
  config.hidden_size = json.integer("hidden_size");
  config.intermediate_size = json.integer("intermediate_size");
  config.num_hidden_layers = json.integer("num_hidden_layers");
  config.num_attention_heads = json.integer("num_attention_heads");
  expect<format_error>(config.num_attention_heads > 0, json.source_name(),
                       ": num_attention_heads: expected a positive number, found ", config.num_attention_heads);
  config.num_key_value_heads = json.integer_or("num_key_value_heads", config.num_attention_heads);
  config.head_dim = json.integer_or("head_dim", config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings = json.integer_or("max_position_embeddings", 2048);
  config.rms_norm_eps = static_cast<float>(json.number_or("rms_norm_eps", 1e-6));
  config.tie_word_embeddings = json.flag_or("tie_word_embeddings", false);
  config.attention_bias = json.flag_or("attention_bias", false);
  config.mlp_bias = json.flag_or("mlp_bias", false);
  config.hidden_act = detail::read_activation(json);
  config.rope.dimension = config.head_dim;
  detail::read_rope(json, config.rope);
  return config;
}

/// The decoder of a Hugging Face directory: `config.json` and `model.safetensors`, whole or sharded.
[[nodiscard]] inline decoder load_hugging_face_decoder(const std::filesystem::path& directory) {
  const model_config config = read_hugging_face_config(directory / "config.json");
  const auto weights = io::open_safetensors(directory);
  const weight_reader read(weights.name(), &weight_name::hugging_face,
                           [&](const std::string& name) { return weights.find_tensor(name); });
  const auto refuse_unread = [&](const char* name, bool read_it, const char* key) {
    expect<format_error>(read_it || weights.find_tensor(name) == nullptr, weights.name(), ": tensor ", name,
                         " is there, but ", key, " in config.json is not true");
  };
  refuse_unread("model.layers.0.self_attn.q_proj.bias", config.attention_bias, "attention_bias");
  refuse_unread("model.layers.0.mlp.gate_proj.bias", config.mlp_bias, "mlp_bias");
  return build_decoder(config, read, head_rows::halves);
}

}  // namespace runnel::models
