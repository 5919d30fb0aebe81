// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <runnel/core/index.hpp>
#include <runnel/io/wav_layout.hpp>

namespace runnel::cli {

/// What is known of some audio, complete at its end.
struct audio_facts {
  std::string name;            ///< for messages
  index_t sample_rate = 0;     ///< of the source; 0 until its header was read
  index_t channels = 0;        ///< 0 until then
  std::int64_t frames = 0;     ///< read so far
  std::uint64_t replaced = 0;  ///< samples of a channel that were NaN or infinite: they are 0
  std::uint64_t clipped = 0;   ///< frames whose mean over the channels is at full scale or beyond
  bool truncated = false;      ///< more was promised than there is, or it ends within a frame

  /// Seconds read so far.
  [[nodiscard]] double seconds() const noexcept {
    return sample_rate > 0 ? static_cast<double>(frames) / static_cast<double>(sample_rate) : 0;
  }
  /// Notes samples of one channel that were read. `bits` is how finely the source tells samples apart.
  void add(std::span<const float> mono, int bits);
};

/// Audio at its own rate, as it comes; channels are mixed to one, their mean.
class audio_source {
 public:
  audio_source() = default;
  audio_source(const audio_source&) = delete;
  audio_source& operator=(const audio_source&) = delete;
  virtual ~audio_source() = default;

  /// Appends samples that are there, a bounded number, without waiting. Returns whether any came or the end was found.
  /// Throws io_error and format_error that name the source.
  virtual bool take(std::vector<float>& to) = 0;
  /// Waits for samples, the end, or a signal.
  virtual void wait() {}
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] const audio_facts& facts() const noexcept { return facts_; }

 protected:
  audio_facts facts_;
  bool ended_ = false;
};

/// How finely samples of a format are told apart.
[[nodiscard]] int bits_of(io::wav_format format) noexcept;

}  // namespace runnel::cli
