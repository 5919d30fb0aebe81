// SPDX-License-Identifier: Apache-2.0
// Hugging Face directories: each of their files lies in turn.
#include "hostile.hpp"

#include <nlohmann/json.hpp>

#include <runnel/stream/load.hpp>
#include <runnel/text/byte_alphabet.hpp>

namespace {

using namespace runnel_test;
using nlohmann::json;

/// A small model as a directory, and what each file says when it is right.
class model_directory {
 public:
  model_directory() {
    config_ = {{"model_type", "llama"},    {"vocab_size", 7},
               {"hidden_size", 4},         {"intermediate_size", 4},
               {"num_hidden_layers", 1},   {"num_attention_heads", 2},
               {"num_key_value_heads", 1}, {"tie_word_embeddings", true}};
    tokenizer_ = {
        {"model",
         {{"type", "BPE"},
          {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 6}}},
          {"merges", {"a b", "ab c"}}}},
        {"added_tokens",
         {{{"id", 4}, {"content", "<s>"}, {"special", true}}, {{"id", 5}, {"content", "</s>"}, {"special", true}}}},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
    tokenizer_config_ = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", "{{ messages }}"}};
    generation_config_ = {{"eos_token_id", {5}}};
    std::uint64_t at = 0;
    header_ = json::object();
    const auto add = [&](const char* name, std::vector<std::uint64_t> shape) {
      std::uint64_t bytes = 4;
      for (const auto size : shape) bytes *= size;
      header_[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {at, at + bytes}}};
      at += bytes;
    };
    add("model.embed_tokens.weight", {7, 4});
    add("model.norm.weight", {4});
    for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
      add(("model.layers.0." + std::string(name) + ".weight").c_str(), {4});
    }
    for (const auto& [name, rows] : {std::pair<std::string, std::uint64_t>{"self_attn.q_proj", 4},
                                     {"self_attn.k_proj", 2},
                                     {"self_attn.v_proj", 2},
                                     {"self_attn.o_proj", 4},
                                     {"mlp.gate_proj", 4},
                                     {"mlp.up_proj", 4},
                                     {"mlp.down_proj", 4}}) {
      add(("model.layers.0." + name + ".weight").c_str(), {rows, 4});
    }
    data_ = at;
    restore();
  }

  [[nodiscard]] const json& config() const { return config_; }
  [[nodiscard]] const json& tokenizer() const { return tokenizer_; }
  [[nodiscard]] const json& tokenizer_config() const { return tokenizer_config_; }
  [[nodiscard]] const json& generation_config() const { return generation_config_; }
  [[nodiscard]] const json& header() const { return header_; }

  [[nodiscard]] std::string weights(const json& header) const {
    const auto text = header.dump();
    return byte_builder().number(std::uint64_t{text.size()}).raw(text).zeros(data_).text();
  }

  void set(std::string_view file, std::string_view bytes) const { replace(folder_ / file, bytes); }
  void remove(std::string_view file) const { std::filesystem::remove(folder_ / file); }
  void restore() const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) std::filesystem::remove(entry.path());
    set("config.json", config_.dump());
    set("tokenizer.json", tokenizer_.dump());
    set("tokenizer_config.json", tokenizer_config_.dump());
    set("generation_config.json", generation_config_.dump());
    set("model.safetensors", weights(header_));
  }

  [[nodiscard]] runnel::stream::language_model load() const { return runnel::stream::load_model(folder_.path()); }

  /// Loads with one file's content replaced.
  void load_with(const std::string& file, const std::string& bytes) const {
    restore();
    set(file, bytes);
    static_cast<void>(load());
  }

 private:
  json config_, tokenizer_, tokenizer_config_, generation_config_, header_;
  std::uint64_t data_ = 0;
  scratch_folder folder_;
};

/// Cases of one file of a directory.
class file_cases {
 public:
  file_cases(const model_directory& folder, std::string file) : folder_(folder), file_(std::move(file)) {}

  file_cases& text(std::string about, std::string bytes, std::vector<std::string> parts) {
    parts.push_back(file_);
    cases_.push_back({file_ + ": " + std::move(about),
                      [this, bytes = std::move(bytes)] { folder_.load_with(file_, bytes); }, std::move(parts)});
    return *this;
  }
  /// `base` with the value at `path` set to `value`, or taken away if that is discarded.
  file_cases& set(json base, const std::string& path, const json& value, std::vector<std::string> parts) {
    const json::json_pointer at(path);
    std::string about = path + " = " + (value.is_discarded() ? "nothing" : value.dump().substr(0, 60));
    if (value.is_discarded()) {
      base[at.parent_pointer()].erase(at.back());
    } else {
      base[at] = value;
    }
    return text(std::move(about), base.dump(), std::move(parts));
  }
  void check() const { check_refused(cases_); }

 private:
  const model_directory& folder_;
  std::string file_;
  std::vector<hostile_case> cases_;
};

const json missing(json::value_t::discarded);

}  // namespace

TEST_CASE("the directory that the others are made from is read") {
  const model_directory folder;
  const auto model = folder.load();
  CHECK(model.network->config().hidden_size == 4);
  CHECK(model.tokenizer->encode("abcab") == std::vector<std::int32_t>{6, 3});
  CHECK(model.tokenizer->is_eos(5));
}

TEST_CASE("config.json") {
  const model_directory folder;
  file_cases cases(folder, "config.json");
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    const auto path = std::string("/") + key;
    cases.set(folder.config(), path, missing, {key, "missing"});
    cases.set(folder.config(), path, nullptr, {key, "missing"});
  }
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    const auto path = std::string("/") + key;
    cases.set(folder.config(), path, "4", {key, "\"4\""});
    cases.set(folder.config(), path, 4.5, {key});
    cases.set(folder.config(), path, json::array({4}), {key});
    cases.set(folder.config(), path, 0, {key, "found 0"});
    cases.set(folder.config(), path, -4, {key, "found -4"});
    cases.set(folder.config(), path, 1e300, {key});
  }
  for (const char* key : {"rms_norm_eps", "rope_theta", "partial_rotary_factor"}) {
    cases.set(folder.config(), std::string("/") + key, "1", {key});
    cases.set(folder.config(), std::string("/") + key, -1, {key});
  }
  cases.set(folder.config(), "/rope_theta", 0, {"rope_theta"});
  cases.set(folder.config(), "/model_type", missing, {"model_type", "missing"});
  cases.set(folder.config(), "/model_type", "parrot", {"model_type", "parrot"});
  cases.set(folder.config(), "/model_type", 7, {"model_type"});
  cases.set(folder.config(), "/hidden_act", "relu9", {"hidden_act", "relu9"});
  cases.set(folder.config(), "/rope_scaling", 7, {"rope_scaling"});
  cases.set(folder.config(), "/rope_scaling", {{"rope_type", "parrot"}}, {"rope_type", "parrot"});
  cases.set(folder.config(), "/rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}, {"factor"});
  cases.set(folder.config(), "/rope_scaling",
            {{"rope_type", "llama3"},
             {"factor", 2},
             {"low_freq_factor", 1},
             {"high_freq_factor", 1},
             {"original_max_position_embeddings", 8}},
            {"low_freq_factor"});
  cases.set(folder.config(), "/rope_scaling",
            {{"rope_type", "llama3"},
             {"factor", 2},
             {"low_freq_factor", 1},
             {"high_freq_factor", 4},
             {"original_max_position_embeddings", 0}},
            {"original_max_position_embeddings"});
  cases.text("nothing", "{}", {"missing"});
  cases.text("a list", "[]", {"expected an object"});
  cases.text("half", folder.config().dump().substr(0, 40), {"JSON"});
  cases.text("deep", "{\"x\":" + std::string(1'000'000, '['), {"nested"});
  cases.text("bytes that are no UTF-8", "{\"model_type\": \"\xff\"}", {"JSON"});
  cases.text("17 MiB", "{\"x\": \"" + std::string(17 << 20, 'x') + "\"}", {"at most"});
  cases.check();
}

TEST_CASE("config.json: sizes that are only claimed") {
  const model_directory folder;
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const std::int64_t size : {std::int64_t{1000}, std::int64_t{1} << 24, std::int64_t{1} << 40,
                                    std::int64_t{1} << 62, std::numeric_limits<std::int64_t>::max()}) {
      CAPTURE(key);
      CAPTURE(size);
      auto config = folder.config();
      config[key] = size;
      const bool was_read = reads_or_refuses([&] { folder.load_with("config.json", config.dump()); });
      CHECK((!was_read || key == std::string_view("max_position_embeddings")));
    }
  }
}

TEST_CASE("tokenizer.json") {
  const model_directory folder;
  file_cases cases(folder, "tokenizer.json");
  const auto& whole = folder.tokenizer();
  // HT#2151: panics on members of another type. Each is set to each.
  const std::vector<json> wrong{7, "x", json::array({7}), {{"x", 7}}, true};
  for (const char* path : {"/model", "/model/vocab", "/model/merges", "/added_tokens", "/added_tokens/0",
                           "/added_tokens/0/id", "/added_tokens/0/content", "/added_tokens/0/special", "/pre_tokenizer",
                           "/pre_tokenizer/type", "/model/type", "/model/vocab/a"}) {
    const auto right = whole[json::json_pointer(path)].type();
    for (const auto& value : wrong) {
      if (value.type() == right || (value.is_number() && whole[json::json_pointer(path)].is_number())) continue;
      cases.set(whole, path, value, {});
    }
  }
  for (const char* path :
       {"/model", "/model/vocab", "/model/merges", "/pre_tokenizer", "/added_tokens/0/id", "/added_tokens/0/content"}) {
    cases.set(whole, path, missing, {});
  }
  cases.set(whole, "/model/vocab/abc", -1, {"abc"});
  cases.set(whole, "/model/vocab/abc", 0, {"abc", "0"});
  cases.set(whole, "/model/vocab/abc", 2147483647, {"abc"});
  cases.set(whole, "/model/vocab/abc", 4294967296, {"abc"});
  cases.set(whole, "/model/vocab/abc", 6.5, {"abc"});
  cases.set(whole, "/model/vocab/abc", 200000, {"abc", "200000"});
  cases.set(whole, "/added_tokens/0/id", 2147483647, {"<s>"});
  cases.set(whole, "/added_tokens/0/id", 0, {"<s>"});
  cases.set(whole, "/model/merges/0", "ab", {"merges[0]"});
  cases.set(whole, "/model/merges/0", json::array({"a"}), {"merges[0]"});
  cases.set(whole, "/model/merges/0", json::array({"a", 1}), {"merges[0]"});
  // HT#2094: a merge whose token is not there.
  cases.set(whole, "/model/merges/0", "c b", {"\"cb\""});
  cases.set(whole, "/model/merges/0", "a x", {"\"x\""});
  cases.set(whole, "/model/unk_token", "<gone>", {"<gone>"});
  cases.set(whole, "/model/vocab", json::object(), {"empty"});
  cases.set(whole, "/pre_tokenizer",
            {{"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}},  // HT#2060
               {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}},
            {"(a+)+$"});
  cases.text("nothing", "{}", {});
  cases.text("a list", "[]", {"expected an object"});
  cases.text("deep", "{\"model\":" + std::string(1'000'000, '['), {"nested"});
  cases.check();
}

TEST_CASE("what lies beside tokenizer.json") {
  const model_directory folder;
  file_cases config(folder, "tokenizer_config.json");
  for (const char* key : {"/bos_token", "/eos_token", "/unk_token", "/pad_token"}) {
    const bool needed = key == std::string_view("/bos_token") || key == std::string_view("/eos_token");
    if (needed) config.set(folder.tokenizer_config(), key, "<gone>", {key + 1, "<gone>"});
    config.set(folder.tokenizer_config(), key, 5, {key + 1});
    config.set(folder.tokenizer_config(), key, {{"id", 5}}, {key + 1});
  }
  config.set(folder.tokenizer_config(), "/chat_template", 7, {"chat_template"});
  config.set(folder.tokenizer_config(), "/chat_template", json::array({7}), {"chat_template[0]"});
  config.set(folder.tokenizer_config(), "/add_bos_token", "yes", {"add_bos_token"});
  config.text("half", "{\"bos_token\"", {"JSON"});
  config.text("17 MiB", std::string(17 << 20, ' '), {"at most"});
  config.check();
  // GHSA-g4cc-763q-h9h6: the vocabulary lacks the id.
  file_cases generation(folder, "generation_config.json");
  generation.set(folder.generation_config(), "/eos_token_id", "5", {"eos_token_id"});
  generation.set(folder.generation_config(), "/eos_token_id", -1, {"eos_token_id"});
  generation.set(folder.generation_config(), "/eos_token_id", 4294967296, {"eos_token_id"});
  generation.set(folder.generation_config(), "/eos_token_id", json::array({5, "x"}), {"eos_token_id"});
  generation.check();
  auto beyond = folder.generation_config();
  beyond["eos_token_id"] = 7;
  check_refused({{"an end that no token has",
                  [&] { folder.load_with("generation_config.json", beyond.dump()); },
                  {"tokenizer.json", "eos", "7"}}});
  folder.restore();
  folder.set("chat_template.jinja", std::string(17 << 20, '{'));
  check_refused({{"a template of 17 MiB", [&] { static_cast<void>(folder.load()); }, {"chat_template.jinja"}}});
}

TEST_CASE("weights that do not fit the config") {
  const model_directory folder;
  file_cases cases(folder, "model.safetensors");
  for (const auto& [name, tensor] : folder.header().items()) {
    auto without = folder.header();
    auto other = without;
    without.erase(name);
    // A hole would be found first: the bytes go to a tensor that nobody asks for.
    without["other"] = tensor;
    cases.text(name + " is missing", folder.weights(without), {name, "missing"});
    other[name]["shape"] = {2, tensor["data_offsets"][1].get<int>() / 8 - tensor["data_offsets"][0].get<int>() / 8, 1};
    cases.text(name + " of another shape", folder.weights(other), {name, "shape"});
    other = folder.header();
    other[name]["dtype"] = "I32";
    cases.text(name + " of whole numbers", folder.weights(other), {name, "I32"});
  }
  cases.text("no file", "x", {"header length"});
  cases.check();
}

TEST_CASE("indexes of several files") {
  const model_directory folder;
  const auto load_with = [&](const std::string& index, bool with_part = true) {
    folder.restore();
    folder.remove("model.safetensors");
    if (with_part) folder.set("part.safetensors", folder.weights(folder.header()));
    folder.set("model.safetensors.index.json", index);
    static_cast<void>(folder.load());
  };
  json map = json::object();
  for (const auto& [name, tensor] : folder.header().items()) map[name] = "part.safetensors";
  CHECK_NOTHROW(load_with(json{{"weight_map", map}}.dump()));
  std::vector<hostile_case> cases;
  const auto add = [&](const char* about, const std::string& index, std::vector<std::string> parts) {
    parts.emplace_back("model.safetensors.index.json");
    cases.push_back({about, [&load_with, index] { load_with(index); }, std::move(parts)});
  };
  const auto with = [&](const std::string& name, const json& file) {
    auto changed = map;
    changed[name] = file;
    return json{{"weight_map", changed}}.dump();
  };
  add("a tensor that the file lacks", with("more", "part.safetensors"), {"'more'", "part.safetensors"});
  add("a file outside of the folder", with("more", "../part.safetensors"), {"'../part.safetensors'"});
  add("a file of the system", with("more", "/etc/passwd"), {"'/etc/passwd'"});
  add("a device", with("more", "/dev/zero"), {"'/dev/zero'"});
  add("a number", with("more", 7), {"'more'"});
  add("no map", "{}", {"weight_map"});
  add("an empty map", R"({"weight_map":{}})", {"empty"});
  add("deep", R"({"m":)" + std::string(500'000, '['), {"nested"});
  check_refused(cases);
  check_refused<runnel::io_error>({{"a file that is not there",
                                    [&] {
                                      load_with(json{{"weight_map", map}}.dump(), false);
                                    },
                                    {"part.safetensors"}}});
}

TEST_CASE("files of a directory cut anywhere, and with any byte changed, are read or refused") {
  const model_directory folder;
  const auto header = folder.weights(folder.header());
  const std::vector<std::pair<std::string, std::string>> files{
      {"config.json", folder.config().dump()},
      {"tokenizer.json", folder.tokenizer().dump()},
      {"tokenizer_config.json", folder.tokenizer_config().dump()},
      {"generation_config.json", folder.generation_config().dump()},
      {"model.safetensors", header}};
  for (const auto& one : files) {
    const auto& file = one.first;
    const auto& bytes = one.second;
    CAPTURE(file);
    folder.restore();
    const auto attempt = [&](const std::string& changed) {
      folder.set(file, changed);
      return reads_or_refuses([&] { static_cast<void>(folder.load()); });
    };
    for (std::size_t size = 1; size < bytes.size(); size += file == "model.safetensors" ? 5U : 1U) {
      CAPTURE(size);
      CHECK_FALSE(attempt(bytes.substr(0, size)));
    }
    const std::size_t end = file == "model.safetensors" ? bytes.size() - std::size_t{600} : bytes.size();
    for (std::size_t at = 0; at < end; ++at) {
      CAPTURE(at);
      for (const unsigned change : {0x01u, 0x80u}) {
        auto changed = bytes;
        changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ change);
        static_cast<void>(attempt(changed));
      }
    }
    CHECK(attempt(bytes));
  }
}
