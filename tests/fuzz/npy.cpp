// SPDX-License-Identifier: Apache-2.0
// Any bytes as an .npy file of each element type.
#include <cstddef>
#include <cstdint>
#include <span>

#include <runnel/core/error.hpp>
#include <runnel/io/npy.hpp>

namespace {

template <class T>
void read(const runnel::io::mapped_file& file) {
  try {
    static_cast<void>(runnel::io::read_npy<T>(file));
  } catch (const runnel::error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = runnel::io::mapped_file::from_bytes(std::as_bytes(std::span(data, size)), "input");
  read<float>(file);
  read<std::int32_t>(file);
  return 0;
}
