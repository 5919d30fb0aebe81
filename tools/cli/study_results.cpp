// SPDX-License-Identifier: Apache-2.0

#include "study_results.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <span>
#include <system_error>
#include <utility>

#include <runnel/core/digest.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>

#include "console.hpp"
#include "instance_log.hpp"
#include "median.hpp"
#include "model_file.hpp"
#include "options.hpp"
#include "scores.hpp"
#include "subprocess.hpp"

namespace runnel::cli {

namespace {

using json = nlohmann::ordered_json;

/// What a source word takes to come, in the computation-aware scores: slow speech.
constexpr double source_word_ms = 400;

/// The value of an option or setting among words.
std::string value_after(const std::vector<std::string>& words, std::string_view option) {
  const auto found = std::find(words.begin(), words.end(), option);
  return found == words.end() || found + 1 == words.end() ? std::string() : *(found + 1);
}

/// A setting of a training: what its command says, or its recipe; else nothing.
std::string setting_of(const study_cell& cell, const std::string& section, const std::string& name) {
  const std::string key = message(section, '.', name, '=');
  for (const auto& word : cell.train) {
    if (word.starts_with(key)) return word.substr(key.size());
  }
  const auto settings = json::parse(cell.recipe, nullptr, false);
  if (!settings.is_object() || !settings.contains(section) || !settings[section].is_object()) return {};
  const auto& of = settings[section];
  return of.contains(name) && of[name].is_string() ? of[name].get<std::string>() : std::string();
}

/// The model that a training starts from.
std::string start_of(const study_cell& cell) {
  auto found = setting_of(cell, "model", "init");
  return found.empty() ? setting_of(cell, "speech", "init") : found;
}

/// What a result depends on beside its command.
json sources_of(const study_config& study, const study_cell& cell) {
  json out = json::object();
  if (!cell.recipe.empty()) out["recipe"] = message(digest(cell.recipe, 0));
  if (cell.uses.empty()) return out;
  if (!cell.made_by.empty()) {
    for (const auto& maker : cells_of(study)) {
      if (maker.name != cell.made_by) continue;
      const auto weights = study_result(study, maker).weights();
      out["uses"] = weights.empty() ? "not trained" : weights;
    }
    return out;
  }
  try {
    out["uses"] = fingerprint(resolve_model(cell.uses));
  } catch (const error&) {  // it is not there, where only results are
  }
  return out;
}

/// Whether two such agree where both know.
bool agree(const json& a, const json& b) {
  for (const auto& [key, value] : a.items()) {
    if (b.contains(key) && b[key] != value) return false;
  }
  return true;
}

std::string filled(std::string text, const study_config& study, std::int64_t seed) {
  const auto fill = [&](std::string_view mark, const std::string& value) {
    for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size())) {
      text.replace(at, mark.size(), value);
    }
  };
  fill("{work}", study.work.string());
  fill("{seed}", message(seed));
  return text;
}

std::filesystem::path folder_of(const study_config& study, const std::string& cell, const std::string& pair,
                                std::int64_t wait) {
  return study.work / "translations" / message(cell, pair.empty() ? "" : "-", pair, "-k", wait);
}

study_cell cell_of(const study_config& study, const study_model& model, std::int64_t seed) {
  study_cell out;
  out.name = cell_name(model, seed);
  out.output = study.work / out.name;
  out.train = {"train", model.config};
  const auto set = [&](const std::string& one) {
    out.train.emplace_back("--set");
    out.train.push_back(one);
  };
  out.recipe = read_all(model.config);
  for (const auto& one : model.set) set(filled(one, study, seed));
  set(message("seed=", seed));
  set("output=" + out.output.string());
  out.uses = start_of(out);
  const auto waits = model.waits.empty() ? std::vector<std::int64_t>{0} : model.waits;
  for (const auto& pair : study.pairs) {
    for (const auto wait : waits) {
      std::vector<std::string> command{pair.is_speech ? "transcribe" : "translate", "-m",
                                       (out.output / "model").string()};
      for (const auto& option : model.translate) command.push_back(filled(option, study, seed));
      if (wait != 0) command.insert(command.end(), {"-k", message(wait)});
      if (pair.is_speech) {
        command.insert(command.end(), {pair.source, "--reference", pair.target, "-t", "1"});
      } else {
        command.insert(command.end(), {"--target-language", pair.language, "--source", pair.source, "--target",
                                       pair.target, "-t", "1"});
      }
      out.evaluations.push_back({pair.name, wait, std::move(command), folder_of(study, out.name, pair.name, wait)});
    }
  }
  return out;
}

study_cell cell_of(const study_config& study, const study_measure& measure) {
  study_cell out;
  out.name = measure.name;
  out.rounds = study.rounds;
  out.is_timed = true;
  const bool is_bench = !measure.bench.empty();
  const auto waits = measure.waits.empty() ? std::vector<std::int64_t>{0} : measure.waits;
  for (std::size_t i = 0; i < waits.size(); ++i) {
    std::vector<std::string> command{is_bench ? "bench" : "translate"};
    for (const auto& option : is_bench ? measure.bench : measure.translate) command.push_back(filled(option, study, 0));
    if (is_bench) {
      command.insert(command.end(), {"-p", message(measure.prefill[i]), "-n", "0", "-d", "0", "-o", "json"});
    } else if (waits[i] != 0) {
      command.insert(command.end(), {"-k", message(waits[i])});
    }
    out.uses = value_after(command, "-m");
    out.evaluations.push_back({"", waits[i], std::move(command), folder_of(study, out.name, "", waits[i]), is_bench});
  }
  return out;
}

json lines_of(const std::filesystem::path& path, json (*sum)(json, const json&)) {
  std::ifstream file(path);
  json out = json::object();
  for (std::string line; std::getline(file, line);) {
    const auto one = json::parse(line, nullptr, false);
    if (one.is_object()) out = sum(std::move(out), one);
  }
  return out;
}

/// The metrics' last step and time, and the last validation.
json add_metrics(json sum, const json& line) {
  sum["steps"] = line.value("step", 0);
  sum["seconds"] = line.value("seconds", 0.0);
  const auto loss = line.find("validation_loss");  // null where it was not finite
  if (loss != line.end() && loss->is_number()) sum["validation_loss"] = *loss;
  return sum;
}

/// The same with the best validation, which is that of the weights where those that did best are taken.
json add_best_metrics(json sum, const json& line) {
  const auto known = sum.value("validation_loss", std::numeric_limits<double>::infinity());
  sum = add_metrics(std::move(sum), line);
  if (sum.contains("validation_loss")) {
    sum["validation_loss"] = std::min(known, sum["validation_loss"].get<double>());
  }
  return sum;
}

/// Rows of all sentences, and the time that computing took.
json add_sentence(json sum, const json& line) {
  if (line.contains("rows")) {
    if (!sum.contains("rows")) sum["rows"] = json::object();
    for (const auto& [name, count] : line["rows"].items()) {
      sum["rows"][name] = sum["rows"].value(name, std::int64_t{0}) + count.get<std::int64_t>();
    }
  }
  sum["computed_s"] = sum.value("computed_s", 0.0) + line.value("computed_total_ms", 0.0) / 1000;
  return sum;
}

/// A translation's scores, rows and time, from its log.
json figures_of_translation(const study_evaluation& one) {
  const auto log = one.folder / "instances.log";
  score_options how;
  how.computation_aware = true;
  how.unit_ms = source_word_ms;
  json out;
  out["scores"] = json::parse(to_json(compute_scores(read_instance_log(log).lines, how), how));
  out["rows"] = json::object();
  out["computed_s"] = 0.0;
  out.update(lines_of(log, add_sentence));
  return out;
}

/// One pass and its time, from what bench printed.
json figures_of_bench(const study_evaluation& one) {
  const auto path = log_of(one);
  const auto text = read_all(path.string());
  const auto begin = std::min(text.find('{'), text.size());
  const auto all = json::parse(text.substr(begin), nullptr, false);
  const json none;
  const auto& list = all.is_object() && all.contains("benchmarks") ? all["benchmarks"] : none;
  expect<format_error>(list.is_array() && list.size() == 1 && list[0].contains("tokens"), path.string(),
                       ": expected one figure of runnel bench");
  return {{"scores", json::object()},
          {"rows", {{"source", list[0]["tokens"]}, {"passes", 1}}},
          {"computed_s", list[0].value("median_ns", 0.0) / 1e9}};
}

}  // namespace

std::filesystem::path log_of(const study_evaluation& one) { return one.folder.string() + ".txt"; }

std::string whole_command(const study_evaluation& one) {
  return shell_command(one.command) + (one.is_bench ? "" : " --output " + shell_word(one.folder.string()));
}

std::string cell_name(const study_model& model, std::int64_t seed) { return message(model.name, "-s", seed); }

std::vector<study_cell> cells_of(const study_config& study) {
  std::vector<study_cell> out;
  std::size_t most_seeds = 0;
  for (const auto& model : study.models) most_seeds = std::max(most_seeds, model.seeds.size());
  for (std::size_t i = 0; i < most_seeds; ++i) {
    for (const auto& model : study.models) {
      if (i < model.seeds.size()) out.push_back(cell_of(study, model, model.seeds[i]));
    }
  }
  for (const auto& measure : study.measures) out.push_back(cell_of(study, measure));
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t before = 0; before < i; ++before) {
      if (!out[before].train.empty() && out[i].uses == out[before].output / "model") out[i].made_by = out[before].name;
    }
  }
  return out;
}

study_result::study_result(const study_config& study, const study_cell& cell)
    : cell_(cell), path_(study.results / (cell.name + ".json")), json_(json::object()) {
  std::error_code problem;
  if (std::filesystem::exists(path_, problem)) {
    json_ = json::parse(read_all(path_.string()), nullptr, false);
    expect<format_error>(json_.is_object(), path_.string(), ": expected a JSON object with the results of ", cell.name);
    check();
  }
  const auto now = cell.train.empty() ? std::string() : shell_command(cell.train);
  const auto sources = sources_of(study, cell);
  if (json_.value("command", std::string()) != now || !agree(json_.value("made_from", json::object()), sources)) {
    json_ = json::object();
  }
  if (!now.empty()) json_["command"] = now;
  if (!json_.contains("made_from")) json_["made_from"] = json::object();
  json_["made_from"].update(sources);
  if (!json_.contains("evaluations")) json_["evaluations"] = json::array();
}

void study_result::check() const {
  const auto need = [&](bool good, const char* what, const json& found) {
    expect<format_error>(good, path_.string(), ": expected ", what, ", found ", found.dump());
  };
  const auto is_text = [](const json& in, const char* key) { return !in.contains(key) || in[key].is_string(); };
  const auto all_numbers = [](const json& in) {
    return std::all_of(in.begin(), in.end(), [](const json& one) { return one.is_number(); });
  };
  const auto numbers = [&](const json& in) { return in.is_object() && all_numbers(in); };
  need(is_text(json_, "command") && is_text(json_, "weights"), "command and weights as text", json_);
  if (json_.contains("made_from")) need(json_["made_from"].is_object(), "made_from as an object", json_["made_from"]);
  if (json_.contains("training")) need(numbers(json_["training"]), "training as numbers", json_["training"]);
  if (!json_.contains("evaluations")) return;
  need(json_["evaluations"].is_array(), "evaluations as a list", json_["evaluations"]);
  for (const auto& one : json_["evaluations"]) {
    const bool whole = one.is_object() && is_text(one, "command") && one.contains("scores") &&
                       one["scores"].is_object() && one.contains("rows") && numbers(one["rows"]) &&
                       one.contains("computed_s") && one["computed_s"].is_number();
    need(whole, "evaluations with command, scores, rows and computed_s", one);
    if (one.contains("samples_s")) {
      const auto& samples = one["samples_s"];
      need(samples.is_array() && all_numbers(samples), "samples_s as a list of numbers", samples);
    }
  }
}

bool study_result::is_of(const std::filesystem::path& path) const {
  return !json_.contains("weights") || json_["weights"] == fingerprint(path);
}

bool study_result::is_trained() const { return cell_.train.empty() || json_.contains("training"); }

const nlohmann::ordered_json* study_result::scores(const study_evaluation& one) const {
  return rounds(one) >= cell_.rounds ? find(one) : nullptr;
}

std::int64_t study_result::rounds(const study_evaluation& one) const {
  const auto* done = find(one);
  if (done == nullptr) return 0;
  return done->contains("samples_s") ? static_cast<std::int64_t>((*done)["samples_s"].size()) : 1;
}

const nlohmann::ordered_json* study_result::find(const study_evaluation& one) const {
  for (const auto& done : json_["evaluations"]) {
    if (done.value("command", std::string()) == shell_command(one.command)) return &done;
  }
  return nullptr;
}

bool study_result::is_complete() const {
  return is_trained() && std::all_of(cell_.evaluations.begin(), cell_.evaluations.end(),
                                     [&](const study_evaluation& one) { return scores(one) != nullptr; });
}

void study_result::add_training() {
  const bool takes_last = setting_of(cell_, "result", "weights") == "last";
  const auto training = lines_of(cell_.output / "metrics.jsonl", takes_last ? add_metrics : add_best_metrics);
  const auto made = fingerprint(cell_.output / "model");
  expect(json_["made_from"].value("uses", std::string()) != made, cell_.name,
         ": the model is the one that training began with: nothing was learned, or result.weights (best) took what was "
         "there before the first step");
  if (weights() != made) json_["evaluations"] = json::array();
  json_["training"] = training;
  json_["weights"] = made;
  write();
}

void study_result::add_evaluation(const study_evaluation& one) {
  json found{{"pair", one.pair}, {"wait", one.wait}, {"command", shell_command(one.command)}};
  found.update(one.is_bench ? figures_of_bench(one) : figures_of_translation(one));
  if (cell_.rounds > 1) {
    std::vector<double> samples{found["computed_s"].get<double>()};
    const auto* before = find(one);
    if (before != nullptr && before->contains("samples_s")) {
      const auto known = (*before)["samples_s"].get<std::vector<double>>();
      samples.insert(samples.begin(), known.begin(), known.end());
    }
    found["computed_s"] = median(samples);
    found["samples_s"] = samples;
  }
  auto& list = json_["evaluations"];
  // In the order of the study, whichever was done first; what the study does not ask for any more goes.
  json ordered = json::array();
  for (const auto& wanted : cell_.evaluations) {
    const auto* known = find(wanted);
    if (shell_command(wanted.command) == shell_command(one.command)) {
      ordered.push_back(found);
    } else if (known != nullptr) {
      ordered.push_back(*known);
    }
  }
  list = std::move(ordered);
  write();
}

void study_result::write() const {
  std::filesystem::create_directories(path_.parent_path());
  const std::string text = json_.dump(1) + '\n';
  io::write_file_atomically(path_, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace runnel::cli
