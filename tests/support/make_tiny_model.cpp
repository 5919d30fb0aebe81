// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <iostream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/text/byte_alphabet.hpp>

/// \file
/// Writes the model that examples and tests of the command line run on: a Llama of a few kilobytes that counts.
///
/// Attention and feed-forward layers are computed but end in zeros, so each token alone decides the next, by a wide
/// margin and on every machine: after a line break "Eins", then " zwei", " drei", " vier", " fünf" and the end; after
/// anything else " ja".

namespace {

constexpr std::uint64_t hidden = 16, heads = 2, kv_heads = 1, head_dim = 8, mlp = 32, layers = 2;

struct vocabulary {
  std::vector<std::string> tokens{"<|im_start|>", "<|im_end|>"};
  std::vector<std::int32_t> types{3, 3};
  std::map<std::string, std::size_t> ids;

  vocabulary() {
    for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
    for (const char* word : {"Eins", " zwei", " drei", " vier", " f\xC3\xBCnf", " ja"}) add(word);
    ids["<|im_end|>"] = 1;
  }
  void add(const std::string& bytes) {
    ids[bytes] = tokens.size();
    tokens.push_back(runnel::text::to_byte_alphabet(bytes));
    types.push_back(1);
  }
};

class tiny_file {
 public:
  explicit tiny_file(const vocabulary& words) : words_(words) { set_metadata(); }

  void write(const std::string& path) {
    const auto size = static_cast<std::uint64_t>(words_.tokens.size());
    std::vector<float> embedding(size * hidden), head(size * hidden);
    for (std::uint64_t id = 0; id < size; ++id) embedding[id * hidden] = 1;  // feature 0: nothing that counts
    head[words_.ids.at(" ja") * hidden] = 20;
    const char* chain[] = {"\n", "Eins", " zwei", " drei", " vier", " f\xC3\xBCnf", "<|im_end|>"};
    for (std::uint64_t i = 0; i + 1 < std::size(chain); ++i) {
      const auto from = words_.ids.at(chain[i]);
      embedding[from * hidden] = 0;
      embedding[from * hidden + i + 1] = 1;
      head[words_.ids.at(chain[i + 1]) * hidden + i + 1] = 20;
    }
    matrix("token_embd.weight", size, hidden, embedding);
    matrix("output.weight", size, hidden, head);
    vector("output_norm.weight");
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      vector(prefix + "attn_norm.weight");
      vector(prefix + "ffn_norm.weight");
      random(prefix + "attn_q.weight", heads * head_dim, hidden);
      random(prefix + "attn_k.weight", kv_heads * head_dim, hidden);
      random(prefix + "attn_v.weight", kv_heads * head_dim, hidden);
      matrix(prefix + "attn_output.weight", hidden, heads * head_dim, std::vector<float>(hidden * heads * head_dim));
      random(prefix + "ffn_gate.weight", mlp, hidden);
      random(prefix + "ffn_up.weight", mlp, hidden);
      matrix(prefix + "ffn_down.weight", hidden, mlp, std::vector<float>(hidden * mlp));
    }
    out_.write(path);
  }

 private:
  void set_metadata() {
    out_.set("general.architecture", "llama");
    out_.set("general.name", "counting");
    out_.set("llama.block_count", static_cast<std::uint32_t>(layers));
    out_.set("llama.context_length", std::uint32_t{512});
    out_.set("llama.embedding_length", static_cast<std::uint32_t>(hidden));
    out_.set("llama.feed_forward_length", static_cast<std::uint32_t>(mlp));
    out_.set("llama.attention.head_count", static_cast<std::uint32_t>(heads));
    out_.set("llama.attention.head_count_kv", static_cast<std::uint32_t>(kv_heads));
    out_.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    out_.set("llama.rope.dimension_count", static_cast<std::uint32_t>(head_dim));
    out_.set("llama.rope.freq_base", 10000.0f);
    out_.set("tokenizer.ggml.model", "gpt2");
    out_.set("tokenizer.ggml.pre", "smollm");
    out_.set("tokenizer.ggml.tokens", words_.tokens);
    out_.set("tokenizer.ggml.token_type", words_.types);
    out_.set("tokenizer.ggml.merges", std::vector<std::string>{});
    out_.set("tokenizer.ggml.bos_token_id", std::uint32_t{0});
    out_.set("tokenizer.ggml.eos_token_id", std::uint32_t{1});
    out_.set("tokenizer.ggml.add_bos_token", false);
    out_.set(
        "tokenizer.chat_template",
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  }

  void matrix(const std::string& name, std::uint64_t outputs, std::uint64_t inputs, const std::vector<float>& values) {
    kept_.push_back(values);
    out_.add_tensor(name, runnel::quant::weight_format::f32, {outputs, inputs},
                    std::as_bytes(std::span<const float>(kept_.back())));
  }
  void random(const std::string& name, std::uint64_t outputs, std::uint64_t inputs) {
    std::vector<float> values(outputs * inputs);
    for (float& value : values) value = static_cast<float>(random_.uniform() - 0.5);
    matrix(name, outputs, inputs, values);
  }
  void vector(const std::string& name) {
    kept_.push_back(std::vector<float>(hidden, 1.0f));
    out_.add_tensor(name, runnel::quant::weight_format::f32, {hidden},
                    std::as_bytes(std::span<const float>(kept_.back())));
  }

  const vocabulary& words_;
  runnel::io::gguf_writer out_;
  runnel::random_stream random_{1};
  std::vector<std::vector<float>> kept_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_tiny_model FILE.gguf\n";
    return 2;
  }
  const vocabulary words;
  tiny_file(words).write(argv[1]);
}
