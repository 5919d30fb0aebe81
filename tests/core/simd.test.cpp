// SPDX-License-Identifier: Apache-2.0
#include <runnel/core/simd.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <type_traits>
#include <vector>

#include <runnel/core/dtype.hpp>

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
  });
}

TEST_CASE("dots of bytes are exact, dots of bf16 are one or two fused steps") {
  random_stream random(2);
  tests::for_each_arch([&]<class Arch>(Arch) {
    using ints = simd::lanes<std::int32_t, Arch>;
    constexpr std::size_t width = simd::width<float, Arch>;
    for (int turn = 0; turn < 50; ++turn) {
      alignas(64) std::array<std::int32_t, width> a{}, small{}, b{}, start{}, pairs{}, others{};
      for (std::size_t i = 0; i < width; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          const auto any = static_cast<std::uint32_t>(turn == 0 ? 255 : random.below(256));
          const auto signed_byte = static_cast<std::uint8_t>(turn == 0 ? 129 : random.below(255) - 127);
          a[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a[i]) | any << (8 * byte));
          small[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(small[i]) | (any % 16) << (8 * byte));
          b[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(b[i]) | static_cast<std::uint32_t>(signed_byte)
                                                                                  << (8 * byte));
        }
        start[i] = static_cast<std::int32_t>(random.below(100000)) - 50000;
        const auto two = [&] {
          const std::uint32_t low = bf16(static_cast<float>(random.uniform() - 0.5)).bits;
          const std::uint32_t high = bf16(static_cast<float>(random.uniform() - 0.5)).bits;
          return static_cast<std::int32_t>(low | high << 16);
        };
        pairs[i] = two();
        others[i] = two();
      }
      const auto byte_of = [](std::int32_t word, int i) { return static_cast<std::uint32_t>(word) >> (8 * i); };
      const auto expected = [&](const auto& unsigned_side, std::size_t i) {
        std::int32_t sum = start[i];
        for (int k = 0; k < 4; ++k) {
          sum += static_cast<std::uint8_t>(byte_of(unsigned_side[i], k)) *
                 static_cast<std::int8_t>(static_cast<std::uint8_t>(byte_of(b[i], k)));
        }
        return sum;
      };
      const ints from = ints::load_aligned(start.data()), right = ints::load_aligned(b.data());
      const auto wide = store<std::int32_t, Arch>(simd::dot4<255>(from, ints::load_aligned(a.data()), right));
      const auto narrow = store<std::int32_t, Arch>(simd::dot4<15>(from, ints::load_aligned(small.data()), right));
      const auto halves = store<float, Arch>(simd::dot2<Arch>(
          simd::lanes<float, Arch>(0.25f), ints::load_aligned(pairs.data()), ints::load_aligned(others.data())));
      for (std::size_t i = 0; i < width; ++i) {
        CHECK(wide[i] == expected(a, i));
        CHECK(narrow[i] == expected(small, i));
        double sum = 0.25;
        for (int k = 0; k < 2; ++k) {
          const auto half = [&](std::int32_t word) {
            return static_cast<double>(static_cast<float>(
                bf16::from_bits(static_cast<std::uint16_t>(static_cast<std::uint32_t>(word) >> (16 * k)))));
          };
          sum += half(pairs[i]) * half(others[i]);
        }
        CHECK(std::fabs(static_cast<double>(halves[i]) - sum) < 1e-7);
      }
    }
  });
}

TEST_CASE("blocks are transposed, wherever they lie") {
  std::vector<std::int32_t> from(16 * 21 + 3);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::int32_t>(i);
  tests::for_each_arch([&]<class Arch>(Arch) {
    for (const std::ptrdiff_t stride : {16, 19, 33}) {
      std::vector<std::int32_t> to(static_cast<std::size_t>(15 * stride + 17), -1);
      simd::transpose<Arch>(from.data() + 3, 21, to.data() + 1, stride);
      std::size_t written = 0;
      for (std::ptrdiff_t i = 0; i < 16; ++i) {
        for (std::ptrdiff_t j = 0; j < 16; ++j) {
          CHECK(to[static_cast<std::size_t>(1 + i * stride + j)] == from[static_cast<std::size_t>(3 + j * 21 + i)]);
        }
      }
      for (const auto value : to) written += value != -1 ? 1 : 0;
      CHECK(written == 256);
    }
  });
}

TEST_CASE("floats round to whole numbers, ties to even; bytes are summed with their signs") {
  const std::vector<float> x{0.5f, 1.5f, -0.5f, -2.5f, 126.5f, -126.5f, 3.49f, -7.51f,
                             0.5f, 1.5f, -0.5f, -2.5f, 126.5f, -126.5f, 3.49f, -7.51f};
  const std::vector<std::int32_t> expected{0, 2, 0, -2, 126, -126, 3, -8, 0, 2, 0, -2, 126, -126, 3, -8};
  tests::for_each_arch([&]<class Arch>(Arch) {
    const auto found = store<std::int32_t, Arch>(simd::round_to_int(load<float, Arch>(x)));
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == expected[i]);
  });
  std::array<std::int8_t, 16> bytes{};
  CHECK(simd::sum_of_16_bytes(bytes.data()) == 0);
  bytes.fill(-128);
  CHECK(simd::sum_of_16_bytes(bytes.data()) == -2048);
  bytes.fill(127);
  bytes[7] = -3;
  CHECK(simd::sum_of_16_bytes(bytes.data()) == 15 * 127 - 3);
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
