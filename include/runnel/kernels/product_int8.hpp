// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/kernels/activations.hpp>
#include <runnel/kernels/product.hpp>

/// \file
/// y = x W^T + b in bytes: weights as they are stored, inputs as `byte_block`s.
///
/// The sum over a block of 32 inputs is a whole number, exact in any order. y[r, n] is one chain over ascending blocks
/// and in each over the planes of x, acc = fma(sum, d_w d_x, acc), for weights with a minimum then acc = fma(m_w,
/// sum_x, acc); then + b[n]. Where weights and inputs have one scale a row, the whole row is one block. So a row's bits
/// depend on no other row (law 0).

namespace runnel::kernels {

/// A product in bytes. `x_stride` counts blocks; a row of x has at least `planes` planes of them.
struct byte_product_args : product_args<float, byte_block> {
  index_t planes = 1;
};

namespace detail {

/// Rows of a tile in bytes.
template <class Arch>
inline constexpr std::size_t byte_tile_height = simd::width<float, Arch> > 4 ? 4 : 2;

/// Registers of four lanes take a format apart first, so that a tile for every format need not be compiled: programs
/// without flags for their processor carry those.
template <class Arch>
inline constexpr bool takes_apart = simd::width<float, Arch> <= 4;

/// `weight_part`s as a codec: a format with as many groups, with minimums or without.
template <std::size_t GroupSize, bool HasMinimums>
struct apart_codec {
  static constexpr std::size_t panel_inputs = weight_part::inputs;
  static constexpr std::size_t panel_words = sizeof(weight_part) / sizeof(quant::word);
  static constexpr int zero_point = 1;  // any: the inputs' `start` has the format's
  static constexpr int largest = 255;
  static constexpr std::size_t group_size = GroupSize;
  static constexpr bool has_minimums = HasMinimums;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> scales(const quant::word* part, std::size_t column,
                                                       std::size_t group) noexcept {
    return simd::lanes<float, Arch>::load_aligned(get(part).scales[group].data() + column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> minimums(const quant::word* part, std::size_t column,
                                                         std::size_t group) noexcept {
    return simd::lanes<float, Arch>::load_aligned(get(part).minimums[group].data() + column);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<quant::word, Arch> bytes(const quant::word* part, std::size_t column,
                                                            quant::quad_place at) noexcept {
    return simd::lanes<quant::word, Arch>::load_aligned(get(part).quads.data() +
                                                        (4 * at.half + at.i) * quant::panel_features + column);
  }

 private:
  static const weight_part& get(const quant::word* part) noexcept {
    return *reinterpret_cast<const weight_part*>(part);
  }
};

/// Whole sums of half a block for a tile of rows, added to `sums`.
template <class Arch, class Codec, std::size_t Rows, std::size_t Columns>
RUNNEL_INLINE void add_half(const quant::word* block, std::size_t part, std::size_t half,
                            const std::array<const byte_block*, Rows>& x, index_t at, std::size_t column,
                            simd::lanes<std::int32_t, Arch> (&sums)[Rows][Columns]) noexcept {
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  RUNNEL_UNROLL for (std::size_t i = 0; i < byte_block::inputs / 8; ++i) {
    ints w[Columns];
    RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
      w[v] = Codec::template bytes<Arch>(block, column + v * width, {part, half, i});
    }
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      std::int32_t quad;
      std::memcpy(&quad, x[r][at].quants.data() + 16 * half + 4 * i, sizeof quad);
      const ints inputs(quad);
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
        sums[r][v] = simd::dot4<Codec::largest>(sums[r][v], w[v], inputs);
      }
    }
  }
}

/// Adds the first or only scale group of a block (`Halves` 2), or one of two (`Halves` 1), for a tile of rows to `acc`.
template <class Arch, class Codec, std::size_t Halves, std::size_t Rows, std::size_t Columns>
RUNNEL_INLINE void add_group(const quant::word* block, std::size_t part, std::size_t group,
                             const std::array<const byte_block*, Rows>& x, index_t at, std::size_t column,
                             simd::lanes<float, Arch> (&acc)[Rows][Columns]) noexcept {
  using batch = simd::lanes<float, Arch>;
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  ints whole[Rows][Columns];
  RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
    const ints start(Codec::zero_point == 0 ? 0 : Halves == 2 ? x[r][at].start : x[r][at].group_starts[group]);
    RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) whole[r][v] = start;
  }
  for (std::size_t half = 0; half < Halves; ++half) {
    add_half<Arch, Codec, Rows, Columns>(block, part, Halves == 2 ? half : group, x, at, column, whole);
  }
  const std::size_t place = part * (3 - Halves) + group;
  RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
    const auto scale = Codec::template scales<Arch>(block, column + v * width, place);
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      acc[r][v] = simd::fma(xsimd::to_float(whole[r][v]), scale * batch(x[r][at].scale), acc[r][v]);
    }
    if constexpr (Codec::has_minimums) {
      const auto minimum = Codec::template minimums<Arch>(block, column + v * width, place);
      RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
        acc[r][v] = simd::fma(minimum, batch(Halves == 2 ? x[r][at].sum : x[r][at].group_sums[group]), acc[r][v]);
      }
    }
  }
}

/// Blocks of 32 inputs [first, first + count) of one panel; sums start at zero with block 0, otherwise they continue
/// what y holds.
struct byte_stretch {
  const quant::word* words = nullptr;
  index_t first = 0;
  index_t count = 0;
  std::size_t panel_words = 0;  // to the same place in the next panel; 0: the words are a copy, and nothing is fetched
  std::size_t tile = 0;         // of so many over the same weights
  std::size_t tiles = 1;
};

/// Asks for weights that are wanted soon, one block's worth a block. A lone tile is done with a line before the next
/// arrives from memory, and threads that share panels break the streams that a processor would see by itself; of
/// several tiles the first ones ask for the next panel, a share each, or memory would wait while the others multiply.
template <class Codec>
RUNNEL_INLINE void fetch_ahead(const byte_stretch& stretch, const quant::word* block, std::size_t part) noexcept {
  constexpr std::size_t line = memory_alignment / sizeof(quant::word);
  constexpr std::size_t parts = Codec::panel_inputs / byte_block::inputs;
  constexpr std::size_t lines = (Codec::panel_words / parts + line - 1) / line;
  const quant::word* from = block + part * (Codec::panel_words / parts);
  if (stretch.tiles == 1) {
    constexpr std::size_t distance = 4096 / sizeof(quant::word);
    RUNNEL_UNROLL for (std::size_t i = 0; i < lines; ++i) simd::prefetch(from + distance + i * line);
  } else {
    const std::size_t shares = std::min<std::size_t>(stretch.tiles, 4);
    for (std::size_t i = stretch.tile; i < lines && stretch.tile < shares; i += shares) {
      simd::prefetch_for_later(from + stretch.panel_words + i * line);
    }
  }
}

/// Up to `Rows` rows over one stretch of one panel, a scale a block or half a block.
template <class Arch, class Codec, std::size_t Rows>
void byte_tile(const byte_stretch& stretch, const byte_product_args& args, const byte_block* x,
               const output_tile<float>& out) noexcept {
  using batch = simd::lanes<float, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr std::size_t columns = simd::registers<Arch> == 32 ? 2 : 1;
  constexpr auto parts = static_cast<index_t>(Codec::panel_inputs / byte_block::inputs);
  const index_t blocks = byte_block_count(args.inputs);
  const auto rows = row_starts<byte_block, Rows>(x, args.x_stride, out.rows);
  alignas(64) tile_sums<float, Rows> sums;
  if (stretch.first == 0) {
    sums = {};
  } else {
    read_tile(out, sums.data());
  }
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    batch acc[Rows][columns];
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) {
        acc[r][v] = batch::load_aligned(sums.data() + r * quant::panel_features + column + v * width);
      }
    }
    for (index_t i = 0; i < stretch.count * args.planes; ++i) {
      const index_t b = i / args.planes, at = i % args.planes * blocks + stretch.first + b;
      const quant::word* block = stretch.words + b / parts * static_cast<index_t>(Codec::panel_words);
      const auto part = static_cast<std::size_t>(b % parts);
      if (stretch.panel_words != 0 && column == 0 && at < blocks) fetch_ahead<Codec>(stretch, block, part);
      if constexpr (Codec::group_size == byte_block::inputs) {
        add_group<Arch, Codec, 2>(block, part, 0, rows, at, column, acc);
      } else {
        for (std::size_t group = 0; group < 2; ++group) {
          add_group<Arch, Codec, 1>(block, part, group, rows, at, column, acc);
        }
      }
    }
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) {
        acc[r][v].store_aligned(sums.data() + r * quant::panel_features + column + v * width);
      }
    }
  }
  write_tile(sums.data(), out, stretch.first + stretch.count == blocks);
}

/// Up to `Rows` rows over one panel, one scale a row on both sides.
template <class Arch, class Codec, std::size_t Rows>
void whole_row_tile(const quant::word* panel, const byte_product_args& args, const byte_block* x,
                    const output_tile<float>& out) noexcept {
  using batch = simd::lanes<float, Arch>;
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr std::size_t columns = simd::registers<Arch> == 32 ? 2 : 1;
  const auto rows = row_starts<byte_block, Rows>(x, args.x_stride, out.rows);
  alignas(64) tile_sums<float, Rows> sums;
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    ints whole[Rows][columns];
    RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) whole[r][v] = ints(rows[r]->start);
    }
    const quant::word* block = panel;
    for (index_t b = 0; b < byte_block_count(args.inputs); ++b, block += Codec::panel_words) {
      for (std::size_t half = 0; half < 2; ++half) {
        add_half<Arch, Codec, Rows, columns>(block, 0, half, rows, b, column, whole);
      }
    }
    RUNNEL_UNROLL for (std::size_t v = 0; v < columns; ++v) {
      const auto scale = Codec::template scales<Arch>(panel, column + v * width, 0);
      RUNNEL_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
        (xsimd::to_float(whole[r][v]) * (scale * batch(rows[r]->scale)))
            .store_aligned(sums.data() + r * quant::panel_features + column + v * width);
      }
    }
  }
  write_tile(sums.data(), out, true);
}

/// All rows over one stretch of a panel.
template <class Arch, class Codec>
RUNNEL_INLINE void byte_tiles(byte_stretch stretch, const byte_product_args& args, index_t panel) noexcept {
  constexpr auto full = static_cast<index_t>(byte_tile_height<Arch>);
  stretch.tiles = static_cast<std::size_t>((args.rows + full - 1) / full);
  for_each_tile<byte_tile_height<Arch>>(
      panel_output(args, panel), [&](auto height, index_t row, const auto& out) RUNNEL_LAMBDA_INLINE {
        stretch.tile = static_cast<std::size_t>(row / full);
        byte_tile<Arch, Codec, height>(stretch, args, args.x + row * args.x_stride, out);
      });
}

/// Panels, each of `panel_words`, whose blocks are taken apart before they are multiplied.
template <class Arch, class Codec>
void apart_panels(const byte_product_args& args, const part_codec& format, index_t panel_words, index_t begin,
                  index_t end) noexcept {
  std::array<weight_part, 8> parts;
  const index_t blocks = byte_block_count(args.inputs);
  for (index_t p = begin; p < end; ++p) {
    const quant::word* panel = args.words + p * panel_words;
    byte_stretch stretch{reinterpret_cast<const quant::word*>(parts.data())};
    for (; stretch.first < blocks; stretch.first += stretch.count) {
      stretch.count = std::min(static_cast<index_t>(parts.size()), blocks - stretch.first);
      format.take_apart(panel, stretch.first, stretch.count, parts.data());
      byte_tiles<Arch, Codec>(stretch, args, p);
    }
  }
}

}  // namespace detail

/// Panels [panel_begin, panel_end) of a product in bytes; the format's weights are whole numbers of at most a byte.
template <class Arch>
void product_int8(const byte_product_args& args, index_t panel_begin, index_t panel_end) noexcept {
  quant::with_byte_codec(args.format, [&]<class Codec>(Codec) {
    const index_t panel_words =
        args.inputs / static_cast<index_t>(Codec::panel_inputs) * static_cast<index_t>(Codec::panel_words);
    if constexpr (detail::takes_apart<Arch>) {
      detail::apart_panels<Arch, detail::apart_codec<Codec::group_size, Codec::has_minimums>>(
          args, detail::make_part_codec<Arch, Codec>(), panel_words, panel_begin, panel_end);
    } else {
      for (index_t p = panel_begin; p < panel_end; ++p) {
        detail::byte_tiles<Arch, Codec>(
            {args.words + p * panel_words, 0, byte_block_count(args.inputs), static_cast<std::size_t>(panel_words)},
            args, p);
      }
    }
  });
}

/// The same for weights with one scale a row (q8_0 panels whose scales are equal along a row) and inputs of
/// `quantize_whole_row`.
template <class Arch>
void product_int8_rows(const byte_product_args& args, index_t panel_begin, index_t panel_end) noexcept {
  using codec = quant::q8_0_codec;
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel =
        args.words + p * byte_block_count(args.inputs) * static_cast<index_t>(codec::panel_words);
    detail::for_each_tile<detail::tile_height<Arch>>(
        detail::panel_output(args, p), [&](auto height, index_t row, const auto& out) RUNNEL_LAMBDA_INLINE {
          detail::whole_row_tile<Arch, codec, height>(panel, args, args.x + row * args.x_stride, out);
        });
  }
}

}  // namespace runnel::kernels
