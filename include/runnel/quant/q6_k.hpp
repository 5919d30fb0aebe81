// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/scale_search.hpp>

namespace runnel::quant {

namespace detail {

/// 128 bytes of low bits, 64 bytes of high bits, 16 signed bytes of groups, d.
struct q6_k_layout {
  static constexpr weight_format format = weight_format::q6_k;
  static constexpr std::size_t block_bytes = 210;
  static constexpr std::size_t group_size = 16;
  static constexpr int zero_point = 32;
  static constexpr int largest = 63;
  static constexpr bool has_minimums = false;
  static constexpr bool nibbles = false;
  static constexpr int least_scale = -128;
  static constexpr int most_scale = 127;
  static constexpr std::size_t scale_offset = 208;
  using planes = bit_planes<4, 2>;
  using group_scale = std::int8_t;

  static group_scales<16> read_groups(const std::byte* block) noexcept {
    group_scales<16> out;
    for (std::size_t g = 0; g < 16; ++g) out.scales[g] = static_cast<std::int8_t>(block[192 + g]);
    return out;
  }
  static void write_groups(const group_scales<16>& groups, std::byte* block) noexcept {
    for (std::size_t g = 0; g < 16; ++g) block[192 + g] = static_cast<std::byte>(groups.scales[g]);
  }

  /// Of each 128 inputs, parts 0 and 1 are the low nibbles of 32 bytes each, parts 2 and 3 the high ones.
  static quads read_quants(const std::byte* block, std::size_t part) noexcept {
    quads out = read_bits<2>(block + 128, part);
    const std::byte* low = block + part / 4 * 64 + part % 2 * 32;
    for (std::size_t i = 0; i < 8; ++i) {
      out[i] = out[i] << 4 | (load_quad(low + 4 * i) >> (part % 4 < 2 ? 0 : 4) & four_of(15));
    }
    return out;
  }
  static void write_quants(const quads& all, std::size_t part, std::byte* block) noexcept {
    quads high;
    std::byte* low = block + part / 4 * 64 + part % 2 * 32;
    const int shift = part % 4 < 2 ? 0 : 4;
    for (std::size_t i = 0; i < 8; ++i) {
      high[i] = all[i] >> 4;
      store_quad(low + 4 * i, (load_quad(low + 4 * i) & ~(four_of(15) << shift)) | (all[i] & four_of(15)) << shift);
    }
    write_bits<2>(high, part, block + 128);
  }

  static float weight(float, float) noexcept { return 1.0f; }
};

}  // namespace detail

/// Numbers of 6 bits, groups of 16 with a signed scale of 8 bits each: x = d s (q - 32).
struct q6_k_codec : detail::super_block_codec<detail::q6_k_layout> {
  /// By search, see quant/scale_search.hpp: some microseconds a block.
  static void encode(const float* values, std::byte* block) noexcept {
    detail::encode_super_block<detail::q6_k_layout>(values, block);
  }
};

}  // namespace runnel::quant
