// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/panel.hpp>

namespace runnel::quant {

/// IEEE binary32 as it is.
struct f32_codec {
  static constexpr weight_format format = weight_format::f32;
  static constexpr std::size_t block_size = 1;
  static constexpr std::size_t block_bytes = 4;
  static constexpr std::size_t panel_inputs = 1;
  static constexpr std::size_t panel_words = panel_features;

  static void encode(const float* values, std::byte* block) noexcept { std::memcpy(block, values, block_bytes); }
  static void decode(const std::byte* block, float* values) noexcept { std::memcpy(values, block, block_bytes); }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    for (std::size_t f = 0; f < panel_features; ++f) std::memcpy(words + f, blocks[f], block_bytes);
  }
  static void unpack(const word* words, std::size_t feature, float* values) noexcept {
    std::memcpy(values, words + feature, block_bytes);
  }

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t, Emit&& emit) noexcept {
    emit(std::size_t{0}, simd::bit_cast_to<float>(detail::load_words<Arch>(words + column)));
  }
};

}  // namespace runnel::quant
