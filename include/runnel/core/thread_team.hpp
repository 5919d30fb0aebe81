// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
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
/// out pieces of work through one atomic, so that a step of hundreds of small products pays no thread start. The caller
/// waits for pieces that were begun, not for a thread that has not come: on a busy machine it does the work itself, and
/// only the end of a step waits for all. Inside a host's own OpenMP region a step runs on the caller alone.
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
    if (active_ != 0 || size_ == 1 || is_in_parallel()) {
      std::forward<Body>(body)();
      return;
    }
#if defined(_OPENMP)
    std::exception_ptr failure;
    closing_.store(false, std::memory_order_relaxed);
#pragma omp parallel num_threads(size_) default(shared)
    {
      if (omp_get_thread_num() == 0) {
        active_ = omp_get_num_threads();
        try {
          body();
        } catch (...) {
          failure = std::current_exception();
        }
        active_ = 0;
        closing_.store(true, std::memory_order_release);
      } else {
        work(omp_get_thread_num());
      }
    }
    if (failure) std::rethrow_exception(failure);
#else
    std::forward<Body>(body)();
#endif
  }

  /// Calls `f(begin, end, worker)` over disjoint pieces of [0, count), each at least `grain` long (but the last), and
  /// returns when all are done. `worker` is below `size()`. f must not throw. Which thread gets which piece is open, so
  /// f's result for an element must not depend on it; and f itself may not call this.
  template <class F>
  void parallel_for(std::ptrdiff_t count, std::ptrdiff_t grain, F&& f) noexcept {
    using function = std::remove_reference_t<F>;
    hand_out(count, grain,
             {const_cast<void*>(static_cast<const void*>(&f)),
              [](void* context, std::ptrdiff_t begin, std::ptrdiff_t end, int worker) {
                (*static_cast<function*>(context))(begin, end, worker);
              }});
  }

 private:
  /// One call of `parallel_for`. There are two, used in turn: a thread may read the one of a call that is over while
  /// the next is written, and finds out by `state_` before it acts on what it read.
  struct job {
    std::atomic<void*> context{nullptr};
    std::atomic<void (*)(void*, std::ptrdiff_t, std::ptrdiff_t, int)> call{nullptr};
    std::atomic<std::ptrdiff_t> count{0};
    std::atomic<std::ptrdiff_t> size{1};
    std::atomic<std::uint32_t> pieces{0};
  };

  /// A function whose type is erased, so that handing out is compiled once.
  struct work_function {
    void* context;
    void (*call)(void*, std::ptrdiff_t, std::ptrdiff_t, int);
  };

  void hand_out(std::ptrdiff_t count, std::ptrdiff_t grain, work_function f) noexcept {
    if (count <= 0) return;
    if (active_ <= 1 || count <= grain) return f.call(f.context, 0, count, 0);
    const std::ptrdiff_t size = std::max<std::ptrdiff_t>(1, grain);
    const auto pieces = static_cast<std::uint32_t>((count + size - 1) / size);
    const std::uint64_t state = ((state_.load(std::memory_order_relaxed) >> 32) + 1) << 32;
    job& next = jobs_[(state >> 32) % 2];
    next.context.store(f.context, std::memory_order_relaxed);
    next.call.store(f.call, std::memory_order_relaxed);
    next.count.store(count, std::memory_order_relaxed);
    next.size.store(size, std::memory_order_relaxed);
    next.pieces.store(pieces, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    state_.store(state, std::memory_order_release);
    while (take_piece(0)) {
    }
    spin_until([&] { return done_.load(std::memory_order_acquire) == pieces; });
  }

  [[nodiscard]] static bool is_in_parallel() noexcept {
#if defined(_OPENMP)
    return omp_in_parallel() != 0;
#else
    return false;
#endif
  }

  /// Runs one piece of the current call; false if none is left.
  bool take_piece(int worker) noexcept {
    std::uint64_t state = state_.load(std::memory_order_acquire);
    for (;;) {
      const job& current = jobs_[(state >> 32) % 2];
      const auto piece = static_cast<std::uint32_t>(state);
      if (piece >= current.pieces.load(std::memory_order_relaxed)) return false;
      void* const context = current.context.load(std::memory_order_relaxed);
      const auto call = current.call.load(std::memory_order_relaxed);
      const std::ptrdiff_t count = current.count.load(std::memory_order_relaxed);
      const std::ptrdiff_t size = current.size.load(std::memory_order_relaxed);
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        continue;
      }
      const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(piece) * size;
      call(context, begin, std::min(begin + size, count), worker);
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }

  void work(int worker) noexcept {
    while (!closing_.load(std::memory_order_acquire)) {
      const std::uint64_t seen = state_.load(std::memory_order_acquire);
      if (take_piece(worker)) continue;
      spin_until(
          [&] { return state_.load(std::memory_order_relaxed) != seen || closing_.load(std::memory_order_relaxed); });
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
  std::array<job, 2> jobs_;
  alignas(memory_alignment) std::atomic<std::uint64_t> state_{0};  // number of the call, then its next piece
  alignas(memory_alignment) std::atomic<std::uint32_t> done_{0};   // pieces finished of the current call
  alignas(memory_alignment) std::atomic<bool> closing_{false};
};

}  // namespace runnel
