// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include <runnel/core/aligned_buffer.hpp>

namespace runnel {

/// Bump allocator for the values of one step: grows while warming up, then gives out the same memory at every step.
///
/// Nothing is freed one by one; `mark` and `release` bracket a scope, `reset` starts the next step, in one piece of
/// memory as large as the largest step so far. One thread.
class workspace {
 public:
  /// `count` elements of T, 64-byte aligned, contents unset. Valid until released or reset. Throws limit_error if the
  /// size overflows.
  template <class T>
  [[nodiscard]] T* take(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    expect<limit_error>(count <= std::numeric_limits<std::size_t>::max() / 2 / sizeof(T), "workspace: ", count,
                        " elements do not fit in memory");
    const std::size_t bytes = (count * sizeof(T) + memory_alignment - 1) / memory_alignment * memory_alignment;
    while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].size()) {
      ++chunk_;
      used_ = 0;
    }
    if (chunk_ == chunks_.size()) {
      // Few and large: the system takes large ones back.
      chunks_.push_back(aligned_buffer<std::byte>::for_overwrite(std::max({bytes, min_chunk_bytes, capacity() / 2})));
    }
    std::byte* start = chunks_[chunk_].data() + used_;
    used_ += bytes;
    taken_ += bytes;
    most_ = std::max(most_, taken_);
    return reinterpret_cast<T*>(start);
  }

  /// A point to release to.
  struct marker {
    std::size_t chunk = 0;
    std::size_t used = 0;
    std::size_t taken = 0;
  };
  [[nodiscard]] marker mark() const noexcept { return {chunk_, used_, taken_}; }
  void release(marker point) noexcept {
    chunk_ = point.chunk;
    used_ = point.used;
    taken_ = point.taken;
  }
  /// Gives everything back. Pieces that came of growing become one, for steps of changing sizes would fit into ever
  /// fewer of them.
  void reset() {
    release({});
    if (chunks_.size() < 2) return;
    chunks_.clear();
    chunks_.push_back(aligned_buffer<std::byte>::for_overwrite(most_));
  }

  /// Bytes held, used or not.
  [[nodiscard]] std::size_t capacity() const noexcept {
    std::size_t total = 0;
    for (const auto& chunk : chunks_) total += chunk.size();
    return total;
  }

 private:
  static constexpr std::size_t min_chunk_bytes = std::size_t{1} << 20;

  std::vector<aligned_buffer<std::byte>> chunks_;
  std::size_t chunk_ = 0;
  std::size_t used_ = 0;   // of that chunk
  std::size_t taken_ = 0;  // in all
  std::size_t most_ = 0;
};

}  // namespace runnel
