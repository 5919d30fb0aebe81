// SPDX-License-Identifier: Apache-2.0

#include "study_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>

#include "chart.hpp"
#include "console.hpp"
#include "median.hpp"
#include "picture.hpp"
#include "study_results.hpp"
#include "subprocess.hpp"

namespace runnel::cli {

namespace {

using json = nlohmann::ordered_json;

/// Numbers of several seeds.
struct spread {
  std::vector<double> values;

  [[nodiscard]] double mean() const {
    double sum = 0;
    for (const double one : values) sum += one;
    return sum / static_cast<double>(values.size());
  }
  [[nodiscard]] double low() const { return *std::min_element(values.begin(), values.end()); }
  [[nodiscard]] double high() const { return *std::max_element(values.begin(), values.end()); }
};

/// All results of a study.
class study_numbers {
 public:
  explicit study_numbers(const study_config& study) : cells_(cells_of(study)) {
    for (const auto& cell : cells_) results_.emplace(cell.name, study_result(study, cell));
  }

  [[nodiscard]] const std::vector<study_cell>& cells() const noexcept { return cells_; }
  [[nodiscard]] const study_result& result(const std::string& cell) const { return results_.at(cell); }

  /// What is known of one translation of a cell.
  [[nodiscard]] const json* find(const std::string& cell, const std::string& pair, std::int64_t wait) const {
    for (const auto& of : cells_) {
      if (of.name != cell) continue;
      for (const auto& one : of.evaluations) {
        if (one.pair == pair && one.wait == wait) return results_.at(cell).scores(one);
      }
    }
    return nullptr;
  }

  /// A score of one seed.
  [[nodiscard]] std::optional<double> score(const study_model& model, std::int64_t seed, const std::string& pair,
                                            std::int64_t wait, const std::string& name) const {
    const json* found = find(cell_name(model, seed), pair, wait);
    if (found == nullptr) return std::nullopt;
    const auto& scores = (*found)["scores"];
    if (!scores.contains(name)) return std::nullopt;
    const auto& value = scores[name];
    return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
  }

  /// The same of all seeds that have it.
  [[nodiscard]] spread scores(const study_model& model, const std::string& pair, std::int64_t wait,
                              const std::string& name) const {
    spread out;
    for (const auto seed : model.seeds) {
      if (const auto one = score(model, seed, pair, wait, name)) out.values.push_back(*one);
    }
    return out;
  }

  /// One model's less another's, of the seeds that both have.
  [[nodiscard]] spread differences(const study_model& model, const study_model& other, const study_pair& pair,
                                   std::int64_t wait) const {
    spread out;
    for (const auto seed : model.seeds) {
      const auto a = score(model, seed, pair.name, wait, pair.score());
      const auto b = score(other, seed, pair.name, wait, pair.score());
      if (a && b) out.values.push_back(*a - *b);
    }
    return out;
  }

 private:
  std::vector<study_cell> cells_;
  std::map<std::string, study_result> results_;
};

std::string signed_number(double value) { return (value < 0 ? "&minus;" : "+") + fixed(std::fabs(value), 2); }

/// "35.21", with half the range of the seeds if there are several, and how many there are if some are missing.
std::string as_cell(const spread& of, std::size_t seeds) {
  if (of.values.empty()) return "&ndash;";
  std::string out = fixed(of.mean(), 2);
  if (of.values.size() > 1) out += message(" <small>&plusmn;", fixed((of.high() - of.low()) / 2, 2), "</small>");
  if (of.values.size() < seeds) out += message(" <small>(", of.values.size(), " of ", seeds, " seeds)</small>");
  return out;
}

std::string element(std::string_view name, std::string_view content, std::string_view attributes = {}) {
  return message("<", name, attributes.empty() ? "" : " ", attributes, ">", content, "</", name, ">\n");
}

class report_writer {
 public:
  explicit report_writer(const study_config& study) : study_(study), numbers_(study) {}

  std::vector<std::filesystem::path> write() {
    std::filesystem::create_directories(study_.results);
    add(element("h1", escaped_for_xml(study_.title)));
    for (const auto& one : study_.text) add(element("p", escaped_for_xml(one)));
    add_state();
    add_claims();
    for (const auto& one : study_.tables) add_table(one);
    for (const auto& one : study_.figures) add_figure(one);
    for (const auto& one : study_.efficiency) add_efficiency(one);
    add_commands();
    save("index.html", page());
    return std::move(written_);
  }

 private:
  void add(std::string_view html) { body_ += html; }

  void save(const std::string& name, std::string_view text) {
    written_.push_back(study_.results / name);
    io::write_file_atomically(written_.back(), std::as_bytes(std::span(text.data(), text.size())));
  }

  [[nodiscard]] std::string page() const {
    return message(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
        escaped_for_xml(study_.title),
        "</title>\n<style>\n"
        "body { font: 16px/1.5 sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }\n"
        "table { border-collapse: collapse; margin: 1rem 0; }\n"
        "th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }\n"
        "th:first-child, td:first-child { text-align: left; }\n"
        "caption { text-align: left; font-weight: bold; padding: 0.3rem 0; }\n"
        "small { color: #666; }\n"
        ".agree { background: #e6f2e6; }\n"
        ".claims td { white-space: normal; text-align: left; vertical-align: top; }\n"
        "figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; }\n"
        "pre { background: #f5f5f5; padding: 0.6rem; overflow-x: auto; font-size: 13px; }\n"
        "</style></head><body>\n",
        body_, "</body></html>\n");
  }

  void add_state() {
    std::size_t complete = 0;
    for (const auto& cell : numbers_.cells())
      if (numbers_.result(cell.name).is_complete()) ++complete;
    if (complete == numbers_.cells().size()) return;
    add(element("p", message("<b>", complete, " of ", numbers_.cells().size(),
                             " results are there; the study is not finished.</b>")));
  }

  void add_claims() {
    if (study_.claims.empty()) return;
    add(element("h2", "What the paper says, and what came out here"));
    add(element("p",
                "The difference in points between two models, for each pair, k and seed that both have: the mean, in "
                "brackets the lowest and the highest, and for how many the first is the better one. A claim holds if "
                "all differences are as it says, mostly if three in four are; of a sign that less than three in four "
                "have on either side nothing is said."));
    std::string html =
        "<tr><th>claim</th><th>points in the paper</th><th>points here</th><th>first is better</th><th>seeds</th>"
        "<th>holds</th></tr>\n";
    for (const auto& one : study_.claims) {
      const auto by = differences_of(one);
      html +=
          element("tr", message("<td>", escaped_for_xml(one.text), "</td><td>", escaped_for_xml(one.paper), "</td><td>",
                                as_difference(by), "</td><td>", count_better(by), " of ", by.values.size(), "</td><td>",
                                seeds_of(one), "</td><td>", verdict(one, by), "</td>"));
    }
    add(element("table", html, "class=\"claims\""));
  }

  [[nodiscard]] std::size_t seeds_of(const study_claim& claim) const {
    const auto &ours = study_.model(claim.model).seeds, &theirs = study_.model(claim.against).seeds;
    return static_cast<std::size_t>(std::count_if(ours.begin(), ours.end(), [&](std::int64_t seed) {
      return std::find(theirs.begin(), theirs.end(), seed) != theirs.end();
    }));
  }

  /// By how much the first model of a claim is the better one, at each pair, wait and seed that both have.
  [[nodiscard]] spread differences_of(const study_claim& claim) const {
    const auto &model = study_.model(claim.model), &other = study_.model(claim.against);
    spread out;
    for (const auto& pair : study_.pairs) {
      for (const auto wait : waits_of({&model})) {
        for (const double by : numbers_.differences(model, other, pair, wait).values) {
          out.values.push_back(pair.is_speech ? -by : by);
        }
      }
    }
    return out;
  }

  template <class Predicate>
  [[nodiscard]] static std::size_t count(const spread& of, Predicate&& predicate) {
    return static_cast<std::size_t>(std::count_if(of.values.begin(), of.values.end(), predicate));
  }

  [[nodiscard]] static std::size_t count_better(const spread& by) {
    return count(by, [](double one) { return one > 0; });
  }

  [[nodiscard]] static std::string as_difference(const spread& by) {
    if (by.values.empty()) return "&ndash;";
    return message(signed_number(by.mean()), " <small>[", signed_number(by.low()), ", ", signed_number(by.high()),
                   "]</small>");
  }

  [[nodiscard]] static std::string verdict(const study_claim& claim, const spread& by) {
    const std::size_t all = by.values.size();
    if (all == 0) return "&ndash;";
    const bool of_sign = claim.kind == claim_kind::better;
    const std::size_t holds = count(by, [&](double one) {
      switch (claim.kind) {
        case claim_kind::better: return one > 0;
        case claim_kind::no_gain: return one <= claim.within;
        case claim_kind::no_loss: return one >= -claim.within;
        default: return std::fabs(one) <= claim.within;
      }
    });
    if (holds == all) return "yes";
    if (4 * holds >= 3 * all) return "mostly";
    if (!of_sign) return "no";
    const std::size_t contrary = count(by, [](double one) { return one < 0; });
    return 4 * contrary >= 3 * all ? "no, the contrary" : "undecided";
  }

  [[nodiscard]] std::vector<const study_model*> models(const std::vector<std::string>& names) const {
    std::vector<const study_model*> out;
    for (const auto& name : names) out.push_back(&study_.model(name));
    return out;
  }

  [[nodiscard]] static std::vector<std::int64_t> waits_of(const std::vector<const study_model*>& models) {
    std::set<std::int64_t> all;
    for (const auto* one : models) {
      if (one->waits.empty()) all.insert(0);
      all.insert(one->waits.begin(), one->waits.end());
    }
    return {all.begin(), all.end()};
  }

  [[nodiscard]] static std::string heading(const std::vector<std::int64_t>& waits) {
    std::string cells = "<th></th>";
    for (const auto wait : waits) cells += wait == 0 ? "<th>all read first</th>" : message("<th>k = ", wait, "</th>");
    return element("tr", cells);
  }

  void add_table(const study_table& table) {
    add(element("h2", escaped_for_xml(table.title)));
    if (!table.caption.empty()) add(element("p", escaped_for_xml(table.caption)));
    const auto rows = models(table.models);
    const auto waits = waits_of(rows);
    for (const auto& pair : study_.pairs) {
      add(scores_table(pair, rows, waits));
      if (!table.against.empty()) add(differences_table(pair, rows, waits, study_.model(table.against)));
    }
  }

  [[nodiscard]] std::string scores_table(const study_pair& pair, const std::vector<const study_model*>& rows,
                                         const std::vector<std::int64_t>& waits) const {
    std::string html = message("<caption>", escaped_for_xml(pair.name), ": ", pair.score(),
                               pair.is_speech ? " in %" : "", " &plusmn; half the range of the seeds (AL, LAAL in ",
                               pair.is_speech ? "ms" : "words", ")</caption>", heading(waits));
    for (const auto* model : rows) {
      std::string cells = message("<td>", escaped_for_xml(model->title), "</td>");
      for (const auto wait : waits) {
        const auto quality = numbers_.scores(*model, pair.name, wait, pair.score());
        const auto al = numbers_.scores(*model, pair.name, wait, "AL");
        const auto laal = numbers_.scores(*model, pair.name, wait, "LAAL");
        cells += "<td>" + as_cell(quality, model->seeds.size());
        if (!al.values.empty() && !laal.values.empty()) {
          const int digits = pair.is_speech ? 0 : 2;
          cells += message(" <small>(", fixed(al.mean(), digits), ", ", fixed(laal.mean(), digits), ")</small>");
        }
        cells += "</td>";
      }
      html += element("tr", cells);
    }
    return element("table", html);
  }

  [[nodiscard]] std::string differences_table(const study_pair& pair, const std::vector<const study_model*>& rows,
                                              const std::vector<std::int64_t>& waits, const study_model& other) const {
    std::string html = message("<caption>", escaped_for_xml(pair.name), ": ", pair.score(), " less that of ",
                               escaped_for_xml(other.title),
                               " (lowest and highest of the seeds; tinted: all seeds, at least two, agree in sign)"
                               "</caption>",
                               heading(waits));
    for (const auto* model : rows) {
      if (model == &other) continue;
      std::string cells = message("<td>", escaped_for_xml(model->title), "</td>");
      for (const auto wait : waits) {
        const auto by = numbers_.differences(*model, other, pair, wait);
        if (by.values.empty()) {
          cells += "<td>&ndash;</td>";
          continue;
        }
        const bool agree = by.values.size() > 1 && (by.low() > 0 || by.high() < 0);
        cells += message(agree ? "<td class=\"agree\">" : "<td>", signed_number(by.mean()));
        if (by.values.size() > 1) {
          cells += message(" <small>[", signed_number(by.low()), ", ", signed_number(by.high()), "]</small>");
        }
        cells += "</td>";
      }
      html += element("tr", cells);
    }
    return element("table", html);
  }

  /// What a score is counted in, as a title says it.
  [[nodiscard]] static std::string_view unit_of(std::string_view score, bool is_speech) noexcept {
    const bool aware = score.ends_with("_CA");
    if (aware) score.remove_suffix(3);
    if (score != "AL" && score != "LAAL" && score != "DAL") return "";
    return aware || is_speech ? " (ms)" : " (words)";
  }

  /// One curve of a figure: a point for each wait, with the ranges of the seeds.
  [[nodiscard]] curve curve_of(const study_model& model, const study_figure& figure, const std::string& pair,
                               std::size_t number) const {
    constexpr std::array<const char*, 8> colors{"#1f5f99", "#d1495b", "#2e8b57", "#e09f3e",
                                                "#7b4fa3", "#00798c", "#8d6e63", "#555555"};
    curve out{model.title, colors[number % colors.size()], {}, curve::look::line_and_points, 2};
    for (const auto wait : waits_of({&model})) {
      const auto x = numbers_.scores(model, pair, wait, figure.x), y = numbers_.scores(model, pair, wait, figure.y);
      if (x.values.empty() || y.values.empty()) continue;
      chart_point point{x.mean(), y.mean()};
      if (y.values.size() > 1) {
        point.y_low = y.low();
        point.y_high = y.high();
      }
      out.points.push_back(point);
    }
    return out;
  }

  void add_figure(const study_figure& figure) {
    add(element("h2", escaped_for_xml(figure.title)));
    for (const auto& pair : study_.pairs) {
      chart what;
      what.title = message(figure.title, ", ", pair.name);
      what.x_title = figure.x + std::string(unit_of(figure.x, pair.is_speech));
      what.y_title = figure.y;
      for (const auto* model : models(figure.models)) {
        what.curves.push_back(curve_of(*model, figure, pair.name, what.curves.size()));
      }
      add("<figure>\n");
      try {
        const auto svg =
            described(draw_chart(what, interrupts::instance().token()),
                      message(figure.caption, " Drawn by: runnel study ", shell_word(study_.path), " --report"));
        save(message(figure.name, '-', pair.name, ".svg"), svg);
        add(svg);
      } catch (const picture_error& problem) {
        note(problem.what());
        add(element("p", "There is no picture here: gnuplot could not draw it."));
      }
      add(element("figcaption", escaped_for_xml(figure.caption) +
                                    message(" <code>runnel study ", escaped_for_xml(study_.path), " --report</code>")));
      add("</figure>\n");
    }
  }

  void add_efficiency(const study_efficiency& table) {
    add(element("h2", escaped_for_xml(table.title)));
    if (!table.caption.empty()) add(element("p", escaped_for_xml(table.caption)));
    const auto& first = study_.measure(table.against);
    const auto waits = first.waits.empty() ? std::vector<std::int64_t>{0} : first.waits;
    for (const auto wait : waits) {
      const json* against = numbers_.find(first.name, "", wait);
      const json* most = table.prefill.empty() ? nullptr : numbers_.find(table.prefill, "", wait);
      std::string html = message("<caption>", wait == 0 ? std::string("all read first") : message("k = ", wait),
                                 "</caption><tr><th></th>");
      for (const char* column : {"tokens", "rows", "passes", "rows<br>a pass", "seconds", "rows/s"}) {
        html += element("th", column);
      }
      if (most != nullptr) html += element("th", "of bench's<br>rows/s");
      html += message("<th>tokens/s</th><th>rows, times<br>", escaped_for_xml(first.title),
                      "</th><th>time,<br>times it</th><th>rows a token,<br>times it</th><th>time a token,<br>times it"
                      "</th></tr>\n");
      for (const auto& name : table.measures) {
        html += element("tr", efficiency_row(study_.measure(name), numbers_.find(name, "", wait), against, most));
      }
      add(element("table", html));
    }
  }

  /// Work that one translation took. Its tokens are those it kept: what another plan writes may be longer.
  struct work {
    explicit work(const json& of)
        : tokens(of["rows"].value("tokens_kept", 0.0)),
          passes(of["rows"].value("passes", 0.0)),
          seconds(of["computed_s"].get<double>()) {
      for (const char* name : {"source", "target", "refed", "refreshed"}) rows += of["rows"].value(name, 0.0);
    }

    double tokens, passes, seconds, rows = 0;
  };

  [[nodiscard]] static std::string ratio(double a, double b, int decimals) {
    return b > 0 ? fixed(a / b, decimals) : std::string("&ndash;");
  }

  /// `factor` times the ratio of two times: the median over rounds, in which they were taken one after the other, and
  /// the lowest and the highest.
  [[nodiscard]] static std::string ratio_by_round(const json& a, const json& b, double factor) {
    std::vector<double> ratios;
    const auto rounds = [](const json& of) { return of.value("samples_s", std::vector<double>()); };
    const auto first = rounds(a), second = rounds(b);
    for (std::size_t i = 0; i < std::min(first.size(), second.size()); ++i) {
      if (second[i] > 0) ratios.push_back(factor * first[i] / second[i]);
    }
    if (ratios.empty()) return ratio(factor * a["computed_s"].get<double>(), b["computed_s"].get<double>(), 2);
    const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
    const std::string range = message(" <small>[", fixed(*low, 2), ", ", fixed(*high, 2), "]</small>");
    return fixed(median(ratios), 2) + (ratios.size() > 1 ? range : std::string());
  }

  [[nodiscard]] static std::string efficiency_row(const study_measure& measure, const json* of, const json* against,
                                                  const json* most) {
    std::string cells = message("<td>", escaped_for_xml(measure.title), "</td>");
    const auto cell = [&](const std::string& text) { cells += "<td>" + text + "</td>"; };
    if (of == nullptr) return cells + "<td>&ndash;</td>";
    const work took(*of);
    cell(took.tokens > 0 ? fixed(took.tokens, 0) : std::string("&ndash;"));
    cell(fixed(took.rows, 0));
    cell(fixed(took.passes, 0));
    cell(ratio(took.rows, took.passes, 1));
    cell(fixed(took.seconds, took.seconds < 0.1 ? 5 : 2));
    cell(ratio(took.rows, took.seconds, 0));
    if (most != nullptr) {
      const work best(*most);
      cell(ratio_by_round(*most, *of, took.rows / best.rows));
    }
    if (took.tokens <= 0) return cells;
    cell(ratio(took.tokens, took.seconds, 1));
    if (against == nullptr) return cells;
    const work other(*against);
    cell(ratio(took.rows, other.rows, 2));
    cell(ratio_by_round(*of, *against, 1));
    cell(ratio(took.rows * other.tokens, other.rows * took.tokens, 2));
    cell(ratio_by_round(*of, *against, other.tokens / took.tokens));
    return cells;
  }

  void add_commands() {
    add(element("h2", "The commands"));
    add(element("p", message("All of it, and what is missing: <code>runnel study ", escaped_for_xml(study_.path),
                             "</code>. One by one, with what training took:")));
    for (const auto& cell : numbers_.cells()) {
      const auto& result = numbers_.result(cell.name);
      std::string about = cell.name;
      if (result.all().contains("training")) {
        const auto& took = result.all()["training"];
        about +=
            message(": ", took.value("steps", 0), " steps, ", fixed(took.value("seconds", 0.0) / 60, 1), " minutes");
        if (took.contains("validation_loss")) {
          about += message(", validation loss ", fixed(took["validation_loss"].get<double>(), 4));
        }
      }
      // Each by itself: what makes text safe for XML makes a space of a line's end.
      std::string text = cell.train.empty() ? std::string() : escaped_for_xml(shell_command(cell.train)) + '\n';
      for (const auto& one : cell.evaluations) text += escaped_for_xml(whole_command(one)) + '\n';
      add(element("details", element("summary", escaped_for_xml(about)) + element("pre", text)));
    }
  }

  const study_config& study_;
  study_numbers numbers_;
  std::string body_;
  std::vector<std::filesystem::path> written_;
};

}  // namespace

std::vector<std::filesystem::path> write_report(const study_config& study) { return report_writer(study).write(); }

}  // namespace runnel::cli
