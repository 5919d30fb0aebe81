// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "study_config.hpp"

/// \file
/// What came of a study: a JSON file for each trained model and each measure, written when it is known, with the
/// commands that gave it. What was done by other commands than the study says now is not taken for done.

namespace runnel::cli {

/// One thing that has to be known: a command, and where its result stands.
struct study_evaluation {
  std::string pair;
  std::int64_t wait = 0;  ///< 0: reads all first
  std::vector<std::string> command;
  std::filesystem::path folder;  ///< for the command's --output
  bool is_bench = false;         ///< a pass of `runnel bench`, which prints its figures
};

/// Where what an evaluation prints is kept.
[[nodiscard]] std::filesystem::path log_of(const study_evaluation& one);

/// The command, and where what it writes goes, as a shell has to be told them.
[[nodiscard]] std::string whole_command(const study_evaluation& one);

/// One result file: of a model and seed, or of a measure.
struct study_cell {
  std::string name;                ///< of the file: "group-s1"
  std::vector<std::string> train;  ///< command; empty: nothing is trained
  std::string recipe;              ///< the file of settings, as it stands
  std::string uses;                ///< the model that training starts from, or that is measured; may be empty
  std::string made_by;             ///< the cell before this one that makes it, or nothing
  std::filesystem::path output;    ///< what training makes
  std::vector<study_evaluation> evaluations;
  std::int64_t rounds = 1;  ///< how often each evaluation is done
  bool is_timed = false;    ///< evaluations run one after another, by turns with those of other timed cells
};

/// The cells of a study in their order: all models with their first seed, all with their second, ...; then measures.
[[nodiscard]] std::vector<study_cell> cells_of(const study_config& study);
[[nodiscard]] std::string cell_name(const study_model& model, std::int64_t seed);

/// The result file of a cell as it stands, and what of it is done.
class study_result {
 public:
  /// Reads it, if it is there. What was made by another command, recipe or model is taken for not done. Throws
  /// io_error, format_error.
  study_result(const study_config& study, const study_cell& cell);

  [[nodiscard]] bool is_trained() const;
  /// What model was trained, as far as that is known; empty: none.
  [[nodiscard]] std::string weights() const { return json_.value("weights", std::string()); }
  /// Whether the model at `path` is the one that was trained, as far as that is known.
  [[nodiscard]] bool is_of(const std::filesystem::path& path) const;
  /// How often an evaluation was done.
  [[nodiscard]] std::int64_t rounds(const study_evaluation& one) const;
  /// The scores of an evaluation, or nothing while it is not done as often as it has to be.
  [[nodiscard]] const nlohmann::ordered_json* scores(const study_evaluation& one) const;
  [[nodiscard]] bool is_complete() const;
  [[nodiscard]] const nlohmann::ordered_json& all() const noexcept { return json_; }

  /// Notes what training took, from its metrics, and what model came of it; writes the file. Evaluations of another
  /// model are forgotten. Throws config_error if the model is the one that training began with.
  void add_training();
  /// Notes scores, rows and times from what the evaluation wrote into its folder, or beside it; writes the file. Of
  /// several rounds the time is the median.
  void add_evaluation(const study_evaluation& one);

 private:
  void check() const;
  [[nodiscard]] const nlohmann::ordered_json* find(const study_evaluation& one) const;
  void write() const;

  const study_cell& cell_;
  std::filesystem::path path_;
  nlohmann::ordered_json json_;
};

}  // namespace runnel::cli
