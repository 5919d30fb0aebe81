// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/ops/rotary.hpp>

namespace runnel::nn {

/// How a family stretches rotary frequencies to longer contexts. Named as `rope_type` in Hugging Face configs. What is
/// dynamic there is frozen here by the context that a stream was declared for.
enum class rope_scaling : std::uint8_t { none, linear, llama3, yarn, longrope };

/// Rotary position embedding as a config declares it.
struct rotary_config {
  index_t dimension = 0;  ///< features of a head that turn (all of them, unless partial)
  double theta = 10000;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1;                 ///< linear, llama3, yarn
  double low_frequency_factor = 1;   ///< llama3
  double high_frequency_factor = 4;  ///< llama3
  index_t original_context = 8192;   ///< llama3, yarn, longrope: positions before stretching
  double attention_factor = 1;       ///< yarn, longrope: cosines and sines are multiplied by it
  double beta_fast = 32;             ///< yarn: turns in the original context from which frequencies are kept
  double beta_slow = 1;              ///< yarn: turns up to which they are stretched in full
  bool truncate = true;              ///< yarn: whether the two are rounded outward to whole features
  /// [dimension / 2] or empty: what frequencies are divided by in place of a formula (GGUF files; longrope's short
  /// factors).
  std::vector<double> frequency_divisors{};
  /// The same in contexts longer than the original (longrope's long factors).
  std::vector<double> long_frequency_divisors{};
};

/// YaRN's usual factor on attention for a context `factor` times longer; `scale` is 1 unless a config says otherwise
/// (arXiv 2309.00071, section 3.4).
[[nodiscard]] inline double yarn_attention_factor(double factor, double scale = 1) noexcept {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

/// LongRoPE's (arXiv 2402.13753).
[[nodiscard]] inline double longrope_attention_factor(double factor, index_t original_context) noexcept {
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_context)));
}

namespace detail {

/// Slow turns are stretched, fast ones kept, those between blended by how often they turn in the original context.
[[nodiscard]] inline double llama3_frequency(const rotary_config& config, double frequency) {
  const double turns = static_cast<double>(config.original_context) * frequency / (2 * std::numbers::pi);
  const double low = config.low_frequency_factor, high = config.high_frequency_factor;
  expect(high > low, "rotary: high_freq_factor must exceed low_freq_factor");
  const double kept = turns >= high ? 1.0 : turns <= low ? 0.0 : (turns - low) / (high - low);
  return (1 - kept) * frequency / config.factor + kept * frequency;
}

/// The same, blended by the feature's index between those that turn `beta_fast` and `beta_slow` times.
[[nodiscard]] inline double yarn_frequency(const rotary_config& config, double feature, double frequency) {
  const auto feature_turning = [&](double turns) {
    return static_cast<double>(config.dimension) *
           std::log(static_cast<double>(config.original_context) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = feature_turning(config.beta_fast), high = feature_turning(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.dimension - 1));
  if (low == high) high += 0.001;  // as the published code does
  const double stretched = std::clamp((feature - low) / (high - low), 0.0, 1.0);
  return stretched * frequency / config.factor + (1 - stretched) * frequency;
}

}  // namespace detail

/// Frequencies theta^(-2i/d), scaled: fixed when the model is made, in double; `is_long` for contexts longer than the
/// original. Throws config_error for an odd dimension or factors that are not positive.
[[nodiscard]] inline std::vector<double> rotary_frequencies(const rotary_config& config, bool is_long = false) {
  expect(config.dimension > 0 && config.dimension % 2 == 0, "rotary: the dimension must be even and positive, found ",
         config.dimension);
  expect(config.theta > 0 && config.factor > 0, "rotary: theta and factor must be positive, found ", config.theta,
         " and ", config.factor);
  const auto half = static_cast<std::size_t>(config.dimension / 2);
  const auto& divisors =
      is_long && !config.long_frequency_divisors.empty() ? config.long_frequency_divisors : config.frequency_divisors;
  expect(divisors.empty() || divisors.size() == half, "rotary: expected ", half, " frequency divisors, found ",
         divisors.size());
  std::vector<double> frequencies(half);
  for (std::size_t i = 0; i < half; ++i) {
    const auto feature = static_cast<double>(i);
    double frequency = std::pow(config.theta, -2.0 * feature / static_cast<double>(config.dimension));
    if (!divisors.empty()) {
      frequency /= divisors[i];
    } else if (config.scaling == rope_scaling::linear) {
      frequency /= config.factor;
    } else if (config.scaling == rope_scaling::llama3) {
      frequency = detail::llama3_frequency(config, frequency);
    } else if (config.scaling == rope_scaling::yarn) {
      frequency = detail::yarn_frequency(config, feature, frequency);
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

/// Rotary angles of a pass (ops/rotary.hpp) from fixed tables of frequencies: that of the original context, and, where
/// a family has one, that of longer contexts.
class rotary {
 public:
  rotary() = default;
  /// Throws config_error as `rotary_frequencies`.
  explicit rotary(const rotary_config& config)
      : short_(rotary_frequencies(config)),
        long_(config.long_frequency_divisors.empty() ? std::vector<double>{} : rotary_frequencies(config, true)),
        original_context_(config.original_context),
        magnitude_(config.attention_factor) {}

  /// Whether there is a table at all.
  [[nodiscard]] bool empty() const noexcept { return short_.empty(); }

  /// For a stream declared for `context` positions: the same table for every row of its life.
  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const row_table& rows, index_t declared) const {
    const bool is_long = !long_.empty() && declared > original_context_;
    return context(ops::rotary_table{is_long ? long_ : short_, magnitude_}, rows);
  }

 private:
  std::vector<double> short_;
  std::vector<double> long_;
  index_t original_context_ = 0;
  double magnitude_ = 1;
};

}  // namespace runnel::nn
