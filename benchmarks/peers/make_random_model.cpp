// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <numbers>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// Writes a GGUF file for timing: metadata, tokenizer, tensors' names and shapes of another file, its matrices in the
/// format that is asked for. Their values are random, or those of the other file coded anew. With --shape the sizes are
/// others: a llama decoder with tied embeddings, its vocabulary filled up with names.

namespace {

using runnel::quant::weight_format;

/// A llama decoder's sizes.
struct model_shape {
  std::uint64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, intermediate = 0, vocabulary = 0;
};

struct request {
  std::string like;
  std::string out;
  weight_format format = weight_format::q8_0;
  bool keeps_values = false;
  std::optional<model_shape> shape;
};

[[noreturn]] void usage() {
  std::cerr << "usage: make_random_model --like FILE.gguf [--format f32|f16|bf16|q8_0|q4_0|q4_1] [--keep-values] "
               "[--shape LAYERS,HIDDEN,HEADS,KV_HEADS,INTERMEDIATE,VOCABULARY] OUT.gguf\n";
  std::exit(2);
}

model_shape parse_shape(const std::string& text) {
  model_shape out;
  std::istringstream in(text);
  char comma = ',';
  for (auto* size : {&out.layers, &out.hidden, &out.heads, &out.kv_heads, &out.intermediate, &out.vocabulary}) {
    if (comma != ',' || !(in >> *size) || *size == 0 || *size > 1'000'000) usage();
    in >> comma;
  }
  if (!in.eof() || out.hidden % out.heads != 0 || out.heads % out.kv_heads != 0) usage();
  return out;
}

request parse(std::span<char*> words) {
  request out;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const bool takes_value = word == "--like" || word == "--format" || word == "--shape";
    if (takes_value && i + 1 == words.size()) usage();
    if (word == "--like") {
      out.like = words[++i];
    } else if (word == "--format") {
      const auto found = runnel::quant::from_name(words[++i]);
      if (!found) usage();
      out.format = *found;
    } else if (word == "--shape") {
      out.shape = parse_shape(std::string(words[++i]));
    } else if (word == "--keep-values") {
      out.keeps_values = true;
    } else if (!word.starts_with("-") && out.out.empty()) {
      out.out = word;
    } else {
      usage();
    }
  }
  if (out.like.empty() || out.out.empty() || (out.keeps_values && out.shape)) usage();
  return out;
}

/// Numbers of a normal distribution whose variance keeps activations at the size of 1.
std::vector<float> random_values(std::uint64_t seed, std::uint64_t count, std::uint64_t inputs) {
  runnel::random_stream random{seed};
  const double scale = 1 / std::sqrt(static_cast<double>(inputs));
  std::vector<float> out(count);
  for (float& value : out) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    value = static_cast<float>(scale * radius * std::cos(2 * std::numbers::pi * random.uniform()));
  }
  return out;
}

/// What `general.file_type` says of a file whose matrices have this format.
std::uint32_t file_type(weight_format format) {
  switch (format) {
    case weight_format::f32: return 0;
    case weight_format::f16: return 1;
    case weight_format::q4_0: return 2;
    case weight_format::q4_1: return 3;
    case weight_format::q8_0: return 7;
    case weight_format::q5_0: return 8;
    case weight_format::q5_1: return 9;
    case weight_format::q2_k: return 10;
    case weight_format::q3_k: return 12;
    case weight_format::q4_k: return 15;
    case weight_format::q5_k: return 17;
    case weight_format::q6_k: return 18;
    case weight_format::iq4_nl: return 25;
    case weight_format::bf16: return 32;
  }
  return 0;
}

void write(const request& wanted) {
  const runnel::io::gguf_file from{std::filesystem::path(wanted.like)};
  runnel::io::gguf_writer out;
  out.set_all(from);
  out.set("general.file_type", file_type(wanted.format));
  std::uint64_t seed = 0;
  for (const auto& tensor : from.tensors()) {
    ++seed;
    if (tensor.shape.size() != 2) {  // norms and biases stay as they are
      out.add_tensor(tensor.name, tensor.loadable_format(), tensor.shape, tensor.bytes);
      continue;
    }
    const auto format = wanted.format;
    const bool keeps = wanted.keeps_values;
    if (keeps) static_cast<void>(tensor.loadable_format());
    out.add_tensor(tensor.name, format, tensor.shape, [&tensor, format, keeps, seed] {
      const std::uint64_t count = tensor.elements();
      std::vector<float> values;
      if (keeps) {
        values.resize(count);
        runnel::quant::decode(*tensor.format, tensor.bytes.data(), count, values.data());
      } else {
        values = random_values(seed, count, tensor.shape.back());
      }
      std::vector<std::byte> bytes(runnel::quant::bytes_for(format, count));
      runnel::quant::encode(format, values.data(), count, bytes.data());
      return bytes;
    });
  }
  out.write(wanted.out);
}

/// Other sizes in the metadata, and names for tokens that the vocabulary lacks.
void set_shape(const runnel::io::gguf_file& from, const model_shape& shape, runnel::io::gguf_writer& out) {
  const auto set = [&](std::string_view key, std::uint64_t value) {
    out.set("llama." + std::string(key), static_cast<std::uint32_t>(value));
  };
  if (from.string("general.architecture") != "llama") throw runnel::config_error("--shape: expected a llama file");
  set("block_count", shape.layers);
  set("embedding_length", shape.hidden);
  set("feed_forward_length", shape.intermediate);
  set("attention.head_count", shape.heads);
  set("attention.head_count_kv", shape.kv_heads);
  set("rope.dimension_count", shape.hidden / shape.heads);
  set("vocab_size", shape.vocabulary);
  set("attention.key_length", shape.hidden / shape.heads);
  set("attention.value_length", shape.hidden / shape.heads);
  const auto* const listed = from.find("tokenizer.ggml.tokens");
  if (listed == nullptr || from.contains("tokenizer.ggml.scores")) {
    throw runnel::config_error("--shape: expected a file with a vocabulary without scores");
  }
  const auto known = listed->strings();
  std::vector<std::string> tokens(known.begin(), known.end());
  std::vector<std::int32_t> types;
  const auto* const given = from.find("tokenizer.ggml.token_type");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    types.push_back(given == nullptr ? 1 : given->element(i).as<std::int32_t>().value_or(1));
  }
  if (tokens.size() > shape.vocabulary)
    throw runnel::config_error("--shape: the vocabulary is smaller than the file's");
  while (tokens.size() < shape.vocabulary) tokens.push_back("<filler_" + std::to_string(tokens.size()) + ">");
  types.resize(tokens.size(), 5);  // unused
  out.set("tokenizer.ggml.tokens", tokens);
  out.set("tokenizer.ggml.token_type", types);
}

void write_shape(const request& wanted, const model_shape& shape) {
  const runnel::io::gguf_file from{std::filesystem::path(wanted.like)};
  runnel::io::gguf_writer out;
  out.set_all(from);
  out.set("general.file_type", file_type(wanted.format));
  set_shape(from, shape, out);
  std::uint64_t seed = 0;
  const auto matrix = [&](const std::string& name, std::uint64_t outputs, std::uint64_t inputs) {
    out.add_tensor(name, wanted.format, {outputs, inputs}, [=, format = wanted.format, seed = ++seed] {
      const auto values = random_values(seed, outputs * inputs, inputs);
      std::vector<std::byte> bytes(runnel::quant::bytes_for(format, values.size()));
      runnel::quant::encode(format, values.data(), values.size(), bytes.data());
      return bytes;
    });
  };
  const std::vector<float> ones(shape.hidden, 1.0f);
  const auto norm = [&](const std::string& name) {
    out.add_tensor(name, weight_format::f32, {shape.hidden}, std::as_bytes(std::span(ones)));
  };
  const std::uint64_t keys = shape.hidden / shape.heads * shape.kv_heads;
  matrix("token_embd.weight", shape.vocabulary, shape.hidden);
  norm("output_norm.weight");
  for (std::uint64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    norm(layer + "attn_norm.weight");
    matrix(layer + "attn_q.weight", shape.hidden, shape.hidden);
    matrix(layer + "attn_k.weight", keys, shape.hidden);
    matrix(layer + "attn_v.weight", keys, shape.hidden);
    matrix(layer + "attn_output.weight", shape.hidden, shape.hidden);
    norm(layer + "ffn_norm.weight");
    matrix(layer + "ffn_gate.weight", shape.intermediate, shape.hidden);
    matrix(layer + "ffn_up.weight", shape.intermediate, shape.hidden);
    matrix(layer + "ffn_down.weight", shape.hidden, shape.intermediate);
  }
  out.write(wanted.out);
}

}  // namespace

int main(int argc, char** argv) {
  const request wanted = parse({argv, static_cast<std::size_t>(argc)});
  try {
    wanted.shape ? write_shape(wanted, *wanted.shape) : write(wanted);
  } catch (const std::exception& failure) {
    std::cerr << "make_random_model: " << failure.what() << '\n';
    return 1;
  }
}
