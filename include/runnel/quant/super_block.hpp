// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <runnel/quant/bit_planes.hpp>

/// \file
/// What the K formats share: super-blocks of 256 values in groups of 16 or 32, each with a small whole scale (and
/// minimum) of its own, to be multiplied by one f16 of the super-block: x = d s (q - zero_point), or x = d s q - e m.
/// All but the last subtraction is exact in float.

namespace runnel::quant::detail {

inline constexpr std::size_t super_block_size = 256;

/// The whole numbers of a super-block's groups.
template <std::size_t Groups>
struct group_scales {
  std::array<int, Groups> scales{};
  std::array<int, Groups> minimums{};
};

/// A codec but for its `encode`. `Layout` says where things are in a file's block:
///   format, block_bytes, group_size (16 or 32), zero_point, largest, has_minimums, planes (bit_planes)
///   scale_offset                      of the f16 d; e, where there are minimums, follows it
///   group_scale                       type of a group's scale in panels, a signed or unsigned byte
///   nibbles                           whether scale and minimum of a group share a byte in panels
///   read_groups(block), write_groups(groups, block)
///   read_quants(block, part), write_quants(quads, part, block)   of inputs 32 part to 32 part + 31
///
/// In panels: the f16s, then a byte a feature for every group's scale (then minimum), then 8 parts of bit planes.
template <class Layout>
struct super_block_codec {
  static constexpr weight_format format = Layout::format;
  static constexpr std::size_t block_size = super_block_size;
  static constexpr std::size_t block_bytes = Layout::block_bytes;
  static constexpr int zero_point = Layout::zero_point;
  static constexpr int largest = Layout::largest;
  static constexpr std::size_t group_size = Layout::group_size;
  static constexpr bool has_minimums = Layout::has_minimums;
  static constexpr std::size_t groups = block_size / group_size;

 private:
  using planes = typename Layout::planes;
  using group_scale = typename Layout::group_scale;
  static constexpr std::size_t parts = block_size / 32;
  static constexpr std::size_t scales_at = has_minimums ? panel_features : panel_features / 2;
  static constexpr std::size_t group_words = groups * panel_features / sizeof(word);
  static constexpr std::size_t minimums_at = Layout::nibbles ? scales_at : scales_at + group_words;
  static constexpr std::size_t quants_at = (has_minimums ? minimums_at : scales_at) + group_words;

 public:
  static constexpr std::size_t panel_inputs = block_size;
  static constexpr std::size_t panel_words = quants_at + parts * planes::words;

  static void decode(const std::byte* block, float* values) noexcept {
    scale_and_minimum by{static_cast<float>(f16::from_bits(load_half(block + Layout::scale_offset))), 0.0f};
    if constexpr (has_minimums) {
      by.minimum = static_cast<float>(f16::from_bits(load_half(block + Layout::scale_offset + 2)));
    }
    const auto small = Layout::read_groups(block);
    for (std::size_t part = 0; part < parts; ++part) {
      const quads all = Layout::read_quants(block, part);
      for (std::size_t k = 0; k < 32; ++k) {
        const std::size_t group = (32 * part + k) / group_size;
        const int quant = static_cast<int>(byte_of(all[k / 4], k % 4));
        values[32 * part + k] = value(by, small.scales[group], small.minimums[group], quant);
      }
    }
  }

  static void pack(const feature_blocks& blocks, std::size_t, word* words) noexcept {
    auto* const scales = reinterpret_cast<group_scale*>(words + scales_at);
    auto* const minimums = reinterpret_cast<std::uint8_t*>(words + minimums_at);
    if constexpr (has_minimums) {
      pack_scales_and_minimums(blocks, Layout::scale_offset, words);
    } else {
      pack_scales(blocks, Layout::scale_offset, words);
    }
    for (std::size_t f = 0; f < panel_features; ++f) {
      const auto small = Layout::read_groups(blocks[f]);
      for (std::size_t g = 0; g < groups; ++g) {
        const int both = small.scales[g] | (Layout::nibbles ? small.minimums[g] << 4 : 0);
        scales[g * panel_features + f] = static_cast<group_scale>(both);
        if constexpr (has_minimums && !Layout::nibbles) {
          minimums[g * panel_features + f] = static_cast<std::uint8_t>(small.minimums[g]);
        }
      }
      for (std::size_t part = 0; part < parts; ++part) {
        planes::pack(Layout::read_quants(blocks[f], part), words + quants_at + part * planes::words + f);
      }
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column,
                                                       std::size_t group) noexcept {
    const auto* const bytes = reinterpret_cast<const group_scale*>(words + scales_at) + group * panel_features + column;
    auto small = simd::load_bytes<Arch>(bytes);
    if constexpr (Layout::nibbles) small = small & simd::lanes<word, Arch>(15);
    if constexpr (has_minimums) {
      return simd::half_to_float<Arch>(load_words<Arch>(words + column)) * xsimd::to_float(small);
    } else {
      return load_scales<Arch>(words, column) * xsimd::to_float(small);
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> minimums(const word* words, std::size_t column,
                                                         std::size_t group) noexcept requires Layout::has_minimums {
    const auto* const bytes =
        reinterpret_cast<const std::uint8_t*>(words + minimums_at) + group * panel_features + column;
    auto small = simd::load_bytes<Arch>(bytes);
    if constexpr (Layout::nibbles) small = small >> 4;
    // (Times -1, as xsimd takes a sign off zero.)
    const auto minimum = simd::half_to_float<Arch>(load_words<Arch>(words + column) >> 16) * xsimd::to_float(small);
    return minimum * simd::lanes<float, Arch>(-1.0f);
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* words, std::size_t column, quad_place at) noexcept {
    return planes::template bytes<Arch>(words + quants_at + at.part * planes::words + column, at);
  }

 private:
  static float value(const scale_and_minimum& by, int small, int less, int quant) noexcept {
    const float product = by.scale * static_cast<float>(small) * static_cast<float>(quant - zero_point);
    if constexpr (has_minimums) return product - by.minimum * static_cast<float>(less);
    return product;
  }
};

/// Numbers of `Bits`: byte k of each 32 holds those of input k of 8 / Bits parts.
template <std::size_t Bits>
[[nodiscard]] quads read_bits(const std::byte* bytes, std::size_t part) noexcept {
  constexpr std::size_t shared = 8 / Bits;
  quads out;
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = load_quad(bytes + part / shared * 32 + 4 * i) >> (Bits * (part % shared)) & four_of((1u << Bits) - 1);
  }
  return out;
}

template <std::size_t Bits>
void write_bits(const quads& all, std::size_t part, std::byte* bytes) noexcept {
  constexpr std::size_t shared = 8 / Bits;
  const std::size_t shift = Bits * (part % shared);
  const auto mask = four_of((1u << Bits) - 1);
  for (std::size_t i = 0; i < 8; ++i) {
    std::byte* const at = bytes + part / shared * 32 + 4 * i;
    store_quad(at, (load_quad(at) & ~(mask << shift)) | (all[i] & mask) << shift);
  }
}

/// Eight scales and eight minimums of 6 bits in 12 bytes, as q4_k and q5_k store them: the first four of each in the
/// low bits of bytes 0 to 3 and 4 to 7, the low nibbles of the others in bytes 8 to 11, their high bits above the
/// first.
[[nodiscard]] inline group_scales<8> read_six_bit_groups(const std::byte* bytes) noexcept {
  group_scales<8> out;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto scale = static_cast<int>(bytes[i]), minimum = static_cast<int>(bytes[i + 4]);
    const auto rest = static_cast<int>(bytes[i + 8]);
    out.scales[i] = scale & 63;
    out.minimums[i] = minimum & 63;
    out.scales[i + 4] = (rest & 15) | (scale >> 6 << 4);
    out.minimums[i + 4] = (rest >> 4) | (minimum >> 6 << 4);
  }
  return out;
}

inline void write_six_bit_groups(const group_scales<8>& groups, std::byte* bytes) noexcept {
  for (std::size_t i = 0; i < 4; ++i) {
    bytes[i] = static_cast<std::byte>(groups.scales[i] | (groups.scales[i + 4] >> 4 << 6));
    bytes[i + 4] = static_cast<std::byte>(groups.minimums[i] | (groups.minimums[i + 4] >> 4 << 6));
    bytes[i + 8] = static_cast<std::byte>((groups.scales[i + 4] & 15) | ((groups.minimums[i + 4] & 15) << 4));
  }
}

}  // namespace runnel::quant::detail
