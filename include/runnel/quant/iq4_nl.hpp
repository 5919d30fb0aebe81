// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include <runnel/quant/scale_search.hpp>

namespace runnel::quant {

namespace detail {

/// What the 16 quants stand for: denser around zero, where most weights are.
inline constexpr std::array<std::int8_t, 16> uneven_levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                           1,    13,   25,  38,  53,  69,  89,  113};

/// The same plus 128, as integer products take weights without a sign.
[[nodiscard]] constexpr std::array<std::uint8_t, 16> shifted_levels() noexcept {
  std::array<std::uint8_t, 16> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(uneven_levels[i] + 128);
  return out;
}

/// The level nearest to x (the lower of two): levels up to x, counted by the middles between them.
[[nodiscard]] inline int nearest_level(float x) noexcept {
  int found = 0;
  for (std::size_t i = 0; i + 1 < uneven_levels.size(); ++i) {
    found += x > 0.5f * static_cast<float>(uneven_levels[i] + uneven_levels[i + 1]) ? 1 : 0;
  }
  return found;
}

}  // namespace detail

/// 32 nibbles that name one of 16 uneven levels, and one f16 scale: x = d level. Panels hold nibbles; integer products
/// take levels + 128.
struct iq4_nl_codec {
  static constexpr weight_format format = weight_format::iq4_nl;
  static constexpr std::size_t block_size = 32;
  static constexpr std::size_t block_bytes = 18;
  static constexpr std::size_t panel_inputs = 32;
  static constexpr std::size_t panel_words = panel_features / 2 + 4 * panel_features;
  static constexpr int zero_point = 128;
  static constexpr int largest = 255;
  static constexpr std::size_t group_size = 32;
  static constexpr bool has_minimums = false;

  /// By search over scales that put the extreme on or near the last level of either side.
  static void encode(const float* values, std::byte* block) noexcept {
    std::array<float, block_size> x;
    float extreme = 0;
    for (std::size_t k = 0; k < block_size; ++k) {
      x[k] = std::isnan(values[k]) ? 0.0f : detail::limited(values[k], -1e9f, 1e9f);
      if (std::fabs(x[k]) > std::fabs(extreme)) extreme = x[k];
    }
    const float scale = detail::as_half(best_scale(x, extreme));
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    detail::store_half(block, f16(scale));
    const auto quant = [&](std::size_t k) { return static_cast<unsigned>(detail::nearest_level(x[k] * inverse)); };
    for (std::size_t k = 0; k < 16; ++k) block[2 + k] = static_cast<std::byte>(quant(k) | quant(k + 16) << 4);
  }

  static void decode(const std::byte* block, float* values) noexcept {
    const auto scale = static_cast<float>(f16::from_bits(detail::load_half(block)));
    for (std::size_t k = 0; k < 16; ++k) {
      const auto pair = static_cast<unsigned>(block[2 + k]);
      values[k] = scale * static_cast<float>(detail::uneven_levels[pair & 15u]);
      values[k + 16] = scale * static_cast<float>(detail::uneven_levels[pair >> 4]);
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    detail::pack_scales(blocks, 0, words);
    detail::pack_nibbles(blocks, 2, words + panel_features / 2);
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column, std::size_t) noexcept {
    return detail::load_scales<Arch>(words, column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    static constexpr auto levels = detail::shifted_levels();
    return simd::look_up<Arch>(levels, detail::load_nibbles<Arch>(words + panel_features / 2 + column, at));
  }

 private:
  [[nodiscard]] static float best_scale(const std::array<float, block_size>& x, float extreme) noexcept {
    if (!(std::fabs(extreme) > 1e-30f)) return 0;
    float best = 0, gain = 0, squares = 0;
    for (const float value : x) squares += value * value;
    const float size = std::sqrt(squares / static_cast<float>(block_size));
    const auto attempt = [&](float scale) {
      for (int turn = 0; turn < 3; ++turn) {
        const float inverse = 1.0f / scale;
        float xq = 0, qq = 0;
        for (const float value : x) {
          const auto level = static_cast<float>(
              detail::uneven_levels[static_cast<std::size_t>(detail::nearest_level(value * inverse))]);
          const float weight = size + std::fabs(value);
          xq += weight * value * level;
          qq += weight * level * level;
        }
        if (!(qq > 0) || !(xq * xq > gain * qq)) return;
        gain = xq * xq / qq;
        best = scale = xq / qq;
      }
    };
    for (int step = -8; step <= 8; step += 2) {
      attempt(extreme / static_cast<float>(detail::uneven_levels.front() + step));
      attempt(extreme / static_cast<float>(detail::uneven_levels.back() + step));
    }
    return best;
  }
};

}  // namespace runnel::quant
