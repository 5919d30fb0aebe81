// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <ios>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/json.hpp>
#include <runnel/text/json_writer.hpp>

namespace runnel::train {

/// What one step did.
struct step_report {
  index_t step = 0;          ///< steps done, this one included
  double loss = 0;           ///< mean over the labels, with label smoothing
  double nll = 0;            ///< without, nats
  double accuracy = 0;       ///< share of the labels that were the likeliest token
  double rate = 0;           ///< learning rate
  double gradient_norm = 0;  ///< before clipping
  index_t rows = 0;
  index_t labels = 0;
  double seconds = 0;  ///< of training so far
  double rows_per_second = 0;
  index_t skipped = 0;  ///< steps so far that changed nothing, as loss or gradients were not finite
  bool was_skipped = false;
};

/// What the model does on sentences that it is not trained on.
struct validation_report {
  struct one_set {
    std::string name;
    double loss = 0;  ///< mean negative log-likelihood a label, nats
    index_t labels = 0;
  };

  index_t step = 0;  ///< steps done before
  double loss = 0;   ///< over the labels of all sets
  double accuracy = 0;
  index_t labels = 0;
  bool best = false;  ///< no earlier one that was kept was lower, and this one was kept
  double seconds = 0;
  std::vector<one_set> sets;
};

namespace detail {

template <class F>
[[nodiscard]] std::string json_line(F&& members) {
  text::json_writer out;
  out.begin_object(true);
  members(out);
  out.end();
  return out.text() + '\n';
}

}  // namespace detail

/// As one line of JSON.
[[nodiscard]] inline std::string to_json_line(const step_report& of) {
  return detail::json_line([&](text::json_writer& out) {
    out.member("step", of.step);
    out.member("loss", of.loss);
    out.member("nll", of.nll);
    out.member("accuracy", of.accuracy);
    out.member("rate", of.rate);
    out.member("gradient_norm", of.gradient_norm);
    out.member("rows", of.rows);
    out.member("labels", of.labels);
    out.member("seconds", of.seconds);
    out.member("rows_per_second", of.rows_per_second);
    out.member("skipped", of.skipped);
  });
}

/// As one line of JSON.
[[nodiscard]] inline std::string to_json_line(const validation_report& of) {
  return detail::json_line([&](text::json_writer& out) {
    out.member("step", of.step);
    out.member("validation_loss", of.loss);
    out.member("validation_accuracy", of.accuracy);
    out.member("validation_labels", of.labels);
    out.member("best", of.best);
    out.member("seconds", of.seconds);
    out.key("sets");
    out.begin_object();
    for (const auto& one : of.sets) out.member(one.name, one.loss);
    out.end();
  });
}

/// One line of a file of metrics, as far as pictures want it.
struct metrics_point {
  index_t step = 0;
  bool is_validation = false;
  std::optional<double> loss;  ///< mean a label; nothing where it was not finite
};

/// A file of JSON lines, one for each step and each validation. A line reaches the system whole before the next step.
class metrics_file {
 public:
  /// Goes on with the file at `path` after the lines of steps up to `last`; what stands behind them, a torn line or
  /// steps that will be done again, is dropped. `last` -1 begins anew. Throws io_error.
  metrics_file(const std::filesystem::path& path, index_t last) : path_(path) {
    std::string kept;
    std::error_code ignored;
    if (last >= 0 && std::filesystem::exists(path, ignored) && !is_empty(path)) kept = lines_up_to(last);
    io::write_file_atomically(path, std::as_bytes(std::span(kept.data(), kept.size())));
    file_.open(path, std::ios::binary | std::ios::app);
    expect<io_error>(file_.good(), "cannot write '", path.string(), "'");
  }

  /// Appends a line. Throws io_error that names the path; the next one begins a new line then.
  template <class Report>
  void add(const Report& report) {
    const std::string line = (file_.good() ? "" : "\n") + to_json_line(report);
    file_.clear();
    file_.write(line.data(), static_cast<std::streamsize>(line.size()));
    file_.flush();
    expect<io_error>(file_.good(), "cannot write '", path_.string(), "': the system takes no more");
  }

  /// What the lines of a file say. Lines that are not ours are passed over: a full disk or a killed process may leave
  /// parts of one. Throws io_error if it cannot be read.
  [[nodiscard]] static std::vector<metrics_point> read(const std::filesystem::path& path) {
    std::vector<metrics_point> out;
    if (is_empty(path)) return out;
    const io::mapped_file file(path);
    for_lines(file, [&](std::string_view, const metrics_point& point) { out.push_back(point); });
    return out;
  }

 private:
  /// A file without bytes cannot be mapped.
  [[nodiscard]] static bool is_empty(const std::filesystem::path& path) {
    std::error_code problem;
    return std::filesystem::file_size(path, problem) == 0 && !problem;
  }

  template <class F>
  static void for_lines(const io::mapped_file& file, F&& f) {
    std::string_view rest(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      const auto line = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      const auto point = parse(line, file.name());
      if (point) f(line, *point);
    }
  }

  [[nodiscard]] static std::optional<metrics_point> parse(std::string_view line, const std::string& name) {
    try {
      const io::json_document document(line, name);
      const io::json_object json(document.root());
      metrics_point out;
      out.step = json.integer("step");
      out.is_validation = json.has("validation_loss");
      const auto loss = json.find(out.is_validation ? "validation_loss" : "loss");
      if (loss) out.loss = loss->number();
      return out;
    } catch (const format_error&) {
      return std::nullopt;
    }
  }

  [[nodiscard]] std::string lines_up_to(index_t last) const {
    const io::mapped_file file(path_);
    std::string kept;
    for_lines(file, [&](std::string_view line, const metrics_point& point) {
      if (point.step <= last) kept.append(line) += '\n';
    });
    return kept;
  }

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace runnel::train
