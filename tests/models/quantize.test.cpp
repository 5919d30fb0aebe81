// SPDX-License-Identifier: Apache-2.0
#include <runnel/models/quantize.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "support/random_values.hpp"

// Which tensor gets which format, and files written so. Expected formats are what llama.cpp's quantiser chose for the
// same names and shapes.

namespace {

using namespace runnel;
using quant::weight_format;

struct scratch {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / message("runnel-quantize-", reinterpret_cast<std::uintptr_t>(this));
  scratch() { std::filesystem::create_directories(path); }
  ~scratch() { std::filesystem::remove_all(path); }
};

weight_format choose(std::string_view kind, const char* name, std::vector<std::uint64_t> shape,
                     models::quantized_model model = {30, 3, true}) {
  return models::choose_format(models::find_quantization(kind).value(), model, name, shape, weight_format::f32);
}

TEST_CASE("kinds are found by name, and each has its own number") {
  for (const auto& one : models::all_quantizations) {
    CHECK(models::find_quantization(one.name)->file_type == one.file_type);
    int same = 0;
    for (const auto& other : models::all_quantizations) same += other.file_type == one.file_type ? 1 : 0;
    CHECK(same == 1);
  }
  CHECK(models::find_quantization("Q4_K_M")->file_type == 15);
  CHECK(models::find_quantization("IQ4_NL")->format == weight_format::iq4_nl);
  for (const char* name : {"", "q4", "q4_k_x", "q4_k", "q9_0"})
    CHECK_FALSE(models::find_quantization(name).has_value());
}

TEST_CASE("vectors, norms and routers stay as they are") {
  for (const auto& kind : models::all_quantizations) {
    CHECK(choose(kind.name, "blk.0.attn_norm.weight", {576}) == weight_format::f32);
    CHECK(choose(kind.name, "blk.0.attn_q_norm.weight", {8, 64}) == weight_format::f32);
    CHECK(choose(kind.name, "blk.0.attn_q.bias", {576}) == weight_format::f32);
    CHECK(choose(kind.name, "blk.0.attn_q.bias", {2, 576}) == weight_format::f32);
    CHECK(choose(kind.name, "rope_freqs.weight", {32}) == weight_format::f32);
    CHECK(choose(kind.name, "odd.weight", {1, 512}) == weight_format::f32);
    CHECK(choose(kind.name, "blk.0.ffn_gate_inp.weight", {8, 512}) == weight_format::f32);
  }
}

TEST_CASE("mixes give more bits where llama.cpp does") {
  const std::vector<std::uint64_t> wide{2048, 2048};
  const models::quantized_model model{32, 4, false}, narrow{32, 1, false}, large{80, 8, false};
  CHECK(choose("q4_k_m", "blk.0.attn_v.weight", wide, model) == weight_format::q6_k);
  CHECK(choose("q4_k_m", "blk.4.attn_v.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q4_k_m", "blk.6.ffn_down.weight", wide, model) == weight_format::q6_k);  // (6 - 4) % 3 == 2
  CHECK(choose("q4_k_m", "blk.27.ffn_down.weight", wide, model) == weight_format::q6_k);
  CHECK(choose("q4_k_m", "blk.28.ffn_down.weight", wide, model) == weight_format::q6_k);
  CHECK(choose("q4_k_m", "blk.26.ffn_down.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q4_k_m", "blk.6.ffn_up.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q5_k_m", "blk.31.attn_v.weight", wide, model) == weight_format::q6_k);
  CHECK(choose("q4_k_s", "blk.3.attn_v.weight", wide, model) == weight_format::q5_k);
  CHECK(choose("q4_k_s", "blk.4.attn_v.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q4_k_s", "blk.3.ffn_down.weight", wide, model) == weight_format::q5_k);
  CHECK(choose("q2_k", "blk.9.attn_v.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q2_k", "blk.9.attn_v.weight", wide, narrow) == weight_format::q3_k);
  CHECK(choose("q2_k", "blk.9.attn_output.weight", wide, model) == weight_format::q3_k);
  CHECK(choose("q2_k", "blk.9.attn_q.weight", wide, model) == weight_format::q2_k);
  CHECK(choose("q3_k_m", "blk.1.attn_v.weight", wide, model) == weight_format::q5_k);
  CHECK(choose("q3_k_m", "blk.2.attn_v.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q3_k_m", "blk.2.attn_qkv.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q3_k_l", "blk.2.attn_output.weight", wide, model) == weight_format::q5_k);
  CHECK(choose("q3_k_s", "blk.2.ffn_down.weight", wide, model) == weight_format::q3_k);
  CHECK(choose("q3_k_s", "blk.2.attn_v.weight", wide, large) == weight_format::q5_k);
  CHECK(choose("iq4_nl", "blk.9.attn_v.weight", wide, model) == weight_format::q5_k);
  CHECK(choose("iq4_nl", "blk.9.attn_v.weight", wide, narrow) == weight_format::iq4_nl);
  CHECK(choose("q6_k", "blk.9.attn_v.weight", wide, model) == weight_format::q6_k);
  // The output matrix, or the embedding in its place.
  CHECK(choose("q4_0", "output.weight", wide, model) == weight_format::q6_k);
  CHECK(choose("q8_0", "output.weight", wide, model) == weight_format::q8_0);
  CHECK(choose("q4_k_m", "token_embd.weight", wide, model) == weight_format::q4_k);
  CHECK(choose("q4_k_m", "token_embd.weight", wide, {32, 4, true}) == weight_format::q6_k);
  CHECK(choose("bf16", "output.weight", wide, model) == weight_format::bf16);
  CHECK(choose("f16", "token_embd.weight", wide, model) == weight_format::f16);
}

TEST_CASE("rows that are no whole number of blocks take the next format that fits") {
  CHECK(choose("q2_k", "blk.9.ffn_up.weight", {1536, 576}) == weight_format::q4_0);
  CHECK(choose("q3_k_s", "blk.9.ffn_up.weight", {1536, 576}) == weight_format::q4_0);
  CHECK(choose("q4_k_m", "blk.9.ffn_up.weight", {1536, 576}) == weight_format::q5_0);
  CHECK(choose("q5_k_m", "blk.9.ffn_up.weight", {1536, 576}) == weight_format::q5_1);
  CHECK(choose("q6_k", "blk.9.ffn_up.weight", {1536, 576}) == weight_format::q8_0);
  CHECK(choose("q6_k", "blk.9.ffn_up.weight", {1536, 20}) == weight_format::f16);
  CHECK(choose("q4_0", "blk.9.ffn_up.weight", {1536, 20}) == weight_format::f16);
  CHECK(choose("q4_0", "token_embd.weight", {1000, 576}) == weight_format::q8_0);
  CHECK(choose("q5_k_s", "token_embd.weight", {1000, 576}) == weight_format::q8_0);
}

/// A file of two layers whose rows hold super-blocks, and one that cannot.
void write_model(const std::filesystem::path& path, float poison = 0) {
  random_stream random(7);
  io::gguf_writer out;
  out.set("general.architecture", "llama");
  out.set("general.file_type", std::uint32_t{0});
  out.set("general.name", "kept");
  out.set("llama.block_count", std::uint32_t{2});
  out.set("llama.attention.head_count", std::uint32_t{4});
  out.set("llama.attention.head_count_kv", std::uint32_t{1});
  out.set("split.count", std::uint16_t{1});
  std::vector<std::vector<float>> kept;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    kept.push_back(tests::normals<float>(random, static_cast<index_t>(*io::checked_product(shape))));
    out.add_tensor(name, weight_format::f32, shape, std::as_bytes(std::span<const float>(kept.back())));
  };
  kept.reserve(16);
  add("token_embd.weight", {40, 512});
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    add(layer + "attn_norm.weight", {512});
    add(layer + "attn_v.weight", {64, 512});
    add(layer + "ffn_up.weight", {96, 512});
    add(layer + "ffn_down.weight", {512, 96});
  }
  if (poison != 0) kept[2][70] = poison;
  out.write(path);
}

TEST_CASE("a quantized file holds what was chosen, close to what it came from, the same on any threads") {
  const scratch folder;
  const auto from = folder.path / "from.gguf";
  write_model(from);
  const io::gguf_file source(from);
  for (const auto& kind : models::all_quantizations) {
    CAPTURE(std::string(kind.name));
    const auto to = folder.path / (std::string(kind.name) + ".gguf");
    models::quantize_options options;
    options.kind = kind;
    options.threads = 3;
    std::size_t reported = 0;
    options.progress = [&](const models::quantized_tensor& one) { CHECK(one.number == reported++); };
    models::quantize_gguf(from, to, options);
    const io::gguf_file file(to);
    CHECK(reported == source.tensors().size());
    CHECK(file.get<std::uint32_t>("general.file_type") == kind.file_type);
    CHECK(file.get<std::uint32_t>("general.quantization_version") == 2);
    CHECK(file.string("general.name") == "kept");
    CHECK_FALSE(file.contains("split.count"));
    for (std::size_t i = 0; i < source.tensors().size(); ++i) {
      const auto& was = source.tensors()[i];
      const auto& is = file.tensors()[i];
      CHECK(is.name == was.name);
      CHECK(is.shape == was.shape);
      CHECK(is.format == models::choose_format(kind, {2, 4, true}, was.name, was.shape, weight_format::f32));
      std::vector<float> values(was.elements()), back(values.size());
      quant::decode(weight_format::f32, was.bytes.data(), values.size(), values.data());
      quant::decode(*is.format, is.bytes.data(), values.size(), back.data());
      double off = 0, all = 0;
      for (std::size_t k = 0; k < values.size(); ++k) {
        const double difference = static_cast<double>(back[k]) - static_cast<double>(values[k]);
        off += difference * difference;
        all += static_cast<double>(values[k]) * static_cast<double>(values[k]);
      }
      CHECK(off <= 0.09 * all);
    }
    options.threads = 1;
    options.progress = nullptr;
    const auto again = folder.path / "again.gguf";
    models::quantize_gguf(from, again, options);
    const io::gguf_file second(again);
    for (std::size_t i = 0; i < file.tensors().size(); ++i) {
      const auto one = file.tensors()[i].bytes, other = second.tensors()[i].bytes;
      CHECK(std::equal(one.begin(), one.end(), other.begin(), other.end()));
    }
  }
}

TEST_CASE("what is quantized is not quantized again unasked, and nothing is overwritten by mistake") {
  const scratch folder;
  const auto from = folder.path / "from.gguf", once = folder.path / "once.gguf", twice = folder.path / "twice.gguf";
  write_model(from);
  models::quantize_options options;
  options.kind = *models::find_quantization("q8_0");
  models::quantize_gguf(from, once, options);
  options.kind = *models::find_quantization("q4_0");
  CHECK_THROWS_AS(models::quantize_gguf(once, twice, options), config_error);
  CHECK_FALSE(std::filesystem::exists(twice));
  options.kind = *models::find_quantization("f32");  // loses nothing
  models::quantize_gguf(once, twice, options);
  options.kind = *models::find_quantization("q4_0");
  options.allow_requantize = true;
  models::quantize_gguf(once, twice, options);
  CHECK(io::gguf_file(twice).tensor("blk.0.ffn_up.weight").format == weight_format::q4_0);
  CHECK_THROWS_AS(models::quantize_gguf(from, from, options), config_error);
  std::filesystem::create_symlink(from, folder.path / "link.gguf");
  CHECK_THROWS_AS(models::quantize_gguf(from, folder.path / "link.gguf", options), config_error);
  CHECK(io::gguf_file(from).tensor("blk.0.ffn_up.weight").format == weight_format::f32);
}

TEST_CASE("rows that do not fill a super-block are refused by the reader") {
  const scratch folder;
  const auto path = folder.path / "short.gguf";
  io::gguf_writer out;
  const std::vector<std::byte> blocks(8 * 34);
  out.add_tensor("rows", weight_format::q8_0, {2, 128}, blocks);
  CHECK_THROWS_WITH_AS(out.add_tensor("cut", weight_format::q4_k, {2, 128}, std::span(blocks).first(144)),
                       doctest::Contains("blocks of 256"), shape_error);
  out.write(path);
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const std::size_t type = bytes.find("rows") + 4 + 4 + 16;  // after the name: dimensions, two sizes
  REQUIRE(bytes[type] == 8);
  for (int number = 10; number <= 14; ++number) {
    bytes[type] = static_cast<char>(number);
    std::ofstream(path, std::ios::binary) << bytes;
    CHECK_THROWS_WITH_AS(io::gguf_file{path}, doctest::Contains("'rows'"), format_error);
    CHECK_THROWS_WITH_AS(io::gguf_file{path}, doctest::Contains("256"), format_error);
  }
}

TEST_CASE("values that are no numbers, parts of a model and a stop request end it without a file") {
  const scratch folder;
  const auto from = folder.path / "from.gguf", to = folder.path / "to.gguf";
  models::quantize_options options;
  options.kind = *models::find_quantization("q4_k_m");
  for (const float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    write_model(from, poison);
    CHECK_THROWS_WITH_AS(models::quantize_gguf(from, to, options), doctest::Contains("blk.0.attn_v.weight"),
                         format_error);
    CHECK_FALSE(std::filesystem::exists(to));
  }
  write_model(from);
  std::stop_source stop;
  stop.request_stop();
  options.stop = stop.get_token();
  CHECK_THROWS_AS(models::quantize_gguf(from, to, options), cancelled_error);
  CHECK_FALSE(std::filesystem::exists(to));
  io::gguf_writer out;
  const io::gguf_file file(from);
  out.set_all(file);
  out.set("split.count", std::uint16_t{2});
  out.write(to);
  CHECK_THROWS_WITH_AS(models::quantize_gguf(to, folder.path / "third.gguf", {}), doctest::Contains("merged"),
                       format_error);
}

}  // namespace
