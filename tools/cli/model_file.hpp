// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <runnel/io/gguf.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::models {

class decoder;
struct quantization;
struct export_options;

}  // namespace runnel::models

namespace runnel::cli {

/// The weights of a model as they lie in their file or files, whatever is in them.
class model_file {
 public:
  /// A GGUF file, a .safetensors file, an index of several, or a folder with them. Throws io_error or format_error.
  explicit model_file(const std::filesystem::path& path);

  [[nodiscard]] const io::gguf_file* gguf() const noexcept { return gguf_ ? &*gguf_ : nullptr; }
  [[nodiscard]] const io::safetensors_checkpoint* safetensors() const noexcept {
    return checkpoint_ ? &*checkpoint_ : nullptr;
  }
  [[nodiscard]] std::span<const io::stored_tensor> tensors() const noexcept;

  struct totals {
    std::uint64_t elements = 0;
    std::uint64_t bytes = 0;
    std::map<std::string, std::uint64_t> bytes_by_type;
    /// The type that takes most bytes; empty if there are no tensors.
    [[nodiscard]] std::string main_type() const;
  };
  [[nodiscard]] totals sum() const;

 private:
  std::optional<io::gguf_file> gguf_;
  std::optional<io::safetensors_checkpoint> checkpoint_;
};

/// A number that tells a model's weights from others, whatever the file is called: of all tensors' names, types, sizes
/// and first bytes. Throws io_error or format_error.
[[nodiscard]] std::string fingerprint(const std::filesystem::path& path);

/// Whether the file begins as GGUF files do.
[[nodiscard]] bool is_gguf(const std::filesystem::path& path);

/// What -m means where only the tokenizer is wanted: a GGUF file, a folder, or a tokenizer.json, .model or .tiktoken.
[[nodiscard]] std::filesystem::path resolve_tokenizer(const std::string& path);

/// The vocabulary of a model, given as `resolve_tokenizer` returns it; compiled once for all commands.
[[nodiscard]] text::tokenizer_data load_vocabulary(const std::filesystem::path& path);

/// The tokenizer of a model, given as `resolve_tokenizer` returns it; compiled once for all commands.
[[nodiscard]] text::tokenizer load_tokenizer(const std::filesystem::path& path);

/// A GGUF file to write, beside its weights.
struct gguf_output {
  std::filesystem::path path;
  std::string command;           ///< that writes it, for messages
  std::string name;              ///< of the model
  bool lossy_tokenizer = false;  ///< leave out what GGUF cannot say of the tokenizer, instead of refusing
};

/// Writes a model and its tokenizer as one GGUF file, which appears whole or not at all. Returns what was left out of
/// the tokenizer. Throws what `models::add_to_gguf` and `text::write_tokenizer_gguf` throw, io_error.
std::vector<std::string> write_gguf(const gguf_output& to, const models::decoder& network,
                                    const text::tokenizer_data& vocabulary, const models::quantization& kind,
                                    const models::export_options& how);

/// Copies the files of a Hugging Face folder that say its tokenizer, and how texts are made with it. Throws io_error.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace runnel::cli
