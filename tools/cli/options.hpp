// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/ops/eval.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/stream/sampler.hpp>
#include <runnel/stream/session_options.hpp>

#include "arguments.hpp"

/// \file
/// Options that several commands share.

namespace runnel::cli {

/// Adds -m/--model, read from RUNNEL_ARG_MODEL where it is not given.
void declare_model(arguments& options, std::string& path);

/// Adds -m/--model for models of speech; `path` holds the default.
void declare_speech_model(arguments& options, std::string& path);

/// The path that -m means: one that is there, or that of a model that comes along. Throws io_error that says what was
/// expected if there is nothing.
[[nodiscard]] std::filesystem::path resolve_model(const std::string& path);

/// The numbers that products are computed in: --compute.
class compute_option {
 public:
  /// `otherwise` holds where it is not given.
  void declare(arguments& options, ops::compute_mode otherwise);
  [[nodiscard]] ops::compute_mode mode() const;

 private:
  std::string name_;
};

/// Adapters beside the model: --lora and --lora-scaled.
class adapter_option {
 public:
  void declare(arguments& options);
  /// Whether an adapter was asked for.
  [[nodiscard]] bool given() const noexcept { return !plain_.empty() || !scaled_.empty(); }
  /// What was asked for, for logs: paths with spaces between them, scales behind a "*".
  [[nodiscard]] std::string describe() const;
  /// The adapters that were asked for. Throws what `models::load_adapter` throws.
  [[nodiscard]] std::vector<stream::adapter_use> load(const models::decoder& base) const;

 private:
  std::vector<std::string> plain_;
  std::vector<std::string> scaled_;
};

/// The numbers that keys and values are kept as.
class cache_type_option {
 public:
  void declare(arguments& options);
  /// None: what suits how products are computed.
  [[nodiscard]] std::optional<cache::storage_type> type() const;

 private:
  std::string type_;
};

/// How a model runs, whatever it reads.
class running_options {
 public:
  /// Adds -t/--threads, --compute (`otherwise` where it is not given), --cache-type and --context.
  void declare_running(arguments& options, ops::compute_mode otherwise = ops::fastest_compute);

  [[nodiscard]] ops::eval_options compute() const;
  [[nodiscard]] std::optional<cache::storage_type> cache_type() const { return cache_type_.type(); }
  /// The same for one model.
  [[nodiscard]] cache::storage_type storage_for(const models::decoder& network) const {
    return cache_type().value_or(network.storage_for(compute().compute));
  }
  /// Positions that may be used; 0 means what the model declares.
  [[nodiscard]] index_t context() const noexcept { return context_; }
  /// Positions of `model` that may be used.
  [[nodiscard]] index_t limit(const stream::language_model& model) const;
  /// Threads that will work.
  [[nodiscard]] int threads() const;
  /// Throws config_error if more context was asked for than the model was declared for.
  void check(const stream::language_model& model) const;

 private:
  std::int64_t threads_ = 0;
  compute_option compute_;
  cache_type_option cache_type_;
  index_t context_ = 0;
};

/// Which model to run, and how.
class model_options : public running_options {
 public:
  /// Adds -m/--model, what `running_options` adds, --lora and --lora-scaled.
  void declare(arguments& options, ops::compute_mode otherwise = ops::fastest_compute);

  /// Loads the model. Throws what `check` throws, cancelled_error if a signal came meanwhile, what `stream::load_model`
  /// throws.
  [[nodiscard]] stream::language_model load() const;
  /// The adapters that were asked for. Throws what `models::load_adapter` throws.
  [[nodiscard]] std::vector<stream::adapter_use> adapters(const stream::language_model& model) const {
    return adapters_.load(*model.network);
  }
  /// Where the model lies. Throws what `resolve_model` throws.
  [[nodiscard]] std::filesystem::path path() const { return resolve_model(path_); }
  /// What was asked for of adapters, for logs.
  [[nodiscard]] std::string describe_adapters() const { return adapters_.describe(); }

 private:
  std::string path_;
  adapter_option adapters_;
};

/// How tokens are chosen: --temp, --top-k, --top-p, --seed.
class sampling_options {
 public:
  void declare(arguments& options);
  [[nodiscard]] stream::sampler_options get() const;

 private:
  double temperature_ = 0;
  std::int64_t top_k_ = 0;
  double top_p_ = 1;
  std::int64_t seed_ = 0;
};

/// Which markup stands around source and target: --format.
class format_option {
 public:
  void declare(arguments& options);
  /// Asks for one, as the option does; messages say that `of` does.
  void choose(const std::string& name, const std::string& of) {
    name_ = name;
    of_ = of;
  }
  /// Whether a format was asked for.
  [[nodiscard]] bool given() const noexcept { return !name_.empty(); }
  /// Gives the model the format that was asked for. Throws config_error for an unknown name and for formats of other
  /// sources than text, what `text::load_chat_format` throws for a file.
  void apply(stream::language_model& model, text::source_kind wanted = text::source_kind::text) const;

 private:
  std::string name_;
  std::string of_ = "--format";
};

/// `stream::load_model`, compiled once for all commands. Throws cancelled_error if a signal came meanwhile.
[[nodiscard]] stream::language_model load_model_at(const std::filesystem::path& path,
                                                   std::optional<text::source_kind> source = text::source_kind::text);

/// Threads that `count` means: 0 is one a processor.
[[nodiscard]] int threads_for(std::int64_t count);

/// Numbers of at least `least` between commas, as "16,128,512". Throws config_error that names `option`.
[[nodiscard]] std::vector<index_t> parse_numbers(std::string_view text, std::string_view option, index_t least);

}  // namespace runnel::cli
