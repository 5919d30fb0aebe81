// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/models/build.hpp>

namespace runnel::models {

/// How the weights of a new decoder are drawn.
struct initial_weights {
  std::uint64_t seed = 0;
  /// Standard deviation of matrices; those whose result is added to the residual stream have it divided by
  /// sqrt(2 num_hidden_layers) (Radford et al. 2019).
  double initializer_range = 0.02;
};

namespace detail {

/// Gives random matrices, norms of one and biases of zero where a reader gives those of a file.
class weight_dice {
 public:
  weight_dice(const model_config& config, const initial_weights& how)
      : config_(config),
        names_(find_family(&family::model_type, config.model_type, "config").names),
        random_(how.seed),
        range_(how.initializer_range) {}

  [[nodiscard]] static std::string source() { return "config"; }

  [[nodiscard]] ops::prepared_matrix matrix(const weight_name& name, index_t, const matrix_request& want) const {
    const bool is_residual = name.gguf == names_.output.gguf || name.gguf == names_.down.gguf;
    const double depth = std::sqrt(2.0 * static_cast<double>(config_.num_hidden_layers));
    std::vector<float> values(static_cast<std::size_t>(want.outputs * want.inputs));
    for (float& value : values) value = static_cast<float>(normal() * (is_residual ? range_ / depth : range_));
    return ops::prepared_matrix::prepare(
        {quant::weight_format::f32, want.outputs, want.inputs, std::as_bytes(std::span(values)), {}, want.planes});
  }

  [[nodiscard]] tensor<float, 1> vector(const weight_name&, std::string_view part, index_t, index_t size,
                                        std::span<const index_t> = {}) const {
    tensor<float, 1> out({size});
    if (part == ".weight") std::fill(out.data(), out.data() + size, 1.0f - config_.norm_offset);
    return out;
  }

  void expect_matrix(const weight_name&, index_t, index_t, index_t) const {}

 private:
  [[nodiscard]] double normal() const {
    const double radius = std::sqrt(-2 * std::log(1 - random_.uniform()));
    return radius * std::cos(2 * std::numbers::pi * random_.uniform());
  }

  const model_config& config_;
  decoder_names names_;
  mutable random_stream random_;
  double range_;
};

}  // namespace detail

/// A new decoder of any family, to be trained: the same for a seed on every machine. Throws format_error for a config
/// that makes no decoder.
[[nodiscard]] inline decoder random_decoder(const model_config& config, const initial_weights& how = {}) {
  validate(config, "config");
  const detail::weight_dice dice(config, how);
  return decoder(config, detail::decoder_builder(config, dice, head_rows::halves).build());
}

}  // namespace runnel::models
