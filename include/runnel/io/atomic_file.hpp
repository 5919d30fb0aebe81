// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace runnel::io {

/// A file that appears whole or not at all. Bytes go to a temporary file in the same folder; `commit` brings them to
/// the disk and renames, replacing what stood there. Destroyed before that, it leaves no trace. A symbolic link keeps
/// pointing where it does: its target is replaced. The replaced file's permissions are kept.
class atomic_file {
 public:
  /// Creates the temporary file. Throws io_error that names the path and the reason.
  explicit atomic_file(std::filesystem::path path) : name_(path.string()), target_(std::move(path)) {
    resolve_target();
    create();
    buffer_.reserve(buffer_size);
  }
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() { discard(); }

  /// Appends bytes. Throws io_error, for instance if the disk is full.
  void write(std::span<const std::byte> bytes) {
    written_ += bytes.size();
    if (bytes.size() >= buffer_size) {
      flush();
      put(bytes);
      return;
    }
    if (buffer_.size() + bytes.size() > buffer_size) flush();
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  /// Appends a number as it lies in memory.
  template <class T>
  requires std::is_arithmetic_v<T>
  void number(T value) { write(std::as_bytes(std::span(&value, 1))); }

  /// Appends zero bytes until `written()` is a multiple of `alignment`.
  void pad(std::uint64_t alignment) {
    static constexpr std::array<std::byte, 256> zeros{};
    for (std::uint64_t left = (alignment - written_ % alignment) % alignment; left > 0;) {
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left, zeros.size()));
      write(std::span(zeros).first(count));
      left -= count;
    }
  }

  /// Bytes appended so far.
  [[nodiscard]] std::uint64_t written() const noexcept { return written_; }

  /// Makes the file appear. Throws io_error; then what stood there before still stands.
  void commit() {
    flush();
    finish();
    temporary_.clear();
  }

 private:
  static constexpr std::size_t buffer_size = std::size_t{1} << 18;

  [[noreturn]] void fail(std::string_view reason) const {
    runnel::fail<io_error>("cannot write '", name_, "': ", reason);
  }
  [[noreturn]] void fail(int code) const { fail(std::generic_category().message(code)); }

  void resolve_target() {
    if (target_.filename().empty()) fail("the path names no file");
    std::error_code problem;
    if (std::filesystem::is_symlink(target_, problem)) {
      target_ = std::filesystem::weakly_canonical(target_, problem);
      if (problem) fail(problem.message());
    }
    const auto status = std::filesystem::status(target_, problem);
    if (std::filesystem::is_directory(status)) fail("is a directory");
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) fail("is not a regular file");
  }

  /// Different for every writer alive in this process; what other processes left or write is found when creating.
  [[nodiscard]] std::filesystem::path temporary_name(std::uint64_t attempt) const {
    const auto writer = reinterpret_cast<std::uintptr_t>(this);
    return target_.parent_path() / message(".runnel-", process(), "-", writer, "-", attempt, ".tmp");
  }

  void flush() {
    put(buffer_);
    buffer_.clear();
  }

  void discard() noexcept {
    close();
    if (temporary_.empty()) return;
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    temporary_.clear();
  }

#if defined(__unix__) || defined(__APPLE__)
  static std::uint64_t process() noexcept { return static_cast<std::uint64_t>(::getpid()); }

  void create() {
    constexpr std::uint64_t attempts = 100;
    for (std::uint64_t attempt = 0; attempt < attempts && descriptor_ < 0; ++attempt) {
      const auto name = temporary_name(attempt);
      descriptor_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (descriptor_ >= 0)
        temporary_ = name;
      else if (errno != EEXIST)
        fail(errno);
    }
    if (descriptor_ < 0) fail(EEXIST);
    struct stat status {};
    if (::stat(target_.c_str(), &status) == 0) (void)::fchmod(descriptor_, status.st_mode & 0777);
  }

  void put(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(errno);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  void finish() {
    // EINVAL: a file system that cannot synchronise; the file is then as safe as it gets there.
    if (::fsync(descriptor_) != 0 && errno != EINVAL) fail(errno);
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0 && errno != EINTR) fail(errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    synchronise_folder();
  }

  /// Best effort: the file is there either way, only a power cut could still undo the rename.
  void synchronise_folder() const noexcept {
    const int folder = ::open(folder_name().c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (folder < 0) return;
    (void)::fsync(folder);
    ::close(folder);
  }

  [[nodiscard]] std::filesystem::path folder_name() const {
    return target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
  }

  void close() noexcept {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }

  int descriptor_ = -1;
#else
  static std::uint64_t process() noexcept { return 0; }

  void create() {
    constexpr std::uint64_t attempts = 100;
    for (std::uint64_t attempt = 0; attempt < attempts && stream_ == nullptr; ++attempt) {
      const auto name = temporary_name(attempt);
      stream_ = std::fopen(name.string().c_str(), "wbx");
      if (stream_ != nullptr)
        temporary_ = name;
      else if (errno != EEXIST)
        fail(errno);
    }
    if (stream_ == nullptr) fail(EEXIST);
  }

  void put(std::span<const std::byte> bytes) {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), stream_) != bytes.size()) fail(errno);
  }

  void finish() {
    if (std::fclose(std::exchange(stream_, nullptr)) != 0) fail(errno);
    std::error_code problem;
    std::filesystem::rename(temporary_, target_, problem);
    if (problem) fail(problem.message());
  }

  void close() noexcept {
    if (stream_ != nullptr) (void)std::fclose(std::exchange(stream_, nullptr));
  }

  std::FILE* stream_ = nullptr;
#endif

  std::string name_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::vector<std::byte> buffer_;
  std::uint64_t written_ = 0;
};

/// Writes a whole file at once, atomically. Throws io_error that names the path and the reason.
inline void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  atomic_file out(path);
  out.write(bytes);
  out.commit();
}

}  // namespace runnel::io
