// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/speech/initialize.hpp>

#include "support.hpp"

using namespace runnel;

namespace {

constexpr std::size_t outputs = 24, kernel = 160, rate = 8000;

/// What the kernels make of a tone in the middle of them.
std::vector<double> responses(const std::vector<float>& kernels, double hertz, double phase) {
  std::vector<double> out(outputs);
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t k = 0; k < kernel; ++k) {
      const double at = static_cast<double>(k) / static_cast<double>(rate);
      out[o] += static_cast<double>(kernels[o * kernel + k]) * std::sin(2 * std::numbers::pi * hertz * at + phase);
    }
  }
  return out;
}

/// The pitch that a tone's first kernel answers most to.
double pitch_of(const std::vector<float>& kernels, std::size_t tone) {
  double best = 0, at = 0;
  for (double hertz = 20; hertz < 4000; hertz += 10) {
    const double sine = responses(kernels, hertz, 0)[4 * tone], cosine = responses(kernels, hertz, 1.5708)[4 * tone];
    if (std::hypot(sine, cosine) > best) {
      best = std::hypot(sine, cosine);
      at = hertz;
    }
  }
  return at;
}

}  // namespace

TEST_CASE("a random encoder begins with tones at four phases, further apart the higher") {
  const auto kernels = speech::detail::encoder_dice(1, rate).tones(outputs, kernel);
  REQUIRE(kernels.size() == outputs * kernel);
  std::vector<double> pitches;
  for (std::size_t tone = 0; tone < outputs / 4; ++tone) {
    CAPTURE(tone);
    for (std::size_t k = 0; k < kernel; ++k) {
      CHECK(kernels[4 * tone * kernel + k] == doctest::Approx(-kernels[(4 * tone + 2) * kernel + k]).epsilon(1e-4));
    }
    pitches.push_back(pitch_of(kernels, tone));
    // What is left of the four after cutting off what is negative hardly depends on where the sound stands.
    double least = 1e9, most = 0;
    for (double phase = 0; phase < 6.3; phase += 0.1) {
      const auto found = responses(kernels, pitches.back(), phase);
      double sum = 0;
      for (std::size_t p = 0; p < 4; ++p) sum += std::max(0.0, found[4 * tone + p]);
      least = std::min(least, sum);
      most = std::max(most, sum);
    }
    CHECK(most < 1.6 * least);
    CHECK(least > 0);
  }
  CHECK(pitches.front() > 60);
  CHECK(pitches.back() < 3800);
  for (std::size_t i = 2; i < pitches.size(); ++i) {
    CHECK(pitches[i] - pitches[i - 1] > pitches[i - 1] - pitches[i - 2]);
  }
}

TEST_CASE("a random encoder adds up the phases of a tone and little else") {
  const std::size_t inputs = outputs, width = 3, rows = 10;
  std::vector<float> weights(rows * inputs * width, 0.1f);
  speech::detail::encoder_dice::add_up_phases(weights, rows, inputs, width);
  const auto each = static_cast<float>(std::sqrt(2.0 / 12));
  for (std::size_t o = 0; o < rows; ++o) {
    for (std::size_t i = 0; i < inputs * width; ++i) {
      const float expected = o >= inputs / 4 ? 0.1f : i / width / 4 == o ? 0.03f + each : 0.03f;
      CHECK(weights[o * inputs * width + i] == doctest::Approx(expected));
    }
  }
}

TEST_CASE("a random encoder has the filter bank, keeps its linear maps as asked, and is the same for a seed") {
  const auto config = speech::read_encoder_config(tests::speech_golden("stable"));
  const auto width = static_cast<std::size_t>(config.convs.front().kernel);
  const auto kernel_5 = [&](const speech::encoder& of) {
    std::vector<float> row(width);
    of.weights().front_end.layers.front().weight.decode_row(5, row);
    return row;
  };
  const auto tones = speech::detail::encoder_dice(1, config.sample_rate)
                         .tones(static_cast<std::uint64_t>(config.convs.front().outputs), width);
  const std::vector<float> expected(tones.begin() + static_cast<std::ptrdiff_t>(5 * width),
                                    tones.begin() + static_cast<std::ptrdiff_t>(6 * width));
  for (const auto format : {quant::weight_format::f32, quant::weight_format::f16, quant::weight_format::bf16}) {
    const auto made = speech::random_encoder(config, 3, format);
    CHECK(made.weights().layers.front().mlp.up.weight.format() == format);
    CHECK(kernel_5(made) == expected);
  }
  CHECK_THROWS_AS(static_cast<void>(speech::random_encoder(config, 3, quant::weight_format::q8_0)), config_error);
}
