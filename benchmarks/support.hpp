// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <runnel/core/index.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/ops/eval.hpp>

#include "roofline.hpp"

/// \file
/// What the microbenchmarks share: parameters on the command line, and the counters beside the time.

namespace benchmarks {

/// Parameters of a benchmark: `--name=a,b,c` for each that was declared. What is left goes to Google Benchmark.
class parameters {
 public:
  parameters(std::string_view about, int argc, char** argv) : about_(about) {
    for (int i = 0; i < argc; ++i) {
      const std::string_view word = argv[i];
      const auto equals = word.find('=');
      if (i == 0 || !word.starts_with("--") || word.starts_with("--benchmark_") || equals == std::string_view::npos) {
        if (word == "--help") asked_for_help_ = true;
        rest_.push_back(argv[i]);
      } else {
        given_[std::string(word.substr(2, equals - 2))] = word.substr(equals + 1);
      }
    }
  }

  /// The values of one parameter, or `usual`.
  std::vector<std::string> words(const std::string& name, std::string_view usual, std::string_view meaning) {
    help_ += "  --" + name + "=" + std::string(usual) + "\n      " + std::string(meaning) + "\n";
    std::string_view text = usual;
    if (const auto found = given_.find(name); found != given_.end()) {
      text = found->second;
      taken_.push_back(name);
    }
    std::vector<std::string> all;
    while (!text.empty()) {
      const auto comma = text.find(',');
      all.emplace_back(text.substr(0, comma));
      text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    }
    return all;
  }

  /// The same for whole numbers of at least `least`.
  std::vector<runnel::index_t> numbers(const std::string& name, std::string_view usual, std::string_view meaning,
                                       runnel::index_t least = 1) {
    std::vector<runnel::index_t> all;
    for (const std::string& word : words(name, usual, meaning)) {
      runnel::index_t value = 0;
      const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
      if (problem != std::errc() || end != word.data() + word.size() || value < least) {
        fail("--" + name + ": expected whole numbers of at least " + std::to_string(least) + ", found '" + word + "'");
      }
      all.push_back(value);
    }
    return all;
  }

  /// To be called when all parameters are declared and before benchmarks are registered.
  void done() {
    if (asked_for_help_) {
      std::printf(
          "%s\n\nParameters (lists between commas; every combination is measured) and their usual values:\n%s\n",
          std::string(about_).c_str(), help_.c_str());
    }
    for (const auto& [name, value] : given_) {
      if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) fail("unknown parameter --" + name);
    }
    count_ = static_cast<int>(rest_.size());
    rest_.push_back(nullptr);
    benchmark::Initialize(&count_, rest_.data());
    if (benchmark::ReportUnrecognizedArguments(count_, rest_.data())) std::exit(2);
  }

  [[noreturn]] static void fail(const std::string& what) {
    std::fprintf(stderr, "%s (see --help)\n", what.c_str());
    std::exit(2);
  }

 private:
  std::string_view about_;
  std::map<std::string, std::string_view> given_;
  std::vector<std::string> taken_;
  std::vector<char*> rest_;
  std::string help_;
  int count_ = 0;
  bool asked_for_help_ = false;
};

/// The machine's roofline for a number of threads, measured when it is first asked for, kept for the whole run and told
/// in the context of the report.
inline roofline& roofline_of(int threads) {
  static std::map<int, std::unique_ptr<roofline>> known;
  auto& one = known[threads];
  if (one == nullptr) {
    one = std::make_unique<roofline>(threads);
    const std::string prefix = "roofline_" + std::to_string(threads) + "_thread_";
    const auto add = [&](const char* name, double value) {
      char text[32];
      std::snprintf(text, sizeof text, "%.1f", value / 1e9);
      benchmark::AddCustomContext(prefix + name, text);
    };
    add("f32_gops", one->peak(arithmetic::f32));
    add("bf16_gops", one->peak(arithmetic::bf16));
    add("int8_gops", one->peak(arithmetic::int8));
    add("read_256MB_gbs", one->bandwidth(0x1p28));
  }
  return *one;
}

/// The numbers that a compute mode multiplies.
inline arithmetic arithmetic_of(runnel::ops::compute_mode mode) {
  switch (mode) {
    case runnel::ops::compute_mode::bf16: return arithmetic::bf16;
    case runnel::ops::compute_mode::int8: return arithmetic::int8;
    default: return arithmetic::f32;
  }
}

/// What one iteration does at least: operations, and bytes that have to be read.
struct work {
  arithmetic in = arithmetic::f32;
  double operations = 0;
  double bytes = 0;
  int threads = 1;
  double working_set = 0;  ///< bytes that are read in turn, where they are more than those of one iteration
};

/// Runs `once` for the benchmark and reports Gop/s, GB/s and the share of the roofline that this is.
template <class F>
void measure(benchmark::State& state, const work& each, F&& once) {
  const double floor =
      roofline_of(each.threads).seconds(each.in, each.operations, each.bytes, std::max(each.bytes, each.working_set));
  once();  // warms caches and memory that is kept from step to step
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) once();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const double seconds = took.count() / static_cast<double>(state.iterations());
  if (each.operations > 0) state.counters["Gop/s"] = each.operations / seconds / 1e9;
  if (each.bytes > 0) state.counters["GB/s"] = each.bytes / seconds / 1e9;
  if (each.operations > 0 || each.bytes > 0) state.counters["roofline"] = floor / seconds;
}

/// Every one of `all` with each of `values` for one of its members.
template <class Setup, class Value, class Member>
void vary(std::vector<Setup>& all, const std::vector<Value>& values, Member Setup::*member) {
  std::vector<Setup> varied;
  for (const Setup& one : all) {
    for (const Value& value : values) {
      varied.push_back(one);
      varied.back().*member = static_cast<Member>(value);
    }
  }
  all = std::move(varied);
}

/// Registers `f(state, setup)` for every setup under its `name()` and runs what the command line chooses.
template <class Setup, class F>
void run(const std::vector<Setup>& all, F&& f) {
  for (const Setup& one : all) roofline_of(one.threads);
  for (const Setup& one : all) {
    benchmark::RegisterBenchmark(one.name().c_str(), [one, f](benchmark::State& state) { f(state, one); })
        ->UseRealTime()  // threads of ours work beside the one that is timed
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
}

/// Numbers of a normal distribution.
inline std::vector<float> normals(runnel::index_t count, std::uint64_t seed = 1) {
  runnel::random_stream random{seed};
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    value = static_cast<float>(radius * std::cos(2 * std::numbers::pi * random.uniform()));
  }
  return out;
}

/// Keeps the compiler from dropping a result.
inline void keep(const void* result) {
  benchmark::DoNotOptimize(result);
  benchmark::ClobberMemory();
}

}  // namespace benchmarks
