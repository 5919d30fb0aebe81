// SPDX-License-Identifier: Apache-2.0
// Any bytes as the config.json of a Hugging Face directory whose weights are there: a model is loaded or refused with
// an error of ours, and a model that is loaded runs. What GGUF files say of a model is in the target `gguf`.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/models/hugging_face_model.hpp>

#include "support/run_model.hpp"

namespace {

/// A folder with weights and a place for a config; removed at the end.
class model_folder {
 public:
  explicit model_folder(const std::string& golden) {
    std::string pattern = (std::filesystem::temp_directory_path() / "runnel-fuzz-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
    runnel::text::tokenizer_data data;
    data.tokens = {"a", "b", "ab"};
    data.merges = {{"a", "b"}};
    vocabulary_ = std::make_shared<const runnel::text::tokenizer>(std::move(data));
    std::filesystem::create_symlink(std::string(RUNNEL_TEST_DIR "/golden/models/") + golden + "/model.safetensors",
                                    path_ / "model.safetensors");
  }
  model_folder(const model_folder&) = delete;
  model_folder& operator=(const model_folder&) = delete;
  ~model_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void load(const std::uint8_t* config, std::size_t size) const {
    std::ofstream(path_ / "config.json", std::ios::binary)
        .write(reinterpret_cast<const char*>(config), static_cast<std::streamsize>(size));
    try {
      runnel::tests::run_model(runnel::models::load_hugging_face_decoder(path_), vocabulary_);
    } catch (const runnel::error&) {
    }
  }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const runnel::text::tokenizer> vocabulary_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const struct {
    std::string_view sign;  // in a config
    model_folder folder;
  } models[] = {
      {"gemma3", model_folder("families/gemma3_window")},
      {"gemma2", model_folder("families/gemma2_window")},
      {"gemma", model_folder("families/gemma_plain")},
      {"qwen3", model_folder("families/qwen3_window")},
      {"qwen2", model_folder("families/qwen2_window")},
      {"mistral", model_folder("families/mistral_window")},
      {"phi3", model_folder("families/phi3_longrope")},
      {"smollm3", model_folder("families/smollm3_window")},
      {"", model_folder("gqa")},
  };
  const std::string_view config(reinterpret_cast<const char*>(data), size);
  for (const auto& one : models) {
    if (config.find(one.sign) == std::string_view::npos) continue;
    one.folder.load(data, size);
    break;
  }
  return 0;
}
