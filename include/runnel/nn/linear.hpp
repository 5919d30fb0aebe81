// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/nn/parameters.hpp>
#include <runnel/ops/product.hpp>

namespace runnel::nn {

/// y = x W^T + b, [rows, inputs] to [rows, outputs]. The bias may be empty.
template <class Parameters>
struct linear {
  typename Parameters::matrix weight;
  typename Parameters::vector bias;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& x) const {
    return context(ops::product{}, x, weight, bias);
  }
};

/// Token ids to rows, [rows] to [rows, hidden]; the same matrix may serve as the output head.
template <class Parameters>
struct embedding {
  typename Parameters::matrix weight;
  float scale = 1;

  template <class Context>
  [[nodiscard]] auto operator()(Context& context, std::span<const std::int32_t> ids) const {
    return context(ops::embedding{scale}, ids, weight);
  }
};

}  // namespace runnel::nn
