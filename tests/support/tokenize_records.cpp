// SPDX-License-Identifier: Apache-2.0
//
// tokenize_records FILE [parse]: encodes texts with the vocabulary in FILE (tokenizer.json, tokenizer.model, .tiktoken
// or .gguf), for tests/golden/text/check_real_vocabularies.py. Standard input: texts, each after its length in bytes
// (uint32). Standard output: for each its ids (int32) after their number (uint32). Little endian. With `parse` special
// tokens are parsed.
#include <cstdint>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>

int main(int argc, char** argv) {
  try {
    const std::string path = argc > 1 ? argv[1] : "";
    const runnel::text::tokenizer vocabulary(path.ends_with(".gguf")
                                                 ? runnel::text::read_tokenizer_gguf(runnel::io::gguf_file(path))
                                                 : runnel::text::read_tokenizer(path));
    runnel::text::encode_options options;
    options.parse_special = argc > 2;
    const std::string input(std::istreambuf_iterator<char>(std::cin), {});
    for (std::size_t at = 0; at + sizeof(std::uint32_t) <= input.size();) {
      std::uint32_t length = 0;
      std::memcpy(&length, input.data() + at, sizeof(length));
      at += sizeof(length);
      const auto ids = vocabulary.encode(std::string_view(input).substr(at, length), options);
      at += length;
      const auto count = static_cast<std::uint32_t>(ids.size());
      std::cout.write(reinterpret_cast<const char*>(&count), sizeof(count));
      std::cout.write(reinterpret_cast<const char*>(ids.data()),
                      static_cast<std::streamsize>(ids.size() * sizeof(ids[0])));
    }
    return std::cout.good() ? 0 : 1;
  } catch (const std::exception& problem) {
    std::cerr << "tokenize_records: " << problem.what() << '\n';
    return 1;
  }
}
