// SPDX-License-Identifier: Apache-2.0

#include "loss_picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "console.hpp"

namespace runnel::cli {

namespace {

/// A point of a curve, in steps and nats.
struct sample {
  double step;
  double loss;
};

constexpr double width = 880, height = 480;
constexpr double left = 72, right = 28, top = 64, bottom = 60;
constexpr const char *raw_color = "#9dc3e6", *mean_color = "#1f5f99", *validation_color = "#d1495b";

/// Text as XML has it.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c; break;
    }
  }
  return out;
}

/// The length 1, 2 or 5 times a power of ten that cuts `range` into about `count` parts.
double nice_interval(double range, int count) {
  const double rough = range / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

/// Where values stand on one axis.
class axis {
 public:
  axis(double low, double high, double from, double to) : low_(low), high_(high), from_(from), to_(to) {}
  [[nodiscard]] double at(double value) const { return from_ + (value - low_) / (high_ - low_) * (to_ - from_); }

  /// Calls `f(value, text)` for round values.
  template <class F>
  void for_ticks(int count, bool whole, F&& f) const {
    double interval = nice_interval(high_ - low_, count);
    if (whole) interval = std::max(1.0, interval);
    const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(interval) - 1e-9)), 0, 6);
    const auto first = std::ceil(low_ / interval - 1e-9);
    for (double i = first + 0.0; i * interval <= high_ + interval * 1e-9; ++i) f(i * interval, fixed(i * interval, decimals));
  }

 private:
  double low_, high_, from_, to_;
};

class picture {
 public:
  picture(std::span<const train::metrics_point> points, std::string_view title) : title_(title) {
    for (const auto& one : points) {
      if (!one.loss || !std::isfinite(*one.loss)) continue;
      (one.is_validation ? validation_ : steps_).push_back({static_cast<double>(one.step), *one.loss});
    }
    take_mean();
  }

  [[nodiscard]] std::string draw() {
    const auto x = x_axis(), y = y_axis();
    open();
    draw_grid(x, y);
    draw_line(thinned(steps_, true), x, y, raw_color, 1);
    draw_line(thinned(mean_, false), x, y, mean_color, 2);
    draw_line(validation_, x, y, validation_color, 1.5);
    for (const sample& one : thinned(validation_, false)) {
      add(message("<circle cx=\"", spot(x.at(one.step)), "\" cy=\"", spot(clamped(y.at(one.loss))),
                  "\" r=\"3\" fill=\"", validation_color, "\"/>"));
    }
    draw_legend();
    return out_ + "</svg>\n";
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

  [[nodiscard]] axis x_axis() const {
    double low = 0, high = 1;
    for (const auto* curve : {&steps_, &validation_}) {
      for (const sample& one : *curve) high = std::max(high, one.step);
    }
    return {low, high, left, width - right};
  }

  /// All means and validations, and the steps but for their highest hundredth.
  [[nodiscard]] axis y_axis() const {
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
    return {low - margin, high + margin, height - bottom, top};
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

  void add(const std::string& line) { out_ += line + '\n'; }

  [[nodiscard]] static std::string spot(double place) { return fixed(place, 1); }
  [[nodiscard]] static double clamped(double y) { return std::clamp(y, top, height - bottom); }

  void open() {
    add(message("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, ' ', height, "\" width=\"", width,
                "\" height=\"", height, "\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#333333\">"));
    add(message("<rect width=\"", width, "\" height=\"", height, "\" fill=\"#ffffff\"/>"));
    add(message("<text x=\"", left, "\" y=\"26\" font-size=\"16\" font-weight=\"bold\">", escaped(title_), "</text>"));
  }

  void draw_grid(const axis& x, const axis& y) {
    const auto line = [&](double x1, double y1, double x2, double y2, const char* color) {
      add(message("<line x1=\"", spot(x1), "\" y1=\"", spot(y1), "\" x2=\"", spot(x2), "\" y2=\"", spot(y2),
                  "\" stroke=\"", color, "\"/>"));
    };
    y.for_ticks(7, false, [&](double value, const std::string& text) {
      line(left, y.at(value), width - right, y.at(value), "#e6e6e6");
      add(message("<text x=\"", left - 8, "\" y=\"", spot(y.at(value) + 4), "\" text-anchor=\"end\">", text,
                  "</text>"));
    });
    x.for_ticks(8, true, [&](double value, const std::string& text) {
      line(x.at(value), height - bottom, x.at(value), height - bottom + 5, "#888888");
      add(message("<text x=\"", spot(x.at(value)), "\" y=\"", height - bottom + 20, "\" text-anchor=\"middle\">", text,
                  "</text>"));
    });
    line(left, height - bottom, width - right, height - bottom, "#888888");
    line(left, top, left, height - bottom, "#888888");
    add(message("<text x=\"", (left + width - right) / 2, "\" y=\"", height - 14,
                "\" text-anchor=\"middle\">step</text>"));
    add(message("<text transform=\"translate(18 ", (top + height - bottom) / 2,
                ") rotate(-90)\" text-anchor=\"middle\">loss (nats a token)</text>"));
  }

  void draw_line(const std::vector<sample>& curve, const axis& x, const axis& y, const char* color, double thickness) {
    if (curve.empty()) return;
    std::string line = message("<polyline fill=\"none\" stroke=\"", color, "\" stroke-width=\"", thickness,
                               "\" stroke-linejoin=\"round\" points=\"");
    for (const sample& one : curve) line += message(spot(x.at(one.step)), ',', spot(clamped(y.at(one.loss))), ' ');
    line.back() = '"';
    add(line + "/>");
  }

  void draw_legend() {
    double at = left;
    const auto entry = [&](const char* color, double thickness, const std::string& text) {
      add(message("<line x1=\"", spot(at), "\" y1=\"45\" x2=\"", spot(at + 22), "\" y2=\"45\" stroke=\"", color,
                  "\" stroke-width=\"", thickness, "\"/>"));
      add(message("<text x=\"", spot(at + 28), "\" y=\"49\">", text, "</text>"));
      at += 28 + 7.2 * static_cast<double>(text.size()) + 24;
    };
    if (!steps_.empty()) entry(raw_color, 1.5, "training, every step");
    if (!mean_.empty()) entry(mean_color, 2.5, "training, running mean");
    if (validation_.empty()) return;
    const auto best = std::min_element(validation_.begin(), validation_.end(),
                                       [](const sample& a, const sample& b) { return a.loss < b.loss; });
    entry(validation_color, 2, message("validation, best ", fixed(best->loss, 4), " at step ", fixed(best->step, 0)));
  }

  std::string title_;
  std::vector<sample> steps_, mean_, validation_;
  std::string out_;
};

}  // namespace

std::string draw_losses(std::span<const train::metrics_point> points, std::string_view title) {
  return picture(points, title).draw();
}

}  // namespace runnel::cli
