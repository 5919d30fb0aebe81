// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/attention.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <runnel/kernels/reference/attention.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;

/// What a page makes of one entry's features of one head.
template <class S, class T>
std::vector<double> kept_as(std::span<const T> features) {
  std::vector<double> out;
  for (std::size_t i = 0; i < features.size(); ++i) {
    if constexpr (std::is_same_v<S, kernels::byte_entry>) {
      const auto first = features.begin() + static_cast<std::ptrdiff_t>(i / 32 * 32);
      const auto last = std::min(features.end(), first + 32);
      T largest = 0;
      for (auto x = first; x != last; ++x) largest = std::max(largest, std::fabs(*x));
      const T byte = largest == 0 ? T(0) : std::nearbyint(features[i] * (127 / largest));  // in T: ties must agree
      out.push_back(static_cast<double>(byte * (largest / 127)));
    } else {
      out.push_back(static_cast<double>(static_cast<T>(S(features[i]))));
    }
  }
  return out;
}

/// Keys and values of one segment, kept as S in pages whose unused places hold NaN, and the same as dense arrays.
template <class T, class S = T>
struct store {
  index_t size = 0;
  std::vector<aligned_buffer<std::byte>> memory;
  std::vector<std::byte*> pages;
  std::vector<double> keys, values;  // [size, kv_heads, head_dim]

  store(random_stream& random, index_t length, index_t kv_heads, index_t head_dim, double key_scale) : size(length) {
    const auto bytes = static_cast<std::size_t>(kv_heads * kernels::page_head_bytes<S>(head_dim));
    for (index_t page = 0; page * kernels::page_keys < length; ++page) {
      memory.push_back(aligned_buffer<std::byte>::for_overwrite(bytes));
      std::fill_n(memory.back().data(), bytes, std::byte{0xff});  // NaN in all formats but bytes
      pages.push_back(memory.back().data());
    }
    for (index_t at = 0; at < length; ++at) {
      const auto key = tests::normals<T>(random, kv_heads * head_dim, key_scale);
      const auto value = tests::normals<T>(random, kv_heads * head_dim);
      put(at, key, value, kv_heads, head_dim);
      for (index_t h = 0; h < kv_heads; ++h) {
        const auto of_head = [&](const std::vector<T>& all) {
          return std::span<const T>(all).subspan(static_cast<std::size_t>(h * head_dim),
                                                 static_cast<std::size_t>(head_dim));
        };
        for (const double one : kept_as<S>(of_head(key))) keys.push_back(one);
        for (const double one : kept_as<S>(of_head(value))) values.push_back(one);
      }
    }
  }

  void put(index_t at, const std::vector<T>& key, const std::vector<T>& value, index_t kv_heads, index_t head_dim) {
    kernels::store_key_values<S, T>(pages[static_cast<std::size_t>(at / kernels::page_keys)],
                                    {at, key.data(), value.data()}, kv_heads, head_dim);
  }

  /// Keys that no row sees become NaN.
  void poison(const std::vector<key_range>& ranges, index_t kv_heads, index_t head_dim) {
    const std::vector<T> nan(static_cast<std::size_t>(kv_heads * head_dim), std::numeric_limits<T>::quiet_NaN());
    for (index_t at = 0; at < size; ++at) {
      const bool seen =
          std::any_of(ranges.begin(), ranges.end(), [&](key_range r) { return r.begin <= at && at < r.end; });
      if (!seen) put(at, nan, nan, kv_heads, head_dim);
    }
  }
};

struct shape_of {
  index_t heads = 1, kv_heads = 1, head_dim = 4, rows = 1;
  double scale = 1, soft_cap = 0, key_scale = 1;
  bool paired = false;
};

key_range random_range(random_stream& random, index_t size) {
  const index_t kind = random.below(6);
  if (size == 0 || kind == 0) {
    const auto anywhere = static_cast<std::int32_t>(random.below(size + 1));
    return {anywhere, anywhere};
  }
  if (kind <= 2) return {0, static_cast<std::int32_t>(tests::between(random, 1, size))};  // causal
  const index_t begin = random.below(size);
  return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>(tests::between(random, begin, size))};
}

template <class T, class S = T>
struct problem {
  shape_of shape;
  std::vector<store<T, S>> stores;
  std::vector<std::vector<T>> queries;  // a segment: [rows, heads, head_dim]
  std::vector<std::vector<key_range>> ranges;

  problem(random_stream& random, const shape_of& of, const std::vector<index_t>& lengths) : shape(of) {
    for (const index_t length : lengths) {
      stores.emplace_back(random, length, shape.kv_heads, shape.head_dim, shape.key_scale);
      queries.push_back(tests::normals<T>(random, shape.rows * shape.heads * shape.head_dim));
      ranges.emplace_back();
      for (index_t r = 0; r < shape.rows; ++r) ranges.back().push_back(random_range(random, length));
    }
  }

  /// Rows [first, last) in tiles of `tile` rows; rows outside keep what they had.
  std::vector<T> run(instruction_set which, index_t first, index_t last, index_t tile) const {
    std::vector<kernels::attention_segment<T>> segments;
    for (std::size_t s = 0; s < stores.size(); ++s) segments.push_back({queries[s].data(), ranges[s], stores[s].pages});
    std::vector<T> out(static_cast<std::size_t>(shape.rows * shape.heads * shape.head_dim), T(-7));
    kernels::attention_args<T> args;
    args.heads = shape.heads;
    args.kv_heads = shape.kv_heads;
    args.head_dim = shape.head_dim;
    args.scale = static_cast<T>(shape.scale);
    args.soft_cap = static_cast<T>(shape.soft_cap);
    args.segments = segments;
    args.out = out.data();
    auto scratch = aligned_buffer<T>::for_overwrite(static_cast<std::size_t>(
        kernels::attention_scratch<T>(kernels::attention_rows * (shape.heads / shape.kv_heads), shape.head_dim)));
    std::fill(scratch.data(), scratch.data() + scratch.size(), std::numeric_limits<T>::quiet_NaN());
    simd::with_arch(which, [&]<class Arch>(Arch) {
      for (index_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
        for (index_t row = first; row < last; row += tile) {
          kernels::range_attention<Arch, S>(args, {row, std::min(last, row + tile), kv_head}, shape.paired,
                                            scratch.data());
        }
      }
    });
    return out;
  }

  [[nodiscard]] std::vector<double> expected() const {
    std::vector<std::vector<double>> wide;
    for (const auto& all : queries) {
      wide.emplace_back(all.begin(), all.end());
      if (!shape.paired) continue;
      for (double& one : wide.back()) one = static_cast<double>(static_cast<float>(bf16(static_cast<float>(one))));
    }
    std::vector<kernels::reference::attention_segment> segments;
    for (std::size_t s = 0; s < stores.size(); ++s)
      segments.push_back({wide[s], ranges[s], stores[s].keys, stores[s].values});
    std::vector<double> out(static_cast<std::size_t>(shape.rows * shape.heads * shape.head_dim));
    kernels::reference::range_attention(segments, shape.rows, shape.heads, shape.kv_heads, shape.head_dim,
                                        static_cast<double>(static_cast<T>(shape.scale)),
                                        static_cast<double>(static_cast<T>(shape.soft_cap)), out);
    return out;
  }

  [[nodiscard]] std::span<const T> row(const std::vector<T>& out, index_t r) const {
    const auto size = static_cast<std::size_t>(shape.heads * shape.head_dim);
    return std::span<const T>(out).subspan(static_cast<std::size_t>(r) * size, size);
  }
};

template <class T>
double largest_difference(const std::vector<T>& found, const std::vector<double>& expected) {
  double most = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(found[i]) - expected[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  }
  return most;
}

template <class T, class S = T>
void check_random_shapes(random_stream& random, int turns, double tolerance, bool paired = false) {
  const index_t sizes[] = {2, 7, 10, 24, 64, 80, 128};
  for (int turn = 0; turn < turns; ++turn) {
    shape_of shape;
    shape.kv_heads = tests::between(random, 1, 3);
    shape.heads = shape.kv_heads * tests::between(random, 1, 4);
    shape.head_dim = sizes[random.below(7)];
    shape.rows = tests::between(random, 1, 24);
    shape.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    shape.soft_cap = random.below(3) == 0 ? 1 + 10 * random.uniform() : 0;
    shape.key_scale = random.below(2) == 0 ? 1 : 3;
    shape.paired = paired;
    const index_t longest = turn % 4 == 0 ? 4 * kernels::stripe_keys : 200;
    std::vector<index_t> lengths{random.below(longest), random.below(70)};
    if (random.below(3) == 0) lengths.push_back(random.below(longest));
    problem<T, S> task(random, shape, lengths);
    const auto expected = task.expected();
    for (std::size_t s = 0; s < task.stores.size(); ++s) {
      task.stores[s].poison(task.ranges[s], shape.kv_heads, shape.head_dim);
    }
    CAPTURE(turn);
    CAPTURE(shape.heads);
    CAPTURE(shape.kv_heads);
    CAPTURE(shape.head_dim);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      CAPTURE(name_of(which));
      const auto all = task.run(which, 0, shape.rows, kernels::attention_rows);
      CHECK(largest_difference(all, expected) <= tolerance);
      // Row purity: any tiling, and every row alone, gives the same bits.
      for (const index_t tile : {1, 2, 3, 5, 11}) CHECK(tests::same_bits(task.run(which, 0, shape.rows, tile), all));
      const index_t first = random.below(shape.rows);
      const auto from_there = task.run(which, first, shape.rows, kernels::attention_rows);
      for (index_t r = first; r < shape.rows; ++r) CHECK(tests::same_bits(task.row(from_there, r), task.row(all, r)));
    }
  }
}

TEST_CASE("range attention is right and row-pure in float") {
  random_stream random(1);
  check_random_shapes<float>(random, 60, 2e-5);
}

TEST_CASE("range attention is right and row-pure in double") {
  random_stream random(2);
  check_random_shapes<double>(random, 25, 1e-12);
}

TEST_CASE("range attention over keys and values in bf16 is right and row-pure") {
  random_stream random(12);
  check_random_shapes<float, bf16>(random, 40, 2e-5);
}

TEST_CASE("range attention in pairs of bf16 is right but for the rounding of weights, and row-pure") {
  random_stream random(13);
  check_random_shapes<float, bf16>(random, 60, 1e-2, true);  // half a unit of 8 bits of a value of 4 or 5
}

TEST_CASE("range attention over keys and values in f16 is right and row-pure") {
  random_stream random(14);
  check_random_shapes<float, f16>(random, 40, 2e-5);
}

TEST_CASE("range attention over keys and values in bytes is right and row-pure") {
  random_stream random(15);
  check_random_shapes<float, kernels::byte_entry>(random, 40, 3e-5);
}

TEST_CASE("a row that sees nothing gives zeros") {
  random_stream random(3);
  shape_of shape;
  shape.rows = 3;
  problem<float> task(random, shape, {70, 10});
  for (auto& ranges : task.ranges) ranges[1] = {};
  task.ranges[0][0] = {64, 64};
  task.ranges[1][0] = {10, 10};
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    const auto out = task.run(which, 0, 3, 16);
    for (const index_t r : {0, 1}) {
      for (const float value : task.row(out, r)) CHECK(std::bit_cast<std::uint32_t>(value) == 0);
    }
  }
  problem<float> empty(random, shape, {0, 0});
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    for (const float value : empty.run(which, 0, 3, 16)) CHECK(value == 0);
  }
}

TEST_CASE("one visible key gives its value, wherever it stands") {
  random_stream random(4);
  shape_of shape;
  shape.head_dim = 10;
  shape.rows = 130;
  problem<float> task(random, shape, {130});
  for (std::int32_t r = 0; r < 130; ++r) task.ranges[0][static_cast<std::size_t>(r)] = {r, r + 1};
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    const auto out = task.run(which, 0, 130, 16);
    CHECK(largest_difference(out, task.stores[0].values) < 1e-6);
  }
}

TEST_CASE("a row does not depend on how its keys are divided into segments") {
  random_stream random(5);
  shape_of shape;
  shape.head_dim = 24;
  shape.rows = 5;
  problem<double> together(random, shape, {100}), divided(random, shape, {100, 100});
  for (auto* task : {&together, &divided}) {  // the same keys, twice where a row sees a part of either
    for (auto& keys : task->stores) {
      random_stream again(99);
      keys = store<double>(again, 100, 1, 24, 1);
    }
  }
  divided.queries = {together.queries[0], together.queries[0]};
  divided.ranges = {{}, {}};
  for (std::size_t r = 0; r < 5; ++r) {
    const auto cut = static_cast<std::int32_t>(random.below(101));
    together.ranges[0][r] = {0, 100};
    divided.ranges[0].push_back({0, cut});
    divided.ranges[1].push_back({cut, 100});
  }
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    CHECK(largest_difference(divided.run(which, 0, 5, 16), together.expected()) < 1e-13);
  }
}

TEST_CASE("huge scores stay finite, with and without a soft cap") {
  random_stream random(6);
  for (const double cap : {0.0, 30.0}) {
    for (const double size : {1e4, 1e15, 1e30}) {
      shape_of shape;
      shape.head_dim = 4;
      shape.rows = 7;
      shape.soft_cap = cap;
      shape.key_scale = size;
      problem<float> task(random, shape, {150});
      for (auto& range : task.ranges[0]) range = {3, 150};
      for (const instruction_set which : tests::runnable_instruction_sets()) {
        const auto out = task.run(which, 0, 7, 16);
        if (cap == 0) {
          CHECK(largest_difference(out, task.expected()) < (size > 1e4 ? 1e-6 : 0.05));
        } else {  // all keys are at +cap or -cap
          CHECK(largest_difference(out, task.expected()) < 1e-4);
        }
        for (const index_t tile : {1, 3}) CHECK(tests::same_bits(task.run(which, 0, 7, tile), out));
      }
    }
  }
}

template <class S>
void check_stored_together() {
  const index_t kv_heads = 2, head_dim = 21, features = kv_heads * head_dim, stride = features + 5;
  const auto bytes = static_cast<std::size_t>(kv_heads * kernels::page_head_bytes<S>(head_dim));
  random_stream random(77);
  for (index_t first = 0; first < 64; first += 7) {
    for (const index_t count : {1, 2, 33, 64, 70}) {
      const auto keys = tests::normals<float>(random, count * stride),
                 values = tests::normals<float>(random, count * stride);
      std::array<std::vector<std::vector<std::byte>>, 2> pages;  // one by one, together
      for (auto& some : pages) some.assign(3, std::vector<std::byte>(bytes, std::byte{7}));
      for (index_t r = 0; r < count; ++r) {
        const index_t at = first + r;
        kernels::store_key_values<S, float>(pages[0][static_cast<std::size_t>(at / 64)].data(),
                                            {at, keys.data() + r * stride, values.data() + r * stride}, kv_heads,
                                            head_dim);
      }
      const kernels::key_value_rows<float> all{first, keys.data(), values.data(), count, stride, stride};
      all.by_page([&](std::size_t page, const auto& rows) {
        kernels::store_key_values<S, float>(pages[1][page].data(), rows, kv_heads, head_dim);
      });
      CHECK(pages[0] == pages[1]);
      std::vector<float> key(static_cast<std::size_t>(head_dim));
      const index_t last = first + count - 1;
      kernels::load_key<S>(pages[1][static_cast<std::size_t>(last / 64)].data(), last, 1, head_dim, key.data());
      const auto given =
          std::span<const float>(keys).subspan(static_cast<std::size_t>((count - 1) * stride + head_dim), 21);
      const auto kept = kept_as<S>(given);
      for (std::size_t i = 0; i < 21; ++i) CHECK(std::fabs(static_cast<double>(key[i]) - kept[i]) < 1e-6);
    }
  }
}

TEST_CASE("rows stored together lie where rows stored one by one do") {
  check_stored_together<float>();
  check_stored_together<bf16>();
  check_stored_together<f16>();
  check_stored_together<kernels::byte_entry>();
}

TEST_CASE("an entry that is not finite gives NaN in bytes, one of zeros zeros, tiny ones what they are") {
  for (const float odd : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN(), 0.0f, 1e-42f, 3e38f}) {
    std::vector<std::byte> page(static_cast<std::size_t>(kernels::page_head_bytes<kernels::byte_entry>(40)));
    std::vector<float> entry(40, 0.0f), key(40);
    entry[33] = odd;
    kernels::store_key_values<kernels::byte_entry, float>(page.data(), {5, entry.data(), entry.data()}, 1, 40);
    kernels::load_key<kernels::byte_entry>(page.data(), 5, 0, 40, key.data());
    CHECK(key[0] == 0);  // another block
    if (std::isfinite(odd)) {
      CHECK(key[32] == 0);
      CHECK(std::fabs(key[33] - odd) <= std::max(1e-6f * odd, 1e-38f));
    } else {
      CHECK(std::isnan(key[32]));
      CHECK(std::isnan(key[33]));
    }
  }
}

TEST_CASE("stripes that several gathered, put together, are what one gathers") {
  random_stream random(16);
  shape_of shape;
  shape.heads = 6;
  shape.kv_heads = 2;
  shape.head_dim = 24;
  shape.rows = 5;
  shape.paired = true;
  problem<float, bf16> task(random, shape, {3 * kernels::stripe_keys + 70, kernels::stripe_keys + 1});
  task.ranges[0] = {{0, 1600}, {700, 1100}, {0, 0}, {1000, 1606}, {512, 1024}};
  task.ranges[1] = {{0, 513}, {0, 1}, {0, 0}, {512, 513}, {0, 0}};
  std::vector<kernels::attention_segment<float>> segments;
  for (std::size_t s = 0; s < 2; ++s) {
    segments.push_back({task.queries[s].data(), task.ranges[s], task.stores[s].pages});
  }
  const index_t state = kernels::attention_state<float>(15, 24);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    const auto whole = task.run(which, 0, 5, 16);
    std::vector<float> out(whole.size(), -7.0f);
    kernels::attention_args<float> args{6, 2, 24, 1, 0, segments, out.data()};
    auto memory = aligned_buffer<float>::for_overwrite(
        static_cast<std::size_t>(4 * state + kernels::attend_scratch<float>(15, 24)));
    simd::with_arch(which, [&]<class Arch>(Arch) {
      for (index_t kv_head = 0; kv_head < 2; ++kv_head) {
        const kernels::attention_tile tile{0, 5, kv_head};
        const kernels::stripe_range stripes = kernels::stripes_of(args, tile);
        REQUIRE(stripes.begin == 0);
        REQUIRE(stripes.end == 4);
        for (index_t stripe = 3; stripe >= 0; --stripe) {
          kernels::attend<Arch, bf16>(args, tile, stripe, true, memory.data() + stripe * state,
                                      memory.data() + 4 * state);
        }
        for (index_t stripe = 1; stripe < 4; ++stripe) {
          kernels::merge_stripes<Arch>(args, tile, memory.data() + stripe * state, memory.data());
        }
        kernels::finish_attention<Arch>(args, tile, memory.data());
      }
    });
    CHECK(tests::same_bits(out, whole));
  }
}

TEST_CASE("scores far below the highest add nothing, and rising scores are rescaled") {
  // Keys ascend: every page brings a new maximum; the other way round, none does.
  for (const bool ascending : {true, false}) {
    random_stream random(7);
    shape_of shape;
    shape.head_dim = 2;
    shape.rows = 2;
    problem<float> task(random, shape, {200});
    task.stores[0].keys.clear();
    task.stores[0].values.clear();
    for (index_t at = 0; at < 200; ++at) {
      const float key[] = {static_cast<float>(ascending ? at : 200 - at) * 2.0f, 0};
      const float value[] = {static_cast<float>(at), 1};
      kernels::store_key_values<float, float>(task.stores[0].pages[static_cast<std::size_t>(at / 64)], {at, key, value},
                                              1, 2);
      task.stores[0].keys.insert(task.stores[0].keys.end(), {static_cast<double>(key[0]), 0});
      task.stores[0].values.insert(task.stores[0].values.end(), {static_cast<double>(value[0]), 1});
    }
    task.queries[0] = {1, 0, -1, 0};
    task.ranges[0] = {{0, 200}, {5, 199}};
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      CHECK(largest_difference(task.run(which, 0, 2, 16), task.expected()) < 1e-4);
    }
  }
}

TEST_CASE("what is not a number stays so, in whichever stripe it is") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  random_stream random(17);
  shape_of shape;
  shape.head_dim = 16;
  shape.rows = 6;
  for (const bool paired : {false, true}) {
    shape.paired = paired;
    problem<float, bf16> task(random, shape, {1100});
    task.ranges[0] = {{520, 1000}, {0, 500}, {0, 513}, {0, 514}, {512, 513}, {513, 1100}};
    std::fill_n(task.queries[0].data(), 2 * 16, nan);  // of the first two rows
    task.stores[0].put(512, std::vector<float>(16, nan), std::vector<float>(16, 1.0f), 1, 16);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      const auto out = task.run(which, 0, 6, 16);
      for (index_t r = 0; r < 5; ++r) {
        CAPTURE(r);
        for (const float x : task.row(out, r)) CHECK(std::isnan(x));
      }
      for (const float x : task.row(out, 5)) CHECK(std::isfinite(x));
    }
  }
}

TEST_CASE("stripes are those of the ranges, and are counted with what was dropped") {
  random_stream random(18);
  shape_of shape;
  shape.head_dim = 8;
  shape.rows = 2;
  problem<float> task(random, shape, {1200});
  task.ranges[0] = {{1030, 1100}, {1050, 1200}};
  std::vector<kernels::attention_segment<float>> segments{
      {task.queries[0].data(), task.ranges[0], task.stores[0].pages}};
  std::vector<float> out(16);
  const kernels::attention_args<float> args{1, 1, 8, 1, 0, segments, out.data()};
  auto stripes = kernels::stripes_of(args, {0, 2, 0});
  CHECK(stripes.begin == 2);
  CHECK(stripes.end == 3);
  segments[0].dropped = 448;  // key 1088 was the 1536th
  stripes = kernels::stripes_of(args, {0, 2, 0});
  CHECK(stripes.begin == 2);
  CHECK(stripes.end == 4);
  task.ranges[0] = {{5, 5}, {0, 0}};
  segments[0].ranges = task.ranges[0];
  CHECK(kernels::stripes_of(args, {0, 2, 0}).count() == 1);  // someone has to write the zeros
}

}  // namespace
