// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include <runnel/ops/eval.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/stream/sampler.hpp>

/// \file
/// Options that several commands share.

namespace runnel::cli {

/// Adds -m/--model, read from RUNNEL_ARG_MODEL where it is not given.
void declare_model(CLI::App& app, std::string& path);

/// The path that -m means. Throws io_error that says what was expected if there is nothing.
[[nodiscard]] std::filesystem::path resolve_model(const std::string& path);

/// Which model to run, and how.
class model_options {
 public:
  /// Adds -m/--model, -t/--threads, --compute and --context.
  void declare(CLI::App& app);

  /// Loads the model. Throws config_error if more context was asked for than it was declared for, cancelled_error if a
  /// signal came meanwhile, what `stream::load_model` throws.
  [[nodiscard]] stream::language_model load() const;
  [[nodiscard]] ops::eval_options compute() const;
  /// Positions that may be used; 0 means what the model declares.
  [[nodiscard]] index_t context() const noexcept { return context_; }
  /// Threads that will work.
  [[nodiscard]] int threads() const;

 private:
  std::string path_;
  int threads_ = 0;
  std::string compute_ = "f32";
  index_t context_ = 0;
};

/// How tokens are chosen: --temp, --top-k, --top-p, --seed.
class sampling_options {
 public:
  void declare(CLI::App& app);
  [[nodiscard]] const stream::sampler_options& get() const noexcept { return options_; }

 private:
  stream::sampler_options options_;
};

/// Numbers of at least `least` between commas, as "16,128,512". Throws config_error that names `option`.
[[nodiscard]] std::vector<index_t> parse_numbers(std::string_view text, std::string_view option, index_t least);

/// A check for CLI11: a whole number in [least, most], in decimal.
[[nodiscard]] CLI::Validator whole_number(std::int64_t least, std::int64_t most);

/// A check for CLI11: a finite number of at least `least`.
[[nodiscard]] CLI::Validator number_from(double least);

/// The greatest count that options take.
inline constexpr std::int64_t most_of_anything = 1'000'000'000;

}  // namespace runnel::cli
