// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/panel.hpp>

/// \file
/// Inputs of a product brought to the numbers it is computed in: pairs of bf16, or blocks of 32 bytes with a scale.
/// Each row by itself (law 0).

namespace runnel::kernels {

/// 32 inputs of one row as bytes: x = scale q, q = round(x / scale), ties to even, |q| <= 127, scale = max |x| / 127
/// rounded up to 17 bits. So scale q is exact, and what rounding leaves over is the same with and without a fused step.
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
  constexpr std::size_t half = simd::width<float, Arch> / 2;
  // Two rounded floats as one number, so that a compiler narrows a register of them at once.
  alignas(64) std::array<std::uint64_t, half> rounded;
  std::array<quant::word, half> words;
  index_t k = 0;
  for (; k + width <= inputs; k += width, pairs += half) {
    const auto bits = simd::round_to_bf16<Arch>(simd::lanes<float, Arch>::load_unaligned(x + k));
    bits.store_aligned(reinterpret_cast<std::int32_t*>(rounded.data()));
    for (std::size_t i = 0; i < half; ++i) {
      words[i] = static_cast<quant::word>(static_cast<std::uint32_t>((rounded[i] >> 16) | (rounded[i] >> 32)));
    }
    std::memcpy(pairs, words.data(), sizeof words);
  }
  for (; k < inputs; k += 2) {
    const std::uint32_t low = bf16(x[k]).bits;
    const std::uint32_t high = k + 1 < inputs ? bf16(x[k + 1]).bits : 0u;
    *pairs++ = static_cast<quant::word>(low | (high << 16));
  }
}

namespace detail {

/// Largest magnitude of `count` inputs (a multiple of 32); infinity if one is not finite.
template <class Arch>
RUNNEL_INLINE float largest_magnitude(const float* x, index_t count) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<float, Arch>);
  using batch = simd::lanes<float, Arch>;
  batch most(0.0f), check(0.0f);
  for (index_t k = 0; k < count; k += width) {
    const auto value = batch::load_unaligned(x + k);
    most = xsimd::max(most, xsimd::abs(value));
    check = check + value * batch(0.0f);  // NaN once a value is not finite
  }
  const float found = simd::maximum(most);
  return simd::sum(check) == 0.0f ? found : std::numeric_limits<float>::infinity();
}

/// The scale for inputs of magnitude up to `largest`, and what to multiply them by; those below 4e-37 vanish.
struct byte_scale {
  float scale;
  float inverse;

  explicit byte_scale(float largest) noexcept
      : scale(std::bit_cast<float>((std::bit_cast<std::uint32_t>(largest / 127.0f) + 0x7Fu) & ~0x7Fu)),
        inverse(1.0f / scale) {
    if (!(inverse <= std::numeric_limits<float>::max())) scale = inverse = 0;
    if (!(largest <= std::numeric_limits<float>::max())) {
      scale = std::numeric_limits<float>::quiet_NaN();
      inverse = 0;
    }
  }
};

/// Sums of a block's quants.
struct quant_sums {
  std::int32_t first = 0;  // of the first half
  std::int32_t all = 0;
};

/// Fills a block's quants and gives their sums; what rounding leaves over goes to `rest`, if there is one.
template <class Arch>
RUNNEL_INLINE quant_sums quantize_block(const float* x, const byte_scale& by, byte_block& block,
                                        float* rest = nullptr) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  using batch = simd::lanes<float, Arch>;
  if (by.inverse == 0) {  // otherwise an infinity times zero would be converted
    block.quants.fill(0);
    if (rest != nullptr) std::fill_n(rest, byte_block::inputs, by.scale);  // nothing is left; NaN stays NaN
    return {};
  }
  simd::lanes<std::int32_t, Arch> sums[2] = {0, 0};
  RUNNEL_UNROLL for (std::size_t i = 0; i < byte_block::inputs; i += width) {
    const auto values = batch::load_unaligned(x + i);
    const auto scaled = xsimd::nearbyint(values * batch(by.inverse));
    const auto limited = xsimd::min(xsimd::max(scaled, batch(-127.0f)), batch(127.0f));
    const auto whole = xsimd::to_int(limited);
    simd::store_bytes<Arch>(whole, block.quants.data() + i);
    auto& sum = sums[i / (byte_block::inputs / 2)];
    sum = sum + whole;
    if (rest != nullptr) simd::fma(batch(-by.scale), limited, values).store_unaligned(rest + i);
  }
  const std::int32_t first = simd::sum(sums[0]);
  return {first, first + simd::sum(sums[1])};
}

}  // namespace detail

/// One row of `inputs` (a multiple of 32) as blocks with a scale each, for weights with this zero point. A second
/// plane, stored after the first, holds what rounding left over in the same way: together they have the digits of 16
/// bits.
template <class Arch>
void quantize_row(const float* x, index_t inputs, std::int32_t zero_point, index_t planes,
                  byte_block* blocks) noexcept {
  constexpr auto step = static_cast<index_t>(byte_block::inputs);
  alignas(64) std::array<float, byte_block::inputs> rest;
  for (index_t b = 0; b < byte_block_count(inputs); ++b) {
    const float* values = x + b * step;
    for (index_t plane = 0; plane < planes; ++plane) {
      byte_block& block = blocks[plane * byte_block_count(inputs) + b];
      const detail::byte_scale by(detail::largest_magnitude<Arch>(values, step));
      const auto sums = detail::quantize_block<Arch>(values, by, block, plane + 1 < planes ? rest.data() : nullptr);
      block.scale = by.scale;
      block.sum = by.scale * static_cast<float>(sums.all);
      block.start = -zero_point * sums.all;
      block.group_sums = {by.scale * static_cast<float>(sums.first),
                          by.scale * static_cast<float>(sums.all - sums.first)};
      block.group_starts = {-zero_point * sums.first, -zero_point * (sums.all - sums.first)};
      values = rest.data();
    }
  }
}

/// The same with one scale for the whole row, held in its first block, as is `start` for all inputs.
template <class Arch>
void quantize_whole_row(const float* x, index_t inputs, std::int32_t zero_point, byte_block* blocks) noexcept {
  constexpr auto step = static_cast<index_t>(byte_block::inputs);
  const detail::byte_scale by(detail::largest_magnitude<Arch>(x, inputs));
  std::int32_t sum = 0;
  for (index_t k = 0; k < inputs; k += step) sum += detail::quantize_block<Arch>(x + k, by, blocks[k / step]).all;
  blocks->scale = by.scale;
  blocks->sum = by.scale * static_cast<float>(sum);
  blocks->start = -zero_point * sum;
}

}  // namespace runnel::kernels
