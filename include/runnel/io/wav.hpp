// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/io/wav_layout.hpp>

namespace runnel::io {

/// A WAV file (RIFF, or RF64 with 64-bit sizes): header checked, samples decoded from the map where they are asked for,
/// so that an hour of audio costs no memory. Move-only.
///
/// Chunks come in any order and unknown ones are skipped. What the header says of sizes is never believed: a data chunk
/// that promises more than there is gives what is there, and `truncated` says so.
class wav_file {
 public:
  /// Opens and checks `path`. Throws io_error if it cannot be read, format_error (naming file, what was expected and
  /// what was found) if it is no WAV file, lacks its fmt or data chunk, or holds samples of another kind than PCM of
  /// 8, 16, 24 or 32 bits and float of 32 or 64.
  explicit wav_file(const std::filesystem::path& path) : wav_file(mapped_file(path)) {}

  /// As above, over bytes that are already there.
  explicit wav_file(mapped_file file) : file_(std::move(file)) { parse(); }

  [[nodiscard]] const std::string& name() const noexcept { return file_.name(); }
  [[nodiscard]] wav_format format() const noexcept { return layout_.format; }
  /// Frames a second, whatever was said.
  [[nodiscard]] index_t sample_rate() const noexcept { return layout_.sample_rate; }
  [[nodiscard]] index_t channels() const noexcept { return layout_.channels; }
  [[nodiscard]] index_t num_frames() const noexcept { return num_frames_; }
  [[nodiscard]] double seconds() const noexcept {
    return static_cast<double>(num_frames_) / static_cast<double>(layout_.sample_rate);
  }
  /// Whether the data chunk promised more than the file holds, or ends within a frame. A length that a live recorder
  /// left open (2^32 - 1, or 0 where the file's own length is open too) promises nothing.
  [[nodiscard]] bool truncated() const noexcept { return truncated_; }

  /// Frames [first, first + count), channels side by side. Throws config_error outside of [0, num_frames()].
  [[nodiscard]] wav_samples read(index_t first, index_t count) const {
    check(first, count);
    return decode_wav(layout_, frames(first, count));
  }

  /// The same frames as one channel: the mean of all.
  [[nodiscard]] wav_samples read_mono(index_t first, index_t count) const {
    check(first, count);
    return decode_wav_to_mono(layout_, frames(first, count));
  }
  [[nodiscard]] wav_samples read_mono() const { return read_mono(0, num_frames_); }

  /// Tells the system that the frames before `end` are not needed in memory for now. A hint: it never fails.
  void release_before(index_t end) const noexcept {
    const auto bytes = frames(0, std::clamp<index_t>(end, 0, num_frames_));
    file_.release(static_cast<std::uint64_t>(bytes.data() - file_.bytes().data()), bytes.size());
  }

 private:
  static constexpr std::uint32_t open_length = 0xFFFFFFFFu;

  struct chunks {
    std::span<const std::byte> format;
    bool has_format = false;
    std::span<const std::byte> data;
    bool has_data = false;
    std::uint64_t long_data = 0;  // of an RF64 file's ds64 chunk
  };

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(file_.name(), ": ", parts...);
  }

  void parse() {
    byte_reader in(file_.bytes(), file_.name());
    if (in.remaining() < 12) fail("expected a WAV file, found ", in.remaining(), " bytes");
    const auto magic = in.text(4, "magic number");
    if (magic == "RIFX") fail("expected a little-endian WAV file (RIFF), found a big-endian one (RIFX)");
    if (magic != "RIFF" && magic != "RF64") fail("expected a WAV file (RIFF), found ", in_quotes(magic));
    const auto whole = in.number<std::uint32_t>("size");  // recorders that were stopped leave anything here
    const auto kind = in.text(4, "kind");
    if (kind != "WAVE") fail("expected a RIFF file of kind 'WAVE', found ", in_quotes(kind));
    const chunks found = walk(in, magic == "RF64", whole == 0 || whole == open_length);
    if (!found.has_format) fail("expected a chunk 'fmt ', found none");
    if (!found.has_data) fail("expected a chunk 'data', found none");
    layout_ = read_wav_layout(found.format, file_.name());
    const std::uint64_t frame = layout_.bytes_a_frame();
    num_frames_ = static_cast<index_t>(found.data.size() / frame);
    truncated_ = truncated_ || found.data.size() % frame != 0;
    data_ = found.data.data();
  }

  [[nodiscard]] chunks walk(byte_reader& in, bool is_long, bool is_open) {
    chunks out;
    while (in.remaining() >= 8) {
      const auto id = in.text(4, "chunk");
      const auto declared = in.number<std::uint32_t>("chunk size");
      std::uint64_t size = declared;
      if (is_long && id == "data" && declared == open_length && out.long_data != 0) size = out.long_data;
      if (is_open && id == "data" && declared == 0) size = open_length;
      const std::uint64_t there = std::min(size, in.remaining());
      const auto content = in.take(there, "chunk");
      if (id == "fmt ") {
        if (out.has_format) fail("expected one chunk 'fmt ', found another");
        if (there < size) fail("chunk 'fmt ' needs ", size, " bytes, found ", there);
        out.format = content;
        out.has_format = true;
      } else if (id == "data" && !out.has_data) {
        out.data = content;
        out.has_data = true;
        truncated_ = there < size && size != open_length;
      } else if (id == "ds64" && is_long && content.size() >= 16) {
        std::memcpy(&out.long_data, content.data() + 8, sizeof out.long_data);
      }
      if (size % 2 != 0 && in.remaining() > 0) (void)in.take(1, "padding");
    }
    return out;
  }

  void check(index_t first, index_t count) const {
    expect(first >= 0 && count >= 0 && first <= num_frames_ && count <= num_frames_ - first, file_.name(),
           ": frames from ", first, ", ", count, " of them: there are ", num_frames_);
  }

  [[nodiscard]] std::span<const std::byte> frames(index_t first, index_t count) const noexcept {
    const std::uint64_t frame = layout_.bytes_a_frame();
    return {data_ + static_cast<std::uint64_t>(first) * frame,
            static_cast<std::size_t>(static_cast<std::uint64_t>(count) * frame)};
  }

  mapped_file file_;
  wav_layout layout_;
  index_t num_frames_ = 0;
  bool truncated_ = false;
  const std::byte* data_ = nullptr;
};

/// The mean of `channels` that lie side by side, [frames * channels] to [frames]. Throws shape_error unless they
/// divide.
[[nodiscard]] inline std::vector<float> mix_to_mono(std::span<const float> samples, index_t channels) {
  expect<shape_error>(channels > 0 && static_cast<index_t>(samples.size()) % channels == 0,
                      "mix_to_mono: ", samples.size(), " samples do not divide into ", channels, " channels");
  std::vector<float> out(samples.size() / static_cast<std::size_t>(channels));
  const float* from = samples.data();
  for (float& value : out) {
    double sum = 0;
    for (index_t channel = 0; channel < channels; ++channel) sum += static_cast<double>(*from++);
    value = static_cast<float>(sum / static_cast<double>(channels));
  }
  return out;
}

/// What `write_wav` writes.
struct wav_output {
  index_t sample_rate = 16000;
  index_t channels = 1;
  wav_format format = wav_format::pcm16;  ///< pcm16 or float32
};

/// Writes samples (channels side by side) as a WAV file, atomically; 16 bits are rounded to nearest and clipped, NaN
/// becomes 0. Throws config_error for options that make no file or more than 4 GiB, io_error naming path and reason.
inline void write_wav(const std::filesystem::path& path, std::span<const float> samples, const wav_output& how = {}) {
  const std::string name = path.string();
  expect(how.format == wav_format::pcm16 || how.format == wav_format::float32, "cannot write '", name,
         "': expected pcm16 or float32");
  expect(how.channels > 0 && how.channels <= 8191, "cannot write '", name, "': expected 1 to 8191 channels, found ",
         how.channels);
  expect(how.sample_rate > 0 && how.sample_rate <= 16'000'000 / how.channels, "cannot write '", name,
         "': a sample rate of ", how.sample_rate, " does not fit");
  expect(samples.size() % static_cast<std::size_t>(how.channels) == 0, "cannot write '", name, "': ", samples.size(),
         " samples do not divide into ", how.channels, " channels");
  const auto width = static_cast<std::uint32_t>(bytes_of(how.format));
  expect(samples.size() <= (0xFFFFFFFFu - 64u) / width, "cannot write '", name, "': more than 4 GiB");
  const auto size = static_cast<std::uint32_t>(samples.size()) * width;
  const auto frame = width * static_cast<std::uint32_t>(how.channels);
  atomic_file out(path);
  out.write(std::string_view("RIFF"));
  out.number(36u + size);
  out.write(std::string_view("WAVEfmt "));
  out.number(std::uint32_t{16});
  out.number(static_cast<std::uint16_t>(how.format == wav_format::pcm16 ? 1 : 3));
  out.number(static_cast<std::uint16_t>(how.channels));
  out.number(static_cast<std::uint32_t>(how.sample_rate));
  out.number(static_cast<std::uint32_t>(how.sample_rate) * frame);
  out.number(static_cast<std::uint16_t>(frame));
  out.number(static_cast<std::uint16_t>(8 * width));
  out.write(std::string_view("data"));
  out.number(size);
  if (how.format == wav_format::float32) {
    out.write(std::as_bytes(samples));
  } else {
    std::vector<std::int16_t> whole(samples.size());
    std::transform(samples.begin(), samples.end(), whole.begin(), [](float value) {
      if (!(std::fabs(value) <= std::numeric_limits<float>::max())) value = value > 0 ? 1.0f : value < 0 ? -1.0f : 0.0f;
      return static_cast<std::int16_t>(std::lround(std::clamp(value * 32768.0f, -32768.0f, 32767.0f)));
    });
    out.write(std::as_bytes(std::span(whole)));
  }
  out.commit();
}

}  // namespace runnel::io
