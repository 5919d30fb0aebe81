// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// y = x W^T + b over panels of prepared weights (quant/panel.hpp).
///
/// Row purity (law 0): y[r, n] is one chain acc = fma(x[r, k], w[n, k], acc) over ascending k from zero, then + b[n],
/// whatever the number of rows and however they are tiled. One row decodes weights in registers; more rows decode a
/// stretch of a panel once into scratch and run register tiles over it.

namespace runnel::kernels {

/// One product. `x` is [rows, inputs] and `y` is [rows, outputs], with row strides in elements.
template <class T>
struct product_args {
  const quant::word* words = nullptr;
  index_t outputs = 0;
  index_t inputs = 0;
  const T* x = nullptr;
  index_t x_stride = 0;
  index_t rows = 0;
  T* y = nullptr;
  index_t y_stride = 0;
  const T* bias = nullptr;  // [outputs] or null
};

/// Inputs decoded at a time when a panel is shared by many rows.
inline constexpr index_t product_stretch = 512;
/// Elements of scratch that `product` needs.
inline constexpr std::size_t product_scratch = static_cast<std::size_t>(product_stretch) * quant::panel_features;

/// Panels that `outputs` features take.
[[nodiscard]] constexpr index_t panel_count(index_t outputs) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  return (outputs + width - 1) / width;
}

namespace detail {

/// Part of y that one register tile writes: `Rows` rows of the features of one panel.
template <class T>
struct output_tile {
  T* y = nullptr;
  index_t stride = 0;
  index_t features = 0;     // of this panel, at most 32
  const T* bias = nullptr;  // at the panel's first feature, or null
};

template <class Arch, class T>
RUNNEL_INLINE simd::lanes<T, Arch> load_tail(const T* values, index_t count) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  if (count >= width) return simd::lanes<T, Arch>::load_unaligned(values);
  alignas(64) std::array<T, simd::width<T, Arch>> all{};
  for (index_t i = 0; i < count; ++i) all[static_cast<std::size_t>(i)] = values[i];
  return simd::lanes<T, Arch>::load_aligned(all.data());
}

template <class Arch, class T>
RUNNEL_INLINE void store_tail(const simd::lanes<T, Arch>& x, T* values, index_t count) noexcept {
  constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  if (count >= width) return x.store_unaligned(values);
  alignas(64) std::array<T, simd::width<T, Arch>> all;
  x.store_aligned(all.data());
  for (index_t i = 0; i < count; ++i) values[i] = all[static_cast<std::size_t>(i)];
}

template <class Arch, class T, std::size_t Rows, std::size_t Columns>
using accumulators = std::array<std::array<simd::lanes<T, Arch>, Columns>, Rows>;

/// Finishes a tile: adds the bias if this was the last stretch, and stores what exists of the panel.
template <class Arch, class T, std::size_t Rows, std::size_t Columns>
RUNNEL_INLINE void finish(accumulators<Arch, T, Rows, Columns>& sums, const output_tile<T>& out, std::size_t column,
                          bool last) noexcept {
  constexpr std::size_t width = simd::width<T, Arch>;
  simd::unroll<Columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
    const auto feature = static_cast<index_t>(column + v * width);
    const index_t left = out.features - feature;
    if (left <= 0) return;
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      auto sum = sums[r][v];
      if (last && out.bias != nullptr) sum = sum + load_tail<Arch>(out.bias + feature, left);
      store_tail<Arch>(sum, out.y + static_cast<index_t>(r) * out.stride + feature, left);
    });
  });
}

/// One row over one panel, weights decoded in registers.
template <class Arch, class Codec>
void single_row(const quant::word* panel, const product_args<float>& args, const output_tile<float>& out) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr std::size_t columns = std::min<std::size_t>(2, quant::panel_features / width);
  constexpr auto step = static_cast<index_t>(Codec::panel_inputs);
  using batch = simd::lanes<float, Arch>;
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    accumulators<Arch, float, 1, columns> sums;
    simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { sums[0][v] = batch(0.0f); });
    const quant::word* block = panel;
    for (index_t k0 = 0; k0 < args.inputs; k0 += step, block += Codec::panel_words) {
      const auto count = std::min(Codec::panel_inputs, static_cast<std::size_t>(args.inputs - k0));
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
        Codec::template decode_lanes<Arch>(
            block, column + v * width, count, [&](std::size_t k, const batch& w) RUNNEL_LAMBDA_INLINE {
              sums[0][v] = simd::fma(batch(args.x[k0 + static_cast<index_t>(k)]), w, sums[0][v]);
            });
      });
    }
    finish<Arch, float, 1, columns>(sums, out, column, true);
  }
}

/// One stretch of inputs of one panel as T, [count, 32].
template <class T>
struct decoded_stretch {
  const T* weights = nullptr;
  index_t count = 0;
  bool first = false;  // sums start at zero, otherwise they continue what y holds
  bool last = false;
};

/// `Rows` rows over one decoded stretch of one panel.
template <class Arch, class T, std::size_t Rows>
void stretch_tile(const decoded_stretch<T>& stretch, const T* x, index_t x_stride, const output_tile<T>& out) noexcept {
  constexpr std::size_t width = simd::width<T, Arch>;
  constexpr std::size_t columns = std::min<std::size_t>(2, quant::panel_features / width);
  using batch = simd::lanes<T, Arch>;
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    accumulators<Arch, T, Rows, columns> sums;
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
        const auto feature = static_cast<index_t>(column + v * width);
        const index_t left = out.features - feature;
        sums[r][v] = stretch.first || left <= 0
                         ? batch(T(0))
                         : load_tail<Arch>(out.y + static_cast<index_t>(r) * out.stride + feature, left);
      });
    });
    const T* weights = stretch.weights + column;
    for (index_t k = 0; k < stretch.count; ++k, weights += quant::panel_features) {
      std::array<batch, columns> w;
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { w[v] = batch::load_aligned(weights + v * width); });
      simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
        const batch value(x[static_cast<index_t>(r) * x_stride + k]);
        simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { sums[r][v] = simd::fma(value, w[v], sums[r][v]); });
      });
    }
    finish<Arch, T, Rows, columns>(sums, out, column, stretch.last);
  }
}

/// Decodes inputs [k0, k0 + count) of a panel to T, [count, 32]. k0 is a multiple of the codec's panel_inputs.
template <class Arch, class Codec, class T>
void decode_stretch(const quant::word* panel, index_t k0, index_t count, T* out) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr auto step = static_cast<index_t>(Codec::panel_inputs);
  const quant::word* block = panel + k0 / step * static_cast<index_t>(Codec::panel_words);
  for (index_t k = 0; k < count; k += step, block += Codec::panel_words) {
    const auto here = std::min(Codec::panel_inputs, static_cast<std::size_t>(count - k));
    T* rows = out + k * static_cast<index_t>(quant::panel_features);
    for (std::size_t column = 0; column < quant::panel_features; column += width) {
      Codec::template decode_lanes<Arch>(
          block, column, here, [&](std::size_t i, const simd::lanes<float, Arch>& w) RUNNEL_LAMBDA_INLINE {
            if constexpr (std::is_same_v<T, float>) {
              w.store_aligned(rows + i * quant::panel_features + column);
            } else {
              alignas(64) std::array<float, width> values;
              w.store_aligned(values.data());
              std::copy(values.begin(), values.end(), rows + i * quant::panel_features + column);
            }
          });
    }
  }
}

/// Runs `tile(rows constant, first row)` over all rows in tiles of at most `Most`.
template <std::size_t Most, class Tile>
RUNNEL_INLINE void tile_rows(index_t rows, Tile&& tile) noexcept {
  constexpr auto most = static_cast<index_t>(Most);
  index_t row = 0;
  for (; rows - row >= most; row += most) tile(std::integral_constant<std::size_t, Most>{}, row);
  if constexpr (Most > 1) {
    tile_rows<Most / 2>(rows - row, [&](auto count, index_t first) { tile(count, row + first); });
  }
}

}  // namespace detail

/// Panels [panel_begin, panel_end) of a product. `scratch` holds `product_scratch` elements, 64-byte aligned.
template <class Arch, class Codec, class T>
void product(const product_args<T>& args, index_t panel_begin, index_t panel_end, T* scratch) noexcept {
  constexpr auto panel_width = static_cast<index_t>(quant::panel_features);
  constexpr auto panel_inputs = static_cast<index_t>(Codec::panel_inputs);
  constexpr std::size_t tile = simd::registers<Arch> == 32 ? 8 : 4;
  const index_t blocks = (args.inputs + panel_inputs - 1) / panel_inputs;
  // Few rows are done before the weights have left the first cache; many make longer stretches worth it.
  const index_t most = args.rows <= 16 ? product_stretch / 4 : product_stretch;
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel = args.words + p * blocks * static_cast<index_t>(Codec::panel_words);
    const index_t feature = p * panel_width;
    const detail::output_tile<T> out{args.y + feature, args.y_stride, std::min(panel_width, args.outputs - feature),
                                     args.bias != nullptr ? args.bias + feature : nullptr};
    const auto at_row = [&](index_t row) {
      detail::output_tile<T> moved = out;
      moved.y += row * args.y_stride;
      return moved;
    };
    if constexpr (std::is_same_v<T, float>) {
      if (args.rows == 1) {
        detail::single_row<Arch, Codec>(panel, args, out);
        continue;
      }
    }
    for (index_t k0 = 0; k0 < args.inputs; k0 += most) {
      const index_t count = std::min(most, args.inputs - k0);
      detail::decode_stretch<Arch, Codec>(panel, k0, count, scratch);
      const detail::decoded_stretch<T> stretch{scratch, count, k0 == 0, k0 + count == args.inputs};
      detail::tile_rows<tile>(args.rows, [&](auto rows, index_t row) {
        detail::stretch_tile<Arch, T, rows>(stretch, args.x + row * args.x_stride + k0, args.x_stride, at_row(row));
      });
    }
  }
}

}  // namespace runnel::kernels
