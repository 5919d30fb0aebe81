// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <runnel/speech/config.hpp>

namespace runnel::speech {

/// Normalises samples as they come, one after another in double, so that chunking changes no bit. A value: copies go on
/// from where they are.
class normalizer {
 public:
  normalizer() = default;
  explicit normalizer(const normalization_config& config)
      : config_(config), count_(config.prior_samples), mean_(config.mean) {
    squares_ = config.prior_samples * config.deviation * config.deviation;
  }

  /// Samples in place. `utterance` takes them for the whole audio.
  void operator()(std::span<float> samples) noexcept {
    for (float& sample : samples) {
      if (std::fabs(sample) <= largest) continue;
      sample = 0;
      ++num_replaced_;
    }
    switch (config_.kind) {
      case normalization::none: return;
      case normalization::fixed:
        for (float& sample : samples) sample = scaled(sample, config_.mean, config_.deviation);
        return;
      case normalization::running:
        for (float& sample : samples) sample = heard(sample);
        return;
      case normalization::utterance: whole(samples);
    }
  }

  /// Samples that were no numbers or beyond `largest`, and became 0.
  [[nodiscard]] std::uint64_t num_replaced() const noexcept { return num_replaced_; }

  /// Audio is in [-1, 1], or in whole numbers of 16 or 24 bits; what is beyond is no sample, and its squares would be
  /// beyond float.
  static constexpr float largest = 1e8f;

 private:
  static constexpr double least_variance = 1e-7;  // that of Transformers' feature extractor

  [[nodiscard]] static float scaled(float sample, double mean, double deviation) noexcept {
    return static_cast<float>((static_cast<double>(sample) - mean) / deviation);
  }

  [[nodiscard]] float heard(float sample) noexcept {
    const double x = static_cast<double>(sample), from_old = x - mean_;
    count_ += 1;
    mean_ += from_old / count_;
    squares_ += from_old * (x - mean_);
    return scaled(sample, mean_, std::sqrt(squares_ / count_ + least_variance));
  }

  static void whole(std::span<float> samples) noexcept {
    double sum = 0, squares = 0;
    for (const float sample : samples) sum += static_cast<double>(sample);
    const double count = static_cast<double>(samples.size()), mean = samples.empty() ? 0 : sum / count;
    for (const float sample : samples) {
      const double away = static_cast<double>(sample) - mean;
      squares += away * away;
    }
    const double deviation = std::sqrt((samples.empty() ? 0 : squares / count) + least_variance);
    for (float& sample : samples) sample = scaled(sample, mean, deviation);
  }

  normalization_config config_;
  double count_ = 0;
  double mean_ = 0;
  double squares_ = 0;
  std::uint64_t num_replaced_ = 0;
};

/// A whole utterance as it goes into the front end: normalised, zeros before and after as the config has them.
[[nodiscard]] inline std::vector<float> prepare_audio(const encoder_config& config, std::span<const float> samples) {
  std::vector<float> out(static_cast<std::size_t>(config.left_pad));
  out.insert(out.end(), samples.begin(), samples.end());
  normalizer(config.input)(std::span(out).subspan(static_cast<std::size_t>(config.left_pad)));
  if (!samples.empty()) out.resize(out.size() + static_cast<std::size_t>(config.right_pad));
  if (config.pad_tail)
    out.resize(out.size() + static_cast<std::size_t>(config.missing(static_cast<index_t>(out.size()))));
  return out;
}

}  // namespace runnel::speech
