// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/scale_search.hpp>

namespace runnel::quant {

namespace detail {

/// 16 bytes of groups (scale in the low nibble), 64 bytes of quants, d, e.
struct q2_k_layout {
  static constexpr weight_format format = weight_format::q2_k;
  static constexpr std::size_t block_bytes = 84;
  static constexpr std::size_t group_size = 16;
  static constexpr int zero_point = 0;
  static constexpr int largest = 3;
  static constexpr bool has_minimums = true;
  static constexpr bool nibbles = true;
  static constexpr int least_scale = 0;
  static constexpr int most_scale = 15;
  static constexpr std::size_t scale_offset = 80;
  using planes = bit_planes<2, 0>;
  using group_scale = std::uint8_t;

  static group_scales<16> read_groups(const std::byte* block) noexcept {
    group_scales<16> out;
    for (std::size_t g = 0; g < 16; ++g) {
      out.scales[g] = static_cast<int>(block[g]) & 15;
      out.minimums[g] = static_cast<int>(block[g]) >> 4;
    }
    return out;
  }
  static void write_groups(const group_scales<16>& groups, std::byte* block) noexcept {
    for (std::size_t g = 0; g < 16; ++g) block[g] = static_cast<std::byte>(groups.scales[g] | groups.minimums[g] << 4);
  }

  static quads read_quants(const std::byte* block, std::size_t part) noexcept { return read_bits<2>(block + 16, part); }
  static void write_quants(const quads& all, std::size_t part, std::byte* block) noexcept {
    write_bits<2>(all, part, block + 16);
  }

  static float weight(float x, float mean_square) noexcept {
    return std::fabs(x) + 0.05f * std::sqrt(mean_square);  // so that zeros count too
  }
};

}  // namespace detail

/// Numbers of 2 bits, groups of 16 with a scale and a minimum of 4 bits each: x = d s q - e m.
struct q2_k_codec : detail::super_block_codec<detail::q2_k_layout> {
  /// By search, see quant/scale_search.hpp: some microseconds a block.
  static void encode(const float* values, std::byte* block) noexcept {
    detail::encode_super_block<detail::q2_k_layout>(values, block);
  }
};

}  // namespace runnel::quant
