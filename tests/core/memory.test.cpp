// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/error.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/core/workspace.hpp>

namespace {

using namespace runnel;

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % memory_alignment == 0; }

TEST_CASE("a buffer is aligned, zeroed and moves") {
  for (const std::size_t size : {1u, 3u, 64u, 1000u}) {
    aligned_buffer<float> buffer(size);
    CHECK(aligned(buffer.data()));
    CHECK(buffer.size() == size);
    for (const float value : buffer.span()) CHECK(value == 0);
    const float* data = buffer.data();
    const auto moved = std::move(buffer);
    CHECK(moved.data() == data);
    CHECK(moved.span().size() == size);
  }
  CHECK(aligned_buffer<char>(0).data() == nullptr);
  CHECK(aligned_buffer<char>().size() == 0);
  CHECK(aligned(aligned_buffer<char>::for_overwrite(5).data()));
}

TEST_CASE("a moved-from buffer says so") {
  aligned_buffer<int> from(4);
  const aligned_buffer<int> to = std::move(from);
  CHECK(to.size() == 4);
  CHECK(from.data() == nullptr);  // NOLINT(bugprone-use-after-move): that is what is tested
  CHECK(from.size() == 0);
}

TEST_CASE("sizes that overflow are refused before anything is taken") {
  // Volatile, lest the compiler foresees the failure and warns.
  const volatile std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_AS(aligned_buffer<double>{most}, limit_error);
  CHECK_THROWS_AS(aligned_buffer<double>{most / sizeof(double)}, limit_error);
  CHECK_THROWS_AS((void)aligned_buffer<char>::for_overwrite(most / 2 + 1), limit_error);
}

TEST_CASE("a workspace gives the same memory again after a release") {
  workspace memory;
  float* a = memory.take<float>(100);
  CHECK(aligned(a));
  const auto scope = memory.mark();
  double* b = memory.take<double>(7);
  char* c = memory.take<char>(1);
  CHECK(aligned(b));
  CHECK(aligned(c));
  CHECK(reinterpret_cast<std::byte*>(b) >= reinterpret_cast<std::byte*>(a) + 400);
  CHECK(reinterpret_cast<std::byte*>(c) >= reinterpret_cast<std::byte*>(b) + 56);
  memory.release(scope);
  CHECK(static_cast<void*>(memory.take<float>(3)) == static_cast<void*>(b));
  memory.reset();
  CHECK(memory.take<float>(100) == a);
}

TEST_CASE("a workspace grows and then stays as large as it was") {
  workspace memory;
  const auto step = [&] {
    memory.reset();
    std::vector<std::pair<std::byte*, std::size_t>> taken;
    for (const std::size_t bytes :
         {std::size_t{100}, std::size_t{1} << 20, std::size_t{5}, std::size_t{3} << 20, std::size_t{64}}) {
      taken.emplace_back(memory.take<std::byte>(bytes), bytes);
      std::fill_n(taken.back().first, bytes, static_cast<std::byte>(taken.size()));  // overlaps would be seen below
    }
    for (std::size_t i = 0; i < taken.size(); ++i) {
      CHECK(taken[i].first[0] == static_cast<std::byte>(i + 1));
      CHECK(taken[i].first[taken[i].second - 1] == static_cast<std::byte>(i + 1));
    }
    return memory.capacity();
  };
  CHECK(step() >= (std::size_t{4} << 20));
  const auto first = step();  // in one piece, no larger than the step was
  CHECK(first >= (std::size_t{4} << 20));
  CHECK(first <= (std::size_t{4} << 20) + 1024);
  for (int i = 0; i < 5; ++i) CHECK(step() == first);
  // A release into an earlier chunk, then more than it has left.
  memory.reset();
  (void)memory.take<std::byte>(10);
  const auto scope = memory.mark();
  (void)memory.take<std::byte>(std::size_t{2} << 20);
  memory.release(scope);
  (void)memory.take<std::byte>(std::size_t{2} << 20);
  CHECK(memory.capacity() == first);
  // Steps of all sizes take no more than the largest.
  for (std::size_t size = std::size_t{8} << 20; size > 0; size /= 3) {
    for (const std::size_t part : {size, size / 2, size / 5}) {
      memory.reset();
      for (std::size_t left = size; left > 0; left -= std::min(left, part + 1)) {
        (void)memory.take<std::byte>(std::min(left, part + 1));
      }
    }
  }
  memory.reset();
  CHECK(memory.capacity() <= (std::size_t{8} << 20) + 1024);
}

TEST_CASE("taking nothing, and more than there is") {
  workspace memory;
  const volatile std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK_NOTHROW((void)memory.take<float>(0));
  CHECK_THROWS_AS((void)memory.take<double>(most / 4), limit_error);
  CHECK_THROWS_AS((void)memory.take<double>(most / 8 + 2), limit_error);  // would wrap to a small number of bytes
  CHECK_NOTHROW((void)memory.take<float>(10));
}

TEST_CASE("errors say all parts and keep their kind") {
  CHECK(message("rows ", 3, " of ", 7.5) == "rows 3 of 7.5");
  const std::string text = "of any kind";
  const char* const pointer = " here";
  CHECK(message("parts ", text, std::string_view(", "), pointer, ' ', 0.1f, ' ', -7L, ' ', std::uint8_t{200}, ' ',
                std::numeric_limits<std::uint64_t>::max(), ' ', std::numeric_limits<std::int64_t>::min(), ' ',
                true) == "parts of any kind,  here 0.1 -7 200 18446744073709551615 -9223372036854775808 1");
  CHECK_NOTHROW(expect(true, "unused"));
  CHECK_THROWS_WITH_AS(expect<shape_error>(false, "a", 1), "a1", shape_error);
  CHECK_THROWS_AS(expect(false, "x"), config_error);
  CHECK_THROWS_AS(expect<limit_error>(false, "x"), error);
}

TEST_CASE("random streams are the same everywhere, and can be replayed") {
  // Published test values of splitmix64 for the seed 1234567.
  splitmix64 spread(1234567);
  CHECK(spread() == 6457827717110365317u);
  CHECK(spread() == 3203168211198807973u);
  CHECK(spread() == 9817491932198370423u);
  random_stream a(42), b(42), other(43);
  CHECK(a() == b());
  CHECK(a == b);
  CHECK(a() != other());
  const random_stream saved = a;
  const double next = a.uniform();
  a = saved;
  CHECK(a.uniform() == next);
  double sum = 0;
  int counts[7] = {};
  for (int i = 0; i < 70000; ++i) {
    const double value = a.uniform();
    CHECK((value >= 0 && value < 1));
    sum += value;
    const auto whole = a.below(7);
    CHECK((whole >= 0 && whole < 7));
    ++counts[whole];
  }
  CHECK(sum / 70000 == doctest::Approx(0.5).epsilon(0.01));
  for (const int count : counts) CHECK(count == doctest::Approx(10000).epsilon(0.05));
}

}  // namespace
