// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace runnel::cli {

/// One line of an instances.log, as SimulEval, `runnel translate` and `runnel transcribe` write them.
struct instance {
  std::int64_t index = 0;
  std::string prediction;
  std::vector<double> delays;   ///< of each word: source units, or milliseconds of speech
  std::vector<double> elapsed;  ///< of each word, in milliseconds
  std::optional<std::string> reference;
  std::optional<std::string> source;  ///< if it is one text
  double source_length = 0;           ///< in the delays' unit
  /// Whether the line says that its source is speech: then all times are milliseconds. `runnel transcribe` says so.
  bool is_speech = false;
  /// Of each word: milliseconds spent computing since the sentence began. Only our own commands write it.
  std::optional<std::vector<double>> computed_ms;
  /// Rows that were computed, and those among them that had been computed before. Only our own commands write them.
  std::optional<std::int64_t> rows;
  std::optional<std::int64_t> rows_again;
};

/// A log's lines, in their order.
struct instance_log {
  std::vector<instance> lines;
  std::uint64_t whole_bytes = 0;  ///< of the lines; less than the file has if its last one is torn
  bool open_end = false;          ///< the last line has no line feed
};

/// What becomes of a last line without a line feed that is no JSON: an interrupted run leaves such.
enum class torn_line : std::uint8_t { refuse, drop };

/// Reads a log. Throws io_error for files that cannot be read; format_error that names file, line and key for what is
/// no such log, for two lines with one index, for times that are not as many as delays.
[[nodiscard]] instance_log read_instance_log(const std::filesystem::path& path, torn_line last = torn_line::refuse);

}  // namespace runnel::cli
