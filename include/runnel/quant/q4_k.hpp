// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/scale_search.hpp>

namespace runnel::quant {

namespace detail {

/// d, e, 12 bytes of groups, 128 bytes of quants.
struct q4_k_layout {
  static constexpr weight_format format = weight_format::q4_k;
  static constexpr std::size_t block_bytes = 144;
  static constexpr std::size_t group_size = 32;
  static constexpr int zero_point = 0;
  static constexpr int largest = 15;
  static constexpr bool has_minimums = true;
  static constexpr bool nibbles = false;
  static constexpr int least_scale = 0;
  static constexpr int most_scale = 63;
  static constexpr std::size_t scale_offset = 0;
  using planes = bit_planes<4, 0>;
  using group_scale = std::uint8_t;

  static group_scales<8> read_groups(const std::byte* block) noexcept { return read_six_bit_groups(block + 4); }
  static void write_groups(const group_scales<8>& groups, std::byte* block) noexcept {
    write_six_bit_groups(groups, block + 4);
  }

  static quads read_quants(const std::byte* block, std::size_t part) noexcept { return read_bits<4>(block + 16, part); }
  static void write_quants(const quads& all, std::size_t part, std::byte* block) noexcept {
    write_bits<4>(all, part, block + 16);
  }

  static float weight(float x, float mean_square) noexcept { return std::sqrt(mean_square) + std::fabs(x); }
};

}  // namespace detail

/// Numbers of 4 bits, groups of 32 with a scale and a minimum of 6 bits each: x = d s q - e m.
struct q4_k_codec : detail::super_block_codec<detail::q4_k_layout> {
  /// By search, see quant/scale_search.hpp: some microseconds a block.
  static void encode(const float* values, std::byte* block) noexcept {
    detail::encode_super_block<detail::q4_k_layout>(values, block);
  }
};

}  // namespace runnel::quant
