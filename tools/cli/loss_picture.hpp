// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <runnel/train/metrics.hpp>

namespace runnel::cli {

/// A training run as an SVG picture: the loss of every step and its running mean, the validations as points, the best
/// of them named. Steps without a finite loss are left out. Any number of points gives a picture of bounded size.
/// Throws picture_error where it cannot be drawn.
[[nodiscard]] std::string draw_losses(std::span<const train::metrics_point> points, std::string_view title);

}  // namespace runnel::cli
