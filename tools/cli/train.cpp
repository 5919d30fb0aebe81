// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <runnel/io/atomic_file.hpp>
#include <runnel/train/checkpoint.hpp>
#include <runnel/train/config_io.hpp>
#include <runnel/train/freeze.hpp>
#include <runnel/train/metrics.hpp>
#include <runnel/train/trainer.hpp>

#include "command.hpp"
#include "console.hpp"
#include "loss_picture.hpp"
#include "picture.hpp"
#include "training_output.hpp"
#include "training_setup.hpp"
#include "training_task.hpp"

namespace runnel::cli {

namespace {

/// Seconds as "2 h 03 min", "4 min 05 s" or "6 s".
std::string duration(double seconds) {
  const auto whole = static_cast<index_t>(std::min(std::max(seconds, 0.0), 1e9));
  const auto two = [](index_t number) { return message(number < 10 ? "0" : "", number); };
  if (whole >= 3600) return message(whole / 3600, " h ", two(whole / 60 % 60), " min");
  return whole >= 60 ? message(whole / 60, " min ", two(whole % 60), " s") : message(whole, " s");
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  io::write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

/// One run, from reading its data to writing its result.
class training_run {
 public:
  using trainer_type = train::trainer<task_model, task_batches>;

  training_run(const train::training_config& config, bool resume)
      : config_(config),
        output_(checked(config).output, resume),
        resume_(resume),
        memory_(available_memory()),
        task_(config.is_speech() ? make_speech_task(config, memory_) : make_text_task(config, memory_)) {}

  /// Says what is to come, and refuses what does not fit. Throws limit_error.
  void prepare() {
    line_.show("reading the data");
    figures_ = task_->read_data();
    line_.clear();
    const auto per_step = static_cast<double>(config_.batch.accumulation);
    const double batches = static_cast<double>(figures_.batches) * static_cast<double>(config_.epochs);
    steps_ = config_.steps != 0 ? config_.steps : static_cast<index_t>(std::ceil(batches / per_step));
    const auto count = train::count(task_->model().parameters());
    note(message("parameters: ", grouped(count.trained), " trained, ", grouped(count.frozen), " frozen"));
    for (const std::string& line : figures_.notes) note(printable(line));
    check_memory(count);
    last_ = last_of_schedule();
    trainer_for(config_, last_).check();
    describe_time();
  }

  void run() {
    const auto options = trainer_for(config_, last_, task_->identity());
    const auto source = task_->batches();
    const auto streams = task_->held_out();
    std::vector<train::validation_set<task_batches>> validation;
    for (const auto& [name, batches] : streams) validation.push_back({name, batches.get()});
    thread_team team(compute_for(config_).threads);
    auto trainer = std::make_unique<trainer_type>(task_->model(), *source, options, hooks(), team, validation);
    const bool goes_on = resume_ && trainer->resume();
    if (resume_) {
      note(goes_on ? message("going on after step ", trainer->state().step)
                   : message("there is no checkpoint in ", options.checkpoints.string(), ", beginning anew"));
    }
    output_.begin();
    metrics_.emplace(output_.path() / "metrics.jsonl", goes_on ? trainer->state().step : -1);
    points_ = train::metrics_file::read(output_.path() / "metrics.jsonl");
    write_text(output_.path() / "config.json", train::to_json(config_));
    first_step_ = trainer->state().step;
    begin_ = last_line_ = seconds_now();
    const auto end = trainer->run(interrupts::instance().token());
    line_.clear();
    draw();
    if (end == train::training_end::stopped) {
      note(message("stopped after step ", trainer->state().step, "; --resume goes on"));
      throw cancelled_error("interrupted");
    }
    take_weights(*trainer);
    trainer.reset();  // its memory is needed
    const auto written = task_->write_result();
    for (const auto& path : written) note("written: " + path.string());
    note("next: " + printable(task_->command_for(written.front())));
  }

 private:
  static constexpr double seconds_between_lines = 60;  // where progress is not shown

  /// What can be known to make no sense before anything is read is refused.
  [[nodiscard]] static const train::training_config& checked(const train::training_config& config) {
    static_cast<void>(formats_for(config));
    static_cast<void>(adapters_for(config));
    constexpr index_t unknown = std::numeric_limits<index_t>::max();
    const index_t last = config.schedule.steps != 0 ? config.schedule.steps : config.steps;
    trainer_for(config, last != 0 ? last : unknown).check();
    return config;
  }

  /// The step at which the learning rate has fallen: that of the settings, of the run that is gone on with, or the
  /// last.
  [[nodiscard]] index_t last_of_schedule() const {
    if (config_.schedule.steps != 0) return config_.schedule.steps;
    const auto identity =
        resume_ ? train::checkpoint_folder::last_identity(output_.checkpoints()) : std::optional<std::string>();
    const auto kept = identity ? train::run_identity::find(*identity, "schedule.steps") : std::nullopt;
    index_t step = 0;
    if (!kept || config_.schedule.kind == "constant") return steps_;
    const auto result = std::from_chars(kept->data(), kept->data() + kept->size(), step);
    if (result.ec != std::errc() || step <= 0) return steps_;
    if (step != steps_) {
      note(message("the learning rate falls until step ", step, ", as when the run began; --set schedule.steps=",
                   steps_, " would have it fall until the last step"));
    }
    return step;
  }

  void check_memory(const train::parameter_count& count) const {
    const auto needed = train::training_bytes(count, task_->activation_bytes());
    const auto least = train::training_bytes(count, 0);
    const bool hopeless = memory_ && least > *memory_;
    note(message("memory: about ", in_megabytes(static_cast<double>(needed)),
                 memory_ ? message(" of ", in_megabytes(static_cast<double>(*memory_)), " available") : std::string()));
    expect<limit_error>(
        !memory_ || needed <= *memory_, "training would take about ", in_megabytes(static_cast<double>(needed)),
        " of memory, and there are ", in_megabytes(static_cast<double>(memory_.value_or(0))),
        hopeless ? message(" (weights and what belongs to them alone take ", in_megabytes(static_cast<double>(least)),
                           "); a smaller model, freeze or lora.rank would make it less")
                 : message("; a smaller ", task_->smaller(), " would make it less"));
  }

  /// Measured on the first batch, whose gradients are thrown away.
  void describe_time() {
    const auto batch = task_->batches()->next();
    if (!batch) return;
    train::step_options how;
    how.scale = 0;
    how.checkpointing = config_.activation_checkpointing;
    auto& model = task_->model();
    const double begin = seconds_now();
    static_cast<void>(model.accumulate(batch->rows, how));
    const double speed = batch->work / std::max(1e-6, seconds_now() - begin);
    for (auto& one : model.parameters()) std::fill(one.gradient.values().begin(), one.gradient.values().end(), 0.0f);
    const double work = figures_.work / static_cast<double>(std::max<index_t>(1, figures_.batches)) *
                        static_cast<double>(config_.batch.accumulation) * static_cast<double>(steps_);
    note(message("time: about ", duration(work / speed), " for ", grouped(steps_), " steps, at ", fixed(speed, 0), ' ',
                 task_->unit(), "/s in a first batch"));
  }

  [[nodiscard]] train::trainer_hooks hooks() {
    train::trainer_hooks out;
    out.step = [this](const train::step_report& report) { take(report); };
    out.validation = [this](const train::validation_report& report) { take(report); };
    out.validating = [this](index_t, index_t labels) {
      line_.show(message("validating: ", grouped(labels), " tokens"));
    };
    out.note = [this](std::string_view text) {
      line_.clear();
      note(printable(text));
    };
    return out;
  }

  /// A line that cannot be written ends the run where a checkpoint that cannot be written does.
  template <class Report>
  void write_metrics(const Report& report) {
    constexpr bool validates = std::is_same_v<Report, train::validation_report>;
    points_.push_back({report.step, validates, std::isfinite(report.loss) ? std::optional(report.loss) : std::nullopt});
    try {
      metrics_->add(report);
      metrics_fail_ = false;
    } catch (const io_error& problem) {
      if (config_.checkpoint.on_failure == "stop") throw;
      if (!std::exchange(metrics_fail_, true)) note(problem.what());
    }
  }

  void take(const train::step_report& report) {
    write_metrics(report);
    const double now = seconds_now();
    const double a_step = (now - begin_) / static_cast<double>(std::max<index_t>(1, report.step - first_step_));
    // Epochs may have more batches than the first had.
    const auto text =
        message("step ", report.step, '/', std::max(report.step, steps_), "  loss ", fixed(report.loss, 4), "  ",
                fixed(100 * report.accuracy, 1), " % right  ", speed(report), "  ETA ",
                duration(a_step * static_cast<double>(std::max<index_t>(0, steps_ - report.step))));
    line_.show(text);
    if (line_.is_enabled() || now - last_line_ < seconds_between_lines) return;
    last_line_ = now;
    note(text);
  }

  /// A task whose unit is no row is measured by its steps.
  [[nodiscard]] std::string speed(const train::step_report& report) const {
    const double rows = report.rows_per_second;
    if (task_->unit() == "tokens") return message(fixed(rows, 0), " tokens/s");
    const double a_step = figures_.work / static_cast<double>(std::max<index_t>(1, figures_.batches)) *
                          static_cast<double>(config_.batch.accumulation);
    const double seconds =
        (seconds_now() - begin_) / static_cast<double>(std::max<index_t>(1, report.step - first_step_));
    return message(fixed(a_step / std::max(1e-6, seconds), 0), ' ', task_->unit(), "/s");
  }

  void take(const train::validation_report& report) {
    write_metrics(report);
    line_.clear();
    std::string sets;
    for (const auto& one : report.sets) {
      if (report.sets.size() > 1) sets += message(", ", printable(one.name), ' ', fixed(one.loss, 4));
    }
    note(message("step ", report.step, ": validation loss ", fixed(report.loss, 4), sets, ", ",
                 fixed(100 * report.accuracy, 1), " % of tokens right", report.best ? ", the best so far" : ""));
    draw();
  }

  /// A picture that cannot be drawn or written ends nothing; one that cannot be drawn is not tried again.
  void draw() {
    if (without_pictures_) return;
    try {
      write_text(output_.path() / "loss.svg", draw_losses(points_, message("Loss: ", config_.output)));
    } catch (const picture_error& problem) {
      without_pictures_ = true;
      note(message("there will be no loss.svg: ", problem.what()));
    } catch (const error& problem) {
      note(problem.what());
    }
  }

  /// Those that the result shall have.
  void take_weights(trainer_type& trainer) const {
    const auto& state = trainer.state();
    note(message(state.step, " steps in ", duration(state.seconds),
                 state.skipped > 0 ? message(", ", state.skipped, " of them skipped") : std::string()));
    if (config_.result.weights != "best" || state.best_step < 0) return;
    try {
      const auto best = trainer.load_best();
      note(message("taking the weights of step ", best.step, ", validation loss ", fixed(best.best_loss, 4)));
    } catch (const error& problem) {
      note(message("the weights that did best cannot be read, those of step ", state.step,
                   " are taken: ", printable(problem.what())));
    }
  }

  const train::training_config& config_;
  training_output output_;
  bool resume_;
  std::optional<std::size_t> memory_;  // before anything was loaded
  std::unique_ptr<training_task> task_;
  task_figures figures_;
  index_t steps_ = 0, first_step_ = 0;
  index_t last_ = 0;  // of the schedule
  std::optional<train::metrics_file> metrics_;
  std::vector<train::metrics_point> points_;  // what the file says
  bool metrics_fail_ = false;
  bool without_pictures_ = false;
  progress line_;
  double begin_ = 0, last_line_ = 0;
};

class train_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "train"; }
  [[nodiscard]] const char* summary() const override {
    return "Train a streaming model on parallel text or recordings, from scratch or from another model";
  }

  void declare(arguments& options) override {
    options.text("config", path_, "CONFIG.json", "The settings, as below");
    options.texts("--set", overrides_, "KEY=VALUE", "A setting in place of the file's, as in batch.rows=2048");
    options.flag("--resume", resume_, "Go on from the last checkpoint in the output folder, if it has one");
    options.flag("--print-config", print_, "Print all settings as they are with the file and --set, and do nothing");
    options.footer(
        "Everything goes into the output folder: metrics.jsonl, loss.svg (drawn by gnuplot, if it is there), "
        "config.json,\n"
        "checkpoints, and in the end the model for Hugging Face (model/) and as GGUF (model.gguf), or the adapter for "
        "PEFT\n(adapter/). Of recordings comes a speech model (model/, adapters merged), or an encoder (encoder/).\n"
        "Ctrl-C saves and stops. A run that was stopped or killed goes on with --resume, as if nothing had been.\n"
        "Relative paths, also those in CONFIG.json, are meant from the working directory.\n"
        "Examples:\n"
        "  runnel train translator.json --set output=runs/first\n"
        "  runnel train translator.json --set output=runs/first --resume\n"
        "  runnel train tuned.json --set lora.rank=8 --set steps=200\n"
        "  runnel train examples/training/digits/ctc.json                 (its README says what goes before)\n"
        "Settings, with their defaults:\n" +
        train::describe_settings());
  }

  void run() override {
    train::settings from;
    if (!path_.empty()) from.add_file(path_);
    for (const std::string& one : overrides_) from.add_override(one);
    const auto config = train::read_config(from);
    if (print_) {
      output out;
      out.write(train::to_json(config));
      out.flush();
      return;
    }
    training_run run(config, resume_);
    run.prepare();
    run.run();
  }

 private:
  std::string path_;
  std::vector<std::string> overrides_;
  bool resume_ = false;
  bool print_ = false;
};

}  // namespace

std::unique_ptr<command> make_train_command() { return std::make_unique<train_command>(); }

}  // namespace runnel::cli
