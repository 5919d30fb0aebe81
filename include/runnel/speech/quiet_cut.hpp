// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>

namespace runnel::speech {

/// Where audio that is too long may be cut.
struct quiet_cut_options {
  index_t window = 16000;  ///< samples before the limit among which the quietest place is looked for
  index_t frame = 80;      ///< samples of a frame whose energy counts
  index_t around = 4;      ///< frames on either side that count as well, so that a pause is meant and not a zero

  /// For a sample rate: the last 2 seconds, frames of 10 ms, 90 ms taken together. Throws config_error for rates below
  /// 100.
  [[nodiscard]] static quiet_cut_options for_rate(index_t sample_rate) {
    quiet_cut_options out;
    out.window = 2 * sample_rate;
    out.frame = sample_rate / 100;
    out.validate();
    return out;
  }

  /// Throws config_error if a number is out of range.
  void validate() const {
    constexpr index_t most = index_t{1} << 30;
    expect(frame >= 1 && frame <= most, "quiet_cut: frame: expected 1 to ", most, " samples, found ", frame);
    expect(window >= frame && window <= most, "quiet_cut: window: expected ", frame, " (a frame) to ", most,
           " samples, found ", window);
    expect(around >= 0 && around <= most, "quiet_cut: around: expected 0 to ", most, " frames, found ", around);
  }
};

/// A place in the middle of the quietest frame of `samples`: the number of samples before it. A frame's energy is the
/// mean over it and `around` frames on either side, as far as there are any. Of several that are equally quiet (digital
/// silence) it is the middle one of the longest row, the last such. Fewer samples than a frame are cut in their middle.
/// Linear.
[[nodiscard]] inline index_t quietest_place(std::span<const float> samples, index_t frame, index_t around) {
  const index_t count = static_cast<index_t>(samples.size()) / frame;
  if (count == 0) return static_cast<index_t>(samples.size()) / 2;
  std::vector<double> sums(static_cast<std::size_t>(count) + 1);  // of the frames before
  for (index_t f = 0; f < count; ++f) {
    double energy = 0;
    for (const float one : samples.subspan(static_cast<std::size_t>(f * frame), static_cast<std::size_t>(frame))) {
      if (std::isfinite(one)) energy += static_cast<double>(one) * static_cast<double>(one);
    }
    sums[static_cast<std::size_t>(f) + 1] = sums[static_cast<std::size_t>(f)] + energy;
  }
  double least = std::numeric_limits<double>::infinity();
  index_t begin = 0, length = 0, row = 0;
  double before = -1;
  for (index_t f = 0; f < count; ++f) {
    const index_t first = std::max<index_t>(f - around, 0), last = std::min(f + around + 1, count);
    const double energy = (sums[static_cast<std::size_t>(last)] - sums[static_cast<std::size_t>(first)]) /
                          static_cast<double>(last - first);
    row = energy == before ? row + 1 : 1;
    before = energy;
    if (energy < least || (energy == least && row >= length)) {
      least = energy;
      length = row;
      begin = f - row + 1;
    }
  }
  return (begin + length / 2) * frame + frame / 2;
}

/// Audio that is cut into stretches which fit, each cut where it is quietest.
///
/// Samples go in as they come and go on at once, as long as the limit is farther away than `window`. Inside the
/// window they are held back until the audio ends (then it fits) or turns out to be longer (then it is cut in the
/// middle of the window's quietest frame, and the rest belongs to the next stretch). The stretches one after another
/// are the input, sample for sample, and they are the same however the input was cut into pieces, if `room` counts
/// the samples that went on.
///
/// Memory: what is held back, at most the window and what was pushed since the last `next`.
class quiet_cut {
 public:
  /// What goes on.
  struct piece {
    std::vector<float> samples;  ///< may be empty
    bool cut = false;            ///< the stretch ends behind these samples, and another one follows
  };

  /// Throws config_error if a number is out of range.
  explicit quiet_cut(const quiet_cut_options& options) : options_(options) { options_.validate(); }

  /// Takes samples. Throws config_error after `finish`.
  void push(std::span<const float> samples) {
    expect(!finished_, "quiet_cut: the audio was finished, no more samples can follow");
    held_.insert(held_.end(), samples.begin(), samples.end());
  }

  /// No more samples will come.
  void finish() noexcept { finished_ = true; }

  /// What can go on now. `room` says how many more samples fit into the current stretch behind those that went on; it
  /// need not be what it was less those, as other things may take up room. Without a cut, at most `most` samples go on
  /// at once: where `room` depends on them, pieces of one size keep the cuts where they are however the input comes.
  /// Throws config_error where not even the first sample of a stretch fits, and for `most` below 1.
  [[nodiscard]] piece next(index_t room, index_t most = std::numeric_limits<index_t>::max()) {
    expect(most >= 1, "quiet_cut: expected pieces of at least one sample, found ", most);
    piece out;
    const auto waiting = static_cast<index_t>(held_.size());
    room = std::max<index_t>(room, 0);
    expect(room > 0 || waiting == 0 || gone_on_ > 0, "quiet_cut: not a single sample fits");
    const index_t free = free_of(room);
    if (waiting > room && free == 0) {
      out.cut = true;
      const auto window = std::span<const float>(held_).first(static_cast<std::size_t>(room));
      index_t place = quietest_place(window, options_.frame, options_.around);
      if (gone_on_ == 0) place = std::max<index_t>(place, 1);
      take(place, out.samples);
      gone_on_ = 0;
      return out;
    }
    take(std::min(most, finished_ && waiting <= room ? waiting : std::min(free, waiting)), out.samples);
    gone_on_ += static_cast<index_t>(out.samples.size());
    return out;
  }

  /// How many samples go on without being held back where `room` more fit.
  [[nodiscard]] index_t free_of(index_t room) const noexcept { return std::max<index_t>(room - options_.window, 0); }
  /// Samples that have not gone on.
  [[nodiscard]] index_t num_held() const noexcept { return static_cast<index_t>(held_.size()); }
  /// Whether all audio came and went on.
  [[nodiscard]] bool done() const noexcept { return finished_ && held_.empty(); }

 private:
  void take(index_t count, std::vector<float>& to) {
    const auto end = held_.begin() + static_cast<std::ptrdiff_t>(count);
    to.assign(held_.begin(), end);
    held_.erase(held_.begin(), end);
  }

  quiet_cut_options options_;
  std::vector<float> held_;
  index_t gone_on_ = 0;  // samples of the current stretch
  bool finished_ = false;
};

}  // namespace runnel::speech
