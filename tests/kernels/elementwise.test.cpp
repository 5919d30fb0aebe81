// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/elementwise.hpp>
#include <runnel/kernels/elementwise_backward.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;

/// Runs `kernel(x, y)` on memory that begins `shift` elements after an aligned place, for several shifts: the result
/// must be near `expected(i)` (relative to the largest), the same bits every time, and nothing beside it may be
/// written.
template <class T, class Kernel, class Expected>
void check_row(const std::vector<T>& x, double tolerance, Kernel&& kernel, Expected&& expected) {
  constexpr T guard = static_cast<T>(-777);
  std::vector<T> first;
  for (std::size_t shift = 0; shift < 5; ++shift) {
    std::vector<T> input(shift), output(x.size() + 2 * shift + 1, guard);
    input.insert(input.end(), x.begin(), x.end());
    kernel(input.data() + shift, output.data() + shift);
    for (std::size_t i = 0; i < shift; ++i) CHECK(output[i] == guard);
    for (std::size_t i = shift + x.size(); i < output.size(); ++i) CHECK(output[i] == guard);
    const std::vector<T> found(output.begin() + static_cast<std::ptrdiff_t>(shift),
                               output.begin() + static_cast<std::ptrdiff_t>(shift + x.size()));
    if (shift == 0) first = found;
    CHECK(tests::same_bits(found, first));
  }
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double wanted = expected(i);
    largest = std::max(largest, std::fabs(wanted));
    const double distance = std::fabs(static_cast<double>(first[i]) - wanted);
    difference = std::isnan(distance) ? INFINITY : std::max(difference, distance);
  }
  CHECK(difference <= tolerance * std::max(largest, 1e-30));
}

template <class T>
double wide(T value) {
  return static_cast<double>(value);
}

template <class T>
void check_norms(double tolerance) {
  random_stream random(1);
  for (index_t count = 1; count <= 70; ++count) {
    CAPTURE(count);
    const auto x = tests::normals<T>(random, count, 3), w = tests::normals<T>(random, count),
               b = tests::normals<T>(random, count);
    const T eps = static_cast<T>(1e-5);
    double square = 0, mean = 0, variance = 0;
    for (const T value : x) square += wide(value) * wide(value) / static_cast<double>(count);
    for (const T value : x) mean += wide(value) / static_cast<double>(count);
    for (const T value : x) variance += (wide(value) - mean) * (wide(value) - mean) / static_cast<double>(count);
    tests::for_each_arch([&]<class Arch>(Arch) {
      for (const T offset : {T(0), T(1)}) {
        check_row<T>(
            x, tolerance, [&](const T* in, T* out) { kernels::rms_norm<Arch>(in, w.data(), offset, eps, count, out); },
            [&](std::size_t i) { return wide(x[i]) / std::sqrt(square + wide(eps)) * (wide(w[i]) + wide(offset)); });
      }
      for (const T* bias : {b.data(), static_cast<const T*>(nullptr)}) {
        // One number has no variance: what is left is rounding, which the square root of eps magnifies.
        check_row<T>(
            x, count < 3 ? 1e4 * tolerance : 50 * tolerance,
            [&](const T* in, T* out) { kernels::layer_norm<Arch>(in, w.data(), bias, eps, count, out); },
            [&](std::size_t i) {
              return (wide(x[i]) - mean) / std::sqrt(variance + wide(eps)) * wide(w[i]) +
                     (bias != nullptr ? wide(b[i]) : 0);
            });
      }
    });
  }
}

TEST_CASE("norms") {
  check_norms<float>(2e-6);
  check_norms<double>(1e-14);
}

template <class T>
void check_sums_and_gates(double tolerance) {
  random_stream random(2);
  for (index_t count = 1; count <= 70; ++count) {
    CAPTURE(count);
    const auto x = tests::normals<T>(random, count, 4), b = tests::normals<T>(random, count);
    tests::for_each_arch([&]<class Arch>(Arch) {
      check_row<T>(
          x, tolerance, [&](const T* in, T* out) { kernels::add<Arch>(in, b.data(), count, out); },
          [&](std::size_t i) { return wide(x[i]) + wide(b[i]); });
      check_row<T>(
          x, tolerance,
          [&](const T* in, T* out) {
            std::copy_n(in, count, out);
            kernels::soft_cap<Arch>(T(5), count, out);
          },
          [&](std::size_t i) { return 5 * std::tanh(wide(x[i]) / 5); });
      const auto gate = [&](kernels::activation kind, auto&& formula) {
        check_row<T>(
            x, tolerance, [&](const T* in, T* out) { kernels::gated_activation<Arch>(kind, in, b.data(), count, out); },
            [&](std::size_t i) { return formula(wide(x[i])) * wide(b[i]); });
      };
      gate(kernels::activation::silu, [](double v) { return v / (1 + std::exp(-v)); });
      gate(kernels::activation::gelu, [](double v) { return v * std::erfc(-v / std::sqrt(2.0)) / 2; });
      gate(kernels::activation::gelu_tanh, [](double v) {
        return v / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
      });
    });
  }
}

TEST_CASE("sums, caps and gates") {
  check_sums_and_gates<float>(3e-6);
  check_sums_and_gates<double>(1e-14);
}

TEST_CASE("silu has limits: far left nothing is left, far right everything passes") {
  // 35 elements: whole registers and a tail see the same numbers.
  for (const float gate : {-1e30f, -1000.0f, -100.0f, -90.0f, 90.0f, 1000.0f, 1e30f, -0.0f}) {
    const std::vector<float> gates(35, gate), ones(35, 1.0f);
    std::vector<float> out(35);
    tests::for_each_arch([&]<class Arch>(Arch) {
      kernels::gated_activation<Arch>(kernels::activation::silu, gates.data(), ones.data(), 35, out.data());
      for (const float value : out) {
        CAPTURE(gate);
        if (gate > 0) CHECK(value == gate);
        if (gate <= 0) CHECK(std::fabs(value) <= 1e-30f);
      }
    });
  }
}

template <class T>
void check_rotation(double tolerance) {
  random_stream random(3);
  for (const index_t head_dim : {2, 4, 6, 10, 24, 34, 64, 66, 80, 128}) {
    for (index_t rotary = 2; rotary <= head_dim; rotary += std::max<index_t>(2, head_dim / 4 * 2)) {
      CAPTURE(head_dim);
      CAPTURE(rotary);
      const auto x = tests::normals<T>(random, head_dim);
      std::vector<T> cosines, sines;
      for (index_t i = 0; i < rotary / 2; ++i) {
        const double angle = 7 * random.uniform();
        cosines.push_back(static_cast<T>(std::cos(angle)));
        sines.push_back(static_cast<T>(std::sin(angle)));
      }
      const auto expected = [&](std::size_t i) {
        const auto half = static_cast<std::size_t>(rotary / 2);
        if (i < half) return wide(x[i]) * wide(cosines[i]) - wide(x[i + half]) * wide(sines[i]);
        if (i < 2 * half) return wide(x[i]) * wide(cosines[i - half]) + wide(x[i - half]) * wide(sines[i - half]);
        return wide(x[i]);
      };
      tests::for_each_arch([&]<class Arch>(Arch) {
        check_row<T>(
            x, tolerance,
            [&](const T* in, T* out) {
              kernels::rotate_half<Arch>(in, cosines.data(), sines.data(), rotary, head_dim, out);
            },
            expected);
        check_row<T>(
            x, tolerance,
            [&](const T* in, T* out) {  // in place
              std::copy_n(in, head_dim, out);
              kernels::rotate_half<Arch>(out, cosines.data(), sines.data(), rotary, head_dim, out);
            },
            expected);
      });
    }
  }
}

TEST_CASE("rotation") {
  check_rotation<float>(3e-7);
  check_rotation<double>(1e-15);
}

template <class T>
void check_dropout() {
  const double rate = 0.3;
  const kernels::drop_rule rule(rate, 11);
  const auto limit = static_cast<std::uint64_t>(std::lround(rate * 65536));
  for (const std::size_t count : {1u, 3u, 16u, 63u, 64u, 65u, 200u}) {
    random_stream random(5);
    auto x = tests::normals<T>(random, static_cast<index_t>(count));
    x[count / 2] = std::numeric_limits<T>::infinity();
    std::vector<T> expected(count);
    for (std::size_t i = 0; i < count; ++i) {
      const bool kept = ((rule.bits(7, i / 4) >> (16 * (i % 4))) & 0xffffu) >= limit;
      const T factor = static_cast<T>(65536.0 / (65536.0 - static_cast<double>(limit)));
      expected[i] = kept ? x[i] * factor : T(0);
    }
    tests::for_each_arch([&]<class Arch>(Arch) {
      std::vector<T> out(count, T(3));
      kernels::drop<Arch>(rule, 7, x.data(), static_cast<index_t>(count), out.data(), true);
      CHECK(tests::same_bits(out, expected));
      kernels::drop<Arch>(rule, 7, x.data(), static_cast<index_t>(count), out.data(), false);
      for (std::size_t i = 0; i < count; ++i) CHECK(out[i] == expected[i] + expected[i]);
    });
  }
}

TEST_CASE("dropout drops by seed, row and place alone, and what is not finite as well") {
  check_dropout<float>();
  check_dropout<double>();
}

TEST_CASE("activations backward: written or added, as the slope says, far from zero as well") {
  constexpr index_t count = 35;
  for (const auto kind : {kernels::activation::gelu, kernels::activation::gelu_tanh, kernels::activation::silu}) {
    std::vector<float> x(count), dy(count);
    for (index_t i = 0; i < count; ++i) {
      x[static_cast<std::size_t>(i)] = -12 + 24 * static_cast<float>(i) / (count - 1);
      dy[static_cast<std::size_t>(i)] = static_cast<float>(i % 5) - 1.5f;
    }
    tests::for_each_arch([&]<class Arch>(Arch) {
      for (const bool fresh : {true, false}) {
        std::vector<float> dx(count, fresh ? 1e30f : 0.75f);
        kernels::activate_backward<Arch, float>(kind, {x.data(), dx.data(), fresh}, dy.data(), count);
        for (std::size_t i = 0; i < dx.size(); ++i) {
          const double slope = kernels::detail::activation_and_slope<double>(kind, static_cast<double>(x[i])).slope;
          const double expected = (fresh ? 0 : 0.75) + static_cast<double>(dy[i]) * slope;
          CHECK(static_cast<double>(dx[i]) == doctest::Approx(expected).epsilon(1e-5));
        }
      }
    });
  }
}

}  // namespace
