// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>

#include <runnel/tensor/tensor.hpp>

/// \file
/// The one door to Eigen. Its products are oracles for tests and tools for offline work: they keep no order of
/// summation, so no inference or training step may use them (law 0).

namespace runnel {

/// A matrix view as an Eigen map over the same memory, any strides.
template <class T>
[[nodiscard]] auto as_eigen(const tensor_view<T, 2>& view) {
  using scalar = std::remove_const_t<T>;
  using matrix = Eigen::Matrix<scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using constness = std::conditional_t<std::is_const_v<T>, const matrix, matrix>;
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  return Eigen::Map<constness, Eigen::Unaligned, stride>(view.data(), view.size(0), view.size(1),
                                                         stride(view.strides()[0], view.strides()[1]));
}

/// A vector view as an Eigen map over the same memory.
template <class T>
[[nodiscard]] auto as_eigen(const tensor_view<T, 1>& view) {
  using vector = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  using constness = std::conditional_t<std::is_const_v<T>, const vector, vector>;
  return Eigen::Map<constness, Eigen::Unaligned, Eigen::InnerStride<>>(view.data(), view.size(0),
                                                                       Eigen::InnerStride<>(view.strides()[0]));
}

}  // namespace runnel
