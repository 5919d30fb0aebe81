// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/stream/pass.hpp>

#include "instance_log.hpp"
#include "scores.hpp"

namespace runnel::cli {

/// When a word was complete.
struct word_times {
  double delay = 0;        ///< source units read, the end not counted; or milliseconds of speech heard
  double elapsed_ms = 0;   ///< since the first source unit came
  double computed_ms = 0;  ///< spent computing since the sentence began, waiting for the source not counted
};

/// What came of one sentence, or of one recording.
struct translation {
  std::int64_t index = 0;  ///< from 0
  std::string source;      ///< the line, or the recording's path
  bool is_speech = false;  ///< delays and source_length are in milliseconds; otherwise they count source units
  double source_length = 0;
  std::vector<std::string> words;
  std::vector<double> delays;       ///< of each word; at most source_length
  std::vector<double> elapsed_ms;   ///< of each word
  std::vector<double> computed_ms;  ///< of each word
  double computed_total_ms = 0;     ///< of the whole sentence, what came after its last word included
  stream::row_counters rows;
  std::optional<std::string> reference;

  /// Takes the word with this index, or more of it.
  void add_word(std::size_t word, std::string_view text, const word_times& times);
  /// The words with spaces between them, so always one line.
  [[nodiscard]] std::string text() const;
};

/// The folder that SimulEval's tools read: instances.log with one JSON object a sentence, config.yaml with the
/// settings, and scores.tsv.
class translation_log {
 public:
  using settings = std::vector<std::pair<std::string, std::string>>;

  enum class start : bool { anew, resume };

  /// Makes the folder and the files, replacing those of an earlier run, or goes on with them: then a torn last line of
  /// its instances.log is dropped. Throws io_error; resuming also format_error for what is no such log, and
  /// config_error if the earlier run's settings were others, but for the number of threads and the source's pace.
  translation_log(const std::filesystem::path& folder, const settings& how, start from);

  /// The sentence of an earlier run with this index, or nothing.
  [[nodiscard]] const instance* earlier(std::int64_t index) const;
  /// Sentences of an earlier run, and the greatest index among them (-1: there are none).
  [[nodiscard]] std::int64_t num_earlier() const { return static_cast<std::int64_t>(earlier_.size()); }
  [[nodiscard]] std::int64_t last_earlier() const;

  /// Appends a line and hands it to the system. Throws io_error.
  void add(const translation& one);

  /// Writes scores.tsv from instances.log, which it reads again. Throws io_error.
  void write_scores(const score_options& how);

 private:
  void check_settings(const settings& how) const;
  void resume();

  std::filesystem::path folder_;
  std::string name_;
  std::map<std::int64_t, instance> earlier_;
  std::ofstream file_;
};

}  // namespace runnel::cli
