// SPDX-License-Identifier: Apache-2.0
// Any bytes as a WAV file, read whole and in pieces.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <runnel/core/error.hpp>
#include <runnel/io/wav.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const runnel::io::wav_file file(runnel::io::mapped_file::from_bytes(std::as_bytes(std::span(data, size)), "input"));
    const auto all = file.read(0, file.num_frames());
    const auto mono = file.read_mono();
    const auto half = file.read_mono(file.num_frames() / 2, file.num_frames() - file.num_frames() / 2);
    if (all.values.size() > size || mono.values.size() > size) std::abort();
    if (!std::equal(half.values.begin(), half.values.end(),
                    mono.values.end() - static_cast<std::ptrdiff_t>(half.values.size())))
      std::abort();
  } catch (const runnel::error&) {
  }
  return 0;
}
