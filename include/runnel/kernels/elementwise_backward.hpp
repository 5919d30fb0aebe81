// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <runnel/core/rng.hpp>
#include <runnel/kernels/elementwise.hpp>

/// \file
/// Gradients of the row-wise kernels (elementwise.hpp): from that of a result to those of its inputs, one row at a
/// time. Where `fresh` is true the input's gradient is written, otherwise it is added to.

namespace runnel::kernels {

namespace detail {

/// Stores `value`, or adds it to what is there.
template <class Arch, class T>
RUNNEL_INLINE void put(const simd::lanes<T, Arch>& value, bool fresh, T* to) noexcept {
  (fresh ? value : value + simd::lanes<T, Arch>::load_unaligned(to)).store_unaligned(to);
}
template <class T>
RUNNEL_INLINE void put_one(T value, bool fresh, T& to) noexcept {
  to = fresh ? value : value + to;
}

}  // namespace detail

/// y += factor a b, elementwise.
template <class Arch, class T>
void add_scaled_product(T* y, T factor, const T* a, const T* b, index_t count) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch scaled = batch::load_unaligned(a + i) * batch(factor);
        simd::fma(scaled, batch::load_unaligned(b + i), batch::load_unaligned(y + i)).store_unaligned(y + i);
      },
      [&](index_t i) { y[i] = std::fma(a[i] * factor, b[i], y[i]); });
}

/// dx = factor dy.
template <class Arch, class T>
void scale_into(const T* dy, T factor, index_t count, T* dx, bool fresh) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count, [&](index_t i) { detail::put<Arch>(batch::load_unaligned(dy + i) * batch(factor), fresh, dx + i); },
      [&](index_t i) { detail::put_one(dy[i] * factor, fresh, dx[i]); });
}

/// Sum of a b over a row.
template <class Arch, class T>
[[nodiscard]] T dot(const T* a, const T* b, index_t count) noexcept {
  using batch = simd::lanes<T, Arch>;
  batch sums(T(0));
  T tail = 0;
  detail::sweep<Arch, T>(
      count, [&](index_t i) { sums = simd::fma(batch::load_unaligned(a + i), batch::load_unaligned(b + i), sums); },
      [&](index_t i) { tail = std::fma(a[i], b[i], tail); });
  return simd::sum(sums) + tail;
}

/// Of `rms_norm` toward x, with s = 1 / sqrt(mean(x^2) + eps) and w = weight + offset:
/// dx = s w dy - x s^3 mean(x w dy). Returns s; the weight's gradient is the sum of s x dy over rows.
template <class Arch, class T>
T rms_norm_backward(const T* x, const T* weight, T offset, T eps, index_t count, const T* dy, T* dx,
                    bool fresh) noexcept {
  using batch = simd::lanes<T, Arch>;
  batch along(T(0));
  T tail = 0;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch w = batch::load_unaligned(weight + i) + batch(offset);
        along = simd::fma(batch::load_unaligned(x + i) * w, batch::load_unaligned(dy + i), along);
      },
      [&](index_t i) { tail = std::fma(x[i] * (weight[i] + offset), dy[i], tail); });
  const T n = static_cast<T>(count);
  const T scale = T(1) / std::sqrt(dot<Arch>(x, x, count) / n + eps);
  const T back = scale * scale * scale * (simd::sum(along) + tail) / n;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch w = batch::load_unaligned(weight + i) + batch(offset);
        const batch straight = batch::load_unaligned(dy + i) * w * batch(scale);
        detail::put<Arch>(straight - batch::load_unaligned(x + i) * batch(back), fresh, dx + i);
      },
      [&](index_t i) { detail::put_one(dy[i] * (weight[i] + offset) * scale - x[i] * back, fresh, dx[i]); });
  return scale;
}

/// Mean of a row, and one over its standard deviation.
template <class T>
struct row_moments {
  T mean;
  T scale;
};

/// Of `layer_norm` toward x, with n = (x - mean) s: dx = s (w dy - mean(w dy) - n mean(n w dy)). Returns mean and s;
/// the weight's gradient is the sum of n dy over rows, the bias's that of dy.
template <class Arch, class T>
row_moments<T> layer_norm_backward(const T* x, const T* weight, T eps, index_t count, const T* dy, T* dx,
                                   bool fresh) noexcept {
  using batch = simd::lanes<T, Arch>;
  const T n = static_cast<T>(count);
  const auto reduce = [&](auto&& wide, auto&& narrow) {
    batch sums(T(0));
    T tail = 0;
    detail::sweep<Arch, T>(
        count, [&](index_t i) { sums = sums + wide(i); }, [&](index_t i) { tail += narrow(i); });
    return (simd::sum(sums) + tail) / n;
  };
  const auto x_at = [&](index_t i) { return batch::load_unaligned(x + i); };
  const auto g_at = [&](index_t i) { return batch::load_unaligned(weight + i) * batch::load_unaligned(dy + i); };
  const T mean = reduce(x_at, [&](index_t i) { return x[i]; });
  const T variance = reduce([&](index_t i) { return (x_at(i) - batch(mean)) * (x_at(i) - batch(mean)); },
                            [&](index_t i) { return (x[i] - mean) * (x[i] - mean); });
  const T scale = T(1) / std::sqrt(variance + eps);
  const T plain = reduce(g_at, [&](index_t i) { return weight[i] * dy[i]; });
  const T along = reduce([&](index_t i) { return (x_at(i) - batch(mean)) * batch(scale) * g_at(i); },
                         [&](index_t i) { return (x[i] - mean) * scale * weight[i] * dy[i]; });
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch normal = (x_at(i) - batch(mean)) * batch(scale);
        detail::put<Arch>((g_at(i) - batch(plain) - normal * batch(along)) * batch(scale), fresh, dx + i);
      },
      [&](index_t i) {
        const T normal = (x[i] - mean) * scale;
        detail::put_one((weight[i] * dy[i] - plain - normal * along) * scale, fresh, dx[i]);
      });
  return {mean, scale};
}

namespace detail {

/// An activation and its derivative.
template <class T>
struct activation_slope {
  T value;
  T slope;
};

template <class T>
RUNNEL_INLINE activation_slope<T> activation_and_slope(activation kind, T x) noexcept {
  constexpr T half = static_cast<T>(0.5);
  switch (kind) {
    case activation::gelu: {
      const T below = half * (T(1) + std::erf(x * static_cast<T>(0.70710678118654752440)));
      const T density = static_cast<T>(0.39894228040143267794) * std::exp(-half * x * x);
      return {x * below, below + x * density};
    }
    case activation::gelu_tanh: {
      constexpr T a = static_cast<T>(0.79788456080286535588), b = static_cast<T>(0.044715);
      const T t = std::tanh(a * std::fma(b * x * x, x, x));
      const T inner = a * (T(1) + T(3) * b * x * x);
      return {half * x * (T(1) + t), half * (T(1) + t) + half * x * (T(1) - t * t) * inner};
    }
    case activation::silu: break;
  }
  const T sigmoid = T(1) / (T(1) + std::exp(-x));
  return {x * sigmoid, sigmoid * (T(1) + x * (T(1) - sigmoid))};
}

}  // namespace detail

/// An input of a kernel and its gradient.
template <class T>
struct input_row {
  const T* value;
  T* gradient;
  bool fresh;
};

/// Of activation(gate) * up.
template <class Arch, class T>
void gated_activation_backward(activation kind, const input_row<T>& gate, const input_row<T>& up, const T* dy,
                               index_t count) noexcept {
  using batch = simd::lanes<T, Arch>;
  const auto narrow = [&](index_t i) {
    const auto at = detail::activation_and_slope(kind, gate.value[i]);
    const T to_gate = dy[i] * up.value[i] * at.slope;
    detail::put_one(to_gate, gate.fresh, gate.gradient[i]);
    detail::put_one(dy[i] * at.value, up.fresh, up.gradient[i]);
  };
  if (kind != activation::silu) {
    for (index_t i = 0; i < count; ++i) narrow(i);
    return;
  }
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch g = batch::load_unaligned(gate.value + i), d = batch::load_unaligned(dy + i);
        const batch sigmoid = batch(T(1)) / (batch(T(1)) + xsimd::exp(-g));
        const batch slope = sigmoid * simd::fma(g, batch(T(1)) - sigmoid, batch(T(1)));
        const batch to_gate = d * batch::load_unaligned(up.value + i) * slope;
        detail::put<Arch>(to_gate, gate.fresh, gate.gradient + i);
        detail::put<Arch>(d * g * sigmoid, up.fresh, up.gradient + i);
      },
      narrow);
}

/// Of activation(x).
template <class Arch, class T>
void activate_backward(activation kind, const input_row<T>& x, const T* dy, index_t count) noexcept {
  using batch = simd::lanes<T, Arch>;
  const auto narrow = [&](index_t i) {
    detail::put_one(dy[i] * detail::activation_and_slope(kind, x.value[i]).slope, x.fresh, x.gradient[i]);
  };
  if (kind != activation::gelu) {
    for (index_t i = 0; i < count; ++i) narrow(i);
    return;
  }
  const batch half(static_cast<T>(0.5)), inverse_root(static_cast<T>(0.70710678118654752440));
  const batch peak(static_cast<T>(0.39894228040143267794));
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch v = batch::load_unaligned(x.value + i);
        const batch below = half * (batch(T(1)) + xsimd::erf(v * inverse_root));
        const batch slope = simd::fma(v, peak * xsimd::exp(-(half * v * v)), below);
        detail::put<Arch>(batch::load_unaligned(dy + i) * slope, x.fresh, x.gradient + i);
      },
      narrow);
}

/// Of cap tanh(x / cap), from its result y, in place: dy (1 - (y / cap)^2).
template <class Arch, class T>
void soft_cap_backward(T cap, const T* y, index_t count, T* gradient) noexcept {
  using batch = simd::lanes<T, Arch>;
  detail::sweep<Arch, T>(
      count,
      [&](index_t i) {
        const batch share = batch::load_unaligned(y + i) / batch(cap);
        (batch::load_unaligned(gradient + i) * (batch(T(1)) - share * share)).store_unaligned(gradient + i);
      },
      [&](index_t i) { gradient[i] *= T(1) - y[i] / cap * (y[i] / cap); });
}

/// Of `rotate_half`: the rotation back (with the table's magnitude once more).
template <class Arch, class T>
void rotate_half_backward(const T* dy, const T* cosines, const T* sines, index_t rotary, index_t head_dim, T* dx,
                          bool fresh) noexcept {
  using batch = simd::lanes<T, Arch>;
  const index_t half = rotary / 2;
  detail::sweep<Arch, T>(
      half,
      [&](index_t i) {
        const batch a = batch::load_unaligned(dy + i), b = batch::load_unaligned(dy + half + i);
        const batch c = batch::load_unaligned(cosines + i), s = batch::load_unaligned(sines + i);
        detail::put<Arch>(simd::fma(a, c, b * s), fresh, dx + i);
        detail::put<Arch>(simd::fma(b, c, -(a * s)), fresh, dx + half + i);
      },
      [&](index_t i) {
        const T a = dy[i], b = dy[half + i];
        detail::put_one(std::fma(a, cosines[i], b * sines[i]), fresh, dx[i]);
        detail::put_one(std::fma(b, cosines[i], -(a * sines[i])), fresh, dx[half + i]);
      });
  for (index_t i = rotary; i < head_dim; ++i) detail::put_one(dy[i], fresh, dx[i]);
}

/// Which elements dropout zeroes: 16 random bits an element, from a seed and its place; so the rate is rounded to a
/// multiple of 1/65536.
class drop_rule {
 public:
  drop_rule(double rate, std::uint64_t seed) noexcept
      : limit_(static_cast<std::uint32_t>(std::min<long>(std::lround(rate * 65536), 65535))),
        keep_(65536.0 / (65536.0 - limit_)),
        seed_(seed) {}

  /// Bits of elements 4 `quad` to 4 `quad` + 3 of a row.
  [[nodiscard]] std::uint64_t bits(std::uint64_t row, std::uint64_t quad) const noexcept {
    return splitmix64(place(row, quad))();
  }
  /// The same of `count` quads from `quad` on, a multiple of the registers' width.
  template <class Arch>
  void bits(std::uint64_t row, std::uint64_t quad, std::size_t count, std::uint64_t* out) const noexcept {
    using words = simd::lanes<std::uint64_t, Arch>;
    std::array<std::uint64_t, words::size> places;
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = place(row, quad + i) + splitmix64::step;
    auto state = words::load_unaligned(places.data());
    for (std::size_t i = 0; i < count; i += words::size) {
      auto z = state;
      z = (z ^ (z >> 30)) * words(splitmix64::first_factor);
      z = (z ^ (z >> 27)) * words(splitmix64::second_factor);
      z = z ^ (z >> 31);
      z.store_unaligned(out + i);
      state = state + words(splitmix64::step * words::size);
    }
  }
  /// What elements with these 16 bits each are multiplied by; 0: they are dropped.
  template <class T, std::size_t Count>
  void factors(const std::array<std::uint16_t, Count>& bits, std::array<T, Count>& out) const noexcept {
    const auto limit = static_cast<std::int32_t>(limit_);
    const T keep = static_cast<T>(keep_);
    for (std::size_t i = 0; i < Count; ++i) {
      out[i] = static_cast<T>(static_cast<std::int32_t>(bits[i]) >= limit ? 1 : 0) * keep;
    }
  }

 private:
  [[nodiscard]] std::uint64_t place(std::uint64_t row, std::uint64_t quad) const noexcept {
    return seed_ + (row * 0x100000001b3u + quad - 1) * splitmix64::step;
  }

  std::uint32_t limit_;
  double keep_;
  std::uint64_t seed_;
};

/// y = x where the rule keeps it, times its factor; 0 elsewhere. Its own gradient: dx from dy.
template <class Arch, class T>
void drop(const drop_rule& rule, std::uint64_t row, const T* x, index_t count, T* y, bool fresh) noexcept {
  using batch = simd::lanes<T, Arch>;
  constexpr index_t block = 64;
  std::array<std::uint64_t, block / 4> words;
  alignas(64) std::array<T, block> factors;
  for (index_t at = 0; at < count; at += block) {
    const auto quad = static_cast<std::uint64_t>(at / 4);
    rule.bits<Arch>(row, quad, words.size(), words.data());
    static_assert(std::endian::native == std::endian::little);
    rule.factors(std::bit_cast<std::array<std::uint16_t, block>>(words), factors);  // the lowest first
    detail::sweep<Arch, T>(
        std::min(block, count - at),
        [&](index_t i) {
          const auto factor = batch::load_aligned(factors.data() + i);
          const auto kept = batch::load_unaligned(x + at + i) * factor;  // not a number where x is none
          detail::put<Arch>(xsimd::select(factor == batch(T(0)), batch(T(0)), kept), fresh, y + at + i);
        },
        [&](index_t i) {
          const T factor = factors[static_cast<std::size_t>(i)];
          detail::put_one(factor == T(0) ? T(0) : x[at + i] * factor, fresh, y[at + i]);
        });
  }
}

}  // namespace runnel::kernels
