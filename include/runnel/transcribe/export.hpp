// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/io/safetensors_writer.hpp>
#include <runnel/speech/map_weights.hpp>
#include <runnel/text/json_writer.hpp>
#include <runnel/transcribe/speech_model.hpp>

/// \file
/// Encoders, projectors and what a speech model says of itself, as files: what `load_encoder` and `load_speech_model`
/// read. The decoder's folder is written by `models::write_hugging_face`.

namespace runnel::transcribe {

namespace detail {

[[nodiscard]] inline std::string_view name_of(kernels::activation kind) {
  switch (kind) {
    case kernels::activation::gelu: return "gelu";
    case kernels::activation::gelu_tanh: return "gelu_new";
    case kernels::activation::silu: return "silu";
    default: fail<config_error>("export: Hugging Face's wav2vec2 has no such activation");
  }
}

/// The matrices and vectors of a checkpoint in the making.
class tensor_list {
 public:
  explicit tensor_list(quant::weight_format matrices) : matrices_(matrices) {
    expect(quant::info(matrices).block_size == 1, "export: safetensors hold f32, f16 or bf16, not ",
           quant::info(matrices).name);
  }

  void matrix(std::string name, const ops::prepared_matrix& from) {
    add(std::move(name), matrices_, {size(from.outputs()), size(from.inputs())}, values_of(from));
  }
  /// Of a convolution: [outputs, kernel * inputs] as the op takes it, [outputs, inputs, kernel] as files hold it.
  void kernel(std::string name, const ops::prepared_matrix& from, index_t kernel, bool exact) {
    const auto flat = values_of(from);
    const index_t inputs = from.inputs() / kernel;
    std::vector<float> turned(flat.size());
    for (index_t o = 0; o < from.outputs(); ++o) {
      for (index_t k = 0; k < kernel; ++k) {
        for (index_t i = 0; i < inputs; ++i) {
          turned[size((o * inputs + i) * kernel + k)] = flat[size((o * kernel + k) * inputs + i)];
        }
      }
    }
    add(std::move(name), exact ? quant::weight_format::f32 : matrices_,
        {size(from.outputs()), size(inputs), size(kernel)}, turned);
  }
  /// The same with weight norm over all but the kernel's axis: the slices, and their lengths as near as float has them.
  void normed_kernel(const std::string& name, const ops::prepared_matrix& from, index_t count) {
    std::vector<double> squares(size(count));
    const auto flat = values_of(from);
    const std::size_t inputs = size(from.inputs() / count);
    for (std::size_t at = 0; at < flat.size(); ++at) {
      squares[at / inputs % squares.size()] += static_cast<double>(flat[at]) * static_cast<double>(flat[at]);
    }
    std::vector<float> lengths;
    for (const double sum : squares) lengths.push_back(static_cast<float>(std::sqrt(sum)));
    add(name + ".parametrizations.weight.original0", quant::weight_format::f32, {1, 1, squares.size()}, lengths);
    kernel(name + ".parametrizations.weight.original1", from, count, true);
  }
  void vector(std::string name, std::span<const float> values) {
    add(std::move(name), quant::weight_format::f32, {values.size()}, values);
  }

  void write(const std::filesystem::path& path) const {
    std::vector<io::safetensors_output> out;
    for (const auto& one : tensors_) out.push_back({one.name, one.format, one.shape, one.bytes});
    const std::pair<std::string, std::string> kind[] = {{"format", "pt"}};
    io::write_safetensors(path, out, kind);
  }

 private:
  struct stored {
    std::string name;
    quant::weight_format format;
    std::vector<std::uint64_t> shape;
    std::vector<std::byte> bytes;
  };

  [[nodiscard]] static std::size_t size(index_t of) noexcept { return static_cast<std::size_t>(of); }

  [[nodiscard]] static std::vector<float> values_of(const ops::prepared_matrix& from) {
    std::vector<float> out(size(from.outputs() * from.inputs()));
    for (index_t n = 0; n < from.outputs(); ++n) {
      from.decode_row(n, std::span(out).subspan(size(n * from.inputs()), size(from.inputs())));
    }
    return out;
  }

  void add(std::string name, quant::weight_format format, std::vector<std::uint64_t> shape,
           std::span<const float> values) {
    stored one{std::move(name), format, std::move(shape), {}};
    one.bytes.resize(static_cast<std::size_t>(quant::bytes_for(format, values.size())));
    quant::encode(format, values.data(), values.size(), one.bytes.data());
    tensors_.push_back(std::move(one));
  }

  quant::weight_format matrices_;
  std::vector<stored> tensors_;
};

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  io::write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

inline void make_folder(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  expect<io_error>(!failure, path.string(), ": cannot be made: ", failure.message());
}

inline void write_streaming(const speech::encoder_config& config, text::json_writer& out) {
  out.key("streaming");
  out.begin_object();
  out.member("sample_rate", config.sample_rate);
  out.member("causal_position", config.causal_position);
  out.member("causal_attention", config.causal_attention);
  out.member("left_context", config.left_context);
  out.member("left_pad", config.left_pad);
  out.member("right_pad", config.right_pad);
  out.member("pad_tail", config.pad_tail);
  out.member("normalization", speech::name_of(config.input.kind));
  out.member("mean", config.input.mean);
  out.member("deviation", config.input.deviation);
  out.member("prior_samples", config.input.prior_samples);
  out.end();
}

}  // namespace detail

/// The text of a `config.json` for an encoder. Throws config_error for one with folded statistics: Hugging Face's
/// classes have no place for them.
[[nodiscard]] inline std::string encoder_config_text(const speech::encoder_config& config) {
  expect(config.norm == speech::front_end_norm::layer,
         "export: an encoder whose group norm was folded cannot be written, expected one with feat_extract_norm layer");
  text::json_writer out;
  out.begin_object();
  out.member("model_type", "wav2vec2");
  out.key("architectures");
  out.begin_array(true);
  out.value("Wav2Vec2Model");
  out.end();
  const auto list = [&](const char* key, index_t speech::conv_shape::*member) {
    out.key(key);
    out.begin_array(true);
    for (const auto& conv : config.convs) out.value(conv.*member);
    out.end();
  };
  list("conv_dim", &speech::conv_shape::outputs);
  list("conv_kernel", &speech::conv_shape::kernel);
  list("conv_stride", &speech::conv_shape::stride);
  out.member("num_feat_extract_layers", static_cast<index_t>(config.convs.size()));
  out.member("conv_bias", config.conv_bias);
  out.member("feat_extract_norm", "layer");
  out.member("feat_extract_activation", detail::name_of(config.front_end_act));
  out.member("hidden_size", config.hidden_size);
  out.member("num_hidden_layers", config.num_hidden_layers);
  out.member("num_attention_heads", config.num_attention_heads);
  out.member("intermediate_size", config.intermediate_size);
  out.member("hidden_act", detail::name_of(config.hidden_act));
  out.member("layer_norm_eps", static_cast<double>(config.layer_norm_eps));
  out.member("do_stable_layer_norm", config.do_stable_layer_norm);
  out.member("num_conv_pos_embeddings", config.position_kernel);
  out.member("num_conv_pos_embedding_groups", config.position_groups);
  detail::write_streaming(config, out);
  out.end();
  return out.text() + '\n';
}

/// Writes `config.json` and `model.safetensors` of an encoder into a folder, which is made if need be: matrices as
/// `matrices` (f32, f16 or bf16), the position kernel, norms and biases in f32. Transformers' Wav2Vec2Model reads them
/// and knows nothing of `streaming`: there the encoder is the original. Throws config_error, io_error.
inline void write_encoder(const speech::encoder& of, quant::weight_format matrices,
                          const std::filesystem::path& folder) {
  const auto text = encoder_config_text(of.config());
  detail::tensor_list tensors(matrices);
  const speech::encoder_names names;
  std::size_t conv = 0;
  const auto matrix = [&](const std::string& name, const ops::prepared_matrix& from) {
    if (name == std::string(names.position) + ".weight") {
      tensors.normed_kernel(std::string(names.position), from, of.config().position_kernel);
    } else if (name.find(".conv.") != std::string::npos) {
      tensors.kernel(name, from, of.config().convs[conv++].kernel, false);
    } else {
      tensors.matrix(name, from);
    }
    return ops::prepared_matrix();
  };
  const auto vector = [&](const std::string& name, const tensor<float, 1>& from) {
    tensors.vector(name, {from.data(), static_cast<std::size_t>(from.size())});
    return tensor<float, 1>();
  };
  static_cast<void>(speech::map_weights<nn::inference_parameters>(of.weights(), matrix, vector));
  detail::make_folder(folder);
  tensors.write(folder / "model.safetensors");
  detail::write_text(folder / "config.json", text);
}

/// Writes a projector. Throws config_error, io_error.
inline void write_projector(const speech::projector& of, quant::weight_format matrices,
                            const std::filesystem::path& path) {
  detail::tensor_list tensors(matrices);
  const auto linear = [&](const std::string& name, const nn::linear<nn::inference_parameters>& from) {
    tensors.matrix(name + ".weight", from.weight);
    tensors.vector(name + ".bias", {from.bias.data(), static_cast<std::size_t>(from.bias.size())});
  };
  linear("linear_1", of.linear_1);
  linear("linear_2", of.linear_2);
  tensors.write(path);
}

/// Writes `speech.json`. Throws io_error.
inline void write_settings(const speech_settings& settings, const speech::projector& of,
                           const std::filesystem::path& path) {
  text::json_writer out;
  out.begin_object();
  out.member("chunk_rows", settings.chunk_rows);
  out.member("stack", of.stack);
  out.member("projector_act", detail::name_of(of.kind));
  out.member("instruction", settings.instruction);
  if (settings.longest_seconds > 0) out.member("longest_seconds", settings.longest_seconds);
  out.end();
  detail::write_text(path, out.text() + '\n');
}

}  // namespace runnel::transcribe
