// SPDX-License-Identifier: Apache-2.0
// What config and weight readers accept, and what they say about the rest.
#include <doctest/doctest.h>

#include <fstream>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include <runnel/io/gguf_writer.hpp>
#include <runnel/io/safetensors_writer.hpp>

#include "golden.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel;
using nlohmann::json;
using quant::weight_format;

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// `f` throws Error; gives its message.
template <class Error, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& failure) {
    return failure.what();
  } catch (const std::exception& failure) {
    FAIL("another error: " << std::string(failure.what()));
  }
  FAIL("no error");
  return {};
}

void check_contains(const std::string& text, std::initializer_list<std::string> parts) {
  CAPTURE(text);
  for (const auto& part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

json golden_config(const std::string& name) {
  return json::parse(std::ifstream(tests::golden_models() / name / "config.json"));
}

models::model_config read_config(const json& config) {
  const runnel_test::scratch_folder folder;
  write_text(folder / "config.json", config.dump());
  return models::read_hugging_face_config(folder / "config.json");
}

TEST_CASE("config.json: what is read") {
  const auto config = models::read_hugging_face_config(tests::golden_models() / "llama3" / "config.json");
  CHECK(config.model_type == "llama");
  CHECK(config.vocab_size == 23);
  CHECK(config.hidden_size == 12);
  CHECK(config.intermediate_size == 18);
  CHECK(config.num_hidden_layers == 2);
  CHECK(config.num_attention_heads == 3);
  CHECK(config.num_key_value_heads == 1);
  CHECK(config.head_dim == 16);
  CHECK(config.max_position_embeddings == 128);
  CHECK(config.rms_norm_eps == 1e-5f);
  CHECK(config.rope.dimension == 16);
  CHECK(config.rope.theta == 500000);
  CHECK(config.rope.scaling == nn::rope_scaling::llama3);
  CHECK(config.rope.factor == 8);
  CHECK(config.rope.original_context == 32);
  CHECK_FALSE(config.tie_word_embeddings);
}

TEST_CASE("config.json: both spellings of rotary settings") {
  auto old_style = golden_config("llama3");
  auto new_style = old_style;
  new_style.erase("rope_theta");
  new_style["rope_parameters"] = new_style["rope_scaling"];
  new_style["rope_parameters"]["rope_theta"] = 500000.0;
  new_style.erase("rope_scaling");
  const auto a = read_config(old_style).rope, b = read_config(new_style).rope;
  CHECK(nn::rotary_frequencies(a) == nn::rotary_frequencies(b));
  old_style["rope_scaling"] = nullptr;
  CHECK(read_config(old_style).rope.scaling == nn::rope_scaling::none);
  CHECK(read_config(old_style).rope.theta == 500000);
}

TEST_CASE("config.json: what goes first of two ways to say it") {
  auto config = golden_config("families/qwen2_yarn");
  const char* key = config.contains("rope_parameters") ? "rope_parameters" : "rope_scaling";
  config[key]["original_max_position_embeddings"] = 16;
  CHECK(read_config(config).rope.original_context == 16);
  config["original_max_position_embeddings"] = 24;
  CHECK(read_config(config).rope.original_context == 24);
  auto both = golden_config("families/qwen2_tied");
  both["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5000.0}};
  both["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.0}};
  CHECK(read_config(both).rope.scaling == nn::rope_scaling::linear);
  CHECK(read_config(both).rope.theta == 5000);
}

TEST_CASE("config.json: windows of SmolLM3 without a list of layers are those of layers without rotary") {
  auto config = golden_config("families/smollm3_window");
  config.erase("layer_types");
  const auto read = read_config(config);
  CHECK(read.sliding_window == config["sliding_window"].get<index_t>());
  bool any = false;
  for (index_t i = 0; i < read.num_hidden_layers; ++i) {
    CHECK(read.layer(i).windowed == (read.layer(i).rotary == ops::no_rotary));
    any |= read.layer(i).windowed;
  }
  CHECK(any);
}

TEST_CASE("config.json: what may be left out") {
  auto config = golden_config("mha");
  for (const char* key : {"num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias", "mlp_bias",
                          "hidden_act", "rope_parameters", "rms_norm_eps", "max_position_embeddings"}) {
    config.erase(key);
  }
  const auto read = read_config(config);
  CHECK(read.num_key_value_heads == 2);
  CHECK(read.head_dim == 8);
  CHECK(read.rope.theta == 10000);
  CHECK(read.rms_norm_eps == 1e-6f);
  CHECK(read.max_position_embeddings == 2048);
  CHECK(read.hidden_act == kernels::activation::silu);
  config["head_dim"] = nullptr;
  CHECK(read_config(config).head_dim == 8);
}

TEST_CASE("config.json: null is off, what is left out is what Transformers' class has") {
  for (const char* name : {"families/gemma2_mqa", "families/mistral_window", "families/gemma3_window"}) {
    CAPTURE(name);
    auto config = golden_config(name);
    config.erase("sliding_window");
    CHECK(read_config(config).sliding_window == 4096);
    config.erase("layer_types");
    config["sliding_window"] = nullptr;
    CHECK(read_config(config).sliding_window == 0);
  }
  for (const bool second : {true, false}) {
    const std::string name = second ? "families/gemma2_mqa" : "families/gemma3_window";
    CAPTURE(name);
    auto config = golden_config(name);
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) config.erase(key);
    CHECK(read_config(config).attn_logit_softcapping == (second ? 50.0f : 0.0f));
    CHECK(read_config(config).final_logit_softcapping == (second ? 30.0f : 0.0f));
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) config[key] = nullptr;
    CHECK(read_config(config).attn_logit_softcapping == 0);
    CHECK(read_config(config).final_logit_softcapping == 0);
  }
}

TEST_CASE("config.json: every wrong value is named") {
  const auto refuses = [](const std::string& key, const json& value, std::initializer_list<std::string> parts) {
    auto config = golden_config("llama3");
    if (value.is_discarded())
      config.erase(key);
    else
      config[key] = value;
    CAPTURE(key);
    CAPTURE(value.dump());
    const auto text = message_of<format_error>([&] {
      const auto read = read_config(config);
      models::validate(read, "config.json");
    });
    check_contains(text, {"config.json", key});
    check_contains(text, parts);
  };
  const json missing(json::value_t::discarded);
  for (const char* key :
       {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    refuses(key, missing, {"missing"});
    refuses(key, nullptr, {"missing"});
  }
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    refuses(key, "12", {"expected a whole number", "\"12\""});
    refuses(key, 12.5, {"expected a whole number"});
    refuses(key, 0, {"0"});
    refuses(key, -4, {"-4"});
    refuses(key, std::uint64_t{1} << 63, {"9223372036854775808"});
    refuses(key, 1e300, {"expected a whole number"});
  }
  refuses("model_type", "gpt2", {"expected llama", "gpt2"});
  refuses("model_type", 3, {"expected a string"});
  for (const char* key : {"tie_word_embeddings", "attention_bias", "mlp_bias"})
    refuses(key, 1, {"expected true or false"});
  refuses("rms_norm_eps", "small", {"expected a number"});
  refuses("rms_norm_eps", -1, {"-1"});
  refuses("rope_theta", "big", {"expected a number"});
  refuses("rope_theta", 0, {"0"});
  refuses("hidden_act", "relu", {"expected silu", "relu"});
  refuses("rope_scaling", 7, {"expected an object"});
  refuses("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}, {"rope_type", "dynamic"});
  refuses("rope_scaling", {{"rope_type", "linear"}}, {"factor is missing"});
  refuses("rope_scaling", {{"rope_type", "linear"}, {"factor", "4"}}, {"factor: expected a number"});
  refuses("rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}, {"factor"});
  refuses("rope_scaling", {{"rope_type", "linear"}, {"factor", -2}}, {"factor"});
  for (const char* key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "factor"}) {
    auto scaling = golden_config("llama3")["rope_scaling"];
    scaling.erase(key);
    refuses("rope_scaling", scaling, {std::string(key) + " is missing"});
  }
  auto scaling = golden_config("llama3")["rope_scaling"];
  scaling["low_freq_factor"] = 4.0;
  refuses("rope_scaling", scaling, {"low_freq_factor"});
  scaling["low_freq_factor"] = 1.0;
  scaling["original_max_position_embeddings"] = 0;
  refuses("rope_scaling", scaling, {"original_max_position_embeddings"});
}

TEST_CASE("config.json: what Transformers reads for other families only is refused") {
  auto config = golden_config("mha");
  config["partial_rotary_factor"] = 0.5;
  check_contains(message_of<format_error>([&] { (void)read_config(config); }), {"partial_rotary_factor", "0.5"});
  auto gemma = golden_config("families/gemma_plain");
  gemma["hidden_act"] = "silu";
  check_contains(message_of<format_error>([&] { (void)read_config(gemma); }), {"hidden_act", "gelu", "silu"});
}

TEST_CASE("config.json: files that are none") {
  const runnel_test::scratch_folder folder;
  CHECK_THROWS_AS((void)models::read_hugging_face_config(folder / "config.json"), io_error);
  write_text(folder / "config.json", "");
  CHECK_THROWS_AS((void)models::read_hugging_face_config(folder / "config.json"), io_error);
  for (const char* text : {"{", "[1]", "3", "{\"model_type\": \"llama\",}", "\xff\xfe"}) {
    write_text(folder / "config.json", text);
    check_contains(message_of<format_error>([&] { (void)models::read_hugging_face_config(folder / "config.json"); }),
                   {"config.json"});
  }
  write_text(folder / "config.json", std::string(100000, '[') + std::string(100000, ']'));
  CHECK_THROWS_AS((void)models::read_hugging_face_config(folder / "config.json"), format_error);
  CHECK_THROWS_AS((void)models::read_hugging_face_config(folder.path()), error);
  write_text(folder / "config.json", golden_config("mha").dump());
  CHECK_THROWS_AS((void)models::load_hugging_face_decoder(folder.path()), io_error);  // no weights
}

/// The tensors of a golden directory, to be changed and written again.
struct checkpoint {
  io::safetensors_checkpoint from;
  std::vector<io::safetensors_output> tensors;

  explicit checkpoint(const std::string& name) : from(io::open_safetensors(tests::golden_models() / name)) {
    for (const auto& tensor : from.tensors())
      tensors.push_back({tensor.name, *tensor.format, tensor.shape, tensor.bytes});
  }
  io::safetensors_output& at(const std::string& name) {
    for (auto& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    FAIL("no tensor " << name);
    return tensors.front();
  }
  [[nodiscard]] models::decoder load(const json& config) const {
    const runnel_test::scratch_folder folder;
    write_text(folder / "config.json", config.dump());
    io::write_safetensors(folder / "model.safetensors", tensors);
    return models::load_hugging_face_decoder(folder.path());
  }
};

TEST_CASE("weights that are missing or of another shape are named") {
  const auto config = golden_config("mqa");
  const checkpoint whole("mqa");
  CHECK_NOTHROW((void)whole.load(config));
  for (const auto& tensor : whole.tensors) {
    CAPTURE(tensor.name);
    auto broken = checkpoint("mqa");
    std::erase_if(broken.tensors, [&](const auto& other) { return other.name == tensor.name; });
    check_contains(message_of<format_error>([&] { (void)broken.load(config); }),
                   {"model.safetensors", tensor.name, "missing"});
    // The same bytes under another shape.
    auto other = checkpoint("mqa");
    auto& shape = other.at(tensor.name).shape;
    if (shape.size() == 2)
      std::swap(shape[0], shape[1]);
    else
      shape.push_back(1);
    if (shape.size() == 2 && shape[0] == shape[1]) shape = {shape[0] * shape[1]};
    check_contains(message_of<format_error>([&] { (void)other.load(config); }),
                   {tensor.name, "expected shape", "found"});
  }
}

TEST_CASE("a head that is promised must be there; a tied one need not") {
  auto config = golden_config("gqa");
  const checkpoint tied("gqa");
  CHECK_NOTHROW((void)tied.load(config));
  config["tie_word_embeddings"] = false;
  check_contains(message_of<format_error>([&] { (void)tied.load(config); }), {"lm_head.weight", "missing"});
}

TEST_CASE("a config of another size does not load") {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"}) {
    auto config = golden_config("mha");
    config[key] = config[key].get<int>() + 2;
    CAPTURE(std::string(key));
    CHECK_THROWS_AS((void)checkpoint("mha").load(config), format_error);
  }
}

TEST_CASE("vectors may be stored in any format that holds them, weights in formats the library knows") {
  auto model = checkpoint("mha");
  std::vector<std::byte> ones(16 * 2);
  const std::vector<float> values(16, 1.0f);
  quant::encode(weight_format::bf16, values.data(), 16, ones.data());
  auto& norm = model.at("model.norm.weight");
  norm.format = weight_format::bf16;
  norm.bytes = ones;
  CHECK_NOTHROW((void)model.load(golden_config("mha")));

  // Another type of the same size, by its name in the header.
  const runnel_test::scratch_folder folder;
  write_text(folder / "config.json", golden_config("mha").dump());
  std::ifstream in(tests::golden_models() / "mha" / "model.safetensors", std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto name = bytes.find("model.norm.weight"), type = bytes.find("F32", name);
  REQUIRE(type != std::string::npos);
  bytes.replace(type, 3, "I32");
  write_text(folder / "model.safetensors", bytes);
  check_contains(message_of<format_error>([&] { (void)models::load_hugging_face_decoder(folder.path()); }),
                 {"model.norm.weight", "I32"});
}

/// A golden GGUF file with keys set anew and one tensor left out.
struct gguf_change {
  std::vector<std::string> without;  // keys and tensors
  std::function<void(io::gguf_writer&)> set = [](io::gguf_writer&) {};
};

models::decoder load_changed(const std::string& name, const gguf_change& change) {
  const io::gguf_file from(tests::golden_models() / name / "model.gguf");
  const runnel_test::scratch_folder folder;
  io::gguf_writer out;
  const auto kept = [&](std::string_view what) {
    return std::find(change.without.begin(), change.without.end(), what) == change.without.end();
  };
  for (const auto& entry : from.metadata()) {
    if (kept(entry.key)) out.set(entry.key, entry.value);
  }
  change.set(out);
  for (const auto& tensor : from.tensors()) {
    if (kept(tensor.name)) out.add_tensor(tensor.name, *tensor.format, tensor.shape, tensor.bytes);
  }
  out.write(folder / "model.gguf");
  return models::load_gguf_decoder(io::gguf_file(folder / "model.gguf"));
}

TEST_CASE("GGUF metadata: what is read") {
  const auto config = models::read_gguf_config(io::gguf_file(tests::golden_models() / "gqa" / "model.gguf"));
  CHECK(config.model_type == "llama");
  CHECK(config.vocab_size == 23);
  CHECK(config.head_dim == 10);
  CHECK(config.num_key_value_heads == 2);
  CHECK(config.tie_word_embeddings);
  CHECK(config.rms_norm_eps == 1e-5f);
  CHECK(models::read_gguf_config(io::gguf_file(tests::golden_models() / "mqa" / "model.gguf")).attention_bias);
  CHECK(models::read_gguf_config(io::gguf_file(tests::golden_models() / "mqa" / "model.gguf")).mlp_bias);
  CHECK_NOTHROW((void)load_changed("mha", {}));
  // A head size of hidden / heads need not be said.
  CHECK(load_changed(
            "mha", {{"llama.attention.key_length", "llama.rope.dimension_count", "llama.rope.freq_base"}, [](auto&) {}})
            .config()
            .head_dim == 8);
}

TEST_CASE("GGUF metadata: every wrong value is named") {
  const auto refuses = [](const std::string& name, const gguf_change& change,
                          std::initializer_list<std::string> parts) {
    const auto text = message_of<format_error>([&] { (void)load_changed(name, change); });
    check_contains(text, {"model.gguf"});
    check_contains(text, parts);
  };
  for (const char* key : {"general.architecture", "llama.embedding_length", "llama.feed_forward_length",
                          "llama.block_count", "llama.attention.head_count", "llama.context_length",
                          "llama.attention.layer_norm_rms_epsilon", "token_embd.weight"}) {
    refuses("mha", {{key}, [](auto&) {}}, {key});
  }
  const auto set = [](const char* key, auto value) {
    return gguf_change{{key}, [=](io::gguf_writer& out) { out.set(key, value); }};
  };
  refuses("mha", set("general.architecture", "mamba"), {"general.architecture", "expected llama", "mamba"});
  refuses("mha", set("llama.embedding_length", "wide"), {"llama.embedding_length"});
  refuses("mha", set("llama.embedding_length", std::uint32_t{18}),
          {"blk.0.attn_q.weight", "expected shape [16, 18], found [16, 16]"});
  refuses("mha", set("llama.attention.head_count", std::uint32_t{0}), {"llama.attention.head_count"});
  refuses("mha", set("llama.attention.head_count_kv", std::uint32_t{0}), {"num_key_value_heads"});
  refuses("mha", set("llama.block_count", std::uint32_t{3}), {"blk.2."});
  refuses("mha", set("llama.block_count", std::uint32_t{4000000000u}), {"llama.block_count"});
  refuses("mha", set("llama.context_length", std::uint32_t{0}), {"llama.context_length", "0"});
  refuses("mha", set("llama.rope.dimension_count", std::uint32_t{9}),
          {"llama.rope.dimension_count", "expected up to the head size 8"});
  refuses("mha", set("llama.rope.dimension_count", std::uint32_t{4}),
          {"llama.rope.dimension_count", "expected the head size 8 in a file of llama, found 4"});
  refuses("mha", set("llama.attention.value_length", std::uint32_t{4}), {"llama.attention.value_length", "8"});
  refuses("mha", set("llama.rope.freq_base", -1.0f), {"rope_theta"});
  refuses("mha", set("llama.rope.scaling.type", "dynamic"), {"llama.rope.scaling.type", "dynamic"});
  refuses("mha", set("llama.rope.scaling.type", "yarn"), {"llama.rope.scaling.factor"});
  refuses("mha", set("llama.rope.scaling.type", "longrope"), {"llama.rope.scaling.type", "rope_factors_long.weight"});
  refuses("linear", set("llama.rope.scaling.factor", -2.0f), {"factor"});
}

TEST_CASE("GGUF metadata: linear scaling as files of every age say it") {
  const auto rope_of = [](std::vector<std::string> without, auto&& change) {
    return load_changed("linear", {std::move(without), change}).config().rope;
  };
  const auto usual = rope_of({}, [](auto&) {});
  CHECK(usual.scaling == nn::rope_scaling::linear);
  CHECK(rope_of({"llama.rope.scaling.type"}, [](auto&) {}).factor == usual.factor);
  CHECK(rope_of({"llama.rope.scaling.type", "llama.rope.scaling.factor"}, [](auto& out) {
          out.set("llama.rope.scale_linear", 3.0f);
        }).factor == 3);
  for (const bool is_zero : {false, true}) {
    CHECK(rope_of({"llama.rope.scaling.factor"}, [&](auto& out) {
            if (is_zero) out.set("llama.rope.scaling.factor", 0.0f);
          }).scaling == nn::rope_scaling::none);
  }
}

TEST_CASE("sizes that a file only claims take no memory") {
  const auto huge = [](const char* key, std::uint32_t value) {
    return gguf_change{{key}, [=](io::gguf_writer& out) { out.set(key, value); }};
  };
  for (const char* key : {"llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"}) {
    CHECK_THROWS_AS((void)load_changed("mqa", huge(key, 16000000u)), format_error);
  }
}

TEST_CASE("GGUF weights that are missing or do not fit are named; a bias that only some layers have is missing") {
  const io::gguf_file whole(tests::golden_models() / "mqa" / "model.gguf");
  for (const auto& tensor : whole.tensors()) {
    if (tensor.name == "output.weight") continue;  // then the head is tied
    CAPTURE(tensor.name);
    check_contains(message_of<format_error>([&] {
                     (void)load_changed("mqa", {{tensor.name}, [](auto&) {}});
                   }),
                   {tensor.name});
  }
  const std::vector<float> few(3, 1.0f), negative(8, -1.0f);
  check_contains(message_of<format_error>([&] {
                   (void)load_changed("llama3", {{"rope_freqs.weight"}, [&](io::gguf_writer& out) {
                                                   out.add_tensor("rope_freqs.weight", weight_format::f32, {3},
                                                                  std::as_bytes(std::span(few)));
                                                 }});
                 }),
                 {"rope_freqs.weight", "8"});
  check_contains(message_of<format_error>([&] {
                   (void)load_changed("llama3", {{"rope_freqs.weight"}, [&](io::gguf_writer& out) {
                                                   out.add_tensor("rope_freqs.weight", weight_format::f32, {8},
                                                                  std::as_bytes(std::span(negative)));
                                                 }});
                 }),
                 {"rope_freqs.weight", "positive"});
}

TEST_CASE("interleaved rows are put back into halves") {
  const auto order = models::interleaved_row_order(2, 6);
  CHECK(order == std::vector<index_t>{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11});
}

TEST_CASE("layers are numbered into names") {
  CHECK(models::with_layer("blk.{}.attn_q", 12) == "blk.12.attn_q");
  CHECK(models::with_layer("output_norm", 12) == "output_norm");
}

}  // namespace
