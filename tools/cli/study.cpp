// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/digest.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>

#include "command.hpp"
#include "console.hpp"
#include "options.hpp"
#include "study_config.hpp"
#include "study_report.hpp"
#include "study_results.hpp"
#include "subprocess.hpp"

namespace runnel::cli {

namespace {

bool is_wanted(const study_cell& cell, const std::string& only) { return cell.name.find(only) != std::string::npos; }

/// Does what of a study is not done.
class study_run {
 public:
  study_run(const study_config& study, std::string only, std::size_t threads)
      : study_(study), cells_(cells_of(study)), only_(std::move(only)), threads_(threads) {}

  /// Trains and translates what is missing, writes each result when it is known.
  void run() {
    for (const auto& cell : cells_) {
      if (is_wanted(cell, only_) && !cell.is_timed) finish(cell);
    }
    // By turns, for machines whose speed changes from one minute to the next.
    for (std::int64_t round = 1; round <= study_.rounds; ++round) {
      for (const auto& cell : cells_) {
        if (is_wanted(cell, only_) && cell.is_timed) measure(cell, round);
      }
    }
  }

 private:
  void finish(const study_cell& cell) const {
    if (study_result(study_, cell).is_complete()) return;
    make_used(cell);
    study_result result(study_, cell);
    note(message("study: ", cell.name, ", ", 1 + (&cell - cells_.data()), " of ", cells_.size()));
    train(cell, result);
    translate(cell, result);
  }

  /// Has the model that a cell begins with, which another makes: a clone has the results alone.
  void make_used(const study_cell& cell) const {
    const auto maker =
        std::find_if(cells_.begin(), cells_.end(), [&](const auto& one) { return one.name == cell.made_by; });
    if (maker == cells_.end()) return;
    make_used(*maker);
    study_result result(study_, *maker);
    train(*maker, result);
    translate(*maker, result);
  }

  void measure(const study_cell& cell, std::int64_t round) const {
    if (study_result(study_, cell).is_complete()) return;
    make_used(cell);
    study_result result(study_, cell);
    note(message("study: ", cell.name, ", round ", round, " of ", study_.rounds));
    for (const auto& one : cell.evaluations) {
      if (result.rounds(one) < round) evaluate({&one}, 1, result, [] {});
    }
  }

  void train(const study_cell& cell, study_result& result) const {
    if (cell.train.empty()) return;
    std::error_code problem;
    const auto model = cell.output / "model";
    if (result.is_trained() && std::filesystem::exists(model / "config.json", problem)) {
      expect<io_error>(result.is_of(model), model.string(), ": is not the model of the results of ", cell.name,
                       "; remove ", cell.output.string(), " to have it trained again");
      return;
    }
    own_command command{cell.train};
    if (is_begun(cell)) command.arguments.emplace_back("--resume");
    note(shell_command(command.arguments));
    run_own_commands({command}, 1, [](std::size_t) {});
    result.add_training();
  }

  /// Whether a run is there to go on with; then checks that this command began it, else notes the command beside it.
  [[nodiscard]] static bool is_begun(const study_cell& cell) {
    const auto wanted = message(shell_command(cell.train), "\nrecipe (digest): ", digest(cell.recipe, 0), '\n');
    const std::string noted = cell.output.string() + ".command";
    std::error_code problem;
    if (std::filesystem::exists(cell.output / "config.json", problem)) {
      const bool known = std::filesystem::exists(noted, problem);
      expect<io_error>(known && read_all(noted) == wanted, cell.output.string(),
                       ": was begun by another command or recipe than ", shell_command(cell.train),
                       "; remove it, or give the study another folder for its work");
      return true;
    }
    std::filesystem::create_directories(cell.output.parent_path());
    io::write_file_atomically(noted, std::as_bytes(std::span(wanted.data(), wanted.size())));
    return false;
  }

  void translate(const study_cell& cell, study_result& result) const {
    std::vector<const study_evaluation*> missing;
    for (const auto& one : cell.evaluations) {
      if (result.scores(one) == nullptr) missing.push_back(&one);
    }
    progress shown;
    std::size_t done = 0;
    evaluate(missing, threads_, result,
             [&] { shown.show(message("study: ", cell.name, ": ", ++done, " of ", missing.size(), " evaluations")); });
  }

  static void evaluate(const std::vector<const study_evaluation*>& all, std::size_t at_once, study_result& result,
                       const std::function<void()>& done) {
    std::vector<own_command> commands;
    for (const auto* one : all) {
      std::filesystem::create_directories(one->folder.parent_path());
      own_command command{one->command, log_of(*one)};
      if (!one->is_bench) command.arguments.insert(command.arguments.end(), {"--output", one->folder.string()});
      commands.push_back(std::move(command));
    }
    run_own_commands(commands, at_once, [&](std::size_t index) {
      result.add_evaluation(*all[index]);
      done();
    });
  }

  const study_config& study_;
  std::vector<study_cell> cells_;
  std::string only_;
  std::size_t threads_;
};

class study_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "study"; }
  [[nodiscard]] const char* summary() const override {
    return "Train and measure the plans of a study, and report what came of it";
  }

  void declare(arguments& options) override {
    options.text("config", path_, "STUDY.json", "The study: models, what they translate, tables and figures")
        .required();
    options.text("--only", only_, "TEXT", "Only results with this in their names (group-s1)");
    options.flag("--list", list_, "Show what is done and what is missing, and do nothing");
    options.flag("--commands", commands_, "Show the commands that are to be run, and do nothing");
    options.flag("--report", report_, "Only write the report of what is done");
    options.whole("-t,--threads", threads_, "N", "Translations at a time; 0: one a processor", 0, 1024);
    options.footer(
        "Each model is trained by 'runnel train' and evaluated by 'runnel translate', as the commands in its result\n"
        "say; a result is a JSON file, written when it is known. What is there is not done again, so a study that was\n"
        "stopped goes on when it is called again. The report has the tables and figures of what is there.\n"
        "Examples:\n"
        "  runnel study examples/study/study.json --list\n"
        "  runnel study examples/study/study.json --only group-s1\n"
        "  runnel study examples/study/study.json --report");
  }

  void run() override {
    const auto study = read_study(path_);
    const auto cells = cells_of(study);
    expect<config_error>(
        std::any_of(cells.begin(), cells.end(), [&](const auto& one) { return is_wanted(one, only_); }),
        "--only: no result of ", study.path, " has '", printable(only_), "' in its name");
    if (list_ || commands_) return show(study);
    if (!report_) study_run(study, only_, static_cast<std::size_t>(threads_for(threads_))).run();
    for (const auto& file : write_report(study)) note(message("written: ", file.string()));
  }

 private:
  void show(const study_config& study) const {
    output out;
    for (const auto& cell : cells_of(study)) {
      if (!is_wanted(cell, only_)) continue;
      const study_result result(study, cell);
      if (list_) {
        const auto count = std::count_if(cell.evaluations.begin(), cell.evaluations.end(),
                                         [&](const auto& one) { return result.scores(one) != nullptr; });
        out.write(message(cell.name, '\t', result.is_trained() ? "trained" : "not trained", '\t', count, " of ",
                          cell.evaluations.size(), " evaluations\n"));
      }
      if (!commands_) continue;
      if (!result.is_trained()) out.write(shell_command(cell.train) + '\n');
      for (const auto& one : cell.evaluations) {
        if (result.scores(one) == nullptr) out.write(whole_command(one) + '\n');
      }
    }
    out.flush();
  }

  std::string path_;
  std::string only_;
  bool list_ = false;
  bool commands_ = false;
  bool report_ = false;
  std::int64_t threads_ = 0;
};

}  // namespace

std::unique_ptr<command> make_study_command() { return std::make_unique<study_command>(); }

}  // namespace runnel::cli
