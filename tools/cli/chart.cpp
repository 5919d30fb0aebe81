// SPDX-License-Identifier: Apache-2.0

#include "chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "picture.hpp"

namespace runnel::cli {

namespace {

/// Least and greatest of what was seen.
struct extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void see(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }

  /// With a margin, and never empty.
  [[nodiscard]] std::pair<double, double> widened() const {
    if (low > high) return {0, 1};
    const double margin =
        std::max(0.04 * (high - low), 1e-3 * std::max(1e-3, std::max(std::fabs(low), std::fabs(high))));
    return {low - margin, high + margin};
  }
};

bool is_drawn(const chart_point& one) { return std::isfinite(one.x) && std::isfinite(one.y); }

bool has_ranges(const curve& one) {
  return std::any_of(one.points.begin(), one.points.end(), [](const chart_point& point) {
    return is_drawn(point) && (std::isfinite(point.x_low) || std::isfinite(point.x_high) ||
                               std::isfinite(point.y_low) || std::isfinite(point.y_high));
  });
}

std::string rows_of(const curve& one) {
  std::string rows;
  for (const chart_point& p : one.points) {
    if (!is_drawn(p)) continue;
    const auto known = [](double value, double otherwise) { return std::isfinite(value) ? value : otherwise; };
    rows += message(p.x, ' ', p.y, ' ', known(p.x_low, p.x), ' ', known(p.x_high, p.x), ' ', known(p.y_low, p.y), ' ',
                    known(p.y_high, p.y), '\n');
  }
  return rows;
}

std::string style_of(const curve& one) {
  const auto color = message(" lc rgb ", quoted_for_gnuplot(one.color));
  switch (one.how) {
    case curve::look::points: return message("points pt 7 ps 0.6", color);
    case curve::look::line_and_points: return message("linespoints pt 7 ps 0.6 lw ", one.width, color);
    default: return message("lines lw ", one.width, color);
  }
}

}  // namespace

std::string draw_chart(const chart& what, const std::stop_token& stop) {
  extent x, y;
  std::string data, plots = "NaN notitle";
  for (std::size_t i = 0; i < what.curves.size(); ++i) {
    const curve& one = what.curves[i];
    const std::string rows = rows_of(one);
    if (rows.empty()) continue;
    for (const chart_point& p : one.points) {
      if (!is_drawn(p)) continue;
      for (const double value : {p.x, p.x_low, p.x_high}) x.see(value);
      for (const double value : {p.y, p.y_low, p.y_high}) y.see(value);
    }
    data += message("$curve", i, " << END\n", rows, "END\n");
    if (has_ranges(one)) {
      plots += message(", $curve", i, " using 1:2:3:4:5:6 with xyerrorbars notitle pt 0 lw 1 lc rgb ",
                       quoted_for_gnuplot(one.color));
    }
    plots += message(", $curve", i, " using 1:2 with ", style_of(one), " title ", quoted_for_gnuplot(one.name));
  }
  const auto [left, right] = what.x_range.value_or(x.widened());
  const auto [bottom, top] = what.y_range.value_or(y.widened());
  const std::string script = message(
      "set title ", quoted_for_gnuplot(what.title), " font 'sans-serif:Bold,15' textcolor rgb '#333333'\n",
      "set bmargin 6\nset key at screen 0.5,0.02 bottom center horizontal Left reverse samplen 2 width -4 textcolor "
      "rgb '#333333'\n",
      "set border 3 lc rgb '#888888'\nset tics nomirror textcolor rgb '#333333'\nset grid y lc rgb '#e0e0e0' lt 1\n",
      "set bars small\nset xlabel ", quoted_for_gnuplot(what.x_title), " textcolor rgb '#333333'\nset ylabel ",
      quoted_for_gnuplot(what.y_title), " textcolor rgb '#333333'\nset xrange [", left, ':', right, "]\nset yrange [",
      bottom, ':', top, "]\n", data, "plot ", plots, '\n');
  return draw_svg(what.width, what.height, what.title, script, stop);
}

}  // namespace runnel::cli
