// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <utility>
#include <vector>

#include <runnel/speech/conv_position.hpp>
#include <runnel/speech/encoder_layer.hpp>
#include <runnel/speech/front_end.hpp>

namespace runnel::speech {

/// The weights of an encoder, module by module.
template <class Parameters>
struct encoder_weights {
  speech::front_end<Parameters> front_end;
  feature_projection<Parameters> projection;
  conv_position<Parameters> position;
  nn::layer_norm<Parameters> norm;  ///< after the last layer, or before the first where layers norm their results
  std::vector<encoder_layer<Parameters>> layers;
};

/// What a wav2vec2 encoder computes, written once: the original (symmetric position embedding, every frame sees every
/// other) and the streaming form (both causal) by the same code, over packed weights or over variables and a tape.
template <class Parameters>
class network {
 public:
  /// Throws format_error unless config and weights fit.
  network(encoder_config config, encoder_weights<Parameters> weights)
      : config_(std::move(config)), weights_(std::move(weights)) {
    validate(config_, "speech encoder");
    expect<format_error>(static_cast<index_t>(weights_.layers.size()) == config_.num_hidden_layers &&
                             weights_.front_end.layers.size() == config_.convs.size(),
                         "speech encoder: the weights have another number of layers than the config");
    weights_.position.causal = config_.causal_position;
  }

  [[nodiscard]] const encoder_config& config() const noexcept { return config_; }
  [[nodiscard]] const encoder_weights<Parameters>& weights() const noexcept { return weights_; }

  /// The whole of an utterance: samples [count, 1], normalised and padded, to frames [rows, hidden]. `rows` is
  /// `frame_rows(config, 0, frames, frames)`; `store` has room for them in every layer. Both must live as long as the
  /// context remembers the pass.
  template <class Context, class KeyStore>
  [[nodiscard]] auto operator()(Context& context, const typename Context::value& samples, const row_table& rows,
                                KeyStore& store) const {
    const auto features = weights_.front_end(context, samples);
    const auto x = context.drop(weights_.projection(context, features));
    return transform(context, weights_.position(context, x), rows, store);
  }

  /// Frames with their positions, [rows, hidden], through the layers and the last norm.
  template <class Context, class KeyStore>
  [[nodiscard]] auto transform(Context& context, const typename Context::value& frames, const row_table& rows,
                               KeyStore& store) const {
    using stream_type = ops::attention_stream<KeyStore>;
    const std::span<stream_type> streams(context.memory.template take<stream_type>(1), 1);
    streams[0] = {&rows, {}, &store, 0};
    const bool norm_first = config_.do_stable_layer_norm;
    auto x = norm_first ? frames : weights_.norm(context, frames);
    for (index_t index = 0; index < config_.num_hidden_layers; ++index) {
      const auto& layer = weights_.layers[static_cast<std::size_t>(index)];
      // By value: a context may run a layer again when this function has long returned.
      x = context.block(x, [&context, &layer, streams, index](const typename Context::value& in) {
        return layer(context, in, std::span<const stream_type>(streams), index);
      });
    }
    return norm_first ? weights_.norm(context, x) : x;
  }

 private:
  encoder_config config_;
  encoder_weights<Parameters> weights_;
};

/// An encoder for inference: const, and shared between threads and streams.
using encoder = network<nn::inference_parameters>;

}  // namespace runnel::speech
