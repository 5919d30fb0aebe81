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
#include <runnel/models/weight_names.hpp>
#include <runnel/nn/parameters.hpp>
#include <runnel/quant/codecs.hpp>

namespace runnel::models {

/// Takes weights out of a container by the family's names, checks their shapes and packs them. One thread at a time.
class weight_reader {
 public:
  using finder = std::function<const io::stored_tensor*(const std::string& name)>;
  using choice = std::string_view weight_name::*;

  /// `source` names the file in messages; `names` chooses the container's spelling.
  weight_reader(std::string source, choice names, finder find)
      : source_(std::move(source)), names_(names), find_(std::move(find)) {}

  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  /// Throws format_error naming file and tensor unless a weight matrix [outputs, inputs] is there.
  void expect_matrix(const weight_name& name, index_t layer, index_t outputs, index_t inputs) const {
    (void)need(spelled(name, ".weight", layer), {outputs, inputs});
  }

  /// The weight matrix [outputs, inputs], packed; output n is stored row `row_order[n]` where an order is given, and
  /// inputs of int8 products are rounded to `byte_planes`. Throws format_error naming file and tensor if it is missing,
  /// of another shape, or in a format without codec.
  [[nodiscard]] ops::prepared_matrix matrix(const weight_name& name, index_t layer, index_t outputs, index_t inputs,
                                            std::span<const index_t> row_order = {}, index_t byte_planes = 1) const {
    const auto& stored = need(spelled(name, ".weight", layer), {outputs, inputs});
    ops::matrix_source from;
    from.format = stored.loadable_format();
    from.outputs = outputs;
    from.inputs = inputs;
    from.bytes = stored.bytes;
    from.row_order = row_order;
    from.byte_planes = byte_planes;
    try {
      auto packed = ops::prepared_matrix::prepare(from, &pool_);
      stored.release();
      return packed;
    } catch (const shape_error& failure) {
      fail<format_error>(source_, ": tensor ", stored.name, ": ", failure.what());
    }
  }

  /// A vector [size] of any format, as floats, reordered like the rows of a matrix.
  [[nodiscard]] tensor<float, 1> vector(const weight_name& name, const char* part, index_t layer, index_t size,
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
  [[nodiscard]] std::string spelled(const weight_name& name, const char* part, index_t layer) const {
    return with_layer(name.*names_, layer) + part;
  }

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
