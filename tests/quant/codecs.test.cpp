// SPDX-License-Identifier: Apache-2.0
#include <runnel/quant/codecs.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <runnel/kernels/product.hpp>

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

/// Whether values have one right encoding; those of other formats are searched for.
bool has_one_encoding(weight_format format) { return format != weight_format::iq4_nl && info(format).block_size <= 32; }

TEST_CASE("codecs agree with gguf-py bit for bit, both ways") {
  const auto values = read_floats("values.bin");
  REQUIRE(values.size() == 25 * 32);
  for (const auto& format : all_formats) {
    if (format.format == weight_format::f32) continue;
    const std::string name(format.name);
    CAPTURE(name);
    const auto expected = read_bytes(name + ".bin");
    if (has_one_encoding(format.format)) {
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
      std::vector<float> values(256, 0.5f);
      values[7] = odd;
      std::vector<std::byte> bytes(256 / format.block_size * format.block_bytes);
      encode(format.format, values.data(), 256, bytes.data());
      std::vector<float> tiny(256, odd == odd && std::fabs(odd) < 1 ? odd : 0.0f);  // inverse scales overflow here
      encode(format.format, tiny.data(), 256, bytes.data());
      std::vector<float> back(256);
      decode(format.format, bytes.data(), 256, back.data());
      for (const float value : back) CHECK(std::fabs(value) < 1e-30f);
    }
  }
}

/// Where a block's f16 scale is; a minimum follows it.
template <class Codec>
constexpr std::size_t scale_offset() {
  switch (Codec::format) {
    case weight_format::q2_k: return 80;
    case weight_format::q3_k: return 108;
    case weight_format::q6_k: return 208;
    default: return 0;
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
      constexpr std::size_t at = scale_offset<Codec>();
      quant::detail::store_half(out.data() + f * size + at, f16::from_bits(bits));
      if constexpr (Codec::has_minimums) {
        quant::detail::store_half(out.data() + f * size + at + 2,
                                  f16::from_bits(f < 8 ? special[7 - f] : f16(-0.25f).bits));
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
      if constexpr (decodes_lanes<Codec>) {
        std::array<float, Codec::panel_inputs> back;
        Codec::unpack(words.data(), f, back.data());
        CHECK(std::memcmp(back.data(), plain[f].data(), count * sizeof(float)) == 0);
        for (std::size_t k = count; k < Codec::panel_inputs; ++k) CHECK(back[k] == 0);
      }
    }
    tests::for_each_arch([&]<class Arch>(Arch) {
      const auto codec = kernels::detail::find_panel_codec<Arch>(Codec::format);
      alignas(64) std::array<float, Codec::panel_inputs * panel_features> lanes;
      lanes.fill(12345);
      kernels::detail::decode_inputs<Arch>(codec, words.data(), 0, static_cast<index_t>(count), lanes.data());
      for (std::size_t f = 0; f < panel_features; ++f) {
        for (std::size_t k = 0; k < count; ++k) {
          const float found = lanes[k * panel_features + f], expected = plain[f][k];
          if (std::isnan(expected)) {
            CHECK(std::isnan(found));
          } else {
            CHECK(std::bit_cast<std::uint32_t>(found) == std::bit_cast<std::uint32_t>(expected));
          }
        }
        for (std::size_t k = count; k < Codec::panel_inputs; ++k) CHECK(lanes[k * panel_features + f] == 12345);
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
  CHECK(error(weight_format::q5_0) < 0.3);
  CHECK(error(weight_format::q5_1) < 0.15);
}

TEST_CASE("searched encodings come close to what their bits allow") {
  random_stream random(3);
  // Relative error of normal values, root mean square: what was measured, and a tenth more.
  const std::pair<weight_format, double> bounds[] = {{weight_format::q2_k, 0.31},   {weight_format::q3_k, 0.165},
                                                     {weight_format::q4_k, 0.075},  {weight_format::q5_k, 0.038},
                                                     {weight_format::q6_k, 0.0185}, {weight_format::iq4_nl, 0.082}};
  for (const auto& bounded : bounds) {
    const weight_format format = bounded.first;
    CAPTURE(std::string(info(format).name));
    for (const double scale : {1e-3, 1.0, 50.0}) {
      for (const float shift : {0.0f, 3.0f}) {  // far from zero, where minimums would help if they were not negative
        auto values = tests::normals<float>(random, 256 * 40, scale);
        for (float& value : values) value -= shift * static_cast<float>(scale);
        if (shift != 0 && format != weight_format::q4_k && format != weight_format::q5_k) continue;
        std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_for(format, values.size())));
        std::vector<float> back(values.size());
        encode(format, values.data(), values.size(), bytes.data());
        decode(format, bytes.data(), values.size(), back.data());
        double off = 0, all = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double difference = static_cast<double>(back[i]) - static_cast<double>(values[i]);
          off += difference * difference;
          all += scale * scale;
        }
        CHECK(std::sqrt(off / all) < bounded.second * (shift != 0 ? 1.2 : 1));
      }
    }
  }
}

TEST_CASE("what a format can hold exactly is found again") {
  random_stream random(4);
  for (const auto format : {weight_format::q2_k, weight_format::q3_k, weight_format::q4_k, weight_format::q5_k,
                            weight_format::q6_k, weight_format::iq4_nl}) {
    CAPTURE(std::string(info(format).name));
    const std::vector<float> zeros(256, 0.0f);
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_for(format, 256)), std::byte{0x55});
    std::vector<float> back(256, 1.0f);
    encode(format, zeros.data(), 256, bytes.data());
    decode(format, bytes.data(), 256, back.data());
    for (const float value : back) CHECK(value == 0);
    // One level beside zero in every group.
    std::vector<float> two(256, 0.0f);
    for (float& value : two) value = random.below(2) == 1 ? -0.25f : 0.0f;
    encode(format, two.data(), 256, bytes.data());
    decode(format, bytes.data(), 256, back.data());
    for (std::size_t i = 0; i < 256; ++i) CHECK(std::fabs(back[i] - two[i]) <= 0.003f);
  }
}

}  // namespace
