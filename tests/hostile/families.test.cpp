// SPDX-License-Identifier: Apache-2.0
// GGUF files of every family: each of their numbers at its extremes, any byte changed. What is read must run.
#include "hostile.hpp"

#include <cmath>
#include <limits>

#include <runnel/stream/load.hpp>

#include "support/run_model.hpp"

namespace {

using namespace runnel_test;

constexpr const char* architectures[] = {"llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3"};

/// The numbers that files of an architecture have or may have.
std::vector<std::string> keys_of(const std::string& architecture) {
  std::vector<std::string> keys{"general.alignment", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"};
  for (const char* key : {"embedding_length",
                          "feed_forward_length",
                          "block_count",
                          "attention.head_count",
                          "attention.head_count_kv",
                          "context_length",
                          "attention.layer_norm_rms_epsilon",
                          "attention.key_length",
                          "attention.value_length",
                          "attention.sliding_window",
                          "attention.sliding_window_pattern",
                          "attention.scale",
                          "attn_logit_softcapping",
                          "final_logit_softcapping",
                          "rope.dimension_count",
                          "rope.freq_base",
                          "rope.freq_base_swa",
                          "rope.scaling.factor",
                          "rope.scaling.attn_factor",
                          "rope.scaling.original_context_length",
                          "expert_count"}) {
    keys.push_back(architecture + "." + key);
  }
  return keys;
}

/// A model of two layers.
model_file family_file(const std::string& architecture) {
  model_file file;
  const auto is = [&](const char* name) { return architecture == name; };
  for (const char* key : {"embedding_length", "feed_forward_length", "block_count", "attention.head_count",
                          "attention.head_count_kv", "context_length", "attention.layer_norm_rms_epsilon"}) {
    file.without(std::string("llama.") + key);
  }
  file.text("general.architecture", architecture);
  const auto number = [&](const char* key, std::uint64_t value) { file.number(architecture + "." + key, value); };
  const auto real = [&](const char* key, float value) {
    file.entry(architecture + "." + key, 6, byte_builder().number(value));
  };
  number("embedding_length", 4);
  number("feed_forward_length", 4);
  number("block_count", 2);
  number("attention.head_count", 2);
  number("attention.head_count_kv", 1);
  number("context_length", 32);
  number("attention.sliding_window", 3);
  real("attention.layer_norm_rms_epsilon", 1e-5f);
  if (is("gemma2")) real("attn_logit_softcapping", 50), real("final_logit_softcapping", 30);
  if (is("phi3")) {
    file.add("rope_factors_long.weight", {1}).add("rope_factors_short.weight", {1});
    number("rope.scaling.original_context_length", 8);
  }
  for (const char* name :
       {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"}) {
    file.without(std::string("blk.0.") + name + ".weight");
  }
  for (const std::string block : {"blk.0.", "blk.1."}) {
    file.add(block + "attn_norm.weight", {4}).add(block + "ffn_norm.weight", {4});
    file.add(block + "attn_output.weight", {4, 4}).add(block + "ffn_down.weight", {4, 4});
    if (is("phi3")) {
      file.add(block + "attn_qkv.weight", {4, 8}).add(block + "ffn_up.weight", {4, 8});
    } else {
      file.add(block + "attn_q.weight", {4, 4})
          .add(block + "attn_k.weight", {4, 2})
          .add(block + "attn_v.weight", {4, 2});
      file.add(block + "ffn_gate.weight", {4, 4}).add(block + "ffn_up.weight", {4, 4});
    }
    if (is("qwen2")) {
      file.add(block + "attn_q.bias", {4}).add(block + "attn_k.bias", {2}).add(block + "attn_v.bias", {2});
    }
    if (is("qwen3") || is("gemma3")) file.add(block + "attn_q_norm.weight", {2}).add(block + "attn_k_norm.weight", {2});
    if (is("gemma2") || is("gemma3")) {
      file.add(block + "post_attention_norm.weight", {4}).add(block + "post_ffw_norm.weight", {4});
    }
  }
  return file;
}

/// Reads a file as `load_model` does, and streams words through it.
void run(const std::string& bytes) {
  const runnel::io::gguf_file file(in_memory(bytes, "some.gguf"));
  auto vocabulary = std::make_shared<const runnel::text::tokenizer>(runnel::text::read_tokenizer_gguf(file));
  runnel::tests::run_model(runnel::models::load_gguf_decoder(file), std::move(vocabulary));
}

/// Type in GGUF and bytes of a number.
using written_number = std::pair<std::uint32_t, byte_builder>;

std::vector<written_number> extremes() {
  std::vector<written_number> out;
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 31, std::uint64_t{1} << 62,
                                    (std::uint64_t{1} << 63) - 1, ~std::uint64_t{0}}) {
    out.emplace_back(10, byte_builder().number(value));
  }
  for (const std::int64_t value : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::min()}) {
    out.emplace_back(11, byte_builder().number(value));
  }
  for (const float value : {0.0f, -1.0f, 1e-40f, std::numeric_limits<float>::max(), HUGE_VALF, std::nanf("")}) {
    out.emplace_back(6, byte_builder().number(value));
  }
  out.emplace_back(12, byte_builder().number(1e308));
  return out;
}

}  // namespace

TEST_CASE("every number of every family at its extremes") {
  for (const std::string architecture : architectures) {
    CAPTURE(architecture);
    CHECK(reads_or_refuses([&] { run(family_file(architecture).bytes()); }));
    for (const auto& key : keys_of(architecture)) {
      CAPTURE(key);
      for (const auto& [type, value] : extremes()) {
        auto file = family_file(architecture);
        file.entry(key, type, value);
        static_cast<void>(reads_or_refuses([&] { run(file.bytes()); }));
      }
    }
  }
}

TEST_CASE("every family with any byte of its description changed") {
  for (const std::string architecture : architectures) {
    CAPTURE(architecture);
    const auto whole = family_file(architecture).bytes();
    for (std::size_t at = 0; at < whole.size(); at += 3) {
      auto changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ 0x11u);
      static_cast<void>(reads_or_refuses([&] { run(changed); }));
    }
  }
}
