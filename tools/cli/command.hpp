// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "arguments.hpp"

namespace runnel::cli {

/// One command of the program: its options, and what it does with them.
class command {
 public:
  command() = default;
  command(const command&) = delete;
  command& operator=(const command&) = delete;
  virtual ~command() = default;

  [[nodiscard]] virtual const char* name() const = 0;
  /// One line for the list of commands.
  [[nodiscard]] virtual const char* summary() const = 0;
  /// Says what options it has, with examples. The command outlives the parsing.
  virtual void declare(arguments& options) = 0;
  /// Does it. Throws config_error for options that make no sense together, any error for the rest, and closed_pipe.
  virtual void run() = 0;
};

[[nodiscard]] std::unique_ptr<command> make_generate_command();
[[nodiscard]] std::unique_ptr<command> make_translate_command();
[[nodiscard]] std::unique_ptr<command> make_tokenize_command();
[[nodiscard]] std::unique_ptr<command> make_logits_command();
[[nodiscard]] std::unique_ptr<command> make_inspect_command();
[[nodiscard]] std::unique_ptr<command> make_bench_command();
[[nodiscard]] std::unique_ptr<command> make_quantize_command();
[[nodiscard]] std::unique_ptr<command> make_train_command();
[[nodiscard]] std::unique_ptr<command> make_score_command();
[[nodiscard]] std::unique_ptr<command> make_serve_command();
[[nodiscard]] std::unique_ptr<command> make_study_command();

}  // namespace runnel::cli
