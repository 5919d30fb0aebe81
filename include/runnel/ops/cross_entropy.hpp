// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include <runnel/kernels/cross_entropy.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::ops {

/// Cross-entropy of logits [rows, vocab_size] against one label a row.
struct cross_entropy {
  double smoothing = 0;  ///< of labels, in [0, 1)
  double scale = 1;      ///< gradients are those of scale times the sum of the rows' losses

  /// Writes what it finds to `out`, [rows]. Throws shape_error if there are not as many labels, config_error for one
  /// outside of the vocabulary.
  template <class T>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& logits,
               std::span<const std::int32_t> labels, std::span<kernels::cross_entropy_row> out) const {
    expect<shape_error>(labels.size() == static_cast<std::size_t>(logits.size(0)) && out.size() == labels.size(),
                        "cross_entropy: ", logits.size(0), " rows, but ", labels.size(), " labels");
    for (const std::int32_t label : labels) {
      expect(label >= 0 && label < logits.size(1), "cross_entropy: label ", label, " is outside of the vocabulary of ",
             logits.size(1));
    }
    context.for_each_row(logits.size(0), 8 * logits.size(1), [&]<class Arch>(index_t row, Arch) {
      const auto at = static_cast<std::size_t>(row);
      out[at] = kernels::cross_entropy<Arch>(logits.row(row).data(), logits.size(1), labels[at], smoothing);
    });
  }

  /// Writes the gradient of the logits; what they had is not added to.
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& logits, std::span<const std::int32_t> labels,
                std::span<kernels::cross_entropy_row> found) const {
    context.for_each_row(logits.value.size(0), 8 * logits.value.size(1), [&]<class Arch>(index_t row, Arch) {
      const auto at = static_cast<std::size_t>(row);
      kernels::cross_entropy_backward<Arch>(logits.value.row(row).data(), logits.value.size(1), labels[at], smoothing,
                                            scale, found[at], logits.gradient.row(row).data());
    });
  }
};

}  // namespace runnel::ops
