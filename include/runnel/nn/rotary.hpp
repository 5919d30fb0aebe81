// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/ops/rotary.hpp>

namespace runnel::nn {

/// How a family stretches rotary frequencies to longer contexts. Named as `rope_type` in Hugging Face configs.
enum class rope_scaling : std::uint8_t { none, linear, llama3 };

/// Rotary position embedding as a config declares it.
struct rotary_config {
  index_t dimension = 0;  ///< features of a head that turn (all of them, unless partial)
  double theta = 10000;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1;                       ///< linear, llama3
  double low_frequency_factor = 1;         ///< llama3
  double high_frequency_factor = 4;        ///< llama3
  index_t original_context = 8192;         ///< llama3
  std::vector<double> frequency_divisors;  ///< [dimension / 2] or empty: what GGUF files store in place of the formula
};

/// Frequencies theta^(-2i/d), scaled: fixed when the model is made, in double. Throws config_error for an odd dimension
/// or factors that are not positive.
[[nodiscard]] inline std::vector<double> rotary_frequencies(const rotary_config& config) {
  expect(config.dimension > 0 && config.dimension % 2 == 0, "rotary: the dimension must be even and positive, found ",
         config.dimension);
  expect(config.theta > 0 && config.factor > 0, "rotary: theta and factor must be positive, found ", config.theta,
         " and ", config.factor);
  const auto half = static_cast<std::size_t>(config.dimension / 2);
  expect(config.frequency_divisors.empty() || config.frequency_divisors.size() == half, "rotary: expected ", half,
         " frequency divisors, found ", config.frequency_divisors.size());
  std::vector<double> frequencies(half);
  for (std::size_t i = 0; i < half; ++i) {
    double frequency = std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.dimension));
    if (!config.frequency_divisors.empty()) {
      frequency /= config.frequency_divisors[i];
    } else if (config.scaling == rope_scaling::linear) {
      frequency /= config.factor;
    } else if (config.scaling == rope_scaling::llama3) {
      // Slow turns are stretched, fast ones kept, those between blended by how often they turn in the original context.
      const double turns = static_cast<double>(config.original_context) * frequency / (2 * std::numbers::pi);
      const double low = config.low_frequency_factor, high = config.high_frequency_factor;
      expect(high > low, "rotary: high_freq_factor must exceed low_freq_factor");
      const double kept = turns >= high ? 1.0 : turns <= low ? 0.0 : (turns - low) / (high - low);
      frequency = (1 - kept) * frequency / config.factor + kept * frequency;
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

/// Rotary angles of a pass (ops/rotary.hpp) from one fixed table of frequencies.
struct rotary {
  std::vector<double> frequencies;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const row_table& rows) const {
    return context(ops::rotary_table{frequencies}, rows);
  }
};

}  // namespace runnel::nn
