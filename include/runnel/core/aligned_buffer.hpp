// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <runnel/core/error.hpp>

namespace runnel {

/// Alignment of everything kernels load: one cache line, one AVX-512 register.
inline constexpr std::size_t memory_alignment = 64;

/// Owning array of trivial elements, aligned to 64 bytes and zeroed. Move-only; what was moved from is empty. Large
/// ones ask the system for large pages, which weights that are read once a token want.
template <class T>
class aligned_buffer {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  aligned_buffer() = default;
  /// Throws limit_error if the size overflows, std::bad_alloc if there is no memory.
  explicit aligned_buffer(std::size_t count) : aligned_buffer(count, uninitialized{}) {
    if (count != 0) std::memset(static_cast<void*>(data_.get()), 0, count * sizeof(T));
  }
  /// The same, contents left unset.
  [[nodiscard]] static aligned_buffer for_overwrite(std::size_t count) {
    return aligned_buffer(count, uninitialized{});
  }
  aligned_buffer(aligned_buffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  aligned_buffer& operator=(aligned_buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  [[nodiscard]] T* data() noexcept { return data_.get(); }
  [[nodiscard]] const T* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::span<T> span() noexcept { return {data(), size_}; }
  [[nodiscard]] std::span<const T> span() const noexcept { return {data(), size_}; }

 private:
  static constexpr std::size_t large_page = std::size_t{2} << 20;

  struct uninitialized {};
  struct deleter {
    std::size_t alignment = memory_alignment;
    void operator()(T* pointer) const noexcept { ::operator delete (pointer, std::align_val_t{alignment}); }
  };

  aligned_buffer(std::size_t count, uninitialized) : size_(count) {
    expect<limit_error>(count <= std::numeric_limits<std::size_t>::max() / 2 / sizeof(T), "buffer: ", count,
                        " elements do not fit in memory");
    if (count == 0) return;
    const std::size_t bytes = count * sizeof(T);
    const std::size_t alignment = bytes >= 2 * large_page ? large_page : memory_alignment;
    void* const memory = ::operator new (bytes, std::align_val_t{alignment});
    data_ = {static_cast<T*>(memory), deleter{alignment}};
#if defined(__linux__)
    if (alignment == large_page) (void)::madvise(memory, bytes / large_page * large_page, MADV_HUGEPAGE);  // a hint
#endif
  }

  std::unique_ptr<T, deleter> data_;
  std::size_t size_ = 0;
};

}  // namespace runnel
