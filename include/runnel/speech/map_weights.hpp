// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include <runnel/speech/load.hpp>

namespace runnel::speech {

namespace detail {

/// Makes an encoder's weights of another kind from those of one kind.
template <class To, class From, class Matrix, class Vector>
class weight_mapper {
 public:
  weight_mapper(Matrix& matrix, Vector& vector) : matrix_(matrix), vector_(vector) {}

  [[nodiscard]] encoder_weights<To> operator()(const encoder_weights<From>& from) {
    encoder_weights<To> to;
    for (std::size_t i = 0; i < from.front_end.layers.size(); ++i) {
      const auto& conv = from.front_end.layers[i];
      auto& out = to.front_end.layers.emplace_back();
      out.how = conv.how;
      out.kind = conv.kind;
      weigh(conv, out, names_.conv, i);
      out.norm = norm(conv.norm, names_.conv_norm, i);
    }
    to.projection.norm = norm(from.projection.norm, names_.projection_norm, 0);
    weigh(from.projection.linear, to.projection.linear, names_.projection, 0);
    to.position.how = from.position.how;
    to.position.kind = from.position.kind;
    to.position.causal = from.position.causal;
    weigh(from.position, to.position, names_.position, 0);
    to.norm = norm(from.norm, names_.norm, 0);
    for (std::size_t i = 0; i < from.layers.size(); ++i) to.layers.push_back(layer(from.layers[i], i));
    return to;
  }

 private:
  [[nodiscard]] static std::string spelled(std::string_view name, std::size_t layer, std::string_view part) {
    std::string out(name);
    if (const auto at = out.find("{}"); at != std::string::npos) out.replace(at, 2, std::to_string(layer));
    return out.append(part);
  }

  template <class A, class B>
  void weigh(const A& from, B& to, std::string_view name, std::size_t layer) {
    to.weight = matrix_(spelled(name, layer, ".weight"), from.weight);
    if (from.bias.size() != 0) to.bias = vector_(spelled(name, layer, ".bias"), from.bias);
  }

  [[nodiscard]] nn::layer_norm<To> norm(const nn::layer_norm<From>& from, std::string_view name, std::size_t layer) {
    nn::layer_norm<To> to;
    if (from.weight.size() != 0) to.weight = vector_(spelled(name, layer, ".weight"), from.weight);
    if (from.bias.size() != 0) to.bias = vector_(spelled(name, layer, ".bias"), from.bias);
    to.epsilon = from.epsilon;
    return to;
  }

  [[nodiscard]] encoder_layer<To> layer(const encoder_layer<From>& from, std::size_t i) {
    encoder_layer<To> to;
    to.norm_first = from.norm_first;
    to.attention_norm = norm(from.attention_norm, names_.attention_norm, i);
    weigh(from.attention.query, to.attention.query, names_.query, i);
    weigh(from.attention.key, to.attention.key, names_.key, i);
    weigh(from.attention.value, to.attention.value, names_.value, i);
    weigh(from.attention.output, to.attention.output, names_.output, i);
    to.attention.scores = from.attention.scores;
    to.attention.rotary = from.attention.rotary;
    to.mlp_norm = norm(from.mlp_norm, names_.mlp_norm, i);
    weigh(from.mlp.up, to.mlp.up, names_.up, i);
    weigh(from.mlp.down, to.mlp.down, names_.down, i);
    to.mlp.kind = from.mlp.kind;
    return to;
  }

  encoder_names names_;
  Matrix& matrix_;
  Vector& vector_;
};

}  // namespace detail

/// The weights of an encoder as another kind of parameters: `matrix(name, from)` and `vector(name, from)` give each
/// weight by its checkpoint's name, in the order of the network; what is no weight is copied. Kernels of convolutions
/// are [outputs, kernel * inputs], weight norm and frozen statistics folded.
template <class To, class From, class Matrix, class Vector>
[[nodiscard]] encoder_weights<To> map_weights(const encoder_weights<From>& from, Matrix&& matrix, Vector&& vector) {
  return detail::weight_mapper<To, From, Matrix, Vector>(matrix, vector)(from);
}

}  // namespace runnel::speech
