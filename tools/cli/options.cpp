// SPDX-License-Identifier: Apache-2.0

#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <thread>

#include <runnel/stream/load.hpp>

#include "console.hpp"

namespace runnel::cli {

void declare_model(CLI::App& app, std::string& path) {
  app.add_option("-m,--model", path, "A GGUF file, or a folder with config.json, tokenizer.json and model.safetensors")
      ->required()
      ->type_name("PATH")
      ->envname("RUNNEL_ARG_MODEL");
}

std::filesystem::path resolve_model(const std::string& path) {
  constexpr const char* expected =
      "expected a GGUF file, or a folder with config.json, tokenizer.json and model.safetensors";
  expect<config_error>(!path.empty(), "--model: ", expected, ", found an empty path");
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  expect<io_error>(std::filesystem::exists(status), "--model: '", path, "' does not exist; ", expected,
                   " (this version brings no model of its own)");
  if (!std::filesystem::is_directory(status)) {
    const auto ends = [&](const char* suffix) { return path.ends_with(suffix); };
    expect<format_error>(!ends(".safetensors") && !ends(".json"), "--model: '", path,
                         "' is one part of a model; give the folder that holds it");
  }
  return path;
}

void model_options::declare(CLI::App& app) {
  declare_model(app, path_);
  app.add_option("-t,--threads", threads_, "Threads that compute; 0: one a processor")
      ->check(whole_number(0, 1024))
      ->type_name("N")
      ->envname("RUNNEL_ARG_THREADS")
      ->capture_default_str();
  app.add_option("--compute", compute_, "Numbers that products are computed in; there is f32")
      ->check(CLI::Validator(
          [](std::string& value) {
            return value == "f32" ? std::string() : "'" + value + "' is unknown; this version computes in: f32";
          },
          ""))
      ->type_name("MODE")
      ->envname("RUNNEL_ARG_COMPUTE")
      ->capture_default_str();
  app.add_option("-c,--context", context_, "Positions that may be used, at most what the model declares; 0: that")
      ->check(whole_number(0, most_of_anything))
      ->type_name("N")
      ->envname("RUNNEL_ARG_CONTEXT")
      ->capture_default_str();
}

stream::language_model model_options::load() const {
  auto model = stream::load_model(resolve_model(path_));
  interrupts::instance().check();
  expect<config_error>(context_ <= model.context(), "--context: expected at most ", model.context(),
                       ", for which the model was declared, found ", context_);
  return model;
}

ops::eval_options model_options::compute() const {
  ops::eval_options options;
  options.threads = threads_;
  return options;
}

int model_options::threads() const {
  return threads_ != 0 ? threads_ : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void sampling_options::declare(CLI::App& app) {
  app.add_option("--temp", options_.temperature, "Temperature; 0 always takes the likeliest token")
      ->check(number_from(0))
      ->type_name("X")
      ->capture_default_str();
  app.add_option("--top-k", options_.top_k, "Choose among the K likeliest tokens only; 0: all")
      ->check(whole_number(0, most_of_anything))
      ->type_name("K")
      ->capture_default_str();
  app.add_option("--top-p", options_.top_p, "Choose among the likeliest tokens that together have this probability")
      ->check(CLI::Validator(
          [](std::string& text) {
            double value = 0;
            const bool is_number = CLI::detail::lexical_cast(text, value);
            return is_number && value > 0 && value <= 1 ? std::string()
                                                        : "expected a number above 0 and up to 1, found '" + text + "'";
          },
          ""))
      ->type_name("X")
      ->capture_default_str();
  app.add_option("--seed", options_.seed, "Where random numbers begin; used where the temperature is above 0")
      ->check(whole_number(0, std::numeric_limits<std::int64_t>::max()))
      ->type_name("N")
      ->capture_default_str();
}

namespace {

bool parse_number(std::string_view text, std::int64_t& value) {
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && stop == text.data() + text.size();
}

}  // namespace

std::vector<index_t> parse_numbers(std::string_view text, std::string_view option, index_t least) {
  std::vector<index_t> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    std::int64_t value = 0;
    expect<config_error>(parse_number(part, value) && value >= least && value <= most_of_anything, option,
                         ": expected whole numbers of at least ", least, " between commas, found '", text, "'");
    numbers.push_back(value);
    begin = end + 1;
  }
  return numbers;
}

CLI::Validator whole_number(std::int64_t least, std::int64_t most) {
  return CLI::Validator(
      [least, most](std::string& text) {
        std::int64_t value = 0;
        if (parse_number(text, value) && value >= least && value <= most) {
          text = std::to_string(value);  // "007" is seven, though CLI11 would take it for octal
          return std::string();
        }
        return message("expected a whole number from ", least, " to ", most, ", found '", text, "'");
      },
      "");
}

CLI::Validator number_from(double least) {
  return CLI::Validator(
      [least](std::string& text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least) return std::string();
        return message("expected a number of at least ", least, ", found '", text, "'");
      },
      "");
}

}  // namespace runnel::cli
