// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <runnel/quant/panel.hpp>

namespace runnel::quant::detail {

/// Whole numbers of four inputs, a byte each, the first in the lowest.
using quad = std::uint32_t;
/// Those of 32 inputs.
using quads = std::array<quad, 8>;

[[nodiscard]] inline quad load_quad(const std::byte* bytes) noexcept {
  quad four = 0;
  std::memcpy(&four, bytes, sizeof four);
  return four;
}

inline void store_quad(std::byte* bytes, quad four) noexcept { std::memcpy(bytes, &four, sizeof four); }

/// `value` in each of four bytes.
[[nodiscard]] constexpr quad four_of(unsigned value) noexcept { return 0x01010101u * value; }

/// Four bits, the lowest first, as four bytes of 0 or 1.
[[nodiscard]] constexpr quad spread_bits(unsigned bits) noexcept { return (bits & 15u) * 0x00204081u & four_of(1); }

/// And back.
[[nodiscard]] constexpr unsigned gather_bits(quad four) noexcept { return ((four & four_of(1)) * 0x10204080u) >> 28; }

[[nodiscard]] constexpr unsigned byte_of(quad four, std::size_t i) noexcept { return (four >> (8 * i)) & 255u; }

/// How panels hold 32 whole numbers of Low + High bits a feature: Low words of their low bits, then High words of those
/// above. Byte j of a word holds the bits of inputs 4i + j for a few i, so that one shift and one mask make bytes.
template <int Low, int High>
struct bit_planes {
  static constexpr std::size_t num_words = static_cast<std::size_t>(Low + High);
  static constexpr std::size_t words = num_words * panel_features;

  /// Packs 32 inputs of the feature whose first word is `to`.
  static void pack(const quads& from, word* to) noexcept {
    pack_plane<Low>(from, 0, to);
    if constexpr (High > 0) pack_plane<High>(from, Low, to + Low * features);
  }

  /// Four inputs of the features whose first words are at `from`, a byte each.
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<word, Arch> bytes(const word* from, quad_place at) noexcept {
    auto found = plane_bytes<Arch, Low>(from, at, 0);
    if constexpr (High > 0) found = found | plane_bytes<Arch, High>(from + Low * features, at, Low);
    return found;
  }

 private:
  static constexpr auto features = static_cast<std::ptrdiff_t>(panel_features);
  template <int Bits>
  static constexpr std::size_t slots = 8 / Bits;  // quads that share a word
  template <int Bits>
  static constexpr quad mask = four_of((1u << Bits) - 1);

  template <int Bits>
  static void pack_plane(const quads& from, int lowest, word* to) noexcept {
    for (std::size_t w = 0; w < static_cast<std::size_t>(Bits); ++w) {
      quad all = 0;
      for (std::size_t s = 0; s < slots<Bits>; ++s) {
        all |= (from[w * slots<Bits> + s] >> lowest & mask<Bits>) << (static_cast<std::size_t>(Bits) * s);
      }
      to[w * panel_features] = static_cast<word>(all);
    }
  }

  template <class Arch, int Bits>
  RUNNEL_INLINE static simd::lanes<word, Arch> plane_bytes(const word* from, quad_place at, int lowest) noexcept {
    const std::size_t row = Bits == 1 ? 0 : (4 * at.half + at.i) / slots<Bits>;
    auto all = load_words<Arch>(from + row * panel_features);
    int shift = Bits * static_cast<int>(at.i % slots<Bits>) - lowest;
    if constexpr (Bits == 1) {  // both halves share a word: now the wanted one is in the upper bits
      all = all << static_cast<int>(4 - 4 * at.half);
      shift += 4;
    }
    const auto moved = shift >= 0 ? all >> shift : all << -shift;
    return moved & simd::lanes<word, Arch>(static_cast<word>(mask<Bits> << lowest));
  }
};

}  // namespace runnel::quant::detail
