// SPDX-License-Identifier: Apache-2.0
// Tiny checkpoints written and computed by Transformers (golden/models/make_llama.py).
#include <doctest/doctest.h>

#include "golden.hpp"
#include "support/instruction_sets.hpp"

namespace {

using namespace runnel;

using tests::read_golden;

const std::string all_cases[] = {"mha", "gqa", "mqa", "llama3", "linear", "odd_bf16", "f16", "quantised"};

TEST_CASE("logits are those of Transformers, from Hugging Face directories and from GGUF files") {
  for (const std::string& name : all_cases) {
    CAPTURE(name);
    const auto folder = tests::golden_models() / name;
    const auto expected = read_golden(folder);
    const auto model = models::load_hugging_face_decoder(folder);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      CAPTURE(name_of(which));
      ops::eval context({1, ops::compute_mode::f32, which});
      const auto found = tests::prefill(model, context, expected.tokens);
      CHECK(tests::largest_difference(found, expected.logits) <= 1e-4);
      if (!std::filesystem::exists(folder / "model.gguf")) continue;
      const auto other = models::load_gguf_decoder(io::gguf_file(folder / "model.gguf"));
      const auto again = tests::prefill(other, context, expected.tokens);
      if (name == "llama3") {  // GGUF files keep its rotary scaling as rounded divisors
        CHECK(tests::largest_difference(again, expected.logits) <= 1e-4);
      } else {  // blocks decode exactly, so the same numbers meet in the same order
        CHECK(again == found);
      }
    }
  }
}

TEST_CASE("the goldens tell scaled rotary, biases and activations apart") {
  // Were one of these ignored, the comparison above would have to notice.
  const auto differs = [](const std::string& name, auto&& change) {
    CAPTURE(name);
    CHECK(tests::difference_after(tests::golden_models() / name, change) > 1e-2);
  };
  differs("llama3", [](auto& config) { config.rope.scaling = nn::rope_scaling::none; });
  differs("llama3", [](auto& config) { config.rope.original_context = 8192; });
  differs("linear", [](auto& config) { config.rope.scaling = nn::rope_scaling::none; });
  differs("mqa", [](auto& config) { config.attention_bias = false; });
  differs("mqa", [](auto& config) { config.mlp_bias = false; });
  differs("mqa", [](auto& config) { config.rope.theta = 10000; });
  differs("f16", [](auto& config) { config.hidden_act = kernels::activation::silu; });
  differs("f16", [](auto& config) { config.rms_norm_eps = 0.1f; });
  differs("odd_bf16", [](auto& config) { config.hidden_act = kernels::activation::silu; });
}

}  // namespace
