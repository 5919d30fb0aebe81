// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/io/gguf_writer.hpp>
#include <runnel/models/config.hpp>
#include <runnel/models/family.hpp>

/// \file
/// Says a decoder's config as other programs read it: `config.json`, and GGUF metadata.

namespace runnel::models {

namespace detail {

/// GGUF files hold Llama 3's scaling as divisors alone; these are the settings it was published with.
[[nodiscard]] inline nn::rotary_config named_scaling(const nn::rotary_config& rope) {
  if (rope.scaling != nn::rope_scaling::none || rope.frequency_divisors.empty()) return rope;
  for (const double factor : {8.0, 32.0}) {
    nn::rotary_config named = rope;
    named.scaling = nn::rope_scaling::llama3;
    named.factor = factor;
    named.frequency_divisors.clear();
    const auto wanted = nn::rotary_frequencies(rope), found = nn::rotary_frequencies(named);
    bool same = true;
    for (std::size_t i = 0; i < wanted.size(); ++i) same &= std::fabs(found[i] / wanted[i] - 1) < 1e-5;
    if (same) return named;
  }
  throw config_error("export: the rotary scaling is known as divisors alone, which config.json cannot say");
}

[[nodiscard]] inline std::string_view name_of(kernels::activation kind) noexcept {
  switch (kind) {
    case kernels::activation::gelu: return "gelu";
    case kernels::activation::gelu_tanh: return "gelu_pytorch_tanh";
    case kernels::activation::silu: break;
  }
  return "silu";
}

inline void write_rope(const model_config& config, nlohmann::ordered_json& out) {
  const nn::rotary_config rope = named_scaling(config.rope);
  out["rope_theta"] = rope.theta;
  if (config.local_rope.dimension != 0) out["rope_local_base_freq"] = config.local_rope.theta;
  if (rope.dimension != config.head_dim) {
    out["partial_rotary_factor"] = static_cast<double>(rope.dimension) / static_cast<double>(config.head_dim);
  }
  auto& scaling = out["rope_scaling"];
  if (rope.scaling == nn::rope_scaling::none) return;  // null
  constexpr std::array<std::string_view, 5> names{"default", "linear", "llama3", "yarn", "longrope"};
  scaling["rope_type"] = names[static_cast<std::size_t>(rope.scaling)];
  if (rope.scaling == nn::rope_scaling::longrope) {
    scaling["short_factor"] = rope.frequency_divisors;
    scaling["long_factor"] = rope.long_frequency_divisors;
  } else {
    scaling["factor"] = rope.factor;
  }
  if (rope.scaling != nn::rope_scaling::linear) scaling["original_max_position_embeddings"] = rope.original_context;
  if (rope.scaling == nn::rope_scaling::llama3) {
    scaling["low_freq_factor"] = rope.low_frequency_factor;
    scaling["high_freq_factor"] = rope.high_frequency_factor;
  }
  if (rope.scaling == nn::rope_scaling::yarn) {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    if (!rope.truncate) scaling["truncate"] = false;
  }
  if (rope.scaling == nn::rope_scaling::yarn || rope.scaling == nn::rope_scaling::longrope) {
    scaling["attention_factor"] = rope.attention_factor;
  }
}

inline void write_layers(const model_config& config, nlohmann::ordered_json& out) {
  const std::string& type = config.model_type;
  auto& window = out["sliding_window"];
  if (config.sliding_window > 0) window = config.sliding_window;
  if (type == "llama" || type == "mistral" || type == "gemma" || type == "phi3") return;
  auto types = nlohmann::ordered_json::array(), with_rotary = nlohmann::ordered_json::array();
  for (index_t i = 0; i < config.num_hidden_layers; ++i) {
    types.push_back(config.layer(i).windowed ? "sliding_attention" : "full_attention");
    with_rotary.push_back(config.layer(i).rotary == ops::no_rotary ? 0 : 1);
  }
  out["layer_types"] = types;
  if (type == "smollm3") out["no_rope_layers"] = with_rotary;
  if (!type.starts_with("gemma")) out["use_sliding_window"] = config.sliding_window > 0;
}

inline void write_gguf_rope(const nn::rotary_config& rope, const std::string& prefix, io::gguf_writer& out) {
  const auto real = [&](const char* key, double value) { out.set(prefix + key, static_cast<float>(value)); };
  const auto original = static_cast<std::uint32_t>(rope.original_context);
  const auto add_divisors = [&](const char* name, const std::vector<double>& divisors) {
    const std::vector<float> values(divisors.begin(), divisors.end());
    out.add_tensor(name, quant::weight_format::f32, {values.size()}, [values] {
      const auto bytes = std::as_bytes(std::span(values));
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    });
  };
  switch (rope.scaling) {
    case nn::rope_scaling::none:
      if (!rope.frequency_divisors.empty()) add_divisors("rope_freqs.weight", rope.frequency_divisors);
      break;
    case nn::rope_scaling::linear:
      out.set(prefix + "rope.scaling.type", "linear");
      real("rope.scaling.factor", rope.factor);
      break;
    case nn::rope_scaling::llama3: {
      nn::rotary_config plain = rope;
      plain.scaling = nn::rope_scaling::none;
      auto divisors = nn::rotary_frequencies(plain);
      const auto scaled = nn::rotary_frequencies(rope);
      for (std::size_t i = 0; i < divisors.size(); ++i) divisors[i] /= scaled[i];
      add_divisors("rope_freqs.weight", divisors);
      break;
    }
    case nn::rope_scaling::yarn:
      out.set(prefix + "rope.scaling.type", "yarn");
      real("rope.scaling.factor", rope.factor);
      out.set(prefix + "rope.scaling.original_context_length", original);
      real("rope.scaling.yarn_beta_fast", rope.beta_fast);
      real("rope.scaling.yarn_beta_slow", rope.beta_slow);
      real("rope.scaling.attn_factor", rope.attention_factor / nn::yarn_attention_factor(rope.factor));
      break;
    case nn::rope_scaling::longrope:
      out.set(prefix + "rope.scaling.original_context_length", original);
      real("rope.scaling.attn_factor", rope.attention_factor);
      add_divisors("rope_factors_long.weight", rope.long_frequency_divisors);
      add_divisors("rope_factors_short.weight", rope.frequency_divisors);
      break;
  }
}

/// Throws config_error unless a reader that knows windows and rotary tables by the family alone finds these.
inline void expect_layers_of_family(const model_config& config, const family& of) {
  const auto expected = layers_by(of.gguf_layers, config.num_hidden_layers, config.sliding_window > 0);
  for (index_t i = 0; i < config.num_hidden_layers; ++i) {
    expect(config.layer(i) == expected[static_cast<std::size_t>(i)], "export: GGUF metadata of ", of.architecture,
           " cannot say what layer ", i,
           " of this model is: windows and layers without rotary follow the family's pattern there");
  }
}

/// Throws config_error unless a reader that knows Gemma's scores by the family alone computes these.
inline void expect_scores_of_family(const model_config& config, const family& of) {
  if (!config.post_norms) return;
  const bool is_gemma2 = of.architecture == "gemma2";
  const bool is_27b = config.num_hidden_layers == (is_gemma2 ? 46 : 62);
  const auto usual = static_cast<double>(is_27b ? config.hidden_size / config.num_attention_heads : config.head_dim);
  const double divisor =
      config.query_pre_attn_scalar > 0 ? config.query_pre_attn_scalar : static_cast<double>(config.head_dim);
  expect(std::fabs(divisor - usual) <= 1e-3 * usual, "export: readers of GGUF files of ", of.architecture,
         " take query_pre_attn_scalar to be ", usual, ", not ", divisor);
  expect(!is_gemma2 || (config.attn_logit_softcapping > 0 && config.final_logit_softcapping > 0),
         "export: readers of GGUF files of ", of.architecture, " cap scores and logits always");
}

}  // namespace detail

/// Ids of a vocabulary that `config.json` repeats.
struct special_ids {
  std::optional<std::int32_t> bos{};
  std::optional<std::int32_t> padding{};
  std::vector<std::int32_t> eos{};
};

/// The text of `config.json` for a model whose matrices are stored in `format`. Throws config_error if it cannot be
/// said.
[[nodiscard]] inline std::string hugging_face_config(const model_config& config, quant::weight_format format,
                                                     const special_ids& ids = {}) {
  const family& of = find_family(&family::model_type, config.model_type, "export");
  nlohmann::ordered_json out;
  out["architectures"] = {of.hugging_face_class};
  out["model_type"] = of.model_type == "gemma3" ? "gemma3_text" : of.model_type;
  out["torch_dtype"] = format == quant::weight_format::f32   ? "float32"
                       : format == quant::weight_format::f16 ? "float16"
                                                             : "bfloat16";
  out["vocab_size"] = config.vocab_size;
  // Left out, they would be a class's own defaults, which may lie outside of the vocabulary.
  const auto id_or_null = [&](const char* key, std::optional<std::int32_t> id) {
    auto& value = out[key];
    if (id) value = *id;
  };
  id_or_null("bos_token_id", ids.bos);
  id_or_null("pad_token_id", ids.padding);
  id_or_null("eos_token_id", ids.eos.empty() ? std::nullopt : std::optional(ids.eos.front()));
  if (ids.eos.size() > 1) out["eos_token_id"] = ids.eos;
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["head_dim"] = config.head_dim;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["rms_norm_eps"] = config.rms_norm_eps;
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["hidden_act"] = detail::name_of(config.hidden_act);
  if (config.model_type.starts_with("gemma")) out["hidden_activation"] = detail::name_of(config.hidden_act);
  if (config.model_type != "qwen2") {
    expect(config.attention_bias == config.attention_output_bias, "export: config.json of ", config.model_type,
           " cannot say that only some projections of attention have biases");
    out["attention_bias"] = config.attention_bias;
    out["mlp_bias"] = config.mlp_bias;
  }
  if (config.post_norms) {
    const double scalar = config.query_pre_attn_scalar;
    auto& divisor = out["query_pre_attn_scalar"];
    const double whole = std::round(scalar);
    if (scalar <= 0) {
      divisor = config.head_dim;
    } else if (std::fabs(scalar - whole) <= 1e-6 * whole) {  // GGUF files hold the inverse of its root, rounded
      divisor = static_cast<std::int64_t>(whole);            // readers want whole numbers
    } else {
      divisor = scalar;
    }
    for (const auto& [key, cap] : {std::pair("attn_logit_softcapping", config.attn_logit_softcapping),
                                   std::pair("final_logit_softcapping", config.final_logit_softcapping)}) {
      auto& value = out[key];
      if (cap > 0) value = cap;
    }
  }
  if (config.model_type == "phi3") {
    const bool stretched = config.rope.scaling == nn::rope_scaling::longrope;
    out["original_max_position_embeddings"] = stretched ? config.rope.original_context : config.max_position_embeddings;
  }
  detail::write_rope(config, out);
  detail::write_layers(config, out);
  return out.dump(1) + "\n";
}

/// Sets the metadata of `config` that a GGUF file of this family has. Throws config_error for what its readers, which
/// know some of it by the family alone, would take for something else.
inline void write_gguf_config(const model_config& config, const family& of, io::gguf_writer& out) {
  const std::string prefix = std::string(of.architecture) + '.';
  const auto usual =
      config.model_type.starts_with("gemma") ? kernels::activation::gelu_tanh : kernels::activation::silu;
  expect(config.hidden_act == usual, "export: GGUF metadata of ", of.architecture, " cannot say ",
         detail::name_of(config.hidden_act), ", its readers take ", detail::name_of(usual));
  const auto size = [&](const char* key, index_t value) { out.set(prefix + key, static_cast<std::uint32_t>(value)); };
  const auto real = [&](const char* key, double value) { out.set(prefix + key, static_cast<float>(value)); };
  out.set("general.architecture", of.architecture);
  size("block_count", config.num_hidden_layers);
  size("context_length", config.max_position_embeddings);
  size("embedding_length", config.hidden_size);
  size("feed_forward_length", config.intermediate_size);
  size("attention.head_count", config.num_attention_heads);
  size("attention.head_count_kv", config.num_key_value_heads);
  size("attention.key_length", config.head_dim);
  size("attention.value_length", config.head_dim);
  real("attention.layer_norm_rms_epsilon", static_cast<double>(config.rms_norm_eps));
  size("vocab_size", config.vocab_size);
  size("rope.dimension_count", config.rope.dimension);
  real("rope.freq_base", config.rope.theta);
  // Readers fill these in for the families that have them, so 0 is said too.
  const bool capped = of.architecture == "gemma2", windowed = capped || of.architecture == "phi3";
  for (const auto& [key, cap] : {std::pair("attn_logit_softcapping", config.attn_logit_softcapping),
                                 std::pair("final_logit_softcapping", config.final_logit_softcapping)}) {
    if (cap > 0 || capped) real(key, static_cast<double>(cap));
  }
  if (config.query_pre_attn_scalar > 0) real("attention.scale", 1 / std::sqrt(config.query_pre_attn_scalar));
  if (config.sliding_window > 0 || windowed) size("attention.sliding_window", config.sliding_window);
  if (config.local_rope.dimension != 0) real("rope.freq_base_swa", config.local_rope.theta);
  detail::expect_layers_of_family(config, of);
  detail::expect_scores_of_family(config, of);
  detail::write_gguf_rope(config.rope, prefix, out);
}

}  // namespace runnel::models
