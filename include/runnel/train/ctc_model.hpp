// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/metrics/wer.hpp>
#include <runnel/ops/ctc.hpp>
#include <runnel/train/audio_part.hpp>
#include <runnel/train/loss.hpp>

namespace runnel::train {

/// A speech encoder in training by itself: a linear head over its frames and the CTC loss of each utterance's labels
/// (Graves et al. 2006). What an encoder without a checkpoint starts with, before a decoder listens to it; the head is
/// thrown away then. `T` is float, or double where gradients are checked.
template <class T>
class ctc_model {
 public:
  /// `labels` are the classes beside the blank. Throws config_error unless there are some.
  ctc_model(const speech::encoder& from, index_t labels, const ops::eval_options& compute = {}, std::uint64_t seed = 0)
      : encoder_(from, parameters_), tape_(compute) {
    expect(labels >= 1, "ctc: expected at least one label, found ", labels);
    const parameter_maker<T> make{parameters_};
    const index_t hidden = from.config().hidden_size;
    auto& weight = make.add("ctc.weight", {labels + 1, hidden}, false);
    random_stream random(derive_seed(seed, 2));
    const double bound = 1 / std::sqrt(static_cast<double>(hidden));
    for (T& number : weight.values.values()) number = static_cast<T>((2 * random.uniform() - 1) * bound);
    head_.weight = autograd::matrix_parameter<T>(weight);
    head_.bias = autograd::vector_parameter<T>(make.add("ctc.bias", {1, labels + 1}, true));
  }
  ctc_model(const ctc_model&) = delete;
  ctc_model& operator=(const ctc_model&) = delete;

  [[nodiscard]] autograd::parameter_list<T>& parameters() noexcept { return parameters_; }
  [[nodiscard]] const autograd::parameter_list<T>& parameters() const noexcept { return parameters_; }
  [[nodiscard]] const trained_encoder<T>& encoder() const noexcept { return encoder_; }

  /// One forward and backward pass over utterances: adds scale times the gradient of the summed loss. What has no
  /// alignment counts for nothing; of labels, those count as right that greedy decoding has right. Throws config_error
  /// for labels that are no classes.
  batch_loss accumulate(std::span<const training_rows> batch, const step_options& options) {
    tape_.reset({options.checkpointing, options.dropout, 0, options.seed});
    tape_.record(true);
    batch_loss loss;
    tape_.team.run([&] { loss = run(batch, options.scale); });
    return loss;
  }

  /// The loss alone, nothing dropped.
  [[nodiscard]] batch_loss evaluate(std::span<const training_rows> batch) {
    tape_.reset();
    tape_.record(false);
    batch_loss loss;
    tape_.team.run([&] { loss = run(batch, 1); });
    return loss;
  }

  /// Labels that greedy decoding hears in an utterance.
  [[nodiscard]] std::vector<std::int32_t> hear(std::span<const float> samples) {
    tape_.reset();
    tape_.record(false);
    std::vector<std::int32_t> out;
    tape_.team.run([&] {
      typename trained_encoder<T>::memory memory(1);
      const auto y = head_(tape_, encoder_(tape_, samples, memory));
      out = ops::ctc_greedy(y.data());
    });
    return out;
  }

  /// Names the first layer whose output is not finite for this batch; empty if none is.
  [[nodiscard]] std::string first_non_finite(std::span<const training_rows> batch) {
    tape_.reset({.watch = true});
    tape_.record(false);
    tape_.team.run([&] { static_cast<void>(run(batch, 1)); });
    const auto found = tape_.first_non_finite_block();
    const auto layers = static_cast<std::size_t>(encoder_.config().num_hidden_layers);
    return found ? "encoder.encoder.layers." + std::to_string(*found % layers) : std::string();
  }

 private:
  using value = typename autograd::tape<T>::value;

  /// Utterances one after another: the way back of each before the next one's way forth, so that memory is that of one.
  batch_loss run(std::span<const training_rows> batch, double scale) {
    batch_loss loss;
    for (const training_rows& one : batch) {
      expect(one.audio != nullptr, "ctc: rows have no audio");
      const auto start = tape_.mark();
      typename trained_encoder<T>::memory memory(1);
      const value y = head_(tape_, encoder_(tape_, *one.audio, memory));
      kernels::ctc_result found;
      tape_(ops::ctc{scale}, y, std::span<const std::int32_t>(one.labels), std::span(&found, 1));
      if (found.feasible) loss += {found.nll, found.nll, static_cast<index_t>(one.labels.size()), right(y, one.labels)};
      tape_.backward(start);
    }
    return loss;
  }

  /// Labels less the edits that what is heard would need.
  [[nodiscard]] static index_t right(const value& logits, std::span<const std::int32_t> labels) {
    const auto as_text = [](std::span<const std::int32_t> ids) {
      std::vector<std::string_view> out;
      for (const auto& id : ids) out.emplace_back(reinterpret_cast<const char*>(&id), sizeof id);
      return out;
    };
    const auto heard = ops::ctc_greedy(logits.data());
    const auto count = static_cast<index_t>(labels.size());
    return std::max<index_t>(0, count - metrics::count_edits(as_text(heard), as_text(labels)).edits());
  }

  autograd::parameter_list<T> parameters_;
  trained_encoder<T> encoder_;
  nn::linear<autograd::training_parameters<T>> head_;
  autograd::tape<T> tape_;
};

}  // namespace runnel::train
