// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <stop_token>
#include <string_view>
#include <utility>

#include <runnel/core/simd.hpp>
#include <runnel/core/thread_team.hpp>
#include <runnel/core/workspace.hpp>
#include <runnel/tensor/tensor.hpp>

namespace runnel::ops {

/// The numbers that products are computed in, and with them attention over keys and values kept as bf16 (in bf16,
/// queries and weights rounded, unless the layer's products are in f32). Sums are float throughout.
enum class compute_mode : std::uint8_t {
  f32,   ///< weights decoded exactly, inputs as they are
  bf16,  ///< weights and inputs rounded to bf16 (nearest, ties to even; denormals count as zero with `vdpbf16ps`)
  /// Quantised weights as the whole numbers they are; inputs, in blocks of 32, rounded to bytes with a scale each (a
  /// row with one that is not finite gives NaN), those of keys and values to 16 bits. Weights that are not
  /// quantised keep their precision: bf16 weights are multiplied in bf16, f32 and f16 weights in f32.
  int8,
};

/// The fastest that rounds no weights: the mode for work that need not be exact to the last digit.
inline constexpr compute_mode fastest_compute = compute_mode::int8;

[[nodiscard]] constexpr std::string_view name_of(compute_mode mode) noexcept {
  switch (mode) {
    case compute_mode::f32: return "f32";
    case compute_mode::bf16: return "bf16";
    case compute_mode::int8: return "int8";
  }
  return "unknown";
}

/// How a step is computed. The result's bits depend on compute mode and instruction set, never on the thread count.
struct eval_options {
  int threads = 1;  ///< 0: one a processor
  compute_mode compute = compute_mode::f32;
  instruction_set instructions = best_instruction_set;
};

/// The context of inference (`eval`): runs an op's `forward` at once, with memory that is reused from step to step and
/// no tape. One per session; one thread at a time.
///
/// Modules are written over a context: `context(op, inputs...)` runs the op here, and records it on a tape in training.
/// `T` is what values are: float, or double where gradients are checked.
template <class T>
class basic_eval {
 public:
  using value = tensor_view<T, 2>;         ///< [rows, features]
  using vector = tensor_view<const T, 1>;  ///< a bias or the weight of a norm; may be empty

  explicit basic_eval(const eval_options& options = {}) : team(options.threads), options_(options) {
    expect(compiled(options.instructions), "instruction set ", runnel::name_of(options.instructions),
           " is not part of this build");
  }

  template <class Op, class... Inputs>
  decltype(auto) operator()(const Op& op, Inputs&&... inputs) {
    return op.forward(*this, std::forward<Inputs>(inputs)...);
  }

  [[nodiscard]] const eval_options& options() const noexcept { return options_; }

  /// A new value for this step, contents unset.
  [[nodiscard]] value make(index_t rows, index_t features) {
    return {memory.take<T>(static_cast<std::size_t>(rows * features)), {rows, features}};
  }

  /// How many of `count` things, each of which touches `work` numbers, one piece of work should have, so that it is
  /// worth a hand-over between threads (a microsecond or two). What comes out never depends on it.
  [[nodiscard]] index_t grain_of(index_t count, index_t work) const noexcept {
    constexpr index_t worthwhile = 32768;
    const index_t share = count / (8 * static_cast<index_t>(team.size()));
    return std::max({index_t{1}, worthwhile / std::max<index_t>(1, work), share});
  }

  /// Runs `f(begin, end, Arch)` over pieces of `rows` rows, in parallel where `work` (numbers touched a row) makes it
  /// worth a hand-over.
  template <class F>
  void for_each_rows(index_t rows, index_t work, F&& f) {
    simd::with_arch(options_.instructions, [&]<class Arch>(Arch arch) {
      team.parallel_for(rows, grain_of(rows, work), [&](index_t begin, index_t end, int) { f(begin, end, arch); });
    });
  }

  /// Runs `f(row, Arch)` for every row, likewise.
  template <class F>
  void for_each_row(index_t rows, index_t work, F&& f) {
    for_each_rows(rows, work, [&]<class Arch>(index_t begin, index_t end, Arch arch) {
      for (index_t row = begin; row < end; ++row) f(row, arch);
    });
  }

  /// Runs `f(begin, end, Arch)` over pieces of [0, count), each a multiple of 64 long (but the last), in parallel.
  template <class F>
  void for_each_part(index_t count, F&& f) {
    constexpr index_t grain = 64;
    simd::with_arch(options_.instructions, [&]<class Arch>(Arch arch) {
      team.parallel_for((count + grain - 1) / grain, 1,
                        [&](index_t begin, index_t end, int) { f(begin * grain, std::min(end * grain, count), arch); });
    });
  }

  /// Runs one layer `f(x) -> value` and keeps its result in `x`, giving back all other memory it took.
  template <class F>
  value block(const value& x, F&& f) {
    check_stop();
    const auto scope = memory.mark();
    const value y = std::forward<F>(f)(x);
    expect_shape(y.shape(), x.shape(), "block");
    std::copy(y.data(), y.data() + y.size(), x.data());
    memory.release(scope);
    return x;
  }

  /// Where training drops elements at random: inference does not.
  [[nodiscard]] const value& drop(const value& x) const noexcept { return x; }
  /// The same for what low-rank adapters are given.
  [[nodiscard]] const value& drop_adapted(const value& x) const noexcept { return x; }

  /// Throws cancelled_error if a stop was requested. Called between layers.
  void check_stop() const { expect<cancelled_error>(!stop.stop_requested(), "stopped by the caller"); }

  thread_team team;
  workspace memory;
  std::stop_token stop;

 private:
  static bool compiled(instruction_set which) noexcept { return simd::compiled(which); }

  eval_options options_;
};

using eval = basic_eval<float>;

/// An input or result of an op on its way back: the value it had, and the gradient of the loss with respect to it. An
/// op's `backward` takes these in the places of what its `forward` took and gave (the result first), reads the result's
/// gradient and brings the inputs' up to date, in their order: one value may stand in two places.
template <class T, std::size_t Rank = 2>
struct dual {
  tensor_view<const T, Rank> value;
  tensor_view<T, Rank> gradient;  ///< empty: not wanted (frozen weights)
  bool fresh = false;             ///< the gradient's contents are unset: to be written, not added to

  [[nodiscard]] bool wanted() const noexcept { return gradient.data() != nullptr; }
};

}  // namespace runnel::ops
