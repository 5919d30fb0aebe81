// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/train/config.hpp>
#include <runnel/train/trainer.hpp>

/// \file
/// What `runnel train` does with any kind of data and model: a task gives the model, batches and results, the run does
/// the rest.

namespace runnel::cli {

/// A batch of any task.
struct task_batch {
  std::vector<train::training_rows> rows;
  std::string source;  ///< for messages
  double work = 0;     ///< in the task's unit

  [[nodiscard]] const std::string& describe() const noexcept { return source; }
};

/// Batches of any task, as `train::BatchSource` has them.
class task_batches {
 public:
  virtual ~task_batches() = default;
  [[nodiscard]] virtual std::optional<task_batch> next() = 0;
  [[nodiscard]] virtual std::string state() const = 0;
  virtual void restore(std::string_view state) = 0;
};

/// A model of any task, as `train::Trainable` has it.
class task_model {
 public:
  virtual ~task_model() = default;
  [[nodiscard]] virtual autograd::parameter_list<float>& parameters() = 0;
  virtual train::batch_loss accumulate(std::span<const train::training_rows> batch,
                                       const train::step_options& options) = 0;
  [[nodiscard]] virtual train::batch_loss evaluate(std::span<const train::training_rows> batch) = 0;
  [[nodiscard]] virtual std::string first_non_finite(std::span<const train::training_rows> batch) = 0;
};

/// Any trainable model as one of a task.
template <class Model>
class model_of final : public task_model {
 public:
  explicit model_of(Model& of) : of_(of) {}
  autograd::parameter_list<float>& parameters() override { return of_.parameters(); }
  train::batch_loss accumulate(std::span<const train::training_rows> batch,
                               const train::step_options& options) override {
    return of_.accumulate(batch, options);
  }
  train::batch_loss evaluate(std::span<const train::training_rows> batch) override { return of_.evaluate(batch); }
  std::string first_non_finite(std::span<const train::training_rows> batch) override {
    return of_.first_non_finite(batch);
  }

 private:
  Model& of_;
};

/// What is known of the data once it was read.
struct task_figures {
  index_t batches = 0;  ///< of an epoch
  double work = 0;      ///< of an epoch, in the task's unit
  std::vector<std::string> notes;
};

/// A training: what it begins with, what it is fed, what comes of it. Everything throws what the library throws.
class training_task {
 public:
  virtual ~training_task() = default;

  [[nodiscard]] virtual task_model& model() = 0;
  /// Lines "key = value" beside those of the settings that a run which is gone on with must share.
  [[nodiscard]] virtual std::string identity() const = 0;
  /// What `task_batch::work` counts, for "1,000 tokens/s".
  [[nodiscard]] virtual std::string_view unit() const = 0;

  /// Reads the data once.
  [[nodiscard]] virtual task_figures read_data() = 0;
  /// Bytes that a pass over the largest batch takes beside parameters; after `read_data`.
  [[nodiscard]] virtual std::size_t activation_bytes() const = 0;
  /// What would make it less.
  [[nodiscard]] virtual std::string_view smaller() const = 0;

  [[nodiscard]] virtual std::unique_ptr<task_batches> batches() = 0;
  /// To validate on, by name.
  [[nodiscard]] virtual std::vector<std::pair<std::string, std::unique_ptr<task_batches>>> held_out() = 0;

  /// Writes what was trained into the output folder; what was there before stays until the new is whole.
  [[nodiscard]] virtual std::vector<std::filesystem::path> write_result() = 0;
  /// The command that runs what was written.
  [[nodiscard]] virtual std::string command_for(const std::filesystem::path& written) const = 0;
};

/// The task that settings are about. Refuses what does not fit into `memory` bytes. `config` must outlive it.
[[nodiscard]] std::unique_ptr<training_task> make_text_task(const train::training_config& config,
                                                            std::optional<std::size_t> memory);
[[nodiscard]] std::unique_ptr<training_task> make_speech_task(const train::training_config& config,
                                                              std::optional<std::size_t> memory);

/// 1234567 as "1,234,567".
[[nodiscard]] std::string grouped(index_t number);

}  // namespace runnel::cli
