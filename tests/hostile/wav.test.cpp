// SPDX-License-Identifier: Apache-2.0
// WAV files that lie about their sizes.
#include "hostile.hpp"

#include <runnel/io/wav.hpp>

namespace {

using namespace runnel_test;

std::string riff(const byte_builder& chunks) {
  return byte_builder().raw("RIFF").number(0xFFFFFFFFu).raw("WAVE").raw(chunks.text()).text();
}

byte_builder format(std::uint16_t channels, std::uint16_t frame, std::uint16_t bits) {
  byte_builder out;
  out.raw("fmt ").number(std::uint32_t{16}).number(std::uint16_t{1}).number(channels).number(0xFFFFFFFFu);
  return out.number(0xFFFFFFFFu).number(frame).number(bits);
}

void read(const std::string& bytes) {
  const runnel::io::wav_file file(in_memory(bytes, "some.wav"));
  static_cast<void>(file.read_mono());
  static_cast<void>(file.read(0, file.num_frames()));
}

}  // namespace

TEST_CASE("WAV headers that lie are refused") {
  const auto refused = [](std::string about, std::vector<std::string> parts, const byte_builder& chunks) {
    parts.emplace_back("some.wav: ");
    return hostile_case{std::move(about), [bytes = riff(chunks)] { read(bytes); }, std::move(parts)};
  };
  check_refused({
      refused("a format chunk of 4 GiB", {"'fmt '", "4294967295"}, byte_builder().raw("fmt ").number(0xFFFFFFFFu)),
      refused("a format chunk of 3 bytes", {"'fmt '"},
              byte_builder().raw("fmt ").number(std::uint32_t{3}).zeros(4).raw("data").number(0u).zeros(2)),
      refused("65535 channels in frames of 2 bytes", {"131070 bytes a frame", "found 2"},
              format(65535, 2, 16).raw("data").number(std::uint32_t{4}).zeros(4)),
      refused("no channels", {"channels"}, format(0, 0, 16).raw("data").number(std::uint32_t{4}).zeros(4)),
      refused("samples of 65535 bits", {"65535 bits"},
              format(1, 2, 65535).raw("data").number(std::uint32_t{4}).zeros(4)),
      refused("two formats", {"'fmt '", "another"}, format(1, 2, 16).raw(format(2, 4, 16).text())),
  });
}

TEST_CASE("WAV sizes that lie cost nothing") {
  for (const std::uint32_t size : {0xFFFFFFFFu, 0xFFFFFFFEu, 0x80000000u, 0x7FFFFFFFu}) {
    CHECK(reads_or_refuses([&] { read(riff(format(1, 2, 16).raw("data").number(size).zeros(8))); }));
    CHECK_FALSE(reads_or_refuses([&] { read(riff(byte_builder().raw("LIST").number(size).zeros(8))); }));
  }
  byte_builder many;  // a million empty chunks
  for (int i = 0; i < 1000000; ++i) many.raw("junk").number(std::uint32_t{0});
  CHECK_FALSE(reads_or_refuses([bytes = riff(many)] { read(bytes); }));
}
