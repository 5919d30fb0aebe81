// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <string>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>

namespace runnel {

/// Sizes of a tensor, outermost first.
template <std::size_t Rank>
using shape = std::array<index_t, Rank>;

/// "[2, 3]", for messages.
template <std::size_t Rank>
[[nodiscard]] std::string to_string(const shape<Rank>& sizes) {
  std::string out = "[";
  for (std::size_t i = 0; i < Rank; ++i) out += (i != 0 ? ", " : "") + std::to_string(sizes[i]);
  return out + "]";
}

/// Product of all sizes. Throws shape_error if a size is negative or the product does not fit.
template <std::size_t Rank>
[[nodiscard]] index_t element_count(const shape<Rank>& sizes) {
  index_t count = 1;
  bool empty = false;
  for (const index_t size : sizes) {
    expect<shape_error>(size >= 0, "shape ", to_string(sizes), ": sizes must not be negative");
    if (size == 0) {
      empty = true;
      continue;
    }
    expect<shape_error>(count <= std::numeric_limits<index_t>::max() / size, "shape ", to_string(sizes),
                        ": too many elements");
    count *= size;
  }
  return empty ? 0 : count;
}

/// Distances between neighbours in elements, for row-major storage without gaps.
template <std::size_t Rank>
[[nodiscard]] constexpr std::array<index_t, Rank> row_major_strides(const shape<Rank>& sizes) noexcept {
  std::array<index_t, Rank> strides{};
  index_t step = 1;
  for (std::size_t i = Rank; i-- > 0;) {
    strides[i] = step;
    step *= sizes[i];
  }
  return strides;
}

/// Throws shape_error "`what`: expected shape ..., found ..." unless the shapes are equal.
template <std::size_t Rank>
void expect_shape(const shape<Rank>& found, const shape<Rank>& expected, const char* what) {
  expect<shape_error>(found == expected, what, ": expected shape ", to_string(expected), ", found ", to_string(found));
}

}  // namespace runnel
