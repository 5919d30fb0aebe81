// SPDX-License-Identifier: Apache-2.0
#include <runnel/nn/rotary.hpp>

#include <doctest/doctest.h>

#include <cmath>

#include <runnel/nn/decoder_layer.hpp>

namespace {

using namespace runnel;
using nn::rope_scaling;
using nn::rotary_config;

rotary_config plain(index_t dimension, double theta = 10000) {
  rotary_config config;
  config.dimension = dimension;
  config.theta = theta;
  return config;
}

TEST_CASE("frequencies fall from 1 in equal ratios") {
  const auto frequencies = nn::rotary_frequencies(plain(64));
  REQUIRE(frequencies.size() == 32);
  CHECK(frequencies[0] == 1);
  CHECK(frequencies[8] == doctest::Approx(0.1).epsilon(1e-14));
  CHECK(frequencies[16] == doctest::Approx(0.01).epsilon(1e-14));
}

TEST_CASE("linear scaling divides all of them") {
  auto config = plain(16);
  config.scaling = rope_scaling::linear;
  config.factor = 4;
  const auto before = nn::rotary_frequencies(plain(16)), after = nn::rotary_frequencies(config);
  for (std::size_t i = 0; i < 8; ++i) CHECK(after[i] == before[i] / 4);
}

TEST_CASE("llama3 scaling keeps fast turns, divides slow ones, blends between") {
  auto config = plain(128, 500000);
  config.scaling = rope_scaling::llama3;
  config.factor = 8;
  config.low_frequency_factor = 1;
  config.high_frequency_factor = 4;
  config.original_context = 8192;
  const auto before = nn::rotary_frequencies(plain(128, 500000)), after = nn::rotary_frequencies(config);
  int kept = 0, blended = 0, divided = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    const double wavelength = 2 * std::numbers::pi / before[i];
    const double ratio = before[i] / after[i];
    if (wavelength < 8192.0 / 4) {
      CHECK(ratio == 1);
      ++kept;
    } else if (wavelength > 8192.0) {
      CHECK(ratio == doctest::Approx(8).epsilon(1e-14));
      ++divided;
    } else {
      const double smooth = (8192 / wavelength - 1) / 3;
      CHECK(after[i] == doctest::Approx((1 - smooth) * before[i] / 8 + smooth * before[i]).epsilon(1e-14));
      ++blended;
    }
  }
  CHECK((kept > 0 && blended > 0 && divided > 0));
}

TEST_CASE("stored divisors stand in place of a formula") {
  auto config = plain(4);
  config.scaling = rope_scaling::linear;
  config.factor = 100;
  config.frequency_divisors = {1, 2};
  const auto frequencies = nn::rotary_frequencies(config);
  CHECK(frequencies[0] == 1);
  CHECK(frequencies[1] == doctest::Approx(0.005));
}

TEST_CASE("settings that make no sense are refused") {
  CHECK_THROWS_AS((void)nn::rotary_frequencies(plain(0)), config_error);
  CHECK_THROWS_AS((void)nn::rotary_frequencies(plain(7)), config_error);
  CHECK_THROWS_AS((void)nn::rotary_frequencies(plain(-2)), config_error);
  CHECK_THROWS_AS((void)nn::rotary_frequencies(plain(8, 0)), config_error);
  CHECK_THROWS_AS((void)nn::rotary_frequencies(plain(8, std::nan(""))), config_error);
  auto config = plain(8);
  config.scaling = rope_scaling::linear;
  config.factor = 0;
  CHECK_THROWS_AS((void)nn::rotary_frequencies(config), config_error);
  config.factor = 2;
  config.scaling = rope_scaling::llama3;
  config.low_frequency_factor = config.high_frequency_factor = 4;
  CHECK_THROWS_AS((void)nn::rotary_frequencies(config), config_error);
  config = plain(8);
  config.frequency_divisors = {1, 2, 3};
  CHECK_THROWS_AS((void)nn::rotary_frequencies(config), config_error);
}

// A context that only writes down which ops ran; nothing in a module may need more.
struct recorder {
  using value = int;
  std::vector<std::string> names;
  int operator()(const ops::product&, int, int, int) { return names.emplace_back("product"), 1; }
  int operator()(const ops::gated_product&, int, const auto&, const auto&) {
    return names.emplace_back("gated_product"), 2;
  }
  int operator()(const ops::rms_norm&, int, int) { return names.emplace_back("rms_norm"), 3; }
};
struct parameters {
  using matrix = int;
  using vector = int;
};

TEST_CASE("modules are generic over the context: each names its ops") {
  recorder context;
  CHECK(nn::gated_mlp<parameters>{}(context, 0) == 1);
  CHECK(nn::rms_norm<parameters>{}(context, 0) == 3);
  CHECK(context.names == std::vector<std::string>{"gated_product", "product", "rms_norm"});
}

}  // namespace
