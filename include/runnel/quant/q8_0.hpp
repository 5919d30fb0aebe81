// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <runnel/quant/panel.hpp>

namespace runnel::quant {

/// 32 signed bytes and one f16 scale: x = d q. Panels hold q + 128, as integer products take weights without a sign.
struct q8_0_codec {
  static constexpr weight_format format = weight_format::q8_0;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 34;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr std::size_t panel_words = panel_features / 2 + 8 * panel_features;
  static constexpr int zero_point = 128;
  static constexpr int largest = 255;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = false;

  static void encode(const float* values, std::byte* block) noexcept {
    float magnitude = 0;
    for (std::size_t k = 0; k < block_size; ++k) magnitude = std::max(magnitude, std::fabs(values[k]));
    const float scale = magnitude / 127.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    detail::store_half(block, f16(scale));
    for (std::size_t k = 0; k < block_size; ++k) {
      // The limits matter only where the inverse overflows; then no quant is right, but each is defined.
      const float quant = std::max(-127.0f, std::min(127.0f, std::round(values[k] * inverse)));
      block[2 + k] = static_cast<std::byte>(static_cast<std::int8_t>(quant));
    }
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    for (std::size_t k = 0; k < block_size; ++k) {
      values[k] = scale * static_cast<float>(static_cast<std::int8_t>(block[2 + k]));
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales(blocks, 0, words);
    word* quants = words + panel_features / 2;
    for (std::size_t w = 0; w < 8; ++w) {
      for (std::size_t f = 0; f < panel_features; ++f) {
        word quad = 0;
        std::memcpy(&quad, blocks[f] + 2 + 4 * w, sizeof quad);
        quants[w * panel_features + f] = quad ^ sign_bits;
      }
    }
  }

  static void unpack(const word* words, std::size_t feature, float* values) noexcept {
    const auto scale = static_cast<float>(detail::unpack_scale(words, feature));
    for (std::size_t k = 0; k < block_size; ++k) {
      const auto quad =
          static_cast<std::uint32_t>(words[panel_features / 2 + k / 4 * panel_features + feature] ^ sign_bits);
      values[k] = scale * static_cast<float>(static_cast<std::int8_t>(quad >> (8 * (k % 4))));
    }
  }

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t, Emit&& emit) noexcept {
    const auto scale = detail::load_scales<Arch>(words, column);
    const word* quants = words + panel_features / 2 + column;
    for (std::size_t w = 0; w < 8; ++w) {
      const auto quad = detail::load_words<Arch>(quants + w * panel_features) ^ simd::lanes<word, Arch>(sign_bits);
      emit(4 * w, scale * xsimd::to_float((quad << 24) >> 24));
      emit(4 * w + 1, scale * xsimd::to_float((quad << 16) >> 24));
      emit(4 * w + 2, scale * xsimd::to_float((quad << 8) >> 24));
      emit(4 * w + 3, scale * xsimd::to_float(quad >> 24));
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column, std::size_t) noexcept {
    return detail::load_scales<Arch>(words, column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return detail::load_words<Arch>(words + panel_features / 2 + (4 * at.half + at.i) * panel_features + column);
  }

 private:
  static constexpr word sign_bits = static_cast<word>(0x80808080u);
};

/// A row (a multiple of 32 values) as q8_0 blocks that share one scale: x = d q, d = max |x| / 127 rounded up to an
/// f16; it is infinite or NaN if a value is, or above 8.3e6.
inline void encode_row_of_bytes(std::span<const float> row, std::byte* blocks) noexcept {
  float largest = 0;
  for (const float value : row) largest = std::isnan(value) ? value : std::max(largest, std::fabs(value));
  f16 scale(largest / 127.0f);
  if (127.0f * static_cast<float>(scale) < largest) ++scale.bits;  // up, or the largest would be cut off
  const auto rounded = static_cast<float>(scale);                  // quants are for the scale that is stored
  const float inverse = rounded != 0 ? 1.0f / rounded : 0.0f;
  for (std::size_t k = 0; k < row.size(); ++k) {
    std::byte* block = blocks + k / q8_0_codec::block_size * q8_0_codec::block_bytes;
    const float quant = std::max(-127.0f, std::min(127.0f, std::nearbyint(row[k] * inverse)));
    detail::store_half(block, scale);
    block[2 + k % q8_0_codec::block_size] = static_cast<std::byte>(static_cast<std::int8_t>(quant));
  }
}

}  // namespace runnel::quant
