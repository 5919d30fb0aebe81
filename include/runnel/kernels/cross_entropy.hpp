// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <runnel/kernels/elementwise.hpp>

/// \file
/// Cross-entropy of a row of logits against one label, with label smoothing as PyTorch has it: the target is
/// 1 - smoothing at the label, plus smoothing / vocab_size everywhere. Sums in double.

namespace runnel::kernels {

/// What is known of a row once its loss is.
struct cross_entropy_row {
  double loss = 0;                  ///< with smoothing
  double nll = 0;                   ///< -log of the label's probability
  double log_sum_exp = 0;           ///< of the logits
  bool likeliest_is_right = false;  ///< whether the label is the first of the highest, which greedy decoding takes
};

/// The loss of one row of `count` logits.
template <class Arch, class T>
[[nodiscard]] cross_entropy_row cross_entropy(const T* logits, index_t count, std::int32_t label,
                                              double smoothing) noexcept {
  using batch = simd::lanes<T, Arch>;
  batch most(-std::numeric_limits<T>::infinity());
  T highest = -std::numeric_limits<T>::infinity();
  batch sums(T(0));
  T tail = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch x = batch::load_unaligned(logits + i);
        most = xsimd::max(most, x);
        sums = sums + x;
      },
      [&](index_t i) {
        highest = std::max(highest, logits[i]);
        tail += logits[i];
      });
  highest = std::max(highest, simd::maximum(most));
  const double sum = static_cast<double>(simd::sum(sums)) + static_cast<double>(tail);
  batch exponentials(T(0));
  tail = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) { exponentials = exponentials + xsimd::exp(batch::load_unaligned(logits + i) - batch(highest)); },
      [&](index_t i) { tail += std::exp(logits[i] - highest); });
  cross_entropy_row out;
  out.log_sum_exp =
      static_cast<double>(highest) + std::log(static_cast<double>(simd::sum(exponentials)) + static_cast<double>(tail));
  out.nll = out.log_sum_exp - static_cast<double>(logits[label]);
  out.loss = (1 - smoothing) * out.nll + smoothing * (out.log_sum_exp - sum / static_cast<double>(count));
  out.likeliest_is_right = std::find(logits, logits + label, highest) == logits + label && logits[label] == highest;
  return out;
}

/// Its gradient toward the logits: scale (softmax - target).
template <class Arch, class T>
void cross_entropy_backward(const T* logits, index_t count, std::int32_t label, double smoothing, double scale,
                            const cross_entropy_row& row, T* gradient) noexcept {
  using batch = simd::lanes<T, Arch>;
  const T s = static_cast<T>(scale), lse = static_cast<T>(row.log_sum_exp);
  const T everywhere = static_cast<T>(scale * smoothing / static_cast<double>(count));
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch p = xsimd::exp(batch::load_unaligned(logits + i) - batch(lse));
        (p * batch(s) - batch(everywhere)).store_unaligned(gradient + i);
      },
      [&](index_t i) { gradient[i] = std::exp(logits[i] - lse) * s - everywhere; });
  gradient[label] -= static_cast<T>(scale * (1 - smoothing));
}

}  // namespace runnel::kernels
