// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/panel.hpp>

/// \file
/// Inputs of a product brought to the numbers it is computed in: pairs of bf16, or blocks of 32 bytes with a scale.
/// Each row by itself (law 0).

namespace runnel::kernels {

/// 32 inputs of one row as bytes: x = scale q, q = round(x / scale), ties to even, |q| <= 127, scale = max |x| / 127
/// rounded up to 17 bits. So scale q is exact (unless it overflows: inputs within 2e-5 of the largest float), and what
/// rounding leaves over is the same with and without a fused step.
struct byte_block {
  static constexpr std::size_t inputs = 32;

  std::array<std::int8_t, inputs> quants;
  float scale;                      ///< NaN where an input is not finite: so is the row's product then
  float sum;                        ///< scale times the sum of quants: what a weight's minimum is multiplied by
  std::int32_t start;               ///< minus the weights' zero point times the sum of quants
  std::array<float, 2> group_sums;  ///< `sum` of each 16 inputs, for weights with a scale for as many
  std::array<std::int32_t, 2> group_starts;  ///< `start` of each 16 inputs
};

/// Words of 32 bits that a row of `inputs` takes as pairs of bf16.
[[nodiscard]] constexpr index_t pair_count(index_t inputs) noexcept { return (inputs + 1) / 2; }

/// Blocks that a row of `inputs` takes.
[[nodiscard]] constexpr index_t byte_block_count(index_t inputs) noexcept {
  return inputs / static_cast<index_t>(byte_block::inputs);
}

/// One row as pairs of bf16, the even input in the lower half; an odd last input leaves a zero above it.
template <class Arch>
void round_row_to_bf16(const float* x, index_t inputs, quant::word* pairs) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<float, Arch>);
  index_t k = 0;
  for (; k + width <= inputs; k += width, pairs += width / 2) {
    simd::store_bf16<Arch>(simd::lanes<float, Arch>::load_unaligned(x + k), pairs);
  }
  for (; k < inputs; k += 2) {
    const std::uint32_t low = bf16(x[k]).bits;
    const std::uint32_t high = k + 1 < inputs ? bf16(x[k + 1]).bits : 0u;
    *pairs++ = static_cast<quant::word>(low | (high << 16));
  }
}

/// A pair of bf16, and what rounding to it left over as another.
struct split_pair {
  quant::word rounded;
  quant::word rest;
};

/// One row as split pairs, together 16 bits of each input; of an input that is not finite nothing is left over.
template <class Arch>
void split_row_to_bf16(const float* x, index_t inputs, split_pair* pairs) noexcept {
  using batch = simd::lanes<float, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  std::array<quant::word, width / 2> rounded, rest;
  alignas(64) std::array<float, width> last{};
  for (index_t k = 0; k < inputs; k += static_cast<index_t>(width)) {
    const float* from = x + k;
    const auto count = static_cast<std::size_t>(std::min(static_cast<index_t>(width), inputs - k));
    if (count < width) {
      std::copy_n(from, count, last.data());
      from = last.data();
    }
    const batch values = batch::load_unaligned(from);
    const batch kept = simd::bit_cast_to<float>(simd::round_to_bf16<Arch>(values));
    simd::store_bf16<Arch>(values, rounded.data());
    simd::store_bf16<Arch>(xsimd::select(kept - kept == batch(0.0f), values - kept, batch(0.0f)), rest.data());
    for (std::size_t i = 0; i < (count + 1) / 2; ++i) *pairs++ = {rounded[i], rest[i]};
  }
}

namespace detail {

/// Largest magnitude of `count` inputs (a multiple of 16); infinity if one is not finite.
template <class Arch>
RUNNEL_INLINE float largest_magnitude(const float* x, index_t count) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<float, Arch>);
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::int32_t infinity = 0x7f800000;
  ints most(0);  // magnitudes are ordered as their bits are, and those of NaN come last
  for (index_t k = 0; k < count; k += width) {
    const auto bits = simd::bit_cast_to<std::int32_t>(simd::lanes<float, Arch>::load_unaligned(x + k));
    most = xsimd::max(most, bits & ints(0x7fffffff));
  }
  return std::bit_cast<float>(std::min(simd::maximum(most), infinity));
}

/// The scales for inputs of magnitudes up to `largest`, and what to multiply them by; those below 4e-37 vanish.
template <class Arch>
struct byte_scale {
  using batch = simd::lanes<float, Arch>;
  batch scale;
  batch inverse;

  RUNNEL_INLINE explicit byte_scale(const batch& largest) noexcept {
    using ints = simd::lanes<std::int32_t, Arch>;
    const batch limit(std::numeric_limits<float>::max()), zero(0.0f);
    const ints bits = simd::bit_cast_to<std::int32_t>(largest / batch(127.0f));
    const batch rounded = simd::bit_cast_to<float>((bits + ints(0x7f)) & ints(~0x7f));
    const batch one_by = batch(1.0f) / rounded;
    const batch found = xsimd::select(one_by <= limit, rounded, zero);
    const batch factor = xsimd::select(one_by <= limit, one_by, zero);
    scale = xsimd::select(largest <= limit, found, batch(std::numeric_limits<float>::quiet_NaN()));
    inverse = xsimd::select(largest <= limit, factor, zero);
  }
};

/// Fills a block's quants; what rounding leaves over goes to `rest`, if there is one. `inverse` is 0 where inputs
/// vanish, or where one is not finite.
template <class Arch>
RUNNEL_INLINE void quantize_block(const float* x, float scale, float inverse, byte_block& block,
                                  float* rest = nullptr) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  using batch = simd::lanes<float, Arch>;
  if (inverse == 0) {  // otherwise an infinity times zero would be converted
    block.quants.fill(0);
    if (rest != nullptr) std::fill_n(rest, byte_block::inputs, scale);  // nothing is left; NaN stays NaN
    return;
  }
  RUNNEL_UNROLL for (std::size_t i = 0; i < byte_block::inputs; i += width) {
    const auto values = batch::load_unaligned(x + i);
    // Not above 127: the scale is rounded up, and what the division loses is far less than a half.
    const auto whole = simd::round_to_int(values * batch(inverse));
    simd::store_bytes<Arch>(whole, block.quants.data() + i);
    if (rest != nullptr) simd::fma(batch(-scale), xsimd::to_float(whole), values).store_unaligned(rest + i);
  }
}

/// Sums of a block's quants.
struct quant_sums {
  std::int32_t first = 0;  // of the first half
  std::int32_t all = 0;

  RUNNEL_INLINE explicit quant_sums(const byte_block& block) noexcept
      : first(simd::sum_of_16_bytes(block.quants.data())),
        all(first + simd::sum_of_16_bytes(block.quants.data() + 16)) {}
};

}  // namespace detail

/// One row of `inputs` (a multiple of 32) as blocks with a scale each, for weights with this zero point. A second
/// plane, stored after the first, holds what rounding left over in the same way: together they have the digits of 16
/// bits.
template <class Arch>
void quantize_row(const float* x, index_t inputs, std::int32_t zero_point, index_t planes,
                  byte_block* blocks) noexcept {
  using batch = simd::lanes<float, Arch>;
  constexpr auto step = static_cast<index_t>(byte_block::inputs);
  constexpr index_t together = 16;  // blocks whose scales are found at once: divisions are slow
  alignas(64) std::array<float, byte_block::inputs * together> rest;
  alignas(64) std::array<float, together> scales{}, inverses;
  const index_t all = byte_block_count(inputs);
  for (index_t first = 0; first < all; first += together) {
    const index_t count = std::min(together, all - first);
    const float* values = x + first * step;
    for (index_t plane = 0; plane < planes; ++plane, values = rest.data()) {
      for (index_t b = 0; b < count; ++b) {
        scales[static_cast<std::size_t>(b)] = detail::largest_magnitude<Arch>(values + b * step, step);
      }
      for (std::size_t b = 0; b < scales.size(); b += simd::width<float, Arch>) {
        const detail::byte_scale<Arch> by(batch::load_aligned(scales.data() + b));
        by.scale.store_aligned(scales.data() + b);
        by.inverse.store_aligned(inverses.data() + b);
      }
      byte_block* block = blocks + plane * all + first;
      for (index_t b = 0; b < count; ++b, ++block) {
        const float scale = scales[static_cast<std::size_t>(b)];
        detail::quantize_block<Arch>(values + b * step, scale, inverses[static_cast<std::size_t>(b)], *block,
                                     plane + 1 < planes ? rest.data() + b * step : nullptr);
        const detail::quant_sums sums(*block);
        block->scale = scale;
        block->sum = scale * static_cast<float>(sums.all);
        block->start = -zero_point * sums.all;
        block->group_sums = {scale * static_cast<float>(sums.first), scale * static_cast<float>(sums.all - sums.first)};
        block->group_starts = {-zero_point * sums.first, -zero_point * (sums.all - sums.first)};
      }
    }
  }
}

/// The same with one scale for the whole row, held in its first block, as is `start` for all inputs.
template <class Arch>
void quantize_whole_row(const float* x, index_t inputs, std::int32_t zero_point, byte_block* blocks) noexcept {
  using batch = simd::lanes<float, Arch>;
  constexpr auto step = static_cast<index_t>(byte_block::inputs);
  const detail::byte_scale<Arch> by(batch(detail::largest_magnitude<Arch>(x, inputs)));
  const float scale = by.scale.get(0), inverse = by.inverse.get(0);
  std::int32_t sum = 0;
  for (index_t k = 0; k < inputs; k += step) {
    byte_block& block = blocks[k / step];
    detail::quantize_block<Arch>(x + k, scale, inverse, block);
    sum += detail::quant_sums(block).all;
  }
  blocks->scale = scale;
  blocks->sum = scale * static_cast<float>(sum);
  blocks->start = -zero_point * sum;
}

}  // namespace runnel::kernels
