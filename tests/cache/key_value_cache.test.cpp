// SPDX-License-Identifier: Apache-2.0
#include <runnel/cache/key_value_cache.hpp>

#include <doctest/doctest.h>

#include <vector>

#include "support/random_values.hpp"

namespace {

using namespace runnel;
using cache::key_value_cache;

constexpr index_t layers = 2, kv_heads = 3, head_dim = 6;

/// What an entry holds: numbers made from its place.
float content(index_t layer, group which, index_t at, index_t element, int generation) {
  return static_cast<float>(((layer * 2 + static_cast<index_t>(which)) * 1000 + at) * 50 + element) +
         0.25f * static_cast<float>(generation);
}

void append(key_value_cache& cache, group which, index_t count, int generation = 0) {
  const index_t from = cache.size(which);
  cache.reserve(which, from + count);
  for (index_t layer = 0; layer < layers; ++layer) {
    for (index_t at = from; at < from + count; ++at) {
      std::vector<float> key, value;
      for (index_t i = 0; i < kv_heads * head_dim; ++i) {
        key.push_back(content(layer, which, at, i, generation));
        value.push_back(-content(layer, which, at, i, generation));
      }
      cache.write(layer, which, {at, key.data(), value.data()});
    }
  }
  cache.commit(which, from + count);
}

/// Whether entries [begin, end) hold what `append` wrote, read through the pages as kernels do.
bool holds(const key_value_cache& cache, group which, index_t begin, index_t end, int generation = 0) {
  const index_t padded = kernels::padded_head_dim<float>(head_dim);
  for (index_t layer = 0; layer < layers; ++layer) {
    for (index_t at = begin; at < end; ++at) {
      const std::byte* page = cache.pages(layer, which)[static_cast<std::size_t>(at / kernels::page_keys)];
      if (reinterpret_cast<std::uintptr_t>(page) % 64 != 0) return false;
      const index_t slot = at % kernels::page_keys;
      for (index_t i = 0; i < kv_heads * head_dim; ++i) {
        const auto* head =
            reinterpret_cast<const float*>(page + i / head_dim * kernels::page_head_bytes<float>(head_dim));
        const float key = head[i % head_dim * kernels::page_keys + slot];
        const float value = head[head_dim * kernels::page_keys + slot * padded + i % head_dim];
        if (key != content(layer, which, at, i, generation) || value != -key) return false;
      }
    }
  }
  return true;
}

TEST_CASE("entries are appended by group and stay where they are") {
  key_value_cache cache({layers, kv_heads, head_dim});
  CHECK(cache.entry() == cache::entry_shape{layers, kv_heads, head_dim});
  CHECK(cache.size(group::source) == 0);
  CHECK(cache.capacity_bytes() == 0);
  append(cache, group::source, 1);
  const std::byte* first = cache.pages(0, group::source)[0];
  for (const index_t count : {62, 1, 1, 200, 0}) {
    append(cache, group::source, count);
    append(cache, group::target, count / 2 + 1);
  }
  CHECK(cache.size(group::source) == 265);
  CHECK(cache.size(group::target) == 32 + 1 + 1 + 101 + 1);
  CHECK(cache.pages(0, group::source)[0] == first);
  CHECK(cache.pages(1, group::source).size() == 5);
  CHECK(holds(cache, group::source, 0, 265));
  CHECK(holds(cache, group::target, 0, 136));
  CHECK(cache.capacity_bytes() == (5 + 3) * layers * kv_heads * 64 * (6 + 16) * sizeof(float));
}

TEST_CASE("truncation forgets the end and reuses its memory") {
  key_value_cache cache({layers, kv_heads, head_dim});
  append(cache, group::source, 150);
  append(cache, group::target, 70);
  const auto bytes = cache.capacity_bytes();
  cache.truncate(group::source, 60);
  CHECK(cache.size(group::source) == 60);
  CHECK(cache.size(group::target) == 70);
  CHECK(holds(cache, group::source, 0, 60));
  append(cache, group::source, 90, 1);
  CHECK(cache.capacity_bytes() == bytes);
  CHECK(holds(cache, group::source, 0, 60));
  CHECK(holds(cache, group::source, 60, 150, 1));
  CHECK(holds(cache, group::target, 0, 70));
  cache.truncate(group::source, 150);
  cache.truncate(group::source, 0);
  CHECK(cache.size(group::source) == 0);
}

TEST_CASE("what is reserved and written counts only once committed") {
  key_value_cache cache({layers, kv_heads, head_dim});
  append(cache, group::target, 10);
  cache.reserve(group::target, 100);
  CHECK(cache.size(group::target) == 10);
  const std::vector<float> rubbish(kv_heads * head_dim, 99.0f);
  cache.write(0, group::target, {10, rubbish.data(), rubbish.data()});
  CHECK(cache.size(group::target) == 10);
  CHECK(holds(cache, group::target, 0, 10));
  cache.reserve(group::target, 5);  // never shrinks
  CHECK(cache.pages(0, group::target).size() == 2);
}

TEST_CASE("a snapshot has its own memory") {
  key_value_cache cache({layers, kv_heads, head_dim});
  append(cache, group::source, 70);
  append(cache, group::target, 3);
  cache.reserve(group::source, 1000);
  auto copy = cache.snapshot();
  CHECK(copy.size(group::source) == 70);
  CHECK(copy.size(group::target) == 3);
  CHECK(copy.capacity_bytes() < cache.capacity_bytes());
  cache.truncate(group::source, 10);
  append(cache, group::source, 60, 1);
  append(copy, group::target, 2, 2);
  CHECK(holds(copy, group::source, 0, 70));
  CHECK(holds(copy, group::target, 0, 3));
  CHECK(holds(copy, group::target, 3, 5, 2));
  CHECK(cache.size(group::target) == 3);
  const auto moved = std::move(copy);
  CHECK(holds(moved, group::source, 0, 70));
}

TEST_CASE("lengths and sizes that make no sense are refused, and nothing changes") {
  CHECK_THROWS_AS(key_value_cache({0, 1, 1}), config_error);
  CHECK_THROWS_AS(key_value_cache({1, -1, 1}), config_error);
  CHECK_THROWS_AS(key_value_cache({1, 1, 0}), config_error);
  key_value_cache cache({layers, kv_heads, head_dim});
  append(cache, group::source, 10);
  CHECK_THROWS_WITH_AS(cache.truncate(group::source, 11), "cache: cannot truncate to 11 entries, there are 10",
                       config_error);
  CHECK_THROWS_AS(cache.truncate(group::source, -1), config_error);
  CHECK_THROWS_WITH_AS(cache.commit(group::source, 9), "cache: cannot commit 9 entries after 10", config_error);
  CHECK_THROWS_AS(cache.commit(group::source, 65), config_error);
  CHECK_THROWS_AS(cache.commit(group::target, 1), config_error);
  CHECK(cache.size(group::source) == 10);
  CHECK(holds(cache, group::source, 0, 10));
}

TEST_CASE("entries in 16 bits take half the memory of floats, in bytes little more than a quarter") {
  const auto bytes = [](cache::storage_type type) {
    key_value_cache cache({1, 1, 64, type});
    cache.reserve(group::source, 1);
    return cache.capacity_bytes();
  };
  CHECK(2 * bytes(cache::storage_type::bf16) == bytes(cache::storage_type::f32));
  CHECK(2 * bytes(cache::storage_type::f16) == bytes(cache::storage_type::f32));
  CHECK(32 * bytes(cache::storage_type::q8_0) == 9 * bytes(cache::storage_type::f32));
}

TEST_CASE("entries in bf16 lie in pairs: two features of a key, a feature of two keys") {
  key_value_cache cache({1, 1, 40, cache::storage_type::bf16});
  cache.reserve(group::source, 64);
  std::vector<float> key(40), value(40);
  for (const index_t at : {34, 35}) {
    for (std::size_t i = 0; i < 40; ++i) {
      key[i] = 1.001f * static_cast<float>(at) + static_cast<float>(i);
      value[i] = -key[i];
    }
    cache.write(0, group::source, {at, key.data(), value.data()});
  }
  const auto* words = reinterpret_cast<const bf16*>(cache.pages(0, group::source)[0]);
  CHECK(words[2 * 34] == bf16(1.001f * 34));
  CHECK(words[2 * 34 + 1] == bf16(1.001f * 34 + 1));
  CHECK(words[2 * (3 * 64 + 35)] == bf16(1.001f * 35 + 6));
  const bf16* row = words + 40 * 64 + 34 * 48;  // rows of values are padded to 48 features
  CHECK(row[2] == bf16(-(1.001f * 34 + 1)));
  CHECK(row[3] == bf16(value[1]));
  CHECK(row[2 * 39 + 1] == bf16(value[39]));
  cache.commit(group::source, 64);
  const auto copy = cache.snapshot();
  CHECK(copy.entry() == cache.entry());
  CHECK(reinterpret_cast<const bf16*>(copy.pages(0, group::source)[0])[2 * 34] == words[2 * 34]);
}

TEST_CASE("a dropped page leaves the entries after it, and its memory for later ones") {
  key_value_cache cache({layers, kv_heads, head_dim});
  append(cache, group::source, 63);
  CHECK_THROWS_AS(cache.drop_page(group::source), config_error);
  append(cache, group::source, 90);
  append(cache, group::target, 70);
  const auto* second = cache.pages(1, group::source)[1];
  const auto bytes = cache.capacity_bytes();
  cache.drop_page(group::source);
  CHECK(cache.size(group::source) == 153 - 64);
  CHECK(cache.pages(1, group::source)[0] == second);
  CHECK(holds(cache, group::target, 0, 70));
  append(cache, group::source, 3 * 64 - 89);
  CHECK(holds(cache, group::source, 89, 192));
  CHECK(cache.capacity_bytes() == bytes);
}

}  // namespace
