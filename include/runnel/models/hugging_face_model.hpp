// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <runnel/io/safetensors.hpp>
#include <runnel/models/build.hpp>
#include <runnel/models/hugging_face_config.hpp>

namespace runnel::models {

namespace detail {

/// Finds a weight; in checkpoints that see images too, the language model's stand under a name of their own, which has
/// changed once.
[[nodiscard]] inline const io::stored_tensor* find_weight(const io::safetensors_checkpoint& weights, bool nested,
                                                          const std::string& name) {
  if (!nested) return weights.find_tensor(name);
  if (const auto* found = weights.find_tensor("language_model." + name)) return found;
  constexpr std::string_view root = "model.";
  return weights.find_tensor(name.starts_with(root) ? "model.language_model." + name.substr(root.size()) : name);
}

}  // namespace detail

/// The decoder of a Hugging Face directory: `config.json` and `model.safetensors`, whole or sharded.
[[nodiscard]] inline decoder load_hugging_face_decoder(const std::filesystem::path& directory) {
  const model_config config = read_hugging_face_config(directory / "config.json");
  validate(config, (directory / "config.json").string());
  const auto weights = io::open_safetensors(directory);
  const bool nested = config.model_type == "gemma3";
  const weight_reader read(weights.name(), &weight_name::hugging_face,
                           [&](const std::string& name) { return detail::find_weight(weights, nested, name); });
  const auto refuse_unread = [&](const char* name, bool read_it, const char* key) {
    expect<format_error>(read_it || detail::find_weight(weights, nested, name) == nullptr, weights.name(), ": tensor ",
                         name, " is there, but ", key, " in config.json is not true");
  };
  refuse_unread("model.layers.0.self_attn.q_proj.bias", config.attention_bias, "attention_bias");
  refuse_unread("model.layers.0.self_attn.o_proj.bias", config.attention_output_bias, "attention_bias");
  refuse_unread("model.layers.0.mlp.gate_proj.bias", config.mlp_bias, "mlp_bias");
  return build_decoder(config, read, head_rows::halves);
}

}  // namespace runnel::models
