// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>

namespace runnel::train {

/// How the learning rate falls once it is warm.
enum class decay : std::uint8_t { constant, linear, cosine };

inline constexpr std::array<std::string_view, 3> decay_names{"constant", "linear", "cosine"};

[[nodiscard]] constexpr std::string_view name_of(decay which) noexcept {
  return decay_names[static_cast<std::size_t>(which)];
}

/// The learning rate as a function of the step alone: it rises in a straight line for `warmup` steps, reaches `peak` at
/// step `warmup`, and falls to `final_ratio` of it at step `steps`, where it stays.
struct schedule {
  decay kind = decay::cosine;
  double peak = 1e-3;
  index_t warmup = 0;
  index_t steps = 1;
  double final_ratio = 0;

  /// Throws config_error for values that make no sense.
  void check() const {
    expect(std::isfinite(peak) && peak >= 0, "schedule: expected a learning rate of at least 0, found ", peak);
    expect(warmup >= 0, "schedule: expected at least 0 steps of warm-up, found ", warmup);
    expect(kind == decay::constant || steps > warmup, "schedule: expected more than the ", warmup,
           " steps of warm-up, found ", steps);
    expect(final_ratio >= 0 && final_ratio <= 1, "schedule: expected a final ratio from 0 to 1, found ", final_ratio);
  }

  /// The rate of the update that comes after `step` others. The first is never zero: (step + 1) / (warmup + 1).
  [[nodiscard]] double at(index_t step) const noexcept {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
    if (kind == decay::constant) return peak;
    const double progress =
        std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(std::max<index_t>(1, steps - warmup)));
    const double left = kind == decay::linear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
    return peak * (final_ratio + (1 - final_ratio) * left);
  }
};

}  // namespace runnel::train
