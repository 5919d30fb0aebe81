// SPDX-License-Identifier: Apache-2.0
// Any bytes as text: decoding what was encoded gives them back, and token by token the same with bad UTF-8 replaced.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>
#include <runnel/unicode/utf8.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const runnel::text::tokenizer vocabularies[] = {
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/gpt2")),
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/llama3")),
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/smollm")),
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& vocabulary : vocabularies) {
    if (!vocabulary.missing_bytes().empty()) std::abort();  // would make the rest prove nothing
    const auto ids = vocabulary.encode(text);
    if (vocabulary.decode(ids) != text) std::abort();
    runnel::text::incremental_detokenizer pieces(vocabulary);
    std::string joined;
    for (const auto id : ids) joined += pieces.push(id);
    joined += pieces.finish();
    if (joined != runnel::unicode::replace_invalid(text)) std::abort();
  }
  return 0;
}
