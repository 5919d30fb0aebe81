// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/nn/attention.hpp>
#include <runnel/nn/norm.hpp>

namespace runnel::nn {

/// down(activation(gate(x)) * up(x)).
template <class Parameters>
struct gated_mlp {
  linear<Parameters> gate;
  linear<Parameters> up;
  linear<Parameters> down;
  kernels::activation kind = kernels::activation::silu;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return down(context, context(ops::gated_product{kind}, x, gate, up));
  }
};

/// x += attention(norm(x)); x += mlp(norm(x)).
template <class Parameters>
struct decoder_layer {
  rms_norm<Parameters> attention_norm;
  nn::attention<Parameters> attention;
  rms_norm<Parameters> mlp_norm;
  gated_mlp<Parameters> mlp;

  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                std::span<const attention_stream<KeyStore>> streams, index_t index) const {
    const auto attended = context(ops::add{}, x, attention(context, attention_norm(context, x), streams, index));
    return context(ops::add{}, attended, mlp(context, mlp_norm(context, attended)));
  }
};

}  // namespace runnel::nn
