// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// y = x W^T + b over panels of prepared weights (quant/panel.hpp), computed in float, double or bf16.
///
/// Row purity (law 0): y[r, n] is one chain acc = fma(x[r, k], w[n, k], acc) over ascending k from zero (over pairs of
/// inputs in bf16), then + b[n], whatever the number of rows and however they are tiled. Weights that are not stored as
/// they are multiplied are decoded a stretch of a panel at a time into scratch.

namespace runnel::kernels {

/// One product. `x` is [rows, inputs] of X (floats, doubles, pairs of bf16, blocks of bytes) and `y` is
/// [rows, outputs], with row strides in elements of X and T.
template <class T, class X = T>
struct product_args {
  const quant::word* words = nullptr;
  index_t outputs = 0;
  index_t inputs = 0;
  const X* x = nullptr;
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

/// How one step of a product's chain is computed: the scalar that weights and inputs are multiplied in, how many inputs
/// it holds, and the step.
template <class T>
struct plain_arithmetic {
  using element = T;
  using sum = T;
  static constexpr index_t inputs = 1;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<T, Arch> step(T x, const simd::lanes<T, Arch>& w,
                                                 const simd::lanes<T, Arch>& acc) noexcept {
    return simd::fma(simd::lanes<T, Arch>(x), w, acc);
  }
};

struct bf16_arithmetic {
  using element = quant::word;
  using sum = float;
  static constexpr index_t inputs = 2;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> step(quant::word x, const simd::lanes<quant::word, Arch>& w,
                                                     const simd::lanes<float, Arch>& acc) noexcept {
    return simd::dot2<Arch>(acc, w, simd::lanes<quant::word, Arch>(x));
  }
};

namespace detail {

/// Part of y that one register tile writes: `Rows` rows of the features of one panel.
template <class T>
struct output_tile {
  T* y = nullptr;
  index_t stride = 0;
  index_t features = 0;     // of this panel, at most 32
  const T* bias = nullptr;  // at the panel's first feature, or null

  [[nodiscard]] output_tile at_row(index_t row) const noexcept { return {y + row * stride, stride, features, bias}; }
};

template <class T, class X>
[[nodiscard]] output_tile<T> panel_output(const product_args<T, X>& args, index_t panel) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  const index_t feature = panel * width;
  return {args.y + feature, args.y_stride, std::min(width, args.outputs - feature),
          args.bias != nullptr ? args.bias + feature : nullptr};
}

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

/// Elements that weights are fetched ahead: few rows use a line up faster than the next arrives from the last cache.
inline constexpr index_t prefetch_distance = 24 * static_cast<index_t>(quant::panel_features);

/// Rows of a register tile: two registers wide, it leaves room for weights and one input.
template <class Arch>
inline constexpr std::size_t tile_height = simd::registers<Arch> == 32 ? 8 : 4;

/// Weights of one stretch of one panel, [count, 32].
template <class Element>
struct weight_stretch {
  const Element* weights = nullptr;
  index_t count = 0;
  bool first = false;  // sums start at zero, otherwise they continue what y holds
  bool last = false;
};

/// Inputs of a tile whose rows lie one after another, `stride` elements apart.
template <class T>
struct input_rows {
  const T* x = nullptr;
  index_t stride = 0;

  [[nodiscard]] RUNNEL_INLINE T at(index_t row, index_t k) const noexcept { return x[row * stride + k]; }
  [[nodiscard]] input_rows from(index_t row, index_t k) const noexcept { return {x + row * stride + k, stride}; }
};

/// `Rows` rows over one stretch of one panel.
template <class Arch, class Arithmetic, std::size_t Rows, class Inputs>
void stretch_tile(const weight_stretch<typename Arithmetic::element>& stretch, const Inputs& x,
                  const output_tile<typename Arithmetic::sum>& out) noexcept {
  using element = typename Arithmetic::element;
  using sum = typename Arithmetic::sum;
  constexpr std::size_t width = simd::width<sum, Arch>;
  constexpr std::size_t columns = std::min<std::size_t>(2, quant::panel_features / width);
  using batch = simd::lanes<sum, Arch>;
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    accumulators<Arch, sum, Rows, columns> sums;
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
        const auto feature = static_cast<index_t>(column + v * width);
        const index_t left = out.features - feature;
        sums[r][v] = stretch.first || left <= 0
                         ? batch(sum(0))
                         : load_tail<Arch>(out.y + static_cast<index_t>(r) * out.stride + feature, left);
      });
    });
    const element* weights = stretch.weights + column;
    for (index_t k = 0; k < stretch.count; ++k, weights += quant::panel_features) {
      std::array<simd::lanes<element, Arch>, columns> w;
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
        w[v] = simd::lanes<element, Arch>::load_aligned(weights + v * width);
        simd::prefetch(weights + prefetch_distance + v * width);
      });
      simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
        const element value = x.at(static_cast<index_t>(r), k);
        simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
          sums[r][v] = Arithmetic::template step<Arch>(value, w[v], sums[r][v]);
        });
      });
    }
    finish<Arch, sum, Rows, columns>(sums, out, column, stretch.last);
  }
}

/// Takes the decoded weights of one column of a panel, input by input, and stores them as what the arithmetic
/// multiplies,
/// [.., 32].
template <class Arch, class Arithmetic>
struct decoded_column {
  typename Arithmetic::element* rows;

  RUNNEL_INLINE void operator()(index_t k, const simd::lanes<float, Arch>& w) noexcept {
    constexpr std::size_t width = simd::width<float, Arch>;
    auto* const at = rows + k * static_cast<index_t>(quant::panel_features);
    if constexpr (std::is_same_v<typename Arithmetic::element, float>) {
      w.store_aligned(at);
    } else {
      alignas(64) std::array<float, width> values;
      w.store_aligned(values.data());
      std::copy(values.begin(), values.end(), at);
    }
  }
};

template <class Arch>
struct decoded_column<Arch, bf16_arithmetic> {
  quant::word* rows;
  simd::lanes<std::uint32_t, Arch> low{};

  RUNNEL_INLINE void operator()(index_t k, const simd::lanes<float, Arch>& w) noexcept {
    const auto rounded = simd::bit_cast_to<std::uint32_t>(simd::round_to_bf16<Arch>(w));
    if (k % 2 == 0) low = rounded >> 16;
    // The even input is stored too, for it may be the last.
    const auto pair = k % 2 == 0 ? low : low | rounded;
    simd::bit_cast_to<quant::word>(pair).store_aligned(rows + k / 2 * static_cast<index_t>(quant::panel_features));
  }
};

/// Decodes inputs [k0, k0 + count) of a panel. k0 is a multiple of the codec's panel_inputs.
template <class Arch, class Codec, class Arithmetic>
void decode_stretch(const quant::word* panel, index_t k0, index_t count, typename Arithmetic::element* out) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr auto step = static_cast<index_t>(Codec::panel_inputs);
  for (std::size_t column = 0; column < quant::panel_features; column += width) {
    decoded_column<Arch, Arithmetic> store{out + column};
    const quant::word* block = panel + k0 / step * static_cast<index_t>(Codec::panel_words);
    for (index_t k = 0; k < count; k += step, block += Codec::panel_words) {
      const auto here = std::min(Codec::panel_inputs, static_cast<std::size_t>(count - k));
      Codec::template decode_lanes<Arch>(block, column, here,
                                         [&](std::size_t i, const simd::lanes<float, Arch>& w)
                                             RUNNEL_LAMBDA_INLINE { store(k + static_cast<index_t>(i), w); });
    }
  }
}

/// Whether a panel's words are already what the arithmetic multiplies.
template <class Codec, class Arithmetic>
inline constexpr bool stored_as_multiplied = (std::is_same_v<Codec, quant::f32_codec> &&
                                              std::is_same_v<Arithmetic, plain_arithmetic<float>>) ||
                                             (std::is_same_v<Codec, quant::bf16_codec> &&
                                              std::is_same_v<Arithmetic, bf16_arithmetic>);

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

/// All rows over one panel, stretch by stretch.
template <class Arch, class Arithmetic, class Args, class Stretch>
void panel_product(const Args& args, index_t panel, index_t most, Stretch&& weights_of) noexcept {
  const auto out = panel_output(args, panel);
  const input_rows<typename Arithmetic::element> x{args.x, args.x_stride};
  for (index_t k0 = 0; k0 < args.inputs; k0 += most) {
    const index_t count = std::min(most, args.inputs - k0);
    const weight_stretch<typename Arithmetic::element> stretch{weights_of(k0, count),
                                                               (count + Arithmetic::inputs - 1) / Arithmetic::inputs,
                                                               k0 == 0, k0 + count == args.inputs};
    tile_rows<tile_height<Arch>>(args.rows, [&](auto rows, index_t row) {
      stretch_tile<Arch, Arithmetic, rows>(stretch, x.from(row, k0 / Arithmetic::inputs), out.at_row(row));
    });
  }
}

}  // namespace detail

/// Panels [panel_begin, panel_end) of a product. `scratch` holds `product_scratch` elements, 64-byte aligned.
template <class Arch, class Codec, class Arithmetic>
void product(const product_args<typename Arithmetic::sum, typename Arithmetic::element>& args, index_t panel_begin,
             index_t panel_end, typename Arithmetic::element* scratch) noexcept {
  constexpr auto block_inputs = static_cast<index_t>(Codec::panel_inputs);
  const index_t panel_words =
      (args.inputs + block_inputs - 1) / block_inputs * static_cast<index_t>(Codec::panel_words);
  // Few rows are done before the weights have left the first cache; many make longer stretches worth it.
  const index_t most = args.rows <= 16 ? product_stretch / 4 : product_stretch;
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel = args.words + p * panel_words;
    if constexpr (detail::stored_as_multiplied<Codec, Arithmetic>) {
      const auto* weights = reinterpret_cast<const typename Arithmetic::element*>(panel);
      detail::panel_product<Arch, Arithmetic>(args, p, product_stretch, [&](index_t k0, index_t) {
        return weights + k0 / Arithmetic::inputs * static_cast<index_t>(quant::panel_features);
      });
    } else {
      detail::panel_product<Arch, Arithmetic>(args, p, most, [&](index_t k0, index_t count) {
        detail::decode_stretch<Arch, Codec, Arithmetic>(panel, k0, count, scratch);
        return static_cast<const typename Arithmetic::element*>(scratch);
      });
    }
  }
}

}  // namespace runnel::kernels
