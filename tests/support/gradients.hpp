// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/core/rng.hpp>
#include <runnel/train/model.hpp>

namespace runnel::tests {

/// Loss at the parameters moved by `step` along `direction`.
inline double loss_along(train::model<double>& model, const std::vector<train::training_rows>& batch,
                         const train::step_options& options, std::span<double> element,
                         std::span<const double> direction, double step) {
  const std::vector<double> before(element.begin(), element.end());
  for (std::size_t i = 0; i < element.size(); ++i) element[i] += step * direction[i];
  const double loss = model.accumulate(batch, options).sum * options.scale;
  std::copy(before.begin(), before.end(), element.begin());
  return loss;
}

inline void clear_gradients(train::model<double>& model) {
  for (auto& parameter : model.parameters()) {
    std::fill(parameter.gradient.values().begin(), parameter.gradient.values().end(), 0.0);
  }
}

/// Compares every parameter's gradient along a random direction, and at some single elements.
inline void check_gradients(train::model<double>& model, const std::vector<train::training_rows>& batch,
                            const train::step_options& options, random_stream& random) {
  clear_gradients(model);
  model.accumulate(batch, options);
  std::vector<std::vector<double>> analytic;
  for (const auto& parameter : model.parameters()) {
    analytic.emplace_back(parameter.gradient.values().begin(), parameter.gradient.values().end());
  }
  std::size_t index = 0;
  for (auto& parameter : model.parameters()) {
    const auto& gradient = analytic[index++];
    if (!parameter.trainable()) continue;
    std::vector<std::vector<double>> directions(3, std::vector<double>(gradient.size(), 0.0));
    for (double& d : directions[0]) d = (2 * random.uniform() - 1) / std::sqrt(static_cast<double>(gradient.size()));
    for (std::size_t i = 1; i < directions.size(); ++i) {
      directions[i][static_cast<std::size_t>(random.below(static_cast<index_t>(gradient.size())))] = 1;
    }
    for (const auto& direction : directions) {
      double expected = 0;
      for (std::size_t i = 0; i < gradient.size(); ++i) expected += gradient[i] * direction[i];
      const double h = 2e-5;
      const auto at = [&](double step) {
        return loss_along(model, batch, options, parameter.values.values(), direction, step);
      };
      // Fourth order, so that the step's own error stays below the tolerance where scores are sharp.
      const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      CAPTURE(parameter.name);
      CAPTURE(numeric);
      CAPTURE(expected);
      CHECK(std::abs(numeric - expected) <= 1e-6 * std::max(1.0, std::abs(expected)));
    }
  }
}

}  // namespace runnel::tests
