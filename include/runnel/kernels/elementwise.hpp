// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>

/// \file
/// Kernels over one row: norms, rotary, gates, sums. Each works on whole registers and a scalar tail; the split depends
/// on the row's length alone.

namespace runnel::kernels {

namespace detail {

/// Calls `wide(i)` at every whole register and `narrow(i)` at every element of the tail.
template <class Arch, class T, class Wide, class Narrow>
RUNNEL_INLINE void sweep(index_t count, Wide&& wide, Narrow&& narrow) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  index_t i = 0;
  for (; i + width <= count; i += width) wide(i);
  for (; i < count; ++i) narrow(i);
}

}  // namespace detail

/// y = x / sqrt(mean(x^2) + eps) * (weight + offset), one row of `count`. `offset` is 1 where a family stores w - 1.
template <class Arch, class T>
void rms_norm(const T* x, const T* weight, T offset, T eps, index_t count, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  batch squares(T(0));
  T tail = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch v = batch::load_unaligned(x + i);
        squares = simd::fma(v, v, squares);
      },
      [&](index_t i) { tail = std::fma(x[i], x[i], tail); });
  const T scale = T(1) / std::sqrt((simd::sum(squares) + tail) / static_cast<T>(count) + eps);
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch w = batch::load_unaligned(weight + i) + batch(offset);
        (batch::load_unaligned(x + i) * batch(scale) * w).store_unaligned(y + i);
      },
      [&](index_t i) { y[i] = x[i] * scale * (weight[i] + offset); });
}

/// y = (x - mean) / sqrt(variance + eps) * weight + bias, one row of `count`. `bias` may be null.
template <class Arch, class T>
void layer_norm(const T* x, const T* weight, const T* bias, T eps, index_t count, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  batch sums(T(0));
  T tail = 0;
  detail::sweep<Arch, T>(
      count, [&](index_t i) { sums = sums + batch::load_unaligned(x + i); }, [&](index_t i) { tail += x[i]; });
  const T mean = (simd::sum(sums) + tail) / static_cast<T>(count);
  batch squares(T(0));
  tail = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch v = batch::load_unaligned(x + i) - batch(mean);
        squares = simd::fma(v, v, squares);
      },
      [&](index_t i) { tail = std::fma(x[i] - mean, x[i] - mean, tail); });
  const T scale = T(1) / std::sqrt((simd::sum(squares) + tail) / static_cast<T>(count) + eps);
  const T zero = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch v = (batch::load_unaligned(x + i) - batch(mean)) * batch(scale);
        const batch b = bias != nullptr ? batch::load_unaligned(bias + i) : batch(zero);
        simd::fma(v, batch::load_unaligned(weight + i), b).store_unaligned(y + i);
      },
      [&](index_t i) { y[i] = std::fma((x[i] - mean) * scale, weight[i], bias != nullptr ? bias[i] : zero); });
}

/// y = x + addend, one row.
template <class Arch, class T>
void add(const T* x, const T* addend, index_t count, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) { (batch::load_unaligned(x + i) + batch::load_unaligned(addend + i)).store_unaligned(y + i); },
      [&](index_t i) { y[i] = x[i] + addend[i]; });
}

/// y += factor x, one row.
template <class Arch, class T>
void add_scaled(T* y, T factor, const T* x, index_t count) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        simd::fma(batch(factor), batch::load_unaligned(x + i), batch::load_unaligned(y + i)).store_unaligned(y + i);
      },
      [&](index_t i) { y[i] = std::fma(factor, x[i], y[i]); });
}

/// Activations of gated feed-forward layers, named as Hugging Face configs name them.
enum class activation : std::uint8_t { silu, gelu, gelu_tanh };

namespace detail {

template <class T>
RUNNEL_INLINE T activate(activation kind, T x) noexcept {
  constexpr T half = static_cast<T>(0.5);
  switch (kind) {
    case activation::gelu: return half * x * (T(1) + std::erf(x * static_cast<T>(0.70710678118654752440)));
    case activation::gelu_tanh: {
      const T inner = static_cast<T>(0.79788456080286535588) * std::fma(static_cast<T>(0.044715) * x * x, x, x);
      return half * x * (T(1) + std::tanh(inner));
    }
    case activation::silu: break;
  }
  return x / (T(1) + std::exp(-x));
}

}  // namespace detail

/// y = activation(x), one row.
template <class Arch, class T>
void activate(activation kind, const T* x, index_t count, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  const batch one(T(1)), half(static_cast<T>(0.5));
  const auto narrow = [&](index_t i) { y[i] = detail::activate(kind, x[i]); };
  if (kind == activation::gelu) {
    const batch inverse_root(static_cast<T>(0.70710678118654752440));
    detail::sweep<Arch, T>(
        count,
        [&](index_t i) {
          const batch v = batch::load_unaligned(x + i);
          (half * v * (one + xsimd::erf(v * inverse_root))).store_unaligned(y + i);
        },
        narrow);
  } else if (kind == activation::silu) {
    detail::sweep<Arch, T>(
        count,
        [&](index_t i) {
          const batch v = batch::load_unaligned(x + i);
          (v / (one + xsimd::exp(-v))).store_unaligned(y + i);
        },
        narrow);
  } else {
    for (index_t i = 0; i < count; ++i) narrow(i);
  }
}

/// y = activation(gate) * up, one row.
template <class Arch, class T>
void gated_activation(activation kind, const T* gate, const T* up, index_t count, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  if (kind != activation::silu) {
    for (index_t i = 0; i < count; ++i) y[i] = detail::activate(kind, gate[i]) * up[i];
    return;
  }
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch g = batch::load_unaligned(gate + i);
        const batch e = xsimd::exp(-g);  // infinite far to the left, where the quotient is then zero
        (g / (batch(T(1)) + e) * batch::load_unaligned(up + i)).store_unaligned(y + i);
      },
      [&](index_t i) { y[i] = detail::activate(kind, gate[i]) * up[i]; });
}

/// x = cap tanh(x / cap), in place, one row (final logits of Gemma 2).
template <class Arch, class T>
void soft_cap(T cap, index_t count, T* x) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) { (batch(cap) * xsimd::tanh(batch::load_unaligned(x + i) / batch(cap))).store_unaligned(x + i); },
      [&](index_t i) { x[i] = cap * std::tanh(x[i] / cap); });
}

/// Rotates one head: pairs (i, i + rotary/2) for i < rotary/2 by the angles whose cosines and sines are given; features
/// past `rotary` pass unchanged. `x` and `y` may be the same.
template <class Arch, class T>
void rotate_half(const T* x, const T* cosines, const T* sines, index_t rotary, index_t head_dim, T* y) noexcept {
  using batch = simd::lanes<T, Arch>;
  const index_t half = rotary / 2;
  detail::sweep<Arch, T>(
      half,
      [&](index_t i) {
        const batch a = batch::load_unaligned(x + i), b = batch::load_unaligned(x + half + i);
        const batch c = batch::load_unaligned(cosines + i), s = batch::load_unaligned(sines + i);
        simd::fma(a, c, -(b * s)).store_unaligned(y + i);
        simd::fma(b, c, a * s).store_unaligned(y + half + i);
      },
      [&](index_t i) {
        const T a = x[i], b = x[half + i];
        y[i] = std::fma(a, cosines[i], -(b * sines[i]));
        y[half + i] = std::fma(b, cosines[i], a * sines[i]);
      });
  for (index_t i = rotary; i < head_dim; ++i) y[i] = x[i];
}

}  // namespace runnel::kernels
