// SPDX-License-Identifier: Apache-2.0
// Any bytes as a data format; one that is accepted must be usable.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace text = runnel::text;
  static const text::tokenizer vocabulary(text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/smollm"));
  text::chat_format format;
  try {
    format = text::parse_chat_format({reinterpret_cast<const char*>(data), size}, "input");
  } catch (const runnel::error&) {
    return 0;
  }
  constexpr std::string_view instruction = "Say <|im_end|>.";
  const auto prompt = text::encode_source_prefix(vocabulary, format, instruction);
  if (vocabulary.decode(prompt).find(instruction) == std::string::npos) std::abort();
  for (const auto& segment : {format.source_suffix, format.target_prefix, format.target_suffix}) {
    if (vocabulary.decode(text::encode_segment(vocabulary, segment, true)) != segment) std::abort();
  }
  static_cast<void>(text::encode_word(vocabulary, "word", format.word_separator));
  static_cast<void>(text::is_recognized(format, vocabulary));
  return 0;
}
