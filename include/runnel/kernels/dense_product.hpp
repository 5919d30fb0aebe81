// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/kernels/product.hpp>

/// \file
/// y = A B for matrices as they lie in memory, in float or double: what training multiplies. With strides it is the
/// product of a layer and both of its transposes, for x [rows, inputs], w [outputs, inputs] and dy [rows, outputs]:
///
///   y  = x w^T    dense_operand{x, inputs, 1}    dense_operand{w, 1, inputs}
///   dx = dy w     dense_operand{dy, outputs, 1}  dense_operand{w, inputs, 1}
///   dw = dy^T x   dense_operand{dy, 1, outputs}  dense_operand{x, inputs, 1}
///
/// As with packed weights, each y[m, n] is one chain acc = fma(a[m, k], b[k, n], acc) over ascending k from zero, or
/// from what y held.

namespace runnel::kernels {

/// A matrix whose element (row, column) is data[row * row_stride + column * column_stride].
template <class T>
struct dense_operand {
  const T* data = nullptr;
  index_t row_stride = 0;
  index_t column_stride = 0;

  [[nodiscard]] const T* at(index_t row, index_t column) const noexcept {
    return data + row * row_stride + column * column_stride;
  }
};

/// One product, a [rows, inner] times b [inner, columns] to y [rows, columns].
template <class T>
struct dense_product_args {
  dense_operand<T> a;
  dense_operand<T> b;
  index_t rows = 0;
  index_t inner = 0;
  index_t columns = 0;
  T* y = nullptr;
  index_t y_stride = 0;
  bool accumulate = false;  // add to what y holds (gradients)
};

namespace detail {

/// Steps of the inner sum, and rows of a, that are worked on at a time.
inline constexpr index_t dense_stretch = 256;

/// Rows [k0, k0 + count) and columns [first, first + features) of b as [count, 32], zeros where there is no column.
template <class T>
void copy_stretch(const dense_operand<T>& b, index_t k0, index_t count, index_t first, index_t features,
                  T* out) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  for (index_t k = 0; k < count; ++k, out += width) {
    const T* from = b.at(k0 + k, first);
    for (index_t n = 0; n < features; ++n) out[n] = from[n * b.column_stride];
    for (index_t n = features; n < width; ++n) out[n] = T(0);
  }
}

/// Rows that lie one after another, `stride` elements apart.
template <class T>
struct input_rows {
  const T* x = nullptr;
  index_t stride = 0;
};

/// A block of a as rows that lie one after another, [rows, dense_stretch]: where it stands if its rows are contiguous,
/// otherwise copied, since a tile would touch another page at every step.
template <class T>
input_rows<T> contiguous_rows(const dense_operand<T>& a, index_t row, index_t rows, index_t k0, index_t count,
                              T* copy) noexcept {
  if (a.column_stride == 1) return {a.at(row, k0), a.row_stride};
  for (index_t k = 0; k < count; ++k) {
    for (index_t r = 0; r < rows; ++r) copy[r * dense_stretch + k] = *a.at(row + r, k0 + k);
  }
  return {copy, dense_stretch};
}

}  // namespace detail

/// Elements of scratch that `dense_product` needs.
inline constexpr std::size_t dense_product_scratch =
    static_cast<std::size_t>(detail::dense_stretch) *
    (static_cast<std::size_t>(detail::dense_stretch) + quant::panel_features);

/// Columns [32 panel_begin, 32 panel_end) of y. `scratch` holds `dense_product_scratch` elements, 64-byte aligned.
template <class Arch, class T>
void dense_product(const dense_product_args<T>& args, index_t panel_begin, index_t panel_end, T* scratch) noexcept {
  constexpr index_t step = detail::dense_stretch;
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  T* const block = scratch + step * width;
  for (index_t k0 = 0; k0 < args.inner || k0 == 0; k0 += step) {
    const index_t count = std::min(step, args.inner - k0);
    const detail::weight_stretch<T> stretch{scratch, count, k0 == 0 && !args.accumulate, false};
    for (index_t row0 = 0; row0 < args.rows; row0 += step) {
      const index_t rows = std::min(step, args.rows - row0);
      const auto x = detail::contiguous_rows(args.a, row0, rows, k0, count, block);
      for (index_t p = panel_begin; p < panel_end; ++p) {
        const index_t first = p * width;
        const detail::output_tile<T> out{args.y + row0 * args.y_stride + first, args.y_stride, rows,
                                         std::min(width, args.columns - first), nullptr};
        detail::copy_stretch(args.b, k0, count, first, out.features, scratch);
        detail::for_each_tile<detail::tile_height<Arch>>(
            out, [&](auto height, index_t row, const auto& part) RUNNEL_LAMBDA_INLINE {
              detail::stretch_tile<Arch, plain_arithmetic<T>, height>(stretch, x.x + row * x.stride, x.stride, part);
            });
      }
    }
  }
}

}  // namespace runnel::kernels
