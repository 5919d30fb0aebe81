// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include <runnel/models/decoder.hpp>

#include "support/instruction_sets.hpp"
#include "support/tiny_model.hpp"

// Every allocation of this program is counted.

namespace {

std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Not inlined, or the compiler sees memory of aligned_alloc in free and warns.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return counted(size == 0 ? 1 : size, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size == 0 ? 1 : size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using namespace runnel;

TEST_CASE("a step allocates nothing once its context is warm") {
  random_stream random(71);
  for (const auto format : {quant::weight_format::f32, quant::weight_format::q4_1, quant::weight_format::bf16}) {
    tests::tiny_model_options options;
    options.format = format;
    const auto model = tests::tiny_decoder(random, options);
    for (const int threads : {1, 3}) {
      for (const auto mode : {ops::compute_mode::f32, ops::compute_mode::bf16, ops::compute_mode::int8}) {
        ops::eval context({threads, mode});
        auto cache = model->make_cache();
        cache.reserve(group::source, 64);
        const auto step = [&](index_t at, index_t count) {
          row_table rows;
          std::vector<std::int32_t> tokens;
          for (index_t i = at; i < at + count; ++i) {
            rows.add({group::source, static_cast<double>(i), i}, {0, static_cast<std::int32_t>(i + 1)}, 0.5, {}, 0);
            tokens.push_back(static_cast<std::int32_t>(i % 7));
          }
          const std::vector<index_t> wanted{count - 1};
          const models::stream_rows streams[] = {{&cache, &rows, tokens, wanted}};
          const long before = allocations.load();
          (void)model->forward(context, streams);
          return allocations.load() - before;
        };
        CHECK(step(0, 20) > 0);  // the count counts
        CHECK(step(20, 20) == 0);
        for (index_t at = 40; at < 60; ++at) CHECK(step(at, 1) == 0);
      }
    }
  }
}

}  // namespace
