// SPDX-License-Identifier: Apache-2.0
// Any bytes as text: decoding what was encoded gives them back, and token by token the same with bad UTF-8 replaced.
// Read in two parts, the ids of the first that are final and those that come later are the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/text/streaming_tokenizer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/unicode/utf8.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const runnel::text::tokenizer vocabularies[] = {
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/gpt2")),
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/llama3")),
      runnel::text::tokenizer(runnel::text::read_tokenizer_json(RUNNEL_TEST_DIR "/golden/text/smollm")),
      runnel::text::tokenizer(runnel::text::read_tokenizer(RUNNEL_TEST_DIR "/golden/text/llama2")),
      runnel::text::tokenizer(runnel::text::read_tokenizer_model(RUNNEL_TEST_DIR "/golden/text/gemma")),
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  runnel::text::encode_options options;
  for (const auto& vocabulary : vocabularies) {
    // A space is put behind added tokens where it is put in front of text.
    options.parse_user_defined = vocabulary.prefix() == runnel::text::space_prefix::none;
    if (!vocabulary.missing_bytes().empty()) std::abort();  // would make the rest prove nothing
    const auto ids = vocabulary.encode(text, options);
    std::string expected(text);
    if (vocabulary.form() == runnel::text::vocabulary_form::sentence_piece) {
      expected.clear();
      runnel::text::detail::append_with_spaces(expected, text);
    }
    if (vocabulary.decode(ids) != expected) std::abort();
    runnel::text::incremental_detokenizer pieces(vocabulary);
    std::string joined;
    for (const auto id : ids) joined += pieces.push(id);
    joined += pieces.finish();
    if (joined != runnel::unicode::replace_invalid(expected)) std::abort();
    runnel::text::streaming_tokenizer stream(vocabulary, options);
    const std::size_t cut = size == 0 ? 0 : data[0] % size;
    auto found = stream.push(text.substr(0, cut));
    for (const auto id : stream.push(text.substr(cut))) found.push_back(id);
    for (const auto id : stream.finish()) found.push_back(id);
    if (found != ids) std::abort();
  }
  return 0;
}
