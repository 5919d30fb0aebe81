// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <runnel/core/config.hpp>
#include <runnel/core/error.hpp>

#include "command.hpp"
#include "console.hpp"
#include "subprocess.hpp"

namespace runnel::cli {

namespace {

enum exit_code : int { ok = 0, failed = 1, bad_usage = 2 };

/// What the program does with a parsed command line.
int run(command& chosen) {
  try {
    chosen.run();
    return ok;
  } catch (const closed_pipe&) {
    return ok;  // whoever read has enough
  } catch (const cancelled_error&) {
    const int number = interrupts::instance().signal();
    note("interrupted");
    return number != 0 ? 128 + number : static_cast<int>(failed);
  } catch (const config_error& problem) {
    note(problem.what());
    return bad_usage;
  } catch (const std::bad_alloc&) {
    note("out of memory");
  } catch (const std::exception& problem) {
    note(problem.what());
  }
  return failed;
}

int main_of(int argc, char** argv) {
  CLI::App app(
      "runnel: language models that read while they write.\n"
      "Data goes to standard output, everything else to standard error.",
      "runnel");
  app.set_version_flag("--version",
                       message("runnel ", RUNNEL_VERSION_MAJOR, '.', RUNNEL_VERSION_MINOR, '.', RUNNEL_VERSION_PATCH));
  app.footer(
      "'runnel COMMAND --help' shows a command's options with examples.\n"
      "Exit codes: 0 done; 2 wrong usage; 1 any other error; 128 + number when a signal ended it (130 for Ctrl-C).\n"
      "If the reader of standard output goes away, the program ends in silence with 0.");
  const std::array commands{make_generate_command(), make_translate_command(), make_transcribe_command(),
                            make_tokenize_command(), make_logits_command(),    make_inspect_command(),
                            make_bench_command(),    make_quantize_command(),  make_train_command(),
                            make_score_command(),    make_serve_command(),     make_study_command(),
                            make_plot_command()};
  std::string names;
  for (const auto& one : commands) {
    arguments options(*app.add_subcommand(one->name(), one->summary()));
    one->declare(options);
    names += message(names.empty() ? "" : ", ", one->name());
  }
  app.require_subcommand(1);

  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty()) {
    note(message("a command is missing; expected one of ", names, " (see 'runnel --help')"));
    return bad_usage;
  }
  const bool known =
      std::any_of(commands.begin(), commands.end(), [&](const auto& one) { return one->name() == first; });
  if (!known && first[0] != '-') {
    note(message("there is no command '", printable(first), "'; expected one of ", names));
    return bad_usage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return app.exit(wanted);
  } catch (const CLI::ParseError& problem) {
    note(printable(problem.what()));
    note(message("see 'runnel ", known ? first + " " : std::string(), "--help'"));
    return bad_usage;
  }
  const std::string chosen = app.get_subcommands().front()->get_name();
  auto& one =
      **std::find_if(commands.begin(), commands.end(), [&](const auto& each) { return each->name() == chosen; });
  one.set_command_line(shell_command({argv + 1, argv + argc}));
  return run(one);
}

}  // namespace

}  // namespace runnel::cli

int main(int argc, char** argv) {
  try {
    runnel::cli::interrupts::instance();
    return runnel::cli::main_of(argc, argv);
  } catch (const std::exception& problem) {
    runnel::cli::note(problem.what());
    return 1;
  }
}
