// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <runnel/autograd/parameter.hpp>
#include <runnel/core/error.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/core/thread_team.hpp>

namespace runnel::train {

struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  bool decay_vectors = false;  ///< also of norms and biases

  /// Throws config_error for values that make no sense.
  void check() const {
    expect(beta1 >= 0 && beta1 < 1, "optimizer: expected beta1 in [0, 1), found ", beta1);
    expect(beta2 >= 0 && beta2 < 1, "optimizer: expected beta2 in [0, 1), found ", beta2);
    // As a float: where a gradient was always zero, so is the root of its second moment.
    expect(std::isfinite(epsilon) && static_cast<float>(epsilon) > 0,
           "optimizer: expected an epsilon above 0 in single precision, found ", epsilon);
    expect(std::isfinite(weight_decay) && weight_decay >= 0, "optimizer: expected a weight decay of at least 0, found ",
           weight_decay);
  }
};

namespace detail {

/// What one update does to every number, as floats.
struct adamw_step {
  float keep;   ///< of the weight: 1 - rate * decay
  float scale;  ///< of the gradient: clipping
  float rest1;  ///< 1 - beta1
  float beta2, rest2;
  float rate;        ///< learning rate / bias correction of the first moment
  float correction;  ///< 1 / sqrt of the bias correction of the second moment
  float epsilon;
};

/// One update of `count` numbers; the gradients become zero.
template <class Arch>
void adamw_numbers(const adamw_step& step, float* weight, float* gradient, float* first, float* second,
                   std::size_t count) noexcept {
  using floats = simd::lanes<float, Arch>;
  constexpr std::size_t width = simd::width<float, Arch>;
  const floats keep(step.keep), scale(step.scale), rest1(step.rest1), beta2(step.beta2), rest2(step.rest2),
      rate(-step.rate), correction(step.correction), epsilon(step.epsilon);
  const auto update = [&](float* w, float* g, float* m, float* v) RUNNEL_LAMBDA_INLINE {
    const floats grad = floats::load_unaligned(g) * scale;
    const floats m0 = floats::load_unaligned(m);
    const floats m1 = simd::fma(rest1, grad - m0, m0);
    const floats v1 = simd::fma(rest2 * grad, grad, beta2 * floats::load_unaligned(v));
    const floats below = simd::fma(xsimd::sqrt(v1), correction, epsilon);
    const floats w1 = simd::fma(rate, m1 / below, floats::load_unaligned(w) * keep);
    m1.store_unaligned(m);
    v1.store_unaligned(v);
    w1.store_unaligned(w);
    floats(0.0f).store_unaligned(g);
  };
  std::size_t i = 0;
  for (; i + width <= count; i += width) update(weight + i, gradient + i, first + i, second + i);
  if (i == count) return;
  std::array<std::array<float, width>, 4> rest{};  // the same operations on the numbers that fill no register
  float* const all[] = {weight + i, gradient + i, first + i, second + i};
  for (std::size_t k = 0; k < 4; ++k) std::copy(all[k], all[k] + (count - i), rest[k].begin());
  update(rest[0].data(), rest[1].data(), rest[2].data(), rest[3].data());
  for (std::size_t k = 0; k < 4; ++k) std::copy_n(rest[k].begin(), count - i, all[k]);
}

/// Sum of squares in double, in an order fixed by `count` alone.
[[nodiscard]] inline double squares(const float* values, std::size_t count) noexcept {
  std::array<double, 16> sums{};
  std::size_t i = 0;
  for (; i + sums.size() <= count; i += sums.size()) {
    for (std::size_t j = 0; j < sums.size(); ++j) {
      const auto value = static_cast<double>(values[i + j]);
      sums[j] += value * value;
    }
  }
  for (std::size_t j = 0; i < count; ++i, ++j)
    sums[j] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace detail

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101): Adam with weight decay beside the gradient, as torch.optim.AdamW
/// computes it. Moments and weights are f32, whatever the products are computed in. Work is cut into pieces of fixed
/// size, so that the bits do not depend on the number of threads.
class adamw {
 public:
  /// The two moments of one trained parameter, of its shape.
  struct moments {
    autograd::parameter<float>* of;
    tensor<float, 2> first;
    tensor<float, 2> second;
  };

  /// For the parameters that have gradients now; they must stay. Memory: 8 bytes a number. Throws config_error.
  adamw(autograd::parameter_list<float>& parameters, const adamw_options& options) : options_(options) {
    options.check();
    for (auto& one : parameters) {
      if (!one.trainable()) continue;
      auto& added = moments_.emplace_back(
          moments{&one, tensor<float, 2>(one.values.shape()), tensor<float, 2>(one.values.shape())});
      const auto size = static_cast<std::size_t>(one.values.size());
      for (std::size_t begin = 0; begin < size; begin += piece_size) {
        pieces_.push_back({&added, begin, std::min(piece_size, size - begin)});
      }
    }
    expect(!moments_.empty(), "optimizer: no parameter can be trained");
    sums_.resize(pieces_.size());
  }

  /// The 2-norm of all gradients together, in double; not finite if any of them is not.
  [[nodiscard]] double gradient_norm(thread_team& team) {
    for_pieces(team, [this](std::size_t i) {
      const piece& part = pieces_[i];
      sums_[i] = detail::squares(part.of->of->gradient.data() + part.begin, part.count);
    });
    double total = 0;
    for (const double sum : sums_) total += sum;
    return std::sqrt(total);
  }

  /// The factor that brings gradients of norm `norm` to at most `most` (0: no bound): most / (norm + 1e-6), if below 1.
  [[nodiscard]] static double clip_factor(double norm, double most) noexcept {
    return most > 0 ? std::min(1.0, most / (norm + 1e-6)) : 1.0;
  }

  /// One update with the gradients times `factor`; then they are zero.
  void step(double learning_rate, double factor, thread_team& team) {
    ++steps_;
    const auto power = static_cast<double>(steps_);
    detail::adamw_step plain{};
    plain.keep = 1;
    plain.scale = static_cast<float>(factor);
    plain.rest1 = static_cast<float>(1 - options_.beta1);
    plain.beta2 = static_cast<float>(options_.beta2);
    plain.rest2 = static_cast<float>(1 - options_.beta2);
    plain.rate = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, power)));
    plain.correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, power)));
    plain.epsilon = static_cast<float>(options_.epsilon);
    detail::adamw_step decayed = plain;
    decayed.keep = static_cast<float>(1 - learning_rate * options_.weight_decay);
    for_pieces(team, [&](std::size_t i) {
      const piece& part = pieces_[i];
      auto& weight = *part.of->of;
      const bool decays = options_.decay_vectors || !weight.is_vector;
      detail::adamw_numbers<simd::best_arch>(decays ? decayed : plain, weight.values.data() + part.begin,
                                             weight.gradient.data() + part.begin, part.of->first.data() + part.begin,
                                             part.of->second.data() + part.begin, part.count);
    });
  }

  /// Sets the gradients to zero without an update.
  void clear_gradients(thread_team& team) {
    for_pieces(team, [this](std::size_t i) {
      const piece& part = pieces_[i];
      std::fill_n(part.of->of->gradient.data() + part.begin, part.count, 0.0f);
    });
  }

  /// The name of the first parameter with a gradient that is NaN or infinite; empty if there is none.
  [[nodiscard]] std::string first_non_finite() const {
    for (const moments& one : moments_) {
      const auto count = static_cast<std::size_t>(one.of->gradient.size());
      if (!std::isfinite(detail::squares(one.of->gradient.data(), count))) return one.of->name;
    }
    return {};
  }

  /// The name of the first trained parameter with a value or moment that is NaN or infinite; empty if there is none.
  [[nodiscard]] std::string first_non_finite_value() const {
    const auto is_finite = [](const tensor<float, 2>& of) {
      const auto values = of.values();
      // Squares may overflow where the values did not; then each is looked at.
      return std::isfinite(detail::squares(values.data(), values.size())) ||
             std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    };
    for (const moments& one : moments_) {
      if (!is_finite(one.of->values) || !is_finite(one.first) || !is_finite(one.second)) return one.of->name;
    }
    return {};
  }

  /// Updates so far, on which the bias corrections depend.
  [[nodiscard]] index_t steps() const noexcept { return steps_; }
  void set_steps(index_t steps) noexcept { steps_ = steps; }

  /// For checkpoints: one entry a trained parameter, in the order of the list.
  [[nodiscard]] std::deque<moments>& state() noexcept { return moments_; }
  [[nodiscard]] const std::deque<moments>& state() const noexcept { return moments_; }

 private:
  static constexpr std::size_t piece_size = std::size_t{1} << 14;

  struct piece {
    moments* of;
    std::size_t begin;
    std::size_t count;
  };

  template <class F>
  void for_pieces(thread_team& team, F&& f) {
    team.run([&] {
      team.parallel_for(static_cast<std::ptrdiff_t>(pieces_.size()), 1,
                        [&](std::ptrdiff_t begin, std::ptrdiff_t end, int) {
                          for (std::ptrdiff_t i = begin; i < end; ++i) f(static_cast<std::size_t>(i));
                        });
    });
  }

  adamw_options options_;
  index_t steps_ = 0;
  std::deque<moments> moments_;  // addresses stay
  std::vector<piece> pieces_;
  std::vector<double> sums_;
};

}  // namespace runnel::train
