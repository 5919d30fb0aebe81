// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <runnel/core/index.hpp>

namespace runnel::cli {

/// Changes the sample rate of audio of one channel as it comes, by libsamplerate. The output is not delayed: its first
/// sample stands for the time of the input's first. `n` samples become round(n * to / from), tail and all, and they are
/// the same however the input was cut. Bounded memory: it looks some milliseconds ahead.
class resampler {
 public:
  /// Throws io_error if the program was built without libsamplerate, config_error for rates that are more than a
  /// factor of 256 apart.
  resampler(index_t from, index_t to);
  resampler(resampler&&) noexcept;
  resampler& operator=(resampler&&) noexcept;
  ~resampler();

  /// Appends what can be said now.
  void push(std::span<const float> samples, std::vector<float>& to);
  /// Appends the rest. Nothing may be pushed afterwards.
  void finish(std::vector<float>& to);

 private:
  struct state;

  void process(std::span<const float> samples, bool last, std::vector<float>& to);

  index_t from_ = 1;
  index_t to_ = 1;
  std::int64_t taken_ = 0;
  std::int64_t given_ = 0;
  std::unique_ptr<state> state_;
};

}  // namespace runnel::cli
