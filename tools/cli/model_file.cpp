// SPDX-License-Identifier: Apache-2.0

#include "model_file.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <system_error>

#include <runnel/core/digest.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/tensor_file.hpp>
#include <runnel/models/export.hpp>
#include <runnel/models/quantize.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_gguf_writer.hpp>
#include <runnel/transcribe/speech_model.hpp>

#include "options.hpp"

namespace runnel::cli {

bool is_gguf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4> magic{};
  return file.read(magic.data(), magic.size()) && std::string_view(magic.data(), magic.size()) == "GGUF";
}

model_file::model_file(const std::filesystem::path& path) {
  std::error_code problem;
  const std::string name = path.filename().string();
  const bool safetensors =
      std::filesystem::is_directory(path, problem) || name.ends_with(".safetensors") || name.ends_with(".index.json");
  if (safetensors) {
    checkpoint_ = io::open_safetensors(path);
  } else {
    gguf_.emplace(path);
  }
}

std::span<const io::stored_tensor> model_file::tensors() const noexcept {
  return gguf_ ? gguf_->tensors() : checkpoint_->tensors();
}

std::string model_file::totals::main_type() const {
  const auto most = std::max_element(bytes_by_type.begin(), bytes_by_type.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes_by_type.end() ? std::string() : most->first;
}

model_file::totals model_file::sum() const {
  totals all;
  for (const auto& tensor : tensors()) {
    all.elements += tensor.elements();
    all.bytes += tensor.bytes.size();
    all.bytes_by_type[std::string(tensor.type_name)] += tensor.bytes.size();
  }
  return all;
}

std::string fingerprint(const std::filesystem::path& path) {
  constexpr std::size_t most_bytes = 4096;  // any training moves all values, and whole files may be large
  std::uint64_t sum = 0;
  if (transcribe::is_speech_model(path)) {
    for (const char* part : {transcribe::encoder_folder, transcribe::projector_file, transcribe::decoder_folder}) {
      sum = digest(fingerprint(path / part), sum);
    }
    return message(sum);
  }
  const model_file file(path);
  for (const auto& one : file.tensors()) {
    sum = digest(message(one.name, ' ', one.type_name, ' ', io::shape_text(one.shape)), sum);
    sum = digest(one.bytes.first(std::min(one.bytes.size(), most_bytes)), sum);
  }
  return message(sum);
}

namespace {

/// Files that hold a vocabulary and nothing else.
bool is_tokenizer_file(const std::filesystem::path& path) {
  std::error_code problem;
  const auto kind = path.extension();
  return (kind == ".json" || kind == ".model" || kind == ".tiktoken") &&
         std::filesystem::is_regular_file(path, problem);
}

/// Files of a Hugging Face folder that say its tokenizer, and how texts are made with it.
constexpr std::array tokenizer_files{
    "tokenizer.json",    "tokenizer_config.json", "tokenizer.model",        "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja",   "generation_config.json", "vocab.json",
    "merges.txt",        "chat_format.json"};

}  // namespace

std::filesystem::path resolve_tokenizer(const std::string& path) {
  return is_tokenizer_file(path) ? std::filesystem::path(path) : resolve_model(path);
}

text::tokenizer_data load_vocabulary(const std::filesystem::path& path) {
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem) || is_tokenizer_file(path)) return text::read_tokenizer(path);
  return text::read_tokenizer_gguf(io::gguf_file(path));
}

text::tokenizer load_tokenizer(const std::filesystem::path& path) { return text::tokenizer(load_vocabulary(path)); }

std::vector<std::string> write_gguf(const gguf_output& to, const models::decoder& network,
                                    const text::tokenizer_data& vocabulary, const models::quantization& kind,
                                    const models::export_options& how) {
  const auto& of = models::find_family(&models::family::model_type, network.config().model_type, to.command);
  io::gguf_writer out;
  const auto shape = models::describe(network, how.adapters);
  const auto choose = [&](std::string_view name, std::span<const std::uint64_t> sizes, quant::weight_format stored) {
    return models::choose_format(kind, shape, name, sizes, stored);
  };
  models::add_to_gguf(network, choose, out, how);
  out.set("general.file_type", kind.file_type);
  constexpr std::uint32_t quantization_version = 2;
  out.set("general.quantization_version", quantization_version);
  text::gguf_tokenizer_options about;
  about.architecture = of.architecture;
  about.num_tokens = static_cast<std::size_t>(network.config().vocab_size);
  about.name = to.name;
  about.lossy = to.lossy_tokenizer;
  auto lost = text::write_tokenizer_gguf(vocabulary, out, about);
  out.write(to.path);
  return lost;
}

void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const auto& file : std::filesystem::directory_iterator(from)) {
    const auto name = file.path().filename();
    const bool wanted = std::ranges::any_of(tokenizer_files, [&](const char* one) { return name == one; });
    if (!wanted && name.extension() != ".tiktoken") continue;
    std::error_code problem;
    std::filesystem::copy_file(file.path(), to / name, problem);
    expect<io_error>(!problem, "cannot copy '", file.path().string(), "': ", problem.message());
  }
}

}  // namespace runnel::cli
