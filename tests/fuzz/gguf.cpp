// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: metadata, tensors, tokenizer and model are read or refused with an error of ours. A model
// that is read runs.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/models/gguf_model.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_gguf.hpp>

#include "support/run_model.hpp"

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
    std::shared_ptr<const runnel::text::tokenizer> vocabulary;
    refused_or_done([&] {
      vocabulary = std::make_shared<const runnel::text::tokenizer>(runnel::text::read_tokenizer_gguf(file));
      static_cast<void>(vocabulary->decode(vocabulary->encode("ab <s> It's 2\xFF")));
    });
    refused_or_done([&] {
      auto network = runnel::models::load_gguf_decoder(file);
      if (vocabulary != nullptr) runnel::tests::run_model(std::move(network), vocabulary);
    });
  });
  return 0;
}
