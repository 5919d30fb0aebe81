// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/core/thread_team.hpp>

/// \file
/// What this machine can do right now: multiplications and additions from registers, and bytes read from memory of the
/// working set's size. Measured when the program starts, because the figures of shared machines move.

namespace benchmarks {

/// Numbers that are multiplied; sums are f32 or 32-bit integers.
enum class arithmetic : std::uint8_t { f32, bf16, int8 };

/// Peaks of `threads` threads.
class roofline {
 public:
  explicit roofline(int threads) : team_(threads) {
    for (std::size_t i = 0; i < peaks_.size(); ++i) peaks_[i] = measure_peak(static_cast<arithmetic>(i));
  }

  /// Operations a second; a multiplication and an addition are two.
  [[nodiscard]] double peak(arithmetic of) const { return peaks_[static_cast<std::size_t>(of)]; }

  /// Bytes a second, read again and again from `bytes` of memory, which lie in whatever cache they fit into. Measured
  /// once for each power of two.
  [[nodiscard]] double bandwidth(double bytes) {
    const auto size = std::clamp(std::bit_ceil(static_cast<std::size_t>(bytes)), smallest, largest);
    const auto known = bandwidths_.find(size);
    if (known != bandwidths_.end()) return known->second;
    return bandwidths_[size] = measure_bandwidth(size);
  }

  /// The least seconds in which these operations can be done and these bytes of a working set read.
  [[nodiscard]] double seconds(arithmetic of, double operations, double bytes, double working_set) {
    return std::max(operations / peak(of), bytes / bandwidth(working_set));
  }

 private:
  using arch = runnel::simd::best_arch;
  using floats = runnel::simd::lanes<float, arch>;
  using ints = runnel::simd::lanes<std::int32_t, arch>;
  static constexpr std::size_t smallest = std::size_t{1} << 14;
  static constexpr std::size_t largest = std::size_t{1} << 28;

  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  /// The best of several short tries: a peak is what is possible.
  template <class F>
  double best_rate(double amount, F&& work) {
    double best = 0;
    for (int attempt = 0; attempt < 7; ++attempt) {
      team_.run([&] {
        const double begin = now();
        work();
        best = std::max(best, amount / (now() - begin));
      });
    }
    return best;
  }

  /// Rate of a chain of `step(sum)`, enough of them side by side to hide their latency.
  template <class Lanes, class Step>
  double measure_chains(double operations, Step&& step) {
    constexpr std::size_t chains = 12;  // as many as two units of a latency of six need, few enough for 16 registers
    constexpr int turns = 200000;
    const int threads = team_.size();
    std::vector<std::array<float, 16>> sinks(static_cast<std::size_t>(threads));
    return best_rate(static_cast<double>(threads) * chains * turns * operations, [&] {
      team_.parallel_for(threads, 1, [&](std::ptrdiff_t begin, std::ptrdiff_t end, int) {
        for (std::ptrdiff_t piece = begin; piece < end; ++piece) {
          std::array<Lanes, chains> sums;
          sums.fill(Lanes(0));
          for (int i = 0; i < turns; ++i) {
            RUNNEL_UNROLL for (std::size_t c = 0; c < chains; ++c) sums[c] = step(sums[c]);
          }
          Lanes total(0);
          for (const Lanes& sum : sums) total = total + sum;
          const auto value = runnel::simd::bit_cast_to<float>(total);
          alignas(64) std::array<float, 16> out{};
          value.store_aligned(out.data());
          sinks[static_cast<std::size_t>(piece)] = out;
        }
      });
    });
  }

  double measure_peak(arithmetic of) {
    constexpr auto width = static_cast<double>(runnel::simd::width<float, arch>);
    // Behind a barrier, or the compiler would see through the loop.
    volatile std::int32_t seed = 0x00010001;
    const ints a(seed), b(seed);
    switch (of) {
      case arithmetic::f32:
        return measure_chains<floats>(2 * width, [&](const floats& sum) RUNNEL_LAMBDA_INLINE {
          return runnel::simd::fma(runnel::simd::bit_cast_to<float>(a), runnel::simd::bit_cast_to<float>(b), sum);
        });
      case arithmetic::bf16:
        return measure_chains<floats>(
            4 * width, [&](const floats& sum) RUNNEL_LAMBDA_INLINE { return runnel::simd::dot2(sum, a, b); });
      case arithmetic::int8:
        return measure_chains<ints>(
            8 * width, [&](const ints& sum) RUNNEL_LAMBDA_INLINE { return runnel::simd::dot4<127>(sum, a, b); });
    }
    return 0;
  }

  double measure_bandwidth(std::size_t bytes) {
    constexpr std::size_t step = 8;  // registers a turn
    constexpr std::size_t width = runnel::simd::width<float, arch>;
    const int threads = team_.size();
    const std::size_t each = bytes / static_cast<std::size_t>(threads) / (step * width * sizeof(float));
    const std::size_t turns = std::max<std::size_t>(1, (std::size_t{1} << 25) / bytes);
    std::vector<runnel::aligned_buffer<float>> memory;
    for (int i = 0; i < threads; ++i) memory.emplace_back(each * step * width);
    std::vector<float> sinks(static_cast<std::size_t>(threads));
    const double amount = static_cast<double>(threads) * static_cast<double>(turns * each * step * width) *
                          static_cast<double>(sizeof(float));
    return best_rate(amount, [&] {
      team_.parallel_for(threads, 1, [&](std::ptrdiff_t begin, std::ptrdiff_t end, int) {
        for (std::ptrdiff_t piece = begin; piece < end; ++piece) {
          std::array<floats, step> sums;
          sums.fill(floats(0.0f));
          for (std::size_t turn = 0; turn < turns; ++turn) {
            const float* from = memory[static_cast<std::size_t>(piece)].data();
            for (std::size_t i = 0; i < each; ++i, from += step * width) {
              RUNNEL_UNROLL for (std::size_t r = 0; r < step; ++r) {
                sums[r] = sums[r] + floats::load_aligned(from + r * width);
              }
            }
          }
          float total = 0;
          for (const floats& sum : sums) total += runnel::simd::sum(sum);
          sinks[static_cast<std::size_t>(piece)] = total;
        }
      });
    });
  }

  runnel::thread_team team_;
  std::array<double, 3> peaks_{};
  std::map<std::size_t, double> bandwidths_;
};

}  // namespace benchmarks
