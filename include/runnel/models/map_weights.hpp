// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include <runnel/models/module_layout.hpp>
#include <runnel/models/network.hpp>

namespace runnel::models {

/// A weight of a decoder, as Hugging Face's Llama names it, whatever files of its family hold.
struct weight_place {
  std::string name;               ///< "model.layers.0.self_attn.q_proj.weight"
  ops::input_planes planes = {};  ///< of its products' inputs
};

namespace detail {

/// Makes a decoder's weights of another kind from those of one kind.
template <class To, class From, class Matrix, class Vector>
class weight_mapper {
 public:
  weight_mapper(const model_config& config, Matrix& matrix, Vector& vector)
      : family_(find_family(&family::model_type, config.model_type, "weights").names),
        matrix_(matrix),
        vector_(vector) {}

  [[nodiscard]] decoder_weights<To> operator()(const decoder_weights<From>& from) {
    decoder_weights<To> to;
    to.embedding.weight = matrix_(weight_place{spelled(names_.embedding, 0, ".weight")}, from.embedding.weight);
    to.embedding.scale = from.embedding.scale;
    for (std::size_t i = 0; i < from.layers.size(); ++i) to.layers.push_back(layer(from.layers[i], i));
    to.norm = norm(from.norm, names_.norm, 0);
    if (from.head.weight.outputs() != 0) to.head = linear(from.head, names_.head, 0);
    return to;
  }

 private:
  [[nodiscard]] std::string spelled(const weight_name& name, std::size_t layer, const char* part) const {
    return with_layer(name.hugging_face, static_cast<index_t>(layer)) + part;
  }

  [[nodiscard]] nn::linear<To> linear(const nn::linear<From>& from, const weight_name& name, std::size_t layer,
                                      const ops::input_planes& planes = {}) {
    nn::linear<To> to;
    to.weight = matrix_(weight_place{spelled(name, layer, ".weight"), planes}, from.weight);
    if (from.bias.size() != 0) to.bias = vector_(weight_place{spelled(name, layer, ".bias")}, from.bias);
    return to;
  }

  [[nodiscard]] nn::rms_norm<To> norm(const nn::rms_norm<From>& from, const weight_name& name, std::size_t layer) {
    nn::rms_norm<To> to;
    if (from.weight.size() != 0) to.weight = vector_(weight_place{spelled(name, layer, ".weight")}, from.weight);
    to.epsilon = from.epsilon;
    to.offset = from.offset;
    return to;
  }

  [[nodiscard]] nn::decoder_layer<To> layer(const nn::decoder_layer<From>& from, std::size_t i) {
    nn::decoder_layer<To> to;
    to.attention_norm = norm(from.attention_norm, family_.attention_norm, i);
    to.attention.query = linear(from.attention.query, names_.query, i);
    to.attention.key = linear(from.attention.key, names_.key, i, key_planes);
    to.attention.value = linear(from.attention.value, names_.value, i, value_planes);
    to.attention.output = linear(from.attention.output, names_.output, i);
    to.attention.query_norm = norm(from.attention.query_norm, family_.query_norm, i);
    to.attention.key_norm = norm(from.attention.key_norm, family_.key_norm, i);
    to.attention.scores = from.attention.scores;
    to.attention.rotary = from.attention.rotary;
    to.attention_post_norm = norm(from.attention_post_norm, family_.attention_post_norm, i);
    to.mlp_norm = norm(from.mlp_norm, family_.mlp_norm, i);
    to.mlp.gate = linear(from.mlp.gate, names_.gate, i);
    to.mlp.up = linear(from.mlp.up, names_.up, i);
    to.mlp.down = linear(from.mlp.down, names_.down, i);
    to.mlp.kind = from.mlp.kind;
    to.mlp_post_norm = norm(from.mlp_post_norm, family_.mlp_post_norm, i);
    return to;
  }

  decoder_names names_{};  // one name a module, also where a family's files fuse several
  decoder_names family_;
  Matrix& matrix_;
  Vector& vector_;
};

}  // namespace detail

/// The weights of a decoder as another kind of parameters: `matrix(weight_place, from)` and `vector(weight_place,
/// from)` give each weight, in the order of the network; what is no weight is copied.
template <class To, class From, class Matrix, class Vector>
[[nodiscard]] decoder_weights<To> map_weights(const model_config& config, const decoder_weights<From>& from,
                                              Matrix&& matrix, Vector&& vector) {
  return detail::weight_mapper<To, From, Matrix, Vector>(config, matrix, vector)(from);
}

}  // namespace runnel::models
