// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <runnel/core/error.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace runnel::io {

/// The bytes of a whole file, read only: memory-mapped where the system can, otherwise read into memory. Move-only;
/// the bytes stay where they are when the object moves. Another process that shortens the file while it is mapped
/// makes reading it a hardware fault, as with every memory map: replace files by renaming, never in place.
class mapped_file {
 public:
  /// Maps `path`. Throws io_error that names the path and the reason if it is missing, unreadable, no regular file or
  /// empty. Constant time where memory maps exist.
  explicit mapped_file(std::filesystem::path path) : path_(std::move(path)), name_(path_.string()) { open(); }

  /// Owns a copy of `bytes` under a name used in messages: for content that does not come from a file.
  [[nodiscard]] static mapped_file from_bytes(std::span<const std::byte> bytes, std::string name) {
    mapped_file out;
    out.path_ = name;
    out.name_ = std::move(name);
    out.allocate(bytes.size());
    if (!bytes.empty()) std::memcpy(out.owned_.get(), bytes.data(), bytes.size());
    return out;
  }

  mapped_file(mapped_file&& other) noexcept { swap(other); }
  mapped_file& operator=(mapped_file&& other) noexcept {
    mapped_file taken(std::move(other));
    swap(taken);
    return *this;
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() { unmap(); }

  /// The whole file. A map starts at a page, a copy at 64 bytes.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// The path as text, for messages.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Whether the bytes are a memory map rather than a copy.
  [[nodiscard]] bool is_mapped() const noexcept { return mapped_; }

  /// Tells the system that these bytes are not needed in memory for now, such as weights that were packed. Only pages
  /// wholly inside the range are dropped; they are read from the file again when touched. A hint: never fails, does
  /// nothing to a copy.
  void release(std::uint64_t offset, std::uint64_t length) const noexcept {
#if defined(__unix__) || defined(__APPLE__)
    if (!mapped_ || offset >= size_) return;
    const std::uint64_t page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t end = length > size_ - offset ? size_ : offset + length;
    const std::uint64_t first = (offset + page - 1) / page * page;
    const std::uint64_t last = end == size_ ? size_ : end / page * page;
    if (first >= last) return;
    (void)::madvise(const_cast<std::byte*>(data_) + first, static_cast<std::size_t>(last - first), MADV_DONTNEED);
#else
    (void)offset;
    (void)length;
#endif
  }

 private:
  static constexpr std::size_t alignment = 64;
  struct aligned_delete {
    void operator()(std::byte* data) const noexcept { ::operator delete (data, std::align_val_t{alignment}); }
  };

  mapped_file() = default;

  [[noreturn]] void fail(std::string_view reason) const {
    runnel::fail<io_error>("cannot read '", name_, "': ", reason);
  }
  [[noreturn]] void fail(int code) const { fail(std::generic_category().message(code)); }

  void allocate(std::size_t size) {
    owned_.reset(static_cast<std::byte*>(::operator new (size == 0 ? 1 : size, std::align_val_t{alignment})));
    data_ = owned_.get();
    size_ = size;
  }

  void swap(mapped_file& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(name_, other.name_);
    std::swap(owned_, other.owned_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
  }

#if defined(__unix__) || defined(__APPLE__)
  void open() {
    // Non-blocking, so that a named pipe is reported below instead of waited for.
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(errno);
    struct closer {
      int value;
      ~closer() { ::close(value); }
    } const guard{descriptor};
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail(errno);
    if (S_ISDIR(status.st_mode)) fail("is a directory, a file is needed");
    if (!S_ISREG(status.st_mode)) fail("is not a regular file");
    if (status.st_size <= 0) fail("the file is empty");
    if (static_cast<std::uint64_t>(status.st_size) > std::numeric_limits<std::size_t>::max()) {
      fail("the file is larger than this system's address space");
    }
    const auto size = static_cast<std::size_t>(status.st_size);
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
      read_into_memory(descriptor, size);  // some file systems cannot map
      return;
    }
    data_ = static_cast<const std::byte*>(address);
    size_ = size;
    mapped_ = true;
  }

  void read_into_memory(int descriptor, std::size_t size) {
    allocate(size);
    for (std::size_t done = 0; done < size;) {
      const auto count = ::read(descriptor, owned_.get() + done, size - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(errno);
      if (count == 0) fail("the file became shorter while it was read");
      done += static_cast<std::size_t>(count);
    }
  }

  void unmap() noexcept {
    if (mapped_) ::munmap(const_cast<std::byte*>(data_), size_);
  }
#else
  void open() {
    std::error_code problem;
    if (std::filesystem::is_directory(path_, problem)) fail("is a directory, a file is needed");
    const auto size = std::filesystem::file_size(path_, problem);
    if (problem) fail(problem.message());
    if (size == 0) fail("the file is empty");
    if (size > std::numeric_limits<std::size_t>::max()) fail("the file is larger than this system's address space");
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name_.c_str(), "rb"), &std::fclose);
    if (!file) fail(errno);
    allocate(static_cast<std::size_t>(size));
    if (std::fread(owned_.get(), 1, size_, file.get()) != size_) fail("the file could not be read to its end");
  }

  void unmap() noexcept {}
#endif

  std::filesystem::path path_;
  std::string name_;
  std::unique_ptr<std::byte, aligned_delete> owned_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool mapped_ = false;
};

}  // namespace runnel::io
