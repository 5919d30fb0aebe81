// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/nn/parameters.hpp>
#include <runnel/ops/elementwise.hpp>

namespace runnel::nn {

/// Root mean square norm, [rows, hidden] to the same shape. Without a weight it gives back x: a place in a layer where
/// some families have a norm and others none.
template <class Parameters>
struct rms_norm {
  typename Parameters::vector weight;
  float epsilon = 1e-5f;
  float offset = 0;  ///< 1 where a family stores w - 1

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return weight.size() == 0 ? x : context(ops::rms_norm{epsilon, offset}, x, weight);
  }

  /// Over each head of x, [rows, heads * head_dim].
  template <class Context>
  [[nodiscard]] auto of_heads(Context& context, const typename Context::value& x) const {
    return weight.size() == 0 ? x : context(ops::rms_norm_of_heads{epsilon, offset}, x, weight);
  }
};

/// Layer norm, [rows, hidden] to the same shape.
template <class Parameters>
struct layer_norm {
  typename Parameters::vector weight;
  typename Parameters::vector bias;
  float epsilon = 1e-5f;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return context(ops::layer_norm{epsilon}, x, weight, bias);
  }
};

}  // namespace runnel::nn
