// SPDX-License-Identifier: Apache-2.0

#include "audio_input.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/wav.hpp>

#include "console.hpp"
#include "pcm_stream.hpp"
#include "sound_file.hpp"

namespace runnel::cli {

void audio_facts::add(std::span<const float> mono, int bits) {
  const float full_scale = 1 - std::ldexp(1.0F, 1 - bits);
  frames += static_cast<std::int64_t>(mono.size());
  clipped += static_cast<std::uint64_t>(
      std::count_if(mono.begin(), mono.end(), [&](float sample) { return std::fabs(sample) >= full_scale; }));
}

int bits_of(io::wav_format format) noexcept {
  constexpr int most = 16;  // finer ones reach full scale, as far as ears can tell, where 16 bits do
  return std::min(most, static_cast<int>(8 * io::bytes_of(format)));
}

namespace {

/// A WAV file, block by block out of its map.
class wav_source final : public audio_source {
 public:
  explicit wav_source(io::wav_file file) : file_(std::move(file)) {
    facts_.name = file_.name();
    facts_.sample_rate = file_.sample_rate();
    facts_.channels = file_.channels();
  }

  bool take(std::vector<float>& to) override {
    constexpr index_t block = 4096;
    const index_t count = std::min<index_t>(block, file_.num_frames() - facts_.frames);
    const auto samples = file_.read_mono(facts_.frames, count);
    facts_.replaced += samples.replaced;
    facts_.add(samples.values, bits_of(file_.format()));
    to.insert(to.end(), samples.values.begin(), samples.values.end());
    constexpr index_t often = 64 * block;
    if (facts_.frames % often == 0) file_.release_before(facts_.frames);
    ended_ = facts_.frames == file_.num_frames();
    facts_.truncated = ended_ && file_.truncated();
    return true;
  }

 private:
  io::wav_file file_;
};

bool begins_as_wav(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 12> magic{};
  if (!file.read(magic.data(), magic.size())) return false;
  const std::string_view text(magic.data(), magic.size());
  return (text.starts_with("RIFF") || text.starts_with("RF64")) && text.ends_with("WAVE");
}

std::unique_ptr<audio_source> open_wav(const std::string& path) {
  try {
    return std::make_unique<wav_source>(io::wav_file(path));
  } catch (const format_error&) {
    if (!has_sound_files()) throw;
    try {
      return open_sound_file(path);  // samples of other kinds, such as those of telephones
    } catch (const format_error&) {
    }
    throw;
  }
}

bool is_raw(const std::string& path) { return path.ends_with(".raw") || path.ends_with(".pcm"); }

std::unique_ptr<audio_source> open_file(const std::string& path, const std::optional<io::wav_layout>& raw) {
  std::error_code problem;
  expect<format_error>(std::filesystem::file_size(path, problem) > 0 || problem, path, ": is empty; expected audio");
  if (raw && is_raw(path)) return std::make_unique<pcm_stream>(path, raw);
  expect<io_error>(std::ifstream(path, std::ios::binary).good(), path, ": cannot be opened");
  return begins_as_wav(path) ? open_wav(path) : open_sound_file(path);
}

}  // namespace

audio_input::audio_input(const std::string& path, index_t sample_rate, const std::optional<io::wav_layout>& raw)
    : sample_rate_(sample_rate) {
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  if (path != "-" && std::filesystem::is_regular_file(status)) {
    source_ = open_file(path, raw);
  } else {
    auto stream = std::make_unique<pcm_stream>(path, raw);  // says what is wrong with things that are no pipes
    live_ = stream->is_live();
    source_ = std::move(stream);
  }
}

void audio_input::check_rate() const {
  const auto& of = source_->facts();
  expect<format_error>(of.sample_rate >= least_rate && of.sample_rate <= greatest_rate, of.name,
                       ": sample rate: expected ", least_rate, " to ", greatest_rate, " Hz, found ", of.sample_rate);
}

bool audio_input::take(std::vector<float>& to) {
  if (ended()) return true;
  if (!live_) interrupts::instance().check();
  block_.clear();
  if (!source_->take(block_)) return false;
  const std::size_t before = to.size();
  const index_t rate = source_->facts().sample_rate;
  if (rate == sample_rate_) {
    to.insert(to.end(), block_.begin(), block_.end());
  } else if (rate > 0) {
    if (!resampler_) {
      check_rate();
      resampler_.emplace(rate, sample_rate_);
    }
    resampler_->push(block_, to);
    if (ended()) resampler_->finish(to);
  }
  num_samples_ += static_cast<std::int64_t>(to.size() - before);
  return ended() || to.size() > before;
}

std::string describe_oddities(const audio_facts& facts) {
  std::string all;
  const auto add = [&](const std::string& one) { all += (all.empty() ? "" : "; ") + one; };
  if (facts.frames == 0) add("has no sound");
  if (facts.truncated) add(message("is truncated: ", fixed(facts.seconds(), 2), " s of it are there"));
  if (facts.replaced > 0) add(message(facts.replaced, " samples are NaN or infinite and count as 0"));
  if (facts.clipped > 0) add(message(facts.clipped, " of ", facts.frames, " samples are clipped"));
  return all;
}

io::wav_format find_sample_format(const std::string& name) {
  if (name == "u8") return io::wav_format::pcm8;
  if (name == "s16") return io::wav_format::pcm16;
  if (name == "s24") return io::wav_format::pcm24;
  if (name == "s32") return io::wav_format::pcm32;
  expect<config_error>(name == "f32", "sample format: expected u8, s16, s24, s32 or f32, found '", printable(name),
                       "'");
  return io::wav_format::float32;
}

}  // namespace runnel::cli
