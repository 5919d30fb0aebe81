// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/autograd/key_store.hpp>
#include <runnel/autograd/tape.hpp>
#include <runnel/speech/map_weights.hpp>
#include <runnel/speech/normalizer.hpp>
#include <runnel/speech/projector.hpp>
#include <runnel/train/parameter_maker.hpp>

namespace runnel::train {

/// A speech encoder in training, over the variables of a model; its parameters are called `encoder.` and what
/// checkpoints call them. In whatever form its config says: that of inference, with the same ranges.
template <class T>
class trained_encoder {
 public:
  using parameters_type = autograd::training_parameters<T>;
  using value = typename autograd::tape<T>::value;

  trained_encoder(const speech::encoder& from, autograd::parameter_list<T>& list)
      : first_(list.size()), network_(from.config(), variables_of(from, list)), last_(list.size()), list_(list) {}

  [[nodiscard]] const speech::encoder_config& config() const noexcept { return network_.config(); }

  /// Frames that come of so many samples.
  [[nodiscard]] index_t frames_of(std::span<const float> samples) const noexcept {
    return config().frames_of_audio(static_cast<index_t>(samples.size()));
  }

  /// Keys, values and rows of utterances: what a pass remembers beside the tape.
  class memory {
   public:
    /// Utterances that will be encoded at most, so that nothing moves.
    explicit memory(std::size_t count) {
      stores_.reserve(count);
      rows_.reserve(count);
    }

   private:
    friend class trained_encoder;
    std::vector<autograd::key_store<T>> stores_;
    std::vector<row_table> rows_;
  };

  /// Frames of an utterance, [frames, hidden]; a constant where every parameter is frozen. Throws config_error for
  /// audio that is too short for a frame.
  [[nodiscard]] value operator()(autograd::tape<T>& tape, std::span<const float> samples, memory& to) const {
    const auto prepared = speech::prepare_audio(config(), samples);
    const index_t count = config().frames_of(static_cast<index_t>(prepared.size()));
    expect(count > 0, "train: audio of ", samples.size(), " samples is too short for a frame of ",
           config().receptive_field());
    const auto& rows = to.rows_.emplace_back(speech::frame_rows(config(), 0, count, count));
    auto& store = to.stores_.emplace_back(config().num_hidden_layers, config().num_attention_heads, config().head_dim(),
                                          std::array<index_t, num_groups>{count, 0}, tape.memory);
    const auto encode = [&] {
      const value x = tape.make(static_cast<index_t>(prepared.size()), 1);
      std::copy(prepared.begin(), prepared.end(), x.data().data());
      return network_(tape, x, rows, store);
    };
    return is_frozen() ? tape.constant(encode) : encode();
  }

  /// The encoder as it stands, for inference and files.
  [[nodiscard]] speech::encoder to_encoder() const {
    const auto matrix = [](const std::string&, const autograd::matrix_parameter<T>& from) {
      return parameter_maker<T>::packed(from);
    };
    const auto vector = [](const std::string&, const autograd::vector_parameter<T>& from) {
      return parameter_maker<T>::copied(from);
    };
    return {config(), speech::map_weights<nn::inference_parameters>(network_.weights(), matrix, vector)};
  }

 private:
  [[nodiscard]] bool is_frozen() const {
    return std::none_of(list_.begin() + static_cast<std::ptrdiff_t>(first_),
                        list_.begin() + static_cast<std::ptrdiff_t>(last_),
                        [](const autograd::parameter<T>& one) { return one.trainable(); });
  }

  static speech::encoder_weights<parameters_type> variables_of(const speech::encoder& from,
                                                               autograd::parameter_list<T>& list) {
    const parameter_maker<T> make{list};
    const auto matrix = [&](const std::string& name, const ops::prepared_matrix& weight) {
      return make.matrix("encoder." + name, weight);
    };
    const auto vector = [&](const std::string& name, const tensor<float, 1>& weight) {
      return make.vector("encoder." + name, weight);
    };
    return speech::map_weights<parameters_type>(from.weights(), matrix, vector);
  }

  std::size_t first_;
  speech::network<parameters_type> network_;
  std::size_t last_;
  const autograd::parameter_list<T>& list_;
};

/// About how many bytes a tape takes for encoding so many samples.
[[nodiscard]] inline std::size_t encoder_activation_bytes(const speech::encoder_config& config, index_t samples) {
  double numbers = 0, rate = 1;
  for (const auto& conv : config.convs) {
    rate /= static_cast<double>(conv.stride);
    numbers += 6 * rate * static_cast<double>(conv.outputs);  // three steps, each with its gradient
  }
  const auto hidden = static_cast<double>(config.hidden_size), inner = static_cast<double>(config.intermediate_size);
  numbers += rate * static_cast<double>(config.num_hidden_layers + 1) * (24 * hidden + 6 * inner);
  return static_cast<std::size_t>(numbers * static_cast<double>(samples) * sizeof(float));
}

/// What makes rows of a decoder out of audio in training: encoder and projector (`projector.linear_1.weight`).
template <class T>
class trained_audio {
 public:
  using parameters_type = autograd::training_parameters<T>;
  using value = typename autograd::tape<T>::value;

  trained_audio(const speech::encoder& encoder, const speech::projector& projector, autograd::parameter_list<T>& list)
      : encoder_(encoder, list), projector_(variables_of(projector, list)) {}

  [[nodiscard]] const trained_encoder<T>& encoder() const noexcept { return encoder_; }

  /// Rows of an utterance, [rows, width].
  [[nodiscard]] value operator()(autograd::tape<T>& tape, std::span<const float> samples,
                                 typename trained_encoder<T>::memory& to) const {
    return projector_(tape, encoder_(tape, samples, to));
  }

  [[nodiscard]] speech::projector to_projector() const {
    using maker = parameter_maker<T>;
    const auto linear = [](const nn::linear<parameters_type>& from) {
      return nn::linear<nn::inference_parameters>{maker::packed(from.weight), maker::copied(from.bias)};
    };
    return {linear(projector_.linear_1), linear(projector_.linear_2), projector_.kind, projector_.stack};
  }

 private:
  static speech::projector_layers<parameters_type> variables_of(const speech::projector& from,
                                                                autograd::parameter_list<T>& list) {
    const parameter_maker<T> make{list};
    const auto linear = [&](const std::string& name, const nn::linear<nn::inference_parameters>& of) {
      nn::linear<parameters_type> out;
      out.weight = make.matrix("projector." + name + ".weight", of.weight);
      out.bias = make.vector("projector." + name + ".bias", of.bias);
      return out;
    };
    speech::projector_layers<parameters_type> out;
    out.linear_1 = linear("linear_1", from.linear_1);
    out.linear_2 = linear("linear_2", from.linear_2);
    out.kind = from.kind;
    out.stack = from.stack;
    return out;
  }

  trained_encoder<T> encoder_;
  speech::projector_layers<parameters_type> projector_;
};

}  // namespace runnel::train
