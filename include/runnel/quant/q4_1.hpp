// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include <runnel/quant/panel.hpp>

namespace runnel::quant {

/// 32 nibbles, one f16 scale and one f16 minimum: x = d q + m.
struct q4_1_codec : detail::paired_scales {
  static constexpr weight_format format = weight_format::q4_1;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 20;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr std::size_t panel_words = panel_features + 4 * panel_features;
  static constexpr int zero_point = 0;
  static constexpr int largest = 15;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = true;

  static void encode(const float* values, std::byte* block) noexcept {
    const auto [least, most] = std::minmax_element(values, values + block_size);
    const float scale = (*most - *least) / 15.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    const float minimum = *least;
    detail::store_half(block, f16(scale));
    detail::store_half(block + 2, f16(minimum));
    const auto quant = [&](std::size_t k) {
      return static_cast<unsigned>(std::max(0.0f, std::min(15.0f, (values[k] - minimum) * inverse + 0.5f)));
    };
    for (std::size_t k = 0; k < 16; ++k) block[4 + k] = static_cast<std::byte>(quant(k) | quant(k + 16) << 4);
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    const auto minimum = static_cast<float>(f16::from_bits(detail::load_half(block + 2)));
    for (std::size_t k = 0; k < 16; ++k) {
      const auto pair = static_cast<unsigned>(block[4 + k]);
      values[k] = scale * static_cast<float>(pair & 15u) + minimum;  // the product is exact, fused or not
      values[k + 16] = scale * static_cast<float>(pair >> 4) + minimum;
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales_and_minimums(blocks, 0, words);
    detail::pack_nibbles(blocks, 4, words + panel_features);
  }

  static void unpack(const word* words, std::size_t feature, float* values) noexcept {
    const auto [scale, minimum] = detail::unpack_scale_and_minimum(words, feature);
    for (std::size_t k = 0; k < block_size; ++k) {
      values[k] = scale * static_cast<float>(detail::unpack_nibble(words + panel_features, feature, k)) + minimum;
    }
  }

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t, Emit&& emit) noexcept {
    using ints = simd::lanes<word, Arch>;
    const auto scale = scales<Arch>(words, column, 0);
    const auto minimum = minimums<Arch>(words, column, 0);
    const word* quants = words + panel_features + column;
    for (std::size_t w = 0; w < 4; ++w) {
      const ints eight = detail::load_words<Arch>(quants + w * panel_features);
      RUNNEL_UNROLL for (std::size_t i = 0; i < 8; ++i) {
        const ints quant = (eight >> detail::nibble_shift(i)) & ints(15);
        emit(8 * w + i, simd::fma(scale, xsimd::to_float(quant), minimum));
      }
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return detail::load_nibbles<Arch>(words + panel_features + column, at);
  }
};

}  // namespace runnel::quant
