// SPDX-License-Identifier: Apache-2.0
// What is written is what was read: every tiny checkpoint through both containers and back.
#include <runnel/models/export.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "golden.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel;
using quant::weight_format;

std::vector<std::filesystem::path> all_checkpoints() {
  std::vector<std::filesystem::path> found;
  for (const auto& folder : {tests::golden_models(), tests::golden_models() / "families"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (std::filesystem::exists(entry.path() / "config.json")) found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

models::decoder through_gguf(const models::decoder& model, weight_format format, const std::filesystem::path& path) {
  io::gguf_writer out;
  models::add_to_gguf(model, models::matrices_as(format), out);
  out.write(path);
  return models::load_gguf_decoder(io::gguf_file(path));
}

TEST_CASE("config and weights survive a Hugging Face directory bit for bit") {
  for (const auto& checkpoint : all_checkpoints()) {
    CAPTURE(checkpoint.string());
    const runnel_test::scratch_folder folder;
    const auto model = models::load_hugging_face_decoder(checkpoint);
    models::write_hugging_face(model, weight_format::f32, folder.path());
    const auto again = models::load_hugging_face_decoder(folder.path());
    for (const char* which : {"", "_short"}) {
      if (!std::filesystem::exists(checkpoint / ("tokens" + std::string(which) + ".npy"))) continue;
      const auto golden = tests::read_golden(checkpoint, which);
      ops::eval context;
      CHECK(tests::prefill(again, context, golden.tokens) == tests::prefill(model, context, golden.tokens));
    }
    const auto config = nlohmann::json::parse(std::ifstream(folder / "config.json"));
    CHECK(config.at("architectures").size() == 1);
    CHECK(config.at("pad_token_id").is_null());  // a class's own default might lie outside of the vocabulary
    if (config.contains("query_pre_attn_scalar")) CHECK(config.at("query_pre_attn_scalar").is_number_integer());
  }
}

TEST_CASE("a GGUF file says the same, where its metadata can; else that is said before anything is written") {
  int refused = 0;
  for (const auto& checkpoint : all_checkpoints()) {
    const std::string name = checkpoint.filename().string();
    CAPTURE(name);
    const runnel_test::scratch_folder folder;
    const auto model = models::load_hugging_face_decoder(checkpoint);
    try {
      const auto again = through_gguf(model, weight_format::f32, folder / "model.gguf");
      for (const char* which : {"", "_short"}) {
        if (!std::filesystem::exists(checkpoint / ("tokens" + std::string(which) + ".npy"))) continue;
        const auto golden = tests::read_golden(checkpoint, which);
        ops::eval context;
        CHECK(tests::largest_difference(tests::prefill(again, context, golden.tokens), golden.logits) <= 1e-4);
      }
      // And from there to a Hugging Face directory, unless it holds divisors that no config is known for.
      if (name == "llama3") {
        CHECK_THROWS_AS(models::write_hugging_face(again, weight_format::f32, folder / "back"), config_error);
        continue;
      }
      models::write_hugging_face(again, weight_format::f32, folder / "back");
      const auto back = models::load_hugging_face_decoder(folder / "back");
      const auto golden = tests::read_golden(checkpoint);
      ops::eval context;
      CHECK(tests::largest_difference(tests::prefill(back, context, golden.tokens), golden.logits) <= 1e-4);
    } catch (const config_error& refusal) {
      CAPTURE(std::string(refusal.what()));
      ++refused;
      const std::set<std::string> known{"qwen2_window",    "qwen3_window",  "gemma3_scaled", "gemma3_old_keys",
                                        "smollm3_list",    "smollm3_window", "f16",          "odd_bf16"};
      CHECK(known.contains(name));
      CHECK_FALSE(std::filesystem::exists(folder / "model.gguf"));
    }
  }
  CHECK(refused == 8);
}

TEST_CASE("matrices are written in the format that was asked for, norms and biases in f32") {
  const auto model = models::load_hugging_face_decoder(tests::golden_models() / "quantised");
  const runnel_test::scratch_folder folder;
  for (const auto format : {weight_format::bf16, weight_format::q8_0, weight_format::q4_1}) {
    static_cast<void>(through_gguf(model, format, folder / "model.gguf"));
    const io::gguf_file file(folder / "model.gguf");
    for (const auto& tensor : file.tensors()) {
      CHECK(tensor.format == (tensor.shape.size() == 1 ? weight_format::f32 : format));
    }
  }
  models::write_hugging_face(model, weight_format::bf16, folder / "model");
  const auto weights = io::open_safetensors(folder / "model");
  CHECK(weights.tensor("model.embed_tokens.weight").format == weight_format::bf16);
  CHECK(weights.tensor("model.norm.weight").format == weight_format::f32);
  CHECK_THROWS_AS(models::write_hugging_face(model, weight_format::q8_0, folder / "other"), config_error);
  CHECK_FALSE(std::filesystem::exists(folder / "other"));
}

}  // namespace
