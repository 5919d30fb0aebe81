// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/core/thread_team.hpp>
#include <runnel/train/checkpoint.hpp>
#include <runnel/train/loss.hpp>
#include <runnel/train/metrics.hpp>
#include <runnel/train/optimizer.hpp>
#include <runnel/train/schedule.hpp>

namespace runnel::train {

/// Where batches come from: `next()` gives an optional of something with `rows` (training_rows, one a stream) and
/// maybe `describe()` (data set and sentences, for messages), nothing at the end; `state()` is a text (UTF-8) with
/// which `restore` goes back to where it was taken.
template <class Source>
concept BatchSource = requires(Source& source, const std::string& state) {
  {std::span<const training_rows>((*source.next()).rows)};
  { source.next().has_value() } -> std::convertible_to<bool>;
  { source.state() } -> std::convertible_to<std::string>;
  source.restore(state);
};

/// What happens when loss or gradients are NaN or infinite.
enum class overflow_action : std::uint8_t { stop, skip };

/// What happens when a checkpoint cannot be written.
enum class save_failure_action : std::uint8_t { stop, go_on };

struct trainer_options {
  schedule rate;
  adamw_options optimizer;
  double clip_norm = 1;      ///< bound of the norm of all gradients together; 0: none
  index_t steps = 1;         ///< in all, those before a resumption included
  index_t accumulation = 1;  ///< batches a step
  double label_smoothing = 0;
  double dropout = 0;
  double adapter_dropout = 0;  ///< of what low-rank adapters are given
  bool checkpointing = false;  ///< of activations
  std::uint64_t seed = 0;
  overflow_action on_overflow = overflow_action::stop;
  save_failure_action on_save_failure = save_failure_action::stop;
  index_t validate_every = 0;         ///< steps; 0: never. Also before the first step and after the last.
  index_t save_every = 0;             ///< steps; 0: none for their number
  double save_seconds = 0;            ///< between checkpoints; 0: none for their age
  std::filesystem::path checkpoints;  ///< folder; empty: none are written
  run_identity identity;

  /// Throws config_error for values that make no sense.
  void check() const {
    rate.check();
    optimizer.check();
    expect(std::isfinite(clip_norm) && clip_norm >= 0, "trainer: expected a norm of at least 0 to clip to, found ",
           clip_norm);
    expect(steps >= 0, "trainer: expected at least 0 steps, found ", steps);
    expect(accumulation >= 1, "trainer: expected at least 1 batch a step, found ", accumulation);
    expect(label_smoothing >= 0 && label_smoothing < 1, "trainer: expected label smoothing in [0, 1), found ",
           label_smoothing);
    for (const double share : {dropout, adapter_dropout}) {
      expect(share >= 0 && share < 1, "trainer: expected dropout in [0, 1), found ", share);
    }
    expect(validate_every >= 0 && save_every >= 0 && save_seconds >= 0,
           "trainer: expected intervals of at least 0 steps or seconds");
  }
};

/// Who is told. All may be empty; what they throw ends the run, which stands at its last checkpoint then.
struct trainer_hooks {
  std::function<void(const step_report&)> step;
  std::function<void(const validation_report&)> validation;
  std::function<void(index_t done, index_t labels)> validating;  ///< after each batch of a validation
  std::function<void(std::string_view)> note;                    ///< what did not end the run, but should be known
  std::function<double()> clock;                                 ///< seconds; empty: the steady clock
};

/// Why a run ended.
enum class training_end : std::uint8_t { done, stopped, out_of_data };

/// Sentences to validate on.
template <class Source>
struct validation_set {
  std::string name;
  Source* source;  ///< validated on from where it stands when the trainer is made, whole
};

namespace detail {

template <class Batch>
[[nodiscard]] std::string describe(const Batch& batch) {
  if constexpr (requires {
                  { batch.describe() } -> std::convertible_to<std::string>;
                }) {
    return batch.describe();
  } else {
    return {};
  }
}

}  // namespace detail

/// Trains a model: batches are accumulated, gradients clipped, parameters updated, the model validated, and all of it
/// saved, so that a run that was stopped or killed goes on as if nothing had been. For one seed the bits are the same
/// whatever the number of threads, as long as the model's gradients are.
///
///     trainer run(model, batches, options, hooks, team);
///     run.resume();
///     run.run(stop);
template <Trainable Model, BatchSource Source>
class trainer {
 public:
  /// What runs may skip one after another before they end: a model that overflows for ever does not recover.
  static constexpr index_t most_skips_in_a_row = 100;

  /// Everything given must outlive the trainer; which parameters have gradients is settled now. Throws config_error.
  trainer(Model& model, Source& source, const trainer_options& options, trainer_hooks hooks, thread_team& team,
          std::vector<validation_set<Source>> validation = {})
      : model_(model),
        source_(source),
        options_((options.check(), options)),
        hooks_(std::move(hooks)),
        team_(team),
        optimizer_(model.parameters(), options.optimizer),
        folder_(options.checkpoints, options.identity, optimizer_, model.parameters()),
        validation_(std::move(validation)) {
    for (const auto& set : validation_) validation_starts_.push_back(set.source->state());
    state_.data = source_.state();
  }
  trainer(const trainer&) = delete;
  trainer& operator=(const trainer&) = delete;

  /// Goes back to the newest whole checkpoint of the folder; false if it has none. Throws format_error (other_run_error
  /// for one of another run), what the source's `restore` throws.
  bool resume() {
    expect(!options_.checkpoints.empty(), "trainer: there is no folder to resume from");
    folder_.clean();
    auto found = folder_.load_last(hooks_.note);
    if (!found) return false;
    source_.restore(found->data);
    state_ = std::move(*found);
    saved_step_ = state_.step;
    folder_.remove_before(state_.step);
    std::error_code ignored;
    if (state_.best_step >= 0 && !std::filesystem::exists(folder_.best_path(), ignored)) {
      note(message(folder_.best_path().string(), " is gone: what did best is forgotten"));
      state_.best_step = -1;
    }
    return true;
  }

  /// Trains until all steps are done, `stop` is requested, or the source ends; then saves. Throws limit_error naming
  /// step, batch and layer or parameter if loss or gradients overflow and that is not to be skipped, once what was
  /// before that step is saved, and if an update made a parameter that is not finite, which is never saved; io_error if
  /// a checkpoint cannot be written and that ends the run; what model, source and hooks throw.
  training_end run(std::stop_token stop = {}) {
    started_ = now();
    before_ = state_.seconds;
    saved_at_ = started_;
    bool out_of_data = false;
    for (;;) {
      const bool last = out_of_data || state_.step >= options_.steps;
      if (is_validation_due(last) && !validate(stop)) return finish(training_end::stopped);
      if (last) return finish(out_of_data ? training_end::out_of_data : training_end::done);
      if (is_save_due()) save();
      if (stop.stop_requested()) return finish(training_end::stopped);
      switch (train_step(stop)) {
        case step_end::done: break;
        case step_end::stopped: return finish(training_end::stopped);
        case step_end::out_of_data: out_of_data = true; break;
      }
    }
  }

  /// Gives the model the parameters that did best in validation. Throws io_error or format_error; then it keeps those
  /// that it has.
  training_state load_best() {
    expect<io_error>(state_.best_step >= 0, "trainer: nothing was validated and kept");
    return folder_.load_best(state_.best_step);
  }

  [[nodiscard]] const training_state& state() const noexcept { return state_; }
  [[nodiscard]] const checkpoint_folder& checkpoints() const noexcept { return folder_; }

 private:
  using batch_type = typename decltype(std::declval<Source&>().next())::value_type;

  enum class step_end : std::uint8_t { done, stopped, out_of_data };

  [[nodiscard]] double now() const {
    if (hooks_.clock) return hooks_.clock();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  void note(std::string_view text) const {
    if (hooks_.note) hooks_.note(text);
  }

  [[nodiscard]] bool is_validation_due(bool last) const {
    if (options_.validate_every == 0 || validation_.empty() || state_.validated_step == state_.step) return false;
    return last || state_.step % options_.validate_every == 0;
  }

  [[nodiscard]] bool is_save_due() const {
    if (options_.checkpoints.empty() || saved_step_ == state_.step) return false;
    const bool by_steps = options_.save_every != 0 && state_.step > 0 && state_.step % options_.save_every == 0;
    return by_steps || (options_.save_seconds > 0 && now() - saved_at_ >= options_.save_seconds);
  }

  training_end finish(training_end why) {
    if (!options_.checkpoints.empty() && saved_step_ != state_.step) save();
    return why;
  }

  void save() {
    try_to_write([&] { folder_.save(state_); });
    saved_step_ = state_.step;
    saved_at_ = now();
  }

  /// Whether it was written.
  template <class F>
  bool try_to_write(F&& write) {
    try {
      write();
      return true;
    } catch (const io_error& problem) {
      if (options_.on_save_failure == save_failure_action::stop) throw;
      note(message("step ", state_.step, ": no checkpoint was written, training goes on: ", problem.what()));
      return false;
    }
  }

  /// The batches of a step; fewer than asked for, or none, where the source ends.
  [[nodiscard]] std::vector<batch_type> gather(const std::stop_token& stop) {
    std::vector<batch_type> out;
    while (static_cast<index_t>(out.size()) < options_.accumulation && !stop.stop_requested()) {
      auto batch = source_.next();
      if (!batch) break;
      out.push_back(std::move(*batch));
    }
    return out;
  }

  step_end train_step(const std::stop_token& stop) {
    const double begin = now();
    const auto batches = gather(stop);
    if (stop.stop_requested()) return forget_step();
    if (batches.empty()) return step_end::out_of_data;
    index_t labels = 0, rows = 0;
    for (const auto& batch : batches) {
      for (const training_rows& one : std::span<const training_rows>(batch.rows)) {
        labels += static_cast<index_t>(one.labels.size());
        rows += static_cast<index_t>(one.tokens.size());
      }
    }
    expect<format_error>(labels > 0, "step ", state_.step + 1, ": nothing is to be predicted", where(batches.front()));
    batch_loss loss;
    std::string problem;
    for (std::size_t i = 0; i < batches.size() && problem.empty(); ++i) {
      if (stop.stop_requested()) return forget_step();
      loss += pass(batches[i], static_cast<index_t>(i), labels, problem);
    }
    const double norm = problem.empty() ? optimizer_.gradient_norm(team_) : 0;
    if (problem.empty() && !std::isfinite(norm)) problem = gradient_problem(batches, norm);
    const double rate = options_.rate.at(state_.step);
    update(problem, norm, rate);
    state_.data = source_.state();
    state_.rows += rows;
    state_.labels += labels;
    const double end = now();
    state_.seconds = before_ + (end - started_);
    report(loss, norm, rate, rows, end - begin, !problem.empty());
    return step_end::done;
  }

  void report(const batch_loss& loss, double norm, double rate, index_t rows, double seconds, bool skipped) const {
    if (!hooks_.step) return;
    const auto count = static_cast<double>(std::max<index_t>(1, loss.labels));
    step_report out;
    out.step = state_.step;
    out.loss = loss.sum / count;
    out.nll = loss.nll / count;
    out.accuracy = static_cast<double>(loss.correct) / count;
    out.rate = rate;
    out.gradient_norm = norm;
    out.rows = rows;
    out.labels = loss.labels;
    out.seconds = state_.seconds;
    out.rows_per_second = seconds > 0 ? static_cast<double>(rows) / seconds : 0;
    out.skipped = state_.skipped;
    out.was_skipped = skipped;
    hooks_.step(out);
  }

  /// One batch, forward and backward; `problem` says what overflowed, if something did.
  batch_loss pass(const batch_type& batch, index_t number, index_t labels, std::string& problem) {
    step_options how;
    how.scale = 1.0 / static_cast<double>(labels);
    how.label_smoothing = options_.label_smoothing;
    how.dropout = options_.dropout;
    how.adapter_dropout = options_.adapter_dropout;
    how.checkpointing = options_.checkpointing;
    how.seed = derive_seed(options_.seed, state_.step, number);  // another for every step and batch of it
    const batch_loss loss = model_.accumulate(batch.rows, how);
    if (std::isfinite(loss.sum) && std::isfinite(loss.nll)) return loss;
    problem = message("step ", state_.step + 1, ": the loss is ", in_words(loss.sum), layer_problem(batch),
                      value_problem(), where(batch));
    return loss;
  }

  [[nodiscard]] std::string gradient_problem(const std::vector<batch_type>& batches, double norm) {
    std::string layer, all;
    constexpr std::size_t most = 1000;
    for (const auto& batch : batches) {
      if (layer.empty()) layer = layer_problem(batch);
      if (all.size() < most) all += where(batch);
    }
    return message("step ", state_.step + 1, ": the norm of the gradients is ", in_words(norm),
                   ", the first gradient that is not finite is that of ", optimizer_.first_non_finite(), layer,
                   value_problem(), all);
  }

  /// The layers behind a parameter that is not finite are not to blame.
  [[nodiscard]] std::string value_problem() const {
    const std::string name = optimizer_.first_non_finite_value();
    return name.empty() ? name : message(", as an update has left parameter ", name, " not finite");
  }

  [[nodiscard]] std::string layer_problem(const batch_type& batch) {
    const std::string layer = model_.first_non_finite(batch.rows);
    return layer.empty() ? layer : message(", the first layer with values that are not finite is ", layer);
  }

  [[nodiscard]] static std::string in_words(double number) {
    return std::isnan(number) ? "NaN" : std::isinf(number) ? "infinite" : message(number);
  }

  [[nodiscard]] static std::string where(const batch_type& batch) {
    constexpr std::size_t most = 300;
    std::string text = detail::describe(batch);
    if (text.size() > most) {
      const auto end = text.rfind(", ", most);
      text = text.substr(0, end == std::string::npos ? most : end) + ", ...";
    }
    return text.empty() ? text : message("; batch: ", text);
  }

  void update(const std::string& problem, double norm, double rate) {
    if (problem.empty()) {
      optimizer_.step(rate, adamw::clip_factor(norm, options_.clip_norm), team_);
      state_.updates = optimizer_.steps();
      state_.skipped_in_a_row = 0;
      ++state_.step;
      return;
    }
    const bool skips = options_.on_overflow == overflow_action::skip;
    if (!skips || state_.skipped_in_a_row + 1 >= most_skips_in_a_row) {
      forget_step();
      if (optimizer_.first_non_finite_value().empty()) finish(training_end::stopped);  // as before that step
      fail<limit_error>(problem, skips ? message("; so did ", state_.skipped_in_a_row, " steps before it") : "");
    }
    optimizer_.clear_gradients(team_);
    ++state_.skipped;
    ++state_.skipped_in_a_row;
    ++state_.step;
    note(message(problem, "; skipped, ", state_.skipped, " so far"));
  }

  /// As if the step had not begun: the state is that of the step before, and so will be the data's when it is restored.
  step_end forget_step() {
    optimizer_.clear_gradients(team_);
    source_.restore(state_.data);
    return step_end::stopped;
  }

  /// False if it was stopped; then it is done again when the run goes on.
  bool validate(const std::stop_token& stop) {
    validation_report out;
    out.step = state_.step;
    batch_loss all;
    for (std::size_t i = 0; i < validation_.size(); ++i) {
      auto& set = validation_[i];
      set.source->restore(validation_starts_[i]);
      batch_loss sum;
      while (auto batch = set.source->next()) {
        if (stop.stop_requested()) return false;
        sum += model_.evaluate(batch->rows);
        if (hooks_.validating) hooks_.validating(state_.step, all.labels + sum.labels);
      }
      expect<format_error>(sum.labels > 0, "validation set ", set.name, ": nothing is to be predicted");
      out.sets.push_back({set.name, sum.nll / static_cast<double>(sum.labels), sum.labels});
      all += sum;
    }
    out.labels = all.labels;
    out.loss = all.nll / static_cast<double>(all.labels);
    out.accuracy = static_cast<double>(all.correct) / static_cast<double>(all.labels);
    out.best = std::isfinite(out.loss) && (state_.best_step < 0 || out.loss < state_.best_loss);
    state_.seconds = before_ + (now() - started_);
    out.seconds = state_.seconds;
    state_.validated_step = state_.step;
    saved_step_ = -1;  // the last checkpoint does not know of this
    if (out.best) {
      training_state best = state_;
      best.best_step = state_.step;
      best.best_loss = out.loss;
      out.best = options_.checkpoints.empty() || try_to_write([&] { folder_.save_best(best); });
      if (out.best) state_ = std::move(best);  // one that could not be kept cannot be the result
    }
    if (hooks_.validation) hooks_.validation(out);
    return true;
  }

  Model& model_;
  Source& source_;
  trainer_options options_;
  trainer_hooks hooks_;
  thread_team& team_;
  adamw optimizer_;
  checkpoint_folder folder_;
  std::vector<validation_set<Source>> validation_;
  std::vector<std::string> validation_starts_;
  training_state state_;
  index_t saved_step_ = -1;
  double started_ = 0;
  double before_ = 0;  // seconds of training before this run
  double saved_at_ = 0;
};

}  // namespace runnel::train
