// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/quant/panel.hpp>

namespace runnel::quant {

namespace detail {

/// What bf16 and f16 share: two inputs a word, the even one in the low half. An odd last input leaves zeros above it.
template <class Scalar>
struct half_words {
  static constexpr std::size_t block_size = 1;
  static constexpr std::size_t block_bytes = 2;
  static constexpr std::size_t panel_inputs = 2;
  static constexpr std::size_t panel_words = panel_features;

  static void encode(const float* values, std::byte* block) noexcept {
    const Scalar value(*values);
    std::memcpy(block, &value, block_bytes);
  }
  static void decode(const std::byte* block, float* values) noexcept {
    *values = static_cast<float>(Scalar::from_bits(load_half(block)));
  }
  static void pack(const feature_blocks& blocks, std::size_t count, word* words) noexcept {
    for (std::size_t f = 0; f < panel_features; ++f) {
      const std::uint32_t low = load_half(blocks[f]);
      const std::uint32_t high = count > 1 ? load_half(blocks[f] + block_bytes) : 0u;
      words[f] = static_cast<word>(low | (high << 16));
    }
  }
  static void unpack(const word* words, std::size_t feature, float* values) noexcept {
    const auto pair = static_cast<std::uint32_t>(words[feature]);
    values[0] = static_cast<float>(Scalar::from_bits(static_cast<std::uint16_t>(pair)));
    values[1] = static_cast<float>(Scalar::from_bits(static_cast<std::uint16_t>(pair >> 16)));
  }
};

}  // namespace detail

/// Upper half of a binary32.
struct bf16_codec : detail::half_words<bf16> {
  static constexpr weight_format format = weight_format::bf16;

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t count,
                                         Emit&& emit) noexcept {
    using ints = simd::lanes<word, Arch>;
    const ints pair = detail::load_words<Arch>(words + column);
    emit(std::size_t{0}, simd::bit_cast_to<float>(pair << 16));
    if (count > 1) emit(std::size_t{1}, simd::bit_cast_to<float>(pair & ints(static_cast<word>(0xffff0000u))));
  }
};

/// IEEE binary16.
struct f16_codec : detail::half_words<f16> {
  static constexpr weight_format format = weight_format::f16;

  template <class Arch, class Emit>
  RUNNEL_INLINE static void decode_lanes(const word* words, std::size_t column, std::size_t count,
                                         Emit&& emit) noexcept {
    const auto pair = detail::load_words<Arch>(words + column);
    emit(std::size_t{0}, simd::half_to_float<Arch>(pair));
    if (count > 1) emit(std::size_t{1}, simd::half_to_float<Arch>(pair >> 16));
  }
};

}  // namespace runnel::quant
