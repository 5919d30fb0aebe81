// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.json; a vocabulary that is accepted must be usable, and give the same ids once it was
// written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

#include "support/written_again.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto read = runnel::text::parse_tokenizer_json(text, "input");
    const runnel::text::tokenizer vocabulary(read);
    constexpr std::string_view sentence = "It's 2 <|im_end|> d\xC3\xA9j\xC3\xA0 vu\n\xF0\x9F\x98\x80\xFF";
    const auto ids = vocabulary.encode(sentence);
    static_cast<void>(vocabulary.decode(ids));
    runnel_test::abort_unless_written_same(read, sentence, ids);
  } catch (const runnel::error&) {
  }
  return 0;
}
