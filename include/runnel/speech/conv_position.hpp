// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/nn/linear.hpp>
#include <runnel/ops/conv1d.hpp>

namespace runnel::speech {

/// Convolutional position embedding: a wide grouped convolution over frames, added to them. The original pads both
/// sides (frame t sees t - kernel / 2 .. t + (kernel - 1) / 2), the causal one the left alone.
template <class Parameters>
struct conv_position {
  ops::conv1d how;                     ///< stride 1
  typename Parameters::matrix weight;  ///< [hidden, kernel * hidden / groups], weight norm folded
  typename Parameters::vector bias;
  kernels::activation kind = kernels::activation::gelu;
  bool causal = false;

  /// Zeros, or frames that came before, which a frame's convolution needs on its left.
  [[nodiscard]] index_t before() const noexcept { return causal ? how.kernel - 1 : how.kernel / 2; }
  [[nodiscard]] index_t after() const noexcept { return how.kernel - 1 - before(); }

  /// All frames of an utterance, [frames, hidden] to the same shape.
  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return context(ops::add{}, x, of_padded(context, context(ops::pad_frames{before(), after()}, x)));
  }

  /// What is added to frames: [before + frames + after, hidden] to [frames, hidden].
  template <class Context>
  [[nodiscard]] auto of_padded(Context& context, const typename Context::value& padded) const {
    return context(ops::activation{kind}, context(how, padded, weight, bias));
  }
};

}  // namespace runnel::speech
