// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/kernels/product.hpp>
#include <runnel/quant/codecs.hpp>

namespace runnel::ops {

/// How many planes inputs are rounded to, 1 or 2: the second holds what rounding to the first left over. Together they
/// have the digits of 16 bits, at twice the arithmetic.
struct input_planes {
  index_t bytes = 1;  ///< in int8 products
  index_t pairs = 1;  ///< in bf16 products

  friend bool operator==(const input_planes&, const input_planes&) = default;
};

/// Where a matrix is taken from: rows of blocks as files hold them.
struct matrix_source {
  quant::weight_format format = quant::weight_format::f32;
  index_t outputs = 0;
  index_t inputs = 0;
  std::span<const std::byte> bytes;    ///< [outputs, inputs] in `format`, row by row
  std::span<const index_t> row_order;  ///< output n is stored row row_order[n]; empty: as stored
  input_planes planes = {};
};

/// Memory for many matrices side by side, so that a model lies in large pages. What was taken lives as long as it is
/// used, whatever becomes of the pool.
class weight_pool {
 public:
  /// `count` words, 64-byte aligned, contents unset.
  [[nodiscard]] std::shared_ptr<quant::word> take(std::size_t count) {
    constexpr std::size_t step = memory_alignment / sizeof(quant::word);
    const std::size_t wanted = (count + step - 1) / step * step;
    if (!chunk_ || chunk_->size() - used_ < wanted) {
      chunk_ = std::make_shared<chunk>(chunk::for_overwrite(std::max(wanted, chunk_words)));
      used_ = 0;
    }
    quant::word* const start = chunk_->data() + used_;
    used_ += wanted;
    return {chunk_, start};
  }

 private:
  using chunk = aligned_buffer<quant::word>;
  static constexpr std::size_t chunk_words = std::size_t{4} << 20;

  std::shared_ptr<chunk> chunk_;
  std::size_t used_ = 0;
};

/// A weight matrix packed once for the kernels, its format erased: one switch a product. Immutable, shared between
/// threads.
class prepared_matrix {
 public:
  prepared_matrix() = default;

  /// Packs, into `pool` if there is one. Throws shape_error if bytes, format and shape do not fit together. Takes about
  /// the memory of the source.
  [[nodiscard]] static prepared_matrix prepare(const matrix_source& from, weight_pool* pool = nullptr) {
    const auto& format = quant::info(from.format);
    expect<shape_error>(from.outputs > 0 && from.inputs > 0, "matrix: shape [", from.outputs, ", ", from.inputs,
                        "] must not be empty");
    for (const index_t planes : {from.planes.bytes, from.planes.pairs}) {
      expect<shape_error>(planes == 1 || planes == 2, "matrix: inputs have 1 or 2 planes, found ", planes);
    }
    const auto inputs = static_cast<std::size_t>(from.inputs);
    expect<shape_error>(inputs % format.block_size == 0, "matrix: ", inputs, " inputs are not a multiple of the ",
                        format.block_size, " of a ", format.name, " block");
    const std::size_t row_bytes = inputs / format.block_size * format.block_bytes;
    expect<shape_error>(
        from.bytes.size() / row_bytes == static_cast<std::size_t>(from.outputs) && from.bytes.size() % row_bytes == 0,
        "matrix: [", from.outputs, ", ", from.inputs, "] in ", format.name, " takes ", row_bytes,
        " bytes a row, found ", from.bytes.size(), " in all");
    expect<shape_error>(from.row_order.empty() || static_cast<index_t>(from.row_order.size()) == from.outputs,
                        "matrix: the row order names ", from.row_order.size(), " rows of ", from.outputs);
    for (const index_t row : from.row_order) {
      expect<shape_error>(row >= 0 && row < from.outputs, "matrix: the row order names row ", row, " of ",
                          from.outputs);
    }
    prepared_matrix out;
    out.format_ = from.format;
    out.outputs_ = from.outputs;
    out.inputs_ = from.inputs;
    out.planes_ = from.planes;
    out.pack(from, row_bytes, pool);
    return out;
  }

  /// Rounds any format to bytes with one scale a row, held as q8_0 whose scales are equal along a row: the fastest
  /// products in int8, at the price of that rounding; other modes decode it as any q8_0. Inputs are rounded to one
  /// plane with a scale a row; their number must be a multiple of 32 and at most 131072. Throws as `prepare` does.
  [[nodiscard]] static prepared_matrix prepare_byte_rows(const matrix_source& from) {
    const prepared_matrix exact = prepare(from);
    const auto inputs = static_cast<std::size_t>(from.inputs);
    expect<shape_error>(inputs % quant::q8_0_codec::block_size == 0, "matrix: ", inputs,
                        " inputs are not a multiple of the ", quant::q8_0_codec::block_size, " of a block of bytes");
    // 131072 x 127 x 128 still fits 32 bits; on the way there sums with the zero point may wrap, and wrap back.
    expect<shape_error>(inputs <= 131072, "matrix: rows of bytes have at most 131072 inputs, found ", inputs);
    expect<shape_error>(from.planes.bytes == 1, "matrix: rows of bytes take one plane of inputs, found ",
                        from.planes.bytes);
    const std::size_t row_bytes = inputs / quant::q8_0_codec::block_size * quant::q8_0_codec::block_bytes;
    std::vector<std::byte> bytes(row_bytes * static_cast<std::size_t>(from.outputs));
    std::vector<float> row(inputs);
    for (index_t n = 0; n < from.outputs; ++n) {
      exact.decode_row(n, row);
      quant::encode_row_of_bytes(row, bytes.data() + static_cast<std::size_t>(n) * row_bytes);
    }
    auto out = prepare({quant::weight_format::q8_0, from.outputs, from.inputs, bytes, {}, from.planes});
    out.has_row_scales_ = true;
    return out;
  }

  [[nodiscard]] quant::weight_format format() const noexcept { return format_; }
  [[nodiscard]] const input_planes& planes() const noexcept { return planes_; }
  /// Whether the scales of q8_0 are equal along every row.
  [[nodiscard]] bool has_row_scales() const noexcept { return has_row_scales_; }
  [[nodiscard]] index_t outputs() const noexcept { return outputs_; }
  [[nodiscard]] index_t inputs() const noexcept { return inputs_; }
  [[nodiscard]] const quant::word* words() const noexcept { return words_.get(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return num_words_ * sizeof(quant::word); }

  /// Output row n as floats (an embedding). `values` holds `inputs()`.
  void decode_row(index_t n, std::span<float> values) const noexcept {
    constexpr auto width = static_cast<index_t>(quant::panel_features);
    quant::with_codec(format_, [&]<class Codec>(Codec) {
      constexpr auto inputs = static_cast<index_t>(Codec::panel_inputs);
      const index_t blocks = (inputs_ + inputs - 1) / inputs;
      const quant::word* block = words_.get() + n / width * blocks * static_cast<index_t>(Codec::panel_words);
      if constexpr (!quant::decodes_lanes<Codec>) {
        const auto codec = kernels::detail::make_part_codec<simd::best_arch, Codec>();
        kernels::decode_feature<simd::best_arch>(codec, block, static_cast<std::size_t>(n % width), values);
      } else {
        std::array<float, Codec::panel_inputs> buffer;
        for (index_t b = 0; b < blocks; ++b, block += Codec::panel_words) {
          Codec::unpack(block, static_cast<std::size_t>(n % width), buffer.data());
          const index_t first = b * inputs;
          const auto count = std::min(Codec::panel_inputs, static_cast<std::size_t>(inputs_ - first));
          std::copy_n(buffer.begin(), count, values.begin() + first);
        }
      }
    });
  }

 private:
  /// A codec as packing needs it.
  struct packing {
    std::size_t inputs;       // of a panel block
    std::size_t words;        // of a panel block
    std::size_t block_bytes;  // of as many inputs in a file
    void (*pack)(const quant::feature_blocks&, std::size_t count, quant::word*) noexcept;
  };
  [[nodiscard]] static packing find_packing(quant::weight_format format) noexcept {
    return quant::with_codec(format, []<class Codec>(Codec) {
      constexpr std::size_t bytes = Codec::panel_inputs / Codec::block_size * Codec::block_bytes;
      return packing{Codec::panel_inputs, Codec::panel_words, bytes, &Codec::pack};
    });
  }

  [[nodiscard]] static std::shared_ptr<quant::word> own_memory(std::size_t count) {
    const auto owner = std::make_shared<aligned_buffer<quant::word>>(aligned_buffer<quant::word>::for_overwrite(count));
    return {owner, owner->data()};
  }

  void pack(const matrix_source& from, std::size_t row_bytes, weight_pool* pool) {
    const packing codec = find_packing(from.format);
    const auto inputs = static_cast<std::size_t>(inputs_), blocks = (inputs + codec.inputs - 1) / codec.inputs;
    const index_t panels = kernels::panel_count(outputs_);
    num_words_ = static_cast<std::size_t>(panels) * blocks * codec.words;
    const auto memory = pool != nullptr ? pool->take(num_words_) : own_memory(num_words_);
    words_ = memory;
    const std::vector<std::byte> zeros(codec.block_bytes);
    quant::word* out = memory.get();
    for (index_t p = 0; p < panels; ++p) {
      for (std::size_t b = 0; b < blocks; ++b, out += codec.words) {
        quant::feature_blocks rows;
        for (std::size_t f = 0; f < quant::panel_features; ++f) {
          const index_t n = p * static_cast<index_t>(quant::panel_features) + static_cast<index_t>(f);
          if (n >= outputs_) {
            rows[f] = zeros.data();
            continue;
          }
          const index_t stored = from.row_order.empty() ? n : from.row_order[static_cast<std::size_t>(n)];
          rows[f] = from.bytes.data() + static_cast<std::size_t>(stored) * row_bytes + b * codec.block_bytes;
        }
        codec.pack(rows, std::min(codec.inputs, inputs - b * codec.inputs), out);
      }
    }
  }

  quant::weight_format format_ = quant::weight_format::f32;
  bool has_row_scales_ = false;
  input_planes planes_;
  index_t outputs_ = 0;
  index_t inputs_ = 0;
  std::size_t num_words_ = 0;
  std::shared_ptr<const quant::word> words_;
};

}  // namespace runnel::ops
