// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <runnel/quant/q5_0.hpp>

namespace runnel::quant {

/// 32 numbers of 5 bits, one f16 scale and one f16 minimum: x = d q + m.
struct q5_1_codec : detail::paired_scales {
  static constexpr weight_format format = weight_format::q5_1;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 24;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr int zero_point = 0;
  static constexpr int largest = 31;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = true;
  using planes = detail::bit_planes<4, 1>;
  static constexpr std::size_t panel_words = panel_features + planes::words;

  static void encode(const float* values, std::byte* block) noexcept {
    const auto [least, most] = std::minmax_element(values, values + block_size);
    const float scale = (*most - *least) / 31.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    const float minimum = *least;
    detail::store_half(block, f16(scale));
    detail::store_half(block + 2, f16(minimum));
    detail::write_five_bits(
        [&](std::size_t k) {
          return static_cast<unsigned>(std::max(0.0f, std::min(31.0f, (values[k] - minimum) * inverse + 0.5f)));
        },
        block + 4);
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    const auto minimum = static_cast<float>(f16::from_bits(detail::load_half(block + 2)));
    const auto all = detail::read_five_bits(block + 4);
    for (std::size_t k = 0; k < block_size; ++k) {
      values[k] = scale * static_cast<float>(detail::byte_of(all[k / 4], k % 4)) + minimum;
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales_and_minimums(blocks, 0, words);
    for (std::size_t f = 0; f < panel_features; ++f) {
      planes::pack(detail::read_five_bits(blocks[f] + 4), words + panel_features + f);
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return planes::bytes<Arch>(words + panel_features + column, at);
  }
};

}  // namespace runnel::quant
