// SPDX-License-Identifier: Apache-2.0

#include "loss_picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "chart.hpp"
#include "console.hpp"

namespace runnel::cli {

namespace {

/// A point of a curve, in steps and nats.
struct sample {
  double step;
  double loss;
};

constexpr const char *raw_color = "#9dc3e6", *mean_color = "#1f5f99", *validation_color = "#d1495b";

class losses {
 public:
  losses(std::span<const train::metrics_point> points, std::string_view title) : title_(title) {
    for (const auto& one : points) {
      if (!one.loss || !std::isfinite(*one.loss)) continue;
      (one.is_validation ? validation_ : steps_).push_back({static_cast<double>(one.step), *one.loss});
    }
    take_mean();
  }

  [[nodiscard]] std::string draw() {
    chart out;
    out.title = title_;
    out.x_title = "step";
    out.y_title = "loss (nats a token)";
    out.x_range = x_range();
    out.y_range = y_range();
    const auto add = [&](const char* name, const char* color, const std::vector<sample>& from, double width) {
      out.curves.push_back({name, color, {}, curve::look::line, width});
      for (const sample& one : from) out.curves.back().points.push_back({one.step, clamped(one.loss, *out.y_range)});
    };
    add("training, every step", raw_color, thinned(steps_, true), 1);
    add("training, running mean", mean_color, thinned(mean_, false), 2);
    add("", validation_color, thinned(validation_, false), 1.5);
    out.curves.back().how = curve::look::line_and_points;
    if (!validation_.empty()) out.curves.back().name = name_of_validations();
    return draw_chart(out);
  }

 private:
  static constexpr std::size_t most_points = 2000;

  /// Exponential, over about a hundredth of the run, without the pull toward a start.
  void take_mean() {
    const double keep = 1 - 2 / (std::max(1.0, static_cast<double>(steps_.size()) / 100) + 1);
    double sum = 0, weight = 0;
    for (const sample& one : steps_) {
      sum = keep * sum + (1 - keep) * one.loss;
      weight = keep * weight + (1 - keep);
      mean_.push_back({one.step, sum / weight});
    }
  }

  [[nodiscard]] std::pair<double, double> x_range() const {
    double high = 1;
    for (const auto* curve : {&steps_, &validation_}) {
      for (const sample& one : *curve) high = std::max(high, one.step);
    }
    return {0, high};
  }

  /// All means and validations, and the steps but for their highest hundredth.
  [[nodiscard]] std::pair<double, double> y_range() const {
    std::vector<double> values;
    for (const sample& one : steps_) values.push_back(one.loss);
    std::sort(values.begin(), values.end());
    double low = values.empty() ? 0 : values.front();
    double high = values.empty() ? 0 : values[(values.size() - 1) * 99 / 100];
    bool any = !values.empty();
    for (const auto* curve : {&mean_, &validation_}) {
      for (const sample& one : *curve) {
        low = any ? std::min(low, one.loss) : one.loss;
        high = any ? std::max(high, one.loss) : one.loss;
        any = true;
      }
    }
    const double margin = std::max(0.04 * (high - low), 1e-3 * std::max(1e-3, std::fabs(high)));
    return {low - margin, high + margin};
  }

  /// At most about `most_points`: of every stretch the mean, or the least and the greatest.
  [[nodiscard]] static std::vector<sample> thinned(const std::vector<sample>& curve, bool extremes) {
    if (curve.size() <= most_points) return curve;
    std::vector<sample> out;
    const std::size_t stretch = (curve.size() + most_points / 2 - 1) / (most_points / 2);
    for (std::size_t begin = 0; begin < curve.size(); begin += stretch) {
      const auto first = curve.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = curve.begin() + static_cast<std::ptrdiff_t>(std::min(begin + stretch, curve.size()));
      const auto by_loss = [](const sample& a, const sample& b) { return a.loss < b.loss; };
      const auto [least, most] = std::minmax_element(first, last, by_loss);
      if (extremes) {
        out.push_back(least->step <= most->step ? *least : *most);
        out.push_back(least->step <= most->step ? *most : *least);
      } else {
        out.push_back(*(first + (last - first) / 2));
      }
    }
    if (!extremes) out.push_back(curve.back());
    return out;
  }

  static double clamped(double loss, const std::pair<double, double>& shown) {
    return std::clamp(loss, shown.first, shown.second);
  }

  [[nodiscard]] std::string name_of_validations() const {
    const auto best = std::min_element(validation_.begin(), validation_.end(),
                                       [](const sample& a, const sample& b) { return a.loss < b.loss; });
    return message("validation, best ", fixed(best->loss, 4), " at step ", fixed(best->step, 0));
  }

  std::string title_;
  std::vector<sample> steps_, mean_, validation_;
};

}  // namespace

std::string draw_losses(std::span<const train::metrics_point> points, std::string_view title) {
  return losses(points, title).draw();
}

}  // namespace runnel::cli
