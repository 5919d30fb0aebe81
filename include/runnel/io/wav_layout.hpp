// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/io/checked.hpp>

/// \file
/// How samples lie in a WAV file or stream: shared by `wav_file` and by readers of audio that has no end yet.

namespace runnel::io {

/// How samples lie in a WAV file.
enum class wav_format : std::uint8_t { pcm8, pcm16, pcm24, pcm32, float32, float64 };

/// Bytes of one sample of one channel.
[[nodiscard]] constexpr std::uint64_t bytes_of(wav_format format) noexcept {
  switch (format) {
    case wav_format::pcm8: return 1;
    case wav_format::pcm16: return 2;
    case wav_format::pcm24: return 3;
    case wav_format::pcm32:
    case wav_format::float32: break;
    case wav_format::float64: return 8;
  }
  return 4;
}

/// What a WAV file's fmt chunk says.
struct wav_layout {
  wav_format format = wav_format::pcm16;
  index_t channels = 1;
  index_t sample_rate = 0;

  [[nodiscard]] std::uint64_t bytes_a_frame() const noexcept {
    return bytes_of(format) * static_cast<std::uint64_t>(channels);
  }
};

/// Samples of a stretch of audio in [-1, 1], or beyond where a file holds floats.
struct wav_samples {
  std::vector<float> values;   ///< channels of a frame side by side
  std::uint64_t replaced = 0;  ///< samples that were NaN, infinite or beyond float: they are 0 here
};

namespace detail {

[[nodiscard]] inline wav_format wav_format_of(std::uint16_t tag, std::uint16_t bits, std::string_view name) {
  if (tag == 1 && bits == 8) return wav_format::pcm8;
  if (tag == 1 && bits == 16) return wav_format::pcm16;
  if (tag == 1 && bits == 24) return wav_format::pcm24;
  if (tag == 1 && bits == 32) return wav_format::pcm32;
  if (tag == 3 && bits == 32) return wav_format::float32;
  if (tag == 3 && bits == 64) return wav_format::float64;
  fail<format_error>(name,
                     ": expected PCM (format 1) of 8, 16, 24 or 32 bits or float (format 3) of 32 or 64, found format ",
                     tag, " of ", bits, " bits");
}

template <class T>
[[nodiscard]] T wav_number(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

[[nodiscard]] inline float finite_sample(double value, std::uint64_t& replaced) noexcept {
  if (std::fabs(value) <= static_cast<double>(std::numeric_limits<float>::max())) return static_cast<float>(value);
  ++replaced;
  return 0;
}

[[nodiscard]] inline float decode_sample(wav_format format, const std::byte* from, std::uint64_t& replaced) noexcept {
  switch (format) {
    case wav_format::pcm8: return static_cast<float>(std::to_integer<int>(*from) - 128) / 128.0f;
    case wav_format::pcm16: return static_cast<float>(wav_number<std::int16_t>(from)) / 32768.0f;
    case wav_format::pcm24: {
      const auto byte = [&](int i) { return std::to_integer<std::uint32_t>(from[i]); };
      const auto top = (byte(0) << 8) | (byte(1) << 16) | (byte(2) << 24);
      return static_cast<float>(static_cast<std::int32_t>(top)) / 2147483648.0f;
    }
    case wav_format::pcm32: return static_cast<float>(wav_number<std::int32_t>(from)) / 2147483648.0f;
    case wav_format::float32: return finite_sample(static_cast<double>(wav_number<float>(from)), replaced);
    case wav_format::float64: break;
  }
  return finite_sample(wav_number<double>(from), replaced);
}

}  // namespace detail

/// Reads a fmt chunk. Throws format_error (naming `name`, what was expected and what was found) for samples of another
/// kind than PCM of 8, 16, 24 or 32 bits and float of 32 or 64, and for numbers that contradict each other.
[[nodiscard]] inline wav_layout read_wav_layout(std::span<const std::byte> chunk, std::string_view name) {
  byte_reader in(chunk, name);
  in.about("chunk", "fmt ");
  wav_layout out;
  auto tag = in.number<std::uint16_t>("format");
  out.channels = in.number<std::uint16_t>("channels");
  out.sample_rate = in.number<std::uint32_t>("sample rate");
  (void)in.number<std::uint32_t>("bytes a second");
  const auto frame = in.number<std::uint16_t>("bytes a frame");
  const auto bits = in.number<std::uint16_t>("bits a sample");
  constexpr std::uint16_t extensible = 0xFFFE;
  if (tag == extensible) {
    (void)in.take(8, "extension");  // its size, valid bits (samples lie at the top, so all are read) and speakers
    tag = in.number<std::uint16_t>("sub-format");
    constexpr std::array<unsigned char, 14> rest{0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    const auto found = in.take(rest.size(), "sub-format");
    expect<format_error>(std::memcmp(found.data(), rest.data(), rest.size()) == 0, name,
                         ": sub-format: expected PCM or float");
  }
  expect<format_error>(out.channels > 0, name, ": channels: expected at least 1, found 0");
  expect<format_error>(out.sample_rate > 0, name, ": sample rate: expected a positive number, found 0");
  out.format = detail::wav_format_of(tag, bits, name);
  expect<format_error>(frame == out.bytes_a_frame(), name, ": expected ", out.bytes_a_frame(), " bytes a frame (",
                       out.channels, " channels of ", bits, " bits), found ", frame);
  return out;
}

/// The samples of whole frames, channels side by side; bytes after the last whole frame are left.
[[nodiscard]] inline wav_samples decode_wav(const wav_layout& layout, std::span<const std::byte> frames) {
  wav_samples out;
  const std::uint64_t count = frames.size() / layout.bytes_a_frame() * static_cast<std::uint64_t>(layout.channels);
  out.values.resize(static_cast<std::size_t>(count));
  const std::byte* from = frames.data();
  for (float& value : out.values) {
    value = detail::decode_sample(layout.format, from, out.replaced);
    from += bytes_of(layout.format);
  }
  return out;
}

/// The same as one channel: the mean of all.
[[nodiscard]] inline wav_samples decode_wav_to_mono(const wav_layout& layout, std::span<const std::byte> frames) {
  wav_samples out;
  out.values.resize(static_cast<std::size_t>(frames.size() / layout.bytes_a_frame()));
  const std::byte* from = frames.data();
  for (float& value : out.values) {
    double sum = 0;
    for (index_t channel = 0; channel < layout.channels; ++channel, from += bytes_of(layout.format)) {
      sum += static_cast<double>(detail::decode_sample(layout.format, from, out.replaced));
    }
    value = static_cast<float>(sum / static_cast<double>(layout.channels));
  }
  return out;
}

}  // namespace runnel::io
