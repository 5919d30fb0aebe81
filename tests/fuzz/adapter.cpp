// SPDX-License-Identifier: Apache-2.0
// Any bytes as a low-rank adapter of a small model: a GGUF file where they begin like one; else a line that is the
// config of a PEFT directory, and the rest its weights. One that is read has a module for every layer.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/models/adapter.hpp>
#include <runnel/models/gguf_model.hpp>

namespace {

/// A model, and a folder for its adapters, removed at the end.
class adapter_folder {
 public:
  adapter_folder()
      : base_(runnel::models::load_gguf_decoder(
            runnel::io::gguf_file(std::filesystem::path(RUNNEL_TEST_DIR "/fuzz/corpus/gguf/whole_model.gguf")))) {
    std::string pattern = (std::filesystem::temp_directory_path() / "runnel-fuzz-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  adapter_folder(const adapter_folder&) = delete;
  adapter_folder& operator=(const adapter_folder&) = delete;
  ~adapter_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void load(std::string_view bytes) const {
    try {
      if (bytes.starts_with("GGUF")) {
        write("adapter.gguf", bytes);
        check(*runnel::models::load_adapter(path_ / "adapter.gguf", base_));
      } else {
        const auto line = std::min(bytes.find('\n'), bytes.size());
        write("adapter_config.json", bytes.substr(0, line));
        write("adapter_model.safetensors", bytes.substr(std::min(line + 1, bytes.size())));
        check(*runnel::models::load_adapter(path_, base_));
      }
    } catch (const runnel::error&) {
    }
  }

 private:
  void write(const char* name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void check(const runnel::models::adapter& read) const {
    if (read.layers.size() != static_cast<std::size_t>(base_.config().num_hidden_layers)) std::abort();
  }

  runnel::models::decoder base_;
  std::filesystem::path path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const adapter_folder folder;
  folder.load({reinterpret_cast<const char*>(data), size});
  return 0;
}
