// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// This program, run again by itself: commands that call commands. POSIX only.

namespace runnel::cli {

/// One run of this program.
struct own_command {
  std::vector<std::string> arguments;  ///< without the program's name
  /// Where standard output and error go, replaced; empty: output nowhere, errors where ours go.
  std::filesystem::path log{};
};

/// Runs commands, `at_once` of them at a time, in order. Calls `done(index)` after each that ended well. Throws
/// io_error with the command and the end of its log for the first one that did not, after the others have ended, too;
/// cancelled_error if a signal came: commands that run are told to stop, and waited for.
void run_own_commands(const std::vector<own_command>& commands, std::size_t at_once,
                      const std::function<void(std::size_t)>& done);

/// "runnel" and the arguments, as a shell has to be told them.
[[nodiscard]] std::string shell_command(const std::vector<std::string>& arguments);

/// A text as one word of a shell.
[[nodiscard]] std::string shell_word(std::string_view text);

}  // namespace runnel::cli
