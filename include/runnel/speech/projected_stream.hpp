// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <runnel/speech/encoder_stream.hpp>
#include <runnel/speech/projector.hpp>

namespace runnel::speech {

/// Audio in, rows of a decoder out: an encoder's stream and the projector behind it. The rows are the same bit for bit
/// however the samples come. Cost and memory as `encoder_stream`. Encoder and projector must outlive it; one thread at
/// a time.
class projected_stream {
 public:
  using rows = tensor_view<const float, 2>;

  projected_stream(const encoder& of, const projector& by, const encoder_stream_options& options = {})
      : by_(&by), frames_(of, options), context_(options.compute) {}

  /// Takes samples and gives the rows that they complete, [count, width], valid until the next call. Throws as
  /// `encoder_stream::push`.
  [[nodiscard]] rows push(std::span<const float> samples) { return project(frames_.push(samples), false); }

  /// Says that no more samples come, and gives what is left.
  [[nodiscard]] rows finish() { return project(frames_.finish(), true); }

  [[nodiscard]] const encoder_stream& frames() const noexcept { return frames_; }
  void set_stop(std::stop_token stop) { frames_.set_stop(std::move(stop)); }

 private:
  rows project(const encoder_stream::frames& more, bool last) {
    const index_t hidden = frames_.config().hidden_size;
    held_.insert(held_.end(), more.data(), more.data() + more.size());
    const index_t there = static_cast<index_t>(held_.size()) / hidden;
    const index_t taken = last ? there : there / by_->stack * by_->stack;
    out_.clear();
    if (taken > 0) {
      context_.memory.reset();
      context_.team.run([&] {
        const ops::eval::value x(held_.data(), {taken, hidden});
        const auto y = (*by_)(context_, x);
        out_.assign(y.data(), y.data() + y.size());
      });
      held_.erase(held_.begin(), held_.begin() + taken * hidden);
    }
    return {out_.data(), {static_cast<index_t>(out_.size()) / by_->width(), by_->width()}};
  }

  const projector* by_;
  encoder_stream frames_;
  ops::eval context_;
  std::vector<float> held_;  // frames of a row that is not whole
  std::vector<float> out_;
};

}  // namespace runnel::speech
