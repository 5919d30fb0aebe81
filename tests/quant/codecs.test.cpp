// SPDX-License-Identifier: Apache-2.0
#include <runnel/quant/codecs.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using namespace runnel::quant;

std::vector<std::byte> read_bytes(const std::string& name) {
  std::ifstream in(std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "quant" / name, std::ios::binary);
  REQUIRE(in.good());
  std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span<const char>(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<float> read_floats(const std::string& name) {
  const auto bytes = read_bytes(name);
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST_CASE("codecs agree with gguf-py bit for bit, both ways") {
  const auto values = read_floats("values.bin");
  REQUIRE(values.size() == 25 * 32);
  for (const auto& format : all_formats) {
    if (format.format == weight_format::f32) continue;
    const std::string name(format.name);
    CAPTURE(name);
    const auto expected = read_bytes(name + ".bin");
    std::vector<std::byte> encoded(static_cast<std::size_t>(bytes_for(format.format, values.size())));
    encode(format.format, values.data(), values.size(), encoded.data());
    REQUIRE(encoded.size() <= expected.size());
    for (std::size_t b = 0; b * 32 < values.size(); ++b) {
      CAPTURE(b);
      const std::size_t size = 32 / format.block_size * format.block_bytes;
      CHECK(std::equal(encoded.begin() + static_cast<std::ptrdiff_t>(b * size),
                       encoded.begin() + static_cast<std::ptrdiff_t>((b + 1) * size),
                       expected.begin() + static_cast<std::ptrdiff_t>(b * size)));
    }
    const auto decoded = read_floats(name + ".decoded.bin");
    std::vector<float> found(decoded.size());
    REQUIRE(bytes_for(format.format, found.size()) == expected.size());
    decode(format.format, expected.data(), found.size(), found.data());
    CHECK(tests::same_bits(found, decoded));
  }
}

TEST_CASE("f32 passes through, NaN and all") {
  const std::vector<float> values{1.5f, -0.0f, std::numeric_limits<float>::quiet_NaN(), 1e-45f};
  std::vector<std::byte> bytes(16);
  encode(weight_format::f32, values.data(), 4, bytes.data());
  std::vector<float> back(4);
  decode(weight_format::f32, bytes.data(), 4, back.data());
  CHECK(tests::same_bits(back, values));
}

TEST_CASE("values that no block can hold still give defined bytes") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const auto& format : all_formats) {
    for (const float odd : {inf, -inf, std::numeric_limits<float>::quiet_NaN(), 1e-40f, -1e-40f, 3e38f, -3e38f}) {
      std::vector<float> values(32, 0.5f);
      values[7] = odd;
      std::vector<std::byte> bytes(32 / format.block_size * format.block_bytes);
      encode(format.format, values.data(), 32, bytes.data());
      std::vector<float> tiny(32, odd == odd && std::fabs(odd) < 1 ? odd : 0.0f);  // inverse scales overflow here
      encode(format.format, tiny.data(), 32, bytes.data());
      std::vector<float> back(32);
      decode(format.format, bytes.data(), 32, back.data());
      for (const float value : back) CHECK(std::fabs(value) < 1e-30f);
    }
  }
}

/// Blocks of `Codec` for 32 features: what gguf holds there, random quants, and special scales.
template <class Codec>
std::vector<std::byte> random_blocks(random_stream& random) {
  constexpr std::size_t size = Codec::panel_inputs / Codec::block_size * Codec::block_bytes;
  std::vector<std::byte> out(panel_features * size);
  for (auto& byte : out) byte = static_cast<std::byte>(random.below(256));
  if constexpr (Codec::block_size > 1) {
    for (std::size_t f = 0; f < panel_features; ++f) {
      const std::uint16_t special[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
      const auto bits = f < 8 ? special[f] : f16(static_cast<float>(random.uniform() - 0.5)).bits;
      quant::detail::store_half(out.data() + f * size, f16::from_bits(bits));
      if (Codec::format == weight_format::q4_1) {
        quant::detail::store_half(out.data() + f * size + 2, f16::from_bits(f < 8 ? special[7 - f] : f16(-0.25f).bits));
      }
    }
  }
  return out;
}

template <class Codec>
void check_panel(random_stream& random) {
  constexpr std::size_t size = Codec::panel_inputs / Codec::block_size * Codec::block_bytes;
  const auto bytes = random_blocks<Codec>(random);
  feature_blocks blocks;
  for (std::size_t f = 0; f < panel_features; ++f) blocks[f] = bytes.data() + f * size;
  for (std::size_t count = Codec::panel_inputs == 2 ? 1 : Codec::panel_inputs; count <= Codec::panel_inputs; ++count) {
    alignas(64) std::array<word, Codec::panel_words> words;
    words.fill(0x55555555);
    Codec::pack(blocks, count, words.data());
    std::array<std::array<float, Codec::panel_inputs>, panel_features> plain;
    for (std::size_t f = 0; f < panel_features; ++f) {
      decode(Codec::format, blocks[f], Codec::panel_inputs, plain[f].data());
      std::array<float, Codec::panel_inputs> back;
      Codec::unpack(words.data(), f, back.data());
      CHECK(std::memcmp(back.data(), plain[f].data(), count * sizeof(float)) == 0);
      for (std::size_t k = count; k < Codec::panel_inputs; ++k) CHECK(back[k] == 0);
    }
    tests::for_each_arch([&]<class Arch>(Arch) {
      constexpr std::size_t width = simd::width<float, Arch>;
      for (std::size_t column = 0; column < panel_features; column += width) {
        std::size_t next = 0;
        Codec::template decode_lanes<Arch>(
            words.data(), column, count, [&](std::size_t k, const simd::lanes<float, Arch>& w) {
              CHECK(k == next++);
              alignas(64) std::array<float, width> lanes;
              w.store_aligned(lanes.data());
              for (std::size_t i = 0; i < width; ++i) {
                const float expected = plain[column + i][k];
                if (std::isnan(expected)) {
                  CHECK(std::isnan(lanes[i]));
                } else {
                  CHECK(std::bit_cast<std::uint32_t>(lanes[i]) == std::bit_cast<std::uint32_t>(expected));
                }
              }
            });
        CHECK(next == count);
      }
    });
  }
}

TEST_CASE("panels give back what blocks decode to, in memory order and in registers") {
  random_stream random(1);
  for (int turn = 0; turn < 5; ++turn) {
    for (const auto& format : all_formats) {
      CAPTURE(std::string(format.name));
      with_codec(format.format, [&]<class Codec>(Codec) {
        static_assert(Codec::block_size == info(Codec::format).block_size);
        static_assert(Codec::block_bytes == info(Codec::format).block_bytes);
        check_panel<Codec>(random);
      });
    }
  }
}

TEST_CASE("encoding loses no more than a format must") {
  random_stream random(2);
  const auto values = tests::normals<float>(random, 32 * 100);
  const auto error = [&](weight_format format) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_for(format, values.size())));
    std::vector<float> back(values.size());
    encode(format, values.data(), values.size(), bytes.data());
    decode(format, bytes.data(), values.size(), back.data());
    double most = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      most = std::max(most, std::fabs(static_cast<double>(values[i]) - static_cast<double>(back[i])));
    }
    return most;
  };
  CHECK(error(weight_format::f32) == 0);
  CHECK(error(weight_format::f16) < 0.002);
  CHECK(error(weight_format::bf16) < 0.02);
  CHECK(error(weight_format::q8_0) < 0.02);
  CHECK(error(weight_format::q4_0) < 0.6);
  CHECK(error(weight_format::q4_1) < 0.3);
}

}  // namespace
