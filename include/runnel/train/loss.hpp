// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <runnel/autograd/parameter.hpp>
#include <runnel/core/index.hpp>
#include <runnel/train/example.hpp>

namespace runnel::train {

/// Cross-entropy over the labels of some rows, in nats, not yet divided by their number.
struct batch_loss {
  double sum = 0;       ///< what training makes small: with label smoothing
  double nll = 0;       ///< without
  index_t labels = 0;   ///< how many were predicted
  index_t correct = 0;  ///< of these, where the likeliest token was right

  batch_loss& operator+=(const batch_loss& other) noexcept {
    sum += other.sum;
    nll += other.nll;
    labels += other.labels;
    correct += other.correct;
    return *this;
  }
};

/// How one forward and backward pass is done.
struct step_options {
  double scale = 1;  ///< gradients += scale d(sum) / d(parameter)
  double label_smoothing = 0;
  double dropout = 0;
  double adapter_dropout = 0;  ///< of what low-rank adapters are given
  std::uint64_t seed = 0;      ///< of the dropout of this pass
  bool checkpointing = false;  ///< activations of a layer are computed again in the backward pass instead of kept
};

/// What can be trained: parameters, and a loss with gradients over batches of rows.
template <class Model>
concept Trainable = requires(Model& model, std::span<const training_rows> batch, const step_options& options) {
  { model.parameters() } -> std::same_as<autograd::parameter_list<float>&>;
  // Forward and backward: adds to the gradients.
  { model.accumulate(batch, options) } -> std::same_as<batch_loss>;
  // Forward alone, no dropout, no smoothing.
  { model.evaluate(batch) } -> std::same_as<batch_loss>;
  // Names the first layer whose output is NaN or infinite; empty if none is.
  { model.first_non_finite(batch) } -> std::convertible_to<std::string>;
};

}  // namespace runnel::train
