// SPDX-License-Identifier: Apache-2.0

#include "translation_log.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>

#include "console.hpp"
#include "text_lines.hpp"

namespace runnel::cli {

void translation::add_word(std::size_t word, std::string_view text, const word_times& times) {
  if (word >= words.size()) {
    words.resize(word + 1);
    delays.resize(word + 1);
    elapsed_ms.resize(word + 1);
    computed_ms.resize(word + 1);
  }
  words[word] += text;
  delays[word] = times.delay;
  elapsed_ms[word] = times.elapsed_ms;
  computed_ms[word] = times.computed_ms;
}

std::string translation::text() const {
  std::string joined;
  for (const auto& word : words) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

namespace {

/// The settings as YAML: a JSON string is a YAML string.
std::string to_yaml(const translation_log::settings& how) {
  std::string text;
  for (const auto& [key, value] : how) {
    text += key + ": " + nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  return text;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  io::write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

translation_log::translation_log(const std::filesystem::path& folder, const settings& how, start from)
    : folder_(folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  expect<io_error>(!problem && std::filesystem::is_directory(folder, problem), "--output: cannot make the folder '",
                   folder.string(), "': ", problem ? problem.message() : "a file of this name is in the way");
  const auto path = folder / "instances.log";
  name_ = path.string();
  const bool go_on = from == start::resume && std::filesystem::exists(path, problem);
  if (go_on) {
    check_settings(how);
    resume();
  } else {
    std::filesystem::remove(path, problem);  // first: lines of another run must not stand beside this one's settings
  }
  write_file(folder / "config.yaml", to_yaml(how));
  std::filesystem::remove(folder / "scores.tsv", problem);  // of another run, or of a part of this one
  file_.open(path, std::ios::binary | (go_on ? std::ios::app : std::ios::trunc));
  expect<io_error>(file_.good(), "--output: cannot write '", name_, "'");
}

/// What stands in the folder's config.yaml must not contradict `how`. SimulEval, when it scores the folder, leaves only
/// two of the settings there, so those that are missing are taken on trust.
void translation_log::check_settings(const settings& how) const {
  const auto path = folder_ / "config.yaml";
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return;
  for (const auto& line : read_lines(path.string())) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, colon);
    const auto ours = std::find_if(how.begin(), how.end(), [&](const auto& setting) { return setting.first == key; });
    if (ours == how.end() || key == "threads" || key == "source_unit_ms") continue;
    const auto quoted = nlohmann::json::parse(line.substr(colon + 2), nullptr, false);
    const std::string theirs = quoted.is_string() ? quoted.get<std::string>() : line.substr(colon + 2);
    expect<config_error>(theirs == ours->second, "--resume: '", path.string(), "' says ", key, ": ", printable(theirs),
                         "; this run has ", printable(ours->second));
  }
}

void translation_log::resume() {
  auto log = read_instance_log(name_, torn_line::drop);
  std::error_code problem;
  std::filesystem::resize_file(name_, log.whole_bytes, problem);
  expect<io_error>(!problem, "--resume: cannot shorten '", name_, "': ", problem.message());
  if (log.open_end) {
    std::ofstream file(name_, std::ios::binary | std::ios::app);
    file << '\n' << std::flush;
    expect<io_error>(file.good(), "--resume: cannot write '", name_, "'");
  }
  for (auto& one : log.lines) {
    const auto index = one.index;
    earlier_.emplace(index, std::move(one));
  }
}

const instance* translation_log::earlier(std::int64_t index) const {
  const auto found = earlier_.find(index);
  return found == earlier_.end() ? nullptr : &found->second;
}

std::int64_t translation_log::last_earlier() const { return earlier_.empty() ? -1 : earlier_.rbegin()->first; }

void translation_log::write_scores(const score_options& how) {
  write_file(folder_ / "scores.tsv", to_tsv(compute_scores(read_instance_log(name_).lines, how)));
}

namespace {

double in_microseconds(double ms) { return std::round(ms * 1000) / 1000; }

nlohmann::ordered_json in_ms(const std::vector<double>& times) {
  auto list = nlohmann::ordered_json::array();
  for (const double ms : times) list.push_back(in_microseconds(ms));
  return list;
}

/// Source units are whole.
nlohmann::ordered_json in_units(const std::vector<double>& delays) {
  auto list = nlohmann::ordered_json::array();
  for (const double units : delays) list.push_back(std::llround(units));
  return list;
}

}  // namespace

void translation_log::add(const translation& one) {
  nlohmann::ordered_json line;
  line["index"] = one.index;
  line["prediction"] = one.text();
  line["delays"] = one.is_speech ? in_ms(one.delays) : in_units(one.delays);
  line["elapsed"] = in_ms(one.elapsed_ms);
  line["prediction_length"] = one.words.size();
  line["reference"] = one.reference ? nlohmann::ordered_json(*one.reference) : nlohmann::ordered_json(nullptr);
  line["source"] = one.source;
  if (one.is_speech) {
    line["source_length"] = in_microseconds(one.source_length);
    line["source_type"] = "speech";
  } else {
    line["source_length"] = std::llround(one.source_length);
  }
  line["computed_ms"] = in_ms(one.computed_ms);
  line["computed_total_ms"] = in_microseconds(one.computed_total_ms);
  const auto& rows = one.rows;
  line["rows"] = {{"source", rows.source_rows},
                  {"target", rows.target_rows},
                  {"refed", rows.refed_rows},
                  {"refreshed", rows.refreshed_rows},
                  {"passes", rows.passes},
                  {"tokens_kept", rows.tokens_kept},
                  {"tokens_discarded", rows.tokens_discarded}};
  file_ << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n' << std::flush;
  expect<io_error>(file_.good(), "--output: cannot write '", name_, "'");
}

}  // namespace runnel::cli
