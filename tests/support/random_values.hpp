// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>
#include <vector>

#include <runnel/core/index.hpp>
#include <runnel/core/rng.hpp>

namespace runnel::tests {

/// Normal numbers.
template <class T>
std::vector<T> normals(random_stream& random, index_t count, double scale = 1) {
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& value : out) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    value = static_cast<T>(scale * radius * std::cos(2 * std::numbers::pi * random.uniform()));
  }
  return out;
}

/// A whole number in [least, most].
inline index_t between(random_stream& random, index_t least, index_t most) {
  return least + random.below(most - least + 1);
}

/// Whether two ranges hold the same bits (NaN and the sign of zero included).
template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return same_bits(std::span<const T>(a), std::span<const T>(b));
}

}  // namespace runnel::tests
