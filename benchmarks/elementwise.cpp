// SPDX-License-Identifier: Apache-2.0

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/kernels/activations.hpp>
#include <runnel/kernels/elementwise.hpp>

#include "support.hpp"

/// \file
/// Kernels over one row at a time, on one thread: norms, sums, gates, rotation, the conversion of activations for
/// products, the storing of keys and values.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

struct setup {
  std::string kernel;
  index_t rows = 1;
  index_t features = 1;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "elementwise/" + kernel + "/rows:" + std::to_string(rows) + "/features:" + std::to_string(features);
  }
};

/// Rows that kernels read and write; `count` features each.
struct buffers {
  static constexpr index_t head_size = 64;

  explicit buffers(const setup& with)
      : count(with.features),
        x(benchmarks::normals(with.rows * count, 1)),
        other(benchmarks::normals(with.rows * count, 2)),
        weight(benchmarks::normals(count, 3)),
        y(x.size()),
        pairs(static_cast<std::size_t>(kernels::pair_count(count))),
        blocks(static_cast<std::size_t>(kernels::byte_block_count(count) + 1)),
        cache(cache::entry_shape{1, count / head_size, head_size}),
        narrow_cache(cache::entry_shape{1, count / head_size, head_size, cache::storage_type::bf16}) {
    cache.reserve(group::source, kernels::page_keys);
    narrow_cache.reserve(group::source, kernels::page_keys);
  }

  index_t count;
  std::vector<float> x;
  std::vector<float> other;
  std::vector<float> weight;
  std::vector<float> y;
  std::vector<quant::word> pairs;
  std::vector<kernels::byte_block> blocks;
  cache::key_value_cache cache;
  cache::key_value_cache narrow_cache;
};

/// What a kernel does to one row, and the bytes that it reads and writes for each feature.
struct kernel {
  double bytes_a_feature = 0;
  std::function<void(buffers&, index_t row)> run;
};

std::map<std::string, kernel> make_kernels() {
  using arch = simd::best_arch;
  const auto at = [](std::vector<float>& values, const buffers& b, index_t row) {
    return values.data() + row * b.count;
  };
  const auto gate = [at](kernels::activation kind) {
    return [at, kind](buffers& b, index_t row) {
      kernels::gated_activation<arch>(kind, at(b.x, b, row), at(b.other, b, row), b.count, at(b.y, b, row));
    };
  };
  std::map<std::string, kernel> all;
  all["rms_norm"] = {8, [at](buffers& b, index_t row) {
                       kernels::rms_norm<arch>(at(b.x, b, row), b.weight.data(), 0.0f, 1e-5f, b.count, at(b.y, b, row));
                     }};
  all["layer_norm"] = {8, [at](buffers& b, index_t row) {
                         kernels::layer_norm<arch>(at(b.x, b, row), b.weight.data(), b.weight.data(), 1e-5f, b.count,
                                                   at(b.y, b, row));
                       }};
  all["add"] = {12, [at](buffers& b, index_t row) {
                  kernels::add<arch>(at(b.x, b, row), at(b.other, b, row), b.count, at(b.y, b, row));
                }};
  all["gate_silu"] = {12, gate(kernels::activation::silu)};
  all["gate_gelu"] = {12, gate(kernels::activation::gelu)};
  all["gate_gelu_tanh"] = {12, gate(kernels::activation::gelu_tanh)};
  all["soft_cap"] = {8, [at](buffers& b, index_t row) { kernels::soft_cap<arch>(30.0f, b.count, at(b.y, b, row)); }};
  all["rotate"] = {8, [at](buffers& b, index_t row) {
                     for (index_t h = 0; h + buffers::head_size <= b.count; h += buffers::head_size) {
                       kernels::rotate_half<arch>(at(b.x, b, row) + h, b.weight.data(), b.weight.data(),
                                                  buffers::head_size, buffers::head_size, at(b.y, b, row) + h);
                     }
                   }};
  all["round_to_bf16"] = {
      6, [at](buffers& b, index_t row) { kernels::round_row_to_bf16<arch>(at(b.x, b, row), b.count, b.pairs.data()); }};
  all["quantize"] = {5, [at](buffers& b, index_t row) {
                       kernels::quantize_row<arch>(at(b.x, b, row), b.count / 32 * 32, 0, 1, b.blocks.data());
                     }};
  const auto store = [at](cache::key_value_cache buffers::*which) {
    return [at, which](buffers& b, index_t row) {
      (b.*which).write(0, group::source, {row % kernels::page_keys, at(b.x, b, row), at(b.other, b, row)});
    };
  };
  all["store_key_value"] = {16, store(&buffers::cache)};
  all["store_key_value_bf16"] = {12, store(&buffers::narrow_cache)};
  return all;
}

const std::map<std::string, kernel>& all_kernels() {
  static const auto all = make_kernels();
  return all;
}

void measure(benchmark::State& state, const setup& with) {
  buffers data(with);
  const kernel& chosen = all_kernels().at(with.kernel);
  const double features = static_cast<double>(with.rows * with.features);
  const benchmarks::work each{benchmarks::arithmetic::f32, 0, features * chosen.bytes_a_feature, 1};
  benchmarks::measure(state, each, [&] {
    for (index_t row = 0; row < with.rows; ++row) chosen.run(data, row);
    benchmarks::keep(data.y.data());
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string names;
  for (const auto& [name, unused] : all_kernels()) names += (names.empty() ? "" : ",") + name;
  parameters given("Kernels over one row at a time, on one thread; GB/s counts what is read and what is written.", argc,
                   argv);
  std::vector<setup> all{setup{}};
  vary(all, given.words("kernel", names, "which"), &setup::kernel);
  vary(all, given.numbers("features", "576,1536", "features of a row, at least a head of 64", buffers::head_size),
       &setup::features);
  vary(all, given.numbers("rows", "1,64", "rows"), &setup::rows);
  given.done();
  for (const setup& one : all) {
    if (!all_kernels().contains(one.kernel)) parameters::fail("unknown kernel " + one.kernel);
  }
  benchmarks::run(all, measure);
}
