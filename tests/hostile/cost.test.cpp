// SPDX-License-Identifier: Apache-2.0
// How the other tests of this room measure memory: every `operator new` of the program is counted.
#include "hostile.hpp"

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <new>

#if RUNNEL_TEST_SANITIZED == 0 && defined(__GLIBC__)
#include <malloc.h>

namespace {

std::atomic<std::size_t> live_bytes{0};
std::atomic<std::size_t> peak_bytes{0};

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  const std::size_t now = live_bytes += malloc_usable_size(memory);
  for (std::size_t peak = peak_bytes; peak < now && !peak_bytes.compare_exchange_weak(peak, now);) {
  }
  return memory;
}

void discard(void* memory) noexcept {
  if (memory == nullptr) return;
  live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}

void* aligned(std::size_t size, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  if (size > SIZE_MAX - unit) throw std::bad_alloc();
  return counted(std::aligned_alloc(unit, (size + unit - 1) / unit * unit));
}

}  // namespace

void* operator new(std::size_t size) { return counted(std::malloc(size == 0 ? 1 : size)); }
void* operator new[](std::size_t size) { return counted(std::malloc(size == 0 ? 1 : size)); }
void* operator new(std::size_t size, std::align_val_t alignment) { return aligned(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return aligned(size, alignment); }
void operator delete(void* memory) noexcept { discard(memory); }
void operator delete[](void* memory) noexcept { discard(memory); }
void operator delete(void* memory, std::size_t) noexcept { discard(memory); }
void operator delete[](void* memory, std::size_t) noexcept { discard(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { discard(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { discard(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { discard(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { discard(memory); }

namespace {

std::size_t begin_count() {
  peak_bytes = live_bytes.load();
  return peak_bytes;
}
std::size_t end_count(std::size_t before) { return peak_bytes - before; }
constexpr bool counts = true;

}  // namespace
#else
namespace {

std::size_t begin_count() { return 0; }
std::size_t end_count(std::size_t) { return 0; }
constexpr bool counts = false;

}  // namespace
#endif

namespace runnel_test {

cost cost_of(const std::function<void()>& action) {
  const std::size_t before = begin_count();
  const std::clock_t start = std::clock();
  action();
  const std::clock_t end = std::clock();
  return {end_count(before), static_cast<double>(end - start) / CLOCKS_PER_SEC};
}

}  // namespace runnel_test

TEST_CASE("memory and time are measured") {
  const auto big = runnel_test::cost_of([] { const std::vector<char> text(70 << 20, 'x'); });
  if (counts) CHECK(big.peak_bytes >= (70 << 20));
  const void* volatile seen = nullptr;  // so that no compiler leaves the memory out
  const auto unused = runnel_test::cost_of([&] {
    std::vector<char> text;
    text.reserve(std::size_t{1} << 28);
    seen = text.data();
  });
  if (counts) CHECK(unused.peak_bytes >= (std::size_t{1} << 28));
  const auto twice = runnel_test::cost_of([] {
    for (int i = 0; i < 9; ++i) const std::vector<char> text(10 << 20, 'x');
  });
  CHECK(twice.peak_bytes < runnel_test::most_bytes);
  const auto slow = runnel_test::cost_of([] {
    for (const auto start = std::clock(); std::clock() - start < CLOCKS_PER_SEC / 20;) {
    }
  });
  CHECK(slow.seconds >= 0.04);
}
