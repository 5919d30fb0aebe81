// SPDX-License-Identifier: Apache-2.0
// Tiny checkpoints of every family, written and computed by Transformers (golden/models/make_families.py); the GGUF
// files are by llama.cpp's converter.
#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include <runnel/io/safetensors_writer.hpp>

#include "golden.hpp"
#include "io/support.hpp"
#include "support/instruction_sets.hpp"

namespace {

using namespace runnel;
using tests::read_golden;

std::filesystem::path family_folder() { return tests::golden_models() / "families"; }

std::vector<std::string> all_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(family_folder())) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void check_model(const models::decoder& model, const std::filesystem::path& folder, const std::string& which) {
  CAPTURE(which);
  const auto expected = read_golden(folder, which);
  for (const instruction_set instructions : tests::runnable_instruction_sets()) {
    CAPTURE(name_of(instructions));
    ops::eval context({1, ops::compute_mode::f32, instructions});
    CHECK(tests::largest_difference(tests::prefill(model, context, expected.tokens), expected.logits) <= 1e-4);
  }
}

TEST_CASE("logits of every family are those of Transformers, from Hugging Face directories and from GGUF files") {
  std::set<std::string> converted, of_types;
  const auto names = all_cases();
  CHECK(names.size() >= 22);
  for (const std::string& name : names) {
    CAPTURE(name);
    const auto folder = family_folder() / name;
    const auto model = models::load_hugging_face_decoder(folder);
    of_types.insert(model.config().model_type);
    for (const char* which : {"", "_short"}) {
      if (!std::filesystem::exists(folder / ("tokens" + std::string(which) + ".npy"))) continue;
      check_model(model, folder, which);
      if (!std::filesystem::exists(folder / "model.gguf")) continue;
      const auto other = models::load_gguf_decoder(io::gguf_file(folder / "model.gguf"));
      converted.insert(other.config().model_type);
      check_model(other, folder, which);
    }
  }
  CHECK(converted == std::set<std::string>{"gemma2", "gemma3_text", "llama", "phi3", "qwen2", "qwen3", "smollm3"});
  CHECK(of_types ==
        std::set<std::string>{"gemma", "gemma2", "gemma3_text", "mistral", "phi3", "qwen2", "qwen3", "smollm3"});
}

TEST_CASE("the goldens of families tell what is theirs apart") {
  // Were one of these ignored, the comparison above would have to notice.
  const auto differs = [](const std::string& name, auto&& change) {
    CAPTURE(name);
    CHECK(tests::difference_after(family_folder() / name, change) > 1e-2);
  };
  const auto any_window = [](auto& config) {
    config.sliding_window = 0;
    for (auto& layer : config.layers) layer.windowed = false;
  };
  for (const char* name : {"mistral_window", "mistral_tied", "qwen2_window", "qwen3_window", "gemma2_window",
                           "gemma2_uncapped", "gemma3_window", "phi3_window", "smollm3_window"}) {
    differs(name, any_window);
    differs(name, [](auto& config) { config.sliding_window += 1; });
  }
  differs("qwen2_yarn", [](auto& config) { config.rope.scaling = nn::rope_scaling::none; });
  differs("qwen2_yarn", [](auto& config) { config.rope.attention_factor = 1; });
  differs("qwen2_yarn", [](auto& config) { config.rope.beta_slow = 0.1; });
  differs("qwen3_tied", [](auto& config) { config.qk_norm = false; });
  differs("gemma2_window", [](auto& config) { config.attn_logit_softcapping = 0; });
  differs("gemma2_window", [](auto& config) { config.final_logit_softcapping = 0; });
  differs("gemma2_window", [](auto& config) { config.post_norms = false; });
  differs("gemma2_window", [](auto& config) { config.norm_offset = 0; });
  differs("gemma2_window", [](auto& config) { config.embedding_scale = 1; });
  differs("gemma2_mqa", [](auto& config) { config.query_pre_attn_scalar = 0; });
  differs("gemma3_window", [](auto& config) { config.local_rope.theta = config.rope.theta; });
  differs("gemma3_scaled", [](auto& config) { config.rope.factor = 1; });
  differs("phi3_longrope", [](auto& config) { config.rope.original_context = 128; });
  differs("phi3_longrope", [](auto& config) { config.rope.attention_factor = 1; });
  differs("phi3_partial", [](auto& config) { config.rope.dimension = config.head_dim; });
  differs("smollm3_tied", [](auto& config) { config.layers.clear(); });
}

TEST_CASE("a checkpoint with a tower for images gives its language model") {
  const auto folder = family_folder() / "gemma3_window";
  const auto expected = read_golden(folder);
  std::ifstream config_file(folder / "config.json");
  const auto text_config = nlohmann::json::parse(config_file);
  const auto weights = io::open_safetensors(folder);
  for (const std::string root : {"language_model.model.", "model.language_model."}) {
    CAPTURE(root);
    const runnel_test::scratch_folder nested;
    std::ofstream(nested / "config.json") << nlohmann::json{{"model_type", "gemma3"}, {"text_config", text_config}};
    std::vector<io::safetensors_output> renamed;
    for (const auto& tensor : weights.tensors()) {
      renamed.push_back(
          {root + tensor.name.substr(std::string("model.").size()), *tensor.format, tensor.shape, tensor.bytes});
    }
    io::write_safetensors(nested / "model.safetensors", renamed);
    const auto model = models::load_hugging_face_decoder(nested.path());
    ops::eval context;
    CHECK(tests::largest_difference(tests::prefill(model, context, expected.tokens), expected.logits) <= 1e-4);
  }
}

}  // namespace
