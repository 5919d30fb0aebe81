// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/json.hpp>
#include <runnel/models/config.hpp>
#include <runnel/models/family.hpp>

/// \file
/// Reads `config.json`. A family is one function here, which fills in what its files may leave out, lets the common
/// reader read what all have, and adds what is its own.

namespace runnel::models {

namespace detail {

[[nodiscard]] inline std::vector<double> read_factors(const io::json_object& scaling, std::string_view key) {
  std::vector<double> factors;
  for (const auto one : scaling.array(key)) {
    const auto number = one.number();
    if (!number) io::json_object::fail(scaling.path_to(key), "numbers", one);
    factors.push_back(*number);
  }
  return factors;
}

/// The context before stretching, or `otherwise` (0: it must be there). Where it stands beside the object, as in
/// Phi-3's files, that is what counts, as in Transformers.
[[nodiscard]] inline index_t read_original_context(const io::json_object& config, const io::json_object& scaling,
                                                   index_t otherwise = 0) {
  constexpr std::string_view key = "original_max_position_embeddings";
  const io::json_object& holder = config.find(key) ? config : scaling;
  const index_t context = otherwise == 0 ? holder.integer(key) : holder.integer_or(key, otherwise);
  expect<format_error>(context > 0, config.source_name(), ": ", holder.path_to(key),
                       ": expected a positive number, found ", context);
  return context;
}

/// LongRoPE, which the first files call "su" or "yarn".
inline void read_longrope(const io::json_object& config, const io::json_object& scaling, const model_config& model,
                          nn::rotary_config& rope) {
  rope.scaling = nn::rope_scaling::longrope;
  rope.frequency_divisors = read_factors(scaling, "short_factor");
  rope.long_frequency_divisors = read_factors(scaling, "long_factor");
  rope.original_context = read_original_context(config, scaling);
  const double stretch =
      static_cast<double>(model.max_position_embeddings) / static_cast<double>(rope.original_context);
  const double factor = scaling.number_or("factor", stretch);
  rope.attention_factor =
      scaling.number_or("attention_factor", nn::longrope_attention_factor(factor, rope.original_context));
}

inline void read_yarn(const io::json_object& config, const io::json_object& scaling, const model_config& model,
                      nn::rotary_config& rope) {
  rope.scaling = nn::rope_scaling::yarn;
  rope.original_context = read_original_context(config, scaling, model.max_position_embeddings);
  rope.factor = scaling.number_or(
      "factor", static_cast<double>(model.max_position_embeddings) / static_cast<double>(rope.original_context));
  rope.beta_fast = scaling.number_or("beta_fast", rope.beta_fast);
  rope.beta_slow = scaling.number_or("beta_slow", rope.beta_slow);
  rope.truncate = scaling.flag_or("truncate", rope.truncate);
  const double mscale = scaling.number_or("mscale", 0), mscale_all_dim = scaling.number_or("mscale_all_dim", 0);
  const double usual = mscale != 0 && mscale_all_dim != 0 ? nn::yarn_attention_factor(rope.factor, mscale) /
                                                                nn::yarn_attention_factor(rope.factor, mscale_all_dim)
                                                          : nn::yarn_attention_factor(rope.factor);
  rope.attention_factor = scaling.number_or("attention_factor", usual);
}

/// What an object under `rope_scaling` or `rope_parameters` says of one table.
inline void read_scaling(const io::json_object& config, const io::json_object& scaling, const model_config& model,
                         nn::rotary_config& rope) {
  rope.theta = scaling.number_or("rope_theta", rope.theta);
  const auto type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
  if (type == "default") return;
  if (scaling.find("short_factor")) return read_longrope(config, scaling, model, rope);
  if (type == "yarn") return read_yarn(config, scaling, model, rope);
  if (type == "linear") {
    rope.scaling = nn::rope_scaling::linear;
  } else if (type == "llama3") {
    rope.scaling = nn::rope_scaling::llama3;
    rope.low_frequency_factor = scaling.number("low_freq_factor");
    rope.high_frequency_factor = scaling.number("high_freq_factor");
    rope.original_context = read_original_context(config, scaling);
  } else {
    fail<format_error>(scaling.source_name(), ": ", scaling.path_to("rope_type"),
                       ": expected default, linear, llama3, yarn or longrope, found ", type);
  }
  rope.factor = scaling.number("factor");
}

/// `rope_scaling` of Transformers 4, which still goes first where both are, or `rope_parameters` of Transformers 5,
/// where theta stands too and where families with two tables have an object for each kind of layer.
inline void read_rope(const io::json_object& json, model_config& config) {
  config.rope.theta = json.number_or("rope_theta", config.rope.theta);
  config.local_rope.theta = json.number_or("rope_local_base_freq", config.local_rope.theta);
  double partial = json.number_or("partial_rotary_factor", 1);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!json.find(key)) continue;
    const auto scaling = json.object(key);
    partial = scaling.number_or("partial_rotary_factor", partial);
    if (scaling.find("full_attention")) {
      read_scaling(json, scaling.object("full_attention"), config, config.rope);
      if (scaling.find("sliding_attention")) {
        read_scaling(json, scaling.object("sliding_attention"), config, config.local_rope);
      }
    } else {
      read_scaling(json, scaling, config, config.rope);
    }
  }
  expect<format_error>(partial > 0 && partial <= 1, json.source_name(),
                       ": partial_rotary_factor: expected a number in (0, 1], found ", partial);
  expect<format_error>(partial == 1 || config.model_type == "phi3", json.source_name(),
                       ": partial_rotary_factor: expected 1, only phi3 turns a part of a head; found ", partial);
  config.rope.dimension = static_cast<index_t>(static_cast<double>(config.head_dim) * partial);
}

[[nodiscard]] inline kernels::activation read_activation(const io::json_object& config, std::string_view key) {
  const auto name = config.text_or(key, "silu");
  if (name == "silu" || name == "swish") return kernels::activation::silu;
  if (name == "gelu") return kernels::activation::gelu;
  expect<format_error>(name == "gelu_pytorch_tanh", config.source_name(), ": ", key,
                       ": expected silu, gelu or gelu_pytorch_tanh, found ", name);
  return kernels::activation::gelu_tanh;
}

/// What all families have. Sizes that `config` holds already are a family's defaults.
inline void read_common(const io::json_object& json, model_config& config) {
  const auto read = [&](const char* key, index_t& size) {
    size = size == 0 ? json.integer(key) : json.integer_or(key, size);
    expect<format_error>(size > 0, json.source_name(), ": ", key, ": expected a positive number, found ", size);
  };
  read("vocab_size", config.vocab_size);
  read("hidden_size", config.hidden_size);
  read("intermediate_size", config.intermediate_size);
  read("num_hidden_layers", config.num_hidden_layers);
  read("num_attention_heads", config.num_attention_heads);
  if (config.num_key_value_heads == 0) config.num_key_value_heads = config.num_attention_heads;
  read("num_key_value_heads", config.num_key_value_heads);
  if (config.head_dim == 0) config.head_dim = config.hidden_size / config.num_attention_heads;
  config.head_dim = json.integer_or("head_dim", config.head_dim);
  expect<format_error>(config.head_dim > 0 && config.head_dim <= index_t{1} << 24, json.source_name(),
                       ": head_dim: expected 1 to ", index_t{1} << 24, ", found ", config.head_dim);
  if (config.max_position_embeddings == 0) config.max_position_embeddings = 2048;
  read("max_position_embeddings", config.max_position_embeddings);
  config.rms_norm_eps = static_cast<float>(json.number_or("rms_norm_eps", config.model_type == "phi3" ? 1e-5 : 1e-6));
  config.tie_word_embeddings = json.flag_or("tie_word_embeddings", config.tie_word_embeddings);
  config.hidden_act = read_activation(json, "hidden_act");
  read_rope(json, config);
}

/// `attention_bias` is on all four projections of attention.
inline void read_biases(const io::json_object& json, model_config& config) {
  config.attention_bias = config.attention_output_bias = json.flag_or("attention_bias", false);
  config.mlp_bias = json.flag_or("mlp_bias", false);
}

/// Which layers have the sliding window: those from `first` on, but for the last of every `full_every`.
struct window_pattern {
  index_t first = 0;
  index_t full_every = 0;  ///< 0: none of them sees all

  [[nodiscard]] bool windowed(index_t layer) const noexcept {
    return layer >= first && (full_every == 0 || (layer + 1) % full_every != 0);
  }
};

/// The window (null is none, and Transformers gives a config that does not say it `otherwise`), and which layers keep
/// to it: `layer_types` where a file lists them, else a family's pattern.
inline void read_windows(const io::json_object& json, model_config& config, index_t otherwise,
                         const window_pattern& pattern) {
  const index_t window = json.has("sliding_window") ? json.integer_or("sliding_window", 0) : otherwise;
  expect<format_error>(window >= 0, json.source_name(), ": sliding_window: expected a positive number, found ", window);
  expect<format_error>(config.num_hidden_layers > 0 && config.num_hidden_layers <= 1024, json.source_name(),
                       ": num_hidden_layers: expected 1 to 1024, found ", config.num_hidden_layers);
  config.layers.assign(static_cast<std::size_t>(config.num_hidden_layers), {});
  bool any = false;
  if (json.find("layer_types")) {
    const auto list = json.array("layer_types");
    expect<format_error>(list.size() == config.layers.size(), json.source_name(), ": layer_types: expected ",
                         config.layers.size(), " layers, found ", list.size());
    std::size_t i = 0;
    for (const auto one : list) {
      const auto type = one.text().value_or("");
      if (type != "full_attention" && type != "sliding_attention") {
        io::json_object::fail(message("layer_types[", i, ']'), "full_attention or sliding_attention", one);
      }
      any |= config.layers[i++].windowed = type == "sliding_attention";
    }
  } else if (window > 0) {
    for (index_t i = 0; i < config.num_hidden_layers; ++i) {
      any |= config.layers[static_cast<std::size_t>(i)].windowed = pattern.windowed(i);
    }
  }
  config.sliding_window = any ? window : 0;
}

inline void read_llama(const io::json_object& json, model_config& config) {
  read_common(json, config);
  read_biases(json, config);
}

inline void read_mistral(const io::json_object& json, model_config& config) {
  read_common(json, config);
  read_windows(json, config, 4096, {});
}

inline void read_qwen2(const io::json_object& json, model_config& config) {
  read_common(json, config);
  config.attention_bias = true;
  const index_t full_layers = json.integer_or("max_window_layers", 28);
  // Without this switch the window that files name anyway means nothing.
  if (!json.flag_or("use_sliding_window", false)) return;
  read_windows(json, config, 4096, {full_layers, 0});
}

inline void read_qwen3(const io::json_object& json, model_config& config) {
  read_qwen2(json, config);
  read_biases(json, config);
  config.qk_norm = true;
}

inline void read_gemma(const io::json_object& json, model_config& config) {
  config.tie_word_embeddings = true;
  if (config.head_dim == 0) config.head_dim = 256;
  read_common(json, config);
  read_biases(json, config);
  config.norm_offset = 1;
  // Files of the first Gemma say "gelu" under the older key and mean the approximation.
  expect<format_error>(json.text_or("hidden_act", "gelu").starts_with("gelu"), json.source_name(),
                       ": hidden_act: expected gelu or gelu_pytorch_tanh, found ", json.text_or("hidden_act", ""));
  config.hidden_act =
      json.find("hidden_activation") ? read_activation(json, "hidden_activation") : kernels::activation::gelu_tanh;
  config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
}

/// What the second and third Gemma share. Caps that are null are off.
inline void read_gemma_norms_and_caps(const io::json_object& json, model_config& config) {
  read_gemma(json, config);
  config.post_norms = true;
  config.query_pre_attn_scalar = json.number_or("query_pre_attn_scalar", 256);
  const auto read_cap = [&](const char* key, float& cap) {
    if (json.has(key)) cap = static_cast<float>(json.number_or(key, 0));
  };
  read_cap("attn_logit_softcapping", config.attn_logit_softcapping);
  read_cap("final_logit_softcapping", config.final_logit_softcapping);
}

inline void read_gemma2(const io::json_object& json, model_config& config) {
  config.attn_logit_softcapping = 50;
  config.final_logit_softcapping = 30;
  read_gemma_norms_and_caps(json, config);
  read_windows(json, config, 4096, {0, 2});
}

inline void read_gemma3(const io::json_object& json, model_config& config) {
  config.vocab_size = 262208;
  config.hidden_size = 2304;
  config.intermediate_size = 9216;
  config.num_hidden_layers = 26;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 4;
  config.max_position_embeddings = 131072;
  config.rope.theta = 1e6;
  config.local_rope.theta = 1e4;
  read_gemma_norms_and_caps(json, config);
  expect<format_error>(!json.flag_or("use_bidirectional_attention", false), json.source_name(),
                       ": use_bidirectional_attention: expected false, an encoder is no language model");
  config.qk_norm = true;
  config.local_rope.dimension = config.rope.dimension;
  const index_t pattern = json.integer_or("sliding_window_pattern", 6);
  expect<format_error>(pattern > 0, json.source_name(), ": sliding_window_pattern: expected a positive number, found ",
                       pattern);
  read_windows(json, config, 4096, {0, pattern});
  for (layer_config& layer : config.layers) layer.rotary = layer.windowed ? 1 : 0;
}

inline void read_gemma3_with_images(const io::json_object& json, model_config& config) {
  read_gemma3(json.object("text_config"), config);
}

inline void read_phi3(const io::json_object& json, model_config& config) {
  read_common(json, config);
  read_windows(json, config, 0, {});
}

inline void read_smollm3(const io::json_object& json, model_config& config) {
  config.tie_word_embeddings = true;
  config.rope.theta = 2e6;
  read_common(json, config);
  read_biases(json, config);
  const bool windows = json.flag_or("use_sliding_window", false);
  read_windows(json, config, 0, {});
  if (!windows) config.sliding_window = 0;
  const index_t interval = json.integer_or("no_rope_layer_interval", 4);
  expect<format_error>(interval > 0, json.source_name(), ": no_rope_layer_interval: expected a positive number, found ",
                       interval);
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if ((i + 1) % static_cast<std::size_t>(interval) == 0) config.layers[i].rotary = ops::no_rotary;
  }
  if (json.find("no_rope_layers")) {
    const auto list = json.array("no_rope_layers");
    expect<format_error>(list.size() == config.layers.size(), json.source_name(), ": no_rope_layers: expected ",
                         config.layers.size(), " layers, found ", list.size());
    std::size_t i = 0;
    for (const auto one : list) {
      const auto with_rotary = one.integer();
      if (!with_rotary) io::json_object::fail(message("no_rope_layers[", i, ']'), "0 or 1", one);
      config.layers[i++].rotary = *with_rotary != 0 ? 0 : ops::no_rotary;
    }
  }
  for (layer_config& layer : config.layers) {
    layer.windowed =
        config.sliding_window > 0 && (json.find("layer_types") ? layer.windowed : layer.rotary == ops::no_rotary);
  }
  if (std::ranges::none_of(config.layers, &layer_config::windowed)) config.sliding_window = 0;
}

using config_reader = void (*)(const io::json_object&, model_config&);

inline constexpr std::array<std::pair<std::string_view, config_reader>, families.size()> config_readers{{
    {"llama", read_llama},
    {"mistral", read_mistral},
    {"qwen2", read_qwen2},
    {"qwen3", read_qwen3},
    {"gemma", read_gemma},
    {"gemma2", read_gemma2},
    {"gemma3_text", read_gemma3},
    {"gemma3", read_gemma3_with_images},
    {"phi3", read_phi3},
    {"smollm3", read_smollm3},
}};

}  // namespace detail

/// A decoder's config from the members of a Hugging Face `config.json`. Throws format_error naming file and key.
[[nodiscard]] inline model_config read_hugging_face_config(const io::json_object& json) {
  model_config config;
  config.model_type =
      find_family(&family::model_type, json.text("model_type"), message(json.source_name(), ": model_type")).model_type;
  for (const auto& [name, read] : detail::config_readers) {
    if (name == config.model_type) read(json, config);
  }
  return config;
}

/// Reads a decoder's config from a Hugging Face `config.json`. Throws format_error naming file and key.
[[nodiscard]] inline model_config read_hugging_face_config(const std::filesystem::path& path) {
  const auto document = io::read_json_file(path, io::most_config_bytes);
  return read_hugging_face_config(io::json_object(document.root()));
}

}  // namespace runnel::models
