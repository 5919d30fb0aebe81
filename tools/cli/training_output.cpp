// SPDX-License-Identifier: Apache-2.0

#include "training_output.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <runnel/io/atomic_folder.hpp>
#include <runnel/train/checkpoint.hpp>
#include <runnel/train/config_io.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

namespace fs = std::filesystem;

constexpr const char* lock_name = ".lock";
constexpr std::string_view lock_text = "runnel train\n";

[[noreturn]] void refuse(const fs::path& path, int code) {
  fail<io_error>("cannot write '", path.string(), "': ", std::generic_category().message(code));
}

/// Nothing is there, or nothing but the lock of a run that did not begin.
bool is_free(const fs::path& path) {
  if (io::atomic_folder::is_free(path)) return true;
  std::error_code problem;
  if (!fs::is_directory(path, problem)) return false;
  return std::all_of(fs::directory_iterator(path, problem), fs::directory_iterator(),
                     [](const auto& one) { return one.path().filename() == lock_name; });
}

bool is_lock_of_ours(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[lock_text.size()];
  const auto count = ::read(file, text, sizeof text);
  ::close(file);
  return count == static_cast<ssize_t>(sizeof text) && std::string_view(text, sizeof text) == lock_text;
}

/// Whether `runnel train` has made this folder, this version or one without locks.
bool is_of_a_run(const fs::path& path) {
  if (is_lock_of_ours(path / lock_name) || train::checkpoint_folder::last_identity(path / "checkpoints")) return true;
  std::error_code problem;
  if (!fs::exists(path / "metrics.jsonl", problem)) return false;
  try {
    train::settings from;
    from.add_file(path / "config.json");
    static_cast<void>(train::read_config(from));
    return true;
  } catch (const error&) {
    return false;
  }
}

/// Two names change what they stand for, at once where the system can do that. Throws io_error; then nothing has
/// changed.
void swap_names(const fs::path& one, const fs::path& other) {
#if defined(RENAME_EXCHANGE)
  if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0) return;
#endif
  const fs::path between = other.string() + ".swapped";
  std::error_code problem, ignored;
  fs::rename(other, between, problem);
  expect<io_error>(!problem, "cannot write '", other.string(), "': ", problem.message());
  fs::rename(one, other, problem);
  if (problem) fs::rename(between, other, ignored);
  expect<io_error>(!problem, "cannot write '", other.string(), "': ", problem.message());
  fs::rename(between, one, problem);
  expect<io_error>(!problem, "cannot write '", one.string(), "': ", problem.message());
}

}  // namespace

training_output::training_output(fs::path path, bool resume) : path_(std::move(path)) {
  if (!is_free(path_)) {
    expect<config_error>(
        resume, "output: ", path_.string(),
        " is there already; expected a new or an empty folder, or --resume to go on with what is in it");
    expect<config_error>(is_of_a_run(path_), "output: ", path_.string(),
                         " is no folder of a training run, and --resume would overwrite what is in it; expected one of "
                         "a run, a new or an empty folder");
  }
  try {
    make_folders();
    lock();
    std::error_code problem;
    const auto status = fs::status(checkpoints(), problem);
    expect<io_error>(!fs::exists(status) || fs::is_directory(status), "cannot write '", checkpoints().string(),
                     "': it is no folder");
  } catch (...) {
    release();
    throw;
  }
}

training_output::~training_output() { release(); }

void training_output::release() noexcept {
  std::error_code ignored;
  if (!begun_ && std::exchange(made_lock_, false)) fs::remove(path_ / lock_name, ignored);
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  if (begun_) return;
  for (auto one = made_.rbegin(); one != made_.rend(); ++one) fs::remove(*one, ignored);  // only if it is empty
  made_.clear();
}

void training_output::make_folders() {
  std::error_code problem;
  for (auto at = fs::absolute(path_).lexically_normal(); !at.empty() && !fs::exists(at, problem);
       at = at.parent_path()) {
    if (!at.filename().empty()) made_.insert(made_.begin(), at);
  }
  fs::create_directories(path_, problem);
  expect<io_error>(!problem, "cannot write '", path_.string(), "': ", problem.message());
  if (::access(path_.c_str(), W_OK | X_OK) != 0) refuse(path_, errno);
}

void training_output::lock() {
  const auto path = path_ / lock_name;
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  const bool made = lock_ >= 0;
  if (!made) lock_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (lock_ < 0) refuse(path, errno);
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    expect<io_error>(errno != EWOULDBLOCK, "output: ", path_.string(), ": another run is writing there (it holds ",
                     path.string(), ")");  // else: a file system without locks
  }
  made_lock_ = made;
  struct stat status {};
  if (::fstat(lock_, &status) == 0 && status.st_size > 0) return;
  if (::pwrite(lock_, lock_text.data(), lock_text.size(), 0) < 0) refuse(path, errno);
}

void training_output::begin() {
  begun_ = true;
  train::remove_temporaries(path_);
}

void replace_folder(const fs::path& fresh, const fs::path& path) {
  std::error_code problem;
  if (io::atomic_folder::is_free(path)) {
    fs::rename(fresh, path, problem);
    expect<io_error>(!problem, "cannot write '", path.string(), "': ", problem.message());
    return;
  }
  const auto is_known = [&](const fs::directory_entry& one) {
    std::error_code ignored;
    return fs::exists(fresh / one.path().lexically_relative(path), ignored);
  };
  const bool known = fs::is_directory(path, problem) && std::all_of(fs::recursive_directory_iterator(path, problem),
                                                                    fs::recursive_directory_iterator(), is_known);
  if (known) {
    swap_names(fresh, path);
    fs::remove_all(fresh, problem);
    return;
  }
  int number = 1;
  const auto aside = [&] { return path.parent_path() / message(path.filename().string(), ".before-", number); };
  while (fs::exists(fs::symlink_status(aside(), problem))) ++number;
  // First, so that a process that is killed here leaves nothing of others under a name that is cleaned.
  fs::rename(fresh, aside(), problem);
  expect<io_error>(!problem, "cannot write '", aside().string(), "': ", problem.message());
  swap_names(aside(), path);
  note(message("what was in ", path.string(), " is not all ours and is kept in ", aside().string()));
}

}  // namespace runnel::cli
