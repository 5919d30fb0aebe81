// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <runnel/nn/linear.hpp>
#include <runnel/nn/norm.hpp>
#include <runnel/ops/conv1d.hpp>

/// \file
/// From samples to features: the convolutions of wav2vec2 and what brings their result to the encoder's width. Modules
/// are written over a context (evaluation or tape) and have no state; streams keep that beside them (stream.hpp).

namespace runnel::speech {

/// A convolution, layer norm of each frame where there is one, activation: [frames, inputs] to
/// [1 + (frames - kernel) / stride, outputs].
template <class Parameters>
struct conv_layer {
  ops::conv1d how;
  typename Parameters::matrix weight;  ///< [outputs, kernel * inputs], a frame's channels side by side
  typename Parameters::vector bias;    ///< [outputs] or empty
  nn::layer_norm<Parameters> norm;     ///< no weight: none
  kernels::activation kind = kernels::activation::gelu;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    const auto y = context(how, x, weight, bias);
    return context(ops::activation{kind}, norm.weight.size() == 0 ? y : norm(context, y));
  }
};

/// All of them: samples [count, 1] to [frames, features]. Too few samples give no frame.
template <class Parameters>
struct front_end {
  std::vector<conv_layer<Parameters>> layers;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& samples) const {
    auto x = layers.front()(context, samples);
    for (std::size_t i = 1; i < layers.size(); ++i) x = layers[i](context, x);
    return x;
  }
};

/// Layer norm, then a linear map: [frames, features] to [frames, hidden].
template <class Parameters>
struct feature_projection {
  nn::layer_norm<Parameters> norm;
  nn::linear<Parameters> linear;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return linear(context, norm(context, x));
  }
};

}  // namespace runnel::speech
