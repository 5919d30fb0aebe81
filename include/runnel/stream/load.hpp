// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <runnel/models/gguf_model.hpp>
#include <runnel/models/hugging_face_model.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>

namespace runnel::stream {

/// Loads a model with its tokenizer and chat format: a GGUF file, or a Hugging Face directory (`config.json`,
/// `tokenizer.json` or `tokenizer.model`, `model.safetensors` whole or sharded). Weights are packed into memory; the
/// files may go afterwards. The format is what `text::chat_format_of` gives for such a source.
///
/// Throws io_error if something cannot be read, format_error naming file and key or tensor if it is not what it should
/// be. Cost: reads the weights once.
[[nodiscard]] inline language_model load_model(const std::filesystem::path& path,
                                               std::optional<text::source_kind> source = text::source_kind::text) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  expect<io_error>(std::filesystem::exists(status), "model ", path.string(), ": no such file or directory");
  language_model model;
  model.name = path.filename().string();
  if (std::filesystem::is_directory(status)) {
    model.tokenizer = std::make_shared<const text::tokenizer>(text::read_tokenizer(path));
    model.network = std::make_shared<const models::decoder>(models::load_hugging_face_decoder(path));
  } else {
    const io::gguf_file file(path);
    model.tokenizer = std::make_shared<const text::tokenizer>(text::read_tokenizer_gguf(file));
    model.network = std::make_shared<const models::decoder>(models::load_gguf_decoder(file));
  }
  expect<format_error>(model.tokenizer_fits(), path.string(), ": the tokenizer has ",
                       model.tokenizer->vocabulary_size(), " tokens, the network only ",
                       model.network->config().vocab_size);
  model.format = text::chat_format_of(path, *model.tokenizer, source);
  return model;
}

}  // namespace runnel::stream
