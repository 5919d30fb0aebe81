// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/io/tensor_file.hpp>
#include <runnel/models/module_layout.hpp>
#include <runnel/nn/parameters.hpp>
#include <runnel/quant/codecs.hpp>

namespace runnel::models {

/// What is wanted of a stored matrix.
struct matrix_request {
  index_t outputs = 0;
  index_t inputs = 0;
  std::span<const index_t> row_order = {};  ///< output n is row `row_order[n]`; empty: row n
  ops::input_planes planes = {};            ///< of its products' inputs
  index_t first_row = 0;                    ///< where the wanted rows begin in a matrix that holds several
  index_t stored_rows = 0;                  ///< rows of that matrix; 0: `outputs`
  std::string_view part = ".weight";        ///< what follows the name
};

/// Takes weights out of a container by the family's names, checks their shapes and packs them. One thread at a time.
class weight_reader {
 public:
  using finder = std::function<const io::stored_tensor*(const std::string& name)>;
  using choice = std::string_view weight_name::*;

  /// `source` names the file in messages; `names` chooses the container's spelling.
  weight_reader(std::string source, choice names, finder find)
      : source_(std::move(source)), names_(names), find_(std::move(find)) {}

  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  /// A weight's name as the container spells it, with what follows.
  [[nodiscard]] std::string spelled(const weight_name& name, std::string_view part, index_t layer) const {
    return with_layer(name.*names_, layer).append(part);
  }

  /// Throws format_error naming file and tensor unless a weight matrix [outputs, inputs] is there.
  void expect_matrix(const weight_name& name, index_t layer, index_t outputs, index_t inputs) const {
    (void)need(spelled(name, ".weight", layer), {outputs, inputs});
  }

  /// The tensor called so, or null. `part` is what follows the weight's name.
  [[nodiscard]] const io::stored_tensor* find(const weight_name& name, std::string_view part, index_t layer) const {
    return find_(spelled(name, part, layer));
  }

  /// The weight matrix [outputs, inputs], packed. Throws format_error naming file and tensor if it is missing, of
  /// another shape, or in a format without codec.
  [[nodiscard]] ops::prepared_matrix matrix(const weight_name& name, index_t layer, const matrix_request& want) const {
    const index_t rows = want.stored_rows == 0 ? want.outputs : want.stored_rows;
    const auto& stored = need(spelled(name, want.part, layer), {rows, want.inputs});
    ops::matrix_source from;
    from.format = stored.loadable_format();
    from.outputs = want.outputs;
    from.inputs = want.inputs;
    from.bytes = stored.bytes;
    from.row_order = want.row_order;
    from.planes = want.planes;
    if (rows != want.outputs) {
      const auto row_bytes = quant::try_bytes_for(from.format, static_cast<std::uint64_t>(want.inputs));
      expect<format_error>(row_bytes && stored.bytes.size() / *row_bytes == static_cast<std::uint64_t>(rows) &&
                               stored.bytes.size() % *row_bytes == 0,
                           source_, ": tensor ", stored.name, ": ", stored.bytes.size(), " bytes do not hold ", rows,
                           " rows of ", want.inputs, " values of ", quant::info(from.format).name);
      const auto size = static_cast<std::size_t>(*row_bytes);
      from.bytes = stored.bytes.subspan(static_cast<std::size_t>(want.first_row) * size,
                                        static_cast<std::size_t>(want.outputs) * size);
    }
    try {
      auto packed = ops::prepared_matrix::prepare(from, &pool_);
      stored.release();
      return packed;
    } catch (const shape_error& failure) {
      fail<format_error>(source_, ": tensor ", stored.name, ": ", failure.what());
    }
  }

  /// A vector [size] of any format, as floats, reordered like the rows of a matrix.
  [[nodiscard]] tensor<float, 1> vector(const weight_name& name, std::string_view part, index_t layer, index_t size,
                                        std::span<const index_t> row_order = {}) const {
    const auto& stored = need(spelled(name, part, layer), {size});
    const auto format = stored.loadable_format();
    expect<format_error>(stored.bytes.size() == quant::try_bytes_for(format, static_cast<std::uint64_t>(size)), source_,
                         ": tensor ", stored.name, ": ", stored.bytes.size(), " bytes do not hold ", size,
                         " values of ", quant::info(format).name);
    tensor<float, 1> out({size});
    quant::decode(format, stored.bytes.data(), static_cast<std::size_t>(size), out.data());
    if (row_order.empty()) return out;
    tensor<float, 1> ordered({size});
    for (index_t i = 0; i < size; ++i) ordered(i) = out(row_order[static_cast<std::size_t>(i)]);
    return ordered;
  }

 private:
  [[nodiscard]] const io::stored_tensor& need(const std::string& name, std::initializer_list<index_t> sizes) const {
    const io::stored_tensor* stored = find_(name);
    expect<format_error>(stored != nullptr, source_, ": tensor ", name, " is missing");
    const std::vector<std::uint64_t> expected(sizes.begin(), sizes.end());
    if (stored->shape != expected) {
      fail<format_error>(source_, ": tensor ", name, ": expected shape ", io::shape_text(expected), ", found ",
                         io::shape_text(stored->shape));
    }
    return *stored;
  }

  std::string source_;
  choice names_;
  finder find_;
  mutable ops::weight_pool pool_;
};

}  // namespace runnel::models
