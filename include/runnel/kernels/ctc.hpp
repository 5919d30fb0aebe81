// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include <runnel/core/index.hpp>

/// \file
/// Connectionist temporal classification (Graves et al. 2006, sections 3 and 4): the probability of a label sequence is
/// the sum over all ways to write one class a frame that give these labels once repeats are merged and blanks dropped.
/// The blank is the last class. Readable scalar form; logarithms and sums in double.

namespace runnel::kernels {

/// What is known of an utterance once its loss is.
struct ctc_result {
  double nll = 0;        ///< -log of the labels' probability; 0 where they do not fit
  bool feasible = true;  ///< whether there are frames enough; else the utterance counts for nothing
};

/// Logits of one utterance, [frames, classes], and its labels, each in [0, classes - 1).
template <class T>
struct ctc_task {
  const T* logits = nullptr;
  index_t frames = 0;
  index_t classes = 0;
  std::span<const std::int32_t> labels{};
  const double* log_sums = nullptr;  ///< [frames]: `log_sum_exp` of each frame

  /// Places of an alignment: a blank before, between and after the labels.
  [[nodiscard]] index_t states() const noexcept { return 2 * static_cast<index_t>(labels.size()) + 1; }
  [[nodiscard]] index_t class_of(index_t state) const noexcept {
    return state % 2 == 0 ? classes - 1 : static_cast<index_t>(labels[static_cast<std::size_t>(state / 2)]);
  }
  /// Whether an alignment may go from place s - 2 to s: over the blank between two labels that differ.
  [[nodiscard]] bool may_skip_to(index_t state) const noexcept {
    return state % 2 == 1 && state >= 2 && class_of(state) != class_of(state - 2);
  }
  [[nodiscard]] double log_probability(index_t frame, index_t state) const noexcept {
    return static_cast<double>(logits[frame * classes + class_of(state)]) - log_sums[frame];
  }
};

/// Frames that any alignment of these labels has: one each, and a blank between two that are the same.
[[nodiscard]] inline index_t ctc_least_frames(std::span<const std::int32_t> labels) noexcept {
  auto frames = static_cast<index_t>(labels.size());
  for (std::size_t i = 1; i < labels.size(); ++i) frames += labels[i] == labels[i - 1] ? 1 : 0;
  return frames;
}

/// log(sum(exp(x))) of `count` numbers.
template <class T>
[[nodiscard]] double log_sum_exp(const T* x, index_t count) noexcept {
  double highest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (index_t i = 0; i < count; ++i) highest = std::max(highest, static_cast<double>(x[i]));
  if (std::isinf(highest) && highest < 0) highest = 0;
  for (index_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(x[i]) - highest);
  return highest + std::log(sum);
}

namespace detail {

/// log(e^a + e^b + e^c); minus infinity stands for "impossible".
[[nodiscard]] inline double log_add(double a, double b, double c) noexcept {
  const double highest = std::max({a, b, c});
  if (std::isinf(highest) && highest < 0) return highest;
  return highest + std::log(std::exp(a - highest) + std::exp(b - highest) + std::exp(c - highest));
}

inline constexpr double impossible = -std::numeric_limits<double>::infinity();

}  // namespace detail

/// Fills `alpha` [frames, states] with the logarithm of the probability of all beginnings of alignments that are at a
/// place in a frame, that frame included. The task must be feasible and have a frame.
template <class T>
[[nodiscard]] double ctc_forward(const ctc_task<T>& task, double* alpha) noexcept {
  const index_t states = task.states();
  for (index_t t = 0; t < task.frames; ++t) {
    double* const now = alpha + t * states;
    const double* const before = now - states;
    for (index_t s = 0; s < states; ++s) {
      double sum = s < 2 ? 0 : detail::impossible;
      if (t > 0) {
        sum = detail::log_add(before[s], s >= 1 ? before[s - 1] : detail::impossible,
                              task.may_skip_to(s) ? before[s - 2] : detail::impossible);
      }
      now[s] = sum + task.log_probability(t, s);
    }
  }
  const double* const last = alpha + (task.frames - 1) * states;
  return -detail::log_add(last[states - 1], states >= 2 ? last[states - 2] : detail::impossible, detail::impossible);
}

/// Takes from `gradient` [frames, classes] scale times the share of alignments that have each class in each frame; with
/// scale times the softmax there before, that is the gradient toward the logits (equation 16). `alpha` is that of
/// `ctc_forward`, `beta` place for two rows of states.
template <class T>
void ctc_backward(const ctc_task<T>& task, double scale, double nll, const double* alpha, double* beta,
                  T* gradient) noexcept {
  const index_t states = task.states();
  double* now = beta;
  double* after = beta + states;
  for (index_t t = task.frames - 1; t >= 0; --t) {
    for (index_t s = 0; s < states; ++s) {
      if (t + 1 == task.frames) {
        now[s] = s + 2 >= states ? 0 : detail::impossible;
        continue;
      }
      const auto ahead = [&](index_t to) { return after[to] + task.log_probability(t + 1, to); };
      now[s] = detail::log_add(ahead(s), s + 1 < states ? ahead(s + 1) : detail::impossible,
                               s + 2 < states && task.may_skip_to(s + 2) ? ahead(s + 2) : detail::impossible);
    }
    for (index_t s = 0; s < states; ++s) {
      gradient[t * task.classes + task.class_of(s)] -=
          static_cast<T>(scale * std::exp(alpha[t * states + s] + now[s] + nll));
    }
    std::swap(now, after);
  }
}

}  // namespace runnel::kernels
