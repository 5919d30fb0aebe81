// SPDX-License-Identifier: Apache-2.0

#include "resampler.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#if defined(RUNNEL_CLI_SAMPLERATE)
#include <samplerate.h>
#endif

#include <runnel/core/error.hpp>

namespace runnel::cli {

#if defined(RUNNEL_CLI_SAMPLERATE)

struct resampler::state {
  state(index_t from, index_t to) : ratio(static_cast<double>(to) / static_cast<double>(from)) {
    expect(::src_is_valid_ratio(ratio) != 0, "cannot resample audio from ", from, " to ", to,
           " Hz: they are too far apart");
    int code = 0;
    converter.reset(::src_new(SRC_SINC_MEDIUM_QUALITY, 1, &code));
    expect<io_error>(converter != nullptr, "libsamplerate: ", ::src_strerror(code));
  }

  struct closer {
    void operator()(SRC_STATE* one) const { ::src_delete(one); }
  };
  double ratio;
  std::unique_ptr<SRC_STATE, closer> converter;
};

resampler::resampler(index_t from, index_t to) : from_(from), to_(to), state_(std::make_unique<state>(from, to)) {}

void resampler::process(std::span<const float> samples, bool last, std::vector<float>& to) {
  std::array<float, 4096> out{};
  for (;;) {
    SRC_DATA step{};
    step.data_in = samples.data();
    step.input_frames = static_cast<long>(samples.size());
    step.data_out = out.data();
    step.output_frames = static_cast<long>(out.size());
    step.end_of_input = last ? 1 : 0;
    step.src_ratio = state_->ratio;
    const int code = ::src_process(state_->converter.get(), &step);
    expect<io_error>(code == 0, "libsamplerate: ", ::src_strerror(code));
    to.insert(to.end(), out.data(), out.data() + step.output_frames_gen);
    given_ += step.output_frames_gen;
    samples = samples.subspan(static_cast<std::size_t>(step.input_frames_used));
    if (samples.empty() && step.output_frames_gen < step.output_frames) return;
  }
}

void resampler::push(std::span<const float> samples, std::vector<float>& to) {
  taken_ += static_cast<std::int64_t>(samples.size());
  if (!samples.empty()) process(samples, false, to);
}

void resampler::finish(std::vector<float>& to) {
  // Whole seconds apart from the rest: an endless stream must not overflow.
  const std::int64_t wanted = taken_ / from_ * to_ + (2 * (taken_ % from_) * to_ + from_) / (2 * from_);
  const float nothing = 0;
  const std::size_t before = to.size();
  if (taken_ > 0) process(std::span(&nothing, std::size_t{0}), true, to);
  const std::int64_t missing = wanted - given_;
  const auto size = static_cast<std::int64_t>(to.size()) + missing;
  to.resize(static_cast<std::size_t>(std::max(size, static_cast<std::int64_t>(before))), 0.0F);
  given_ = wanted;
}

#else

struct resampler::state {};

resampler::resampler(index_t from, index_t to) {
  fail<io_error>("audio at ", from, " Hz has to be resampled to ", to,
                 " Hz, and this program was built without libsamplerate");
}

void resampler::process(std::span<const float>, bool, std::vector<float>&) {}
void resampler::push(std::span<const float>, std::vector<float>&) {}
void resampler::finish(std::vector<float>&) {}

#endif

resampler::resampler(resampler&&) noexcept = default;
resampler& resampler::operator=(resampler&&) noexcept = default;
resampler::~resampler() = default;

}  // namespace runnel::cli
