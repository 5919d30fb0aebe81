// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <runnel/io/mmap.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_json.hpp>
#include <runnel/text/tokenizer_model.hpp>
#include <runnel/text/tokenizer_tiktoken.hpp>

namespace runnel::text {

/// The vocabulary in a folder or file as Hugging Face's models have it: a `tokenizer.json`; else a `tokenizer.model`,
/// which holds a SentencePiece model or lines of Tiktoken; else a file that ends in `.tiktoken`. What lies beside it
/// (configs, chat template) is read with it.
/// \throws io_error if there is none or it cannot be read \throws format_error naming the file and what is wrong
[[nodiscard]] inline tokenizer_data read_tokenizer(std::filesystem::path path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    const auto folder = path;
    path /= "tokenizer.json";
    if (!std::filesystem::exists(path, ignored) && std::filesystem::exists(folder / "tokenizer.model", ignored)) {
      path = folder / "tokenizer.model";
    } else if (!std::filesystem::exists(path, ignored)) {
      std::filesystem::path first;  // by name, whatever order the system lists them in
      for (const auto& file : std::filesystem::directory_iterator(folder, ignored)) {
        if (file.path().extension() == ".tiktoken" && (first.empty() || file.path() < first)) first = file.path();
      }
      if (!first.empty()) path = first;
    }
  }
  if (path.extension() == ".json") return read_tokenizer_json(path);
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  return is_tiktoken({reinterpret_cast<const char*>(bytes.data()), bytes.size()}) ? read_tiktoken(path)
                                                                                  : read_tokenizer_model(path);
}

}  // namespace runnel::text
