// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/models/adapter.hpp>

namespace runnel::models {

/// What merging may do to a quantised base.
enum class requantise : std::uint8_t {
  refuse,  ///< throw config_error
  allow,   ///< decode, change and encode again: every weight is rounded a second time
};

namespace detail {

/// What a low-rank adapter adds to the rows of a matrix: scale B A, with A and B decoded.
class matrix_change {
 public:
  using low_rank = nn::low_rank<nn::inference_parameters>;

  matrix_change(const low_rank& change, float scale)
      : inputs_(static_cast<std::size_t>(change.down.inputs())),
        rank_(static_cast<std::size_t>(change.down.outputs())),
        scale_(static_cast<double>(scale)),
        down_(rank_ * inputs_),
        up_(static_cast<std::size_t>(change.up.outputs()) * rank_) {
    for (index_t r = 0; r < change.down.outputs(); ++r) {
      change.down.decode_row(r, std::span(down_).subspan(static_cast<std::size_t>(r) * inputs_, inputs_));
    }
    for (index_t n = 0; n < change.up.outputs(); ++n) {
      change.up.decode_row(n, std::span(up_).subspan(static_cast<std::size_t>(n) * rank_, rank_));
    }
  }

  /// Adds row n to `values`, one for each input. Cost: inputs x rank.
  void add_to_row(index_t n, std::span<float> values) const noexcept {
    const float* const up = up_.data() + static_cast<std::size_t>(n) * rank_;
    constexpr std::size_t most = 64;
    for (std::size_t first = 0; first < inputs_; first += most) {
      const std::size_t count = std::min(most, inputs_ - first);
      std::array<double, most> sums{};
      for (std::size_t r = 0; r < rank_; ++r) {
        const float* const down = down_.data() + r * inputs_ + first;
        const auto factor = static_cast<double>(up[r]);
        for (std::size_t k = 0; k < count; ++k) sums[k] += factor * static_cast<double>(down[k]);
      }
      for (std::size_t k = 0; k < count; ++k) {
        values[first + k] = static_cast<float>(static_cast<double>(values[first + k]) + scale_ * sums[k]);
      }
    }
  }

 private:
  std::size_t inputs_;
  std::size_t rank_;
  double scale_;
  std::vector<float> down_;  // A: [rank, inputs]
  std::vector<float> up_;    // B: [outputs, rank]
};

/// Rows of a matrix, changed and packed again in its own format.
class matrix_merger {
 public:
  matrix_merger(const ops::prepared_matrix& base, requantise when, const std::string& module) : base_(base) {
    expect<config_error>(when == requantise::allow || quant::info(base.format()).block_size == 1, "merge: ", module,
                         " is stored as ", quant::info(base.format()).name,
                         ": merging would quantise it a second time; keep the adapter beside it, or allow that");
    values_.resize(static_cast<std::size_t>(base.outputs() * base.inputs()));
    for (index_t n = 0; n < base.outputs(); ++n) base.decode_row(n, row(n));
  }

  /// W += scale B A. Cost: outputs x inputs x rank.
  void add(const nn::low_rank<nn::inference_parameters>& low_rank, float scale) {
    const matrix_change change(low_rank, scale);
    for (index_t n = 0; n < base_.outputs(); ++n) change.add_to_row(n, row(n));
  }

  [[nodiscard]] ops::prepared_matrix pack() const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(base_.format(), values_.size())));
    quant::encode(base_.format(), values_.data(), values_.size(), bytes.data());
    return ops::prepared_matrix::prepare({base_.format(), base_.outputs(), base_.inputs(), bytes, {}, base_.planes()});
  }

 private:
  [[nodiscard]] std::span<float> row(index_t n) {
    const auto inputs = static_cast<std::size_t>(base_.inputs());
    return std::span(values_).subspan(static_cast<std::size_t>(n) * inputs, inputs);
  }

  const ops::prepared_matrix& base_;
  std::vector<float> values_;
};

/// `base` with what `pick(active_adapter)` changes, added once and for all.
template <class Pick>
[[nodiscard]] nn::linear<nn::inference_parameters> merged_linear(
    const ops::prepared_matrix& weight, tensor_view<const float, 1> bias,
    std::span<const nn::active_adapter<nn::inference_parameters>> adapters, requantise when, const std::string& module,
    Pick&& pick) {
  nn::linear<nn::inference_parameters> out{weight, {}};
  if (bias.size() != 0) {
    out.bias = tensor<float, 1>({bias.size()});
    std::copy(bias.data(), bias.data() + bias.size(), out.bias.data());
  }
  const auto add_bias = [&](const tensor<float, 1>& change, float scale) {
    if (change.size() == 0) return;
    if (out.bias.size() == 0) out.bias = tensor<float, 1>({change.size()});
    for (index_t n = 0; n < change.size(); ++n) out.bias(n) += scale * change(n);
  };
  for (const auto& active : adapters) {
    const auto& change = pick(active);
    if (change.down.outputs() != 0) {
      matrix_merger merger(out.weight, when, module);
      merger.add(change, active.scale * change.scale);
      out.weight = merger.pack();
    }
    add_bias(change.up_bias, active.scale * change.scale);
    add_bias(change.bias, 1);
  }
  return out;
}

template <class Vector>
[[nodiscard]] tensor<float, 1> copy_of(const Vector& vector) {
  tensor<float, 1> out({vector.size()});
  std::copy(vector.data(), vector.data() + vector.size(), out.data());
  return out;
}

[[nodiscard]] inline nn::rms_norm<nn::inference_parameters> copy_of(
    const nn::rms_norm<nn::inference_parameters>& norm) {
  return {norm.weight.size() == 0 ? tensor<float, 1>() : copy_of(norm.weight), norm.epsilon, norm.offset};
}

}  // namespace detail

/// The decoder that `base` with these adapters is, at the price of the base alone: W + scale B A in the base's own
/// formats. Into f32 it changes logits by rounding only, into f16 and bf16 every changed weight is rounded once more,
/// into quantised formats it is quantised a second time, and refused unless allowed. Throws config_error then.
[[nodiscard]] inline decoder merge_adapters(const decoder& base,
                                            std::span<const nn::active_adapter<nn::inference_parameters>> adapters,
                                            requantise when = requantise::refuse) {
  const auto& from = base.weights();
  model_config config = base.config();
  const decoder_names& names = find_family(&family::model_type, config.model_type, "merge").names;
  for (const auto& active : adapters) {
    expect(active.weights != nullptr, "merge: an adapter is missing");
    base.check(*active.weights);
  }
  decoder_weights<nn::inference_parameters> out;
  out.embedding = from.embedding;
  out.norm = detail::copy_of(from.norm);
  for (std::size_t i = 0; i < from.layers.size(); ++i) {
    const auto& layer = from.layers[i];
    auto& merged = out.layers.emplace_back();
    merged.attention_norm = detail::copy_of(layer.attention_norm);
    merged.attention_post_norm = detail::copy_of(layer.attention_post_norm);
    merged.mlp_norm = detail::copy_of(layer.mlp_norm);
    merged.mlp_post_norm = detail::copy_of(layer.mlp_post_norm);
    merged.attention.query_norm = detail::copy_of(layer.attention.query_norm);
    merged.attention.key_norm = detail::copy_of(layer.attention.key_norm);
    merged.attention.scores = layer.attention.scores;
    merged.attention.rotary = layer.attention.rotary;
    merged.mlp.kind = layer.mlp.kind;
    for (const adapted_module which : all_modules) {
      const auto& linear = module_of(layer, which);
      const auto name = with_layer(layout_of(config, names, which).name.hugging_face, static_cast<index_t>(i));
      module_of(merged, which) = detail::merged_linear(
          linear.weight, linear.bias, adapters, when,
          name, [&](const auto& active) -> auto& { return active.at(static_cast<index_t>(i), which); });
    }
  }
  const bool head_changes = nn::changes_head(adapters);
  const auto& head = config.tie_word_embeddings ? from.embedding.weight : from.head.weight;
  if (head_changes || !config.tie_word_embeddings) {
    out.head = detail::merged_linear(
        head, {}, adapters, when, std::string(names.head.hugging_face),
        [](const auto& active) -> auto& { return active.weights->head; });
    config.tie_word_embeddings = false;
  }
  return decoder(std::move(config), std::move(out));
}

}  // namespace runnel::models
