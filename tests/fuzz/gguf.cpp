// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: metadata, tensors, tokenizer and model are read or refused with an error of ours.
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/models/gguf_model.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_gguf.hpp>

namespace {

template <class Step>
void refused_or_done(Step step) {
  try {
    step();
  } catch (const runnel::error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  refused_or_done([&] {
    const runnel::io::gguf_file file(
        runnel::io::mapped_file::from_bytes(std::as_bytes(std::span(data, size)), "input"));
    volatile unsigned last = 0;
    for (const auto& tensor : file.tensors()) {
      for (const std::byte value : tensor.bytes) last = static_cast<unsigned>(value);
    }
    static_cast<void>(last);
    refused_or_done([&] { static_cast<void>(runnel::text::tokenizer(runnel::text::read_tokenizer_gguf(file))); });
    refused_or_done([&] { static_cast<void>(runnel::models::load_gguf_decoder(file)); });
  });
  return 0;
}
