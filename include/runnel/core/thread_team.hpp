// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/error.hpp>

namespace runnel {

/// A fixed number of threads that work on one step together. One caller at a time; each session owns its own.
///
/// OpenMP lends the threads: `run` opens one parallel region around a whole step, and inside it `parallel_for` hands
/// out work through two atomics, so that a step of hundreds of small products pays no thread start. Inside a host's own
/// parallel region OpenMP gives one thread, and the step runs on the caller alone.
class thread_team {
 public:
  /// `threads` 0 means one a processor. Throws config_error if negative or above 1024.
  explicit thread_team(int threads = 1) {
    expect(threads >= 0 && threads <= 1024, "threads: expected 0 (one a processor) to 1024, found ", threads);
    size_ = threads != 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  thread_team(const thread_team&) = delete;
  thread_team& operator=(const thread_team&) = delete;

  /// Threads asked for.
  [[nodiscard]] int size() const noexcept { return size_; }

  /// Runs `body` on the caller with the other threads standing by for `parallel_for`. Exceptions pass through.
  template <class Body>
  void run(Body&& body) {
    if (active_ != 0 || size_ == 1) {
      std::forward<Body>(body)();
      return;
    }
#if defined(_OPENMP)
    std::exception_ptr failure;
    const std::uint32_t start = epoch_.load(std::memory_order_relaxed);
    closing_ = false;
#pragma omp parallel num_threads(size_) default(shared)
    {
      if (omp_get_thread_num() == 0) {
        active_ = omp_get_num_threads();
        try {
          body();
        } catch (...) {
          failure = std::current_exception();
        }
        closing_ = true;
        active_ = 0;
        epoch_.fetch_add(1, std::memory_order_release);
      } else {
        work(omp_get_thread_num(), start);
      }
    }
    if (failure) std::rethrow_exception(failure);
#else
    std::forward<Body>(body)();
#endif
  }

  /// Calls `f(begin, end, worker)` over disjoint pieces of [0, count), each at least `grain` long (but the last), and
  /// returns when all are done. `worker` is below `size()`. f must not throw. Which thread gets which piece is open, so
  /// f's result for an element must not depend on it.
  template <class F>
  void parallel_for(std::ptrdiff_t count, std::ptrdiff_t grain, F&& f) noexcept {
    if (count <= 0) return;
    if (active_ <= 1 || count <= grain) {
      f(std::ptrdiff_t{0}, count, 0);
      return;
    }
    using function = std::remove_reference_t<F>;
    context_ = const_cast<void*>(static_cast<const void*>(&f));
    call_ = [](void* context, std::ptrdiff_t begin, std::ptrdiff_t end, int worker) {
      (*static_cast<function*>(context))(begin, end, worker);
    };
    count_ = count;
    grain_ = std::max<std::ptrdiff_t>(1, grain);
    next_.store(0, std::memory_order_relaxed);
    pending_.store(active_ - 1, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    take_pieces(0);
    spin_until([this] { return pending_.load(std::memory_order_acquire) == 0; });
  }

 private:
  void take_pieces(int worker) noexcept {
    for (;;) {
      const std::ptrdiff_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      call_(context_, begin, std::min(begin + grain_, count_), worker);
    }
  }

  void work(int worker, std::uint32_t seen) noexcept {
    for (;;) {
      spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; });
      ++seen;
      if (closing_) return;
      take_pieces(worker);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  template <class Condition>
  static void spin_until(Condition&& done) noexcept {
    for (int turn = 0; !done(); ++turn) {
      if (turn < 4096) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
  }

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  int size_ = 1;
  int active_ = 0;  // threads of the open region; 0 outside of one
  bool closing_ = false;
  void* context_ = nullptr;
  void (*call_)(void*, std::ptrdiff_t, std::ptrdiff_t, int) = nullptr;
  std::ptrdiff_t count_ = 0;
  std::ptrdiff_t grain_ = 1;
  alignas(memory_alignment) std::atomic<std::uint32_t> epoch_{0};
  alignas(memory_alignment) std::atomic<std::ptrdiff_t> next_{0};
  alignas(memory_alignment) std::atomic<int> pending_{0};
};

}  // namespace runnel
