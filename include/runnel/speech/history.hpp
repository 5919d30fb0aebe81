// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <vector>

#include <runnel/ops/eval.hpp>

namespace runnel::speech {

/// What a convolution over a stream still needs of the frames before: the exact state that makes any chunking give the
/// same bits. A value: copies go on from where they are.
class frame_history {
 public:
  frame_history() = default;
  /// Begins with `zeros` frames of zeros.
  explicit frame_history(index_t features, index_t zeros = 0)
      : features_(features), frames_(static_cast<std::size_t>(features * zeros)) {}

  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(frames_.size()) / features_; }

  /// These frames, then those of x.
  [[nodiscard]] ops::eval::value join(ops::eval& context, const ops::eval::value& x) const {
    const auto out = context.make(size() + x.size(0), features_);
    std::copy(frames_.begin(), frames_.end(), out.data());
    std::copy_n(x.data(), x.size(), out.data() + frames_.size());
    return out;
  }

  /// Keeps the frames of `joined` from `first` on.
  void keep(const ops::eval::value& joined, index_t first) {
    frames_.assign(joined.data() + first * features_, joined.data() + joined.size());
  }

 private:
  index_t features_ = 1;
  std::vector<float> frames_;
};

}  // namespace runnel::speech
