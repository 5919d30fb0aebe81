// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include <xsimd/xsimd.hpp>

#include <runnel/core/config.hpp>
#include <runnel/core/error.hpp>

/// \file
/// The one door to xsimd: which instruction sets are compiled, the operations whose spelling changed between xsimd
/// releases (8.1 to today's), and those it does not have.

namespace runnel {

/// Instruction sets that kernels are compiled for. A kernel's bits may differ between them, and in bf16 between a build
/// for processors with `vdpbf16ps` and one for those without; never within one.
enum class instruction_set : std::uint8_t { baseline, avx2, avx512 };

namespace simd {

template <class T, class Arch>
using lanes = xsimd::batch<T, Arch>;

template <class T, class Arch>
inline constexpr std::size_t width = xsimd::batch<T, Arch>::size;

/// Registers that a kernel may plan with.
template <class Arch>
inline constexpr std::size_t registers = width<float, Arch> == 16 ? 32 : 16;

#if XSIMD_WITH_AVX512BW
using best_arch = xsimd::avx512bw;
inline constexpr instruction_set best = instruction_set::avx512;
#elif XSIMD_WITH_FMA3_AVX2
using best_arch = xsimd::fma3<xsimd::avx2>;
inline constexpr instruction_set best = instruction_set::avx2;
#else
using best_arch = xsimd::default_arch;
inline constexpr instruction_set best = instruction_set::baseline;
#endif

/// Calls `f(Arch{})` for one compiled instruction set. Programs carry one, the best that the compiler's flags allow;
/// with RUNNEL_ALL_INSTRUCTION_SETS (tests, benchmarks) those below it too. `which` must be `compiled`.
template <class F>
RUNNEL_INLINE decltype(auto) with_arch([[maybe_unused]] instruction_set which, F&& f) {
#if defined(RUNNEL_ALL_INSTRUCTION_SETS) && defined(__x86_64__)
#if XSIMD_WITH_AVX512BW
  if (which == instruction_set::avx512) return f(xsimd::avx512bw{});
#endif
#if XSIMD_WITH_FMA3_AVX2
  if (which == instruction_set::avx2) return f(xsimd::fma3<xsimd::avx2>{});
#endif
  return f(xsimd::sse2{});
#else
  return f(best_arch{});
#endif
}

/// Whether this build carries `which`.
[[nodiscard]] constexpr bool compiled(instruction_set which) noexcept {
#if defined(RUNNEL_ALL_INSTRUCTION_SETS) && defined(__x86_64__)
  return which <= best;
#else
  return which == best;
#endif
}

template <class To, class Arch, class From>
RUNNEL_INLINE lanes<To, Arch> bit_cast_to(const lanes<From, Arch>& x) noexcept {
  return std::bit_cast<lanes<To, Arch>>(x);
}

/// a b + c with one rounding wherever the instruction set has it. (xsimd 8.1 rounds twice on AVX-512, hence the
/// intrinsic.)
template <class T, class Arch>
RUNNEL_INLINE lanes<T, Arch> fma(const lanes<T, Arch>& a, const lanes<T, Arch>& b, const lanes<T, Arch>& c) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    if constexpr (std::is_same_v<T, float>) {
      return _mm512_fmadd_ps(a, b, c);
    } else {
      return _mm512_fmadd_pd(a, b, c);
    }
  }
#endif
  return xsimd::fma(a, b, c);
}

/// Floats of less than 2^31 rounded to whole numbers, ties to even.
template <class Arch>
RUNNEL_INLINE lanes<std::int32_t, Arch> round_to_int(const lanes<float, Arch>& x) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) return _mm512_cvtps_epi32(x);
#endif
#if XSIMD_WITH_AVX2
  if constexpr (std::is_base_of_v<xsimd::avx2, Arch> && !std::is_base_of_v<xsimd::avx512f, Arch>) {
    return _mm256_cvtps_epi32(x);
  }
#endif
  return xsimd::to_int(xsimd::nearbyint(x));
}

/// The sum of 16 signed bytes.
RUNNEL_INLINE std::int32_t sum_of_16_bytes(const std::int8_t* bytes) noexcept {
#if XSIMD_WITH_SSE2
  const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(some, _mm_set1_epi8(-128)), _mm_setzero_si128());  // of x + 128
  return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
#else
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < 16; ++i) sum += bytes[i];
  return sum;
#endif
}

/// Stores whole numbers of at most a byte as bytes.
template <class Arch>
RUNNEL_INLINE void store_bytes(const lanes<std::int32_t, Arch>& x, std::int8_t* out) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(x));
  }
#endif
  alignas(64) std::array<std::int32_t, width<std::int32_t, Arch>> values;
  x.store_aligned(values.data());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<std::int8_t>(values[i]);
}

/// One byte a lane, signed or not, as whole numbers.
template <class Arch, class Byte>
requires(std::is_same_v<Byte, std::int8_t> ||
         std::is_same_v<Byte, std::uint8_t>) RUNNEL_INLINE lanes<std::int32_t, Arch> load_bytes(const Byte* bytes)
noexcept {
  [[maybe_unused]] constexpr bool is_signed = std::is_signed_v<Byte>;
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
    if constexpr (is_signed) return _mm512_cvtepi8_epi32(some);
    return _mm512_cvtepu8_epi32(some);
  }
#endif
#if XSIMD_WITH_AVX2
  if constexpr (std::is_base_of_v<xsimd::avx2, Arch> && !std::is_base_of_v<xsimd::avx512f, Arch>) {
    const __m128i some = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
    if constexpr (is_signed) return _mm256_cvtepi8_epi32(some);
    return _mm256_cvtepu8_epi32(some);
  }
#endif
  alignas(64) std::array<std::int32_t, width<std::int32_t, Arch>> values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = bytes[i];
  return lanes<std::int32_t, Arch>::load_aligned(values.data());
}

/// The bytes of `table` that the bytes of `indexes`, each below 16, name.
template <class Arch>
RUNNEL_INLINE lanes<std::int32_t, Arch> look_up(const std::array<std::uint8_t, 16>& table,
                                                const lanes<std::int32_t, Arch>& indexes) noexcept {
#if XSIMD_WITH_AVX512BW
  if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
    const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(row), indexes);
  }
#endif
#if XSIMD_WITH_AVX2
  if constexpr (std::is_base_of_v<xsimd::avx2, Arch> && !std::is_base_of_v<xsimd::avx512f, Arch>) {
    const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), indexes);
  }
#endif
  using ints = lanes<std::int32_t, Arch>;
  alignas(64) std::array<std::uint8_t, sizeof(ints)> bytes;
  indexes.store_aligned(reinterpret_cast<std::int32_t*>(bytes.data()));
  for (std::uint8_t& byte : bytes) byte = table[byte];
  return ints::load_aligned(reinterpret_cast<const std::int32_t*>(bytes.data()));
}

/// Side of a block that `transpose` takes.
inline constexpr std::size_t transposed_side = 16;

/// to[i * to_stride + j] = from[j * from_stride + i] for i, j below 16: words of 32 bits, floats or whole numbers.
template <class Arch, class Word>
requires(sizeof(Word) == 4) void transpose(const Word* from, std::ptrdiff_t from_stride, Word* to,
                                           std::ptrdiff_t to_stride) noexcept {
  constexpr auto side = static_cast<std::ptrdiff_t>(transposed_side);
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    __m512i r[16], t[16];
    for (std::ptrdiff_t i = 0; i < side; ++i) r[i] = _mm512_loadu_si512(from + i * from_stride);
    for (int i = 0; i < 16; i += 2) {  // pairs of rows, word by word
      t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // fours of rows: r[i + j] has columns j, 4 + j, 8 + j, 12 + j
      r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
      r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
      r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
      r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (std::ptrdiff_t j = 0; j < 4; ++j) {  // quarters of registers
      const __m512i even = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), odd = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
      const __m512i even_too = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
      const __m512i odd_too = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
      _mm512_storeu_si512(to + j * to_stride, _mm512_shuffle_i32x4(even, even_too, 0x88));
      _mm512_storeu_si512(to + (4 + j) * to_stride, _mm512_shuffle_i32x4(odd, odd_too, 0x88));
      _mm512_storeu_si512(to + (8 + j) * to_stride, _mm512_shuffle_i32x4(even, even_too, 0xdd));
      _mm512_storeu_si512(to + (12 + j) * to_stride, _mm512_shuffle_i32x4(odd, odd_too, 0xdd));
    }
    return;
  }
#endif
  for (std::ptrdiff_t i = 0; i < side; ++i) {
    for (std::ptrdiff_t j = 0; j < side; ++j) to[i * to_stride + j] = from[j * from_stride + i];
  }
}

/// Asks for the cache line at `address`, which need not be a valid one.
RUNNEL_INLINE void prefetch(const void* address) noexcept { __builtin_prefetch(address); }
/// The same for later: it may wait in the second cache.
RUNNEL_INLINE void prefetch_for_later(const void* address) noexcept { __builtin_prefetch(address, 0, 2); }

/// Sum over lanes in an order fixed by the instruction set.
template <class T, class Arch>
RUNNEL_INLINE T sum(const lanes<T, Arch>& x) noexcept {
  if constexpr (requires { reduce_add(x); }) {
    return reduce_add(x);
  } else {
    return hadd(x);
  }
}

template <class T, class Arch>
RUNNEL_INLINE T maximum(const lanes<T, Arch>& x) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch> && std::is_same_v<T, float>) return _mm512_reduce_max_ps(x);
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch> && std::is_same_v<T, std::int32_t>) {
    return _mm512_reduce_max_epi32(x);
  }
#endif
  alignas(64) std::array<T, width<T, Arch>> values;
  x.store_aligned(values.data());
  return *std::max_element(values.begin(), values.end());
}

/// 0, 1, 2, ...
template <class T, class Arch>
RUNNEL_INLINE lanes<T, Arch> iota() noexcept {
  alignas(64) std::array<T, width<T, Arch>> values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i);
  return lanes<T, Arch>::load_aligned(values.data());
}

/// The IEEE binary16 in the low half of each 32-bit word (upper half ignored), as float. Exact, denormals and all; a
/// NaN may come out quiet.
template <class Arch>
RUNNEL_INLINE lanes<float, Arch> half_to_float(const lanes<std::int32_t, Arch>& words) noexcept {
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
#endif
  using ints = lanes<std::int32_t, Arch>;
  using floats = lanes<float, Arch>;
  const ints magnitude = (words & ints(0x7fff)) << 13;
  const ints sign = (words & ints(0x8000)) << 16;
  // The exponent of a half sits 112 below a float's; the product moves it and makes denormals normal in one exact step.
  const floats scaled = bit_cast_to<float>(magnitude) * floats(0x1p112f);
  const floats special = bit_cast_to<float>(magnitude | ints(0x7f800000));
  const floats value = xsimd::select(scaled >= floats(65536.0f), special, scaled);
  return bit_cast_to<float>(bit_cast_to<std::int32_t>(value) | sign);
}

/// Floats rounded to bf16 (to nearest, ties to even; NaN stays one), in the upper half of each word; the lower is zero.
template <class Arch>
RUNNEL_INLINE lanes<std::int32_t, Arch> round_to_bf16(const lanes<float, Arch>& x) noexcept {
  using ints = lanes<std::int32_t, Arch>;
  const ints bits = bit_cast_to<std::int32_t>(x);
  const ints rounded = bits + ints(0x7fff) + ((bits >> 16) & ints(1));
  const ints quiet = bits | ints(0x400000);
  const auto value = xsimd::select(x == x, bit_cast_to<float>(rounded), bit_cast_to<float>(quiet));
  return bit_cast_to<std::int32_t>(value) & ints(static_cast<std::int32_t>(0xffff0000u));
}

/// Floats rounded to bf16, stored in pairs: the first in the lower half of the first word.
template <class Arch>
RUNNEL_INLINE void store_bf16(const lanes<float, Arch>& x, std::int32_t* pairs) noexcept {
  const lanes<std::int32_t, Arch> rounded = round_to_bf16<Arch>(x);
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    const __m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs), halves);
  }
#endif
  // Two rounded floats as one number, so that a compiler narrows a register of them at once.
  static_assert(std::endian::native == std::endian::little);
  constexpr std::size_t half = width<float, Arch> / 2;
  alignas(64) std::array<std::uint64_t, half> twos;
  std::array<std::int32_t, half> words;
  rounded.store_aligned(reinterpret_cast<std::int32_t*>(twos.data()));
  for (std::size_t i = 0; i < half; ++i) {
    words[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>((twos[i] >> 16) | (twos[i] >> 32)));
  }
  std::memcpy(pairs, words.data(), sizeof words);
}

/// acc + a0 b0 + a1 b1 over the two bf16 in each word (0 in the lower half). One instruction where the CPU has it
/// (denormals are then zeros), else two fused steps.
template <class Arch>
RUNNEL_INLINE lanes<float, Arch> dot2(const lanes<float, Arch>& acc, const lanes<std::int32_t, Arch>& a,
                                      const lanes<std::int32_t, Arch>& b) noexcept {
#if XSIMD_WITH_AVX512F && defined(__AVX512BF16__)
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) {
    return _mm512_dpbf16_ps(acc, std::bit_cast<__m512bh>(static_cast<__m512i>(a)),
                            std::bit_cast<__m512bh>(static_cast<__m512i>(b)));
  }
#endif
  const lanes<std::int32_t, Arch> high(static_cast<std::int32_t>(0xffff0000u));
  const auto first = simd::fma(bit_cast_to<float>(a << 16), bit_cast_to<float>(b << 16), acc);
  return simd::fma(bit_cast_to<float>(a & high), bit_cast_to<float>(b & high), first);
}

/// acc + the four products of bytes in each word: those of `a` unsigned and at most `Largest`, those of `b` signed and
/// not -128. Exact, so the same on every instruction set.
template <int Largest, class Arch>
RUNNEL_INLINE lanes<std::int32_t, Arch> dot4(const lanes<std::int32_t, Arch>& acc, const lanes<std::int32_t, Arch>& a,
                                             const lanes<std::int32_t, Arch>& b) noexcept {
#if XSIMD_WITH_AVX512F && defined(__AVX512VNNI__)
  if constexpr (std::is_base_of_v<xsimd::avx512f, Arch>) return _mm512_dpbusd_epi32(acc, a, b);
#endif
#if XSIMD_WITH_AVX512BW && !defined(__AVX512VNNI__)
  if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
    if constexpr (2 * Largest * 127 <= 32767) {
      const __m512i pairs = _mm512_maddubs_epi16(a, b);
      return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    } else {
      const __m512i even =
          _mm512_madd_epi16(_mm512_and_si512(a, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
      const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(a, 8), _mm512_srai_epi16(b, 8));
      return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
    }
  }
#endif
#if XSIMD_WITH_AVX2
  if constexpr (std::is_base_of_v<xsimd::avx2, Arch>) {
    if constexpr (2 * Largest * 127 <= 32767) {
      const __m256i pairs = _mm256_maddubs_epi16(a, b);
      return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    } else {
      const __m256i even =
          _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
      const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
      return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
    }
  }
#endif
#if XSIMD_WITH_SSE2
  if constexpr (std::is_base_of_v<xsimd::sse2, Arch>) {
    const __m128i even = _mm_madd_epi16(_mm_and_si128(a, _mm_set1_epi16(255)), _mm_srai_epi16(_mm_slli_epi16(b, 8), 8));
    const __m128i odd = _mm_madd_epi16(_mm_srli_epi16(a, 8), _mm_srai_epi16(b, 8));
    return _mm_add_epi32(acc, _mm_add_epi32(even, odd));
  }
#endif
  using ints = lanes<std::int32_t, Arch>;
  const ints byte(255);
  return acc + (a & byte) * ((b << 24) >> 24) + ((a >> 8) & byte) * ((b << 16) >> 24) +
         ((a >> 16) & byte) * ((b << 8) >> 24) + ((a >> 24) & byte) * (b >> 24);
}

}  // namespace simd

/// The best instruction set of this build.
inline constexpr instruction_set best_instruction_set = simd::best;

[[nodiscard]] constexpr std::string_view name_of(instruction_set which) noexcept {
  switch (which) {
    case instruction_set::baseline: return "baseline";
    case instruction_set::avx2: return "avx2";
    case instruction_set::avx512: return "avx512";
  }
  return "unknown";
}

}  // namespace runnel
