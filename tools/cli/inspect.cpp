// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/models/gguf_model.hpp>
#include <runnel/models/hugging_face_model.hpp>
#include <runnel/text/chat_format.hpp>

#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

using json = nlohmann::ordered_json;

/// JSON on one line, control characters escaped.
std::string on_one_line(const json& value) {
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// Makes the report of `inspect`: everything it prints, as one JSON object.
class inspector {
 public:
  inspector(std::filesystem::path path, bool full) : path_(std::move(path)), full_(full) {}

  json report() {
    json out;
    std::error_code problem;
    out["path"] = path_.string();
    const bool folder = std::filesystem::is_directory(path_, problem);
    const bool has_weights = !folder || std::filesystem::exists(path_ / "model.safetensors", problem) ||
                             std::filesystem::exists(path_ / "model.safetensors.index.json", problem);
    expect<io_error>(has_weights || std::filesystem::exists(path_ / "config.json", problem) ||
                         std::filesystem::exists(path_ / "tokenizer.json", problem) ||
                         std::filesystem::exists(path_ / "tokenizer.model", problem),
                     path_.string(),
                     ": expected config.json, tokenizer.json or model.safetensors in the folder, found none");
    if (has_weights) file_.emplace(path_);
    out["container"] = container(folder);
    out["metadata"] = metadata(folder);
    if (!folder && file_->gguf() == nullptr) {
      problems_.push_back(
          "these are weights alone; a model is a folder with config.json and tokenizer.json beside them");
    } else {
      add_config(out);
      add_tokenizer(out);
    }
    add_tensors(out);
    out["supported"] = problems_.empty();
    out["problems"] = problems_;
    return out;
  }

 private:
  [[nodiscard]] json container(bool folder) const {
    if (file_ && file_->gguf() != nullptr) {
      const auto& gguf = *file_->gguf();
      return {{"kind", "gguf"},
              {"version", gguf.version()},
              {"alignment", gguf.alignment()},
              {"bytes", gguf.file().bytes().size()}};
    }
    json names = json::array();
    if (file_) {
      for (const auto& part : file_->safetensors()->files()) {
        names.push_back(std::filesystem::path(part.name()).filename().string());
      }
    }
    return {{"kind", folder ? "hugging face folder" : "safetensors"}, {"weights", std::move(names)}};
  }

  [[nodiscard]] json metadata(bool folder) const {
    json lines = json::array();
    if (file_ && file_->gguf() != nullptr) {
      for (const auto& entry : file_->gguf()->metadata()) lines.push_back(describe(entry));
      return lines;
    }
    if (file_) {
      for (const auto& part : file_->safetensors()->files()) {
        for (const auto& [key, value] : part.metadata()) {
          lines.push_back({{"key", key}, {"type", "string"}, {"value", shortened(value)}});
        }
      }
    }
    if (folder) add_config_json(lines);
    return lines;
  }

  /// The members of config.json, as they are.
  void add_config_json(json& lines) const {
    std::ifstream in(path_ / "config.json", std::ios::binary);
    if (!in) return;
    const json root = json::parse(in, nullptr, false);
    if (!root.is_object()) return;  // add_config says what is wrong
    for (const auto& [key, value] : root.items()) {
      json line{{"key", key}, {"type", value.type_name()}};
      line["value"] = value.is_string() ? json(shortened(value.get<std::string>())) : value;
      lines.push_back(std::move(line));
    }
  }

  json describe(const io::gguf_entry& entry) const {
    json line{{"key", std::string(entry.key)}};
    const io::gguf_value& value = entry.value;
    if (!value.is_array()) {
      line["type"] = std::string(info(value.type()).name);
      line["value"] = plain(value);
      return line;
    }
    line["type"] = message("array of ", info(value.element_type()).name);
    line["length"] = value.size();
    json shown = json::array();
    constexpr std::size_t some = 6;
    for (std::size_t i = 0; i < value.size() && (full_ || i < some); ++i) shown.push_back(plain(value.element(i)));
    line["value"] = std::move(shown);
    return line;
  }

  json plain(const io::gguf_value& value) const {
    if (const auto text = value.as<std::string_view>()) return shortened(*text);
    if (const auto truth = value.as<bool>()) return *truth;
    if (const auto number = value.as<std::int64_t>()) return *number;
    if (const auto number = value.as<std::uint64_t>()) return *number;
    return value.as<double>().value_or(0);
  }

  std::string shortened(std::string_view text) const {
    constexpr std::size_t some = 120;
    if (full_ || text.size() <= some) return std::string(text);
    const auto cut = text.substr(0, some);
    return std::string(cut.substr(0, cut.size() - unicode::incomplete_tail(cut))) +
           message("... (", text.size(), " bytes)");
  }

  /// Calls `part`; what it throws becomes a problem of the model instead of an end of the report.
  template <class Part>
  void attempt(Part&& part) {
    try {
      part();
    } catch (const error& problem) {
      problems_.push_back(problem.what());
    }
  }

  void add_config(json& out) {
    out["config"] = nullptr;
    attempt([&] {
      const auto config = file_ && file_->gguf() != nullptr ? models::read_gguf_config(*file_->gguf())
                                                            : models::read_hugging_face_config(path_ / "config.json");
      json shown{{"model_type", config.model_type},
                 {"vocab_size", config.vocab_size},
                 {"hidden_size", config.hidden_size},
                 {"intermediate_size", config.intermediate_size},
                 {"num_hidden_layers", config.num_hidden_layers},
                 {"num_attention_heads", config.num_attention_heads},
                 {"num_key_value_heads", config.num_key_value_heads},
                 {"head_dim", config.head_dim},
                 {"max_position_embeddings", config.max_position_embeddings},
                 {"rms_norm_eps", config.rms_norm_eps},
                 {"tie_word_embeddings", config.tie_word_embeddings},
                 {"attention_bias", config.attention_bias},
                 {"mlp_bias", config.mlp_bias},
                 {"rope_theta", config.rope.theta},
                 {"key_value_bytes_per_token",
                  2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4}};
      out["config"] = std::move(shown);
      models::validate(config, path_.string());
    });
  }

  void add_tokenizer(json& out) {
    out["tokenizer"] = nullptr;
    attempt([&] {
      const auto vocabulary = load_tokenizer(path_);
      const auto id = [&](std::optional<std::int32_t> which) {
        return which ? json{{"id", *which}, {"token", vocabulary.token(*which)}} : json(nullptr);
      };
      constexpr const char* cuts[] = {"gpt2", "llama3", "qwen2", "smollm", "o200k", "tekken"};
      const bool byte_level = vocabulary.form() == text::vocabulary_form::byte_level;
      json ends = json::array();
      for (const std::int32_t end : vocabulary.eos_ids()) ends.push_back(id(end));
      std::int32_t special = 0;
      for (std::int32_t i = 0; i < vocabulary.vocabulary_size(); ++i) special += vocabulary.is_special(i) ? 1 : 0;
      out["tokenizer"] = {
          {"kind", byte_level ? "byte-level bpe" : "sentencepiece bpe"},
          {"pre_tokenizer",
           byte_level ? json(cuts[static_cast<std::size_t>(vocabulary.pre_tokenizer())]) : json(nullptr)},
          {"tokens", vocabulary.vocabulary_size()},
          {"special_tokens", special},
          {"bos", id(vocabulary.bos())},
          {"adds_bos", vocabulary.adds_bos()},
          {"eos", ends},
          {"normalizes_nfc", vocabulary.normalizes_nfc()},
          {"bytes_without_token", vocabulary.missing_bytes().size()}};
      const auto format = text::chat_format_of(path_, vocabulary);
      out["chat_format"] = {{"name", format.name},
                            {"source_prefix", format.source_prefix},
                            {"source_suffix", format.source_suffix},
                            {"target_prefix", format.target_prefix},
                            {"target_suffix", format.target_suffix},
                            {"word_separator", format.word_separator}};
      for (const auto& one : format.languages) out["chat_format"]["languages"][one.code] = one.instruction;
    });
  }

  void add_tensors(json& out) {
    json list = json::array();
    if (!file_) {
      out["tensors"] = std::move(list);
      problems_.push_back(
          message(path_.string(), ": holds neither model.safetensors nor model.safetensors.index.json"));
      return;
    }
    std::vector<std::string> unknown;
    for (const auto& tensor : file_->tensors()) {
      list.push_back({{"name", tensor.name},
                      {"shape", tensor.shape},
                      {"format", tensor.type_name},
                      {"bytes", tensor.bytes.size()}});
      const bool seen = std::find(unknown.begin(), unknown.end(), tensor.type_name) != unknown.end();
      if (!tensor.format && !seen) unknown.emplace_back(tensor.type_name);
    }
    for (const auto& type : unknown)
      problems_.push_back(message("values of type ", type, " can be listed but not loaded"));
    const auto sum = file_->sum();
    out["totals"] = {{"tensors", list.size()},
                     {"parameters", sum.elements},
                     {"bytes", sum.bytes},
                     {"bytes_by_format", sum.bytes_by_type}};
    out["tensors"] = std::move(list);
  }

  std::filesystem::path path_;
  bool full_;
  std::optional<model_file> file_;
  std::vector<std::string> problems_;
};

class inspect_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "inspect"; }
  [[nodiscard]] const char* summary() const override { return "Print what a model file holds"; }

  void declare(arguments& options) override {
    declare_model(options, path_);
    options.flag("--json", json_, "Print one JSON object");
    options.flag("--full", full_, "Print long arrays and texts whole");
    options.footer(
        "Also for models that this version cannot run, and for a .safetensors file without the rest; it says why.\n"
        "Examples:\n"
        "  runnel inspect -m model.gguf\n"
        "  runnel inspect -m folder --json | python3 -m json.tool");
  }

  void run() override {
    std::error_code problem;
    const bool weights_alone = path_.ends_with(".safetensors") || path_.ends_with(".index.json");
    const auto path =
        weights_alone && std::filesystem::exists(path_, problem) ? std::filesystem::path(path_) : resolve_model(path_);
    const json report = inspector(path, full_).report();
    if (json_) {
      out_.write(report.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
    } else {
      print(report);
    }
    out_.flush();
  }

 private:
  void line(std::string_view left, std::size_t width, const std::string& right) {
    std::string text = "  " + printable(left);
    if (text.size() < width + 2) text.append(width + 2 - text.size(), ' ');
    out_.write(text + "  " + right + "\n");
  }

  void title(const std::string& text) { out_.write("\n" + text + "\n"); }

  void print(const json& report) {
    out_.write(printable(report["path"].get<std::string>()) + "\n");
    members("container", report["container"]);
    const auto& metadata = report["metadata"];
    title(message("metadata (", metadata.size(), ")"));
    for (const auto& entry : metadata) {
      std::string value = on_one_line(entry["value"]);
      if (entry.contains("length")) {
        const auto length = entry["length"].get<std::size_t>();
        if (entry["value"].size() < length) value = value.substr(0, value.size() - 1) + ", ...]";
        value = message(length, " ", value);
      }
      line(entry["key"].get<std::string>(), 40, printable(entry["type"].get<std::string>()) + " " + value);
    }
    for (const char* part : {"config", "tokenizer", "chat_format"}) {
      if (report.contains(part)) members(part, report[part]);
    }
    const auto& tensors = report["tensors"];
    title(message("tensors (", tensors.size(), ")"));
    for (const auto& tensor : tensors) {
      line(tensor["name"].get<std::string>(), 40,
           message(on_one_line(tensor["shape"]), " ", tensor["format"].get<std::string>(), " ",
                   tensor["bytes"].get<std::uint64_t>(), " bytes"));
    }
    if (report.contains("totals")) members("totals", report["totals"]);
    title(report["supported"].get<bool>() ? "Config, tokenizer and formats are supported."
                                          : "This version cannot run it:");
    for (const auto& problem : report["problems"]) out_.write("  " + printable(problem.get<std::string>()) + "\n");
  }

  void members(const char* name, const json& object) {
    title(name);
    if (!object.is_object()) {
      out_.write("  not understood, see the end\n");
      return;
    }
    for (const auto& [key, value] : object.items()) line(key, 26, on_one_line(value));
  }

  std::string path_;
  bool json_ = false;
  bool full_ = false;
  output out_;
};

}  // namespace

std::unique_ptr<command> make_inspect_command() { return std::make_unique<inspect_command>(); }

}  // namespace runnel::cli
