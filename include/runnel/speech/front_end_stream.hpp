// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <runnel/speech/history.hpp>
#include <runnel/speech/network.hpp>

namespace runnel::speech {

/// The front end over a stream of samples: features of frames as soon as all their samples are there, the same bits
/// however the samples come. State: per convolution the frames its next output still needs (at most kernel - 1), and
/// samples of the frame that is not whole yet.
class front_end_stream {
 public:
  front_end_stream() = default;
  explicit front_end_stream(const encoder& of) : of_(&of) {
    index_t inputs = 1;
    for (const auto& conv : of.config().convs) {
      histories_.emplace_back(inputs);
      inputs = conv.outputs;
    }
    add_zeros(of.config().left_pad);
  }

  /// Takes samples, already normalised.
  void add(std::span<const float> samples) {
    waiting_.insert(waiting_.end(), samples.begin(), samples.end());
    num_samples_ += static_cast<index_t>(samples.size());
  }
  void add_zeros(index_t count) {
    waiting_.resize(waiting_.size() + static_cast<std::size_t>(count));
    num_samples_ += count;
  }

  /// Whether any came beside the left pad.
  [[nodiscard]] bool has_samples() const noexcept { return num_samples_ > of_->config().left_pad; }

  /// Frames whose samples are all there and which were not given out.
  [[nodiscard]] index_t ready() const noexcept { return of_->config().frames_of(num_samples_) - num_frames_; }

  /// Zeros that complete the frame which the last samples are in; 0 if every sample is in a whole one.
  [[nodiscard]] index_t missing() const noexcept { return of_->config().missing(num_samples_); }

  /// The next frames, [min(ready(), most), features], in the context's memory. If it throws, this stream is to be
  /// replaced by a copy from before.
  [[nodiscard]] ops::eval::value next(ops::eval& context, index_t most) {
    const auto& config = of_->config();
    const index_t frames = std::min(ready(), most);
    if (frames <= 0) return context.make(0, config.features());
    const index_t end = (num_frames_ + frames - 1) * config.hop() + config.receptive_field();
    const index_t count = end - num_taken_;
    auto x = context.make(count, 1);
    std::copy_n(waiting_.begin(), count, x.data());
    const auto& layers = of_->weights().front_end.layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto joined = histories_[i].join(context, x);
      x = layers[i](context, joined);
      histories_[i].keep(joined, x.size(0) * layers[i].how.stride);
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + count);
    num_taken_ = end;
    num_frames_ += frames;
    return x;
  }

  [[nodiscard]] index_t num_frames() const noexcept { return num_frames_; }

 private:
  const encoder* of_ = nullptr;
  std::vector<frame_history> histories_;
  std::vector<float> waiting_;
  index_t num_samples_ = 0;  // those of the left pad included
  index_t num_taken_ = 0;
  index_t num_frames_ = 0;
};

}  // namespace runnel::speech
