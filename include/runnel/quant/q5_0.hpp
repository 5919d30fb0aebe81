// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include <runnel/quant/bit_planes.hpp>

namespace runnel::quant {

namespace detail {

/// The 32 quants of a 5-bit block: the fifth bits of all (input k at bit k), then nibbles as in 4-bit blocks.
[[nodiscard]] inline quads read_five_bits(const std::byte* bytes) noexcept {
  const quad fifth = load_quad(bytes);
  quads out;
  for (std::size_t i = 0; i < 8; ++i) {
    const quad pairs = load_quad(bytes + 4 + 4 * (i % 4));
    out[i] = ((i < 4 ? pairs : pairs >> 4) & four_of(15)) | (spread_bits(fifth >> (4 * i)) << 4);
  }
  return out;
}

/// The other way; `quant(k)` is input k's.
template <class Quant>
void write_five_bits(Quant&& quant, std::byte* bytes) noexcept {
  quad fifth = 0;
  for (std::size_t k = 0; k < 16; ++k) {
    const unsigned low = quant(k), high = quant(k + 16);
    fifth |= (low >> 4 << k) | (high >> 4 << (k + 16));
    bytes[4 + k] = static_cast<std::byte>((low & 15u) | (high & 15u) << 4);
  }
  store_quad(bytes, fifth);
}

}  // namespace detail

/// 32 numbers of 5 bits and one f16 scale: x = d (q - 16).
struct q5_0_codec {
  static constexpr weight_format format = weight_format::q5_0;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 22;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr int zero_point = 16;
  static constexpr int largest = 31;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = false;
  using planes = detail::bit_planes<4, 1>;
  static constexpr std::size_t panel_words = panel_features / 2 + planes::words;

  static void encode(const float* values, std::byte* block) noexcept {
    float extreme = 0;  // the value of largest magnitude, sign kept: it gets quant 0
    for (std::size_t k = 0; k < block_size; ++k) {
      if (std::fabs(values[k]) > std::fabs(extreme)) extreme = values[k];
    }
    const float scale = extreme / -16.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    detail::store_half(block, f16(scale));
    detail::write_five_bits(
        [&](std::size_t k) {
          return static_cast<unsigned>(std::max(0.0f, std::min(31.0f, values[k] * inverse + 16.5f)));
        },
        block + 2);
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    const auto all = detail::read_five_bits(block + 2);
    for (std::size_t k = 0; k < block_size; ++k) {
      values[k] = scale * static_cast<float>(static_cast<int>(detail::byte_of(all[k / 4], k % 4)) - zero_point);
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales(blocks, 0, words);
    for (std::size_t f = 0; f < panel_features; ++f) {
      planes::pack(detail::read_five_bits(blocks[f] + 2), words + panel_features / 2 + f);
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column, std::size_t) noexcept {
    return detail::load_scales<Arch>(words, column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return planes::bytes<Arch>(words + panel_features / 2 + column, at);
  }
};

}  // namespace runnel::quant
