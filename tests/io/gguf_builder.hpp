// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "support.hpp"

namespace runnel_test {

/// Puts GGUF files together without any of the library's own checks, so that every field can lie.
class gguf_builder {
 public:
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::int64_t more_entries = 0;  ///< added to the true count
  std::int64_t more_tensors = 0;
  std::size_t alignment = 32;
  std::string data;

  /// A metadata entry from a type and the bytes of a value.
  gguf_builder& entry(std::string_view key, std::uint32_t type, const byte_builder& value) {
    entries_.string(key).number(type).raw(value.text());
    ++num_entries_;
    return *this;
  }
  gguf_builder& uint32(std::string_view key, std::uint32_t value) {
    return entry(key, 4, byte_builder().number(value));
  }
  gguf_builder& string(std::string_view key, std::string_view value) {
    return entry(key, 8, byte_builder().string(value));
  }

  /// The beginning of an array: element type and (claimed) length, then its bytes.
  gguf_builder& array(std::string_view key, std::uint32_t type, std::uint64_t length, const byte_builder& elements) {
    return entry(key, 9, byte_builder().number(type).number(length).raw(elements.text()));
  }

  /// A tensor as it is described; `sizes` in the order of the file, innermost first.
  gguf_builder& tensor(std::string_view name, std::vector<std::uint64_t> sizes, std::uint32_t type,
                       std::uint64_t offset) {
    tensors_.string(name).number(static_cast<std::uint32_t>(sizes.size()));
    for (const auto size : sizes) tensors_.number(size);
    tensors_.number(type).number(offset);
    ++num_tensors_;
    return *this;
  }

  [[nodiscard]] std::string build() const {
    byte_builder out;
    out.raw(magic).number(version);
    out.number(static_cast<std::uint64_t>(num_tensors_ + more_tensors))
        .number(static_cast<std::uint64_t>(num_entries_ + more_entries));
    out.raw(entries_.text()).raw(tensors_.text());
    if (!data.empty()) out.pad(alignment).raw(data);
    return out.text();
  }

 private:
  byte_builder entries_;
  byte_builder tensors_;
  std::int64_t num_entries_ = 0;
  std::int64_t num_tensors_ = 0;
};

}  // namespace runnel_test
