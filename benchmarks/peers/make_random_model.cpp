// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// Writes a GGUF file for timing: metadata, tokenizer, tensors' names and shapes of another file, its matrices in the
/// format that is asked for. Their values are random, or those of the other file coded anew.

namespace {

using runnel::quant::weight_format;

struct request {
  std::string like;
  std::string out;
  weight_format format = weight_format::q8_0;
  bool keeps_values = false;
};

[[noreturn]] void usage() {
  std::cerr << "usage: make_random_model --like FILE.gguf [--format f32|f16|bf16|q8_0|q4_0|q4_1] [--keep-values] "
               "OUT.gguf\n";
  std::exit(2);
}

request parse(std::span<char*> words) {
  request out;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const bool takes_value = word == "--like" || word == "--format";
    if (takes_value && i + 1 == words.size()) usage();
    if (word == "--like") {
      out.like = words[++i];
    } else if (word == "--format") {
      const auto found = runnel::quant::from_name(words[++i]);
      if (!found) usage();
      out.format = *found;
    } else if (word == "--keep-values") {
      out.keeps_values = true;
    } else if (!word.starts_with("-") && out.out.empty()) {
      out.out = word;
    } else {
      usage();
    }
  }
  if (out.like.empty() || out.out.empty()) usage();
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

}  // namespace

int main(int argc, char** argv) {
  const request wanted = parse({argv, static_cast<std::size_t>(argc)});
  try {
    write(wanted);
  } catch (const std::exception& failure) {
    std::cerr << "make_random_model: " << failure.what() << '\n';
    return 1;
  }
}
