// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// Weights of whole numbers on their way from panels to products: 32 inputs of a panel taken apart, so that what
/// multiplies them need not know their format. One small function a format does the taking apart.

namespace runnel::kernels {

/// 32 inputs of the 32 features of a panel.
struct weight_part {
  static constexpr std::size_t inputs = 32;
  using row = std::array<float, quant::panel_features>;

  alignas(64) std::array<quant::word, inputs / 4 * quant::panel_features> quads;  ///< [8, 32] words of 4 bytes
  alignas(64) std::array<row, 2> scales;                                          ///< of inputs 0 to 15 and 16 to 31
  alignas(64) std::array<row, 2> minimums;  ///< likewise; -0 where the format has none
};

/// A format of whole numbers as products in floats need it.
struct part_codec {
  /// Takes apart `count` parts of a panel from part `first` on.
  void (*take_apart)(const quant::word* panel, index_t first, index_t count, weight_part* out) = nullptr;
  std::int32_t zero_point = 0;
};

namespace detail {

template <class Arch, class Codec>
void take_apart(const quant::word* panel, index_t first, index_t count, weight_part* out) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr auto parts = static_cast<index_t>(Codec::panel_inputs / weight_part::inputs);
  constexpr std::size_t groups = weight_part::inputs / Codec::group_size;
  for (index_t at = first; at < first + count; ++at, ++out) {
    const quant::word* block = panel + at / parts * static_cast<index_t>(Codec::panel_words);
    const auto part = static_cast<std::size_t>(at % parts);
    for (std::size_t column = 0; column < quant::panel_features; column += width) {
      for (std::size_t half = 0; half < 2; ++half) {
        const std::size_t group = part * groups + half * groups / 2;
        Codec::template scales<Arch>(block, column, group).store_aligned(out->scales[half].data() + column);
        simd::lanes<float, Arch> minimum(-0.0f);
        if constexpr (Codec::has_minimums) minimum = Codec::template minimums<Arch>(block, column, group);
        minimum.store_aligned(out->minimums[half].data() + column);
        RUNNEL_UNROLL for (std::size_t i = 0; i < 4; ++i) {
          Codec::template bytes<Arch>(block, column, {part, half, i})
              .store_aligned(out->quads.data() + (4 * half + i) * quant::panel_features + column);
        }
      }
    }
  }
}

template <class Arch, class Codec>
[[nodiscard]] constexpr part_codec make_part_codec() noexcept {
  return {&take_apart<Arch, Codec>, Codec::zero_point};
}

/// The weights of a part as floats, [32, 32].
template <class Arch>
void part_to_floats(const weight_part& part, std::int32_t zero_point, float* out) noexcept {
  using ints = simd::lanes<quant::word, Arch>;
  using batch = simd::lanes<float, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  for (std::size_t column = 0; column < quant::panel_features; column += width) {
    for (std::size_t i = 0; i < weight_part::inputs / 4; ++i) {
      const std::size_t half = i / 4;
      const ints four = ints::load_aligned(part.quads.data() + i * quant::panel_features + column);
      const batch scale = batch::load_aligned(part.scales[half].data() + column);
      const batch minimum = batch::load_aligned(part.minimums[half].data() + column);
      RUNNEL_UNROLL for (std::size_t j = 0; j < 4; ++j) {
        const ints quant = ((four >> static_cast<int>(8 * j)) & ints(255)) - ints(zero_point);
        simd::fma(scale, xsimd::to_float(quant), minimum)
            .store_aligned(out + (4 * i + j) * quant::panel_features + column);
      }
    }
  }
}

}  // namespace detail

/// The inputs of one feature of a panel as floats.
template <class Arch>
void decode_feature(const part_codec& codec, const quant::word* panel, std::size_t feature,
                    std::span<float> values) noexcept {
  weight_part part;
  alignas(64) std::array<float, weight_part::inputs * quant::panel_features> all;
  for (std::size_t k = 0; k < values.size(); ++k) {
    if (k % weight_part::inputs == 0) {
      codec.take_apart(panel, static_cast<index_t>(k / weight_part::inputs), 1, &part);
      detail::part_to_floats<Arch>(part, codec.zero_point, all.data());
    }
    values[k] = all[k % weight_part::inputs * quant::panel_features + feature];
  }
}

}  // namespace runnel::kernels
