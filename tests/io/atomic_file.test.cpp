// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/atomic_file.hpp>

#include <doctest/doctest.h>

#include "support.hpp"

#if defined(__unix__)
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <csignal>
#endif

using runnel::io_error;
using runnel::io::atomic_file;
using runnel::io::write_file_atomically;
using namespace runnel_test;

TEST_CASE("a file appears whole with commit and not before") {
  scratch_folder folder;
  const auto path = folder / "out.bin";
  std::string big(700'000, 'b');
  {
    atomic_file out(path);
    out.write("head");
    out.number(std::uint32_t{0x04030201});
    out.pad(32);
    CHECK(out.written() == 32);
    out.write(big);
    out.write("tail");
    CHECK_FALSE(std::filesystem::exists(path));
    out.commit();
  }
  std::string wanted = std::string("head\x01\x02\x03\x04", 8) + std::string(24, '\0') + big + "tail";
  CHECK(content(path) == wanted);
  CHECK(folder.count() == 1);
}

TEST_CASE("a file that is not committed leaves no trace and the old one stands") {
  scratch_folder folder;
  const auto path = folder / "out.bin";
  put(path, "old");
  {
    atomic_file out(path);
    out.write(std::string(1'000'000, 'n'));
  }
  CHECK(content(path) == "old");
  CHECK(folder.count() == 1);
  write_file_atomically(path, bytes_of("new"));
  CHECK(content(path) == "new");
  CHECK(folder.count() == 1);
  write_file_atomically(path, {});
  CHECK(content(path).empty());
}

TEST_CASE("two writers of one file do not mix") {
  scratch_folder folder;
  const auto path = folder / "out.bin";
  atomic_file one(path);
  atomic_file two(path);
  one.write("one");
  two.write("second");
  two.commit();
  one.commit();
  CHECK(content(path) == "one");
  CHECK(folder.count() == 1);
}

TEST_CASE("a path that cannot be written is named with the reason") {
  scratch_folder folder;
  const auto attempt = [](const std::filesystem::path& path) {
    return failure<io_error>([&] { write_file_atomically(path, bytes_of("x")); });
  };
  auto text = attempt(folder / "missing" / "out.bin");
  CHECK(holds(text, "out.bin"));
  CHECK(holds(text, "No such file"));
  text = attempt(folder.path());
  CHECK(holds(text, "directory"));
  put(folder / "file", "x");
  CHECK(holds(attempt(folder / "file" / "out.bin"), "out.bin"));
  CHECK(holds(attempt(folder.path() / ""), "names no file"));
  CHECK(holds(attempt(""), "names no file"));
#if defined(__unix__)
  CHECK(holds(attempt("/dev/null"), "regular"));
#endif
  CHECK(folder.count() == 1);
}

#if defined(__unix__)
TEST_CASE("a link stays a link and permissions stay as they were") {
  scratch_folder folder;
  put(folder / "real", "old");
  REQUIRE(::chmod((folder / "real").c_str(), 0640) == 0);
  std::filesystem::create_symlink("real", folder / "link");
  write_file_atomically(folder / "link", bytes_of("new"));
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(content(folder / "real") == "new");
  struct stat status {};
  REQUIRE(::stat((folder / "real").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(folder.count() == 2);
}

TEST_CASE("a disk that takes no more is reported and the old file stands") {
  scratch_folder folder;
  const auto path = folder / "out.bin";
  put(path, "old");
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  struct rlimit small = before;
  small.rlim_cur = 100'000;
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const auto in_steps = failure<io_error>([&] {
    atomic_file out(path);
    for (int i = 0; i < 300; ++i) out.write(std::string(1000, 'x'));
    out.commit();
  });
  const auto at_once = failure<io_error>([&] { write_file_atomically(path, bytes_of(std::string(500'000, 'x'))); });
  const auto at_commit = failure<io_error>([&] { write_file_atomically(path, bytes_of(std::string(150'000, 'x'))); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  for (const auto& text : {in_steps, at_once, at_commit}) {
    CHECK(holds(text, "out.bin"));
    CHECK(holds(text, "too large"));
  }
  CHECK(content(path) == "old");
  CHECK(folder.count() == 1);
}
#endif
