// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/json.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/speech/network.hpp>

/// \file
/// Encoders from Hugging Face's wav2vec2 checkpoints (`config.json` and safetensors), original or causal.

namespace runnel::speech {

/// How checkpoints call the weights; "{}" stands for the layer.
struct encoder_names {
  std::string_view conv = "feature_extractor.conv_layers.{}.conv";
  std::string_view conv_norm = "feature_extractor.conv_layers.{}.layer_norm";
  std::string_view projection_norm = "feature_projection.layer_norm";
  std::string_view projection = "feature_projection.projection";
  std::string_view position = "encoder.pos_conv_embed.conv";
  std::string_view norm = "encoder.layer_norm";
  std::string_view query = "encoder.layers.{}.attention.q_proj";
  std::string_view key = "encoder.layers.{}.attention.k_proj";
  std::string_view value = "encoder.layers.{}.attention.v_proj";
  std::string_view output = "encoder.layers.{}.attention.out_proj";
  std::string_view attention_norm = "encoder.layers.{}.layer_norm";
  std::string_view up = "encoder.layers.{}.feed_forward.intermediate_dense";
  std::string_view down = "encoder.layers.{}.feed_forward.output_dense";
  std::string_view mlp_norm = "encoder.layers.{}.final_layer_norm";
};

/// Statistics of each channel of the first convolution that stand for those of an utterance: what lets encoders with
/// group norm stream. Empty: those of the checkpoint (`<norm>.running_mean` and `.running_var`).
struct frozen_statistics {
  std::vector<float> mean;
  std::vector<float> variance;
};

namespace detail {

[[nodiscard]] inline kernels::activation read_activation(const io::json_object& json, std::string_view key) {
  const auto name = json.text_or(key, "gelu");
  if (name == "gelu") return kernels::activation::gelu;
  if (name == "silu" || name == "swish") return kernels::activation::silu;
  expect<format_error>(name == "gelu_new" || name == "gelu_pytorch_tanh", json.source_name(), ": ", key,
                       ": expected gelu, gelu_new, gelu_pytorch_tanh or silu, found ", io::in_quotes(name));
  return kernels::activation::gelu_tanh;
}

[[nodiscard]] inline std::vector<index_t> read_sizes(const io::json_object& json, std::string_view key,
                                                     std::vector<index_t> otherwise) {
  if (!json.find(key)) return otherwise;
  std::vector<index_t> out;
  for (const auto one : json.array(key)) {
    const auto number = one.integer();
    if (!number) io::json_object::fail(json.path_to(key), "whole numbers", one);
    out.push_back(*number);
  }
  return out;
}

/// The object `streaming`, which makes an encoder causal and says how samples are prepared.
inline void read_streaming(const io::json_object& json, encoder_config& config) {
  json.check_names({"sample_rate", "causal_position", "causal_attention", "left_context", "left_pad", "right_pad",
                    "pad_tail", "normalization", "mean", "deviation", "prior_samples"});
  config.sample_rate = json.integer_or("sample_rate", config.sample_rate);
  config.causal_position = json.flag_or("causal_position", false);
  config.causal_attention = json.flag_or("causal_attention", false);
  config.left_context = json.integer_or("left_context", 0);
  config.left_pad = json.integer_or("left_pad", 0);
  config.right_pad = json.integer_or("right_pad", 0);
  config.pad_tail = json.flag_or("pad_tail", false);
  const auto kind = json.text_or("normalization", "none");
  bool known = false;
  for (const auto one : {normalization::none, normalization::fixed, normalization::running, normalization::utterance}) {
    if (kind != name_of(one)) continue;
    config.input.kind = one;
    known = true;
  }
  expect<format_error>(known, json.source_name(), ": ", json.path_to("normalization"),
                       ": expected none, fixed, running or utterance, found ", io::in_quotes(kind));
  config.input.mean = json.number_or("mean", 0);
  config.input.deviation = json.number_or("deviation", 1);
  config.input.prior_samples = json.number_or("prior_samples", config.input.prior_samples);
}

}  // namespace detail

/// An encoder's config from the members of a `config.json`. An object `streaming` in it (keys as the fields of
/// `encoder_config`, `normalization` by name) makes the encoder causal; without, it is the original. Throws
/// format_error naming file and key.
[[nodiscard]] inline encoder_config read_encoder_config(const io::json_object& json) {
  encoder_config config;
  const auto type = json.text("model_type");
  expect<format_error>(type == "wav2vec2", json.source_name(), ": model_type: expected 'wav2vec2', found ",
                       io::in_quotes(type));
  const auto outputs = detail::read_sizes(json, "conv_dim", {512, 512, 512, 512, 512, 512, 512});
  const auto kernel = detail::read_sizes(json, "conv_kernel", {10, 3, 3, 3, 3, 2, 2});
  const auto stride = detail::read_sizes(json, "conv_stride", {5, 2, 2, 2, 2, 2, 2});
  expect<format_error>(outputs.size() == kernel.size() && outputs.size() == stride.size(), json.source_name(),
                       ": conv_dim, conv_kernel and conv_stride: expected as many of each, found ", outputs.size(),
                       ", ", kernel.size(), " and ", stride.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) config.convs.push_back({outputs[i], kernel[i], stride[i]});
  const auto norm = json.text_or("feat_extract_norm", "group");
  expect<format_error>(norm == "group" || norm == "layer", json.source_name(),
                       ": feat_extract_norm: expected group or layer, found ", io::in_quotes(norm));
  config.norm = norm == "layer" ? front_end_norm::layer : front_end_norm::group;
  config.conv_bias = json.flag_or("conv_bias", false);
  config.front_end_act = detail::read_activation(json, "feat_extract_activation");
  config.hidden_act = detail::read_activation(json, "hidden_act");
  config.hidden_size = json.integer_or("hidden_size", 768);
  config.num_hidden_layers = json.integer_or("num_hidden_layers", 12);
  config.num_attention_heads = json.integer_or("num_attention_heads", 12);
  config.intermediate_size = json.integer_or("intermediate_size", 3072);
  config.layer_norm_eps = static_cast<float>(json.number_or("layer_norm_eps", 1e-5));
  config.do_stable_layer_norm = json.flag_or("do_stable_layer_norm", false);
  config.position_kernel = json.integer_or("num_conv_pos_embeddings", 128);
  config.position_groups = json.integer_or("num_conv_pos_embedding_groups", 16);
  for (const auto* key : {"add_adapter", "adapter_attn_dim"}) {
    const auto found = json.find(key);
    expect<format_error>(!found || (found->truth() && !*found->truth()), json.source_name(), ": ", key,
                         ": encoders with adapters are not supported");
  }
  if (json.find("streaming")) detail::read_streaming(json.object("streaming"), config);
  validate(config, json.source_name());
  return config;
}

namespace detail {

/// Takes the modules of an encoder out of a source, which has `name()`, `matrix(name, outputs, inputs)`, `floats(name,
/// shape)` and `has(name)`.
template <class Source>
class encoder_builder {
 public:
  using parameters = nn::inference_parameters;

  encoder_builder(const encoder_config& config, const Source& from, const frozen_statistics& frozen)
      : config_(config), from_(from), frozen_(frozen) {}

  [[nodiscard]] encoder_weights<parameters> build() const {
    encoder_weights<parameters> out;
    index_t inputs = 1;
    for (std::size_t i = 0; i < config_.convs.size(); ++i) {
      out.front_end.layers.push_back(conv(static_cast<index_t>(i), inputs));
      inputs = config_.convs[i].outputs;
    }
    out.projection.norm = norm(names_.projection_norm, 0, inputs, config_.layer_norm_eps);
    out.projection.linear = linear(names_.projection, 0, config_.hidden_size, inputs);
    out.position = position();
    out.norm = norm(names_.norm, 0, config_.hidden_size, config_.layer_norm_eps);
    for (index_t i = 0; i < config_.num_hidden_layers; ++i) out.layers.push_back(layer(i));
    return out;
  }

 private:
  static constexpr float conv_norm_eps = 1e-5f;  // not the config's

  [[nodiscard]] static std::string spelled(std::string_view name, index_t layer, std::string_view part) {
    std::string out(name);
    if (const auto at = out.find("{}"); at != std::string::npos) out.replace(at, 2, std::to_string(layer));
    return out.append(part);
  }

  [[nodiscard]] std::vector<float> floats(std::string_view name, index_t layer, std::string_view part,
                                          std::initializer_list<index_t> sizes) const {
    return from_.floats(spelled(name, layer, part), std::vector<std::uint64_t>(sizes.begin(), sizes.end()));
  }
  [[nodiscard]] tensor<float, 1> vector(std::string_view name, index_t layer, std::string_view part,
                                        index_t size) const {
    return as_vector(floats(name, layer, part, {size}));
  }
  [[nodiscard]] static tensor<float, 1> as_vector(const std::vector<float>& values) {
    tensor<float, 1> out({static_cast<index_t>(values.size())});
    std::copy(values.begin(), values.end(), out.data());
    return out;
  }

  [[nodiscard]] nn::layer_norm<parameters> norm(std::string_view name, index_t layer, index_t size, float eps) const {
    return {vector(name, layer, ".weight", size), vector(name, layer, ".bias", size), eps};
  }
  [[nodiscard]] nn::linear<parameters> linear(std::string_view name, index_t layer, index_t outputs,
                                              index_t inputs) const {
    return {from_.matrix(spelled(name, layer, ".weight"), outputs, inputs), vector(name, layer, ".bias", outputs)};
  }

  /// A kernel as files hold it, [outputs, inputs, kernel], as the op takes it, [outputs, kernel * inputs].
  [[nodiscard]] static ops::prepared_matrix conv_matrix(const std::vector<float>& values, index_t outputs,
                                                        index_t inputs, index_t kernel) {
    std::vector<float> turned(values.size());
    for (index_t o = 0; o < outputs; ++o) {
      for (index_t i = 0; i < inputs; ++i) {
        for (index_t k = 0; k < kernel; ++k) {
          turned[static_cast<std::size_t>((o * kernel + k) * inputs + i)] =
              values[static_cast<std::size_t>((o * inputs + i) * kernel + k)];
        }
      }
    }
    return ops::prepared_matrix::prepare(
        {quant::weight_format::f32, outputs, kernel * inputs, std::as_bytes(std::span(turned)), {}});
  }

  [[nodiscard]] conv_layer<parameters> conv(index_t i, index_t inputs) const {
    const auto& shape = config_.convs[static_cast<std::size_t>(i)];
    conv_layer<parameters> out;
    out.how = {shape.kernel, shape.stride, 1};
    out.kind = config_.front_end_act;
    auto weight = floats(names_.conv, i, ".weight", {shape.outputs, inputs, shape.kernel});
    std::vector<float> bias;
    if (config_.conv_bias) bias = floats(names_.conv, i, ".bias", {shape.outputs});
    if (config_.norm == front_end_norm::layer) {
      out.norm = norm(names_.conv_norm, i, shape.outputs, conv_norm_eps);
    } else if (i == 0) {
      fold_statistics(shape.outputs, weight, bias);
    }
    out.weight = conv_matrix(weight, shape.outputs, inputs, shape.kernel);
    if (!bias.empty()) out.bias = as_vector(bias);
    return out;
  }

  /// Group norm with statistics that do not change is a factor and a bias of each channel.
  void fold_statistics(index_t outputs, std::vector<float>& weight, std::vector<float>& bias) const {
    auto [mean, variance] = frozen_;
    if (mean.empty() && variance.empty()) {
      expect<format_error>(from_.has(spelled(names_.conv_norm, 0, ".running_mean")), from_.name(),
                           ": feat_extract_norm is group: its statistics are those of a whole utterance, which no "
                           "stream knows; expected "
                           "frozen statistics (given, or as ",
                           spelled(names_.conv_norm, 0, ".running_mean"),
                           " and .running_var), or "
                           "an encoder with feat_extract_norm layer");
      mean = floats(names_.conv_norm, 0, ".running_mean", {outputs});
      variance = floats(names_.conv_norm, 0, ".running_var", {outputs});
    }
    const auto count = static_cast<std::size_t>(outputs);
    expect<format_error>(mean.size() == count && variance.size() == count, from_.name(), ": frozen statistics of ",
                         mean.size(), " and ", variance.size(), " channels, expected ", outputs);
    const auto scale = floats(names_.conv_norm, 0, ".weight", {outputs});
    const auto shift = floats(names_.conv_norm, 0, ".bias", {outputs});
    bias.resize(count);
    const std::size_t inner = weight.size() / count;
    for (std::size_t o = 0; o < count; ++o) {
      expect<format_error>(variance[o] >= 0, from_.name(), ": frozen statistics: a variance is negative");
      const double by = static_cast<double>(scale[o]) /
                        std::sqrt(static_cast<double>(variance[o]) + static_cast<double>(conv_norm_eps));
      for (std::size_t k = 0; k < inner; ++k) {
        weight[o * inner + k] = static_cast<float>(static_cast<double>(weight[o * inner + k]) * by);
      }
      bias[o] = static_cast<float>((static_cast<double>(bias[o]) - static_cast<double>(mean[o])) * by +
                                   static_cast<double>(shift[o]));
    }
  }

  /// Weight norm over all but the kernel's axis is folded; files spell its parts in one of two ways, or hold the
  /// product.
  [[nodiscard]] conv_position<parameters> position() const {
    const index_t hidden = config_.hidden_size, kernel = config_.position_kernel;
    const index_t inputs = hidden / config_.position_groups;
    conv_position<parameters> out;
    out.how = {kernel, 1, config_.position_groups};
    out.kind = config_.front_end_act;
    out.causal = config_.causal_position;
    out.bias = vector(names_.position, 0, ".bias", hidden);
    std::vector<float> weight;
    if (from_.has(spelled(names_.position, 0, ".weight"))) {
      weight = floats(names_.position, 0, ".weight", {hidden, inputs, kernel});
    } else {
      const bool old = from_.has(spelled(names_.position, 0, ".weight_g"));
      const auto lengths =
          floats(names_.position, 0, old ? ".weight_g" : ".parametrizations.weight.original0", {1, 1, kernel});
      weight = floats(names_.position, 0, old ? ".weight_v" : ".parametrizations.weight.original1",
                      {hidden, inputs, kernel});
      for (std::size_t k = 0; k < lengths.size(); ++k) {
        double squares = 0;
        for (std::size_t at = k; at < weight.size(); at += lengths.size()) {
          squares += static_cast<double>(weight[at]) * static_cast<double>(weight[at]);
        }
        const double by = squares > 0 ? static_cast<double>(lengths[k]) / std::sqrt(squares) : 0;
        for (std::size_t at = k; at < weight.size(); at += lengths.size()) {
          weight[at] = static_cast<float>(static_cast<double>(weight[at]) * by);
        }
      }
    }
    out.weight = conv_matrix(weight, hidden, inputs, kernel);
    return out;
  }

  [[nodiscard]] encoder_layer<parameters> layer(index_t i) const {
    const index_t hidden = config_.hidden_size, inner = config_.intermediate_size;
    encoder_layer<parameters> out;
    out.norm_first = config_.do_stable_layer_norm;
    out.attention_norm = norm(names_.attention_norm, i, hidden, config_.layer_norm_eps);
    out.attention.query = linear(names_.query, i, hidden, hidden);
    out.attention.key = linear(names_.key, i, hidden, hidden);
    out.attention.value = linear(names_.value, i, hidden, hidden);
    out.attention.output = linear(names_.output, i, hidden, hidden);
    out.attention.scores.heads = out.attention.scores.kv_heads = config_.num_attention_heads;
    out.attention.scores.head_dim = config_.head_dim();
    out.attention.scores.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim())));
    out.attention.rotary = ops::no_rotary;
    out.mlp_norm = norm(names_.mlp_norm, i, hidden, config_.layer_norm_eps);
    out.mlp.up = linear(names_.up, i, inner, hidden);
    out.mlp.down = linear(names_.down, i, hidden, inner);
    out.mlp.kind = config_.hidden_act;
    return out;
  }

  const encoder_config& config_;
  const Source& from_;
  const frozen_statistics& frozen_;
  encoder_names names_;
};

/// Weights of a checkpoint, whose names may begin with "wav2vec2." (models with a head).
class checkpoint_source {
 public:
  explicit checkpoint_source(const io::safetensors_checkpoint& of) : of_(of) {
    constexpr std::string_view prefix = "wav2vec2.";
    if (of.find_tensor(std::string(prefix) + "feature_projection.projection.weight") != nullptr) prefix_ = prefix;
  }

  [[nodiscard]] const std::string& name() const noexcept { return of_.name(); }
  [[nodiscard]] bool has(const std::string& name) const { return of_.find_tensor(prefix_ + name) != nullptr; }

  [[nodiscard]] ops::prepared_matrix matrix(const std::string& name, index_t outputs, index_t inputs) const {
    const auto& stored = need(name, {static_cast<std::uint64_t>(outputs), static_cast<std::uint64_t>(inputs)});
    try {
      auto packed =
          ops::prepared_matrix::prepare({stored.loadable_format(), outputs, inputs, stored.bytes, {}}, &pool_);
      stored.release();
      return packed;
    } catch (const shape_error& failure) {
      fail<format_error>(of_.name(), ": tensor ", stored.name, ": ", failure.what());
    }
  }
  [[nodiscard]] std::vector<float> floats(const std::string& name, const std::vector<std::uint64_t>& shape) const {
    const auto& stored = need(name, shape);
    std::vector<float> out(static_cast<std::size_t>(stored.elements()));
    quant::decode(stored.loadable_format(), stored.bytes.data(), out.size(), out.data());
    return out;
  }

 private:
  [[nodiscard]] const io::stored_tensor& need(const std::string& name, const std::vector<std::uint64_t>& shape) const {
    const auto* stored = of_.find_tensor(prefix_ + name);
    expect<format_error>(stored != nullptr, of_.name(), ": tensor ", prefix_, name, " is missing");
    if (stored->shape != shape) {
      fail<format_error>(of_.name(), ": tensor ", stored->name, ": expected shape ", io::shape_text(shape), ", found ",
                         io::shape_text(stored->shape));
    }
    return *stored;
  }

  const io::safetensors_checkpoint& of_;
  std::string prefix_;
  mutable ops::weight_pool pool_;
};

}  // namespace detail

/// The encoder of a folder with `config.json` and `model.safetensors`, whole or sharded, under a config that may differ
/// from the folder's in its form (causal or not) but not in sizes. Throws io_error for files that cannot be read,
/// format_error naming file and tensor or key; so for encoders with group norm, unless their statistics are frozen.
[[nodiscard]] inline encoder load_encoder(const std::filesystem::path& directory, const encoder_config& config,
                                          const frozen_statistics& frozen = {}) {
  validate(config, directory.string());
  const auto checkpoint = io::open_safetensors(directory);
  const detail::checkpoint_source from(checkpoint);
  return encoder(config, detail::encoder_builder(config, from, frozen).build());
}

/// The config of such a folder. Throws as `read_encoder_config`.
[[nodiscard]] inline encoder_config read_encoder_config(const std::filesystem::path& directory) {
  const auto document = io::read_json_file(directory / "config.json", io::most_config_bytes);
  return read_encoder_config(io::json_object(document.root()));
}

/// The same as its own config says.
[[nodiscard]] inline encoder load_encoder(const std::filesystem::path& directory) {
  return load_encoder(directory, read_encoder_config(directory));
}

}  // namespace runnel::speech
