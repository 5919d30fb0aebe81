// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <runnel/transcribe/speech_model.hpp>

#include "arguments.hpp"
#include "options.hpp"

namespace runnel::cli {

/// Which model of speech to run, and how.
class speech_options : public running_options {
 public:
  /// Adds -m/--model (which model, where none is given), what `running_options` adds, and --chunk-ms.
  void declare(arguments& options);

  /// Loads the model. Throws config_error if more context was asked for than it was declared for, or chunks that are no
  /// multiple of its own; cancelled_error if a signal came meanwhile, what `transcribe::load_speech_model` throws.
  [[nodiscard]] transcribe::speech_model load() const;
  /// Where the model lies. Throws what `resolve_model` throws, format_error for a model of another kind.
  [[nodiscard]] std::filesystem::path path() const;

 private:
  std::string path_ = "digits";
  double chunk_ms_ = 0;
};

}  // namespace runnel::cli
