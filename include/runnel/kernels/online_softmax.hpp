// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <runnel/core/simd.hpp>
#include <runnel/kernels/key_value_page.hpp>
#include <runnel/position/row_table.hpp>

/// \file
/// Softmax that sees its scores a page at a time: weights relative to the highest score so far, and sums that are
/// brought to a new one where it comes.

namespace runnel::kernels::detail {

/// Of T: room for the sum of weights, lane by lane, and for the maximum of scores.
inline constexpr index_t widest_register = 16;

/// T elements that online softmax carries from page to page for one query vector.
template <class T>
[[nodiscard]] constexpr index_t softmax_state_size(index_t head_dim) noexcept {
  return padded_head_dim<T>(head_dim) + 2 * widest_register;
}

/// Where they are.
template <class T>
struct softmax_state {
  T* sums = nullptr;     // [padded head_dim] weighted values
  T* weights = nullptr;  // one register: sum of weights by lane
  T* maximum = nullptr;  // [1]; of scores as `soften` scales them

  softmax_state() = default;
  /// The q-th of those at `states`.
  softmax_state(T* states, index_t q, index_t head_dim) noexcept
      : sums(states + q * softmax_state_size<T>(head_dim)),
        weights(sums + padded_head_dim<T>(head_dim)),
        maximum(weights + widest_register) {}
};

/// Scores of one query vector against a page, then weights.
template <class T>
using page_scores = std::array<T, static_cast<std::size_t>(page_keys)>;

/// Weights are powers of this: 2 in floats, where that is quick to compute, e in doubles.
template <class T>
inline constexpr T log_of_base = T(1);
template <>
inline constexpr float log_of_base<float> = 1.44269504088896341f;  // log2(e)

template <class T>
[[nodiscard]] T power(T x) noexcept {
  if constexpr (std::is_same_v<T, float>) return std::exp2(x);
  return std::exp(x);
}

/// Powers of numbers that are not above zero; in floats zero where they are below 2^-126.
template <class Arch, class T>
RUNNEL_INLINE simd::lanes<T, Arch> powers(const simd::lanes<T, Arch>& x) noexcept {
  using batch = simd::lanes<T, Arch>;
  if constexpr (!std::is_same_v<T, float>) {
    const batch lowest(-std::numeric_limits<T>::infinity());
    return xsimd::select(x == lowest, batch(T(0)), xsimd::exp(x));
  } else {
    using ints = simd::lanes<std::int32_t, Arch>;
    const batch least(-126.0f);
    const ints whole = simd::round_to_int<Arch>(xsimd::max(x, least));
    const batch part = x - xsimd::to_float(whole);  // within 1/2; 2^part to a relative 2e-9, but for roundings:
    batch y(1.5345812e-4f);
    y = simd::fma(y, part, batch(1.33999314e-3f));
    y = simd::fma(y, part, batch(9.61848896e-3f));
    y = simd::fma(y, part, batch(5.55032878e-2f));
    y = simd::fma(y, part, batch(2.40226469e-1f));
    y = simd::fma(y, part, batch(6.93147206e-1f));
    y = simd::fma(y, part, batch(1.0f));
    const batch scaled = y * simd::bit_cast_to<float>((whole + ints(127)) << 23);
    return xsimd::select(x < least, batch(0.0f), scaled);  // what is not a number stays so
  }
}

/// Brings what a state holds to a new maximum.
template <class Arch, class T>
void rescale(const softmax_state<T>& state, index_t padded, T factor) noexcept {
  using batch = simd::lanes<T, Arch>;
  const batch by(factor);
  (batch::load_aligned(state.weights) * by).store_aligned(state.weights);
  for (index_t i = 0; i < padded; i += static_cast<index_t>(simd::width<T, Arch>)) {
    (batch::load_aligned(state.sums + i) * by).store_aligned(state.sums + i);
  }
}

/// What becomes of a product of query and key before softmax.
template <class T>
struct score_scaling {
  T scale = 1;
  T soft_cap = 0;  // 0: none; else scores become cap tanh(score / cap)
};

/// Scores become weights relative to the running maximum; earlier sums are brought to the new maximum. Weights that
/// share a register with visible keys and are not visible become zero.
template <class Arch, class T>
void soften(const score_scaling<T>& how, page_scores<T>& row, key_range visible, index_t head_dim,
            const softmax_state<T>& state) noexcept {
  using batch = simd::lanes<T, Arch>;
  constexpr auto width = static_cast<std::int32_t>(simd::width<T, Arch>);
  const std::int32_t start = visible.begin / width * width;
  const batch lowest(-std::numeric_limits<T>::infinity());
  const batch scale(how.soft_cap > 0 ? how.scale / how.soft_cap : how.scale * log_of_base<T>);
  batch most = lowest;
  for (std::int32_t at = start; at < visible.end; at += width) {
    T* const score = row.data() + static_cast<std::size_t>(at);
    batch s = batch::load_aligned(score) * scale;
    if (how.soft_cap > 0) s = batch(how.soft_cap * log_of_base<T>) * xsimd::tanh(s);
    if (at < visible.begin || at + width > visible.end) {
      const batch key = simd::iota<T, Arch>() + batch(static_cast<T>(at));
      s = xsimd::select(key >= batch(static_cast<T>(visible.begin)), s, lowest);
      s = xsimd::select(key < batch(static_cast<T>(visible.end)), s, lowest);
    }
    s.store_aligned(score);
    most = xsimd::max(most, s);
  }
  const T highest = simd::maximum(most);
  if (highest > *state.maximum) {
    rescale<Arch>(state, padded_head_dim<T>(head_dim), power(*state.maximum - highest));
    *state.maximum = highest;
  }
  const batch reference(*state.maximum == -std::numeric_limits<T>::infinity() ? T(0) : *state.maximum);
  batch total = batch::load_aligned(state.weights);
  for (std::int32_t at = start; at < visible.end; at += width) {
    T* const weight = row.data() + static_cast<std::size_t>(at);
    const batch e = powers<Arch>(batch::load_aligned(weight) - reference);
    e.store_aligned(weight);
    total = total + e;
  }
  total.store_aligned(state.weights);
}

}  // namespace runnel::kernels::detail
