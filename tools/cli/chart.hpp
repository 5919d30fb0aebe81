// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace runnel::cli {

/// A point of a curve, with the range that each of its numbers may have (NaN: none is known).
struct chart_point {
  double x = 0;
  double y = 0;
  double x_low = std::numeric_limits<double>::quiet_NaN();
  double x_high = std::numeric_limits<double>::quiet_NaN();
  double y_low = std::numeric_limits<double>::quiet_NaN();
  double y_high = std::numeric_limits<double>::quiet_NaN();
};

/// One curve of a chart. Points that are not finite are left out.
struct curve {
  enum class look { line, points, line_and_points };

  std::string name;   ///< for the legend; may be empty
  std::string color;  ///< "#rrggbb"
  std::vector<chart_point> points;
  look how = look::line;
  double width = 2;
};

/// Curves over two axes. All texts are shown as they are.
struct chart {
  std::string title;
  std::string x_title;
  std::string y_title;
  std::vector<curve> curves;
  /// What the axes show; else all points and their ranges, with a margin.
  std::optional<std::pair<double, double>> x_range{};
  std::optional<std::pair<double, double>> y_range{};
  double width = 880;
  double height = 480;
};

/// The chart as SVG. A chart without points has its axes. Throws as `run_gnuplot` (picture.hpp).
[[nodiscard]] std::string draw_chart(const chart& what, const std::stop_token& stop = {});

}  // namespace runnel::cli
