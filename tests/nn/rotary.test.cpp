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
  struct value {
    int made_by = 0;
    [[nodiscard]] value slice(index_t, index_t) const { return *this; }
  };
  std::vector<std::string> names;

  value operator()(const ops::product&, value, const auto&, const auto&) { return note("product", 1); }
  value operator()(const ops::gated_product&, value, const auto&, const auto&) { return note("gated_product", 2); }
  value operator()(const ops::rms_norm&, value, const auto&) { return note("rms_norm", 3); }
  value operator()(const ops::gated_activation&, value, value) { return note("gated_activation", 4); }
  value operator()(const ops::add_low_rank&, value, value, const auto&) { return note("add_low_rank", 5); }
  std::array<value, 2> operator()(const ops::products&, value, const auto&, const auto&) {
    return {note("products", 6), {6}};
  }

 private:
  value note(const char* name, int made_by) {
    names.emplace_back(name);
    return {made_by};
  }
};
struct parameters {
  struct matrix {
    index_t rows = 0;
    [[nodiscard]] index_t outputs() const { return rows; }
  };
  struct vector {
    index_t length = 0;
    [[nodiscard]] index_t size() const { return length; }
  };
};

TEST_CASE("modules are generic over the context: each names its ops") {
  recorder context;
  const nn::gated_mlp<parameters> mlp{};
  CHECK(mlp(context, {}, std::span<const nn::adapted_rows<parameters>>{}, 0).made_by == 1);
  CHECK(nn::rms_norm<parameters>{{8}}(context, {}).made_by == 3);
  CHECK(nn::rms_norm<parameters>{}(context, {7}).made_by == 7);  // no weight, no norm
  CHECK(context.names == std::vector<std::string>{"gated_product", "product", "rms_norm"});
}

TEST_CASE("an adapter of the gate takes the fused product apart") {
  recorder context;
  nn::adapter<parameters> changes;
  changes.layers.resize(1);
  changes.layers[0][static_cast<std::size_t>(nn::adapted_module::gate)].down.rows = 4;
  const nn::active_adapter<parameters> active[] = {{&changes, 1}};
  const nn::adapted_rows<parameters> rows[] = {{0, 1, active}};
  const nn::gated_mlp<parameters> mlp{};
  CHECK(mlp(context, {}, std::span<const nn::adapted_rows<parameters>>(rows), 0).made_by == 1);
  CHECK(context.names == std::vector<std::string>{"products", "add_low_rank", "gated_activation", "product"});
}

}  // namespace
