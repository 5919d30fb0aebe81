// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <runnel/core/index.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/kernels/activations.hpp>
#include <runnel/kernels/weight_part.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// y = x W^T + b over panels of prepared weights (quant/panel.hpp), computed in float, double or bf16.
///
/// Row purity (law 0): y[r, n] is one chain acc = fma(x[r, k], w[n, k], acc) over ascending k from zero (over pairs of
/// inputs in bf16, each rounded and then its rest, where inputs are split), then + b[n], whatever the number of rows
/// and however they are tiled. Weights that are not stored as they are multiplied are decoded a stretch of a panel at a
/// time into scratch.
///
/// Tiles have two heights, full and one row; a full tile that finds fewer rows computes the last of them again and
/// keeps one result. (Tiles of every height are a little faster for a few rows, and take seconds to compile.)

namespace runnel::kernels {

/// One product. `x` is [rows, inputs] of X (floats, doubles, pairs of bf16, split or not, blocks of bytes) and `y` is
/// [rows, outputs], with row strides in elements of X and T.
template <class T, class X = T>
struct product_args {
  const quant::word* words = nullptr;
  quant::weight_format format = quant::weight_format::f32;
  index_t outputs = 0;
  index_t inputs = 0;
  const X* x = nullptr;
  index_t x_stride = 0;
  index_t rows = 0;
  T* y = nullptr;
  index_t y_stride = 0;
  const T* bias = nullptr;  // [outputs] or null
};

/// Inputs of a panel that are decoded and worked on at a time.
inline constexpr index_t product_stretch = 512;
/// Weights of a panel that need no decoding and are worked on at a time, in bytes, at least: tiles read them from the
/// second cache as fast as they multiply, and sums travel to y and back once a stretch.
inline constexpr index_t stored_stretch_bytes = index_t{1} << 17;
/// Elements of scratch that `product` needs.
inline constexpr std::size_t product_scratch = static_cast<std::size_t>(product_stretch) * quant::panel_features;

/// Panels that `outputs` features take.
[[nodiscard]] constexpr index_t panel_count(index_t outputs) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  return (outputs + width - 1) / width;
}

/// How one step of a product's chain is computed: the scalar that weights lie in, what an input is beside it, the sum,
/// how many inputs a step takes, the step, and what decoded weights become.
template <class T>
struct plain_arithmetic {
  using element = T;
  using input = T;
  using sum = T;
  static constexpr index_t inputs = 1;
  static constexpr quant::weight_format stored_as = quant::weight_format::f32;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<T, Arch> step(T x, const simd::lanes<T, Arch>& w,
                                                 const simd::lanes<T, Arch>& acc) noexcept {
    return simd::fma(simd::lanes<T, Arch>(x), w, acc);
  }
  template <class Arch>
  static void convert(const float* decoded, index_t count, T* out) noexcept {
    std::copy_n(decoded, count * static_cast<index_t>(quant::panel_features), out);
  }
};

namespace detail {

/// `count` floats of two rows side by side as pairs, a multiple of a register; no second row: zeros.
template <class Arch>
RUNNEL_INLINE void pair_rows(const float* even, const float* odd, std::size_t count, quant::word* out) noexcept {
  using batch = simd::lanes<float, Arch>;
  using bits = simd::lanes<std::uint32_t, Arch>;
  for (std::size_t f = 0; f < count; f += simd::width<float, Arch>) {
    const batch second = odd != nullptr ? batch::load_unaligned(odd + f) : batch(0.0f);
    const auto low = simd::bit_cast_to<std::uint32_t>(simd::round_to_bf16<Arch>(batch::load_unaligned(even + f))) >> 16;
    const bits pair = low | simd::bit_cast_to<std::uint32_t>(simd::round_to_bf16<Arch>(second));
    simd::bit_cast_to<quant::word>(pair).store_unaligned(out + f);
  }
}

}  // namespace detail

struct bf16_arithmetic {
  using element = quant::word;
  using input = quant::word;
  using sum = float;
  static constexpr index_t inputs = 2;
  static constexpr quant::weight_format stored_as = quant::weight_format::bf16;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> step(quant::word x, const simd::lanes<quant::word, Arch>& w,
                                                     const simd::lanes<float, Arch>& acc) noexcept {
    return simd::dot2<Arch>(acc, w, simd::lanes<quant::word, Arch>(x));
  }
  template <class Arch>
  static void convert(const float* decoded, index_t count, quant::word* out) noexcept {
    constexpr auto features = static_cast<index_t>(quant::panel_features);
    for (index_t k = 0; k < count; k += 2, out += features) {
      const float* even = decoded + k * features;
      detail::pair_rows<Arch>(even, k + 1 < count ? even + features : nullptr, quant::panel_features, out);
    }
  }
};

/// The same with inputs of 16 bits, at twice the arithmetic. (A weight that is infinite in bf16 gives NaN where nothing
/// of an input is left over.)
struct split_bf16_arithmetic : bf16_arithmetic {
  using input = split_pair;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> step(const split_pair& x, const simd::lanes<quant::word, Arch>& w,
                                                     const simd::lanes<float, Arch>& acc) noexcept {
    return bf16_arithmetic::step<Arch>(x.rest, w, bf16_arithmetic::step<Arch>(x.rounded, w, acc));
  }
};

namespace detail {

/// Rows of a register tile: two registers wide, it leaves room for weights and one input.
template <class Arch>
inline constexpr std::size_t tile_height = simd::registers<Arch> == 32 ? 8 : 4;

/// Part of y that one tile writes: rows of the features of one panel.
template <class T>
struct output_tile {
  T* y = nullptr;
  index_t stride = 0;
  index_t rows = 0;
  index_t features = 0;     // of this panel, at most 32
  const T* bias = nullptr;  // at the panel's first feature, or null
};

template <class T, class X>
[[nodiscard]] output_tile<T> panel_output(const product_args<T, X>& args, index_t panel) noexcept {
  constexpr auto width = static_cast<index_t>(quant::panel_features);
  const index_t feature = panel * width;
  return {args.y + feature, args.y_stride, args.rows, std::min(width, args.outputs - feature),
          args.bias != nullptr ? args.bias + feature : nullptr};
}

/// Sums of a tile, [rows, 32], on their way between registers and y.
template <class T, std::size_t Rows>
using tile_sums = std::array<T, Rows * quant::panel_features>;

/// Copies the features of one row, most often a whole panel's, which compiles to a few moves.
template <class T>
RUNNEL_INLINE void copy_features(const T* from, index_t features, T* to) noexcept {
  if (features == static_cast<index_t>(quant::panel_features)) {
    std::memcpy(to, from, quant::panel_features * sizeof(T));
  } else {
    std::copy_n(from, features, to);
  }
}

template <class T>
void read_tile(const output_tile<T>& from, T* sums) noexcept {
  for (index_t r = 0; r < from.rows; ++r, sums += quant::panel_features) {
    copy_features(from.y + r * from.stride, from.features, sums);
  }
}

/// Writes what exists of a tile; `last` adds the bias.
template <class T>
void write_tile(T* sums, const output_tile<T>& to, bool last) noexcept {
  for (index_t r = 0; r < to.rows; ++r, sums += quant::panel_features) {
    if (last && to.bias != nullptr) {
      for (index_t n = 0; n < to.features; ++n) sums[n] += to.bias[n];
    }
    copy_features<T>(sums, to.features, to.y + r * to.stride);
  }
}

/// Elements that a lone tile fetches ahead: it uses a line up faster than the next arrives from the last cache.
inline constexpr index_t prefetch_distance = 24 * static_cast<index_t>(quant::panel_features);

/// What a tile fetches while it runs. Of several tiles the first two ask for a half each of the stretch that lies
/// behind theirs: otherwise memory would wait while tiles multiply, and the next first tile for memory.
enum class fetch : std::uint8_t { nothing, own, first_half_behind, second_half_behind };

/// Weights of one stretch of one panel, [count, 32].
template <class Element>
struct weight_stretch {
  const Element* weights = nullptr;
  index_t count = 0;
  bool first = false;  // sums start at zero, otherwise they continue what y holds
  bool last = false;
  fetch fetched = fetch::nothing;
};

/// Where a tile's weights are fetched from.
enum class fetch_from : std::uint8_t { nowhere, ahead, behind };

/// Multiplies all steps of a stretch into sums, from the features at `column` on; `behind` is what is asked for
/// meanwhile, if that is wanted.
template <class Arch, class Arithmetic, fetch_from From, std::size_t Rows, std::size_t Columns>
RUNNEL_INLINE void multiply_steps(const weight_stretch<typename Arithmetic::element>& stretch, std::size_t column,
                                  const std::array<const typename Arithmetic::input*, Rows>& rows,
                                  [[maybe_unused]] const typename Arithmetic::element* behind,
                                  simd::lanes<typename Arithmetic::sum, Arch> (&acc)[Rows][Columns]) noexcept {
  using element = typename Arithmetic::element;
  constexpr std::size_t width = simd::width<typename Arithmetic::sum, Arch>;
  constexpr auto features = static_cast<index_t>(quant::panel_features);
  constexpr auto share = static_cast<index_t>(Columns * width) / 2;  // of each step's features that lie behind
  const element* weights = stretch.weights + column;
  for (index_t k = 0; k < stretch.count; ++k, weights += features, behind += share) {
    if constexpr (From == fetch_from::ahead) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) simd::prefetch(weights + prefetch_distance + v * width);
    } else if constexpr (From == fetch_from::behind) {
      simd::prefetch_for_later(behind);
    }
    simd::lanes<element, Arch> w[Columns];
    RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
      w[v] = simd::lanes<element, Arch>::load_aligned(weights + v * width);
    }
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
        acc[r][v] = Arithmetic::template step<Arch>(rows[r][k], w[v], acc[r][v]);
      }
    }
  }
}

/// Where the rows of a tile begin: those past the last are the last again.
template <class X, std::size_t Rows>
[[nodiscard]] RUNNEL_INLINE std::array<const X*, Rows> row_starts(const X* x, index_t stride, index_t rows) noexcept {
  std::array<const X*, Rows> starts;
  RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) starts[r] =
      x + std::min(static_cast<index_t>(r), rows - 1) * stride;
  return starts;
}

/// Up to `Rows` rows over one stretch of one panel.
template <class Arch, class Arithmetic, std::size_t Rows>
void stretch_tile(const weight_stretch<typename Arithmetic::element>& stretch, const typename Arithmetic::input* x,
                  index_t x_stride, const output_tile<typename Arithmetic::sum>& out) noexcept {
  using element = typename Arithmetic::element;
  using sum = typename Arithmetic::sum;
  using batch = simd::lanes<sum, Arch>;
  constexpr std::size_t width = simd::width<sum, Arch>;
  constexpr std::size_t columns = std::min<std::size_t>(2, quant::panel_features / width);
  const auto rows = row_starts<typename Arithmetic::input, Rows>(x, x_stride, out.rows);
  // A tile whose rows and features are all there is kept in y itself.
  const bool whole =
      out.rows == static_cast<index_t>(Rows) && out.features == static_cast<index_t>(quant::panel_features);
  alignas(64) tile_sums<sum, Rows> spare;
  sum* const sums = whole ? out.y : spare.data();
  const index_t sums_stride = whole ? out.stride : static_cast<index_t>(quant::panel_features);
  if (!whole && !stretch.first) read_tile(out, spare.data());
  const auto place = [&](std::size_t r, std::size_t column) RUNNEL_LAMBDA_INLINE {
    return sums + static_cast<index_t>(r) * sums_stride + static_cast<index_t>(column);
  };
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    batch acc[Rows][columns];
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) {
        acc[r][v] = stretch.first ? batch(sum(0)) : batch::load_unaligned(place(r, column + v * width));
      }
    }
    const element* behind = stretch.weights + stretch.count * static_cast<index_t>(quant::panel_features + column / 2);
    switch (stretch.fetched) {
      case fetch::nothing:
        multiply_steps<Arch, Arithmetic, fetch_from::nowhere>(stretch, column, rows, behind, acc);
        break;
      case fetch::own: multiply_steps<Arch, Arithmetic, fetch_from::ahead>(stretch, column, rows, behind, acc); break;
      case fetch::second_half_behind:
        behind += stretch.count * static_cast<index_t>(quant::panel_features / 2);
        [[fallthrough]];
      case fetch::first_half_behind:
        multiply_steps<Arch, Arithmetic, fetch_from::behind>(stretch, column, rows, behind, acc);
        break;
    }
    const bool biased = whole && stretch.last && out.bias != nullptr;
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) {
        if (biased) acc[r][v] = acc[r][v] + batch::load_unaligned(out.bias + column + v * width);
        acc[r][v].store_unaligned(place(r, column + v * width));
      }
    }
  }
  if (!whole) write_tile(spare.data(), out, stretch.last);
}

/// Runs `tile(height, first row, out)` over all rows: full tiles, or a single row.
template <std::size_t Full, class T, class Tile>
RUNNEL_INLINE void for_each_tile(const output_tile<T>& out, Tile&& tile) noexcept {
  constexpr auto full = static_cast<index_t>(Full);
  for (index_t row = 0; row < out.rows; row += full) {
    output_tile<T> part = out;
    part.y += row * out.stride;
    part.rows = std::min(full, out.rows - row);
    if (part.rows == 1) {
      tile(std::integral_constant<std::size_t, 1>{}, row, part);
    } else {
      tile(std::integral_constant<std::size_t, Full>{}, row, part);
    }
  }
}

/// A codec as a panel product needs it. Inputs are decoded from a multiple of the least decodable number on.
struct panel_codec {
  index_t inputs;                                                        // of a block
  index_t words;                                                         // of a block
  void (*decode)(const quant::word* blocks, index_t count, float* out);  // from the beginning of a block, or null
  part_codec parts;                                                      // used where there is no `decode`
};

/// Decodes `count` inputs of a panel, from the beginning of a block, to [count, 32].
template <class Arch, class Codec>
void decode_panel(const quant::word* blocks, index_t count, float* out) noexcept {
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr auto step = static_cast<index_t>(Codec::panel_inputs);
  for (index_t k = 0; k < count; k += step, blocks += Codec::panel_words) {
    const auto here = std::min(Codec::panel_inputs, static_cast<std::size_t>(count - k));
    float* rows = out + k * static_cast<index_t>(quant::panel_features);
    for (std::size_t column = 0; column < quant::panel_features; column += width) {
      Codec::template decode_lanes<Arch>(blocks, column, here,
                                         [&](std::size_t i, const simd::lanes<float, Arch>& w) RUNNEL_LAMBDA_INLINE {
                                           w.store_aligned(rows + i * quant::panel_features + column);
                                         });
    }
  }
}

template <class Arch>
[[nodiscard]] panel_codec find_panel_codec(quant::weight_format format) noexcept {
  return quant::with_codec(format, []<class Codec>(Codec) {
    constexpr auto inputs = static_cast<index_t>(Codec::panel_inputs), words = static_cast<index_t>(Codec::panel_words);
    if constexpr (quant::decodes_lanes<Codec>) {
      return panel_codec{inputs, words, &decode_panel<Arch, Codec>, {}};
    } else {
      return panel_codec{inputs, words, nullptr, make_part_codec<Arch, Codec>()};
    }
  });
}

/// Decodes inputs [first, first + count) of a panel to [count, 32].
template <class Arch>
void decode_inputs(const panel_codec& codec, const quant::word* panel, index_t first, index_t count,
                   float* out) noexcept {
  if (codec.decode != nullptr) return codec.decode(panel + first / codec.inputs * codec.words, count, out);
  constexpr auto step = static_cast<index_t>(weight_part::inputs);
  weight_part part;
  for (index_t k = 0; k < count; k += step) {
    codec.parts.take_apart(panel, (first + k) / step, 1, &part);
    part_to_floats<Arch>(part, codec.parts.zero_point, out + k * static_cast<index_t>(quant::panel_features));
  }
}

/// What the tile of `Height` rows at `row` fetches.
template <std::size_t Height>
[[nodiscard]] constexpr fetch fetched_by(index_t rows, index_t row) noexcept {
  constexpr auto height = static_cast<index_t>(Height);
  if (rows <= height) return fetch::own;
  return row == 0 ? fetch::first_half_behind : row == height ? fetch::second_half_behind : fetch::nothing;
}

/// The length of equal stretches of weights that are multiplied as they lie, in whole steps of 32 inputs: a short rest
/// is shared out among the others.
template <class Arithmetic>
[[nodiscard]] constexpr index_t even_stretch(index_t inputs) noexcept {
  constexpr auto row_bytes = static_cast<index_t>(quant::panel_features * sizeof(typename Arithmetic::element));
  constexpr index_t least = Arithmetic::inputs * (stored_stretch_bytes / row_bytes);
  const index_t stretches = std::max<index_t>(1, inputs / least);
  return ((inputs + stretches - 1) / stretches + 31) / 32 * 32;
}

}  // namespace detail

/// Panels [panel_begin, panel_end) of a product. `scratch` holds `product_scratch` elements, 64-byte aligned.
template <class Arch, class Arithmetic>
void product(const product_args<typename Arithmetic::sum, typename Arithmetic::input>& args, index_t panel_begin,
             index_t panel_end, typename Arithmetic::element* scratch) noexcept {
  using element = typename Arithmetic::element;
  constexpr auto features = static_cast<index_t>(quant::panel_features);
  constexpr bool in_floats = std::is_same_v<element, float>;
  const auto codec = detail::find_panel_codec<Arch>(args.format);
  const bool as_stored = args.format == Arithmetic::stored_as && sizeof(element) == sizeof(quant::word);
  // Few rows are done before decoded weights have left the first cache; many make longer stretches worth it. Weights
  // that are decoded to floats and then converted share the scratch with those.
  const index_t most = as_stored                     ? detail::even_stretch<Arithmetic>(args.inputs)
                       : in_floats && args.rows > 16 ? product_stretch
                                                     : product_stretch / 4;
  float* const decoded = in_floats ? reinterpret_cast<float*>(scratch)
                                   : reinterpret_cast<float*>(scratch + product_stretch / 2 * features);
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel = args.words + p * ((args.inputs + codec.inputs - 1) / codec.inputs) * codec.words;
    for (index_t k0 = 0; k0 < args.inputs; k0 += most) {
      const index_t count = std::min(most, args.inputs - k0);
      detail::weight_stretch<element> stretch{scratch, (count + Arithmetic::inputs - 1) / Arithmetic::inputs, k0 == 0,
                                              k0 + count == args.inputs};
      if (as_stored) {
        stretch.weights = reinterpret_cast<const element*>(panel + k0 / codec.inputs * codec.words);
      } else {
        detail::decode_inputs<Arch>(codec, panel, k0, count, decoded);
        if constexpr (!in_floats) Arithmetic::template convert<Arch>(decoded, count, scratch);
      }
      detail::for_each_tile<detail::tile_height<Arch>>(
          detail::panel_output(args, p), [&](auto height, index_t row, const auto& out) RUNNEL_LAMBDA_INLINE {
            if (as_stored) stretch.fetched = detail::fetched_by<detail::tile_height<Arch>>(args.rows, row);
            detail::stretch_tile<Arch, Arithmetic, height>(
                stretch, args.x + row * args.x_stride + k0 / Arithmetic::inputs, args.x_stride, out);
          });
    }
  }
}

}  // namespace runnel::kernels
