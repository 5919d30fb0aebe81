// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <runnel/core/index.hpp>
#include <runnel/io/wav_layout.hpp>

#include "audio_source.hpp"
#include "resampler.hpp"

namespace runnel::cli {

/// Audio as samples of one channel at a wanted rate, as it comes: files through a memory map or libsndfile, pipes and
/// standard input through `pcm_stream`. Memory is bounded, however long it lasts.
///
/// An empty file and one that is no audio are errors; a WAV file without a frame is audio of no length. What is
/// truncated is read as far as it goes, and the facts say so. Samples that are NaN or infinite become 0 and are
/// counted; those at full scale or beyond are counted and stay as they are.
class audio_input {
 public:
  /// Rates that sources may have, in Hz.
  static constexpr index_t least_rate = 1000;
  static constexpr index_t greatest_rate = 768'000;

  /// `path` "-" is standard input; `raw` says how samples lie in streams without a header, and in files called .raw
  /// or .pcm. Throws io_error and format_error that name the file; io_error that says so if it takes a library that the
  /// program was built without.
  audio_input(const std::string& path, index_t sample_rate, const std::optional<io::wav_layout>& raw = {});

  /// Appends samples that are there, a bounded number, without waiting. Returns whether any came or the end was found.
  /// Throws io_error and format_error that name the source; cancelled_error if a signal came, where that does not just
  /// end the audio.
  bool take(std::vector<float>& to);
  /// Waits for samples, the end, or a signal.
  void wait() { source_->wait(); }
  /// Whether everything was taken.
  [[nodiscard]] bool ended() const noexcept { return source_->ended(); }

  /// Whether it comes as it comes: a signal ends it, as its end would.
  [[nodiscard]] bool is_live() const noexcept { return live_; }
  /// Of the source, before its rate is changed.
  [[nodiscard]] const audio_facts& facts() const noexcept { return source_->facts(); }
  [[nodiscard]] const std::string& name() const noexcept { return source_->facts().name; }
  /// Samples given so far.
  [[nodiscard]] std::int64_t num_samples() const noexcept { return num_samples_; }

 private:
  void check_rate() const;

  index_t sample_rate_;
  bool live_ = false;
  std::unique_ptr<audio_source> source_;
  std::optional<resampler> resampler_;
  std::vector<float> block_;
  std::int64_t num_samples_ = 0;
};

/// What is odd about audio that was read, for a note: "truncated; 3 samples were NaN or infinite"; empty if nothing is.
[[nodiscard]] std::string describe_oddities(const audio_facts& facts);

/// Says what raw samples are called: u8, s16, s24, s32 or f32, little-endian. Throws config_error for other names.
[[nodiscard]] io::wav_format find_sample_format(const std::string& name);

}  // namespace runnel::cli
