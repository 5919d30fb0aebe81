// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/speech/front_end_stream.hpp>
#include <runnel/speech/normalizer.hpp>

namespace runnel::speech {

/// How a stream computes and stores.
struct encoder_stream_options {
  ops::eval_options compute{};
  std::optional<cache::storage_type> storage{};  ///< of keys and values; unless given, what suits the products
};

/// Audio in, frames out. With a causal encoder frames come as soon as their samples are there; with one that sees what
/// comes after (bidirectional attention or symmetric positions), all of them at `finish`. However the samples are cut
/// into pieces, the frames are the same bit for bit.
///
/// Cost of a second of audio does not depend on how much came before once `left_context` is full. Memory: keys and
/// values of left_context + 50 + 64 frames (all frames where there is no bound), position_kernel - 1 frames, a few rows
/// a convolution; encoders that do not stream keep the features of all frames. One thread at a time; the encoder must
/// outlive its streams.
class encoder_stream {
 public:
  using frames = tensor_view<const float, 2>;

  explicit encoder_stream(const encoder& of, const encoder_stream_options& options = {})
      : of_(&of), context_(options.compute), state_(of), normalizer_(of.config().input) {
    const auto& config = of.config();
    store_ = cache::key_value_cache({config.num_hidden_layers, config.num_attention_heads, config.head_dim(),
                                     options.storage.value_or(suiting(of, options.compute.compute)), 0});
  }

  [[nodiscard]] const encoder_config& config() const noexcept { return of_->config(); }

  /// Takes samples at `config().sample_rate` and gives the frames that they complete, [count, hidden], valid until the
  /// next call. Throws config_error after `finish`, cancelled_error if a stop was requested: the samples are kept then,
  /// and the next call goes on.
  [[nodiscard]] frames push(std::span<const float> samples) {
    expect(!finished_, "speech: the stream is finished");
    begin();
    for (std::size_t at = 0; at < samples.size(); at += piece)
      take(samples.subspan(at, std::min(piece, samples.size() - at)));
    advance();
    return result();
  }

  /// Says that no more samples come, and gives what is left. Where the config pads the tail, the last samples are in a
  /// frame. Throws as `push`.
  [[nodiscard]] frames finish() {
    expect(!finished_, "speech: the stream is finished");
    begin();
    if (!padded_) {
      if (config().input.kind == normalization::utterance) {
        normalizer_(held_);
        state_.front.add(held_);
        held_.clear();
      }
      if (state_.front.has_samples()) state_.front.add_zeros(config().right_pad);
      if (config().pad_tail) state_.front.add_zeros(state_.front.missing());
      padded_ = true;
    }
    advance();
    if (!config().streams()) run_whole();
    finished_ = true;
    return result();
  }

  /// Frames whose samples were heard.
  [[nodiscard]] index_t num_frames() const noexcept { return state_.front.num_frames(); }
  /// Samples that were no numbers or far too large, and counted as 0.
  [[nodiscard]] std::uint64_t num_replaced() const noexcept { return normalizer_.num_replaced(); }
  /// Bytes of keys, values and memory of steps.
  [[nodiscard]] std::size_t capacity_bytes() const noexcept {
    return store_.capacity_bytes() + context_.memory.capacity();
  }
  /// Where a stop may be requested from another thread.
  void set_stop(std::stop_token stop) { context_.stop = std::move(stop); }

 private:
  static cache::storage_type suiting(const encoder& of, ops::compute_mode mode) noexcept {
    const auto& layers = of.weights().layers;
    if (layers.empty()) return cache::storage_type::f32;
    return cache::storage_for(ops::effective_compute(mode, layers.front().attention.query.weight.format()));
  }

  static constexpr std::size_t piece = 16000;  // samples a step, at most
  static constexpr index_t most_frames = 50;   // frames a step, at most

  /// What a step changes and a failed one must not.
  struct state {
    explicit state(const encoder& of) : front(of), position(of.config().hidden_size, of.config().position_kernel - 1) {}
    front_end_stream front;
    frame_history position;
  };

  void begin() {
    if (std::exchange(given_, false)) out_.clear();
  }
  [[nodiscard]] frames result() {
    given_ = true;
    const index_t hidden = config().hidden_size;
    return {out_.data(), {static_cast<index_t>(out_.size()) / hidden, hidden}};
  }

  void take(std::span<const float> samples) {
    const auto first = static_cast<std::ptrdiff_t>(held_.size());
    held_.insert(held_.end(), samples.begin(), samples.end());
    if (config().input.kind == normalization::utterance) return;
    normalizer_(std::span(held_).subspan(static_cast<std::size_t>(first)));
    state_.front.add(held_);
    held_.clear();
  }

  /// Computes the frames that are ready, some at a time.
  void advance() {
    while (state_.front.ready() > 0) {
      context_.memory.reset();
      context_.check_stop();
      state next = state_;
      const index_t first = next.front.num_frames();
      ops::eval::value y;
      context_.team.run([&] {
        const auto features = next.front.next(context_, most_frames);
        y = config().streams() ? encode(features, first, next) : features;
      });
      auto& to = config().streams() ? out_ : features_;
      to.insert(to.end(), y.data(), y.data() + y.size());
      state_ = std::move(next);
      if (config().streams()) commit(state_.front.num_frames());
    }
  }

  [[nodiscard]] ops::eval::value encode(const ops::eval::value& features, index_t first, state& next) {
    const auto& weights = of_->weights();
    const auto x = weights.projection(context_, features);
    const auto joined = next.position.join(context_, x);
    next.position.keep(joined, x.size(0));
    const auto placed = context_(ops::add{}, x, weights.position.of_padded(context_, joined));
    rows_ = frame_rows(config(), first, first + x.size(0), first + x.size(0), dropped_);
    store_.reserve(group::source, first + x.size(0) - dropped_);
    return of_->transform(context_, placed, rows_, store_);
  }

  /// Keys of frames up to `last` are there; pages that no later frame sees are used again.
  void commit(index_t last) {
    store_.commit(group::source, last - dropped_);
    if (config().left_context == 0) return;
    while (last - config().left_context - dropped_ >= kernels::page_keys) {
      store_.drop_page(group::source);
      dropped_ += kernels::page_keys;
    }
  }

  void run_whole() {
    const index_t count = num_frames(), width = config().features();
    if (count == 0) return;
    context_.memory.reset();
    context_.check_stop();
    rows_ = frame_rows(config(), 0, count, count);
    store_.reserve(group::source, count);
    ops::eval::value y;
    context_.team.run([&] {
      const ops::eval::value features(features_.data(), {count, width});
      const auto x = of_->weights().projection(context_, features);
      y = of_->transform(context_, of_->weights().position(context_, x), rows_, store_);
    });
    out_.assign(y.data(), y.data() + y.size());
  }

  const encoder* of_;
  ops::eval context_;
  state state_;
  normalizer normalizer_;
  cache::key_value_cache store_;
  row_table rows_;
  index_t dropped_ = 0;  // frames whose keys are gone
  std::vector<float> held_;
  std::vector<float> features_;  // of all frames, where the encoder does not stream
  std::vector<float> out_;
  bool given_ = true;
  bool padded_ = false;
  bool finished_ = false;
};

}  // namespace runnel::speech
