// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include <runnel/io/safetensors.hpp>
#include <runnel/models/build.hpp>

namespace runnel::models {

namespace detail {

/// One JSON object of a config file, with messages that name file and key.
class config_object {
 public:
  config_object(std::string source, nlohmann::json object) : source_(std::move(source)), object_(std::move(object)) {
    expect<format_error>(object_.is_object(), source_, ": expected a JSON object");
  }

  [[nodiscard]] bool contains(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  template <class T>
  [[nodiscard]] T get(const char* key) const {
    expect<format_error>(contains(key), source_, ": ", key, " is missing");
    const auto& value = object_.at(key);
    if constexpr (std::is_same_v<T, bool>) {
      expect<format_error>(value.is_boolean(), source_, ": ", key, ": expected true or false, found ", value.dump());
    } else if constexpr (std::is_integral_v<T>) {
      expect<format_error>(value.is_number_integer(), source_, ": ", key, ": expected a whole number, found ", value.dump());
    } else if constexpr (std::is_floating_point_v<T>) {
      expect<format_error>(value.is_number(), source_, ": ", key, ": expected a number, found ", value.dump());
    } else {
      expect<format_error>(value.is_string(), source_, ": ", key, ": expected a string, found ", value.dump());
    }
    return value.template get<T>();
  }

  template <class T>
  [[nodiscard]] T get_or(const char* key, T otherwise) const {
    return contains(key) ? get<T>(key) : otherwise;
  }

  [[nodiscard]] config_object object(const char* key) const { return {source_ + ": " + key, object_.at(key)}; }

 private:
  std::string source_;
  nlohmann::json object_;
};

[[nodiscard]] inline config_object read_config_object(const std::filesystem::path& path) {
  constexpr std::uintmax_t most = std::uintmax_t{16} << 20;
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  expect<io_error>(!failure, path.string(), ": ", failure.message());
  expect<format_error>(size <= most, path.string(), ": expected at most ", most, " bytes, found ", size);
  std::ifstream in(path, std::ios::binary);
  expect<io_error>(in.good(), path.string(), ": cannot be read");
  auto parsed = nlohmann::json::parse(in, nullptr, false);
  expect<format_error>(!parsed.is_discarded(), path.string(), ": not valid JSON");
  return {path.string(), std::move(parsed)};
}

/// `rope_scaling` of Transformers 4, or `rope_parameters` of Transformers 5 (theta included).
inline void read_rope(const config_object& config, nn::rotary_config& rope) {
  rope.theta = config.get_or<double>("rope_theta", rope.theta);
  const char* key = config.contains("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.contains(key)) return;
  const auto scaling = config.object(key);
  rope.theta = scaling.get_or<double>("rope_theta", rope.theta);
  const auto type = scaling.contains("rope_type") ? scaling.get<std::string>("rope_type")
                                                  : scaling.get_or<std::string>("type", "default");
  if (type == "default") return;
  if (type == "linear") {
    rope.scaling = nn::rope_scaling::linear;
  } else if (type == "llama3") {
    rope.scaling = nn::rope_scaling::llama3;
    rope.low_frequency_factor = scaling.get<double>("low_freq_factor");
    rope.high_frequency_factor = scaling.get<double>("high_freq_factor");
    rope.original_context = scaling.get<index_t>("original_max_position_embeddings");
  } else {
    throw format_error(message(scaling.source(), ": rope_type: expected default, linear or llama3, found ", type));
  }
  rope.factor = scaling.get<double>("factor");
}

[[nodiscard]] inline kernels::activation read_activation(const config_object& config) {
  const auto name = config.get_or<std::string>("hidden_act", "silu");
  if (name == "silu" || name == "swish") return kernels::activation::silu;
  if (name == "gelu") return kernels::activation::gelu;
  expect<format_error>(name == "gelu_pytorch_tanh", config.source(),
                       ": hidden_act: expected silu, gelu or gelu_pytorch_tanh, found ", name);
  return kernels::activation::gelu_tanh;
}

}  // namespace detail

/// Reads a decoder's config from a Hugging Face `config.json`. Throws format_error naming file and key.
[[nodiscard]] inline model_config read_hugging_face_config(const std::filesystem::path& path) {
  const auto json = detail::read_config_object(path);
  model_config config;
  config.model_type = json.get<std::string>("model_type");
  expect<format_error>(config.model_type == "llama", json.source(), ": model_type: expected llama, found ", config.model_type);
  config.vocab_size = json.get<index_t>("vocab_size");
  config.hidden_size = json.get<index_t>("hidden_size");
  config.intermediate_size = json.get<index_t>("intermediate_size");
  config.num_hidden_layers = json.get<index_t>("num_hidden_layers");
  config.num_attention_heads = json.get<index_t>("num_attention_heads");
  expect<format_error>(config.num_attention_heads > 0, json.source(), ": num_attention_heads: expected a positive number, found ",
                       config.num_attention_heads);
  config.num_key_value_heads = json.get_or<index_t>("num_key_value_heads", config.num_attention_heads);
  config.head_dim = json.get_or<index_t>("head_dim", config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings = json.get_or<index_t>("max_position_embeddings", 2048);
  config.rms_norm_eps = static_cast<float>(json.get_or<double>("rms_norm_eps", 1e-6));
  config.tie_word_embeddings = json.get_or<bool>("tie_word_embeddings", false);
  config.attention_bias = json.get_or<bool>("attention_bias", false);
  config.mlp_bias = json.get_or<bool>("mlp_bias", false);
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
  return build_decoder(config, read, head_rows::halves);
}

}  // namespace runnel::models
