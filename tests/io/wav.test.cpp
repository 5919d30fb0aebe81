// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <runnel/io/wav.hpp>

#include "support.hpp"

namespace {

using namespace runnel_test;
using runnel::index_t;
using runnel::io::wav_file;
using runnel::io::wav_format;

std::string chunk(std::string_view id, std::string_view content) {
  byte_builder out;
  out.raw(id).number(static_cast<std::uint32_t>(content.size())).raw(content);
  if (content.size() % 2 != 0) out.zeros(1);
  return out.text();
}

std::string fmt(int tag, int channels, int bits, std::uint32_t rate = 16000) {
  const int frame = channels * bits / 8;
  byte_builder out;
  out.number(static_cast<std::uint16_t>(tag)).number(static_cast<std::uint16_t>(channels)).number(rate);
  out.number(static_cast<std::uint32_t>(frame) * rate).number(static_cast<std::uint16_t>(frame));
  return out.number(static_cast<std::uint16_t>(bits)).text();
}

std::string extensible(int sub, int channels, int bits) {
  byte_builder out;
  out.raw(fmt(0xFFFE, channels, bits)).number(std::uint16_t{22}).number(static_cast<std::uint16_t>(bits));
  out.number(std::uint32_t{3}).number(static_cast<std::uint16_t>(sub));
  return out.raw(std::string_view("\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 14)).text();
}

std::string riff(std::string_view chunks, std::string_view magic = "RIFF") {
  return byte_builder().raw(magic).number(std::uint32_t{7}).raw("WAVE").raw(chunks).text();  // the size is a lie
}

wav_file open(const std::string& bytes) { return wav_file(in_memory(bytes, "some.wav")); }

template <class T>
std::string numbers(const std::vector<T>& values) {
  byte_builder out;
  for (const T value : values) out.number(value);
  return out.text();
}

void check_values(const wav_file& file, const std::vector<float>& expected) {
  const auto found = file.read(0, file.num_frames());
  CHECK(found.values == expected);
}

}  // namespace

TEST_CASE("every sample format, plain and extensible") {
  for (const bool wide : {false, true}) {
    const auto make = [&](int tag, int bits, const std::string& data) {
      return open(riff(chunk("fmt ", wide ? extensible(tag, 1, bits) : fmt(tag, 1, bits)) + chunk("data", data)));
    };
    check_values(make(1, 8, numbers<std::uint8_t>({0, 128, 192, 255})), {-1, 0, 0.5f, 127.0f / 128});
    check_values(make(1, 16, numbers<std::int16_t>({-32768, 0, 16384, 32767})), {-1, 0, 0.5f, 32767.0f / 32768});
    check_values(make(1, 24, std::string("\0\0\x80\0\0\0\0\0\x40\xff\xff\xff", 12)), {-1, 0, 0.5f, -1.0f / 8388608});
    check_values(make(1, 32, numbers<std::int32_t>({std::numeric_limits<std::int32_t>::min(), 0, 1 << 30})),
                 {-1, 0, 0.5f});
    check_values(make(3, 32, numbers<float>({-1.5f, 0, 1e-30f})), {-1.5f, 0, 1e-30f});
    check_values(make(3, 64, numbers<double>({-0.25, 0.1, 3})), {-0.25f, 0.1f, 3});
  }
}

TEST_CASE("samples that are not finite become 0 and are counted") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto wide =
      open(riff(chunk("fmt ", fmt(3, 2, 64)) + chunk("data", numbers<double>({nan, 1, 0.5, -inf, 1e300, 0}))));
  const auto all = wide.read(0, 3);
  CHECK(all.values == std::vector<float>{0, 1, 0.5f, 0, 0, 0});
  CHECK(all.replaced == 3);
  const auto mono = wide.read_mono(0, 2);
  CHECK(mono.values == std::vector<float>{0.5f, 0.25f});
  CHECK(mono.replaced == 2);
  CHECK(wide.read(1, 0).values.empty());
}

TEST_CASE("chunks in any order, odd ones padded, unknown ones skipped") {
  const auto data = chunk("data", numbers<std::int16_t>({1, 2, 3, 4}));
  const auto format = chunk("fmt ", fmt(1, 2, 16, 44100));
  const auto odd = chunk("LIST", "abc"), more = chunk("junk", std::string(1000, 'x'));
  for (const auto& order :
       {format + data, data + format, odd + format + more + data + odd, more + data + odd + format}) {
    const auto file = open(riff(order));
    CHECK(file.channels() == 2);
    CHECK(file.sample_rate() == 44100);
    CHECK(file.num_frames() == 2);
    CHECK_FALSE(file.truncated());
    file.release_before(2);  // only a hint
    CHECK(file.read_mono().values == std::vector<float>{1.5f / 32768, 3.5f / 32768});
  }
  const auto first = open(riff(format + data + chunk("data", numbers<std::int16_t>({9, 9}))));
  CHECK(first.num_frames() == 2);
}

TEST_CASE("any rate and any number of channels") {
  for (const std::uint32_t rate : {1u, 8000u, 11025u, 16000u, 22050u, 32000u, 44100u, 48000u, 192000u}) {
    for (const int channels : {1, 2, 3, 6, 8, 1000}) {
      std::vector<float> values(static_cast<std::size_t>(2 * channels), 0.5f);
      values.back() = -0.5f;
      const auto file = open(riff(chunk("fmt ", fmt(3, channels, 32, rate)) + chunk("data", numbers(values))));
      CHECK(file.sample_rate() == rate);
      CHECK(file.num_frames() == 2);
      CHECK(file.seconds() == doctest::Approx(2.0 / rate));
      const auto mono = file.read_mono();
      CHECK(mono.values[0] == 0.5f);
      CHECK(mono.values[1] == doctest::Approx((channels - 2) * 0.5 / channels));
      CHECK(mono.values == runnel::io::mix_to_mono(values, channels));
    }
  }
  CHECK_THROWS_AS((void)runnel::io::mix_to_mono(std::vector<float>(3), 2), runnel::shape_error);
}

TEST_CASE("truncated data is read as far as it goes, and says so") {
  const auto whole = riff(chunk("fmt ", fmt(1, 2, 16)) + chunk("data", numbers<std::int16_t>({1, 2, 3, 4, 5, 6})));
  for (std::size_t cut = 1; cut <= 12; ++cut) {
    const auto file = open(whole.substr(0, whole.size() - cut));
    CHECK(file.truncated());
    CHECK(file.num_frames() == static_cast<index_t>((12 - cut) / 4));
  }
  CHECK_FALSE(open(whole).truncated());
  // A recorder that writes to a pipe leaves the length open.
  const auto live = riff(chunk("fmt ", fmt(1, 1, 16)) + "data\xff\xff\xff\xff" + numbers<std::int16_t>({1, 2, 3}));
  CHECK(open(live).num_frames() == 3);
  CHECK_FALSE(open(live).truncated());
  // One that was killed leaves it at 0, and the file's own length with it.
  for (const std::uint32_t size : {0u, 0xFFFFFFFFu}) {
    const auto killed = byte_builder().raw("RIFF").number(size).raw("WAVE").raw(chunk("fmt ", fmt(1, 1, 16)));
    const std::string start = killed.text() + std::string("data\0\0\0\0", 8);
    CHECK(open(start).num_frames() == 0);
    CHECK(open(start + numbers<std::int16_t>({1, 2, 3})).num_frames() == 3);
    CHECK_FALSE(open(start + numbers<std::int16_t>({1, 2, 3})).truncated());
  }
  const auto none = riff(chunk("fmt ", fmt(1, 1, 16)) + chunk("data", "") + chunk("LIST", "abcd"));
  CHECK(open(none).num_frames() == 0);
  const auto within =
      riff(chunk("fmt ", fmt(1, 1, 16)) + "data" + numbers<std::uint32_t>({3}) + std::string("\1\0\2\0", 4));
  CHECK(open(within).num_frames() == 1);
  CHECK(open(within).truncated());
  const auto empty = open(riff(chunk("fmt ", fmt(1, 1, 16)) + chunk("data", "")));
  CHECK(empty.num_frames() == 0);
  CHECK(empty.read_mono().values.empty());
}

TEST_CASE("64-bit sizes") {
  const auto sizes =
      byte_builder().number(std::uint64_t{99}).number(std::uint64_t{4}).number(std::uint64_t{2}).zeros(4);
  const auto file = open(riff(chunk("ds64", sizes.text()) + chunk("fmt ", fmt(1, 1, 16)) + "data\xff\xff\xff\xff" +
                                  numbers<std::int16_t>({1, 2}) + chunk("LIST", "tail"),
                              "RF64"));
  CHECK(file.num_frames() == 2);
  CHECK_FALSE(file.truncated());
}

TEST_CASE("what is refused, and how") {
  const auto refuses = [](const std::string& bytes, const char* text) {
    CHECK(failure<runnel::format_error>([&] { (void)open(bytes); }) == text);
  };
  const auto data = chunk("data", "abcd");
  refuses("RIFF", "some.wav: expected a WAV file, found 4 bytes");
  refuses("OggSxxxxxxxxxxxx", "some.wav: expected a WAV file (RIFF), found 'OggS'");
  refuses("RIFXxxxxWAVE", "some.wav: expected a little-endian WAV file (RIFF), found a big-endian one (RIFX)");
  refuses("RIFFxxxxAVI xxxx", "some.wav: expected a RIFF file of kind 'WAVE', found 'AVI '");
  refuses(riff(data), "some.wav: expected a chunk 'fmt ', found none");
  refuses(riff(chunk("fmt ", fmt(1, 1, 16))), "some.wav: expected a chunk 'data', found none");
  refuses(
      riff(chunk("fmt ", fmt(6, 1, 8)) + data),
      "some.wav: expected PCM (format 1) of 8, 16, 24 or 32 bits or float (format 3) of 32 or 64, found format 6 of 8 "
      "bits");
  refuses(riff(chunk("fmt ", fmt(1, 0, 16)) + data), "some.wav: channels: expected at least 1, found 0");
  refuses(riff(chunk("fmt ", fmt(1, 1, 16, 0)) + data), "some.wav: sample rate: expected a positive number, found 0");
  auto wrong = fmt(1, 2, 16);
  wrong[12] = 6;
  refuses(riff(chunk("fmt ", wrong) + data), "some.wav: expected 4 bytes a frame (2 channels of 16 bits), found 6");
  auto other = extensible(1, 1, 16);
  other.back() = 0;
  refuses(riff(chunk("fmt ", other) + data), "some.wav: sub-format: expected PCM or float");
  const auto file = open(riff(chunk("fmt ", fmt(1, 1, 16)) + data));
  for (const auto& [first, count] :
       {std::pair<index_t, index_t>{-1, 1}, {0, 3}, {3, 0}, {1, -1}, {1, std::numeric_limits<index_t>::max()}}) {
    CHECK_THROWS_AS((void)file.read(first, count), runnel::config_error);
  }
}

TEST_CASE("what is written is read again") {
  const scratch_folder folder;
  const std::vector<float> values{0, 0.5f, -0.25f, 1.5f, -7, 1.0f / 32768};
  runnel::io::write_wav(folder / "a.wav", values, {8000, 2, wav_format::float32});
  const wav_file a(folder / "a.wav");
  CHECK(a.sample_rate() == 8000);
  CHECK(a.channels() == 2);
  CHECK(a.format() == wav_format::float32);
  check_values(a, values);
  auto strange = values;
  strange.push_back(std::numeric_limits<float>::quiet_NaN());
  strange.push_back(-std::numeric_limits<float>::infinity());
  runnel::io::write_wav(folder / "b.wav", strange);
  check_values(wav_file(folder / "b.wav"), {0, 0.5f, -0.25f, 32767.0f / 32768, -1, 1.0f / 32768, 0, -1});
  CHECK_THROWS_AS(runnel::io::write_wav(folder / "c.wav", values, {8000, 4}), runnel::config_error);
  CHECK_THROWS_AS(runnel::io::write_wav(folder / "c.wav", values, {0, 1}), runnel::config_error);
  CHECK_THROWS_AS(runnel::io::write_wav(folder / "c.wav", values, {1, 1, wav_format::pcm24}), runnel::config_error);
  CHECK_THROWS_AS(wav_file(folder / "none.wav"), runnel::io_error);
}
