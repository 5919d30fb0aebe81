// SPDX-License-Identifier: Apache-2.0

#include "plot_pictures.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "console.hpp"
#include "grid_picture.hpp"
#include "picture.hpp"

namespace runnel::cli {

namespace {

constexpr std::uint32_t source_color = 0x1f5f99, target_color = 0xb4560f;
constexpr std::uint32_t source_sees_source = 0x9dc3e6, target_sees_target = 0xf6b26b, target_sees_source = 0x7fc8a9,
                        source_sees_target = 0xc39bd3;

/// A row or column of a picture: one row of the stream, or the folded prompt.
struct entry {
  group of = group::source;
  index_t begin = 0, end = 0;
  [[nodiscard]] bool folded() const noexcept { return end - begin > 1; }
};

void check_size(std::size_t count, const char* what) {
  expect<limit_error>(count <= most_plotted_rows, "plot: the picture would have ", count, " ", what, ", but more than ",
                      most_plotted_rows,
                      " cannot be read; plot a shorter sentence, write fewer tokens (--max-tokens), or leave out "
                      "--whole-prompt");
}

/// Source rows, then target rows. What is folded: [`first`, prompt).
std::vector<entry> entries_of(const plotted_sentence& sentence, const plot_look& look, index_t first = 0) {
  std::vector<entry> out;
  const auto add = [&](group of, index_t begin, index_t end) { out.push_back({of, begin, end}); };
  const index_t prompt = look.whole_prompt ? 0 : sentence.prompt_rows();
  for (index_t r = 0; r < std::min(first, prompt); ++r) add(group::source, r, r + 1);
  if (first < prompt) add(group::source, first, prompt);
  for (auto r = prompt; r < static_cast<index_t>(sentence.source.size()); ++r) add(group::source, r, r + 1);
  for (index_t p = 0; p < static_cast<index_t>(sentence.target.size()); ++p) add(group::target, p, p + 1);
  check_size(out.size(), "columns");
  return out;
}

grid_label label_of(const entry& one, const plotted_sentence& sentence) {
  const bool is_source = one.of == group::source;
  const auto& texts = is_source ? sentence.source_texts : sentence.target_texts;
  grid_label out;
  out.color = is_source ? source_color : target_color;
  out.text = one.folded() ? message(one.begin == 0 ? "prompt (" : "rest of prompt (", one.end - one.begin, ")")
                          : texts[static_cast<std::size_t>(one.begin)];
  return out;
}

std::string number(double value) {
  return value == std::floor(value) ? message(static_cast<std::int64_t>(value)) : message(value);
}

std::string span_of(double first, double last) {
  return first == last ? number(first) : number(first) + "\xE2\x80\x93" + number(last);
}

/// Whether target keys have one place for all rows that see them, in the source's frame.
bool has_fixed_frame(const plotted_plan& plan) {
  const plotted_row* before = nullptr;
  for (const auto& row : plan.rows) {
    if (row.of != group::target) continue;
    if (before != nullptr && before->offsets[0] != row.offsets[0]) return false;
    before = &row;
  }
  return true;
}

double shift_of(const plotted_plan& plan) {
  for (const auto& row : plan.rows) {
    if (row.of == group::target) return row.offsets[0];
  }
  return 0;
}

/// Positions of a column's keys, as the paper counts them: in the source's frame.
std::string key_note(const plotted_plan& plan, const entry& one) {
  const auto& keys = plan.keys[static_cast<std::size_t>(one.of)];
  const auto at = [&](index_t i) { return keys[static_cast<std::size_t>(i)]; };
  if (one.end > static_cast<index_t>(keys.size())) return {};
  if (one.of == group::source) return span_of(at(one.begin), at(one.end - 1));
  return has_fixed_frame(plan) ? number(at(one.begin) + shift_of(plan)) : "c+" + number(at(one.begin));
}

std::vector<grid_label> columns_of(const plotted_plan& plan, const plotted_sentence& sentence,
                                   const std::vector<entry>& entries) {
  std::vector<grid_label> out;
  for (const auto& one : entries) {
    out.push_back(label_of(one, sentence));
    out.back().note = key_note(plan, one);
  }
  return out;
}

/// A cut before the first entry of the target.
std::vector<std::size_t> cut_of(const std::vector<entry>& entries) {
  for (std::size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].of != entries[i - 1].of) return {i};
  }
  return {};
}

/// The rows of a picture of ranges: the folded prompt's are one.
struct shown_row {
  const plotted_row* first;
  entry what;
};

/// By arrival where source sees target, as there all is one sequence; passes in the middle give way to what can be
/// read.
std::vector<shown_row> rows_to_show(const plotted_plan& plan, const plotted_sentence& sentence, const plot_look& look) {
  const index_t prompt = look.whole_prompt ? 0 : sentence.prompt_rows();
  std::vector<shown_row> out;
  for (const auto& row : plan.rows) {
    const bool folded = row.of == group::source && row.index < prompt;
    if (folded && row.index > 0) continue;
    out.push_back({&row, {row.of, row.index, folded ? prompt : row.index + 1}});
  }
  if (plan.how.source_sees_target()) {
    std::stable_sort(out.begin(), out.end(),
                     [](const shown_row& a, const shown_row& b) { return a.first->value < b.first->value; });
  }
  if (plan.passes > 1 && out.size() > most_plotted_rows) {
    const std::size_t last = static_cast<std::size_t>(std::count_if(
        out.begin(), out.end(), [&](const shown_row& one) { return one.first->pass + 1 == plan.passes; }));
    const auto middle = [&](const shown_row& one) { return one.first->pass + 1 < plan.passes; };
    while (out.size() > most_plotted_rows && out.size() > last) {
      const auto stop = std::find_if(out.rbegin(), out.rend(), middle);
      if (stop == out.rend() || stop->what.of == group::source) break;
      const index_t pass = stop->first->pass;
      std::erase_if(out, [&](const shown_row& one) { return one.what.of == group::target && one.first->pass == pass; });
    }
  }
  check_size(out.size(), "rows");
  return out;
}

std::string row_note(const shown_row& row) {
  if (row.what.of == group::target) return number(row.first->value + row.first->offsets[0]);
  return span_of(row.first->value, row.first[row.what.end - row.what.begin - 1].value);
}

std::uint32_t color_of(group row, group key) {
  if (row == group::source) return key == group::source ? source_sees_source : source_sees_target;
  return key == group::source ? target_sees_source : target_sees_target;
}

/// Neighbouring columns that are seen, as one range each.
void add_ranges(grid_picture& to, std::size_t at, const shown_row& row, const std::vector<entry>& columns) {
  for (std::size_t j = 0; j < columns.size(); ++j) {
    const auto& key = columns[j];
    const key_range seen = row.first->sees[static_cast<std::size_t>(key.of)];
    const bool own = row.what.folded() && key.of == row.what.of && key.begin == row.what.begin;
    if (!own && !(key.begin < seen.end && seen.begin < key.end)) continue;
    const auto color = color_of(row.what.of, key.of);
    if (!to.ranges.empty() && to.ranges.back().row == at && to.ranges.back().end == j &&
        to.ranges.back().color == color) {
      ++to.ranges.back().end;
    } else {
      to.ranges.push_back({at, j, j + 1, color});
    }
  }
}

void add_legend(grid_picture& to) {
  const std::pair<std::uint32_t, const char*> all[] = {
      {source_sees_source, "source row sees source"},
      {target_sees_source, "target row sees source (as far as it is read)"},
      {target_sees_target, "target row sees target"},
      {source_sees_target, "source row sees target (written before it was read)"},
  };
  for (const auto& [color, text] : all) {
    const bool used =
        std::any_of(to.ranges.begin(), to.ranges.end(), [c = color](const auto& r) { return r.color == c; });
    if (used) to.legend.push_back({color, text});
  }
}

/// What a row's logits choose.
std::string prediction_of(const plotted_row& row, const plotted_sentence& sentence) {
  if (!row.predicts) return {};
  const auto p = static_cast<std::size_t>(*row.predicts);
  return "\xE2\x86\x92 " + (p < sentence.target_texts.size() ? sentence.target_texts[p] : std::string("(end)"));
}

/// Of each target row, the row that predicts with it: from the last pass that has it first.
std::vector<const plotted_row*> target_rows(const plotted_plan& plan, const plotted_sentence& sentence) {
  std::vector<const plotted_row*> out(sentence.target.size(), nullptr);
  for (const auto& row : plan.rows) {
    if (row.of != group::target) continue;
    auto& to = out[static_cast<std::size_t>(row.index)];
    if (to == nullptr) to = &row;
  }
  return out;
}

/// The smallest distance between a row and the keys of a column, if it sees them.
std::optional<double> distance_to(const plotted_plan& plan, const plotted_row& row, const entry& key) {
  const auto s = static_cast<std::size_t>(key.of);
  if (key.begin < row.sees[s].begin || key.end > row.sees[s].end) return std::nullopt;
  return row.value + row.offsets[s] - plan.keys[s][static_cast<std::size_t>(key.end - 1)];
}

/// Columns of pictures of distances: a folded prompt has no one distance, and is left out.
std::vector<entry> distance_columns(const plotted_sentence& sentence, const plot_look& look) {
  auto columns = entries_of(sentence, look);
  std::erase_if(columns, [](const entry& one) { return one.folded(); });
  return columns;
}

grid_picture target_grid(const plotted_sentence& sentence, const std::vector<entry>& columns) {
  grid_picture out;
  for (index_t p = 0; p < static_cast<index_t>(sentence.target.size()); ++p) {
    out.rows.push_back(label_of({group::target, p, p + 1}, sentence));
  }
  check_size(out.rows.size(), "rows");
  out.row_title = "query";
  out.column_cuts = cut_of(columns);
  return out;
}

}  // namespace

std::string draw_ranges(const plotted_plan& plan, const plotted_sentence& sentence, const plot_look& look,
                        const std::stop_token& stop) {
  auto columns = entries_of(sentence, look);
  std::erase_if(columns, [&](const entry& one) {
    return one.end > static_cast<index_t>(plan.keys[static_cast<std::size_t>(one.of)].size());
  });
  if (plan.how.source_sees_target()) {
    std::stable_sort(columns.begin(), columns.end(), [&](const entry& a, const entry& b) {
      const auto at = [&](const entry& one) {
        return plan.keys[static_cast<std::size_t>(one.of)][static_cast<std::size_t>(one.begin)];
      };
      return at(a) < at(b);
    });
  }
  grid_picture grid;
  grid.title = plan.name;
  grid.row_title = "row (query)";
  grid.column_title = "column (key)";
  grid.note_title = "position";
  grid.end_title = "predicts";
  grid.columns = columns_of(plan, sentence, columns);
  const auto rows = rows_to_show(plan, sentence, look);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    grid.rows.push_back(label_of(row.what, sentence));
    grid.rows.back().note = row_note(row);
    grid.row_ends.push_back(prediction_of(*row.first, sentence));
    const bool cut = i > 0 && !plan.how.source_sees_target() &&
                     (rows[i - 1].what.of != row.what.of ||
                      (row.what.of == group::target && rows[i - 1].first->pass != row.first->pass));
    if (cut) grid.row_cuts.push_back(i);
    add_ranges(grid, i, row, columns);
  }
  if (!plan.how.source_sees_target()) grid.column_cuts = cut_of(columns);
  add_legend(grid);
  return draw_grid(grid, stop);
}

double farthest_distance(const plotted_plan& plan, const plotted_sentence& sentence, const plot_look& look) {
  double most = 1;
  for (const auto* row : target_rows(plan, sentence)) {
    for (const auto& key : distance_columns(sentence, look)) {
      if (row != nullptr) most = std::max(most, std::fabs(distance_to(plan, *row, key).value_or(0)));
    }
  }
  return most;
}

std::string draw_distances(const plotted_plan& plan, const plotted_sentence& sentence, const plot_look& look,
                           const std::stop_token& stop) {
  const auto columns = distance_columns(sentence, look);
  grid_picture grid = target_grid(sentence, columns);
  grid.title = plan.name;
  grid.column_title = "key";
  grid.columns = columns_of(plan, sentence, columns);
  for (auto& one : grid.columns) one.note.clear();
  grid.scale = {-look.farthest, look.farthest,
                "defined (-1 '#b2182b', -0.5 '#f4a582', 0 '#ffffff', 0.5 '#92c5de', 1 '#2166ac')",
                "how far the key lies behind the query, in positions; below zero: ahead of it; grey: not seen"};
  const bool with_numbers = columns.size() <= 60;
  const auto rows = target_rows(plan, sentence);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < columns.size() && rows[i] != nullptr; ++j) {
      const auto distance = distance_to(plan, *rows[i], columns[j]);
      if (!distance) continue;
      std::string text = number(std::fabs(*distance));
      if (*distance < 0) text.insert(0, "\xE2\x88\x92");
      grid.cells.push_back({i, j, *distance, with_numbers ? text : std::string()});
    }
  }
  return draw_grid(grid, stop);
}

std::vector<std::vector<double>> normalise_columns(std::vector<std::vector<double>> weights, double gamma) {
  const std::size_t columns = weights.empty() ? 0 : weights.front().size();
  for (std::size_t j = 0; j < columns; ++j) {
    double low = INFINITY, high = -INFINITY;
    for (const auto& row : weights) {
      low = std::min(low, row[j]);
      high = std::max(high, row[j]);
    }
    for (auto& row : weights) row[j] = high > low ? std::pow((row[j] - low) / (high - low), gamma) : 0.0;
  }
  return weights;
}

std::string draw_attention(const plotted_plan& plan, const plotted_sentence& sentence, attention_map which,
                           const plot_look& look, const std::stop_token& stop) {
  auto columns = entries_of(sentence, look, 1);
  if (which != attention_map::absolute) {
    const index_t sink = look.whole_prompt ? 1 : std::max<index_t>(1, sentence.prompt_rows());
    std::erase_if(columns, [&](const entry& one) { return one.of == group::source && one.begin < sink; });
  }
  grid_picture grid = target_grid(sentence, columns);
  grid.title = plan.name;
  grid.column_title = "key: where the row looks";
  std::vector<std::vector<double>> weights(grid.rows.size(), std::vector<double>(columns.size(), 0.0));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    for (std::size_t j = 0; j < columns.size(); ++j) {
      const index_t base = columns[j].of == group::source ? 0 : static_cast<index_t>(sentence.source.size());
      for (index_t k = columns[j].begin; k < columns[j].end; ++k) {
        weights[i][j] += plan.attention[i][static_cast<std::size_t>(base + k)];
      }
    }
  }
  if (which == attention_map::normalised) weights = normalise_columns(std::move(weights), look.gamma);
  double most = 0;
  for (const auto& row : weights) {
    for (const double weight : row) most = std::max(most, weight);
  }
  for (const auto& one : columns) grid.columns.push_back(label_of(one, sentence));
  const auto rows = target_rows(plan, sentence);
  grid.end_title = "predicts";
  for (const auto* row : rows) grid.row_ends.push_back(row != nullptr ? prediction_of(*row, sentence) : std::string());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    for (std::size_t j = 0; j < columns.size() && rows[i] != nullptr; ++j) {
      const key_range seen = rows[i]->sees[static_cast<std::size_t>(columns[j].of)];
      if (columns[j].begin < seen.end && seen.begin < columns[j].end) grid.cells.push_back({i, j, weights[i][j], {}});
    }
  }
  grid.scale = {0, which == attention_map::normalised || most == 0 ? 1.0 : most,
                "defined (0 '#ffffff', 0.25 '#c6dbef', 0.5 '#6baed6', 0.75 '#2171b5', 1 '#08306b')",
                which == attention_map::normalised
                    ? message("share of the column's range, to the power ", look.gamma, "; grey: not seen")
                    : message("attention weight, ", look.of, "; grey: not seen")};
  return draw_grid(grid, stop);
}

namespace {

/// One read or write, in words.
struct timeline_step {
  bool is_read;
  index_t word;  ///< how many there are now
  std::string text;
};

/// The reads and writes of a plan in their order. The prompt is there from the start.
std::vector<timeline_step> steps_of(const plotted_plan& plan, const plotted_sentence& sentence) {
  std::vector<timeline_step> out;
  std::size_t read = 1, written = 1;
  const auto read_to = [&](index_t rows) {
    while (read < sentence.source_ends.size() && sentence.source_ends[read] <= rows) {
      const std::size_t word = read - 1;
      const bool is_word = word < sentence.source_words.size();
      out.push_back({true, static_cast<index_t>(read++), is_word ? sentence.source_words[word] : "(end)"});
    }
  };
  const auto& ends = sentence.target_ends;
  for (index_t p = 0; p < plan.when.written(); ++p) {
    read_to(plan.when.c(p));
    for (; written < ends.size() && ends[written] <= p + 1; ++written) {
      out.push_back({false, static_cast<index_t>(written), sentence.target_words[written - 1]});
    }
  }
  read_to(plan.when.read_now());
  return out;
}

}  // namespace

std::string draw_timeline(const plotted_plan& plan, const plotted_sentence& sentence, const std::stop_token& stop) {
  constexpr double edge = 14, step_width = 26, word_height = 21, size = 11.5;
  constexpr std::uint32_t black = 0x222222, gray = 0x777777, pale = 0xe6e6e6;
  const auto steps = steps_of(plan, sentence);
  check_size(steps.size(), "steps");
  index_t most = 1;
  for (const auto& one : steps) most = std::max(most, one.word);
  // Words stand left of the points that read them, and right of those that write them.
  const double top = edge + 76, bottom = top + word_height * static_cast<double>(most) + 8;
  double left = edge + 60, right = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double wide = width_of(shortened(steps[i].text, 24), size) + 12, at = step_width * static_cast<double>(i + 1);
    if (steps[i].is_read) left = std::max(left, edge + 40 + wide - at);
    right = std::max(right, at + (steps[i].is_read ? 12 : wide));
  }
  const double width = std::ceil(std::max(left + right, edge + width_of(plan.name, 14) + 220) + edge),
               height = bottom + 54;
  const auto x = [&](std::size_t step) { return left + step_width * static_cast<double>(step); };
  const auto y = [&](index_t words) { return bottom - word_height * static_cast<double>(words); };
  canvas to;
  to.text({edge, edge + 6}, plan.name, {black, 14, canvas::align::left, false, true});
  to.disc({edge + 6, edge + 30}, source_color);
  to.text({edge + 16, edge + 30}, "READ: source words read, and the word that comes", {source_color, size});
  to.disc({edge + 6, edge + 48}, target_color);
  to.text({edge + 16, edge + 48}, "WRITE: target words written, and the word that is complete", {target_color, size});
  const double axis = edge + 40;
  for (index_t words = 0; words <= most; ++words) {
    to.line({axis, y(words)}, {x(steps.size()), y(words)}, pale);
    if (words % 5 == 0 || most <= 10)
      to.text({axis - 6, y(words)}, number(static_cast<double>(words)), {gray, 10, canvas::align::right});
  }
  for (std::size_t i = 1; i <= steps.size(); ++i) {
    to.line({x(i), bottom}, {x(i), bottom + 4}, gray);
    if (i == 1 || i % 5 == 0)
      to.text({x(i), bottom + 14}, number(static_cast<double>(i)), {gray, 10, canvas::align::center});
  }
  to.text({(axis + x(steps.size())) / 2, bottom + 34}, "step", {black, size, canvas::align::center});
  to.text({edge + 6, (top + bottom) / 2}, "words", {black, size, canvas::align::center, true});
  for (const bool reads : {true, false}) {
    const std::uint32_t color = reads ? source_color : target_color;
    index_t words = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      to.line({x(i), y(words)}, {x(i + 1), y(words)}, color, 1.4);
      if (steps[i].is_read != reads) continue;
      to.line({x(i + 1), y(words)}, {x(i + 1), y(steps[i].word)}, color, 1.4);
      words = steps[i].word;
      to.disc({x(i + 1), y(words)}, color);
      const double side = reads ? -4 : 6;
      to.text({x(i + 1) + side, y(words) + (reads ? -8 : 9)}, shortened(steps[i].text, 24),
              {color, size, reads ? canvas::align::right : canvas::align::left});
    }
  }
  return to.svg(width, height, "Reads and writes: " + plan.name, stop);
}

}  // namespace runnel::cli
