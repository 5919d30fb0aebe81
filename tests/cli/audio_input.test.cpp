// SPDX-License-Identifier: Apache-2.0
// How the tool reads audio: files, pipes, rates, and what is wrong with them.

#include "audio_input.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <sys/stat.h>

#if defined(RUNNEL_CLI_SNDFILE)
#include <sndfile.h>
#endif

#include <runnel/core/error.hpp>
#include <runnel/io/wav.hpp>

#include "audio_paths.hpp"
#include "io/support.hpp"

namespace {

using namespace runnel_test;
using runnel::index_t;
using runnel::cli::audio_input;
using runnel::io::wav_format;
using runnel::io::wav_layout;
using samples = std::vector<float>;

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  file.close();
  REQUIRE(file.good());
}

struct header {
  int tag = 1;
  int bits = 16;
  int channels = 1;
  std::uint32_t rate = 8000;
};

std::string fmt(const header& how) {
  const int frame = how.channels * how.bits / 8;
  byte_builder out;
  out.raw("fmt ").number(std::uint32_t{16}).number(static_cast<std::uint16_t>(how.tag));
  out.number(static_cast<std::uint16_t>(how.channels)).number(how.rate);
  out.number(static_cast<std::uint32_t>(frame) * how.rate).number(static_cast<std::uint16_t>(frame));
  return out.number(static_cast<std::uint16_t>(how.bits)).text();
}

/// A WAV file whose data chunk says it has `size` bytes.
std::string wav(const header& how, std::string_view data, std::uint32_t size, std::string_view between = {}) {
  byte_builder out;
  out.raw("RIFF").number(std::uint32_t{36} + size).raw("WAVE").raw(fmt(how)).raw(between).raw("data").number(size);
  return out.raw(data).text();
}
std::string wav(const header& how, std::string_view data) {
  return wav(how, data, static_cast<std::uint32_t>(data.size()));
}

template <class T>
std::string numbers(const std::vector<T>& values) {
  byte_builder out;
  for (const T value : values) out.number(value);
  return out.text();
}

samples read_all(audio_input& from) {
  samples all;
  while (!from.ended()) {
    from.wait();
    from.take(all);
  }
  CHECK(static_cast<std::int64_t>(all.size()) == from.num_samples());
  return all;
}

samples read_file(const std::filesystem::path& path, index_t rate = 8000) {
  audio_input from(path.string(), rate);
  CHECK_FALSE(from.is_live());
  return read_all(from);
}

samples random_samples(std::size_t count, unsigned seed = 1) {
  std::mt19937 draw(seed);
  samples out(count);
  for (float& one : out) one = static_cast<float>(draw() % 60000) / 32768 - 0.9F;
  return out;
}

/// A pipe with a name, and a writer that the test steps.
class named_pipe {
 public:
  explicit named_pipe(const std::filesystem::path& path) : path_(path) {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    std::thread([this] { to_.open(path_, std::ios::binary); }).swap(opener_);
  }
  named_pipe(const named_pipe&) = delete;
  named_pipe& operator=(const named_pipe&) = delete;
  ~named_pipe() { opened(); }

  /// After the reader opened it.
  void opened() {
    if (opener_.joinable()) opener_.join();
  }
  void write(std::string_view bytes) {
    opened();
    to_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    to_.flush();
  }
  void close() {
    opened();
    to_.close();
  }
  [[nodiscard]] std::string name() const { return path_.string(); }

 private:
  std::filesystem::path path_;
  std::ofstream to_;
  std::thread opener_;
};

/// What a stream of these bytes gives, handed over in pieces of `piece` bytes.
samples read_stream(std::string_view bytes, std::size_t piece, const std::optional<wav_layout>& raw = {},
                    runnel::cli::audio_facts* facts = nullptr, index_t rate = 8000) {
  const scratch_folder folder;
  named_pipe pipe(folder / "pipe");
  audio_input from(pipe.name(), rate, raw);
  CHECK(from.is_live());
  samples all;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    pipe.write(bytes.substr(at, piece));
    from.take(all);
  }
  pipe.close();
  while (!from.ended()) from.take(all);
  if (facts != nullptr) *facts = from.facts();
  return all;
}

}  // namespace

TEST_CASE("audio: every kind of WAV file gives its samples, channels mixed") {
  const scratch_folder folder;
  const auto path = folder / "a.wav";
  const std::string bytes(4800, '\x41');
  for (const auto& kind : {std::pair(1, 8), {1, 16}, {1, 24}, {1, 32}, {3, 32}, {3, 64}}) {
    const int bits = kind.second;
    for (const int channels : {1, 2, 5}) {
      CAPTURE(bits);
      CAPTURE(channels);
      write_bytes(path, wav({kind.first, bits, channels}, bytes));
      const runnel::io::wav_file file(path);
      const auto all = read_file(path);
      CHECK(all == file.read_mono().values);
      CHECK(static_cast<int>(all.size()) == 4800 * 8 / bits / channels);
    }
  }
}

TEST_CASE("audio: what is wrong with a file is stated") {
  const scratch_folder folder;
  const auto path = folder / "a.wav";
  const auto facts_of = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    audio_input from(path.string(), 8000);
    read_all(from);
    return from.facts();
  };
  using runnel::cli::describe_oddities;
  const auto good = numbers<std::int16_t>({1, -5, 32000, 4});
  CHECK(describe_oddities(facts_of(wav({}, good))).empty());
  CHECK(describe_oddities(facts_of(wav({}, std::string(1600, '\0')))).empty());  // silence is audio

  const auto none = facts_of(wav({}, ""));
  CHECK(none.frames == 0);
  CHECK(describe_oddities(none) == "has no sound");

  const auto cut = facts_of(wav({}, good, 4000));
  CHECK(cut.truncated);
  CHECK(cut.frames == 4);
  CHECK(describe_oddities(cut).starts_with("is truncated"));
  CHECK(facts_of(wav({}, good + "x")).truncated);
  CHECK_FALSE(facts_of(wav({}, good, 0xFFFFFFFF)).truncated);

  const auto loud = facts_of(wav({}, numbers<std::int16_t>({32767, -32768, 32766, -32767, 0})));
  CHECK(loud.clipped == 3);
  CHECK(facts_of(wav({1, 8}, std::string("\x00\xff\xfe\x80", 4))).clipped == 2);
  CHECK(facts_of(wav({3, 32}, numbers<float>({1, -1, 5, 0.9F}))).clipped == 3);
  CHECK(facts_of(wav({1, 16, 2}, numbers<std::int16_t>({32767, 0, 32767, 32767}))).clipped == 1);

  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const auto bad = facts_of(wav({3, 32}, numbers<float>({nan, 0.5F, -inf, inf})));
  CHECK(bad.replaced == 3);
  CHECK(describe_oddities(bad).find("3 samples") != std::string::npos);
  CHECK(read_file(path) == samples{0, 0.5F, 0, 0});
}

TEST_CASE("audio: what is no audio is refused, and named") {
  const scratch_folder folder;
  const auto refused = [&](std::string_view name, const std::string& bytes, std::string_view part) {
    CAPTURE(name);
    write_bytes(folder / name, bytes);
    try {
      (void)read_file(folder / name);
      FAIL("was read");
    } catch (const runnel::error& problem) {
      CHECK(std::string(problem.what()).find(name) != std::string::npos);
      CHECK(std::string(problem.what()).find(part) != std::string::npos);
    }
  };
  refused("empty.wav", "", "is empty");
  refused("text.wav", "This is a text, which is no audio", "");
  refused("short.wav", "RIFF", "");
  refused("slow.wav", wav({1, 16, 1, 500}, "aabb"), "500");
  refused("fast.wav", wav({1, 16, 1, 4'000'000}, "aabb"), "4000000");
  refused("channels.wav", wav({1, 16, 0}, "aabb"), "");
  CHECK_THROWS_AS(audio_input((folder / "missing.wav").string(), 8000), runnel::io_error);
  CHECK_THROWS_AS(audio_input(folder.path().string(), 8000), runnel::io_error);
}

TEST_CASE("audio: a WAV stream gives the same in any pieces") {
  const auto numbers_of = random_samples(1000);
  std::vector<std::int16_t> whole(numbers_of.size());
  std::transform(numbers_of.begin(), numbers_of.end(), whole.begin(),
                 [](float one) { return static_cast<std::int16_t>(one * 32768); });
  const auto data = numbers(whole);
  samples expected;
  for (const auto one : whole) expected.push_back(static_cast<float>(one) / 32768);
  const auto list = byte_builder().raw("LIST").number(std::uint32_t{5}).raw("abcde").zeros(1).text();
  for (const std::uint32_t size :
       {static_cast<std::uint32_t>(data.size()), 0U, 0xFFFFFFFFU, 0x7FFFF000U, 0x7FFFFFFFU}) {
    for (const std::size_t piece : {1U, 7U, 44U, 500U, 100'000U}) {
      CAPTURE(size);
      CAPTURE(piece);
      runnel::cli::audio_facts facts;
      CHECK(read_stream(wav({}, data, size, list), piece, {}, &facts) == expected);
      CHECK_FALSE(facts.truncated);
      CHECK(facts.frames == 1000);
    }
  }
  runnel::cli::audio_facts facts;
  CHECK(read_stream(wav({}, data, 2000) + list, 99, {}, &facts) == expected);  // what follows the data is not sound
  CHECK_FALSE(facts.truncated);
  CHECK(read_stream(wav({}, data, 2002), 99, {}, &facts) == expected);
  CHECK(facts.truncated);
  CHECK(read_stream(wav({}, data + "x", 0), 99, {}, &facts) == expected);
  CHECK(facts.truncated);
  CHECK(read_stream(wav({}, ""), 99).empty());
  const auto sizes =
      byte_builder().raw("ds64").number(std::uint32_t{28}).zeros(8).number(std::uint64_t{2000}).zeros(12);
  std::string large = wav({}, data, 0xFFFFFFFF).replace(0, 4, "RF64");
  large.insert(12, sizes.text());
  CHECK(read_stream(large + "more", 99, {}, &facts) == expected);
}

TEST_CASE("audio: raw streams, in every format") {
  const auto heard = [](wav_format format, index_t channels, const std::string& bytes, std::size_t piece = 3) {
    return read_stream(bytes, piece, wav_layout{format, channels, 8000});
  };
  CHECK(heard(wav_format::pcm8, 1, std::string("\x00\x80\xc0", 3)) == samples{-1, 0, 0.5F});
  CHECK(heard(wav_format::pcm16, 1, numbers<std::int16_t>({-32768, 16384})) == samples{-1, 0.5F});
  CHECK(heard(wav_format::pcm16, 2, numbers<std::int16_t>({-32768, 16384, 1, 3})) == samples{-0.25F, 2.0F / 32768});
  CHECK(heard(wav_format::pcm24, 1, std::string("\0\0\x80\0\0\x40", 6), 1) == samples{-1, 0.5F});
  CHECK(heard(wav_format::pcm32, 1, numbers<std::int32_t>({1 << 30})) == samples{0.5F});
  CHECK(heard(wav_format::float32, 1, numbers<float>({0.1F, NAN, 7})) == samples{0.1F, 0, 7});
  CHECK(heard(wav_format::pcm16, 1, "").empty());
  CHECK(heard(wav_format::pcm8, 1, "RI") == heard(wav_format::pcm8, 1, "RI", 1));  // could have become a header
  CHECK(heard(wav_format::pcm8, 1, "RI").size() == 2);
  CHECK(heard(wav_format::pcm8, 1, "RIFFxxxxWAVX", 1).size() == 12);
  // A header is believed more than the command line.
  CHECK(heard(wav_format::pcm8, 1, wav({}, numbers<std::int16_t>({16384}))) == samples{0.5F});
}

TEST_CASE("audio: streams that are no audio are refused") {
  const auto refused = [](const std::string& bytes, std::string_view part) {
    CAPTURE(bytes);
    try {
      (void)read_stream(bytes, 5);
      FAIL("was read");
    } catch (const runnel::format_error& problem) {
      CHECK(std::string(problem.what()).find(part) != std::string::npos);
    }
  };
  refused("", "nothing");
  refused("Hello", "'Hell'");
  refused("fLaC....", "FLAC");
  refused("RIFFxxxxWAV", "expected a WAV stream");
  refused("RIFFxxxxWAVE", "ends within its header");
  refused(wav({}, "ab").substr(0, 30), "ends within its header");
  refused("RIFFxxxxWAVEdata" + std::string(40, '\0'), "before the chunk 'data'");
  refused("RIFFxxxxWAVEfmt \xff\xff\xff\x7f" + std::string(40, '\0'), "at most");
  refused("RIFFxxxxWAVE" + fmt({7, 8}) + "data" + std::string(40, '\0'), "format 7");
}

TEST_CASE("audio: a pipe that stalls gives what is there, at once") {
  const scratch_folder folder;
  named_pipe pipe(folder / "pipe");
  audio_input from(pipe.name(), 8000);
  samples all;
  CHECK_FALSE(from.take(all));
  pipe.write(wav({}, "", 0).substr(0, 40));
  CHECK_FALSE(from.take(all));
  pipe.write(wav({}, "", 0).substr(40) + numbers<std::int16_t>({1, 2}) + "\x03");
  CHECK(from.take(all));
  CHECK(all.size() == 2);
  CHECK_FALSE(from.take(all));
  pipe.write(std::string("\0", 1));
  from.wait();
  CHECK(from.take(all));
  CHECK(all == samples{1.0F / 32768, 2.0F / 32768, 3.0F / 32768});
  CHECK_FALSE(from.ended());
  pipe.close();
  CHECK(from.take(all));
  CHECK(from.ended());
  CHECK_FALSE(from.facts().truncated);
}

TEST_CASE("audio: an hour is read block by block") {
  const scratch_folder folder;
  const auto path = folder / "hour.wav";
  constexpr std::uint32_t frames = 3600 * 8000;
  write_bytes(path, wav({1, 16, 1}, "", 2 * frames));
  std::filesystem::resize_file(path, 44 + 2 * std::uint64_t{frames});  // a hole: zeros that take no disk
  audio_input from(path.string(), 8000);
  samples block;
  std::int64_t sum = 0;
  std::size_t most = 0;
  while (!from.ended()) {
    block.clear();
    from.take(block);
    sum += static_cast<std::int64_t>(block.size());
    most = std::max(most, block.size());
  }
  CHECK(sum == frames);
  CHECK(most <= 65536);
  CHECK(from.facts().seconds() == 3600);
}

#if defined(RUNNEL_CLI_SAMPLERATE)

TEST_CASE("audio: resampling keeps length and time, however the input is cut") {
  const scratch_folder folder;
  const auto path = folder / "a.wav";
  for (const std::uint32_t rate : {8000U, 11025U, 16000U, 22050U, 32000U, 44100U, 48000U, 96000U, 5512U}) {
    for (const std::size_t count : {0U, 1U, 2U, 7U, 100U, 4095U, 4096U, 4097U, 30001U}) {
      CAPTURE(rate);
      CAPTURE(count);
      const auto data = numbers(random_samples(count));
      write_bytes(path, wav({3, 32, 1, rate}, data));
      const auto all = read_file(path);
      CHECK(static_cast<double>(all.size()) == std::floor(static_cast<double>(count) * 8000 / rate + 0.5));
      for (const float one : all) REQUIRE(std::fabs(one) < 4);
      if (count > 5000 || rate % 8000 != 0) continue;
      for (const std::size_t piece : {4U, 333U}) {
        CHECK(read_stream(wav({3, 32, 1, rate}, data), piece, {}, nullptr) == all);
      }
    }
  }
}

TEST_CASE("audio: a tone is the same tone at another rate") {
  const scratch_folder folder;
  const auto path = folder / "a.wav";
  const auto tone = [](double hertz, double rate, std::size_t count) {
    samples out(count);
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = static_cast<float>(0.5 * std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / rate));
    }
    return out;
  };
  for (const std::uint32_t rate : {11025U, 16000U, 44100U, 48000U}) {
    CAPTURE(rate);
    write_bytes(path, wav({3, 32, 1, rate}, numbers(tone(440, rate, rate))));
    const auto all = read_file(path);
    const auto expected = tone(440, 8000, 8000);
    REQUIRE(all.size() == expected.size());
    double worst = 0;
    for (std::size_t i = 400; i + 400 < all.size(); ++i) {
      worst = std::max(worst, static_cast<double>(std::fabs(all[i] - expected[i])));
    }
    CHECK(worst < 1e-4);
    // What the new rate cannot hold is gone, not folded down.
    write_bytes(path, wav({3, 32, 1, rate}, numbers(tone(5000, rate, rate))));
    double loudest = 0;
    const auto high = read_file(path);
    for (std::size_t i = 400; i + 400 < high.size(); ++i) {
      loudest = std::max(loudest, static_cast<double>(std::fabs(high[i])));
    }
    CHECK(loudest < 1e-3);
  }
}

TEST_CASE("audio: the last moment is not lost") {
  const scratch_folder folder;
  samples click(48000);
  for (std::size_t i = 0; i < 12; ++i) click[click.size() - 60 + i] = 1;
  write_bytes(folder / "a.wav", wav({3, 32, 1, 48000}, numbers(click)));
  const auto all = read_file(folder / "a.wav");
  REQUIRE(all.size() == 8000);
  const auto loudest = std::max_element(all.begin(), all.end()) - all.begin();
  CHECK(std::abs(static_cast<int>(loudest) - (48000 - 54) / 6) <= 1);
}

#else

TEST_CASE("audio: another rate is refused without libsamplerate") {
  const scratch_folder folder;
  write_bytes(folder / "a.wav", wav({1, 16, 1, 44100}, "abcd"));
  CHECK_THROWS_AS((void)read_file(folder / "a.wav"), runnel::io_error);
}

#endif

#if defined(RUNNEL_CLI_SNDFILE)

namespace {

bool write_sound(const std::filesystem::path& path, int format, const samples& values, int channels) {
  SF_INFO info{};
  info.samplerate = 8000;
  info.channels = channels;
  info.format = format;
  SNDFILE* const file = ::sf_open(path.c_str(), SFM_WRITE, &info);
  if (file == nullptr) return false;
  ::sf_writef_float(file, values.data(), static_cast<sf_count_t>(values.size()) / channels);
  ::sf_close(file);
  return true;
}

}  // namespace

TEST_CASE("audio: compressed files") {
  const scratch_folder folder;
  const auto values = random_samples(20000);
  REQUIRE(write_sound(folder / "a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, values, 2));
  const auto flac = read_file(folder / "a.flac");
  REQUIRE(flac.size() == 10000);
  for (std::size_t i = 0; i < flac.size(); ++i) {
    REQUIRE(std::fabs(flac[i] - (values[2 * i] + values[2 * i + 1]) / 2) < 1e-4);
  }
  // Its beginning decides what a file is, not its name.
  std::filesystem::rename(folder / "a.flac", folder / "b.wav");
  CHECK(read_file(folder / "b.wav") == flac);
  CHECK(write_sound(folder / "a.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, values, 1));
  CHECK(read_file(folder / "a.ogg").size() == 20000);
  if (write_sound(folder / "a.mp3", 0x230000 | 0x0082, values, 1)) {
    CHECK(read_file(folder / "a.mp3").size() >= 20000);
  }
  REQUIRE(write_sound(folder / "telephone.wav", SF_FORMAT_WAV | SF_FORMAT_ULAW, values, 1));
  CHECK(read_file(folder / "telephone.wav").size() == 20000);

  REQUIRE(write_sound(folder / "whole.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, values, 1));
  std::filesystem::resize_file(folder / "whole.flac", std::filesystem::file_size(folder / "whole.flac") / 2);
  audio_input cut((folder / "whole.flac").string(), 8000);
  const auto rest = read_all(cut);
  CHECK(rest.size() < 20000);
  CHECK(cut.facts().truncated);
}

#else

TEST_CASE("audio: compressed files are refused without libsndfile") {
  const scratch_folder folder;
  write_bytes(folder / "a.flac", "fLaC and so on, for long enough");
  CHECK_THROWS_AS((void)read_file(folder / "a.flac"), runnel::io_error);
}

#endif

TEST_CASE("audio: folders and lists of files") {
  const scratch_folder folder;
  std::filesystem::create_directories(folder / "b" / "deep");
  for (const char* name : {"z.WAV", "a.flac", "text.txt", "b/1.mp3", "b/deep/2.ogg", "noise", "c.wave"}) {
    write_bytes(folder / name, "x");
  }
  const auto of = [&](const char* name) { return (folder / name).string(); };
  using runnel::cli::expand_audio_paths;
  CHECK(expand_audio_paths({folder.path().string()}) ==
        std::vector<std::string>{of("a.flac"), of("b/1.mp3"), of("b/deep/2.ogg"), of("z.WAV")});
  CHECK(expand_audio_paths({"-", of("text.txt"), of("b"), "missing"}) ==
        std::vector<std::string>{"-", of("text.txt"), of("b/1.mp3"), of("b/deep/2.ogg"), "missing"});
  std::filesystem::create_directories(folder / "empty");
  CHECK_THROWS_AS((void)expand_audio_paths({of("empty")}), runnel::config_error);
  write_bytes(folder / "list", "one.wav\r\n\n two.wav\nthree.wav");
  CHECK(runnel::cli::read_path_list(of("list")) == std::vector<std::string>{"one.wav", " two.wav", "three.wav"});
  write_bytes(folder / "none", "\n\n");
  CHECK_THROWS_AS((void)runnel::cli::read_path_list(of("none")), runnel::config_error);
}

TEST_CASE("audio: names of raw formats") {
  CHECK(runnel::cli::find_sample_format("s24") == wav_format::pcm24);
  CHECK(runnel::cli::find_sample_format("f32") == wav_format::float32);
  CHECK_THROWS_AS((void)runnel::cli::find_sample_format("s12"), runnel::config_error);
}
