// SPDX-License-Identifier: Apache-2.0
#include <runnel/core/dtype.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include <runnel/core/simd.hpp>

#include "support/instruction_sets.hpp"

namespace {

using namespace runnel;

/// A 16-bit float by its definition: sign, exponent and fraction bits.
double by_definition(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  const double sign = (bits >> 15) != 0 ? -1 : 1;
  const auto exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1u));
  const double fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1u)) / std::ldexp(1.0, fraction_bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

template <class Scalar>
void check_all(int exponent_bits, int fraction_bits) {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto scalar = Scalar::from_bits(static_cast<std::uint16_t>(bits));
    const auto value = static_cast<float>(scalar);
    const double expected = by_definition(bits, exponent_bits, fraction_bits);
    if (std::isnan(expected)) {
      const auto back = static_cast<float>(Scalar(value));
      wrong += !(std::isnan(value) && std::isnan(back) && std::signbit(back) == std::signbit(value));
      continue;
    }
    wrong +=
        !(static_cast<double>(value) == expected && std::signbit(value) == (bits >= 32768) && Scalar(value) == scalar);
    // Between this value and the next one up in magnitude: nearest, and the even one from the middle.
    const double next = by_definition(bits + 1, exponent_bits, fraction_bits);
    if (!std::isfinite(expected) || (bits & 0x7fffu) == 0x7fffu || std::isnan(next)) continue;
    const double above = std::isinf(next) ? 2 * expected - by_definition(bits - 1, exponent_bits, fraction_bits) : next;
    const auto middle = static_cast<float>((expected + above) / 2);
    if (static_cast<double>(middle) != (expected + above) / 2) continue;  // below what a float can say
    const auto even = static_cast<std::uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    wrong += Scalar(middle).bits != even;
    wrong += Scalar(std::nextafterf(middle, 0.0f)).bits != bits;
    wrong += Scalar(std::nextafterf(middle, middle < 0 ? -INFINITY : INFINITY)).bits != bits + 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("all 65536 halves, both ways, with every rounding between them") { check_all<f16>(5, 10); }
TEST_CASE("all 65536 bfloats, both ways, with every rounding between them") { check_all<bf16>(8, 7); }

TEST_CASE("far numbers overflow to infinity or vanish, sign kept") {
  CHECK(f16(65519.996f).bits == 0x7bff);
  CHECK(f16(65520.0f).bits == 0x7c00);
  CHECK(f16(-1e30f).bits == 0xfc00);
  CHECK(f16(INFINITY).bits == 0x7c00);
  CHECK(f16(-1e-30f).bits == 0x8000);
  CHECK(f16(0x1p-25f).bits == 0);  // the middle between zero and the least half: to even
  CHECK(f16(0x1.000002p-25f).bits == 1);
  CHECK(f16(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(bf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(bf16(-std::numeric_limits<float>::max()).bits == 0xff80);
  CHECK(bf16(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(std::isnan(
      static_cast<float>(bf16(std::bit_cast<float>(0x7f800001u)))));  // its fraction is below what bf16 keeps
  CHECK(std::isnan(static_cast<float>(f16(std::bit_cast<float>(0xff800001u)))));
}

TEST_CASE("they are constants where constants are wanted") {
  static_assert(static_cast<float>(f16(1.5f)) == 1.5f && f16(1.5f).bits == 0x3e00);
  static_assert(static_cast<float>(bf16(-2.0f)) == -2.0f && bf16(1.0f).bits == 0x3f80);
  CHECK(f16() == f16::from_bits(0));
  CHECK(bf16() == bf16::from_bits(0));
}

TEST_CASE("registers of halves convert as one half does, whatever the upper bits hold") {
  tests::for_each_arch([]<class Arch>(Arch) {
    constexpr std::size_t width = simd::width<std::int32_t, Arch>;
    int wrong = 0;
    for (std::uint32_t upper : {0u, 0xffff0000u, 0x5a5a0000u}) {
      for (std::uint32_t bits = 0; bits < 65536; bits += width) {
        alignas(64) std::array<std::int32_t, width> words;
        alignas(64) std::array<float, width> values;
        for (std::uint32_t i = 0; i < width; ++i) words[i] = static_cast<std::int32_t>((bits + i) | upper);
        simd::half_to_float<Arch>(simd::lanes<std::int32_t, Arch>::load_aligned(words.data()))
            .store_aligned(values.data());
        for (std::uint32_t i = 0; i < width; ++i) {
          const auto expected = static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(bits + i)));
          // A signalling NaN may come out quiet.
          const bool same = std::isnan(expected)
                                ? std::isnan(values[i])
                                : std::bit_cast<std::uint32_t>(values[i]) == std::bit_cast<std::uint32_t>(expected);
          wrong += same ? 0 : 1;
        }
      }
    }
    CHECK(wrong == 0);
  });
}

}  // namespace
