// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/io/atomic_file.hpp>
#include <runnel/io/atomic_folder.hpp>
#include <runnel/models/export.hpp>
#include <runnel/models/quantize.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>

#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

/// A model in memory, with the adapters that are to be merged into it.
struct merged_model {
  stream::language_model base;
  std::vector<stream::adapter_use> uses;
  std::vector<nn::active_adapter<nn::inference_parameters>> active;

  merged_model(const std::filesystem::path& path, const adapter_option& adapters) : base(load_model_at(path)) {
    uses = adapters.load(*base.network);
    for (const auto& use : uses) active.push_back({use.weights.get(), use.scale});
  }
};

class quantize_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "quantize"; }
  [[nodiscard]] const char* summary() const override {
    return "Write a model again: in fewer bits, as GGUF or for Hugging Face, with adapters merged";
  }

  void declare(arguments& options) override {
    declare_model(options, path_);
    options
        .text("-o,--out", out_, "PATH",
              "What to write, replaced only when all is done: a GGUF file if it ends in .gguf, else a Hugging Face "
              "folder "
              "(f32, f16 or bf16), which must be new or empty")
        .required();
    options.text("--type", type_, "TYPE", "What to make of the matrices: " + names()).required();
    options.whole("-t,--threads", threads_, "N", "Threads to work with; 0: one a processor", 0, 1024);
    options.flag("--allow-requantize", allow_requantize_,
                 "Take weights that are quantized already, and lose what that lost and more");
    options.flag("--lossy-tokenizer", lossy_tokenizer_,
                 "Leave out what GGUF cannot say of a tokenizer, instead of refusing to write it");
    adapters_.declare(options);
    options.footer(
        "Norms and other vectors stay as they are. The types with _s, _m and _l give some matrices more bits than\n"
        "others; rows that do not fit a format's blocks of 256 take one with blocks of 32. From one GGUF file to "
        "another\n"
        "one tensor at a time is in memory; everything else has the model in memory, as it is stored.\n"
        "Adapters are merged: the matrices that they change are changed, rounded once, and written.\n"
        "Examples:\n"
        "  runnel quantize -m model-f16.gguf -o model-q4_k_m.gguf --type q4_k_m\n"
        "  runnel quantize -m model-q4_1.gguf -o model-f32.gguf --type f32\n"
        "  runnel quantize -m folder -o model.gguf --type q8_0 --lora adapter\n"
        "  runnel quantize -m model.gguf -o new-folder --type bf16");
  }

  void run() override {
    const auto kind = models::find_quantization(type_);
    expect<config_error>(kind.has_value(), "--type: expected one of ", names(), "; found '", printable(type_), "'");
    kind_ = *kind;
    const auto from = resolve_model(path_);
    std::error_code problem;
    const bool from_folder = std::filesystem::is_directory(from, problem);
    expect<config_error>(from_folder || is_gguf(from), "quantize: expected a GGUF file or a folder, found ",
                         from.string());
    const bool to_file = out_.ends_with(".gguf");
    if (!to_file) expect_folder();
    const double begin = seconds_now();
    if (!to_file) {
      write_folder(from, from_folder);
    } else if (from_folder) {
      write_file(from);
    } else {
      rewrite_file(from);
    }
    line_.clear();
    note(message(out_, ": ", kind_.name, ", ", in_megabytes(static_cast<double>(bytes_)), " of weights in ",
                 fixed(seconds_now() - begin, 1), " s"));
  }

 private:
  [[nodiscard]] static std::string names() {
    std::string list;
    for (const auto& kind : models::all_quantizations) list += message(list.empty() ? "" : ", ", kind.name);
    return list;
  }

  void expect_folder() const {
    expect<config_error>(quant::info(kind_.format).block_size == 1, "--type: a Hugging Face folder (", out_,
                         ") holds f32, f16 or bf16, not ", kind_.name, "; the name of a GGUF file ends in .gguf");
    expect<config_error>(io::atomic_folder::is_free(out_), "--out: ", out_,
                         " is there already; expected a new or an empty folder");
  }

  /// From one GGUF file to another: what adapters do not change is taken from the file as it is.
  void rewrite_file(const std::filesystem::path& from) {
    models::quantize_options options;
    options.kind = kind_;
    options.threads = threads_for(threads_);
    options.allow_requantize = allow_requantize_;
    options.stop = interrupts::instance().token();
    options.progress = [this](const models::quantized_tensor& one) { show(one); };
    if (!adapters_.given()) return models::quantize_gguf(from, out_, options);
    const merged_model model(from, adapters_);
    auto weights = models::list_weights(*model.base.network, &models::weight_name::gguf, model.active);
    std::erase_if(weights, [](const models::weight_rows& one) { return !one.changed; });
    note_requantizing(weights);
    options.changed = weights;
    models::quantize_gguf(from, out_, options);
  }

  void write_file(const std::filesystem::path& from) {
    const merged_model model(from, adapters_);
    const gguf_output to{out_, "quantize", name_of(from), lossy_tokenizer_};
    for (const auto& lost : write_gguf(to, *model.base.network, load_vocabulary(from), kind_, exporting(model))) {
      note(message("--lossy-tokenizer: the file does not say that ", printable(lost)));
    }
  }

  void write_folder(const std::filesystem::path& from, bool from_folder) {
    io::atomic_folder folder(out_);
    const merged_model model(from, adapters_);
    const models::decoder& network = *model.base.network;
    const auto weights = models::list_weights(network, &models::weight_name::hugging_face, model.active);
    note_requantizing(weights);
    for (const auto& one : weights) {
      const auto format = one.shape.size() == 1 ? quant::weight_format::f32 : kind_.format;
      if (!one.changed && !allow_requantize_) models::refuse_requantizing(from.string(), one.name, one.format, format);
    }
    const auto vocabulary = load_vocabulary(from);
    if (from_folder) {
      copy_tokenizer(from, folder.path());
    } else {
      text::write_tokenizer_json(vocabulary, folder.path());
      const std::span<const char> format(vocabulary.chat_format);
      if (!format.empty()) io::write_file_atomically(folder.path() / "chat_format.json", std::as_bytes(format));
    }
    const models::special_ids ids{vocabulary.bos, vocabulary.padding, vocabulary.eos_ids};
    models::write_hugging_face(network, kind_.format, folder.path(), ids, exporting(model));
    folder.commit();
  }

  [[nodiscard]] models::export_options exporting(const merged_model& model) {
    models::export_options options;
    options.threads = threads_for(threads_);
    options.adapters = model.active;
    options.stop = interrupts::instance().token();
    options.progress = [this](const models::quantized_tensor& one) { show(one); };
    return options;
  }

  void show(const models::quantized_tensor& one) {
    line_.show(message('[', one.number + 1, '/', one.count, "] ", printable(one.name), ' ', quant::info(one.from).name,
                       " -> ", quant::info(one.to).name));
    bytes_ += one.bytes;
  }

  void note_requantizing(const std::vector<models::weight_rows>& weights) const {
    const auto count = std::ranges::count_if(
        weights, [](const models::weight_rows& one) { return one.changed && quant::info(one.format).block_size != 1; });
    if (count == 0 || kind_.format == quant::weight_format::f32) return;
    note(message("the adapters change ", count, count == 1 ? " matrix" : " matrices",
                 " that the model holds quantized: merging requantizes ", count == 1 ? "it" : "them"));
  }

  /// What a folder is called: the name of its model.
  [[nodiscard]] static std::string name_of(const std::filesystem::path& folder) {
    std::error_code problem;
    const auto whole = std::filesystem::canonical(folder, problem);
    return printable((problem ? folder : whole).filename().string());
  }

  std::string path_;
  std::string out_;
  std::string type_;
  std::int64_t threads_ = 0;
  bool allow_requantize_ = false;
  bool lossy_tokenizer_ = false;
  adapter_option adapters_;
  models::quantization kind_;
  progress line_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<command> make_quantize_command() { return std::make_unique<quantize_command>(); }

}  // namespace runnel::cli
