// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/scale_search.hpp>

namespace runnel::quant {

namespace detail {

/// 32 bytes of high bits, 64 bytes of low bits, 12 bytes of groups, d.
struct q3_k_layout {
  static constexpr weight_format format = weight_format::q3_k;
  static constexpr std::size_t block_bytes = 110;
  static constexpr std::size_t group_size = 16;
  static constexpr int zero_point = 4;
  static constexpr int largest = 7;
  static constexpr bool has_minimums = false;
  static constexpr bool nibbles = false;
  static constexpr int least_scale = -32;
  static constexpr int most_scale = 31;
  static constexpr std::size_t scale_offset = 108;
  using planes = bit_planes<2, 1>;
  using group_scale = std::int8_t;

  /// Scales are stored plus 32: low nibbles of groups g and g + 8 in byte g, the two bits above of g, g + 4, g + 8 and
  /// g + 12 in byte 8 + g.
  static group_scales<16> read_groups(const std::byte* block) noexcept {
    group_scales<16> out;
    for (std::size_t g = 0; g < 16; ++g) {
      const int low = static_cast<int>(block[96 + g % 8]) >> (g < 8 ? 0 : 4) & 15;
      const int high = static_cast<int>(block[104 + g % 4]) >> (2 * (g / 4)) & 3;
      out.scales[g] = (low | high << 4) - 32;
    }
    return out;
  }
  static void write_groups(const group_scales<16>& groups, std::byte* block) noexcept {
    for (std::size_t i = 0; i < 12; ++i) block[96 + i] = std::byte{0};
    for (std::size_t g = 0; g < 16; ++g) {
      const int scale = groups.scales[g] + 32;
      block[96 + g % 8] |= static_cast<std::byte>((scale & 15) << (g < 8 ? 0 : 4));
      block[104 + g % 4] |= static_cast<std::byte>((scale >> 4) << (2 * (g / 4)));
    }
  }

  static quads read_quants(const std::byte* block, std::size_t part) noexcept {
    quads out = read_bits<2>(block + 32, part);
    for (std::size_t i = 0; i < 8; ++i) out[i] |= (load_quad(block + 4 * i) >> part & four_of(1)) << 2;
    return out;
  }
  static void write_quants(const quads& all, std::size_t part, std::byte* block) noexcept {
    write_bits<2>(all, part, block + 32);
    for (std::size_t i = 0; i < 8; ++i) {
      const quad others = load_quad(block + 4 * i) & ~(four_of(1) << part);
      store_quad(block + 4 * i, others | (all[i] >> 2 & four_of(1)) << part);
    }
  }

  static float weight(float x, float mean_square) noexcept {
    return std::fabs(x) + 0.05f * std::sqrt(mean_square);  // so that zeros count too
  }
};

}  // namespace detail

/// Numbers of 3 bits, groups of 16 with a signed scale of 6 bits each: x = d s (q - 4).
struct q3_k_codec : detail::super_block_codec<detail::q3_k_layout> {
  /// By search, see quant/scale_search.hpp: some microseconds a block.
  static void encode(const float* values, std::byte* block) noexcept {
    detail::encode_super_block<detail::q3_k_layout>(values, block);
  }
};

}  // namespace runnel::quant
