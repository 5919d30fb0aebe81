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
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                std::span<const adapted_rows<Parameters>> adapted, index_t layer) const {
    const auto inner = gated(context, x, adapted, layer);
    const auto y = down(context, inner);
    adapt<Parameters>(
        context, inner, y,
        adapted, [&](const auto& active) -> auto& { return active.at(layer, adapted_module::down); });
    return y;
  }

 private:
  /// The fused product and the three steps give the same bits, so rows without adapters do not notice which it was.
  template <class Context>
  [[nodiscard]] auto gated(Context& context, const typename Context::value& x,
                           std::span<const adapted_rows<Parameters>> adapted, index_t layer) const {
    if (!changes(adapted, layer, {adapted_module::gate, adapted_module::up})) {
      return context(ops::gated_product{kind}, x, gate, up);
    }
    const auto [gates, values] = context(ops::products{}, x, gate, up);
    adapt<Parameters>(
        context, x, gates,
        adapted, [&](const auto& active) -> auto& { return active.at(layer, adapted_module::gate); });
    adapt<Parameters>(
        context, x, values, adapted, [&](const auto& active) -> auto& { return active.at(layer, adapted_module::up); });
    return context(ops::gated_activation{kind}, gates, values);
  }
};

/// x += post(attention(norm(x))); x += post(mlp(norm(x))), the outer norms where a family has them.
template <class Parameters>
struct decoder_layer {
  rms_norm<Parameters> attention_norm;
  nn::attention<Parameters> attention;
  rms_norm<Parameters> attention_post_norm;
  rms_norm<Parameters> mlp_norm;
  gated_mlp<Parameters> mlp;
  rms_norm<Parameters> mlp_post_norm;

  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x,
                                ops::attention_streams<KeyStore> streams,
                                std::span<const adapted_rows<Parameters>> adapted, index_t index) const {
    const auto attention_out = attention(context, attention_norm(context, x), streams, adapted, index);
    const auto attended = context(ops::add{}, x, context.drop(attention_post_norm(context, attention_out)));
    const auto mlp_out = mlp(context, mlp_norm(context, attended), adapted, index);
    return context(ops::add{}, attended, context.drop(mlp_post_norm(context, mlp_out)));
  }
};

}  // namespace runnel::nn
