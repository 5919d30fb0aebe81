// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include <runnel/quant/panel.hpp>

namespace runnel::quant {

/// 32 nibbles and one f16 scale: x = d (q - 8).
struct q4_0_codec {
  static constexpr weight_format format = weight_format::q4_0;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 18;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr std::size_t panel_words = panel_features / 2 + 4 * panel_features;
  static constexpr int zero_point = 8;
  static constexpr int largest = 15;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = false;

  static void encode(const float* values, std::byte* block) noexcept {
    float extreme = 0;  // the value of largest magnitude, sign kept: it gets quant 0
    for (std::size_t k = 0; k < block_size; ++k) {
      if (std::fabs(values[k]) > std::fabs(extreme)) extreme = values[k];
    }
    const float scale = extreme / -8.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    detail::store_half(block, f16(scale));
    const auto quant = [&](std::size_t k) {
      return static_cast<unsigned>(std::max(0.0f, std::min(15.0f, values[k] * inverse + 8.5f)));
    };
    for (std::size_t k = 0; k < 16; ++k) block[2 + k] = static_cast<std::byte>(quant(k) | quant(k + 16) << 4);
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    for (std::size_t k = 0; k < 16; ++k) {
      const auto pair = static_cast<unsigned>(block[2 + k]);
      values[k] = scale * static_cast<float>(static_cast<int>(pair & 15u) - 8);
      values[k + 16] = scale * static_cast<float>(static_cast<int>(pair >> 4) - 8);
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales(blocks, 0, words);
    detail::pack_nibbles(blocks, 2, words + panel_features / 2);
  }

  static void unpack(const word* words, std::size_t feature, float* values) noexcept {
    const auto scale = static_cast<float>(detail::unpack_scale(words, feature));
    for (std::size_t k = 0; k < block_size; ++k) {
      values[k] = scale * static_cast<float>(detail::unpack_nibble(words + panel_features / 2, feature, k) - 8);
    }
  }

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t, Emit&& emit) noexcept {
    using ints = simd::lanes<word, Arch>;
    const auto scale = detail::load_scales<Arch>(words, column);
    const word* quants = words + panel_features / 2 + column;
    for (std::size_t w = 0; w < 4; ++w) {
      const ints eight = detail::load_words<Arch>(quants + w * panel_features);
      RUNNEL_UNROLL for (std::size_t i = 0; i < 8; ++i) {
        const ints quant = (eight >> detail::nibble_shift(i)) & ints(15);
        emit(8 * w + i, scale * xsimd::to_float(quant - ints(8)));
      }
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column, std::size_t) noexcept {
    return detail::load_scales<Arch>(words, column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return detail::load_nibbles<Arch>(words + panel_features / 2 + column, at);
  }
};

}  // namespace runnel::quant
