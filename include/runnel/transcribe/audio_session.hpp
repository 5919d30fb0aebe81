// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include <runnel/speech/projected_stream.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/transcribe/speech_model.hpp>

namespace runnel::transcribe {

/// One stream of speech: samples go in with `push`, events come out with `next`. A chunk of audio is a source word: the
/// policy counts chunks, plans order them against written words, positions count their rows.
///
/// Whatever the sizes of the pieces that audio comes in, the text and its delays are the same: rows do not depend on
/// them, and a chunk is read when it is whole. `finish` makes what is left of the audio the last chunk, however short.
///
/// Cost: that of the encoder's stream and the session's. A session belongs to one thread at a time; the model is
/// shared.
class audio_session {
 public:
  /// An empty instruction means the model's. Throws config_error if options contradict each other or the model.
  explicit audio_session(speech_model model, stream::session_options options = {})
      : model_((model.validate(), std::move(model))),
        session_(model_.language, with_instruction(std::move(options), model_.settings.instruction)),
        audio_(std::make_unique<speech::projected_stream>(
            *model_.encoder, *model_.projector,
            speech::encoder_stream_options{session_.options().compute, session_.options().cache_type})) {}

  /// Takes samples, mono, at the model's rate. Those that are not finite count as 0. Throws config_error after
  /// `finish`, limit_error where the audio outgrows the context: no whole chunk is lost before that.
  void push(std::span<const float> samples) {
    expect(!heard_all_, "push: the audio was finished, no more samples can follow");
    hold(audio_->push(samples));
    num_samples_ += static_cast<index_t>(samples.size());
    give_chunks(false);
  }

  /// No more samples will come. Calling it again does nothing, or what is left to do if it has thrown.
  void finish() {
    if (!heard_all_) hold(audio_->finish());
    heard_all_ = true;
    give_chunks(true);
    session_.finish();
  }

  /// The next event, or nothing if audio is needed or the session is done. Throws as `stream::session::next`.
  std::optional<stream::event> next(const std::stop_token& stop = {}) { return session_.next(stop); }

  /// What was written, and all else that a session tells; delays count chunks, the source's end being one more.
  [[nodiscard]] stream::session& session() noexcept { return session_; }
  [[nodiscard]] const stream::session& session() const noexcept { return session_; }
  [[nodiscard]] const speech_model& model() const noexcept { return model_; }

  [[nodiscard]] double seconds_pushed() const noexcept { return seconds(num_samples_); }
  /// Audio that must have been heard before `chunks` chunks were whole; never more than there is. All of it where the
  /// encoder does not stream.
  [[nodiscard]] double delay_ms(index_t chunks) const noexcept {
    if (chunks <= 0) return 0;
    if (!model_.encoder->config().streams()) return 1000 * seconds_pushed();
    return 1000 * seconds(std::min(chunks * model_.chunk_samples() + model_.lookahead(), num_samples_));
  }
  /// Chunks given to the session.
  [[nodiscard]] index_t num_chunks() const noexcept { return num_chunks_; }
  /// Chunks that still fit into the positions which the session may use, if as many target tokens follow as were
  /// allowed for: the prompt and the source's end are counted, `target_rows` are left free.
  [[nodiscard]] index_t chunks_left(index_t target_rows = 0) const {
    const auto& options = session_.options();
    const index_t all = options.limit(model_.language.context());
    const auto fixed = static_cast<index_t>(model_.language.prompt_tokens(options.instruction).size() +
                                            model_.language.end_tokens().size());
    const index_t used = fixed + num_chunks_ * model_.settings.chunk_rows + target_rows;
    return std::max<index_t>(0, all - used) / model_.settings.chunk_rows;
  }
  /// Samples that were NaN or infinite and counted as 0.
  [[nodiscard]] std::uint64_t num_replaced() const noexcept { return audio_->frames().num_replaced(); }

 private:
  [[nodiscard]] static stream::session_options with_instruction(stream::session_options options,
                                                                const std::string& instruction) {
    if (options.instruction.empty()) options.instruction = instruction;
    return options;
  }
  [[nodiscard]] double seconds(index_t samples) const noexcept {
    return static_cast<double>(samples) / static_cast<double>(model_.sample_rate());
  }

  void hold(const speech::projected_stream::rows& more) {
    rows_.insert(rows_.end(), more.data(), more.data() + more.size());
  }

  /// Chunk by chunk: one that was given is not held any more, whatever becomes of the next.
  void give_chunks(bool last) {
    const index_t width = model_.projector->width();
    for (;;) {
      const index_t there = static_cast<index_t>(rows_.size()) / width;
      const index_t count = std::min(there, model_.settings.chunk_rows);
      if (count == 0 || (!last && count < model_.settings.chunk_rows)) return;
      session_.push_vectors({rows_.data(), {count, width}});
      rows_.erase(rows_.begin(), rows_.begin() + count * width);
      ++num_chunks_;
    }
  }

  speech_model model_;
  stream::session session_;
  std::unique_ptr<speech::projected_stream> audio_;
  std::vector<float> rows_;  // of a chunk that is not whole
  index_t num_samples_ = 0;
  index_t num_chunks_ = 0;
  bool heard_all_ = false;
};

}  // namespace runnel::transcribe
