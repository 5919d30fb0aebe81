// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/position/group.hpp>

namespace runnel::cli {

/// What came of one sentence.
struct translation {
  std::int64_t index = 0;  ///< from 0
  std::string source;      ///< the line
  std::int64_t num_source_units = 0;
  std::vector<std::string> words;
  /// Of each word: source units read when it was complete, the end not counted; at most num_source_units.
  std::vector<index_t> delays;
  /// Of each word: milliseconds since the first source unit came.
  std::vector<double> elapsed_ms;
  std::optional<std::string> reference;

  /// The words with spaces between them, so always one line.
  [[nodiscard]] std::string text() const;
};

/// The folder that SimulEval's tools read: instances.log with one JSON object a sentence, and config.yaml with the
/// settings. Scores are for others to compute.
class translation_log {
 public:
  using settings = std::vector<std::pair<std::string, std::string>>;

  /// Makes the folder and the files, replacing those of an earlier run. Throws io_error.
  translation_log(const std::filesystem::path& folder, const settings& how);

  /// Appends a line and hands it to the system. Throws io_error.
  void add(const translation& one);

 private:
  std::string name_;
  std::ofstream file_;
};

}  // namespace runnel::cli
