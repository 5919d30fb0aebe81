// SPDX-License-Identifier: Apache-2.0

#include "grid_picture.hpp"

#include <algorithm>
#include <cmath>

#include "picture.hpp"

namespace runnel::cli {

namespace {

constexpr std::size_t most_label = 20;  // characters
constexpr double text_size = 11, note_size = 9, title_size = 14;
constexpr double edge = 14, gap = 5;
constexpr std::uint32_t black = 0x222222, gray = 0x777777, empty_cell = 0xf1f1ee, thin_line = 0xffffff,
                        thick_line = 0x555555;

/// Where everything stands, in pixels.
class layout {
 public:
  explicit layout(const grid_picture& what) : what_(what) {
    const double text = widest(what.rows, [](const grid_label& one) { return shortened(one.text, most_label); });
    row_text_ = std::max(text, width_of(what.row_title, text_size));
    row_note_ = note_width(what.rows);
    column_text_ = widest(what.columns, [](const grid_label& one) { return shortened(one.text, most_label); });
    column_note_ = note_width(what.columns);
    double number = 0;
    for (const auto& one : what.cells) number = std::max(number, width_of(one.text, note_size));
    cell_ = std::max(what.columns.size() > 60 ? 13.0 : 17.0, number > 0 ? number + 6 : 0.0);
    cell_height_ = what.columns.size() > 60 || what.rows.size() > 60 ? 13.0 : 17.0;
    left_ = edge + row_text_ + gap + row_note_ + gap;
    top_ = edge + 24 + legend_height() + scale_height() + 20 + column_text_ + 2 * gap + column_note_ + gap;
    ends_ = 0;
    for (const auto& one : what.row_ends) ends_ = std::max(ends_, width_of(shortened(one, most_label + 2), text_size));
    if (ends_ > 0) ends_ = std::max(ends_, width_of(what.end_title, text_size)) + 2 * gap;
  }

  [[nodiscard]] double x(std::size_t column) const { return left_ + cell_ * static_cast<double>(column); }
  [[nodiscard]] double y(std::size_t row) const { return top_ + cell_height_ * static_cast<double>(row); }
  [[nodiscard]] double right() const { return x(what_.columns.size()); }
  [[nodiscard]] double bottom() const { return y(what_.rows.size()); }
  [[nodiscard]] double left() const { return left_; }
  [[nodiscard]] double top() const { return top_; }
  [[nodiscard]] double row_texts() const { return left_ - gap - row_note_ - gap; }
  [[nodiscard]] double column_texts() const { return top_ - gap - column_note_ - 2 * gap; }
  [[nodiscard]] double column_title() const { return column_texts() - column_text_ - 12; }
  [[nodiscard]] double scale_top() const { return edge + 24 + legend_height(); }
  [[nodiscard]] double width() const {
    double most = std::max({right() + ends_, edge + width_of(what_.title, title_size) * 1.08,
                            left_ + width_of(what_.column_title, text_size)});
    if (what_.scale) most = std::max(most, edge + 200 + 2 * gap + width_of(what_.scale->title, text_size));
    for (const auto& one : what_.legend) most = std::max(most, edge + 20 + width_of(one.text, text_size));
    return std::ceil(most + edge);
  }
  [[nodiscard]] double height() const { return std::ceil(bottom() + edge); }

  /// The grid's own cell.
  [[nodiscard]] canvas::rectangle at(std::size_t row, std::size_t begin, std::size_t end) const {
    return {x(begin), y(row), x(end), y(row + 1)};
  }

  static constexpr double legend_line = 18;

 private:
  template <class F>
  [[nodiscard]] static double widest(const std::vector<grid_label>& labels, F&& text_of) {
    double most = 0;
    for (const auto& one : labels) most = std::max(most, width_of(text_of(one), text_size));
    return most;
  }
  [[nodiscard]] static double note_width(const std::vector<grid_label>& labels) {
    double most = 0;
    for (const auto& one : labels) most = std::max(most, width_of(one.note, note_size));
    return most;
  }
  [[nodiscard]] double legend_height() const { return legend_line * static_cast<double>(what_.legend.size()); }
  [[nodiscard]] double scale_height() const { return what_.scale ? 50 : 0; }

  const grid_picture& what_;
  double row_text_ = 0, row_note_ = 0, column_text_ = 0, column_note_ = 0, cell_ = 0, cell_height_ = 0, left_ = 0,
         top_ = 0, ends_ = 0;
};

void draw_labels(canvas& to, const grid_picture& what, const layout& at) {
  using align = canvas::align;
  for (std::size_t i = 0; i < what.rows.size(); ++i) {
    const double y = (at.y(i) + at.y(i + 1)) / 2;
    const auto& one = what.rows[i];
    to.text({at.row_texts(), y}, shortened(one.text, most_label), {one.color, text_size, align::right});
    to.text({at.left() - gap, y}, one.note, {gray, note_size, align::right});
    if (i >= what.row_ends.size()) continue;
    to.text({at.right() + gap, y}, shortened(what.row_ends[i], most_label + 2), {black, text_size});
  }
  for (std::size_t j = 0; j < what.columns.size(); ++j) {
    const double x = (at.x(j) + at.x(j + 1)) / 2;
    const auto& one = what.columns[j];
    to.text({x, at.column_texts()}, shortened(one.text, most_label), {one.color, text_size, align::left, true});
    to.text({x, at.top() - gap}, one.note, {gray, note_size, align::left, true});
  }
  to.text({at.left(), at.column_title()}, what.column_title, {black, text_size, align::left, false, true});
  const double up = what.note_title.empty() ? 2 : 14;
  to.text({at.row_texts(), at.top() - gap - up}, what.row_title, {black, text_size, align::right, false, true});
  to.text({at.left() - gap, at.top() - gap - 2}, what.note_title, {gray, note_size, align::right});
  to.text({at.right() + gap, at.top() - gap - 2}, what.end_title, {black, text_size, align::left, false, true});
}

void draw_lines(canvas& to, const grid_picture& what, const layout& at) {
  const auto across = [&](std::size_t row, std::uint32_t color, double width) {
    to.line({at.left(), at.y(row)}, {at.right(), at.y(row)}, color, width);
  };
  const auto down = [&](std::size_t column, std::uint32_t color, double width) {
    to.line({at.x(column), at.top()}, {at.x(column), at.bottom()}, color, width);
  };
  for (std::size_t i = 1; i < what.rows.size(); ++i) across(i, thin_line, 1);
  for (std::size_t j = 1; j < what.columns.size(); ++j) down(j, thin_line, 1);
  for (const std::size_t row : what.row_cuts) across(row, thick_line, 1.2);
  for (const std::size_t column : what.column_cuts) down(column, thick_line, 1.2);
}

/// Black on light, white on dark: whether a value's colour is dark on the palettes that pages use.
bool is_dark(const grid_picture::value_scale& scale, double value) {
  const double span = scale.high - scale.low;
  const double place = span > 0 ? (value - scale.low) / span : 0;
  const bool two_sided = scale.low < 0;
  return two_sided ? std::fabs(place - 0.5) > 0.36 : place > 0.6;
}

}  // namespace

std::string draw_grid(const grid_picture& what, const std::stop_token& stop) {
  const layout at(what);
  canvas to;
  to.text({edge, edge + 6}, what.title, {black, title_size, canvas::align::left, false, true});
  double y = edge + 24 + layout::legend_line / 2;
  for (const auto& one : what.legend) {
    to.box({edge, y - 6, edge + 13, y + 6}, one.color);
    to.text({edge + 20, y}, one.text, {black, text_size});
    y += layout::legend_line;
  }
  to.box({at.left(), at.top(), at.right(), at.bottom()}, empty_cell);
  for (const auto& one : what.ranges) to.box(at.at(one.row, one.begin, one.end), one.color);
  if (what.scale) {
    const double top = at.scale_top() + 4;
    to.set_scale({what.scale->low, what.scale->high, what.scale->palette, {edge + 4, top, edge + 196, top + 11}});
    to.text({edge + 200 + 2 * gap, top + 6}, what.scale->title, {black, text_size});
    for (const auto& one : what.cells) {
      to.cell(at.at(one.row, one.column, one.column + 1), one.value);
      const auto middle =
          canvas::place{(at.x(one.column) + at.x(one.column + 1)) / 2, (at.y(one.row) + at.y(one.row + 1)) / 2};
      to.text(middle, one.text,
              {is_dark(*what.scale, one.value) ? 0xffffffU : 0x222222U, note_size, canvas::align::center});
    }
  }
  draw_lines(to, what, at);
  draw_labels(to, what, at);
  return to.svg(at.width(), at.height(), what.title, stop);
}

}  // namespace runnel::cli
