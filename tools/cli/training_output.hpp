// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

/// \file
/// The folder that a training run writes into.

namespace runnel::cli {

/// A run's folder, held for it alone by a lock on the file `.lock` in it. What was made goes again unless `begin` is
/// called, so that a run that is refused leaves nothing.
class training_output {
 public:
  /// Takes a folder that is free (not there, or empty) or, with `resume`, that of a run. Throws config_error if other
  /// things are in it, io_error if it cannot be written or another process holds it.
  training_output(std::filesystem::path path, bool resume);
  training_output(const training_output&) = delete;
  training_output& operator=(const training_output&) = delete;
  ~training_output();

  /// From here on it stays; what a killed process has left half written goes.
  void begin();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }

 private:
  void make_folders();
  void lock();
  void release() noexcept;

  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  // the outermost first
  int lock_ = -1;
  bool made_lock_ = false;
  bool begun_ = false;
};

/// Gives the folder `fresh` the name `path`; at every moment either that or what was called so before is whole. Files
/// of the one before go; a folder with others than `fresh` has is kept under another name, which is noted. Throws
/// io_error; then `path` is what it was.
void replace_folder(const std::filesystem::path& fresh, const std::filesystem::path& path);

}  // namespace runnel::cli
