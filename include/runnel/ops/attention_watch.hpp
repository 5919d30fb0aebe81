// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <concepts>
#include <functional>
#include <span>
#include <utility>

#include <runnel/ops/attention.hpp>

namespace runnel::ops {

/// How one row of a pass spreads its attention in one head of one layer.
struct attention_weights {
  index_t layer = 0;
  index_t row = 0;  ///< of its stream's rows in the pass
  index_t head = 0;
  /// Of each segment's keys in the row's visible range, in order: they sum to one over both segments, or are none.
  /// Valid during the call.
  std::array<std::span<const double>, num_groups> of;
};

/// A context that runs ops as `eval` does, to the same bits, and tells how rows spread their attention: modules are
/// written over a context, so nothing in them knows that somebody looks on. One call a layer, row and head, streams one
/// after the other; from one thread. Slow: the weights are computed beside the pass, by their definition.
class attention_watch : public eval {
 public:
  using watcher = std::function<void(const attention_weights&)>;

  /// Throws config_error as `eval`, or if there is no watcher.
  explicit attention_watch(watcher watch, const eval_options& options = {}) : eval(options), watch_(std::move(watch)) {
    expect(static_cast<bool>(watch_), "attention_watch: the watcher is empty");
  }

  template <class Op, class... Inputs>
  requires(!std::same_as<Op, range_attention>)  //
      decltype(auto)
      operator()(const Op& op, Inputs&&... inputs) {
    return eval::operator()(op, std::forward<Inputs>(inputs)...);
  }

  template <class KeyStore>
  void operator()(const range_attention& op, const value& queries, attention_streams<KeyStore> streams, int rotary,
                  index_t layer, const value& out) {
    op.weigh(*this, queries, streams, rotary, layer,
             [&](index_t row, index_t head, const std::array<std::span<const double>, num_groups>& weights) {
               watch_({layer, row, head, weights});
             });
    eval::operator()(op, queries, streams, rotary, layer, out);
  }

 private:
  watcher watch_;
};

}  // namespace runnel::ops
