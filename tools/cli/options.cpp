// SPDX-License-Identifier: Apache-2.0

#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <runnel/models/adapter.hpp>
#include <runnel/stream/load.hpp>
#include <runnel/stream/session_options.hpp>
#include <runnel/text/chat_format.hpp>

#include "console.hpp"

namespace runnel::cli {

void declare_model(arguments& options, std::string& path) {
  options
      .text("-m,--model", path, "PATH|NAME",
            "A GGUF file, a folder with config.json, tokenizer.json and model.safetensors, or the name of a model that "
            "comes along: demo")
      .required()
      .environment("RUNNEL_ARG_MODEL");
}

void declare_speech_model(arguments& options, std::string& path) {
  options.text("-m,--model", path, "PATH|NAME",
               "A folder with speech.json, encoder, projector.safetensors and decoder, or the name of a model that "
               "comes along: digits");
}

namespace {

/// Whether a folder has what a model's folder has.
bool holds_model(const std::filesystem::path& folder) {
  std::error_code problem;
  return std::filesystem::exists(folder / "config.json", problem) ||
         std::filesystem::exists(folder / "speech.json", problem);
}

/// Where models may be that come along: what the environment says, and the project's own folder.
std::vector<std::filesystem::path> model_folders() {
  std::vector<std::filesystem::path> out;
  if (const char* own = std::getenv("RUNNEL_MODELS"); own != nullptr && *own != 0) out.emplace_back(own);
  out.emplace_back(RUNNEL_CLI_MODELS);
  return out;
}

/// The folder of the model called `name`, if one comes along.
std::optional<std::filesystem::path> find_bundled(const std::string& name) {
  if (name.find_first_of("/\\") != std::string::npos || name.starts_with('.')) return std::nullopt;
  for (const auto& folder : model_folders()) {
    if (auto path = folder / name; holds_model(path)) return path;
  }
  return std::nullopt;
}

}  // namespace

std::filesystem::path resolve_model(const std::string& path) {
  constexpr const char* expected =
      "expected a GGUF file, or a folder with config.json, tokenizer.json and model.safetensors";
  expect<config_error>(!path.empty(), "--model: ", expected, ", found an empty path");
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  // A folder that holds no model does not hide one that comes along.
  const bool folder_of_others = std::filesystem::is_directory(status) && !holds_model(path);
  if (folder_of_others || !std::filesystem::exists(status)) {
    if (auto bundled = find_bundled(path)) return *bundled;
  }
  if (!std::filesystem::exists(status)) {
    std::string places;
    for (const auto& folder : model_folders()) places += message(places.empty() ? "" : " or ", folder.string());
    fail<io_error>("--model: '", printable(path), "' does not exist; ", expected, ", or the name of one in ", places);
  }
  if (!std::filesystem::is_directory(status)) {
    const auto ends = [&](const char* suffix) { return path.ends_with(suffix); };
    expect<format_error>(!ends(".safetensors") && !ends(".json"), "--model: '", path,
                         "' is one part of a model; give the folder that holds it");
  }
  return path;
}

void compute_option::declare(arguments& options, ops::compute_mode otherwise) {
  name_ = ops::name_of(otherwise);
  options
      .text("--compute", name_, "MODE",
            "Numbers that products are computed in: f32, bf16, or int8, which takes quantised weights as they are "
            "stored (bf16 weights in bf16, others in f32)")
      .one_of({"f32", "bf16", "int8"})
      .environment("RUNNEL_ARG_COMPUTE");
}

ops::compute_mode compute_option::mode() const {
  for (const auto mode : {ops::compute_mode::f32, ops::compute_mode::bf16}) {
    if (name_ == ops::name_of(mode)) return mode;
  }
  return ops::compute_mode::int8;
}

void adapter_option::declare(arguments& options) {
  options.texts("--lora", plain_, "PATH", "A LoRA adapter: a folder that PEFT wrote, or a GGUF file; may be repeated");
  options.texts("--lora-scaled", scaled_, "PATH SCALE", "The same, counted SCALE times", 2);
}

std::string adapter_option::describe() const {
  std::string all;
  for (const auto& path : plain_) all += (all.empty() ? "" : " ") + path;
  for (std::size_t i = 0; i + 1 < scaled_.size(); i += 2) {
    all += (all.empty() ? "" : " ") + scaled_[i] + "*" + scaled_[i + 1];
  }
  return all;
}

std::vector<stream::adapter_use> adapter_option::load(const models::decoder& base) const {
  std::vector<stream::adapter_use> out;
  for (const std::string& path : plain_) out.push_back({models::load_adapter(path, base), 1});
  for (std::size_t i = 0; i + 1 < scaled_.size(); i += 2) {
    const std::string& text = scaled_[i + 1];
    float scale = 0;
    const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), scale);
    expect<config_error>(failure == std::errc() && stop == text.data() + text.size() && std::isfinite(scale),
                         "--lora-scaled: expected a path and a number, found '", printable(text), "'");
    out.push_back({models::load_adapter(scaled_[i], base), scale});
  }
  return out;
}

void cache_type_option::declare(arguments& options) {
  options
      .text("--cache-type", type_, "TYPE",
            "Numbers that keys and values are kept as; not given: bf16 where products are computed in int8, else f32")
      .one_of({"f32", "bf16", "f16", "q8_0"})
      .environment("RUNNEL_ARG_CACHE_TYPE");
}

std::optional<cache::storage_type> cache_type_option::type() const {
  return cache::storage_from_name(type_);
}

void running_options::declare_running(arguments& options, ops::compute_mode otherwise) {
  options.whole("-t,--threads", threads_, "N", "Threads that compute; 0: one a processor", 0, 1024)
      .environment("RUNNEL_ARG_THREADS");
  compute_.declare(options, otherwise);
  cache_type_.declare(options);
  options.whole("-c,--context", context_, "N", "Positions that may be used, at most what the model declares; 0: that")
      .environment("RUNNEL_ARG_CONTEXT");
}

void running_options::check(const stream::language_model& model) const {
  expect<config_error>(context_ <= model.context(), "--context: expected at most ", model.context(),
                       ", for which the model was declared, found ", context_);
}

ops::eval_options running_options::compute() const {
  ops::eval_options options;
  options.threads = threads();
  options.compute = compute_.mode();
  return options;
}

index_t running_options::limit(const stream::language_model& model) const {
  stream::session_options options;
  options.context = context_;
  return options.limit(model.context());
}

int running_options::threads() const { return threads_for(threads_); }

void model_options::declare(arguments& options, ops::compute_mode otherwise) {
  declare_model(options, path_);
  declare_running(options, otherwise);
  adapters_.declare(options);
}

stream::language_model load_model_at(const std::filesystem::path& path, std::optional<text::source_kind> source) {
  std::error_code problem;
  expect<format_error>(!std::filesystem::exists(path / "speech.json", problem), "--model: '", printable(path.string()),
                       "' is a model of speech, which 'runnel transcribe' runs");
  auto model = stream::load_model(path, source);
  interrupts::instance().check();
  return model;
}

stream::language_model model_options::load() const {
  auto model = load_model_at(resolve_model(path_));
  check(model);
  return model;
}

int threads_for(std::int64_t count) {
  return count != 0 ? static_cast<int>(count) : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void sampling_options::declare(arguments& options) {
  constexpr double hottest = 1000;
  options.real("--temp", temperature_, "X", "Temperature; 0 always takes the likeliest token", 0, hottest);
  options.whole("--top-k", top_k_, "K", "Choose among the K likeliest tokens only; 0: all");
  options.real("--top-p", top_p_, "X", "Choose among the likeliest tokens that together have this probability", 0, 1);
  options.whole("--seed", seed_, "N", "Where random numbers begin; used where the temperature is above 0", 0,
                std::numeric_limits<std::int64_t>::max());
}

stream::sampler_options sampling_options::get() const {
  return {temperature_, top_k_, top_p_, static_cast<std::uint64_t>(seed_)};
}

void format_option::declare(arguments& options) {
  options.text("--format", name_, "NAME|FILE",
               "Chat format: a name, or a JSON file; default: the one of the model's template");
}

void format_option::apply(stream::language_model& model, text::source_kind wanted) const {
  if (!given()) return;
  const auto names = text::chat_format_names();
  std::error_code problem;
  text::chat_format format;
  if (std::find(names.begin(), names.end(), name_) != names.end()) {
    format = text::find_chat_format(name_);
  } else if (std::filesystem::exists(name_, problem)) {
    format = text::load_chat_format(name_);
  } else {
    std::string list;
    for (const auto name : names) list += message(list.empty() ? "" : ", ", name);
    fail<config_error>(of_, ": expected a JSON file or one of ", list, "; found '", printable(name_), "'");
  }
  const bool text = wanted == text::source_kind::text;
  expect<config_error>(
      format.source == wanted, of_, ": ", printable(name_),
      text ? " is for audio; expected one whose source is text" : " is for text; expected one whose source is audio");
  const auto missing = text::missing_token(format, *model.tokenizer);
  expect<config_error>(missing.empty(), of_, ": ", printable(name_), " is for vocabularies with the special token ",
                       printable(missing), "; that of ", printable(model.name), " has none");
  model.format = std::move(format);
}

std::vector<index_t> parse_numbers(std::string_view text, std::string_view option, index_t least) {
  std::vector<index_t> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    std::int64_t value = 0;
    const auto [stop, failure] = std::from_chars(part.data(), part.data() + part.size(), value);
    const bool is_number = failure == std::errc() && stop == part.data() + part.size();
    expect<config_error>(is_number && value >= least && value <= most_of_anything, option,
                         ": expected whole numbers of at least ", least, " between commas, found '", text, "'");
    numbers.push_back(value);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace runnel::cli
