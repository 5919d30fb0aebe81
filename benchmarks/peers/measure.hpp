// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// What the programs in this folder have in common: their command line, how they time, what they print.
///
/// They share it so that all sides of a comparison are timed by one clock in one way. It includes nothing of runnel.

namespace peers {

/// One product: C = A W^T with A [rows, inputs] and W [outputs, inputs].
struct shape {
  std::int64_t rows = 1;     // M
  std::int64_t outputs = 1;  // N
  std::int64_t inputs = 1;   // K
};

struct options {
  int threads = 1;
  int repetitions = 5;
  double seconds = 0.03;             ///< of one repetition, at least
  bool processor_time = false;       ///< count that instead of elapsed time
  std::vector<std::string> formats;  ///< empty: all
  std::vector<shape> shapes;

  [[nodiscard]] bool wants(std::string_view format) const {
    return formats.empty() || std::find(formats.begin(), formats.end(), format) != formats.end();
  }
};

/// The shapes that speed is reported for where the command line names none.
inline std::vector<shape> usual_shapes() {
  std::vector<shape> all;
  for (const auto& [outputs, inputs] : {std::pair{2048, 2048}, {576, 1536}, {1536, 576}}) {
    for (const int rows : {1, 8, 64, 512}) all.push_back({rows, outputs, inputs});
  }
  return all;
}

inline options parse(int argc, char** argv) {
  options out;
  const auto usage = [&] {
    std::fprintf(stderr, "usage: %s [-t THREADS] [-r REPETITIONS] [-s SECONDS] [-c] [-f FORMAT]... [MxNxK]...\n",
                 argv[0]);
    std::exit(2);
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "-c") {
      out.processor_time = true;
      continue;
    }
    const bool takes_value = word == "-t" || word == "-r" || word == "-s" || word == "-f";
    if (takes_value && ++i == argc) usage();
    if (word == "-t") {
      out.threads = std::max(1, std::atoi(argv[i]));
    } else if (word == "-r") {
      out.repetitions = std::max(1, std::atoi(argv[i]));
    } else if (word == "-s") {
      out.seconds = std::atof(argv[i]);
    } else if (word == "-f") {
      out.formats.emplace_back(argv[i]);
    } else {
      long long m = 0, n = 0, k = 0;
      if (std::sscanf(word.c_str(), "%lldx%lldx%lld", &m, &n, &k) != 3 || m < 1 || n < 1 || k < 1) usage();
      out.shapes.push_back({m, n, k});
    }
  }
  if (out.processor_time && out.threads != 1) usage();
  if (out.shapes.empty()) out.shapes = usual_shapes();
  return out;
}

/// Seconds of the clock that was asked for. The processor's clock stands still while other programs have the processor,
/// so on a busy machine it gives one thread's figures; with more threads it says nothing.
inline double now(const options& how) {
  if (how.processor_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of one call of `work`, median over repetitions; each repetition calls often enough to be timed well. Data
/// are warm.
template <class F>
double median_seconds(const options& how, F&& work) {
  work();
  std::int64_t calls = 1;
  for (;;) {
    const double begin = now(how);
    for (std::int64_t i = 0; i < calls; ++i) work();
    const double took = now(how) - begin;
    if (took >= how.seconds) break;
    calls = std::max(calls + 1, static_cast<std::int64_t>(1.2 * static_cast<double>(calls) * how.seconds /
                                                          std::max(took, how.seconds / 50)));
  }
  std::vector<double> all;
  for (int r = 0; r < how.repetitions; ++r) {
    const double begin = now(how);
    for (std::int64_t i = 0; i < calls; ++i) work();
    all.push_back((now(how) - begin) / static_cast<double>(calls));
  }
  std::sort(all.begin(), all.end());
  const std::size_t middle = all.size() / 2;
  return all.size() % 2 != 0 ? all[middle] : (all[middle - 1] + all[middle]) / 2;
}

/// One line of the report: who, what, M, N, K, threads, Gop/s (a multiplication and an addition are two).
inline void report(const std::string& who, const std::string& what, const shape& of, int threads, double seconds) {
  const double operations =
      2.0 * static_cast<double>(of.rows) * static_cast<double>(of.outputs) * static_cast<double>(of.inputs);
  std::printf("%s\t%s\t%lld\t%lld\t%lld\t%d\t%.2f\n", who.c_str(), what.c_str(), static_cast<long long>(of.rows),
              static_cast<long long>(of.outputs), static_cast<long long>(of.inputs), threads,
              operations / seconds / 1e9);
  std::fflush(stdout);
}

/// Numbers in [-1, 1), the same everywhere.
inline std::vector<float> some_values(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return values;
}

}  // namespace peers
