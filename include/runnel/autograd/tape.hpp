// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <runnel/autograd/parameter.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/ops/attention.hpp>
#include <runnel/ops/low_rank.hpp>

/// \file
/// The context of training: runs an op's `forward` and remembers to call its `backward`.

namespace runnel::autograd {

/// How a pass is recorded.
struct tape_options {
  bool checkpointing = false;  ///< blocks keep only their result, and are run again on the way back
  double dropout = 0;          ///< at the places that modules name, in [0, 1)
  double adapter_dropout = 0;  ///< of what low-rank adapters are given, in [0, 1)
  std::uint64_t seed = 0;      ///< of what is dropped
  bool watch = false;          ///< look for the first block whose result is not finite
};

/// A tape: modules run over it as they run over `ops::eval`. What comes out of an op is a `value`, a handle to numbers
/// that live until `reset`; `backward` brings gradients to the parameters that were used. One thread at a time.
///
/// Memory: what blocks computed stays until their way back, or until they are run again with `checkpointing`; gradients
/// of what is inside a block live as long as its way back takes.
template <class T>
class tape {
  struct node {
    tensor_view<T, 2> data;
    T* gradient = nullptr;
    std::size_t depth = 0;  // blocks around it
  };

 public:
  using eval_type = ops::basic_eval<T>;

  /// Rows of a node: an input or a result of ops.
  class value {
   public:
    value() = default;
    [[nodiscard]] index_t size(std::size_t axis) const noexcept { return axis == 0 ? rows_ : of_->data.size(1); }
    [[nodiscard]] runnel::shape<2> shape() const noexcept { return {rows_, of_->data.size(1)}; }
    /// Rows [begin, end). Throws shape_error outside.
    [[nodiscard]] value slice(index_t begin, index_t end) const {
      expect<shape_error>(0 <= begin && begin <= end && end <= rows_, "value: slice [", begin, ", ", end, ") of ",
                          rows_);
      value out = *this;
      out.first_ += begin;
      out.rows_ = end - begin;
      return out;
    }
    /// The numbers.
    [[nodiscard]] tensor_view<T, 2> data() const { return of_->data.slice(first_, first_ + rows_); }

   private:
    friend class tape;
    node* of_ = nullptr;
    index_t first_ = 0;
    index_t rows_ = 0;
  };

  explicit tape(const ops::eval_options& options = {}) : eval_(options) {}
  tape(const tape&) = delete;
  tape& operator=(const tape&) = delete;

  /// Forgets everything and starts anew; also after an op has thrown, which leaves a tape that is good for nothing
  /// else.
  void reset(const tape_options& options = {}) {
    for (const double rate : {options.dropout, options.adapter_dropout}) {
      expect(rate >= 0 && rate < 1, "dropout: expected a rate in [0, 1), found ", rate);
    }
    options_ = options;
    records_.clear();
    eval_.memory.reset();
    kept_.reset();
    depth_ = drops_ = blocks_ = 0;
    recording_ = true;
    non_finite_.reset();
  }

  /// Runs an op and records it.
  template <class Op, class... Inputs>
  auto operator()(const Op& op, Inputs&&... inputs) {
    if constexpr (requires { op.record(*this, inputs...); }) {
      return op.record(*this, inputs...);
    } else {
      return run(op, inputs...);
    }
  }

  /// A new value, contents unset.
  [[nodiscard]] value make(index_t rows, index_t features) { return wrap(eval_.make(rows, features)); }

  /// Runs one layer `f(x) -> value`. `f` holds what it needs by value: it may run again on the way back. A block inside
  /// of a block is part of it.
  template <class F>
  value block(const value& x, F&& f) {
    eval_.check_stop();
    if (depth_ > 0) return std::forward<F>(f)(x);
    const value y =
        options_.checkpointing && recording_ ? run_again(x, std::forward<F>(f)) : run_once(x, std::forward<F>(f));
    if (options_.watch && !non_finite_ && !is_finite(y)) non_finite_ = blocks_;
    ++blocks_;
    return y;
  }

  /// Number of the first block since `reset` whose result was not finite, if the options say to look for it.
  [[nodiscard]] std::optional<std::size_t> first_non_finite_block() const noexcept { return non_finite_; }

  /// Runs `f() -> value` as a constant: nothing in it is recorded or dropped, and no gradient goes into it.
  template <class F>
  value constant(F&& f) {
    const auto before = std::pair(recording_, options_);
    recording_ = false;
    options_.dropout = options_.adapter_dropout = 0;
    const value y = std::forward<F>(f)();
    std::tie(recording_, options_) = before;
    return y;
  }

  /// Elements of x dropped at random, at the rate of the options.
  [[nodiscard]] value drop(const value& x) { return drop_at(options_.dropout, x); }
  [[nodiscard]] value drop_adapted(const value& x) { return drop_at(options_.adapter_dropout, x); }

  /// A place on the tape to go back to.
  struct marker {
    std::size_t records = 0;
    workspace::marker values;
    workspace::marker gradients;
  };
  [[nodiscard]] marker mark() const noexcept { return {records_.size(), eval_.memory.mark(), kept_.mark()}; }

  /// Takes back all that was recorded since `from`, last first, adding to the gradients of parameters and of values
  /// made before, which `hold` has prepared. Values of that stretch are gone then, their memory is given back.
  void backward(const marker& from = {}) {
    take_back(from.records);
    eval_.memory.release(from.values);
    kept_.release(from.gradients);
  }

  /// Gives a value a gradient of zeros, to which later stretches of the tape add.
  void hold(const value& of) {
    const auto to = dual_of(of);
    if (to.fresh) std::fill_n(to.gradient.data(), to.gradient.size(), T(0));
  }

  /// Whether ops are recorded: without, a forward pass and no more.
  void record(bool wanted) noexcept { recording_ = wanted; }
  [[nodiscard]] bool recording() const noexcept { return recording_; }

  /// The gradient of a value; unset if nothing has touched it: to start from, write all of it.
  [[nodiscard]] tensor_view<T, 2> gradient(const value& of) { return dual_of(of).gradient; }

  [[nodiscard]] eval_type& context() noexcept { return eval_; }
  /// Bytes held.
  [[nodiscard]] std::size_t capacity() const noexcept { return eval_.memory.capacity() + kept_.capacity(); }

 private:
  template <class Input>
  static constexpr bool is_handle = std::is_same_v<std::remove_const_t<Input>, value> ||
                                    std::is_same_v<std::remove_const_t<Input>, matrix_parameter<T>> ||
                                    std::is_same_v<std::remove_const_t<Input>, vector_parameter<T>>;

  // Inputs as forward takes them.
  static tensor_view<T, 2> numbers(const value& of) { return of.data(); }
  static tensor_view<const T, 2> numbers(const matrix_parameter<T>& of) noexcept { return of.value(); }
  static tensor_view<const T, 1> numbers(const vector_parameter<T>& of) noexcept { return of.value(); }
  template <class Other>
  static Other& numbers(Other& of) noexcept requires(!is_handle<Other>) {
    return of;
  }

  // Inputs as backward takes them.
  ops::dual<T> dual_of(const value& of) {
    node& from = *of.of_;
    const bool whole = of.rows_ == from.data.size(0);
    const bool fresh = from.gradient == nullptr;
    if (fresh) {
      // What belongs to a block that is on its way back goes with it; the rest stays.
      auto& from_memory = from.depth > 0 ? eval_.memory : kept_;
      from.gradient = from_memory.template take<T>(static_cast<std::size_t>(from.data.size()));
      if (!whole) std::fill_n(from.gradient, from.data.size(), T(0));
    }
    const tensor_view<T, 2> all(from.gradient, from.data.shape());
    return {of.data(), all.slice(of.first_, of.first_ + of.rows_), fresh && whole};
  }
  ops::dual<T> dual_of(const matrix_parameter<T>& of) const noexcept { return {of.value(), of.gradient(), false}; }
  ops::dual<T, 1> dual_of(const vector_parameter<T>& of) const noexcept { return {of.value(), of.gradient(), false}; }
  template <class Other>
  Other& dual_of(Other& of) const noexcept requires(!is_handle<Other>) {
    return of;
  }

  // Inputs as a record holds them: handles and small things by value, the rest where it is.
  template <class Input>
  static auto keep(Input& input) {
    if constexpr (std::is_trivially_copyable_v<std::remove_const_t<Input>>) {
      return std::remove_const_t<Input>(input);
    } else {
      return std::ref(input);
    }
  }
  template <class Input>
  static Input& kept(std::reference_wrapper<Input>& input) noexcept {
    return input.get();
  }
  template <class Input>
  static Input& kept(Input& input) noexcept {
    return input;
  }

  [[nodiscard]] value wrap(const tensor_view<T, 2>& data) {
    value out;
    out.of_ = eval_.memory.template take<node>(1);
    *out.of_ = {data, nullptr, depth_};
    out.rows_ = data.size(0);
    return out;
  }

  template <class Op, class... Inputs>
  auto run(const Op& op, Inputs&... inputs) {
    using result = decltype(op.forward(eval_, numbers(inputs)...));
    if constexpr (std::is_void_v<result>) {
      if constexpr (std::is_same_v<Op, ops::store_keys>) {
        const auto in = std::tie(inputs...);
        for (const auto& stream : std::get<2>(in)) stream.store->open(std::get<4>(in), eval_.memory);
      }
      op.forward(eval_, numbers(inputs)...);
      if (!recording_) return;
      records_.push_back([this, op, held = std::make_tuple(keep(inputs)...)]() mutable {
        std::apply([&](auto&... in) { take_back_one(op, duals_of(kept(in)...)); }, held);
      });
    } else if constexpr (std::is_same_v<result, tensor_view<T, 2>>) {
      const auto data = op.forward(eval_, numbers(inputs)...);
      value out;
      if constexpr (requires { Op::in_place; }) {
        out = std::get<0>(std::tie(inputs...));
      } else {
        out = wrap(data);
      }
      if (!recording_) return out;
      records_.push_back([this, op, out, held = std::make_tuple(keep(inputs)...)]() mutable {
        if (out.of_->gradient == nullptr) return;  // nothing came of it
        const auto y = dual_of(out);
        std::apply([&](auto&... in) { take_back_one(op, std::tuple_cat(std::tuple(y), duals_of(kept(in)...))); }, held);
      });
      return out;
    } else {
      return op.forward(eval_, numbers(inputs)...);  // constants: rotary angles
    }
  }

  [[nodiscard]] value drop_at(double rate, const value& x) {
    if (rate == 0) return x;
    splitmix64 mix(options_.seed ^ (0x9e3779b97f4a7c15u * ++drops_));
    return (*this)(ops::dropout{rate, mix()}, x);
  }

  /// In the order of the inputs: a value that is there twice is fresh at its first place only.
  template <class... Inputs>
  auto duals_of(Inputs&... inputs) {
    return std::tuple<decltype(dual_of(inputs))...>{dual_of(inputs)...};
  }

  template <class Op, class Duals>
  void take_back_one(const Op& op, Duals&& duals) {
    std::apply([&](auto&... in) { op.backward(eval_, in...); }, duals);
  }

  void take_back(std::size_t count) {
    while (records_.size() > count) {
      const auto step = std::move(records_.back());
      records_.pop_back();
      step();
    }
  }

  [[nodiscard]] static bool is_finite(const value& of) {
    const auto numbers = of.data();
    return std::all_of(numbers.data(), numbers.data() + numbers.size(), [](T number) { return std::isfinite(number); });
  }

  template <class F>
  value run_once(const value& x, F&& f) {
    const auto scope = eval_.memory.mark();
    const std::size_t start = records_.size();
    ++depth_;
    const value y = f(x);
    --depth_;
    if (!recording_) return keep_result(x, y, scope);
    y.of_->depth = 0;
    std::vector<std::function<void()>> inner(
        std::make_move_iterator(records_.begin() + static_cast<std::ptrdiff_t>(start)),
        std::make_move_iterator(records_.end()));
    records_.resize(start);
    records_.push_back([this, scope, inner = std::move(inner)]() {
      for (auto step = inner.rbegin(); step != inner.rend(); ++step) (*step)();
      eval_.memory.release(scope);
    });
    return y;
  }

  template <class F>
  value run_again(const value& x, F&& f) {
    const value out = make(x.size(0), x.size(1));
    const auto scope = eval_.memory.mark();
    const auto drops = drops_;
    recording_ = false;
    ++depth_;
    const value y = f(x);
    --depth_;
    recording_ = true;
    expect_shape(y.shape(), x.shape(), "block");
    std::copy_n(y.data().data(), y.data().size(), out.data().data());
    eval_.memory.release(scope);
    records_.push_back([this, x, out, drops, f = std::forward<F>(f)]() {
      const auto inside = eval_.memory.mark();
      const auto after = std::exchange(drops_, drops);
      const std::size_t start = records_.size();
      const auto upstream = dual_of(out);
      ++depth_;
      const value again = f(x);
      again.of_->gradient = upstream.gradient.data();
      take_back(start);
      --depth_;
      drops_ = after;
      eval_.memory.release(inside);
    });
    return out;
  }

  /// Without a way back a block gives its memory back at once.
  value keep_result(const value& x, const value& y, workspace::marker scope) {
    expect_shape(y.shape(), x.shape(), "block");
    std::copy_n(y.data().data(), y.data().size(), x.data().data());
    eval_.memory.release(scope);
    return x;
  }

  eval_type eval_;
  workspace kept_;
  tape_options options_;
  std::vector<std::function<void()>> records_;
  std::size_t depth_ = 0;
  std::uint64_t drops_ = 0;
  std::size_t blocks_ = 0;
  std::optional<std::size_t> non_finite_;
  bool recording_ = true;

 public:
  workspace& memory = eval_.memory;  ///< for what a pass needs as long as the tape remembers it
  thread_team& team = eval_.team;
};

}  // namespace runnel::autograd
