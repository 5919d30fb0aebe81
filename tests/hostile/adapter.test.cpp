// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters that lie, as PEFT directories and as GGUF files.
#include "hostile.hpp"

#include <limits>

#include <nlohmann/json.hpp>

#include <runnel/models/adapter.hpp>
#include <runnel/models/gguf_model.hpp>

namespace {

using namespace runnel_test;
using nlohmann::json;

constexpr const char* query = "base_model.model.model.layers.0.self_attn.q_proj";

/// A PEFT directory for the model of this room, with one pair of matrices of rank 2.
class adapter_directory {
 public:
  adapter_directory()
      : base_(runnel::models::load_gguf_decoder(runnel::io::gguf_file(in_memory(model_file().bytes(), "base.gguf")))) {
    config_ = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"q_proj"}}};
    header_[std::string(query) + ".lora_A.weight"] = {{"dtype", "F32"}, {"shape", {2, 4}}, {"data_offsets", {0, 32}}};
    header_[std::string(query) + ".lora_B.weight"] = {{"dtype", "F32"}, {"shape", {4, 2}}, {"data_offsets", {32, 64}}};
  }

  [[nodiscard]] const json& config() const { return config_; }
  [[nodiscard]] const json& header() const { return header_; }
  [[nodiscard]] static std::string weights(const json& header, std::size_t data = 64) {
    const auto text = header.dump();
    return byte_builder().number(std::uint64_t{text.size()}).raw(text).zeros(data).text();
  }

  void load(const std::string& config, const std::string& weights) const {
    replace(folder_ / "adapter_config.json", config);
    replace(folder_ / "adapter_model.safetensors", weights);
    static_cast<void>(runnel::models::load_adapter(folder_.path(), base_));
  }
  void load_gguf(const std::string& bytes) const {
    replace(folder_ / "adapter.gguf", bytes);
    static_cast<void>(runnel::models::load_adapter(folder_ / "adapter.gguf", base_));
  }

  [[nodiscard]] hostile_case with_config(const char* key, const json& value, std::vector<std::string> parts) const {
    auto config = config_;
    if (value.is_discarded()) {
      config.erase(key);
    } else {
      config[key] = value;
    }
    return with_config(config.dump(), std::move(parts));
  }
  [[nodiscard]] hostile_case with_config(const std::string& bytes, std::vector<std::string> parts) const {
    parts.emplace_back("adapter_config.json");
    return {bytes.substr(0, 200), [this, bytes] { load(bytes, weights(header_)); }, std::move(parts)};
  }
  [[nodiscard]] hostile_case with_weights(std::string about, const std::string& bytes,
                                          std::vector<std::string> parts) const {
    return {std::move(about), [this, bytes] { load(config_.dump(), bytes); }, std::move(parts)};
  }

 private:
  runnel::models::decoder base_;
  json config_, header_;
  scratch_folder folder_;
};

/// The same adapter as a GGUF file.
gguf_builder gguf_adapter(const std::function<void(gguf_builder&)>& rest) {
  gguf_builder out;
  rest(out);
  out.data = std::string(64, '\0');
  return out;
}

gguf_builder& described(gguf_builder& out) {
  out.string("general.type", "adapter").string("adapter.type", "lora").string("general.architecture", "llama");
  return out.entry("adapter.lora.alpha", 6, byte_builder().number(4.0f));
}

const json missing(json::value_t::discarded);

}  // namespace

TEST_CASE("adapter_config.json") {
  const adapter_directory folder;
  CHECK_NOTHROW(folder.load(folder.config().dump(), folder.weights(folder.header())));
  check_refused({
      folder.with_config("peft_type", missing, {"peft_type"}),
      folder.with_config("peft_type", "PROMPT_TUNING", {"peft_type", "PROMPT_TUNING"}),
      folder.with_config("peft_type", 7, {"peft_type"}),
      folder.with_config("r", missing, {"r "}),
      folder.with_config("r", "2", {"r:"}),
      folder.with_config("r", 3, {"rank 3", "2"}),
      folder.with_config("r", 0, {"rank 0", "2"}),
      folder.with_config("r", -2, {"rank -2"}),
      folder.with_config("r", 1e300, {"rank"}),
      folder.with_config("lora_alpha", missing, {"lora_alpha"}),
      folder.with_config("lora_alpha", "4", {"lora_alpha"}),
      folder.with_config("lora_alpha", nullptr, {"lora_alpha"}),
      folder.with_config("use_rslora", "yes", {"use_rslora"}),
      folder.with_config("use_dora", true, {"use_dora"}),
      folder.with_config("rank_pattern", {{"q_proj", 8}}, {"rank 8", "2"}),
      folder.with_config("rank_pattern", {{"(a+)+$", 2}}, {"(a+)+$"}),
      folder.with_config("rank_pattern", {{"q_proj", "2"}}, {"rank_pattern"}),
      folder.with_config("alpha_pattern", 7, {"alpha_pattern"}),
      folder.with_config("modules_to_save", {"lm_head"}, {"modules_to_save"}),
      folder.with_config("{}", {"peft_type"}),
      folder.with_config("[]", {"expected an object"}),
      folder.with_config("{\"x\":" + std::string(500'000, '['), {"nested"}),
      folder.with_config(std::string(17 << 20, ' '), {"at most"}),
  });
}

TEST_CASE("matrices of an adapter") {
  const adapter_directory folder;
  const std::string a = std::string(query) + ".lora_A.weight", b = std::string(query) + ".lora_B.weight";
  const auto with = [&](const std::function<void(json&)>& change, std::size_t data = 64) {
    auto header = folder.header();
    change(header);
    return folder.weights(header, data);
  };
  const auto renamed = [&](const std::string& name, const std::string& other) {
    return with([&](json& h) {
      h[other] = h[name];
      h.erase(name);
    });
  };
  const std::string file = "adapter_model.safetensors";
  check_refused({
      // L#27056: what was cut off became zeros.
      folder.with_weights("cut short", folder.weights(folder.header()).substr(0, 300), {file}),
      folder.with_weights("data cut short", folder.weights(folder.header(), 63), {file, b}),
      folder.with_weights("B is missing", with([&](json& h) { h.erase(b); }, 32), {file, "lora_B", "missing"}),
      folder.with_weights("A is missing",
                          with(
                              [&](json& h) {
                                h.erase(a), h[b]["data_offsets"] = {0, 32};
                              },
                              32),
                          {file, "lora_B"}),
      folder.with_weights("A of one row", with([&](json& h) {
                            h[a]["shape"] = {1, 8};
                          }),
                          {file, "lora_A"}),
      folder.with_weights("A of no rows",
                          with(
                              [&](json& h) {
                                h[a]["shape"] = {0, 4}, h[a]["data_offsets"] = {0, 0}, h[b]["data_offsets"] = {0, 32};
                              },
                              32),
                          {file, "lora_A"}),
      folder.with_weights("A of rank 2^63",
                          with(
                              [&](json& h) {
                                h[a]["shape"] = {std::uint64_t{1} << 63, 0}, h[a]["data_offsets"] = {0, 0};
                                h[b]["data_offsets"] = {0, 32};
                              },
                              32),
                          {file, "lora_A"}),
      folder.with_weights("A of one dimension", with([&](json& h) { h[a]["shape"] = {8}; }), {file, "lora_A"}),
      folder.with_weights("A of no dimensions",
                          with(
                              [&](json& h) {
                                h[a]["shape"] = json::array(), h[a]["data_offsets"] = {0, 4};
                                h[b]["data_offsets"] = {4, 36};
                              },
                              36),
                          {file, "lora_A"}),
      folder.with_weights("B turned", with([&](json& h) {
                            h[b]["shape"] = {2, 4};
                          }),
                          {file, "lora_B", "shape"}),
      folder.with_weights("A as whole numbers", with([&](json& h) { h[a]["dtype"] = "I32"; }), {file, "lora_A", "I32"}),
      folder.with_weights("a layer that is not there",
                          renamed(a, "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"),
                          {file, "lora_"}),
      // L#29128: experts that the model does not have.
      folder.with_weights("a module that is not there",
                          renamed(a, "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_A.weight"),
                          {file, "lora_"}),
      folder.with_weights("an embedding",
                          with(
                              [&](json& h) {
                                h["base_model.model.model.embed_tokens.lora_embedding_A"] = {
                                    {"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {64, 68}}};
                              },
                              68),
                          {file, "lora_embedding_A"}),
  });
  check_refused<runnel::io_error>({{"no such directory",
                                    [&] {
                                      const runnel::models::decoder base = runnel::models::load_gguf_decoder(
                                          runnel::io::gguf_file(in_memory(model_file().bytes(), "base.gguf")));
                                      static_cast<void>(runnel::models::load_adapter("/no/such/adapter", base));
                                    },
                                    {"/no/such/adapter"}}});
}

TEST_CASE("adapters in GGUF files") {
  const adapter_directory folder;
  const auto matrices = [](gguf_builder& out) -> gguf_builder& {
    return out.tensor("blk.0.attn_q.weight.lora_a", {4, 2}, 0, 0).tensor("blk.0.attn_q.weight.lora_b", {2, 4}, 0, 32);
  };
  CHECK_NOTHROW(folder.load_gguf(gguf_adapter([&](auto& f) { matrices(described(f)); }).build()));
  std::vector<hostile_case> cases;
  const auto add = [&](const char* about, std::vector<std::string> parts,
                       const std::function<void(gguf_builder&)>& content) {
    parts.emplace_back("adapter.gguf");
    cases.push_back(
        {about, [&folder, bytes = gguf_adapter(content).build()] { folder.load_gguf(bytes); }, std::move(parts)});
  };
  add("a model", {"general.type"}, [&](auto& f) { matrices(f.string("general.architecture", "llama")); });
  add("a control vector", {"adapter.type"}, [&](auto& f) {
    matrices(
        f.string("general.type", "adapter").string("adapter.type", "vector").string("general.architecture", "llama"));
  });
  add("another architecture", {"general.architecture", "qwen2"}, [&](auto& f) {
    matrices(
        f.string("general.type", "adapter").string("adapter.type", "lora").string("general.architecture", "qwen2"));
  });
  const auto with_alpha = [&](auto value, std::uint32_t type) {
    return [&matrices, value, type](gguf_builder& f) {
      f.string("general.type", "adapter").string("adapter.type", "lora").string("general.architecture", "llama");
      matrices(f.entry("adapter.lora.alpha", type, byte_builder().number(value)));
    };
  };
  add("alpha as a whole number", {"adapter.lora.alpha"}, with_alpha(std::uint32_t{4}, 4));
  add("alpha that is no number", {"adapter.lora.alpha"}, with_alpha(std::numeric_limits<float>::quiet_NaN(), 6));
  add("an endless alpha", {"adapter.lora.alpha"}, with_alpha(std::numeric_limits<float>::infinity(), 6));
  add("no alpha", {"adapter.lora.alpha"}, [&](auto& f) {
    matrices(
        f.string("general.type", "adapter").string("adapter.type", "lora").string("general.architecture", "llama"));
  });
  add("b is missing", {"lora_b"}, [&](auto& f) { described(f).tensor("blk.0.attn_q.weight.lora_a", {4, 2}, 0, 0); });
  add("a is missing", {"lora_b"}, [&](auto& f) { described(f).tensor("blk.0.attn_q.weight.lora_b", {2, 4}, 0, 0); });
  add("ranks that differ", {"lora_b"}, [&](auto& f) {
    described(f).tensor("blk.0.attn_q.weight.lora_a", {4, 2}, 0, 0).tensor("blk.0.attn_q.weight.lora_b", {1, 4}, 0, 32);
  });
  add("a layer that is not there", {"blk.9.attn_q"}, [&](auto& f) {
    described(f).tensor("blk.9.attn_q.weight.lora_a", {4, 2}, 0, 0).tensor("blk.9.attn_q.weight.lora_b", {2, 4}, 0, 32);
  });
  add("experts that are not there (L#29128)", {"ffn_gate_exps"}, [&](auto& f) {
    described(f).tensor("blk.0.ffn_gate_exps.weight.lora_a", {4, 2, 1}, 0, 0);
  });
  add("a matrix beyond the file (L#27056)", {"lora_a"}, [&](auto& f) {
    described(f).tensor("blk.0.attn_q.weight.lora_a", {4, 1000}, 0, 0);
  });
  check_refused(cases);
}

TEST_CASE("files of an adapter cut anywhere, and with any byte changed, are read or refused") {
  const adapter_directory folder;
  const auto config = folder.config().dump(), weights = folder.weights(folder.header());
  for (std::size_t size = 1; size < config.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(reads_or_refuses([&] { folder.load(config.substr(0, size), weights); }));
  }
  for (std::size_t size = 1; size < weights.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(reads_or_refuses([&] { folder.load(config, weights.substr(0, size)); }));
  }
  for (const unsigned change : {0x01u, 0x10u, 0x80u}) {
    for (std::size_t at = 0; at < config.size() + weights.size(); ++at) {
      CAPTURE(at);
      auto both = config + weights;
      both[at] = static_cast<char>(static_cast<unsigned char>(both[at]) ^ change);
      static_cast<void>(
          reads_or_refuses([&] { folder.load(both.substr(0, config.size()), both.substr(config.size())); }));
    }
  }
}
