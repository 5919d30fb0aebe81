// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/io/wav_layout.hpp>

#include "audio_source.hpp"
#include "console.hpp"

namespace runnel::cli {

/// Samples from a pipe or standard input: a WAV stream, or raw ones.
///
/// A stream that begins as WAV files do is one, whatever was said of raw samples. Its lengths are believed as far as
/// they can be: 0, 2^32 - 1 and the greatest ones (2^31 - 2^12 and more) are what recorders write that cannot know;
/// then everything up to the end is audio. What there is goes on at once, however little it is.
class pcm_stream final : public audio_source {
 public:
  /// `path` "-" is standard input; `raw` says how samples lie where there is no header. Throws io_error.
  explicit pcm_stream(const std::string& path, const std::optional<io::wav_layout>& raw = {});

  /// Throws format_error for what is neither. The first signal ends what comes live, as if it had been closed: what
  /// lies in the pipe is read once more. A plain file throws cancelled_error then.
  bool take(std::vector<float>& to) override;
  void wait() override;
  /// Whether it comes as it comes, unlike a plain file.
  [[nodiscard]] bool is_live() const noexcept { return !bytes_.is_regular(); }

 private:
  enum class stage : std::uint8_t { magic, chunk, data };

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const;
  void read_header();
  /// One step of the header; false: more bytes are needed.
  bool read_magic();
  bool read_chunk();
  void begin_data(std::uint64_t size);
  void skip();
  void decode(std::vector<float>& to);
  void finish();

  [[nodiscard]] std::span<const std::byte> pending() const {
    return std::as_bytes(std::span(pending_.data(), pending_.size()));
  }

  byte_source bytes_;
  std::optional<io::wav_layout> raw_;
  std::string pending_;
  stage stage_ = stage::magic;
  bool is_long_ = false;         // RF64
  std::uint64_t long_data_ = 0;  // of its ds64 chunk
  std::uint64_t skip_ = 0;       // bytes of a chunk that nobody wants
  std::optional<io::wav_layout> layout_;
  std::optional<std::uint64_t> left_;  // bytes of the data chunk; nothing: up to the end
  bool closing_ = false;               // a signal came
};

}  // namespace runnel::cli
