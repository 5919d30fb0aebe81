// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <filesystem>
#include <string>

#include <runnel/models/quantize.hpp>

#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

class quantize_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "quantize"; }
  [[nodiscard]] const char* summary() const override { return "Write a GGUF file again in a format of fewer bits"; }

  void declare(arguments& options) override {
    declare_model(options, path_);
    options.text("-o,--out", out_, "FILE.gguf", "The file to write; replaced only when all is done").required();
    options.text("--type", type_, "TYPE", "What to make of the matrices: " + names()).required();
    options.whole("-t,--threads", threads_, "N", "Threads to work with; 0: one a processor", 0, 1024);
    options.flag("--allow-requantize", allow_requantize_,
                 "Take weights that are quantized already, and lose what that lost and more");
    options.footer(
        "Norms and other vectors stay as they are. The types with _s, _m and _l give some matrices more bits than\n"
        "others; rows that do not fit a format's blocks of 256 take one with blocks of 32.\n"
        "Examples:\n"
        "  runnel quantize -m model-f16.gguf -o model-q4_k_m.gguf --type q4_k_m\n"
        "  runnel quantize -m model-q4_1.gguf -o model-f32.gguf --type f32");
  }

  void run() override {
    const auto kind = models::find_quantization(type_);
    expect<config_error>(kind.has_value(), "--type: expected one of ", names(), "; found '", printable(type_), "'");
    const auto from = resolve_model(path_);
    expect<config_error>(is_gguf(from), "quantize: expected a GGUF file, found ", from.string());
    progress line;
    models::quantize_options options;
    options.kind = *kind;
    options.threads = threads_for(threads_);
    options.allow_requantize = allow_requantize_;
    options.stop = interrupts::instance().token();
    std::uint64_t bytes = 0;
    options.progress = [&](const models::quantized_tensor& one) {
      line.show(message('[', one.number + 1, '/', one.count, "] ", printable(one.name), ' ', quant::info(one.from).name,
                        " -> ", quant::info(one.to).name));
      bytes += one.bytes;
    };
    const double begin = seconds_now();
    models::quantize_gguf(from, out_, options);
    line.clear();
    note(message(out_, ": ", kind->name, ", ", in_megabytes(static_cast<double>(bytes)), " of weights in ",
                 fixed(seconds_now() - begin, 1), " s"));
  }

 private:
  [[nodiscard]] static std::string names() {
    std::string list;
    for (const auto& kind : models::all_quantizations) list += message(list.empty() ? "" : ", ", kind.name);
    return list;
  }

  std::string path_;
  std::string out_;
  std::string type_;
  std::int64_t threads_ = 0;
  bool allow_requantize_ = false;
};

}  // namespace

std::unique_ptr<command> make_quantize_command() { return std::make_unique<quantize_command>(); }

}  // namespace runnel::cli
