// SPDX-License-Identifier: Apache-2.0
#pragma once

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

/// Whole sums of one block for a tile of rows, added to `sums`.
template <class Arch, class Codec, std::size_t Rows, std::size_t Columns>
RUNNEL_INLINE void add_block(const quant::word* block, const byte_block* x, index_t x_stride, std::size_t column,
                             accumulators<Arch, std::int32_t, Rows, Columns>& sums) noexcept {
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  simd::unroll<byte_block::inputs / 4>([&](auto i) RUNNEL_LAMBDA_INLINE {
    std::array<ints, Columns> w;
    simd::unroll<Columns>(
        [&](auto v) RUNNEL_LAMBDA_INLINE { w[v] = Codec::template bytes<Arch>(block, column + v * width, i); });
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      std::int32_t quad;
      std::memcpy(&quad, x[static_cast<index_t>(r) * x_stride].quants.data() + 4 * i, sizeof quad);
      simd::unroll<Columns>(
          [&](auto v) RUNNEL_LAMBDA_INLINE { sums[r][v] = simd::dot4<Codec::largest>(sums[r][v], w[v], ints(quad)); });
    });
  });
}

/// `Rows` rows over one panel, a scale a block.
template <class Arch, class Codec, std::size_t Rows>
void byte_tile(const quant::word* panel, const byte_product_args& args, index_t row,
               const output_tile<float>& out) noexcept {
  using batch = simd::lanes<float, Arch>;
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr std::size_t columns = simd::registers<Arch> == 32 ? 2 : 1;
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    accumulators<Arch, float, Rows, columns> sums;
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { sums[r][v] = batch(0.0f); });
    });
    const index_t blocks = byte_block_count(args.inputs), stride = args.x_stride;
    for (index_t i = 0; i < blocks * args.planes; ++i) {
      const index_t b = i / args.planes, plane = i % args.planes;
      const quant::word* block = panel + b * static_cast<index_t>(Codec::panel_words);
      const byte_block* x = args.x + row * stride + plane * blocks + b;
      accumulators<Arch, std::int32_t, Rows, columns> whole;
      simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
        const ints start(Codec::zero_point == 0 ? 0 : x[static_cast<index_t>(r) * stride].start);
        simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { whole[r][v] = start; });
      });
      add_block<Arch, Codec, Rows, columns>(block, x, stride, column, whole);
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
        const auto scale = Codec::template scales<Arch>(block, column + v * width);
        simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
          const byte_block& inputs = x[static_cast<index_t>(r) * stride];
          sums[r][v] = simd::fma(xsimd::to_float(whole[r][v]), scale * batch(inputs.scale), sums[r][v]);
          if constexpr (requires { Codec::template minimums<Arch>(block, column); }) {
            const auto minimum = Codec::template minimums<Arch>(block, column + v * width);
            sums[r][v] = simd::fma(minimum, batch(inputs.sum), sums[r][v]);
          }
        });
      });
    }
    finish<Arch, float, Rows, columns>(sums, out, column, true);
  }
}

/// `Rows` rows over one panel, one scale a row on both sides.
template <class Arch, class Codec, std::size_t Rows>
void whole_row_tile(const quant::word* panel, const byte_block* x, index_t x_stride, index_t blocks,
                    const output_tile<float>& out) noexcept {
  using batch = simd::lanes<float, Arch>;
  using ints = simd::lanes<std::int32_t, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  constexpr std::size_t columns = std::min<std::size_t>(2, quant::panel_features / width);
  for (std::size_t column = 0; column < quant::panel_features; column += columns * width) {
    accumulators<Arch, std::int32_t, Rows, columns> whole;
    simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
      const ints start(x[static_cast<index_t>(r) * x_stride].start);
      simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE { whole[r][v] = start; });
    });
    const quant::word* block = panel;
    for (index_t b = 0; b < blocks; ++b, block += Codec::panel_words) {
      add_block<Arch, Codec, Rows, columns>(block, x + b, x_stride, column, whole);
    }
    accumulators<Arch, float, Rows, columns> sums;
    simd::unroll<columns>([&](auto v) RUNNEL_LAMBDA_INLINE {
      const auto scale = Codec::template scales<Arch>(panel, column + v * width);
      simd::unroll<Rows>([&](auto r) RUNNEL_LAMBDA_INLINE {
        sums[r][v] = xsimd::to_float(whole[r][v]) * (scale * batch(x[static_cast<index_t>(r) * x_stride].scale));
      });
    });
    finish<Arch, float, Rows, columns>(sums, out, column, true);
  }
}

}  // namespace detail

/// Codecs whose weights are whole numbers of at most a byte.
template <class Codec>
concept ByteCodec = requires {
  Codec::zero_point;
  Codec::largest;
};

/// Panels [panel_begin, panel_end) of a product in bytes.
template <class Arch, ByteCodec Codec>
void product_int8(const byte_product_args& args, index_t panel_begin, index_t panel_end) noexcept {
  const index_t blocks = byte_block_count(args.inputs);
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel = args.words + p * blocks * static_cast<index_t>(Codec::panel_words);
    const auto out = detail::panel_output(args, p);
    detail::tile_rows<4>(args.rows, [&](auto rows, index_t row) {
      detail::byte_tile<Arch, Codec, rows>(panel, args, row, out.at_row(row));
    });
  }
}

/// The same for weights with one scale a row (q8_0 panels whose scales are equal along a row) and inputs of
/// `quantize_whole_row`.
template <class Arch>
void product_int8_rows(const byte_product_args& args, index_t panel_begin, index_t panel_end) noexcept {
  using codec = quant::q8_0_codec;
  const index_t blocks = byte_block_count(args.inputs);
  for (index_t p = panel_begin; p < panel_end; ++p) {
    const quant::word* panel = args.words + p * blocks * static_cast<index_t>(codec::panel_words);
    const auto out = detail::panel_output(args, p);
    detail::tile_rows<detail::tile_height<Arch>>(args.rows, [&](auto rows, index_t row) {
      detail::whole_row_tile<Arch, codec, rows>(panel, args.x + row * args.x_stride, args.x_stride, blocks,
                                                out.at_row(row));
    });
  }
}

}  // namespace runnel::kernels
