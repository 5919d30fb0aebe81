// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/gguf.hpp>
#include <runnel/models/build.hpp>

namespace runnel::models {

namespace detail {

/// The metadata under an architecture's name.
class architecture_keys {
 public:
  architecture_keys(const io::gguf_file& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  /// The key in full.
  [[nodiscard]] std::string operator()(std::string_view name) const { return message(architecture_, '.', name); }

  [[nodiscard]] index_t size(std::string_view name) const { return file_.get<index_t>((*this)(name)); }
  [[nodiscard]] index_t size_or(std::string_view name, index_t otherwise) const {
    return file_.contains((*this)(name)) ? size(name) : otherwise;
  }
  [[nodiscard]] double number(std::string_view name) const { return file_.get<double>((*this)(name)); }
  [[nodiscard]] double number_or(std::string_view name, double otherwise) const {
    return file_.contains((*this)(name)) ? number(name) : otherwise;
  }
  [[nodiscard]] std::string_view text_or(std::string_view name, std::string_view otherwise) const {
    return file_.get_or<std::string_view>((*this)(name), otherwise);
  }

 private:
  const io::gguf_file& file_;
  std::string architecture_;
};

/// Whether a tensor's name ends in one of these. One bias anywhere means that all are wanted: none is left out in
/// silence.
[[nodiscard]] inline bool has_any(const io::gguf_file& file, std::initializer_list<std::string_view> ends) {
  for (const io::stored_tensor& tensor : file.tensors()) {
    for (const std::string_view end : ends) {
      if (tensor.name.ends_with(end)) return true;
    }
  }
  return false;
}

/// The divisors of rotary frequencies that a tensor may hold: `count` of them, or none.
[[nodiscard]] inline std::vector<double> read_frequency_divisors(const io::gguf_file& file, std::uint64_t count) {
  const auto* stored = file.find_tensor("rope_freqs.weight");
  if (stored == nullptr) return {};
  expect<format_error>(stored->format == quant::weight_format::f32 && stored->elements() == count &&
                           stored->bytes.size() == count * sizeof(float),
                       file.name(), ": tensor rope_freqs.weight: expected ", count, " f32 values");
  std::vector<float> values(count);
  quant::decode(quant::weight_format::f32, stored->bytes.data(), values.size(), values.data());
  for (const float divisor : values) {
    expect<format_error>(std::isfinite(divisor) && divisor > 0, file.name(),
                         ": tensor rope_freqs.weight: expected positive numbers, found ", divisor);
  }
  return {values.begin(), values.end()};
}

}  // namespace detail

/// Reads a decoder's config from GGUF metadata (`general.architecture` and the keys under it).
/// Throws format_error naming file and key for an unknown architecture, a missing key or a wrong type.
[[nodiscard]] inline model_config read_gguf_config(const io::gguf_file& file) {
  model_config config;
  config.model_type = file.string("general.architecture");
  expect<format_error>(config.model_type == "llama", file.name(), ": general.architecture: expected llama, found ",
                       config.model_type);
  const detail::architecture_keys keys(file, config.model_type);
  config.hidden_size = keys.size("embedding_length");
  config.intermediate_size = keys.size("feed_forward_length");
  config.num_hidden_layers = keys.size("block_count");
  config.num_attention_heads = keys.size("attention.head_count");
  config.num_key_value_heads = keys.size_or("attention.head_count_kv", config.num_attention_heads);
  config.max_position_embeddings = keys.size("context_length");
  config.rms_norm_eps = static_cast<float>(keys.number("attention.layer_norm_rms_epsilon"));
  expect<format_error>(config.num_attention_heads > 0, file.name(), ": ", keys("attention.head_count"),
                       ": expected a positive number, found ", config.num_attention_heads);
  config.head_dim = keys.size_or("attention.key_length", config.hidden_size / config.num_attention_heads);
  config.rope.dimension = keys.size_or("rope.dimension_count", config.head_dim);
  expect<format_error>(config.rope.dimension == config.head_dim, file.name(), ": ", keys("rope.dimension_count"),
                       ": expected the head size ", config.head_dim, ", found ", config.rope.dimension);
  config.rope.theta = keys.number_or("rope.freq_base", 10000.0);

  const auto* embedding = file.find_tensor("token_embd.weight");
  expect<format_error>(embedding != nullptr && embedding->shape.size() == 2, file.name(),
                       ": tensor token_embd.weight: expected a matrix [vocabulary, hidden]");
  config.vocab_size = static_cast<index_t>(embedding->shape[0]);
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  config.attention_bias = detail::has_any(file, {".attn_q.bias", ".attn_k.bias", ".attn_v.bias", ".attn_output.bias"});
  config.mlp_bias = detail::has_any(file, {".ffn_gate.bias", ".ffn_up.bias", ".ffn_down.bias"});

  const auto scaling = keys.text_or("rope.scaling.type", "none");
  expect<format_error>(scaling == "none" || scaling == "linear", file.name(), ": ", keys("rope.scaling.type"),
                       ": expected none or linear, found ", scaling);
  if (scaling == "linear") {
    config.rope.scaling = nn::rope_scaling::linear;
    config.rope.factor = keys.number("rope.scaling.factor");
  }
  config.rope.frequency_divisors =
      detail::read_frequency_divisors(file, static_cast<std::uint64_t>(config.rope.dimension / 2));
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
