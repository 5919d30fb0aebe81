// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <runnel/core/dtype.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/format.hpp>

/// \file
/// How prepared weights lie in memory, whatever their format.
///
/// A panel holds 32 output features side by side, so that a lane of a register is a feature and a dot product needs no
/// horizontal sum: every output is one chain over the inputs in ascending order, the same for one row and for a
/// thousand (law 0). Panels are cut into blocks along the inputs. A block is rows of 32 words of 32
/// bits, one word a feature; how many inputs a word holds is the codec's business (1 f32, 2 bf16 or f16, 4 bytes, 8
/// nibbles).
///
/// A codec is a struct with
///   format, block_size (inputs a block), block_bytes     as in files (GGUF)
///   encode(values, bytes), decode(bytes, values)         one block, bit-compatible with GGUF
///   panel_inputs, panel_words                            inputs and 32-bit words of a panel block
///   pack(blocks of 32 features, count, words)            into the panel layout; count <= panel_inputs are there
/// and, but for codecs that kernels/weight_part.hpp takes apart,
///   unpack(words, feature, values)                       one feature's panel_inputs values back, for embedding rows
///   decode_lanes<Arch>(words, column, count, emit)       calls emit(k, lanes<float>) for the block's inputs k < count,
///                                                        ascending; lanes are features [column, column + width)
///
/// Codecs of whole numbers of at most a byte, x = d (q - zero_point) or x = d q + m, have
///   zero_point, largest                                  of q, which is never negative
///   group_size, has_minimums                             inputs that share d (16 or 32), and whether there is m
///   scales<Arch>(words, column, group)                   d of a group of the block, exact
///   minimums<Arch>(words, column, group)                 m
///   bytes<Arch>(words, column, {part, half, i})          q of 4 inputs a feature, a byte each

namespace runnel::quant {

/// Features a panel.
inline constexpr std::size_t panel_features = 32;

using word = std::int32_t;

/// The blocks of 32 features at one place along the inputs; features past the matrix point at a block of zeros.
using feature_blocks = std::array<const std::byte*, panel_features>;

/// Which four inputs of a panel block: those from 32 part + 16 half + 4 i on.
struct quad_place {
  std::size_t part = 0;
  std::size_t half = 0;
  std::size_t i = 0;  ///< below 4, and known at compile time where speed matters
};

namespace detail {

template <class Arch>
RUNNEL_INLINE simd::lanes<word, Arch> load_words(const word* words) noexcept {
  return simd::lanes<word, Arch>::load_aligned(words);
}

[[nodiscard]] inline std::uint16_t load_half(const std::byte* bytes) noexcept {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

inline void store_half(std::byte* bytes, f16 value) noexcept { std::memcpy(bytes, &value.bits, sizeof value.bits); }

/// One f16 a feature in 16 words: features i and i + 16 share word i.
inline void pack_scales(const feature_blocks& blocks, std::size_t offset, word* words) noexcept {
  for (std::size_t i = 0; i < panel_features / 2; ++i) {
    const std::uint32_t low = load_half(blocks[i] + offset);
    const std::uint32_t high = load_half(blocks[i + panel_features / 2] + offset);
    words[i] = static_cast<word>(low | (high << 16));
  }
}

template <class Arch>
RUNNEL_INLINE simd::lanes<float, Arch> load_scales(const word* words, std::size_t column) noexcept {
  constexpr std::size_t half = panel_features / 2;
  const auto pair = load_words<Arch>(words + column % half);
  return simd::half_to_float<Arch>(column < half ? pair : pair >> 16);
}

[[nodiscard]] inline f16 unpack_scale(const word* words, std::size_t feature) noexcept {
  constexpr std::size_t half = panel_features / 2;
  const auto pair = static_cast<std::uint32_t>(words[feature % half]);
  return f16::from_bits(static_cast<std::uint16_t>(feature < half ? pair : pair >> 16));
}

/// Scale (low half) and minimum (high half) of a feature share a word; in a block they lie 2 bytes apart.
inline void pack_scales_and_minimums(const feature_blocks& blocks, std::size_t offset, word* words) noexcept {
  for (std::size_t f = 0; f < panel_features; ++f) {
    const std::uint32_t scale = load_half(blocks[f] + offset);
    const std::uint32_t minimum = load_half(blocks[f] + offset + 2);
    words[f] = static_cast<word>(scale | (minimum << 16));
  }
}

/// The part of a codec that reads these.
struct paired_scales {
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const word* words, std::size_t column, std::size_t) noexcept {
    return simd::half_to_float<Arch>(load_words<Arch>(words + column));
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> minimums(const word* words, std::size_t column, std::size_t) noexcept {
    return simd::half_to_float<Arch>(load_words<Arch>(words + column) >> 16);
  }
};

struct scale_and_minimum {
  float scale;
  float minimum;
};

[[nodiscard]] inline scale_and_minimum unpack_scale_and_minimum(const word* words, std::size_t feature) noexcept {
  const auto pair = static_cast<std::uint32_t>(words[feature]);
  return {static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(pair))),
          static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(pair >> 16)))};
}

/// Nibble that holds input k of eight: 0..3 are the low nibbles of the four bytes, 4..7 the high ones.
[[nodiscard]] constexpr int nibble_shift(std::size_t k) noexcept {
  return static_cast<int>(k < 4 ? 8 * k : 8 * (k - 4) + 4);
}

/// The quants of a 4-bit block as GGUF stores them: byte j holds inputs j (low) and j + 16 (high).
inline void pack_nibbles(const feature_blocks& blocks, std::size_t offset, word* words) noexcept {
  constexpr std::uint32_t low = 0x0f0f0f0fu;
  for (std::size_t f = 0; f < panel_features; ++f) {
    std::array<std::uint32_t, 4> quads;
    std::memcpy(quads.data(), blocks[f] + offset, sizeof quads);
    for (std::size_t w = 0; w < 2; ++w) {
      const std::uint32_t first = quads[2 * w], second = quads[2 * w + 1];
      words[w * panel_features + f] = static_cast<word>((first & low) | ((second & low) << 4));
      words[(w + 2) * panel_features + f] = static_cast<word>(((first >> 4) & low) | (second & ~low));
    }
  }
}

/// Four inputs of a 4-bit block, a byte each.
template <class Arch>
RUNNEL_INLINE simd::lanes<word, Arch> load_nibbles(const word* words, quad_place at) noexcept {
  const auto eight = load_words<Arch>(words + (2 * at.half + at.i / 2) * panel_features);
  return (at.i % 2 == 0 ? eight : eight >> 4) & simd::lanes<word, Arch>(0x0f0f0f0f);
}

[[nodiscard]] inline int unpack_nibble(const word* words, std::size_t feature, std::size_t k) noexcept {
  const auto bits = static_cast<std::uint32_t>(words[k / 8 * panel_features + feature]);
  return static_cast<int>((bits >> nibble_shift(k % 8)) & 15u);
}

}  // namespace detail
}  // namespace runnel::quant
