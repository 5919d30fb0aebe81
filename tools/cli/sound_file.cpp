// SPDX-License-Identifier: Apache-2.0

#include "sound_file.hpp"

#if defined(RUNNEL_CLI_SNDFILE)
#include <sndfile.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/wav.hpp>

#include "console.hpp"

namespace runnel::cli {

#if defined(RUNNEL_CLI_SNDFILE)

namespace {

constexpr std::size_t block_samples = std::size_t{1} << 14U;

class sound_file final : public audio_source {
 public:
  explicit sound_file(const std::string& path) {
    facts_.name = path;
    file_.reset(::sf_open(path.c_str(), SFM_READ, &info_));
    if (file_ == nullptr) {
      fail<format_error>(path, ": expected audio (WAV, FLAC, Ogg, MP3, AIFF): ", printable(::sf_strerror(nullptr)));
    }
    expect<format_error>(info_.channels > 0 && info_.samplerate > 0, path, ": expected audio, found ", info_.channels,
                         " channels at ", info_.samplerate, " Hz");
    facts_.sample_rate = info_.samplerate;
    facts_.channels = info_.channels;
    const int kind = info_.format & SF_FORMAT_SUBMASK;
    bits_ = kind == SF_FORMAT_PCM_S8 || kind == SF_FORMAT_PCM_U8 ? 8 : 16;
    block_.resize(std::max<std::size_t>(block_samples / channels(), 1) * channels());
  }

  bool take(std::vector<float>& to) override {
    if (ended_) return true;
    const auto wanted = static_cast<sf_count_t>(block_.size() / channels());
    const auto count = std::max<sf_count_t>(::sf_readf_float(file_.get(), block_.data(), wanted), 0);
    const auto samples = std::span(block_).first(static_cast<std::size_t>(count) * channels());
    for (float& sample : samples) {
      if (std::isfinite(sample)) continue;
      sample = 0;
      ++facts_.replaced;
    }
    const auto mono = io::mix_to_mono(samples, facts_.channels);
    facts_.add(mono, bits_);
    to.insert(to.end(), mono.begin(), mono.end());
    if (count == wanted) return true;
    ended_ = true;
    // Formats that cannot tell their length promise more than any file could hold.
    const bool promised = info_.frames > 0 && info_.frames < SF_COUNT_MAX;
    facts_.truncated = ::sf_error(file_.get()) != SF_ERR_NO_ERROR || (promised && facts_.frames < info_.frames);
    return true;
  }

 private:
  struct closer {
    void operator()(SNDFILE* file) const { ::sf_close(file); }
  };

  [[nodiscard]] std::size_t channels() const noexcept { return static_cast<std::size_t>(info_.channels); }

  SF_INFO info_{};
  std::unique_ptr<SNDFILE, closer> file_;
  int bits_ = 16;
  std::vector<float> block_;
};

}  // namespace

std::unique_ptr<audio_source> open_sound_file(const std::string& path) { return std::make_unique<sound_file>(path); }

bool has_sound_files() noexcept { return true; }

#else

std::unique_ptr<audio_source> open_sound_file(const std::string& path) {
  fail<io_error>(path, ": is no WAV file of PCM or float, and this program was built without libsndfile");
}

bool has_sound_files() noexcept { return false; }

#endif

}  // namespace runnel::cli
