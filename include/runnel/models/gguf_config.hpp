// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/gguf.hpp>
#include <runnel/models/config.hpp>
#include <runnel/models/family.hpp>

/// \file
/// Reads a decoder's config from GGUF metadata: what all families have, then what a family's files leave unsaid.

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
  [[nodiscard]] index_t positive(std::string_view name) const {
    const index_t value = size(name);
    expect<format_error>(value > 0, file_.name(), ": ", (*this)(name), ": expected a positive number, found ", value);
    return value;
  }
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
  [[nodiscard]] const io::gguf_file& file() const noexcept { return file_; }

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
[[nodiscard]] inline std::vector<double> read_frequency_divisors(const io::gguf_file& file, std::string_view name,
                                                                 std::uint64_t count) {
  const auto* stored = file.find_tensor(name);
  if (stored == nullptr) return {};
  expect<format_error>(stored->format == quant::weight_format::f32 && stored->elements() == count &&
                           stored->bytes.size() == count * sizeof(float),
                       file.name(), ": tensor ", name, ": expected ", count, " f32 values");
  std::vector<float> values(count);
  quant::decode(quant::weight_format::f32, stored->bytes.data(), values.size(), values.data());
  for (const float divisor : values) {
    expect<format_error>(std::isfinite(divisor) && divisor > 0, file.name(), ": tensor ", name,
                         ": expected positive numbers, found ", divisor);
  }
  return {values.begin(), values.end()};
}

inline void read_gguf_yarn(const architecture_keys& keys, const model_config& config, nn::rotary_config& rope) {
  rope.scaling = nn::rope_scaling::yarn;
  rope.factor = keys.number("rope.scaling.factor");
  rope.original_context = keys.size_or("rope.scaling.original_context_length", config.max_position_embeddings);
  rope.beta_fast = keys.number_or("rope.scaling.yarn_beta_fast", rope.beta_fast);
  rope.beta_slow = keys.number_or("rope.scaling.yarn_beta_slow", rope.beta_slow);
  rope.attention_factor = keys.number_or("rope.scaling.attn_factor", 1) * nn::yarn_attention_factor(rope.factor);
}

/// Linear scaling, which old files do not name; a factor of 0 is none.
inline void read_gguf_linear(const architecture_keys& keys, nn::rotary_config& rope) {
  const double factor = keys.number_or("rope.scaling.factor", keys.number_or("rope.scale_linear", 0));
  if (factor == 0) return;
  rope.scaling = nn::rope_scaling::linear;
  rope.factor = factor;
}

inline void read_gguf_rope(const architecture_keys& keys, const family& of, model_config& config) {
  nn::rotary_config& rope = config.rope;
  const io::gguf_file& file = keys.file();
  rope.dimension = keys.size_or("rope.dimension_count", config.head_dim);
  rope.theta = keys.number_or("rope.freq_base", rope.theta);
  expect<format_error>(rope.dimension > 0 && rope.dimension <= config.head_dim, file.name(), ": ",
                       keys("rope.dimension_count"), ": expected up to the head size ", config.head_dim, ", found ",
                       rope.dimension);
  const auto half = static_cast<std::uint64_t>(rope.dimension / 2);
  expect<format_error>(of.gguf_rows == head_rows::halves || rope.dimension == config.head_dim, file.name(), ": ",
                       keys("rope.dimension_count"), ": expected the head size ", config.head_dim, " in a file of ",
                       of.architecture, ", found ", rope.dimension);
  const auto scaling = keys.text_or("rope.scaling.type", "linear");
  if (scaling == "linear") {
    read_gguf_linear(keys, rope);
  } else if (scaling == "yarn") {
    read_gguf_yarn(keys, config, rope);
  } else {
    expect<format_error>(scaling == "none" || scaling == "longrope", file.name(), ": ", keys("rope.scaling.type"),
                         ": expected none, linear, yarn or longrope, found ", scaling);
  }
  rope.frequency_divisors = read_frequency_divisors(file, "rope_freqs.weight", half);
  if (auto longs = read_frequency_divisors(file, "rope_factors_long.weight", half); !longs.empty()) {
    rope.scaling = nn::rope_scaling::longrope;
    rope.long_frequency_divisors = std::move(longs);
    rope.frequency_divisors = read_frequency_divisors(file, "rope_factors_short.weight", half);
    rope.original_context = keys.size("rope.scaling.original_context_length");
    rope.attention_factor = keys.number_or("rope.scaling.attn_factor", 1);
  }
  expect<format_error>(scaling != "longrope" || rope.scaling == nn::rope_scaling::longrope, file.name(), ": ",
                       keys("rope.scaling.type"), " is longrope, but tensor rope_factors_long.weight is missing");
}

/// The window and the layers, which follow the family's rule.
inline void read_gguf_layers(const architecture_keys& keys, layer_rule rule, index_t window, model_config& config) {
  expect<format_error>(config.num_hidden_layers <= 1024, keys.file().name(), ": ", keys("block_count"),
                       ": expected 1 to 1024, found ", config.num_hidden_layers);
  if (rule.local_rotary) {
    rule.full_every = keys.size_or("attention.sliding_window_pattern", rule.full_every);
    expect<format_error>(rule.full_every > 0, keys.file().name(), ": ", keys("attention.sliding_window_pattern"),
                         ": expected a positive number, found ", rule.full_every);
    config.local_rope.dimension = config.rope.dimension;
    config.local_rope.theta = keys.number_or("rope.freq_base_swa", 1e4);
  }
  config.sliding_window = keys.size_or("attention.sliding_window", window);
  config.layers = layers_by(rule, config.num_hidden_layers, config.sliding_window > 0);
  if (std::ranges::none_of(config.layers, &layer_config::windowed)) config.sliding_window = 0;
}

/// What a family's files leave unsaid. Norm weights of Gemma stand with their 1 added.
inline void read_gguf_family(const architecture_keys& keys, const family& of, model_config& config) {
  const std::string& type = config.model_type;
  config.qk_norm = type == "qwen3" || type == "gemma3_text";
  config.post_norms = type == "gemma2" || type == "gemma3_text";
  if (type.starts_with("gemma")) {
    config.hidden_act = kernels::activation::gelu_tanh;
    config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
    const bool capped = type == "gemma2";
    config.attn_logit_softcapping = static_cast<float>(keys.number_or("attn_logit_softcapping", capped ? 50 : 0));
    config.final_logit_softcapping = static_cast<float>(keys.number_or("final_logit_softcapping", capped ? 30 : 0));
    // Files do not say it: the largest models of both generations scale by hidden_size / heads, the others by head_dim.
    const index_t largest = type == "gemma2" ? 46 : type == "gemma3_text" ? 62 : 0;
    if (config.num_hidden_layers == largest) {
      config.query_pre_attn_scalar = static_cast<double>(config.hidden_size / config.num_attention_heads);
    }
    if (const double scale = keys.number_or("attention.scale", 0); scale > 0) {
      config.query_pre_attn_scalar = 1 / (scale * scale);
    }
  }
  read_gguf_layers(keys, of.gguf_layers, type == "gemma2" ? 4096 : 0, config);
  if (type == "llama" && config.sliding_window > 0) config.model_type = "mistral";  // Llama itself has no window
}

}  // namespace detail

/// Reads a decoder's config from GGUF metadata (`general.architecture` and the keys under it).
/// Throws format_error naming file and key for an unknown architecture, a missing key or a wrong type.
[[nodiscard]] inline model_config read_gguf_config(const io::gguf_file& file) {
  const auto architecture = file.string("general.architecture");
  model_config config;
  const family& of = find_family(&family::architecture, architecture, message(file.name(), ": general.architecture"));
  config.model_type = of.model_type;
  const detail::architecture_keys keys(file, std::string(architecture));
  const index_t experts = keys.size_or("expert_count", 0);
  expect<format_error>(experts == 0, file.name(), ": ", keys("expert_count"), ": expected none, found ", experts,
                       ": mixtures of experts are not supported");
  config.hidden_size = keys.positive("embedding_length");
  config.intermediate_size = keys.positive("feed_forward_length");
  config.num_hidden_layers = keys.positive("block_count");
  config.num_attention_heads = keys.positive("attention.head_count");
  config.num_key_value_heads = keys.size_or("attention.head_count_kv", config.num_attention_heads);
  config.max_position_embeddings = keys.positive("context_length");
  config.rms_norm_eps = static_cast<float>(keys.number("attention.layer_norm_rms_epsilon"));
  config.head_dim = keys.size_or("attention.key_length", config.hidden_size / config.num_attention_heads);
  const index_t value_dim = keys.size_or("attention.value_length", config.head_dim);
  expect<format_error>(value_dim == config.head_dim, file.name(), ": ", keys("attention.value_length"),
                       ": expected that of keys, ", config.head_dim, ", found ", value_dim);

  const auto* embedding = file.find_tensor("token_embd.weight");
  expect<format_error>(embedding != nullptr && embedding->shape.size() == 2, file.name(),
                       ": tensor token_embd.weight: expected a matrix [vocabulary, hidden]");
  config.vocab_size = static_cast<index_t>(embedding->shape[0]);
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  config.attention_bias = detail::has_any(file, {".attn_q.bias", ".attn_k.bias", ".attn_v.bias"});
  config.attention_output_bias = detail::has_any(file, {".attn_output.bias"});
  config.mlp_bias = detail::has_any(file, {".ffn_gate.bias", ".ffn_up.bias", ".ffn_down.bias"});
  detail::read_gguf_rope(keys, of, config);
  detail::read_gguf_family(keys, of, config);
  return config;
}

}  // namespace runnel::models
