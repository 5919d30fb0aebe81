// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include <runnel/nn/linear.hpp>
#include <runnel/ops/elementwise.hpp>

namespace runnel::speech {

/// From frames of an encoder to rows of a decoder: `stack` frames side by side, linear, activation, linear (paper,
/// Appendix B: an MLP in the manner of LLaVA). [frames, hidden] to [ceil(frames / stack), width]; where the last row
/// lacks frames, they are zeros.
template <class Parameters>
struct projector_layers {
  nn::linear<Parameters> linear_1;
  nn::linear<Parameters> linear_2;
  kernels::activation kind = kernels::activation::gelu;
  index_t stack = 1;

  /// Features that frames have.
  [[nodiscard]] index_t inputs() const noexcept { return linear_1.weight.inputs() / stack; }
  /// Features that rows have.
  [[nodiscard]] index_t width() const noexcept { return linear_2.weight.outputs(); }

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& frames) const {
    const auto x = stack == 1 ? frames : context(ops::stack_rows{stack}, frames);
    return linear_2(context, context(ops::activation{kind}, linear_1(context, x)));
  }
};

/// A projector for inference: const, and shared between threads and streams.
using projector = projector_layers<nn::inference_parameters>;

/// Throws format_error naming `source` unless the projector takes `inputs` features a frame and gives `width`.
inline void validate(const projector& of, index_t inputs, index_t width, std::string_view source) {
  expect<format_error>(of.stack >= 1 && of.stack <= 64, source, ": stack: expected 1 to 64 frames, found ", of.stack);
  expect<format_error>(of.linear_1.weight.inputs() == of.stack * inputs, source, ": the projector takes ",
                       of.linear_1.weight.inputs(), " features, ", of.stack, " frames of the encoder have ",
                       of.stack * inputs);
  expect<format_error>(of.linear_2.weight.inputs() == of.linear_1.weight.outputs() && of.width() == width, source,
                       ": the projector gives ", of.width(), " features, the decoder's rows have ", width);
}

}  // namespace runnel::speech
