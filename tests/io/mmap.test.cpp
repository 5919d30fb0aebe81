// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/mmap.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "support.hpp"

#if defined(__unix__)
#include <sys/stat.h>
#include <unistd.h>
#endif

using runnel::io_error;
using runnel::io::mapped_file;
using namespace runnel_test;

TEST_CASE("a mapped file shows the bytes of the file") {
  scratch_folder folder;
  std::string text(100'000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  put(folder / "a.bin", text);
  const mapped_file file(folder / "a.bin");
  REQUIRE(file.bytes().size() == text.size());
  CHECK(std::memcmp(file.bytes().data(), text.data(), text.size()) == 0);
  CHECK(file.path() == folder / "a.bin");
  CHECK(file.name() == (folder / "a.bin").string());
}

TEST_CASE("moving a mapped file leaves its bytes where they are") {
  scratch_folder folder;
  put(folder / "a.bin", "hello");
  put(folder / "b.bin", "other");
  mapped_file first(folder / "a.bin");
  const auto* data = first.bytes().data();
  mapped_file second(std::move(first));
  CHECK(second.bytes().data() == data);
  CHECK(first.bytes().empty());  // NOLINT: what a moved-from file shows is part of the contract here
  mapped_file third(folder / "b.bin");
  third = std::move(second);
  CHECK(third.bytes().data() == data);
  CHECK(std::memcmp(third.bytes().data(), "hello", 5) == 0);
  third.release(0, 5);
}

TEST_CASE("released bytes come back when they are read") {
  scratch_folder folder;
  const std::string text(1 << 20, 'q');
  put(folder / "a.bin", text);
  const mapped_file file(folder / "a.bin");
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{0, 1 << 20},
                                       {1, 4096},
                                       {5000, 100'000},
                                       {0, ~std::uint64_t{0}},
                                       {1 << 20, 5},
                                       {~std::uint64_t{0}, 1},
                                       {100, ~std::uint64_t{0}}}) {
    file.release(offset, length);
    CHECK(std::all_of(file.bytes().begin(), file.bytes().end(), [](std::byte b) { return b == std::byte{'q'}; }));
  }
}

TEST_CASE("bytes from memory need no file") {
  const auto file = in_memory("abc", "a name");
  CHECK(file.bytes().size() == 3);
  CHECK(file.name() == "a name");
  CHECK_FALSE(file.is_mapped());
  file.release(0, 3);
  CHECK(std::memcmp(file.bytes().data(), "abc", 3) == 0);
  CHECK(in_memory("", "nothing").bytes().empty());
}

TEST_CASE("a file that cannot be mapped is named with the reason") {
  scratch_folder folder;
  const auto attempt = [&](const std::filesystem::path& path) { return failure<io_error>([&] { mapped_file{path}; }); };

  auto text = attempt(folder / "missing.bin");
  CHECK(holds(text, "missing.bin"));
  CHECK(holds(text, "No such file"));

  text = attempt(folder.path());
  CHECK(holds(text, folder.path().string()));
  CHECK(holds(text, "directory"));

  put(folder / "empty.bin", "");
  text = attempt(folder / "empty.bin");
  CHECK(holds(text, "empty.bin"));
  CHECK(holds(text, "empty"));

  put(folder / "file", "x");
  text = attempt(folder / "file" / "below");
  CHECK(holds(text, "below"));
#if defined(__unix__)
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  text = attempt(folder / "pipe");  // must not wait for a writer
  CHECK(holds(text, "pipe"));
  CHECK(holds(text, "regular"));
  if (::geteuid() != 0) {
    REQUIRE(::chmod((folder / "file").c_str(), 0) == 0);
    text = attempt(folder / "file");
    CHECK(holds(text, "ermission"));
  }
#endif
}
