// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <runnel/core/error.hpp>

namespace runnel::io {

/// A folder that appears whole or not at all. Files are written into a temporary folder beside it; `commit` gives that
/// its name. Destroyed before that, it leaves no trace. Only what is not there yet, or an empty folder, is replaced.
class atomic_folder {
 public:
  /// Creates the temporary folder. Throws io_error that names the path and the reason.
  explicit atomic_folder(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code problem;
    target_ = std::filesystem::weakly_canonical(path, problem);
    if (problem) fail(problem.message());
    if (target_.filename().empty()) target_ = target_.parent_path();  // "folder/"
    if (target_.filename().empty()) fail("the path names no folder");
    if (!is_free(target_)) fail("something is there already, expected nothing or an empty folder");
    create();
  }
  atomic_folder(const atomic_folder&) = delete;
  atomic_folder& operator=(const atomic_folder&) = delete;
  ~atomic_folder() {
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
  }

  /// Whether a folder may be written there: nothing is, or an empty folder.
  [[nodiscard]] static bool is_free(const std::filesystem::path& path) {
    std::error_code problem;
    const auto status = std::filesystem::status(path, problem);
    if (!std::filesystem::exists(status)) return status.type() == std::filesystem::file_type::not_found;
    return std::filesystem::is_directory(status) && std::filesystem::is_empty(path, problem) && !problem;
  }

  /// Where to write files until `commit`.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return temporary_; }

  /// Makes the folder appear. Throws io_error; then what stood there before still stands.
  void commit() {
    std::error_code problem;
    std::filesystem::rename(temporary_, target_, problem);
    if (problem) fail(problem.message());
    temporary_.clear();
  }

 private:
  [[noreturn]] void fail(std::string_view reason) const {
    runnel::fail<io_error>("cannot write '", name_, "': ", reason);
  }

  void create() {
    constexpr std::uint64_t attempts = 100;
    for (std::uint64_t attempt = 0; attempt < attempts; ++attempt) {
      const auto writer = reinterpret_cast<std::uintptr_t>(this);
      auto candidate = target_.parent_path() / message(".runnel-", writer, "-", attempt, ".tmp");
      std::error_code problem;
      if (std::filesystem::create_directory(candidate, problem)) {
        temporary_ = std::move(candidate);
        return;
      }
      if (problem) fail(problem.message());
    }
    fail("no name is free for a temporary folder beside it");
  }

  std::string name_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
};

}  // namespace runnel::io
