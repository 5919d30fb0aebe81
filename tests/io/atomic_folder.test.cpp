// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/atomic_folder.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <iterator>
#include <string>

#include "support.hpp"

namespace {

using runnel::io::atomic_folder;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::put;

std::size_t entries(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST_CASE("a folder appears with all its files when it is committed, and not before") {
  const runnel_test::scratch_folder scratch;
  for (const char* name : {"new", "slash/", "empty", "./there/../dots"}) {
    CAPTURE(name);
    if (std::string(name) == "empty") std::filesystem::create_directory(scratch / name);
    if (std::string(name) == "./there/../dots") std::filesystem::create_directory(scratch / "there");
    const auto target = scratch / name;
    {
      atomic_folder folder(target);
      put(folder.path() / "a", "1");
      std::filesystem::create_directory(folder.path() / "inner");
      CHECK_FALSE(std::filesystem::exists(target / "a"));
      folder.commit();
    }
    CHECK(runnel_test::content(target / "a") == "1");
    CHECK(std::filesystem::is_directory(target / "inner"));
  }
  CHECK(entries(scratch.path()) == 5);  // no temporary one is left
}

TEST_CASE("what is not committed leaves no trace") {
  const runnel_test::scratch_folder scratch;
  {
    atomic_folder folder(scratch / "never");
    put(folder.path() / "a", "1");
    CHECK(entries(scratch.path()) == 1);
  }
  CHECK(entries(scratch.path()) == 0);
}

TEST_CASE("nothing that is there is replaced") {
  const runnel_test::scratch_folder scratch;
  std::filesystem::create_directory(scratch / "full");
  put(scratch / "full" / "kept", "x");
  put(scratch / "file", "x");
  for (const char* name : {"full", "full/", "file"}) {
    const auto problem = failure<runnel::io_error>([&] { const atomic_folder folder(scratch / name); });
    CHECK(holds(problem, "something is there already"));
    CHECK(holds(problem, name));
  }
  CHECK_FALSE(atomic_folder::is_free(scratch / "full"));
  CHECK_FALSE(atomic_folder::is_free(scratch / "file"));
  CHECK(atomic_folder::is_free(scratch / "other"));
  for (const char* name : {"no/parent", "file/below"}) {
    CHECK(holds(failure<runnel::io_error>([&] { const atomic_folder folder(scratch / name); }), name));
  }
  // What comes in between is seen when the name is given.
  atomic_folder late(scratch / "late");
  std::filesystem::create_directory(scratch / "late");
  put(scratch / "late" / "kept", "x");
  CHECK(holds(failure<runnel::io_error>([&] { late.commit(); }), "late"));
  CHECK(runnel_test::content(scratch / "late" / "kept") == "x");
}

TEST_CASE("a link to an empty folder keeps pointing to it") {
  const runnel_test::scratch_folder scratch;
  std::filesystem::create_directory(scratch / "real");
  std::filesystem::create_directory_symlink("real", scratch / "link");
  atomic_folder folder(scratch / "link");
  put(folder.path() / "a", "1");
  folder.commit();
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(runnel_test::content(scratch / "real" / "a") == "1");
}

}  // namespace
