// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include <runnel/io/gguf.hpp>
#include <runnel/models/build.hpp>

namespace runnel::models {

/// Reads a decoder's config from GGUF metadata (`general.architecture` and the keys under it).
/// Throws format_error naming file and key for an unknown architecture, a missing key or a wrong type.
[[nodiscard]] inline model_config read_gguf_config(const io::gguf_file& file) {
  const std::string architecture(file.string("general.architecture"));
  expect<format_error>(architecture == "llama", file.name(), ": general.architecture: expected llama, found ",
                       architecture);
  const auto key = [&](const char* name) { return architecture + "." + name; };
  model_config config;
  config.model_type = architecture;
  config.hidden_size = file.get<index_t>(key("embedding_length"));
  config.intermediate_size = file.get<index_t>(key("feed_forward_length"));
  config.num_hidden_layers = file.get<index_t>(key("block_count"));
  config.num_attention_heads = file.get<index_t>(key("attention.head_count"));
  config.num_key_value_heads = file.get_or<index_t>(key("attention.head_count_kv"), config.num_attention_heads);
  config.max_position_embeddings = file.get<index_t>(key("context_length"));
  config.rms_norm_eps = static_cast<float>(file.get<double>(key("attention.layer_norm_rms_epsilon")));
  expect<format_error>(config.num_attention_heads > 0, file.name(), ": ", key("attention.head_count"),
                       ": expected a positive number, found ", config.num_attention_heads);
  config.head_dim = file.get_or<index_t>(key("attention.key_length"), config.hidden_size / config.num_attention_heads);
  config.rope.dimension = file.get_or<index_t>(key("rope.dimension_count"), config.head_dim);
  expect<format_error>(config.rope.dimension == config.head_dim, file.name(), ": ", key("rope.dimension_count"),
                       ": expected the head size ", config.head_dim, ", found ", config.rope.dimension);
  config.rope.theta = file.get_or<double>(key("rope.freq_base"), 10000.0);

  const auto* embedding = file.find_tensor("token_embd.weight");
  expect<format_error>(embedding != nullptr && embedding->shape.size() == 2, file.name(),
                       ": tensor token_embd.weight: expected a matrix [vocabulary, hidden]");
  config.vocab_size = static_cast<index_t>(embedding->shape[0]);
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  // One bias anywhere means that all are wanted: none is left out in silence.
  const auto any_bias = [&](std::initializer_list<std::string_view> modules) {
    return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const io::stored_tensor& tensor) {
      return std::any_of(modules.begin(), modules.end(),
                         [&](std::string_view end) { return tensor.name.ends_with(end); });
    });
  };
  config.attention_bias = any_bias({".attn_q.bias", ".attn_k.bias", ".attn_v.bias", ".attn_output.bias"});
  config.mlp_bias = any_bias({".ffn_gate.bias", ".ffn_up.bias", ".ffn_down.bias"});

  const auto scaling = std::string(file.get_or<std::string_view>(key("rope.scaling.type"), "none"));
  expect<format_error>(scaling == "none" || scaling == "linear", file.name(), ": ", key("rope.scaling.type"),
                       ": expected none or linear, found ", scaling);
  if (scaling == "linear") {
    config.rope.scaling = nn::rope_scaling::linear;
    config.rope.factor = file.get<double>(key("rope.scaling.factor"));
  }
  if (const auto* divisors = file.find_tensor("rope_freqs.weight")) {
    const auto half = static_cast<std::uint64_t>(config.rope.dimension / 2);
    expect<format_error>(divisors->format == quant::weight_format::f32 && divisors->elements() == half &&
                             divisors->bytes.size() == half * sizeof(float),
                         file.name(), ": tensor rope_freqs.weight: expected ", half, " f32 values");
    std::vector<float> values(half);
    quant::decode(quant::weight_format::f32, divisors->bytes.data(), values.size(), values.data());
    config.rope.frequency_divisors.assign(values.begin(), values.end());
    for (const double divisor : config.rope.frequency_divisors) {
      expect<format_error>(std::isfinite(divisor) && divisor > 0, file.name(),
                           ": tensor rope_freqs.weight: expected positive numbers, found ", divisor);
    }
  }
  return config;
}

/// The decoder of a GGUF file. Weights are packed into memory; the file may be closed afterwards.
[[nodiscard]] inline decoder load_gguf_decoder(const io::gguf_file& file) {
  const model_config config = read_gguf_config(file);
  const weight_reader read(file.name(), &weight_name::gguf,
                           [&](const std::string& name) { return file.find_tensor(name); });
  return build_decoder(config, read, head_rows::interleaved);
}

}  // namespace runnel::models
