// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <runnel/kernels/ctc.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::ops {

/// Connectionist temporal classification of the logits [frames, classes] of one utterance against its labels (Graves et
/// al. 2006). The blank is the last class; labels are in [0, classes - 1), and may be none.
///
/// Labels that need more frames than there are (one each, and a blank between two that are the same) have no alignment:
/// such an utterance is not feasible, its loss counts as 0, and its gradient is 0. Logits that are NaN give NaN; a
/// label all of whose logits are minus infinity gives infinity.
///
/// Cost: frames * (classes + labels); the way back does the way forth again. Memory of that time: 16 bytes for each
/// frame and label.
struct ctc {
  double scale = 1;  ///< gradients are those of scale times the loss

  /// Writes what it finds to `out`, one element. Throws shape_error for another size, config_error for a label that is
  /// no class or the blank.
  template <class T>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& logits,
               std::span<const std::int32_t> labels, std::span<kernels::ctc_result> out) const {
    expect<shape_error>(out.size() == 1, "ctc: expected place for one result, found ", out.size());
    expect<shape_error>(logits.size(1) >= 1, "ctc: expected at least one class, the blank");
    for (const std::int32_t label : labels) {
      expect(label >= 0 && label < logits.size(1) - 1, "ctc: label ", label, " is not among the ", logits.size(1) - 1,
             " classes before the blank");
    }
    const auto scope = context.memory.mark();
    const auto task = begin<T>(context, tensor_view<const T, 2>(logits), labels);
    out[0] = {0, kernels::ctc_least_frames(labels) <= task.frames};
    if (out[0].feasible && task.frames > 0) out[0].nll = kernels::ctc_forward(task, take_states(context, task));
    context.memory.release(scope);
  }

  /// Brings the gradient of the logits up to date.
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& logits, std::span<const std::int32_t> labels,
                std::span<kernels::ctc_result> found) const {
    if (!logits.wanted()) return;
    const index_t size = logits.value.size();
    if (logits.fresh) std::fill_n(logits.gradient.data(), size, T(0));
    if (!found[0].feasible || logits.value.size(0) == 0) return;
    const auto scope = context.memory.mark();
    const auto task = begin<T>(context, logits.value, labels);
    context.for_each_row(task.frames, 8 * task.classes, [&]<class Arch>(index_t row, Arch) {
      const T* const from = logits.value.row(row).data();
      T* const to = logits.gradient.row(row).data();
      for (index_t i = 0; i < task.classes; ++i) {
        to[i] += static_cast<T>(scale * std::exp(static_cast<double>(from[i]) - task.log_sums[row]));
      }
    });
    double* const alpha = take_states(context, task);
    static_cast<void>(kernels::ctc_forward(task, alpha));
    double* const beta = context.memory.template take<double>(static_cast<std::size_t>(2 * task.states()));
    kernels::ctc_backward(task, scale, found[0].nll, alpha, beta, logits.gradient.data());
    context.memory.release(scope);
  }

 private:
  template <class T>
  [[nodiscard]] static kernels::ctc_task<T> begin(basic_eval<T>& context, const tensor_view<const T, 2>& logits,
                                                  std::span<const std::int32_t> labels) {
    double* const sums = context.memory.template take<double>(static_cast<std::size_t>(logits.size(0)));
    context.for_each_row(logits.size(0), 8 * logits.size(1), [&]<class Arch>(index_t row, Arch) {
      sums[row] = kernels::log_sum_exp(logits.row(row).data(), logits.size(1));
    });
    return {logits.data(), logits.size(0), logits.size(1), labels, sums};
  }

  template <class T>
  [[nodiscard]] static double* take_states(basic_eval<T>& context, const kernels::ctc_task<T>& task) {
    return context.memory.template take<double>(static_cast<std::size_t>(task.frames) *
                                                static_cast<std::size_t>(task.states()));
  }
};

/// The labels that greedy decoding reads from logits [frames, classes]: the likeliest class of each frame (the first of
/// the highest), repeats merged, blanks (the last class) dropped. A frame without a number above minus infinity is
/// blank. Linear.
template <class T>
[[nodiscard]] std::vector<std::int32_t> ctc_greedy(const tensor_view<T, 2>& logits) {
  expect<shape_error>(logits.size(1) >= 1, "ctc: expected at least one class, the blank");
  const index_t blank = logits.size(1) - 1;
  std::vector<std::int32_t> labels;
  index_t before = blank;
  for (index_t t = 0; t < logits.size(0); ++t) {
    const auto* const row = logits.row(t).data();
    index_t best = blank;
    auto highest = -std::numeric_limits<std::remove_const_t<T>>::infinity();
    for (index_t i = 0; i <= blank; ++i) {
      if (row[i] > highest) {
        highest = row[i];
        best = i;
      }
    }
    if (best != blank && best != before) labels.push_back(static_cast<std::int32_t>(best));
    before = best;
  }
  return labels;
}

}  // namespace runnel::ops
