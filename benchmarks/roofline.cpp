// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <string>

#include "roofline.hpp"

/// \file
/// Prints what the machine can do: the roofs that the other benchmarks measure their shares of.

int main(int argc, char** argv) {
  const int most = argc > 1 ? std::stoi(argv[1]) : 2;
  std::printf(
      "| threads | f32 Gop/s | bf16 Gop/s | int8 Gop/s | read 16K GB/s | 256K | 4M | 16M | 256M |\n"
      "|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (int threads = 1; threads <= most; ++threads) {
    benchmarks::roofline roof(threads);
    using benchmarks::arithmetic;
    std::printf("| %d | %.0f | %.0f | %.0f |", threads, roof.peak(arithmetic::f32) / 1e9,
                roof.peak(arithmetic::bf16) / 1e9, roof.peak(arithmetic::int8) / 1e9);
    for (const double bytes : {0x1p14, 0x1p18, 0x1p22, 0x1p24, 0x1p28}) {
      std::printf(" %.0f |", roof.bandwidth(bytes) / 1e9);
    }
    std::printf("\n");
  }
}
