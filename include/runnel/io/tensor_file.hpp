// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/quant/format.hpp>

namespace runnel::io {

/// A tensor as it lies in a file; readers of every container hand out this. The span points into the map and is valid
/// as long as the reader lives. It is aligned as the container aligns it, which for safetensors may be not at all.
struct stored_tensor {
  std::string name;
  /// How the values are coded; empty if the library has no codec for them (listing such a tensor works, loading does
  /// not).
  std::optional<quant::weight_format> format;
  /// The type as the container spells it, such as `Q4_K` or `I64`; always set, and valid for ever.
  std::string_view type_name;
  /// Row-major, outermost size first (the reverse of GGUF's order). Empty for a scalar; sizes may be zero.
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;
  /// Where `bytes` begins in the file, for `mapped_file::release`.
  std::uint64_t file_offset = 0;
  const mapped_file* file = nullptr;

  /// Number of values; readers have checked that it fits 64 bits.
  [[nodiscard]] std::uint64_t elements() const noexcept { return checked_product(shape).value_or(0); }

  /// The format, for loading. Throws format_error that names file, tensor and type if there is no codec for it.
  [[nodiscard]] quant::weight_format loadable_format() const {
    expect<format_error>(format.has_value(), file != nullptr ? file->name() : std::string(), ": tensor ",
                         in_quotes(name), ": values of type ", type_name,
                         " can be listed but not loaded; formats that can are ", quant::format_names());
    return *format;
  }

  /// Tells the system that the bytes in the file are not needed in memory for now.
  void release() const noexcept {
    if (file != nullptr) file->release(file_offset, bytes.size());
  }
};

/// An index of the names of `tensors`, which must stay where they are.
[[nodiscard]] inline name_index index_by_name(std::span<const stored_tensor> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const stored_tensor& tensor : tensors) names.push_back(tensor.name);
  return name_index(std::move(names));
}

/// The tensors of one file as their bytes follow one another; empty ones come first where they share a place.
[[nodiscard]] inline std::vector<const stored_tensor*> in_file_order(std::span<const stored_tensor> tensors) {
  std::vector<const stored_tensor*> order;
  order.reserve(tensors.size());
  for (const stored_tensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const stored_tensor* a, const stored_tensor* b) {
    return a->file_offset != b->file_offset ? a->file_offset < b->file_offset : a->bytes.size() < b->bytes.size();
  });
  return order;
}

}  // namespace runnel::io
