// SPDX-License-Identifier: Apache-2.0

#include "pcm_stream.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <runnel/core/error.hpp>

namespace runnel::cli {

namespace {

constexpr std::size_t magic_size = 12;
constexpr std::size_t chunk_head = 8;
constexpr std::uint32_t open_length = 0xFFFFFFFFU;
constexpr std::uint32_t endless_length = 0x7FFFF000U;

template <class T>
T number(std::string_view bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

bool begins_as_wav(std::string_view bytes) { return bytes.starts_with("RIFF") || bytes.starts_with("RF64"); }

/// Whether more bytes could make it the beginning of a WAV stream.
bool may_become_wav(std::string_view bytes) {
  const auto first = bytes.substr(0, 4);
  if (!std::string_view("RIFF").starts_with(first) && !std::string_view("RF64").starts_with(first)) return false;
  return bytes.size() <= 8 || std::string_view("WAVE").starts_with(bytes.substr(8, 4));
}

/// What a stream is that begins so, for messages.
std::string kind_of(std::string_view bytes) {
  for (const auto& [magic, kind] : {std::pair("fLaC", "FLAC"), std::pair("OggS", "Ogg"), std::pair("ID3", "MP3"),
                                    std::pair("FORM", "AIFF"), std::pair("RIFX", "big-endian WAV")}) {
    if (bytes.starts_with(magic)) return message(kind, " (give it as a file, or decode it into the pipe)");
  }
  if (bytes.empty()) return "nothing";
  return message('\'', printable(bytes.substr(0, 4)), '\'');
}

}  // namespace

pcm_stream::pcm_stream(const std::string& path, const std::optional<io::wav_layout>& raw) : bytes_(path), raw_(raw) {
  facts_.name = bytes_.name();
}

template <class... Parts>
void pcm_stream::fail(const Parts&... parts) const {
  runnel::fail<format_error>(bytes_.name(), ": ", parts...);
}

bool pcm_stream::take(std::vector<float>& to) {
  if (ended_) return true;
  const bool signalled = interrupts::instance().signal() != 0;
  if (bytes_.is_regular()) interrupts::instance().check();
  const bool came = bytes_.take(pending_);
  closing_ = signalled;
  if (!came && !closing_) return false;
  read_header();
  const std::size_t before = to.size();
  if (stage_ == stage::data) decode(to);
  if (!ended_ && (bytes_.ended() || closing_)) finish();
  return ended_ || to.size() > before;
}

void pcm_stream::wait() {
  if (ended_) return;
  try {
    bytes_.wait();
  } catch (const cancelled_error&) {
    if (bytes_.is_regular()) throw;
  }
}

void pcm_stream::read_header() {
  for (;;) {
    skip();
    if (skip_ > 0 || stage_ == stage::data) return;
    if (!(stage_ == stage::magic ? read_magic() : read_chunk())) return;
  }
}

void pcm_stream::skip() {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, pending_.size()));
  pending_.erase(0, count);
  skip_ -= count;
}

bool pcm_stream::read_magic() {
  const bool over = bytes_.ended() || closing_;
  if (may_become_wav(pending_) && pending_.size() < magic_size && !over) return false;
  if (pending_.size() >= magic_size && begins_as_wav(pending_) && may_become_wav(pending_)) {
    is_long_ = pending_.starts_with("RF64");
    pending_.erase(0, magic_size);
    stage_ = stage::chunk;
    return true;
  }
  if (!raw_) {
    if (begins_as_wav(pending_)) fail("expected a WAV stream, found ", pending_.size(), " bytes of one");
    fail("expected a WAV stream or, with --rate, raw samples; found ", kind_of(pending_));
  }
  layout_ = raw_;
  begin_data(open_length);
  return true;
}

bool pcm_stream::read_chunk() {
  if (pending_.size() < chunk_head) return false;
  const auto id = std::string_view(pending_).substr(0, 4);
  const auto size = number<std::uint32_t>(pending_, 4);
  if (id == "data") {
    if (!layout_) fail("expected the chunk 'fmt ' before the chunk 'data'");
    pending_.erase(0, chunk_head);
    begin_data(is_long_ && size == open_length && long_data_ != 0 ? long_data_ : size);
    return true;
  }
  constexpr std::uint32_t most = 1U << 16U;
  if (id == "fmt " || (id == "ds64" && is_long_)) {
    if (size > most) fail("chunk '", id, "': expected at most ", most, " bytes, found ", size);
    if (pending_.size() < chunk_head + size) return false;
    const auto content = pending().subspan(chunk_head, size);
    if (id == "fmt ") {
      if (layout_) fail("expected one chunk 'fmt ', found another");
      layout_ = io::read_wav_layout(content, bytes_.name());
    } else if (size >= 16) {
      long_data_ = number<std::uint64_t>(pending_, chunk_head + 8);
    }
  }
  skip_ = chunk_head + std::uint64_t{size} + size % 2;
  return true;
}

void pcm_stream::begin_data(std::uint64_t size) {
  stage_ = stage::data;
  facts_.sample_rate = layout_->sample_rate;
  facts_.channels = layout_->channels;
  const bool is_open = size == 0 || (size >= endless_length && size <= open_length && long_data_ == 0);
  if (!is_open) left_ = size;
}

void pcm_stream::decode(std::vector<float>& to) {
  const std::uint64_t frame = layout_->bytes_a_frame();
  const std::uint64_t there = left_ ? std::min<std::uint64_t>(*left_, pending_.size()) : pending_.size();
  const std::uint64_t count = there / frame * frame;
  const auto samples = io::decode_wav_to_mono(*layout_, pending().first(static_cast<std::size_t>(count)));
  pending_.erase(0, static_cast<std::size_t>(count));
  facts_.replaced += samples.replaced;
  facts_.add(samples.values, bits_of(layout_->format));
  to.insert(to.end(), samples.values.begin(), samples.values.end());
  if (!left_) return;
  *left_ -= count;
  if (*left_ >= frame) return;
  facts_.truncated = *left_ != 0;  // the chunk itself ends within a frame
  ended_ = true;
}

void pcm_stream::finish() {
  ended_ = true;
  if (stage_ != stage::data) {
    if (closing_) return;
    fail("the stream ends within its header");
  }
  facts_.truncated = !closing_ && (left_.value_or(0) > 0 || !pending_.empty());
}

}  // namespace runnel::cli
