// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.model, SentencePiece's or Tiktoken's; a vocabulary that is accepted must be usable, and give
// the same ids for a text in one part and in two, and once it was written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/streaming_tokenizer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_model.hpp>
#include <runnel/text/tokenizer_tiktoken.hpp>

#include "support/written_again.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const bool ranks = runnel::text::is_tiktoken(bytes);
    const auto read = ranks ? runnel::text::parse_tiktoken(bytes, "input", runnel::text::tiktoken_options{})
                            : runnel::text::parse_tokenizer_model(bytes, "input");
    const runnel::text::tokenizer vocabulary(read);
    const std::string_view text = "It's 2  <b>d\xC3\xA9j\xC3\xA0 vu\n\n\xF0\x9F\x98\x80\xFF ab\xE2\x96\x81";
    const auto ids = vocabulary.encode(text);
    static_cast<void>(vocabulary.decode(ids));
    runnel::text::streaming_tokenizer stream(vocabulary);
    std::vector<std::int32_t> found;
    for (const char byte : text) {
      for (const auto id : stream.push({&byte, 1})) found.push_back(id);
    }
    for (const auto id : stream.finish()) found.push_back(id);
    if (found != ids) std::abort();
    runnel_test::abort_unless_written_same(read, text, ids);
  } catch (const runnel::error&) {
  }
  return 0;
}
