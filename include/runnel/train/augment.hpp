// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/core/rng.hpp>

/// \file
/// Recordings made different each time a model hears them: speed, filter, silence around them, gain, noise, gaps. All
/// of it is drawn first and done then, so that the length is known before.

namespace runnel::train {

/// Numbers from `least` to `most`, drawn evenly.
struct number_range {
  double least = 0;
  double most = 0;

  [[nodiscard]] double draw(random_stream& random) const noexcept { return least + (most - least) * random.uniform(); }
  [[nodiscard]] bool contains(double number) const noexcept { return least <= number && number <= most; }
  /// \throws config_error unless lowest <= least <= most <= highest
  void validate(const char* name, double lowest, double highest) const {
    expect(lowest <= least && least <= most && most <= highest, name, ": expected a range within ", lowest, " to ",
           highest, ", found ", least, " to ", most);
  }
  friend bool operator==(const number_range&, const number_range&) = default;
};

/// Samples of so many milliseconds, rounded to nearest.
[[nodiscard]] inline index_t samples_in(double ms, index_t sample_rate) noexcept {
  return static_cast<index_t>(std::llround(ms * static_cast<double>(sample_rate) / 1000));
}

/// What may happen to a recording. The default is nothing.
struct augment_options {
  double speed = 0;                  ///< s: played faster or slower by a factor in [1 - s, 1 + s]; below 0.9
  number_range gain_db{};            ///< of the whole
  double noise_share = 0;            ///< of recordings that get noise, in [0, 1]
  number_range snr_db{20, 40};       ///< speech (with its pauses) over noise
  double low_noise_share = 0.5;      ///< of noises that are low-passed instead of white, in [0, 1]
  number_range silence_before_ms{};  ///< what the recording begins with
  number_range silence_after_ms{};   ///< what it ends with
  index_t time_masks = 0;            ///< stretches that are lost: 0 to so many of them
  double longest_mask_ms = 0;  ///< each 0 to so long; a word that is lost whole teaches to write what was not said
  double filter = 0;           ///< `size` of `draw_filter`; 0: none

  friend bool operator==(const augment_options&, const augment_options&) = default;

  /// What is drawn for each recording of a string by itself.
  [[nodiscard]] augment_options of_each() const {
    augment_options out;
    out.speed = speed;
    out.filter = filter;
    return out;
  }
  /// What is drawn once, for all of the string.
  [[nodiscard]] augment_options of_whole() const {
    augment_options out = *this;
    out.speed = out.filter = 0;
    return out;
  }

  /// \throws config_error
  void validate() const {
    constexpr double loudest = 60, longest = 60'000;
    expect(filter >= 0 && filter <= 10, "augmentation: filter: expected 0 to 10, found ", filter);
    expect(speed >= 0 && speed < 0.9, "augmentation: speed: expected 0 to below 0.9, found ", speed);
    gain_db.validate("augmentation: gain_db", -loudest, loudest);
    snr_db.validate("augmentation: snr_db", -loudest, 2 * loudest);
    silence_before_ms.validate("augmentation: silence_before_ms", 0, longest);
    silence_after_ms.validate("augmentation: silence_after_ms", 0, longest);
    for (const auto& [name, share] : {std::pair("noise_share", noise_share), {"low_noise_share", low_noise_share}}) {
      expect(share >= 0 && share <= 1, "augmentation: ", name, ": expected a number in [0, 1], found ", share);
    }
    expect(time_masks >= 0 && time_masks <= 1000, "augmentation: time_masks: expected 0 to 1000, found ", time_masks);
    expect(longest_mask_ms >= 0 && longest_mask_ms <= longest, "augmentation: longest_mask_ms: expected 0 to ", longest,
           ", found ", longest_mask_ms);
  }
};

/// Samples of `samples` played `factor` times as fast: nearest to samples / factor.
[[nodiscard]] inline index_t samples_at_speed(index_t samples, double factor) noexcept {
  return static_cast<index_t>(std::llround(static_cast<double>(samples) / factor));
}

namespace detail {

/// A sinc with `half` zeros on either side under a Hann window, cut off at `cutoff` of the Nyquist rate; in a table,
/// straight lines in between.
class sinc_table {
 public:
  explicit sinc_table(double cutoff) : reach_(static_cast<double>(half) / cutoff) {
    table_.resize(static_cast<std::size_t>(reach_ * steps) + 2);
    for (std::size_t i = 0; i < table_.size(); ++i) {
      const double at = static_cast<double>(i) / steps, x = std::numbers::pi * cutoff * at;
      const double window = at < reach_ ? 0.5 + 0.5 * std::cos(std::numbers::pi * at / reach_) : 0;
      table_[i] = cutoff * window * (i == 0 ? 1 : std::sin(x) / x);
    }
  }

  [[nodiscard]] double reach() const noexcept { return reach_; }
  [[nodiscard]] double operator()(double distance) const noexcept {
    const double at = std::min(std::abs(distance), reach_) * steps;
    const auto i = std::min(static_cast<std::size_t>(at), table_.size() - 2);
    return table_[i] + (table_[i + 1] - table_[i]) * (at - static_cast<double>(i));
  }

 private:
  static constexpr index_t half = 16;
  static constexpr double steps = 256;  // of the table, a sample
  double reach_;
  std::vector<double> table_;
};

[[nodiscard]] inline double mean_square(std::span<const float> samples) noexcept {
  double sum = 0;
  for (const float x : samples) sum += static_cast<double>(x) * static_cast<double>(x);
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

}  // namespace detail

/// Samples played `factor` times as fast, pitch and all, `samples_at_speed` of them: sample i is what was at i *
/// factor, through a windowed sinc that lets through what both can hold. Linear, about 35 products a sample; a factor
/// of 1 gives the samples back.
[[nodiscard]] inline std::vector<float> change_speed(std::span<const float> samples, double factor) {
  expect(factor > 0.01 && factor < 100, "speed: expected a factor from 0.01 to 100, found ", factor);
  if (factor == 1) return {samples.begin(), samples.end()};
  const detail::sinc_table weight(std::min(1.0, 1 / factor));
  const auto count = static_cast<index_t>(samples.size());
  std::vector<float> out(static_cast<std::size_t>(samples_at_speed(count, factor)));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double at = static_cast<double>(i) * factor;
    const auto first = std::max<index_t>(0, static_cast<index_t>(std::ceil(at - weight.reach())));
    const auto last = std::min<index_t>(count - 1, static_cast<index_t>(std::floor(at + weight.reach())));
    double sum = 0;
    for (index_t k = first; k <= last; ++k) {
      sum += static_cast<double>(samples[static_cast<std::size_t>(k)]) * weight(static_cast<double>(k) - at);
    }
    out[i] = static_cast<float>(sum);
  }
  return out;
}

/// Noise of about unit power: white, or after one pole that is at `corner` of the sample rate (0: white). Each sample
/// adds up four even numbers, which is close to a normal one and has the same bits everywhere. Linear.
[[nodiscard]] inline std::vector<double> make_noise(std::size_t count, double corner, random_stream random) {
  std::vector<double> out(count);
  const double pole = corner > 0 ? std::exp(-2 * std::numbers::pi * corner) : 0;
  double last = 0;
  for (double& sample : out) {
    const std::uint64_t bits = random();
    double sum = -2;
    for (unsigned i = 0; i < 4; ++i) sum += static_cast<double>((bits >> (16 * i)) & 0xFFFFU) / 65535;
    last = pole * last + std::sqrt((1 - pole * pole) * 3) * sum;
    sample = last;
  }
  return out;
}

/// A filter as rooms and microphones are: the sound itself, turned over as often as not, and echoes within 4 ms that
/// fade; `size` is the root of the sum of their squares.
[[nodiscard]] inline std::vector<double> draw_filter(double size, index_t sample_rate, random_stream& random) {
  constexpr double reach_ms = 4, fades = 3;
  const auto count = static_cast<std::size_t>(std::max<index_t>(2, samples_in(reach_ms, sample_rate)));
  std::vector<double> taps = make_noise(count, 0, random_stream(random()));
  double squares = 0;
  for (std::size_t i = 1; i < count; ++i) {
    taps[i] *= std::exp(-fades * static_cast<double>(i) / static_cast<double>(count));
    squares += taps[i] * taps[i];
  }
  for (double& tap : taps) tap *= squares > 0 ? size / std::sqrt(squares) : 0;
  taps[0] = random.uniform() < 0.5 ? -1 : 1;
  return taps;
}

/// Samples through a filter, as many and as loud as before. Takes time linear in both.
[[nodiscard]] inline std::vector<float> filtered(std::span<const float> samples, std::span<const double> taps) {
  std::vector<float> out(samples.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < std::min(taps.size(), i + 1); ++k) {
      sum += taps[k] * static_cast<double>(samples[i - k]);
    }
    out[i] = static_cast<float>(sum);
  }
  const double before = detail::mean_square(samples), after = detail::mean_square(out);
  if (after > 0) {
    const double scale = std::sqrt(before / after);
    for (float& one : out) one = static_cast<float>(scale * static_cast<double>(one));
  }
  return out;
}

/// What was drawn for one recording.
struct augmentation {
  struct stretch {
    index_t begin = 0;
    index_t end = 0;
  };

  double speed = 1;
  std::vector<double> filter{};  ///< nothing: none
  index_t silence_before = 0;    ///< samples
  index_t silence_after = 0;
  double gain_db = 0;
  std::optional<double> snr_db{};  ///< nothing: no noise
  double noise_corner = 0;         ///< of `make_noise`
  random_stream noise{};
  std::vector<stretch> masks{};  ///< in the result; they may overlap

  /// Samples of what becomes of so many.
  [[nodiscard]] index_t length(index_t samples) const noexcept {
    return silence_before + samples_at_speed(samples, speed) + silence_after;
  }

  /// Does it: speed, filter, silence, gain, noise over all of it (by the power of the recording without that silence;
  /// one that is silent gets none), and at last the masks. Nothing is clipped. Linear.
  [[nodiscard]] std::vector<float> operator()(std::span<const float> samples) const {
    std::vector<float> heard = change_speed(samples, speed);
    if (!filter.empty()) heard = filtered(heard, filter);
    std::vector<float> out(static_cast<std::size_t>(length(static_cast<index_t>(samples.size()))));
    const double gain = std::pow(10, gain_db / 20);
    std::transform(heard.begin(), heard.end(), out.begin() + silence_before,
                   [&](float x) { return static_cast<float>(gain * static_cast<double>(x)); });
    const auto loud = std::span<const float>(out).subspan(static_cast<std::size_t>(silence_before), heard.size());
    if (snr_db) add_noise(detail::mean_square(loud) * std::pow(10, -*snr_db / 10), out);
    for (const stretch& mask : masks) std::fill(out.begin() + mask.begin, out.begin() + mask.end, 0.0f);
    return out;
  }

 private:
  /// Of just that power, whatever was drawn.
  void add_noise(double power, std::span<float> to) const {
    const std::vector<double> drawn = make_noise(to.size(), noise_corner, noise);
    double found = 0;
    for (const double x : drawn) found += x * x / static_cast<double>(drawn.size());
    if (found == 0) return;
    const double scale = std::sqrt(power / found);
    for (std::size_t i = 0; i < to.size(); ++i)
      to[i] = static_cast<float>(static_cast<double>(to[i]) + scale * drawn[i]);
  }
};

/// Draws what becomes of a recording of so many samples. The same state of `random` draws the same.
/// \throws config_error for options that make no sense
[[nodiscard]] inline augmentation draw_augmentation(const augment_options& options, index_t samples,
                                                    index_t sample_rate, random_stream& random) {
  options.validate();
  augmentation out;
  out.speed = number_range{1 - options.speed, 1 + options.speed}.draw(random);
  out.silence_before = samples_in(options.silence_before_ms.draw(random), sample_rate);
  out.silence_after = samples_in(options.silence_after_ms.draw(random), sample_rate);
  out.gain_db = options.gain_db.draw(random);
  const bool noisy = random.uniform() < options.noise_share, low = random.uniform() < options.low_noise_share;
  const double snr = options.snr_db.draw(random);
  if (noisy) out.snr_db = snr;
  constexpr double lowest = 1.0 / 80, octaves = 3;  // 100 to 800 Hz of 8 kHz
  const double octave = octaves * random.uniform();
  if (noisy && low) out.noise_corner = lowest * std::exp2(octave);
  out.noise = random_stream(random());
  if (options.filter > 0) out.filter = draw_filter(options.filter, sample_rate, random);
  const index_t length = out.length(samples), longest = samples_in(options.longest_mask_ms, sample_rate);
  const index_t masks = random.below(options.time_masks + 1);
  for (index_t i = 0; i < masks; ++i) {
    const index_t size = std::min(random.below(longest + 1), length);
    const index_t begin = random.below(length - size + 1);
    if (size > 0) out.masks.push_back({begin, begin + size});
  }
  return out;
}

}  // namespace runnel::train
