// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <runnel/ops/prepared_matrix.hpp>
#include <runnel/tensor/tensor.hpp>

namespace runnel::nn {

/// What weights are in inference: packed matrices and plain vectors. Modules take this as their parameter, so that
/// training can give them variables instead.
struct inference_parameters {
  using matrix = ops::prepared_matrix;
  using vector = tensor<float, 1>;
};

}  // namespace runnel::nn
