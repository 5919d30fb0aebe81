// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include <runnel/core/dtype.hpp>
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

/// The values that products in bf16 multiply in place of `values`.
inline void round_to_bf16(std::span<const double> values, std::span<double> rounded) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    rounded[i] = static_cast<double>(static_cast<float>(bf16(static_cast<float>(values[i]))));
  }
}

/// The values that products in bytes multiply in place of one block of inputs: multiples of max |x| / 127 rounded up to
/// 17 bits, NaN if an input is not finite, zeros where all are too small.
inline void round_to_bytes(std::span<const float> block, std::span<double> rounded) {
  float largest = 0;
  for (const float value : block) {
    largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : std::numeric_limits<float>::infinity();
    if (std::isinf(largest)) break;
  }
  int exponent = 0;
  const float digits = std::frexp(largest / 127.0f, &exponent);
  const float scale = std::ldexp(std::ceil(std::ldexp(digits, 17)), exponent - 17), inverse = 1.0f / scale;
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (std::isinf(largest)) {
      rounded[i] = std::numeric_limits<double>::quiet_NaN();
    } else if (!std::isfinite(inverse)) {
      rounded[i] = 0;
    } else {
      const float quant = std::nearbyint(block[i] * inverse);
      rounded[i] = static_cast<double>(scale) * static_cast<double>(std::clamp(quant, -127.0f, 127.0f));
    }
  }
}

}  // namespace runnel::kernels::reference
