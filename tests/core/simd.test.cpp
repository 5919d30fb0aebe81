// SPDX-License-Identifier: Apache-2.0
#include <runnel/core/simd.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <type_traits>
#include <vector>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;

template <class T, class Arch>
auto load(const std::vector<T>& values) {
  return simd::lanes<T, Arch>::load_unaligned(values.data());
}

template <class T, class Arch>
std::vector<T> store(const simd::lanes<T, Arch>& x) {
  std::vector<T> out(simd::width<T, Arch>);
  x.store_unaligned(out.data());
  return out;
}

template <class T, class Arch>
void check_arithmetic(random_stream& random) {
  constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  for (int turn = 0; turn < 50; ++turn) {
    const auto a = tests::normals<T>(random, width), b = tests::normals<T>(random, width),
               c = tests::normals<T>(random, width);
    const auto found = store<T, Arch>(simd::fma(load<T, Arch>(a), load<T, Arch>(b), load<T, Arch>(c)));
    T total = 0, most = a[0];
    for (std::size_t i = 0; i < found.size(); ++i) {
      const bool fused = !std::is_same_v<Arch, xsimd::sse2>;
      // The volatile product keeps this from being contracted.
      const volatile T product = a[i] * b[i];
      CHECK(found[i] == (fused ? std::fma(a[i], b[i], c[i]) : product + c[i]));
      total += a[i];
      most = std::max(most, a[i]);
    }
    CHECK(std::fabs(simd::sum<T, Arch>(load<T, Arch>(a)) - total) <= static_cast<T>(1e-5));
    CHECK(simd::maximum<T, Arch>(load<T, Arch>(a)) == most);
  }
  const auto counted = store<T, Arch>(simd::iota<T, Arch>());
  for (std::size_t i = 0; i < counted.size(); ++i) CHECK(counted[i] == static_cast<T>(i));
}

TEST_CASE("helpers do what they say on every instruction set") {
  random_stream random(1);
  tests::for_each_arch([&]<class Arch>(Arch) {
    check_arithmetic<float, Arch>(random);
    check_arithmetic<double, Arch>(random);
    const simd::lanes<float, Arch> one(1.0f);
    CHECK(store<std::int32_t, Arch>(simd::bit_cast_to<std::int32_t>(one))[0] == 0x3f800000);
    int calls = 0;
    simd::unroll<5>([&](auto i) {
      static_assert(decltype(i)::value < 5);
      CHECK(static_cast<int>(i) == calls++);
    });
    CHECK(calls == 5);
  });
}

TEST_CASE("exp, tanh and comparisons treat extremes as the kernels rely on") {
  tests::for_each_arch([&]<class Arch>(Arch) {
    const auto first = [](const simd::lanes<float, Arch>& x) { return store<float, Arch>(x)[0]; };
    const auto exp_of = [&](float x) { return first(xsimd::exp(simd::lanes<float, Arch>(x))); };
    CHECK(exp_of(0) == 1);
    CHECK(exp_of(-INFINITY) == 0);
    CHECK(exp_of(-1000) == 0);
    CHECK(exp_of(1000) == INFINITY);
    CHECK(exp_of(INFINITY) == INFINITY);
    CHECK(first(xsimd::tanh(simd::lanes<float, Arch>(1e30f))) == 1);
    CHECK(first(xsimd::tanh(simd::lanes<float, Arch>(-1e30f))) == -1);
  });
}

TEST_CASE("instruction sets have names and an order") {
  CHECK(name_of(instruction_set::baseline) == "baseline");
  CHECK(name_of(instruction_set::avx2) == "avx2");
  CHECK(name_of(instruction_set::avx512) == "avx512");
  CHECK(simd::compiled(best_instruction_set));
  const auto all = tests::runnable_instruction_sets();
  REQUIRE_FALSE(all.empty());
  std::vector<std::size_t> widths;
  for (const auto which : all) {
    simd::with_arch(which, [&]<class Arch>(Arch) { widths.push_back(simd::width<float, Arch>); });
  }
  for (std::size_t i = 1; i < widths.size(); ++i) CHECK(widths[i] > widths[i - 1]);  // each is another one
}

}  // namespace
