// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/quant/codecs.hpp>
#include <runnel/speech/load.hpp>
#include <runnel/speech/projector.hpp>

namespace runnel::speech {

namespace detail {

/// Gives random matrices and kernels and norms of one where a reader gives those of a file. Deviations keep the size of
/// what passes through. The first kernels are tones under a Hann window, evenly apart in mel, each at four phases, and
/// the second add up what the activation left of these: the loudness of each tone, whatever its phase, a filter bank
/// to begin with that few recordings would not teach. Biases are zero but for those of kernels: the
/// norm behind them would make everything of silence otherwise, and its gradients infinite.
class encoder_dice {
 public:
  explicit encoder_dice(std::uint64_t seed, index_t sample_rate = 16000,
                        quant::weight_format matrices = quant::weight_format::f32)
      : random_(seed), rate_(static_cast<double>(sample_rate)), matrices_(matrices) {}

  [[nodiscard]] static std::string name() { return "config"; }
  /// Kernels as they are, no weight norm; no statistics.
  [[nodiscard]] static bool has(const std::string& name) { return name.ends_with(".weight"); }

  [[nodiscard]] ops::prepared_matrix matrix(const std::string&, index_t outputs, index_t inputs) const {
    const auto count = static_cast<std::size_t>(outputs * inputs);
    const auto values = normals(count, 1.0 / static_cast<double>(inputs));
    std::vector<std::byte> stored(count * quant::info(matrices_).block_bytes);
    quant::encode(matrices_, values.data(), count, stored.data());
    return ops::prepared_matrix::prepare({matrices_, outputs, inputs, stored, {}});
  }
  [[nodiscard]] std::vector<float> floats(const std::string& name, const std::vector<std::uint64_t>& shape) const {
    std::size_t count = 1;
    for (const auto size : shape) count *= static_cast<std::size_t>(size);
    if (shape.size() == 1) {
      std::vector<float> out(count, name.ends_with(".weight") ? 1.0f : 0.0f);
      if (!name.ends_with(".conv.bias")) return out;
      for (float& one : out) one = static_cast<float>((2 * random_.uniform() - 1) / std::sqrt(inputs_));
      return out;
    }
    inputs_ = static_cast<double>(shape[1]) * static_cast<double>(shape[2]);
    if (name.ends_with("conv_layers.0.conv.weight")) return tones(shape[0], shape[2]);
    std::vector<float> out = normals(count, 2.0 / inputs_);
    if (name.ends_with("conv_layers.1.conv.weight")) add_up_phases(out, shape[0], shape[1], shape[2]);
    return out;
  }

  /// [outputs, 1, kernel], each of the length that random ones would have. Mel as O'Shaughnessy (1987) has it.
  [[nodiscard]] std::vector<float> tones(std::uint64_t outputs, std::uint64_t kernel) const {
    const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
    const auto hertz = [](double of) { return 700 * (std::pow(10, of / 2595) - 1); };
    const double lowest = mel(60), highest = mel(0.95 * rate_ / 2);
    const double count = static_cast<double>((outputs + phases - 1) / phases), pi = std::numbers::pi;
    std::vector<float> out;
    std::vector<double> tone(static_cast<std::size_t>(kernel));
    for (std::uint64_t o = 0; o < outputs; ++o) {
      const double place = (static_cast<double>(o / phases) + 0.5) / count;
      const double turn = 2 * pi * hertz(lowest + place * (highest - lowest)) / rate_;
      const double phase = 2 * pi * static_cast<double>(o % phases) / static_cast<double>(phases);
      double squares = 0;
      for (std::size_t k = 0; k < tone.size(); ++k) {
        const double at = static_cast<double>(k) + 0.5 - static_cast<double>(kernel) / 2;
        tone[k] = (0.5 + 0.5 * std::cos(2 * pi * at / static_cast<double>(kernel))) * std::cos(turn * at + phase);
        squares += tone[k] * tone[k];
      }
      for (const double one : tone) out.push_back(static_cast<float>(one * std::sqrt(2 / squares)));
    }
    return out;
  }

  /// In [outputs, inputs, kernel]: as many outputs as there are tones take theirs, at all phases alike, instead of most
  /// of what was drawn.
  static void add_up_phases(std::vector<float>& weights, std::uint64_t outputs, std::uint64_t inputs,
                            std::uint64_t kernel) {
    constexpr float left = 0.3f;
    const auto each = static_cast<float>(std::sqrt(2.0 / static_cast<double>(phases * kernel)));
    for (std::uint64_t o = 0; o < std::min(outputs, inputs / phases); ++o) {
      float* const row = weights.data() + o * inputs * kernel;
      for (std::uint64_t i = 0; i < inputs * kernel; ++i) {
        row[i] = left * row[i] + (i / kernel / phases == o ? each : 0.0f);
      }
    }
  }

  [[nodiscard]] std::vector<float> normals(std::size_t count, double variance) const {
    std::vector<float> out(count);
    const double deviation = std::sqrt(variance);
    for (float& one : out) {
      const double radius = std::sqrt(-2 * std::log(1 - random_.uniform()));
      one = static_cast<float>(deviation * radius * std::cos(2 * std::numbers::pi * random_.uniform()));
    }
    return out;
  }

 private:
  static constexpr std::uint64_t phases = 4;

  mutable random_stream random_;
  double rate_;
  quant::weight_format matrices_;
  mutable double inputs_ = 1;  // of the last kernel
};

}  // namespace detail

/// A new encoder, to be trained: the same for a seed on every machine. Linear maps are kept in f32, f16 or bf16,
/// convolutions in f32. Throws config_error for another format, format_error for a config that makes no encoder, or one
/// with group norm, whose statistics only training elsewhere could give.
[[nodiscard]] inline encoder random_encoder(const encoder_config& config, std::uint64_t seed = 0,
                                            quant::weight_format matrices = quant::weight_format::f32) {
  using quant::weight_format;
  expect(matrices == weight_format::f32 || matrices == weight_format::f16 || matrices == weight_format::bf16,
         "random encoder: expected matrices in f32, f16 or bf16");
  validate(config, "config");
  const detail::encoder_dice dice(seed, config.sample_rate, matrices);
  return encoder(config, detail::encoder_builder(config, dice, {}).build());
}

/// Sizes of a new projector.
struct projector_shape {
  index_t inputs = 0;  ///< features of a frame
  index_t middle = 0;
  index_t width = 0;  ///< features of a row
  index_t stack = 1;
};

/// A new projector, to be trained. Throws format_error for sizes that are not positive.
[[nodiscard]] inline projector random_projector(const projector_shape& shape, std::uint64_t seed = 0) {
  expect<format_error>(shape.inputs > 0 && shape.middle > 0 && shape.width > 0 && shape.stack > 0,
                       "projector: expected positive sizes, found ", shape.inputs, ", ", shape.middle, ", ",
                       shape.width, " and a stack of ", shape.stack);
  const detail::encoder_dice dice(derive_seed(seed, 1));
  const auto linear = [&](index_t outputs, index_t inputs) {
    nn::linear<nn::inference_parameters> out{dice.matrix({}, outputs, inputs), tensor<float, 1>({outputs})};
    std::fill_n(out.bias.data(), outputs, 0.0f);
    return out;
  };
  return {linear(shape.middle, shape.stack * shape.inputs), linear(shape.width, shape.middle),
          kernels::activation::gelu, shape.stack};
}

}  // namespace runnel::speech
