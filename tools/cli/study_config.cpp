// SPDX-License-Identifier: Apache-2.0

#include "study_config.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <set>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/json.hpp>

namespace runnel::cli {

namespace {

constexpr std::uint64_t most_bytes = std::uint64_t{1} << 20U;

/// Names become names of files.
std::string name_of(const io::json_object& from) {
  const std::string name(from.text("name"));
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
  expect<format_error>(plain && name.front() != '.', from.source_name(), ": ", from.path_to("name"),
                       ": expected small letters, digits, - and . only, found ", io::in_quotes(name));
  return name;
}

std::vector<std::int64_t> numbers(const io::json_object& from, std::string_view key, std::int64_t least) {
  std::vector<std::int64_t> out;
  if (!from.find(key)) return out;
  for (const auto one : from.array(key)) {
    const auto value = one.integer();
    if (!value || *value < least) {
      io::json_object::fail(message(from.path_to(key), '[', out.size(), ']'),
                            message("a whole number of at least ", least), one);
    }
    out.push_back(*value);
  }
  return out;
}

study_pair read_pair(const io::json_object& from) {
  if (from.has("recordings")) {
    from.check_names({"name", "recordings", "reference"});
    return {name_of(from), {}, std::string(from.text("recordings")), std::string(from.text("reference")), true};
  }
  from.check_names({"name", "language", "source", "target"});
  return {name_of(from), std::string(from.text("language")), std::string(from.text("source")),
          std::string(from.text("target"))};
}

study_model read_model(const io::json_object& from) {
  from.check_names({"name", "title", "config", "set", "seeds", "translate", "waits"});
  study_model out;
  out.name = name_of(from);
  out.title = from.text_or("title", out.name);
  out.config = from.text("config");
  out.set = from.texts("set");
  if (from.find("seeds")) out.seeds = numbers(from, "seeds", 0);
  out.translate = from.texts("translate");
  out.waits = numbers(from, "waits", 1);
  return out;
}

study_measure read_measure(const io::json_object& from) {
  from.check_names({"name", "title", "translate", "bench", "waits", "prefill"});
  study_measure out{name_of(from),
                    {},
                    from.texts("translate"),
                    from.texts("bench"),
                    numbers(from, "waits", 1),
                    numbers(from, "prefill", 1)};
  out.title = from.text_or("title", out.name);
  const bool whole = out.bench.empty()
                         ? out.prefill.empty() && !out.translate.empty()
                         : out.prefill.size() == std::max<std::size_t>(1, out.waits.size()) && out.translate.empty();
  expect<format_error>(whole, from.source_name(), ": ", from.path_to("bench"),
                       ": expected either translate, or bench and as many numbers in prefill as in waits");
  return out;
}

study_table read_table(const io::json_object& from) {
  from.check_names({"title", "caption", "models", "against"});
  return {std::string(from.text("title")), std::string(from.text_or("caption", "")), from.texts("models"),
          std::string(from.text_or("against", ""))};
}

study_claim read_claim(const io::json_object& from) {
  from.check_names({"text", "paper", "model", "against", "better", "gains_at_most", "loses_at_most", "within"});
  study_claim out{std::string(from.text("text")), std::string(from.text("paper")), std::string(from.text("model")),
                  std::string(from.text("against"))};
  constexpr std::array kinds{std::pair{"gains_at_most", claim_kind::no_gain},
                             std::pair{"loses_at_most", claim_kind::no_loss}, std::pair{"within", claim_kind::equal}};
  int given = from.flag_or("better", false) ? 1 : 0;
  for (const auto& [key, kind] : kinds) {
    if (!from.find(key)) continue;
    ++given;
    out.kind = kind;
    out.within = from.number(key);
    expect<format_error>(out.within >= 0, from.source_name(), ": ", from.path_to(key),
                         ": expected 0 or more points, found ", out.within);
  }
  expect<format_error>(given == 1, from.source_name(), ": ", from.path_to("better"),
                       ": expected one of better (true), gains_at_most, loses_at_most and within, found ", given);
  return out;
}

std::string score_name(const io::json_object& from, std::string_view key, std::string_view otherwise) {
  constexpr std::array known{"BLEU", "chrF2", "chrF2++", "WER",     "CER",   "AL",    "LAAL",
                             "AP",   "DAL",   "AL_CA",   "LAAL_CA", "AP_CA", "DAL_CA"};
  const std::string name(from.text_or(key, otherwise));
  std::string list;
  for (const char* one : known) list += message(list.empty() ? "" : ", ", one);
  expect<format_error>(std::find(known.begin(), known.end(), name) != known.end(), from.source_name(), ": ",
                       from.path_to(key), ": expected one of ", list, "; found ", io::in_quotes(name));
  return name;
}

study_figure read_figure(const io::json_object& from) {
  from.check_names({"name", "title", "caption", "models", "x", "y"});
  study_figure out{name_of(from), std::string(from.text("title")), std::string(from.text_or("caption", "")),
                   from.texts("models")};
  out.x = score_name(from, "x", out.x);
  out.y = score_name(from, "y", out.y);
  return out;
}

study_efficiency read_efficiency(const io::json_object& from) {
  from.check_names({"title", "caption", "measures", "against", "prefill"});
  return {std::string(from.text("title")), std::string(from.text_or("caption", "")), from.texts("measures"),
          std::string(from.text("against")), std::string(from.text_or("prefill", ""))};
}

template <class T>
std::vector<T> list_of(const io::json_object& from, std::string_view key, T (*read)(const io::json_object&)) {
  std::vector<T> out;
  if (!from.find(key)) return out;
  for (const auto one : from.array(key)) out.push_back(read(io::json_object(one, message(key, '[', out.size(), ']'))));
  return out;
}

template <class List>
void check_different(const List& list, const study_config& study, std::string_view what) {
  std::set<std::string> seen;
  for (const auto& one : list) {
    expect<config_error>(seen.insert(one.name).second, study.path, ": ", what, ": two are called ",
                         io::in_quotes(one.name));
  }
}

template <class List>
const auto& find(const List& list, const std::string& name, const study_config& study, std::string_view what) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const auto& one) { return one.name == name; });
  expect<config_error>(found != list.end(), study.path, ": no ", what, " is called ", io::in_quotes(name));
  return *found;
}

void check(const study_config& study) {
  check_different(study.pairs, study, "pairs");
  check_different(study.models, study, "models");
  check_different(study.measures, study, "measures");
  check_different(study.figures, study, "figures");
  for (const auto& table : study.tables) {
    for (const auto& name : table.models) static_cast<void>(study.model(name));
    if (!table.against.empty()) static_cast<void>(study.model(table.against));
  }
  for (const auto& claim : study.claims) {
    static_cast<void>(study.model(claim.model));
    static_cast<void>(study.model(claim.against));
  }
  for (const auto& figure : study.figures) {
    for (const auto& name : figure.models) static_cast<void>(study.model(name));
  }
  for (const auto& one : study.efficiency) {
    for (const auto& name : one.measures) static_cast<void>(study.measure(name));
    static_cast<void>(study.measure(one.against));
    if (!one.prefill.empty()) static_cast<void>(study.measure(one.prefill));
  }
}

/// Results are files, and each translation has a folder: no two may be the same.
void check_results(const study_config& study) {
  const auto differ = [&](std::vector<std::int64_t> list, const std::string& name, std::string_view what) {
    std::sort(list.begin(), list.end());
    expect<config_error>(std::adjacent_find(list.begin(), list.end()) == list.end(), study.path, ": ", what, " of ",
                         io::in_quotes(name), ": expected numbers that differ");
  };
  std::set<std::string> seen;
  const auto add = [&](const std::string& name) {
    expect<config_error>(seen.insert(name).second, study.path, ": two results are called ", io::in_quotes(name));
  };
  for (const auto& model : study.models) {
    differ(model.seeds, model.name, "seeds");
    differ(model.waits, model.name, "waits");
    for (const auto seed : model.seeds) add(message(model.name, "-s", seed));
  }
  for (const auto& measure : study.measures) {
    differ(measure.waits, measure.name, "waits");
    add(measure.name);
  }
}

}  // namespace

const study_model& study_config::model(const std::string& name) const { return find(models, name, *this, "model"); }

const study_measure& study_config::measure(const std::string& name) const {
  return find(measures, name, *this, "measure");
}

study_config read_study(const std::string& path) {
  const auto document = io::read_json_file(path, most_bytes);
  const io::json_object from(document.root());
  from.check_names({"title", "text", "results", "work", "pairs", "models", "measures", "rounds", "claims", "tables",
                    "figures", "efficiency"});
  study_config out;
  out.path = path;
  out.title = from.text("title");
  out.text = from.texts("text");
  out.results = std::filesystem::path(from.text("results"));
  out.work = std::filesystem::path(from.text("work"));
  out.pairs = list_of(from, "pairs", read_pair);
  out.models = list_of(from, "models", read_model);
  out.measures = list_of(from, "measures", read_measure);
  out.rounds = from.integer_or("rounds", 1);
  expect<format_error>(out.rounds >= 1, path, ": rounds: expected at least 1, found ", out.rounds);
  out.claims = list_of(from, "claims", read_claim);
  out.tables = list_of(from, "tables", read_table);
  out.figures = list_of(from, "figures", read_figure);
  out.efficiency = list_of(from, "efficiency", read_efficiency);
  check(out);
  check_results(out);
  return out;
}

}  // namespace runnel::cli
