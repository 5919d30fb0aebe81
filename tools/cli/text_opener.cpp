// SPDX-License-Identifier: Apache-2.0

#include "text_opener.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#if defined(RUNNEL_CLI_ZLIB)
#include <zlib.h>
#endif

#include <runnel/core/error.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

bool is_compressed(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 2> magic{};
  return file.read(magic.data(), magic.size()) && magic[0] == '\x1f' && magic[1] == '\x8b';
}

#if defined(RUNNEL_CLI_ZLIB)
struct closer {
  void operator()(gzFile file) const { ::gzclose(file); }
};

train::byte_source open_compressed(const std::filesystem::path& path) {
  const std::shared_ptr<std::remove_pointer_t<gzFile>> file(::gzopen(path.c_str(), "rb"), closer{});
  expect<io_error>(file != nullptr, path.string(), ": cannot be opened");
  constexpr unsigned buffer_size = 1U << 17U;
  ::gzbuffer(file.get(), buffer_size);
  return [file, name = path.string()](std::span<char> into) {
    constexpr std::size_t most = std::size_t{1} << 20U;
    const int count = ::gzread(file.get(), into.data(), static_cast<unsigned>(std::min(into.size(), most)));
    int code = Z_OK;
    const char* const text = ::gzerror(file.get(), &code);
    // A file that was cut gives what it has first, and its error with it.
    if (code == Z_ERRNO) fail<io_error>(name, ": cannot be read");
    if (count < 0 || (count == 0 && code != Z_OK && code != Z_STREAM_END)) fail<format_error>(text);  // names the file
    return static_cast<std::size_t>(count);
  };
}
#endif

}  // namespace

train::byte_source open_text(const std::filesystem::path& path) {
  if (!is_compressed(path)) return train::open_plain_file(path);
#if defined(RUNNEL_CLI_ZLIB)
  return open_compressed(path);
#else
  fail<io_error>(path.string(), ": is compressed, and this program was built without zlib");
#endif
}

train::byte_source open_text_until_signal(const std::filesystem::path& path) {
  return [inner = open_text(path)](std::span<char> into) {
    interrupts::instance().check();
    return inner(into);
  };
}

}  // namespace runnel::cli
