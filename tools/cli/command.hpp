// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>

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

  /// Says how the program was called, as one would write it for a shell.
  void set_command_line(std::string line) { command_line_ = std::move(line); }

 protected:
  [[nodiscard]] const std::string& command_line() const noexcept { return command_line_; }

 private:
  std::string command_line_;
};

[[nodiscard]] std::unique_ptr<command> make_generate_command();
[[nodiscard]] std::unique_ptr<command> make_translate_command();
[[nodiscard]] std::unique_ptr<command> make_transcribe_command();
[[nodiscard]] std::unique_ptr<command> make_tokenize_command();
[[nodiscard]] std::unique_ptr<command> make_logits_command();
[[nodiscard]] std::unique_ptr<command> make_inspect_command();
[[nodiscard]] std::unique_ptr<command> make_bench_command();
[[nodiscard]] std::unique_ptr<command> make_quantize_command();
[[nodiscard]] std::unique_ptr<command> make_train_command();
[[nodiscard]] std::unique_ptr<command> make_score_command();
[[nodiscard]] std::unique_ptr<command> make_serve_command();
[[nodiscard]] std::unique_ptr<command> make_study_command();
[[nodiscard]] std::unique_ptr<command> make_plot_command();

}  // namespace runnel::cli
