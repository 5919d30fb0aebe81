// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <runnel/core/index.hpp>

namespace runnel::kernels::reference {

/// y = x W^T + b in double, for reading and for tests. `x` [rows, inputs], `weights` [outputs, inputs], `bias`
/// [outputs] or empty, `y` [rows, outputs].
template <class T>
void product(std::span<const T> x, std::span<const double> weights, std::span<const T> bias, index_t rows,
             index_t outputs, index_t inputs, std::span<double> y) {
  for (index_t r = 0; r < rows; ++r) {
    for (index_t n = 0; n < outputs; ++n) {
      double sum = 0;
      for (index_t k = 0; k < inputs; ++k) {
        sum += static_cast<double>(x[static_cast<std::size_t>(r * inputs + k)]) *
               weights[static_cast<std::size_t>(n * inputs + k)];
      }
      if (!bias.empty()) sum += static_cast<double>(bias[static_cast<std::size_t>(n)]);
      y[static_cast<std::size_t>(r * outputs + n)] = sum;
    }
  }
}

}  // namespace runnel::kernels::reference
