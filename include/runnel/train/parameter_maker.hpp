// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/autograd/parameter.hpp>
#include <runnel/ops/prepared_matrix.hpp>

namespace runnel::train {

/// Parameters from packed weights and back: what every model in training does with them.
template <class T>
struct parameter_maker {
  autograd::parameter_list<T>& list;
  bool trained = true;

  [[nodiscard]] autograd::matrix_parameter<T> matrix(std::string name, const ops::prepared_matrix& from) const {
    auto& out = add(std::move(name), {from.outputs(), from.inputs()}, false);
    std::vector<float> row(static_cast<std::size_t>(from.inputs()));
    for (index_t n = 0; n < from.outputs(); ++n) {
      from.decode_row(n, row);
      std::copy(row.begin(), row.end(), out.values.view().row(n).begin());
    }
    return autograd::matrix_parameter<T>(out);
  }
  [[nodiscard]] autograd::vector_parameter<T> vector(std::string name, const tensor<float, 1>& from) const {
    auto& out = add(std::move(name), {1, from.size()}, true);
    std::copy(from.data(), from.data() + from.size(), out.values.data());
    return autograd::vector_parameter<T>(out);
  }

  [[nodiscard]] autograd::parameter<T>& add(std::string name, shape<2> sizes, bool is_vector) const {
    auto& out = list.emplace_back();
    out.name = std::move(name);
    out.values = tensor<T, 2>(sizes);
    out.is_vector = is_vector;
    out.train(trained);
    return out;
  }

  [[nodiscard]] static ops::prepared_matrix packed(const autograd::matrix_parameter<T>& from,
                                                   const ops::input_planes& planes = {}) {
    const auto numbers = from.value();
    const std::vector<float> values(numbers.data(), numbers.data() + numbers.size());
    return ops::prepared_matrix::prepare(
        {quant::weight_format::f32, from.outputs(), from.inputs(), std::as_bytes(std::span(values)), {}, planes});
  }
  [[nodiscard]] static tensor<float, 1> copied(const autograd::vector_parameter<T>& from) {
    tensor<float, 1> out({from.size()});
    const auto numbers = from.value();
    for (index_t i = 0; i < from.size(); ++i) out(i) = static_cast<float>(numbers(i));
    return out;
  }
};

}  // namespace runnel::train
