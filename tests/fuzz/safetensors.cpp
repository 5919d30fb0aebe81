// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file, and as the index of a checkpoint of several.
#include <cstddef>
#include <cstdint>
#include <span>

#include <runnel/core/error.hpp>
#include <runnel/io/safetensors.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const runnel::io::safetensors_file file(
        runnel::io::mapped_file::from_bytes(std::as_bytes(std::span(data, size)), "input"));
    volatile unsigned last = 0;
    for (const auto& tensor : file.tensors()) {
      for (const std::byte value : tensor.bytes) last = static_cast<unsigned>(value);
    }
    static_cast<void>(last);
  } catch (const runnel::error&) {
  }
  try {
    static_cast<void>(
        runnel::io::detail::parse_safetensors_index({reinterpret_cast<const char*>(data), size}, "input"));
  } catch (const runnel::error&) {
  }
  return 0;
}
