// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include <runnel/tensor/tensor.hpp>

namespace runnel::autograd {

/// A weight that training may change: a matrix [outputs, inputs], or a vector as a matrix of one row.
template <class T>
struct parameter {
  std::string name;
  tensor<T, 2> values;
  tensor<T, 2> gradient;  ///< of the same shape, or empty: frozen
  bool is_vector = false;

  [[nodiscard]] bool trainable() const noexcept { return gradient.size() != 0; }

  /// Gives it a gradient of zeros, or takes it away.
  void train(bool wanted) { gradient = wanted ? tensor<T, 2>(values.shape()) : tensor<T, 2>(); }
};

/// The parameters of one model, in a fixed order; their addresses stay.
template <class T>
using parameter_list = std::deque<parameter<T>>;

/// A matrix of a module in training: a parameter of some list, or none.
template <class T>
class matrix_parameter {
 public:
  matrix_parameter() = default;
  explicit matrix_parameter(parameter<T>& of) noexcept : of_(&of) {}

  [[nodiscard]] index_t outputs() const noexcept { return of_ == nullptr ? 0 : of_->values.size(0); }
  [[nodiscard]] index_t inputs() const noexcept { return of_ == nullptr ? 0 : of_->values.size(1); }
  [[nodiscard]] tensor_view<const T, 2> value() const noexcept {
    return of_ == nullptr ? tensor_view<const T, 2>() : of_->values;
  }
  [[nodiscard]] tensor_view<T, 2> gradient() const noexcept {
    return of_ == nullptr || !of_->trainable() ? tensor_view<T, 2>() : tensor_view<T, 2>(of_->gradient);
  }

 private:
  parameter<T>* of_ = nullptr;
};

/// A vector of a module in training: a parameter of some list, or none.
template <class T>
class vector_parameter {
 public:
  vector_parameter() = default;
  explicit vector_parameter(parameter<T>& of) noexcept : of_(&of) {}

  [[nodiscard]] index_t size() const noexcept { return of_ == nullptr ? 0 : of_->values.size(); }
  [[nodiscard]] tensor_view<const T, 1> value() const noexcept {
    return of_ == nullptr ? tensor_view<const T, 1>() : tensor_view<const T, 1>(of_->values.data(), {size()});
  }
  [[nodiscard]] tensor_view<T, 1> gradient() const noexcept {
    return of_ == nullptr || !of_->trainable() ? tensor_view<T, 1>()
                                               : tensor_view<T, 1>(of_->gradient.data(), {size()});
  }

 private:
  parameter<T>* of_ = nullptr;
};

/// What modules take as their parameters in training (nn::inference_parameters in inference).
template <class T>
struct training_parameters {
  using matrix = matrix_parameter<T>;
  using vector = vector_parameter<T>;
};

}  // namespace runnel::autograd
