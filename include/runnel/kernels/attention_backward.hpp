// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include <runnel/kernels/attention.hpp>
#include <runnel/kernels/elementwise_backward.hpp>

/// \file
/// Gradients of range attention (attention.hpp). Scores are computed again rather than kept: with weights P = softmax
/// of scale q k (soft-capped), g the gradient of the output, and d = sum over keys of P (g v),
///
///   dv = P g    ds = P (g v - d), times the cap's slope and the scale    dq = ds k    dk = ds q
///
/// One key/value head of one stream at a time, rows in ascending order: so sums over rows have one order whatever the
/// number of threads.

namespace runnel::kernels {

/// One segment of keys on the way back.
template <class T>
struct attention_segment_gradient {
  const T* queries = nullptr;         // [rows, heads, head_dim], rotated toward this segment
  T* query_gradient = nullptr;        // of the same shape, added to
  std::span<const key_range> ranges;  // [rows]
  const T* keys = nullptr;            // [count, kv_heads, head_dim], rotated
  T* key_gradient = nullptr;          // added to
  const T* values = nullptr;
  T* value_gradient = nullptr;  // added to
  index_t count = 0;
};

template <class T>
struct attention_gradient_args {
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  T scale = 1;
  T soft_cap = 0;
  index_t rows = 0;
  std::span<const attention_segment_gradient<T>> segments;
  const T* out_gradient = nullptr;  // [rows, heads, head_dim]
};

namespace detail {

/// Query vectors that go over the keys together.
inline constexpr std::size_t gradient_tile = 4;

[[nodiscard]] constexpr index_t padded_keys(index_t count) noexcept {
  return (count + page_keys - 1) / page_keys * page_keys;
}

}  // namespace detail

/// Elements of scratch that `range_attention_backward` needs for segments of `keys` keys in all.
template <class T>
[[nodiscard]] constexpr std::size_t attention_gradient_scratch(index_t keys, index_t head_dim,
                                                               std::size_t segments) noexcept {
  const auto padded = static_cast<std::size_t>(keys) + segments * static_cast<std::size_t>(page_keys);
  return padded * (2 * static_cast<std::size_t>(head_dim) + 3 * detail::gradient_tile);
}

namespace detail {

/// Works on one key/value head.
template <class Arch, class T>
class attention_gradient {
 public:
  using batch = simd::lanes<T, Arch>;
  static constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  static constexpr std::size_t tile = gradient_tile;
  static constexpr std::size_t max_segments = 4;

  attention_gradient(const attention_gradient_args<T>& args, index_t kv_head, T* scratch) noexcept
      : args_(args), kv_head_(kv_head) {
    for (std::size_t s = 0; s < args.segments.size(); ++s) {
      starts_[s] = stride_;
      stride_ += padded_keys(args.segments[s].count);
    }
    keys_ = scratch;
    values_ = keys_ + stride_ * args.head_dim;
    weights_ = values_ + stride_ * args.head_dim;
    slopes_ = weights_ + stride_ * static_cast<index_t>(tile);
    scores_ = slopes_ + stride_ * static_cast<index_t>(tile);
    for (std::size_t s = 0; s < args.segments.size(); ++s) {
      transpose(args.segments[s].keys, s, keys_);
      transpose(args.segments[s].values, s, values_);
    }
  }

  void run() noexcept {
    const index_t group = args_.heads / args_.kv_heads;
    const index_t count = args_.rows * group;
    for (index_t q = 0; q < count; q += static_cast<index_t>(tile)) {
      used_ = static_cast<std::size_t>(std::min<index_t>(static_cast<index_t>(tile), count - q));
      for (std::size_t i = 0; i < tile; ++i) {
        const index_t at = q + static_cast<index_t>(std::min(i, used_ - 1));
        rows_[i] = at / group;
        offsets_[i] = (rows_[i] * args_.heads + kv_head_ * group + at % group) * args_.head_dim;
      }
      run_tile();
    }
  }

 private:
  /// Keys or values of this head as [head_dim, keys], a lane a key; zeros where there is none.
  void transpose(const T* from, std::size_t s, T* to) const noexcept {
    const index_t count = args_.segments[s].count, step = args_.kv_heads * args_.head_dim;
    for (index_t i = 0; i < args_.head_dim; ++i) {
      T* const out = to + i * stride_ + starts_[s];
      const T* in = from + kv_head_ * args_.head_dim + i;
      for (index_t k = 0; k < count; ++k) out[k] = in[k * step];
      std::fill(out + count, out + padded_keys(count), T(0));
    }
  }

  /// From the first key that a row of the tile sees to the last, as places in the scratch, in whole registers.
  [[nodiscard]] key_range seen(std::size_t s) const noexcept {
    key_range all{std::numeric_limits<std::int32_t>::max(), 0};
    for (std::size_t i = 0; i < used_; ++i) {
      const key_range range = args_.segments[s].ranges[static_cast<std::size_t>(rows_[i])];
      if (range.begin >= range.end) continue;
      all.begin = std::min(all.begin, range.begin);
      all.end = std::max(all.end, range.end);
    }
    if (all.begin >= all.end) return {};
    constexpr auto w = static_cast<std::int32_t>(width);
    const auto start = static_cast<std::int32_t>(starts_[s]);
    return {start + all.begin / w * w, start + (all.end + w - 1) / w * w};
  }

  void run_tile() noexcept {
    std::array<T, tile> highest;
    highest.fill(-std::numeric_limits<T>::infinity());
    std::array<key_range, max_segments> all;
    for (std::size_t s = 0; s < args_.segments.size(); ++s) {
      all[s] = seen(s);
      const auto& segment = args_.segments[s];
      multiply(
          all[s], keys_, [&](std::size_t i) { return segment.queries + offsets_[i]; }, scores_);
      for (std::size_t i = 0; i < used_; ++i) highest[i] = std::max(highest[i], finish_scores(s, all[s], i));
    }
    std::array<T, tile> totals{};
    for (std::size_t s = 0; s < args_.segments.size(); ++s) {
      for (std::size_t i = 0; i < used_; ++i) totals[i] += exponentials(all[s], i, highest[i]);
    }
    // Scores are no longer needed: their place takes g v.
    std::array<T, tile> along{};
    for (std::size_t s = 0; s < args_.segments.size(); ++s) {
      multiply(
          all[s], values_, [&](std::size_t i) { return args_.out_gradient + offsets_[i]; }, scores_);
      for (std::size_t i = 0; i < used_; ++i) {
        along[i] += normalise(all[s], i, totals[i] > 0 ? T(1) / totals[i] : T(0));
      }
    }
    for (std::size_t s = 0; s < args_.segments.size(); ++s) {
      for (std::size_t i = 0; i < used_; ++i) score_gradients(all[s], i, along[i]);
      if (all[s].begin < all[s].end) add_gradients(s, all[s]);
    }
  }

  /// out[i, key] = vector(i) . row of `matrix` at key.
  template <class Vector>
  void multiply(key_range range, const T* matrix, Vector&& vector, T* out) const noexcept {
    std::array<const T*, tile> x;
    for (std::size_t i = 0; i < tile; ++i) x[i] = vector(i);
    for (std::int32_t at = range.begin; at < range.end; at += static_cast<std::int32_t>(width)) {
      batch sums[tile];
      RUNNEL_UNROLL for (std::size_t i = 0; i < tile; ++i) sums[i] = batch(T(0));
      const T* lane = matrix + at;
      for (index_t f = 0; f < args_.head_dim; ++f, lane += stride_) {
        const batch k = batch::load_unaligned(lane);
        RUNNEL_UNROLL for (std::size_t i = 0; i < tile; ++i) sums[i] = simd::fma(batch(x[i][f]), k, sums[i]);
      }
      RUNNEL_UNROLL for (std::size_t i = 0; i < tile; ++i) {
        sums[i].store_unaligned(out + static_cast<index_t>(i) * stride_ + at);
      }
    }
  }

  template <class F>
  void sweep_keys(key_range range, std::size_t i, F&& f) const noexcept {
    for (std::int32_t at = range.begin; at < range.end; at += static_cast<std::int32_t>(width)) {
      f(static_cast<index_t>(i) * stride_ + at, at);
    }
  }

  /// Scales and caps scores, hides what the row does not see; gives the highest.
  T finish_scores(std::size_t s, key_range range, std::size_t i) noexcept {
    const key_range visible = args_.segments[s].ranges[static_cast<std::size_t>(rows_[i])];
    const auto start = static_cast<T>(starts_[s]);
    const batch lowest(-std::numeric_limits<T>::infinity()), lane = simd::iota<T, Arch>();
    const batch begin(start + static_cast<T>(visible.begin)), end(start + static_cast<T>(visible.end));
    batch most = lowest;
    sweep_keys(range, i, [&](index_t place, std::int32_t at) {
      batch score = batch::load_unaligned(scores_ + place) * batch(args_.scale);
      batch slope(args_.scale);
      if (args_.soft_cap > 0) {
        const batch t = xsimd::tanh(score / batch(args_.soft_cap));
        score = batch(args_.soft_cap) * t;
        slope = slope * (batch(T(1)) - t * t);
      }
      const batch key = lane + batch(static_cast<T>(at));
      score = xsimd::select(key >= begin, score, lowest);
      score = xsimd::select(key < end, score, lowest);
      slope.store_unaligned(slopes_ + place);
      score.store_unaligned(weights_ + place);
      most = xsimd::max(most, score);
    });
    return simd::maximum(most);
  }

  T exponentials(key_range range, std::size_t i, T highest) noexcept {
    const batch lowest(-std::numeric_limits<T>::infinity());
    batch total(T(0));
    sweep_keys(range, i, [&](index_t place, std::int32_t) {
      const batch score = batch::load_unaligned(weights_ + place);
      const batch e = xsimd::select(score == lowest, batch(T(0)), xsimd::exp(score - batch(highest)));
      e.store_unaligned(weights_ + place);
      total = total + e;
    });
    return simd::sum(total);
  }

  /// Weights become shares of one; gives the sum of P (g v).
  T normalise(key_range range, std::size_t i, T inverse) noexcept {
    batch total(T(0));
    sweep_keys(range, i, [&](index_t place, std::int32_t) {
      const batch weight = batch::load_unaligned(weights_ + place) * batch(inverse);
      weight.store_unaligned(weights_ + place);
      total = simd::fma(weight, batch::load_unaligned(scores_ + place), total);
    });
    return simd::sum(total);
  }

  void score_gradients(key_range range, std::size_t i, T along) noexcept {
    sweep_keys(range, i, [&](index_t place, std::int32_t) {
      const batch change = batch::load_unaligned(scores_ + place) - batch(along);
      const batch slope = batch::load_unaligned(weights_ + place) * batch::load_unaligned(slopes_ + place);
      (slope * change).store_unaligned(scores_ + place);
    });
  }

  /// dq += ds k; dk += ds q; dv += P g, features in registers.
  void add_gradients(std::size_t s, key_range range) noexcept {
    const auto& segment = args_.segments[s];
    const index_t step = args_.kv_heads * args_.head_dim, head = kv_head_ * args_.head_dim;
    const auto start = static_cast<index_t>(starts_[s]);
    const index_t first = range.begin - start, last = std::min<index_t>(range.end - start, segment.count);
    index_t f = 0;
    for (; f + width <= args_.head_dim; f += width) {
      batch dq[tile], q[tile], g[tile];
      RUNNEL_UNROLL for (std::size_t i = 0; i < tile; ++i) {
        dq[i] = batch(T(0));
        q[i] = batch::load_unaligned(segment.queries + offsets_[i] + f);
        g[i] = batch::load_unaligned(args_.out_gradient + offsets_[i] + f);
      }
      for (index_t key = first; key < last; ++key) {
        const index_t at = key * step + head + f;
        const batch k = batch::load_unaligned(segment.keys + at);
        batch dk = batch::load_unaligned(segment.key_gradient + at);
        batch dv = batch::load_unaligned(segment.value_gradient + at);
        for (std::size_t i = 0; i < used_; ++i) {
          const index_t place = static_cast<index_t>(i) * stride_ + start + key;
          const batch ds(scores_[place]);
          dq[i] = simd::fma(ds, k, dq[i]);
          dk = simd::fma(ds, q[i], dk);
          dv = simd::fma(batch(weights_[place]), g[i], dv);
        }
        dk.store_unaligned(segment.key_gradient + at);
        dv.store_unaligned(segment.value_gradient + at);
      }
      for (std::size_t i = 0; i < used_; ++i) {
        T* const to = segment.query_gradient + offsets_[i] + f;
        (batch::load_unaligned(to) + dq[i]).store_unaligned(to);
      }
    }
    for (; f < args_.head_dim; ++f) add_feature(segment, {first, last}, start, step, head + f, f);
  }

  struct span_of_keys {
    index_t first;
    index_t last;
  };

  /// The same for one feature of a head whose size is not a multiple of the registers'.
  void add_feature(const attention_segment_gradient<T>& segment, span_of_keys keys, index_t start, index_t step,
                   index_t in_key, index_t f) noexcept {
    for (std::size_t i = 0; i < used_; ++i) {
      T dq = 0;
      const T q = segment.queries[offsets_[i] + f], g = args_.out_gradient[offsets_[i] + f];
      for (index_t key = keys.first; key < keys.last; ++key) {
        const index_t place = static_cast<index_t>(i) * stride_ + start + key, at = key * step + in_key;
        dq = std::fma(scores_[place], segment.keys[at], dq);
        segment.key_gradient[at] = std::fma(scores_[place], q, segment.key_gradient[at]);
        segment.value_gradient[at] = std::fma(weights_[place], g, segment.value_gradient[at]);
      }
      segment.query_gradient[offsets_[i] + f] += dq;
    }
  }

  const attention_gradient_args<T>& args_;
  index_t kv_head_;
  std::array<index_t, max_segments> starts_{};
  index_t stride_ = 0;  // keys of all segments, padded
  T* keys_ = nullptr;
  T* values_ = nullptr;
  T* weights_ = nullptr;  // [tile, stride]: P
  T* slopes_ = nullptr;   // scale times the soft-cap's slope
  T* scores_ = nullptr;   // scores, then g v, then ds
  std::size_t used_ = 0;
  std::array<index_t, tile> rows_{};
  std::array<index_t, tile> offsets_{};
};

}  // namespace detail

/// Adds the gradients of one key/value head. `scratch` holds `attention_gradient_scratch` elements.
template <class Arch, class T>
void range_attention_backward(const attention_gradient_args<T>& args, index_t kv_head, T* scratch) noexcept {
  detail::attention_gradient<Arch, T>(args, kv_head, scratch).run();
}

}  // namespace runnel::kernels
