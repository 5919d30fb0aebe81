// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/position/group.hpp>

namespace runnel::stream {

/// How the next token is chosen from logits.
struct sampler_options {
  /// 0 chooses the largest logit (ties: the lowest id); otherwise logits are divided by it.
  double temperature = 0;
  /// Only the `top_k` most likely tokens are considered; 0 considers all.
  index_t top_k = 0;
  /// Only the most likely tokens whose probabilities add up to `top_p` are considered; 1 considers all.
  double top_p = 1;
  std::uint64_t seed = 0;
};

/// Chooses tokens. Has no state but buffers: the random numbers come from the caller, who decides when they advance.
class sampler {
 public:
  /// Throws config_error unless temperature >= 0 is finite, top_k >= 0 and 0 < top_p <= 1.
  explicit sampler(const sampler_options& options = {}) : options_(options) {
    expect(std::isfinite(options.temperature) && options.temperature >= 0,
           "sampler: temperature must be 0 or more, found ", options.temperature);
    expect(options.top_k >= 0, "sampler: top_k must be 0 (all) or more, found ", options.top_k);
    expect(options.top_p > 0 && options.top_p <= 1, "sampler: top_p must be in (0, 1], found ", options.top_p);
  }

  [[nodiscard]] const sampler_options& options() const noexcept { return options_; }

  /// Id of the chosen token. Uses one random number if the temperature is above 0, none otherwise. Linear in the
  /// vocabulary; top_k adds a selection, top_p a sort of what top_k left. Logits of -infinity are never chosen, NaN
  /// counts as -infinity. Throws error if no logit is left.
  [[nodiscard]] std::int32_t choose(std::span<const float> logits, random_stream& random) {
    const std::int32_t best = largest(logits);
    if (options_.temperature == 0) return best;
    collect(logits);
    if (options_.top_k > 0 && options_.top_k < static_cast<index_t>(candidates_.size())) {
      const auto middle = candidates_.begin() + options_.top_k;
      std::nth_element(candidates_.begin(), middle, candidates_.end(), more_likely);
      candidates_.erase(middle, candidates_.end());
      if (options_.top_p >= 1) std::sort(candidates_.begin(), candidates_.end(), more_likely);
    }
    if (options_.top_p < 1) std::sort(candidates_.begin(), candidates_.end(), more_likely);
    return draw(logits[static_cast<std::size_t>(best)], random);
  }

 private:
  struct candidate {
    float logit = 0;
    std::int32_t id = 0;
  };

  static bool more_likely(const candidate& a, const candidate& b) noexcept {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }

  static std::int32_t largest(std::span<const float> logits) {
    const float best_logit = maximum(logits);
    expect<error>(best_logit > -std::numeric_limits<float>::infinity(), "sampler: none of ", logits.size(),
                  " logits is a number above -infinity");
    const auto best = static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), best_logit) - logits.begin());
    expect<error>(best_logit < std::numeric_limits<float>::infinity(), "sampler: the logit of token ", best,
                  " is infinite");
    return best;
  }

  /// The largest number; -infinity if there is none.
  static float maximum(std::span<const float> logits) noexcept {
    using batch = simd::lanes<float, simd::best_arch>;
    constexpr std::size_t width = simd::width<float, simd::best_arch>;
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    std::array<batch, 4> most;
    most.fill(batch(lowest));
    std::size_t i = 0;
    for (; i + most.size() * width <= logits.size(); i += most.size() * width) {
      for (std::size_t c = 0; c < most.size(); ++c) {
        const batch x = batch::load_unaligned(logits.data() + i + c * width);
        most[c] = xsimd::select(x > most[c], x, most[c]);  // never NaN
      }
    }
    float best = lowest;
    for (const batch& one : most) best = std::max(best, simd::maximum(one));
    for (; i < logits.size(); ++i) best = logits[i] > best ? logits[i] : best;
    return best;
  }

  void collect(std::span<const float> logits) {
    candidates_.clear();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] > -std::numeric_limits<float>::infinity()) {
        candidates_.push_back({logits[i], static_cast<std::int32_t>(i)});
      }
    }
  }

  std::int32_t draw(float best_logit, random_stream& random) {
    weights_.clear();
    double total = 0;
    for (const candidate& c : candidates_) {
      const double below = static_cast<double>(c.logit) - static_cast<double>(best_logit);
      weights_.push_back(std::exp(below / options_.temperature));
      total += weights_.back();
    }
    std::size_t count = weights_.size();
    if (options_.top_p < 1) {
      double kept = 0;
      count = 0;
      while (count < weights_.size() && kept < options_.top_p * total) kept += weights_[count++];
      total = kept;
    }
    double left = random.uniform() * total;
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (weights_[i] > 0) chosen = i;  // rounding may leave a rest at the end: the last possible token takes it
      left -= weights_[i];
      if (left < 0) break;
    }
    return candidates_[chosen].id;
  }

  sampler_options options_;
  std::vector<candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace runnel::stream
