// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/kernels/activations.hpp>
#include <runnel/kernels/product.hpp>

/// \file
/// y = A B for matrices as they lie in memory, in float, double or bf16: what training multiplies. With strides it is
/// the product of a layer and both of its transposes, for x [rows, inputs], w [outputs, inputs] and dy [rows, outputs]:
///
///   y  = x w^T    dense_operand{x, inputs, 1}    dense_operand{w, 1, inputs}
///   dx = dy w     dense_operand{dy, outputs, 1}  dense_operand{w, inputs, 1}
///   dw = dy^T x   dense_operand{dy, 1, outputs}  dense_operand{x, inputs, 1}
///
/// As with packed weights, each y[m, n] is one chain acc = fma(a[m, k], b[k, n], acc) over ascending k from zero (over
/// pairs in bf16), or from what y held.
///
/// Two steps: `arrange_rows` brings the rows of A to the numbers of the arithmetic, one after another; `dense_panels`
/// multiplies them with panels of 32 columns of B, which it arranges on the way. Either may be shared out.

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

/// One product, a [rows, inner] times b [inner, columns] to y [rows, columns]. T is what matrices hold.
template <class T>
struct dense_product_args {
  dense_operand<T> a;
  dense_operand<T> b;
  index_t rows = 0;
  index_t inner = 0;
  index_t columns = 0;
  T* y = nullptr;
  index_t y_stride = 0;
  const T* bias = nullptr;  // [columns] or null
  bool accumulate = false;  // add to what y holds (gradients)
};

/// The rows of A as they are multiplied, `stride` elements apart.
template <class Element>
struct arranged_rows {
  const Element* data = nullptr;
  index_t stride = 0;
};

/// Elements that a row of `inner` numbers takes.
template <class Arithmetic>
[[nodiscard]] constexpr index_t arranged_size(index_t inner) noexcept {
  return (inner + Arithmetic::inputs - 1) / Arithmetic::inputs;
}

/// Whether rows of `a` can be multiplied where they are.
template <class Arithmetic, class T>
[[nodiscard]] constexpr bool is_arranged(const dense_operand<T>& a) noexcept {
  return std::is_same_v<typename Arithmetic::element, T> && a.column_stride == 1;
}

namespace detail {

/// Steps of the inner sum that a panel is arranged for at a time: with them it stays in the first cache.
inline constexpr index_t dense_stretch = 256;
/// Steps that are copied together where the other direction is contiguous.
inline constexpr auto dense_block = static_cast<index_t>(simd::transposed_side);

/// Two floats as a pair of bf16, the first in the lower half.
[[nodiscard]] RUNNEL_INLINE quant::word bf16_pair(float low, float high) noexcept {
  return static_cast<quant::word>(static_cast<std::uint32_t>(bf16(low).bits) |
                                  (static_cast<std::uint32_t>(bf16(high).bits) << 16));
}

/// The numbers of steps k (and k + 1) of one row or column, `step` apart, as an element.
template <class Arithmetic, class T>
[[nodiscard]] RUNNEL_INLINE typename Arithmetic::element element_at(const T* from, index_t step,
                                                                    [[maybe_unused]] bool has_second) noexcept {
  if constexpr (Arithmetic::inputs == 1) {
    return *from;
  } else {
    return bf16_pair(*from, has_second ? from[step] : 0.0f);
  }
}

/// Steps [s0, s1) (at most `dense_block`) of rows or columns [first, end) whose steps lie `step` apart and which
/// themselves lie `next` apart, to out[(i - first) * stride + s - s0]; `inner` is the number of numbers there are.
template <class Arch, class Arithmetic, class T>
void gather_block(const T* from, index_t step, index_t next, index_t inner, index_t count, index_t s0, index_t s1,
                  typename Arithmetic::element* out, index_t stride) noexcept {
  constexpr index_t inputs = Arithmetic::inputs;
  if constexpr (inputs == 2) {
    alignas(64) std::array<quant::word, static_cast<std::size_t>(dense_block * dense_block)> pairs;
    if (step == 1 && s1 - s0 == dense_block && s1 * inputs <= inner) {
      for (index_t i = 0; i < count; ++i) {
        round_row_to_bf16<Arch>(from + i * next + s0 * inputs, dense_block * inputs, out + i * stride);
      }
      return;
    }
    if (next == 1 && count == dense_block) {
      for (index_t s = s0; s < s1; ++s) {
        const float* even = from + s * inputs * step;
        pair_rows<Arch>(even, s * inputs + 1 < inner ? even + step : nullptr, static_cast<std::size_t>(dense_block),
                        pairs.data() + (s - s0) * dense_block);
      }
      if (s1 - s0 == dense_block) return simd::transpose<Arch>(pairs.data(), dense_block, out, stride);
      for (index_t i = 0; i < dense_block; ++i) {
        for (index_t s = 0; s < s1 - s0; ++s) {
          out[i * stride + s] = pairs[static_cast<std::size_t>(s * dense_block + i)];
        }
      }
      return;
    }
  } else if constexpr (std::is_same_v<T, float>) {
    if (next == 1 && count == dense_block && s1 - s0 == dense_block) {
      return simd::transpose<Arch>(from + s0 * step, step, out, stride);
    }
  }
  for (index_t s = s0; s < s1; ++s) {
    for (index_t i = 0; i < count; ++i) {
      out[i * stride + s - s0] =
          element_at<Arithmetic>(from + i * next + s * inputs * step, step, s * inputs + 1 < inner);
    }
  }
}

/// Steps [k0, k0 + count) and columns [first, first + features) of b as [count / inputs, 32], zeros where there is no
/// column.
template <class Arch, class Arithmetic, class T>
void arrange_panel(const dense_operand<T>& b, index_t k0, index_t count, index_t first, index_t features,
                   typename Arithmetic::element* out) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  constexpr index_t inputs = Arithmetic::inputs;
  const index_t steps = arranged_size<Arithmetic>(count);
  if (b.column_stride == 1 && features == width) {
    for (index_t s = 0; s < steps; ++s, out += width) {
      const T* from = b.at(k0 + s * inputs, first);
      if constexpr (inputs == 1) {
        std::memcpy(out, from, sizeof(T) * quant::panel_features);
      } else {
        pair_rows<Arch>(from, s * inputs + 1 < count ? from + b.row_stride : nullptr, quant::panel_features, out);
      }
    }
    return;
  }
  std::array<typename Arithmetic::element, static_cast<std::size_t>(dense_block * dense_block)> block;
  for (index_t s0 = 0; s0 < steps; s0 += dense_block) {
    const index_t s1 = std::min(s0 + dense_block, steps);
    for (index_t n0 = 0; n0 < width; n0 += dense_block) {
      const index_t there = std::clamp<index_t>(features - n0, 0, dense_block);
      const bool whole = there == dense_block && s1 - s0 == dense_block;
      if constexpr (std::is_same_v<T, float> && inputs == 1) {
        if (whole && b.row_stride == 1) {
          simd::transpose<Arch>(b.at(k0 + s0, first + n0), b.column_stride, out + s0 * width + n0, width);
          continue;
        }
      }
      if (there < dense_block) block.fill(0);
      gather_block<Arch, Arithmetic>(b.at(k0, first + n0), b.row_stride, b.column_stride, count, there, s0, s1,
                                     block.data(), dense_block);
      if constexpr (sizeof(block[0]) == sizeof(quant::word)) {
        if (whole) {
          simd::transpose<Arch>(block.data(), dense_block, out + s0 * width + n0, width);
          continue;
        }
      }
      for (index_t s = 0; s < s1 - s0; ++s) {
        for (index_t n = 0; n < dense_block; ++n) {
          out[(s0 + s) * width + n0 + n] = block[static_cast<std::size_t>(n * dense_block + s)];
        }
      }
    }
  }
}

}  // namespace detail

/// Rows [begin, end) of a, `inner` numbers each, to out[row * stride ...].
template <class Arch, class Arithmetic, class T>
void arrange_rows(const dense_operand<T>& a, index_t inner, index_t begin, index_t end,
                  typename Arithmetic::element* out, index_t stride) noexcept {
  constexpr index_t inputs = Arithmetic::inputs;
  const index_t steps = arranged_size<Arithmetic>(inner);
  if (a.column_stride == 1) {
    for (index_t row = begin; row < end; ++row) {
      if constexpr (inputs == 1) {
        std::copy_n(a.at(row, 0), inner, out + row * stride);
      } else {
        round_row_to_bf16<Arch>(a.at(row, 0), inner, out + row * stride);
      }
    }
    return;
  }
  for (index_t r0 = begin; r0 < end; r0 += detail::dense_block) {
    const index_t r1 = std::min(r0 + detail::dense_block, end);
    for (index_t s0 = 0; s0 < steps; s0 += detail::dense_block) {
      const index_t s1 = std::min(s0 + detail::dense_block, steps);
      detail::gather_block<Arch, Arithmetic>(a.at(r0, 0), a.column_stride, a.row_stride, inner, r1 - r0, s0, s1,
                                             out + r0 * stride + s0, stride);
    }
  }
}

/// Elements of scratch that `dense_panels` needs.
inline constexpr std::size_t dense_scratch = static_cast<std::size_t>(detail::dense_stretch) * quant::panel_features;

/// Rows [row_begin, row_end) and columns [32 panel_begin, 32 panel_end) of y; `x` are the rows of a, arranged.
/// `scratch` is 64-byte aligned.
template <class Arch, class Arithmetic, class T>
void dense_panels(const dense_product_args<T>& args, const arranged_rows<typename Arithmetic::element>& x,
                  index_t row_begin, index_t row_end, index_t panel_begin, index_t panel_end,
                  typename Arithmetic::element* scratch) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  constexpr index_t step = detail::dense_stretch * Arithmetic::inputs;
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const index_t first = p * width;
    const detail::output_tile<T> out{args.y + row_begin * args.y_stride + first, args.y_stride, row_end - row_begin,
                                     std::min(width, args.columns - first),
                                     args.bias == nullptr ? nullptr : args.bias + first};
    for (index_t k0 = 0; k0 < args.inner || k0 == 0; k0 += step) {
      const index_t count = std::min(step, args.inner - k0);
      detail::arrange_panel<Arch, Arithmetic>(args.b, k0, count, first, out.features, scratch);
      const detail::weight_stretch<typename Arithmetic::element> stretch{
          scratch, arranged_size<Arithmetic>(count), k0 == 0 && !args.accumulate, k0 + count >= args.inner};
      detail::for_each_tile<detail::tile_height<Arch>>(
          out, [&](auto height, index_t row, const auto& part) RUNNEL_LAMBDA_INLINE {
            detail::stretch_tile<Arch, Arithmetic, height>(
                stretch, x.data + (row_begin + row) * x.stride + k0 / Arithmetic::inputs, x.stride, part);
          });
    }
  }
}

}  // namespace runnel::kernels
