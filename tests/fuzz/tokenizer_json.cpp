// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.json; a vocabulary that is accepted must be usable.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const runnel::text::tokenizer vocabulary(runnel::text::parse_tokenizer_json(text, "input"));
    const auto ids = vocabulary.encode("It's 2 <|im_end|> d\xC3\xA9j\xC3\xA0 vu\n\xF0\x9F\x98\x80\xFF");
    static_cast<void>(vocabulary.decode(ids));
  } catch (const runnel::error&) {
  }
  return 0;
}
