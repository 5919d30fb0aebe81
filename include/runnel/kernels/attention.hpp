// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/dtype.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/position/row_table.hpp>

/// \file
/// Range attention: the one primitive behind every plan (paper Fig. 2 right; eq. 6 split over segments).
///
/// A query row attends to key segments, to a visible range in each. Keys lie in pages of 64: per key/value head a block
/// of keys [head_dim, 64] (a lane is a key) and a block of values [64, padded head_dim] (a lane is a feature). Stored
/// as bf16, key i shares a word of 32 bits with key i + 32, and feature i with feature i + 16 of each 32, so that a
/// shift or a mask gives lanes in order. Scores and sums are float throughout. Softmax is online, page by page. Row
/// purity: pages are anchored at storage 0; each score is one chain over head_dim and each output feature one chain
/// over the row's own visible keys in ascending order, so neither chunking nor neighbouring rows change a bit.

namespace runnel::kernels {

/// Keys a page.
inline constexpr index_t page_keys = 64;

/// Head size rounded up so that rows of values are whole cache lines.
template <class T>
[[nodiscard]] constexpr index_t padded_head_dim(index_t head_dim) noexcept {
  constexpr auto line = static_cast<index_t>(memory_alignment / sizeof(T));
  return (head_dim + line - 1) / line * line;
}

/// Elements of one page for one key/value head, keys and values stored as S.
template <class S>
[[nodiscard]] constexpr index_t page_head_elements(index_t head_dim) noexcept {
  return page_keys * (head_dim + padded_head_dim<S>(head_dim));
}

namespace detail {

/// How keys and values of a page are stored: where an element stands in its row, and how lanes of a row are loaded.
template <class S>
struct page_layout {
  using scalar = S;
  [[nodiscard]] static constexpr index_t key_place(index_t key) noexcept { return key; }
  [[nodiscard]] static constexpr index_t feature_place(index_t feature) noexcept { return feature; }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<S, Arch> load_keys(const S* row, index_t key) noexcept {
    return simd::lanes<S, Arch>::load_aligned(row + key);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<S, Arch> load_features(const S* row, index_t feature) noexcept {
    return simd::lanes<S, Arch>::load_aligned(row + feature);
  }
};

template <>
struct page_layout<bf16> {
  using scalar = float;
  [[nodiscard]] static constexpr index_t key_place(index_t key) noexcept { return 2 * (key % 32) + key / 32; }
  [[nodiscard]] static constexpr index_t feature_place(index_t feature) noexcept {
    return feature / 32 * 32 + 2 * (feature % 16) + feature % 32 / 16;
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> load_keys(const bf16* row, index_t key) noexcept {
    return half<Arch>(row + 2 * (key % 32), key >= 32);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> load_features(const bf16* row, index_t feature) noexcept {
    return half<Arch>(row + feature / 32 * 32 + 2 * (feature % 16), feature % 32 >= 16);
  }

 private:
  static_assert(std::endian::native == std::endian::little);

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> half(const bf16* words, bool upper) noexcept {
    using ints = simd::lanes<std::int32_t, Arch>;
    const ints both = ints::load_aligned(reinterpret_cast<const std::int32_t*>(words));
    return simd::bit_cast_to<float>(upper ? both & ints(static_cast<std::int32_t>(0xffff0000u)) : both << 16);
  }
};

}  // namespace detail

/// Rows of keys and values on their way into pages: `count` of them, stored one after another from `storage` on. Each
/// is [kv_heads, head_dim], and the next lies a stride further.
template <class T>
struct key_value_rows {
  index_t storage = 0;
  const T* keys = nullptr;
  const T* values = nullptr;
  index_t count = 1;
  index_t key_stride = 0;
  index_t value_stride = 0;

  /// Calls `f(page, rows)` with what falls into each page.
  template <class F>
  void by_page(F&& f) const {
    for (index_t done = 0; done < count;) {
      key_value_rows part = *this;
      part.storage += done;
      part.keys += done * key_stride;
      part.values += done * value_stride;
      part.count = std::min(count - done, page_keys - part.storage % page_keys);
      f(static_cast<std::size_t>(part.storage / page_keys), part);
      done += part.count;
    }
  }
};

/// Writes rows to the one page they fall in, whose elements are S.
template <class S, class T>
void store_key_values(std::byte* page, const key_value_rows<T>& rows, index_t kv_heads, index_t head_dim) noexcept {
  using layout = detail::page_layout<S>;
  const index_t slot = rows.storage % page_keys;
  const index_t padded = padded_head_dim<S>(head_dim);
  for (index_t h = 0; h < kv_heads; ++h) {
    S* keys = reinterpret_cast<S*>(page) + h * page_head_elements<S>(head_dim);
    S* values = keys + head_dim * page_keys + slot * padded;
    const T* key = rows.keys + h * head_dim;
    for (index_t i = 0; i < head_dim; ++i, ++key, keys += page_keys) {  // one line of the page at a time
      for (index_t r = 0; r < rows.count; ++r) keys[layout::key_place(slot + r)] = S(key[r * rows.key_stride]);
    }
    for (index_t r = 0; r < rows.count; ++r, values += padded) {
      const T* value = rows.values + r * rows.value_stride + h * head_dim;
      for (index_t i = 0; i < head_dim; ++i) values[layout::feature_place(i)] = S(value[i]);
    }
  }
}

/// Reads back one head's key of the row at `storage`, as it was stored: `key` is [head_dim]. One element at a time.
template <class S, class T>
void load_key(const std::byte* page, index_t storage, index_t kv_head, index_t head_dim, T* key) noexcept {
  const S* keys = reinterpret_cast<const S*>(page) + kv_head * page_head_elements<S>(head_dim);
  const index_t place = detail::page_layout<S>::key_place(storage % page_keys);
  for (index_t i = 0; i < head_dim; ++i) key[i] = static_cast<T>(keys[i * page_keys + place]);
}

/// One segment of keys as the rows of a pass see it.
template <class T>
struct attention_segment {
  const T* queries = nullptr;         // [rows, heads, head_dim], rotated by value + offset toward this segment
  std::span<const key_range> ranges;  // [rows]
  std::span<std::byte* const> pages;  // of the segment's store
};

/// One pass of range attention over one stream.
template <class T>
struct attention_args {
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  T scale = 1;
  T soft_cap = 0;  // 0: none; else scores become cap tanh(score / cap)
  std::span<const attention_segment<T>> segments;
  T* out = nullptr;  // [rows, heads, head_dim]
};

/// Query rows that share a page while it is in the first cache.
inline constexpr index_t attention_rows = 16;

/// Elements of scratch that `range_attention` needs for `queries` = rows x heads a key/value head.
template <class T>
[[nodiscard]] constexpr std::size_t attention_scratch(index_t queries, index_t head_dim) noexcept {
  constexpr index_t widest = 16;
  return static_cast<std::size_t>(queries * (padded_head_dim<T>(head_dim) + 2 * widest));
}

namespace detail {

/// What online softmax carries from page to page for one query vector.
template <class T>
struct softmax_state {
  T* sums;     // [padded head_dim] weighted values
  T* weights;  // one register: sum of weights by lane
  T* maximum;  // [1]
};

/// Scores of one query vector against a page.
template <class T>
using page_scores = std::array<T, static_cast<std::size_t>(page_keys)>;

/// Brings what a state holds to a new maximum.
template <class Arch, class T>
void rescale(const softmax_state<T>& state, index_t padded, T factor) noexcept {
  using batch = simd::lanes<T, Arch>;
  const batch by(factor);
  (batch::load_aligned(state.weights) * by).store_aligned(state.weights);
  for (index_t i = 0; i < padded; i += static_cast<index_t>(simd::width<T, Arch>)) {
    (batch::load_aligned(state.sums + i) * by).store_aligned(state.sums + i);
  }
}

/// Scores become weights relative to the running maximum; earlier sums are brought to the new maximum.
template <class Arch, class T>
void soften(const attention_args<T>& args, page_scores<T>& row, key_range visible,
            const softmax_state<T>& state) noexcept {
  using batch = simd::lanes<T, Arch>;
  constexpr auto width = static_cast<std::int32_t>(simd::width<T, Arch>);
  if (visible.begin >= visible.end) return;
  const std::int32_t start = visible.begin / width * width;
  const batch lowest(-std::numeric_limits<T>::infinity());
  const batch lane = simd::iota<T, Arch>();
  batch most = lowest;
  for (std::int32_t at = start; at < visible.end; at += width) {
    T* const score = row.data() + static_cast<std::size_t>(at);
    batch s = batch::load_aligned(score) * batch(args.scale);
    if (args.soft_cap > 0) s = batch(args.soft_cap) * xsimd::tanh(s / batch(args.soft_cap));
    const batch key = lane + batch(static_cast<T>(at));
    s = xsimd::select(key >= batch(static_cast<T>(visible.begin)), s, lowest);
    s = xsimd::select(key < batch(static_cast<T>(visible.end)), s, lowest);
    s.store_aligned(score);
    most = xsimd::max(most, s);
  }
  const T highest = simd::maximum(most);
  if (highest > *state.maximum) {
    rescale<Arch>(state, padded_head_dim<T>(args.head_dim), std::exp(*state.maximum - highest));
    *state.maximum = highest;
  }
  batch total = batch::load_aligned(state.weights);
  for (std::int32_t at = start; at < visible.end; at += width) {
    T* const weight = row.data() + static_cast<std::size_t>(at);
    const batch s = batch::load_aligned(weight);
    const batch e = xsimd::select(s == lowest, batch(T(0)), xsimd::exp(s - batch(*state.maximum)));
    e.store_aligned(weight);
    total = total + e;
  }
  total.store_aligned(state.weights);
}

/// Query vectors that go through a page together: `count` of them, and whatever makes up for those that are missing.
template <class T, std::size_t Count>
struct query_tile {
  std::size_t count = 0;
  std::array<const T*, Count> queries{};
  std::array<key_range, Count> visible{};
  std::array<softmax_state<T>, Count> states{};
};

/// Scores of up to `Count` query vectors against the keys of one page, then their weighted values.
template <class Arch, class T, class S, std::size_t Count>
struct page_pass {
  using layout = page_layout<S>;
  using tile = query_tile<T, Count>;
  using batch = simd::lanes<T, Arch>;
  static constexpr std::size_t width = simd::width<T, Arch>;
  static constexpr std::size_t columns =
      std::min<std::size_t>(simd::registers<Arch> == 32 ? 4 : 2, static_cast<std::size_t>(page_keys) / width);

  const attention_args<T>& args;
  const S* keys;    // [head_dim, 64]
  const S* values;  // [64, padded]

  void run(const tile& of) const noexcept {
    alignas(64) std::array<page_scores<T>, Count> weights;
    std::int32_t first = of.visible[0].begin, last = of.visible[0].end;
    for (std::size_t q = 1; q < of.count; ++q) {
      first = std::min(first, of.visible[q].begin);
      last = std::max(last, of.visible[q].end);
    }
    constexpr auto stride = static_cast<std::int32_t>(columns * width);
    for (std::int32_t at = first / stride * stride; at < last; at += stride) {
      const auto wanted = static_cast<std::size_t>(last - at);
      if (wanted > columns / 2 * width) {
        score<columns>(of, at, weights);
      } else if (columns > 2 && wanted > width) {
        score<columns / 2>(of, at, weights);
      } else {
        score<1>(of, at, weights);
      }
    }
    for (std::size_t q = 0; q < of.count; ++q) soften<Arch>(args, weights[q], of.visible[q], of.states[q]);
    weigh_all(of, weights);
  }

 private:
  /// `Columns` registers of keys from `at` on.
  template <std::size_t Columns>
  void score(const tile& of, std::int32_t at, std::array<page_scores<T>, Count>& out) const noexcept {
    batch sums[Count][Columns];
    RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) sums[q][v] = batch(T(0));
    }
    const S* key = keys;
    for (index_t i = 0; i < args.head_dim; ++i, key += page_keys) {
      batch k[Columns];
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
        k[v] = layout::template load_keys<Arch>(key, at + static_cast<index_t>(v * width));
      }
      RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
        const batch value(of.queries[q][i]);
        RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) sums[q][v] = simd::fma(value, k[v], sums[q][v]);
      }
    }
    RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
        sums[q][v].store_aligned(out[q].data() + static_cast<std::size_t>(at) + v * width);
      }
    }
  }

  /// Adds the weighted values of keys [begin, end), `Columns` registers of features at a time, for `Num` query vectors
  /// from the q0-th on.
  template <std::size_t Num, std::size_t Columns>
  void accumulate(const tile& of, const std::array<page_scores<T>, Count>& weights, std::size_t q0, index_t feature,
                  key_range range) const noexcept {
    const index_t stride = padded_head_dim<S>(args.head_dim);
    batch sums[Num][Columns];
    RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        sums[q][c] = batch::load_aligned(of.states[q0 + q].sums + feature + static_cast<index_t>(c * width));
      }
    }
    for (std::int32_t key = range.begin; key < range.end; ++key) {
      const S* value = values + key * stride;
      batch v[Columns];
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        v[c] = layout::template load_features<Arch>(value, feature + static_cast<index_t>(c * width));
      }
      RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
        const batch weight(weights[q0 + q][static_cast<std::size_t>(key)]);
        RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) sums[q][c] = simd::fma(weight, v[c], sums[q][c]);
      }
    }
    RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        sums[q][c].store_aligned(of.states[q0 + q].sums + feature + static_cast<index_t>(c * width));
      }
    }
  }

  /// The same for all features.
  template <std::size_t Num>
  void weigh(const tile& of, const std::array<page_scores<T>, Count>& weights, std::size_t q0,
             key_range range) const noexcept {
    if (range.begin >= range.end) return;
    constexpr auto wide = static_cast<index_t>(columns * width);
    const index_t padded = padded_head_dim<T>(args.head_dim);
    index_t feature = 0;
    for (; feature + wide <= padded; feature += wide) accumulate<Num, columns>(of, weights, q0, feature, range);
    if constexpr (columns == 4) {
      for (; feature + wide / 2 <= padded; feature += wide / 2) accumulate<Num, 2>(of, weights, q0, feature, range);
    }
    if constexpr (static_cast<index_t>(memory_alignment / sizeof(T)) % wide != 0) {  // else rows are whole steps
      for (; feature < padded; feature += static_cast<index_t>(width)) {
        accumulate<Num, 1>(of, weights, q0, feature, range);
      }
    }
  }

  /// Keys that all rows see share the loads of values; what a row sees before and after stays in its own order.
  void weigh_all(const tile& of, const std::array<page_scores<T>, Count>& weights) const noexcept {
    key_range all = of.visible[0];
    for (std::size_t q = 1; q < of.count; ++q) {
      all.begin = std::max(all.begin, of.visible[q].begin);
      all.end = std::min(all.end, of.visible[q].end);
    }
    const bool shared = all.begin < all.end && of.count == Count;
    for (std::size_t q = 0; q < of.count; ++q) {
      weigh<1>(of, weights, q, {of.visible[q].begin, shared ? all.begin : of.visible[q].end});
    }
    if (!shared) return;
    weigh<Count>(of, weights, 0, all);
    for (std::size_t q = 0; q < of.count; ++q) weigh<1>(of, weights, q, {all.end, of.visible[q].end});
  }
};

/// From the first key that any of the rows sees to the last; empty if none sees any.
[[nodiscard]] inline key_range visible_to_any(std::span<const key_range> ranges, index_t row_begin,
                                              index_t row_end) noexcept {
  key_range all{std::numeric_limits<std::int32_t>::max(), 0};
  for (index_t row = row_begin; row < row_end; ++row) {
    const key_range range = ranges[static_cast<std::size_t>(row)];
    if (range.begin >= range.end) continue;
    all.begin = std::min(all.begin, range.begin);
    all.end = std::max(all.end, range.end);
  }
  return all;
}

}  // namespace detail

/// Rows [row_begin, row_end) (at most `attention_rows`) of one key/value head, keys and values stored as S. `scratch`
/// is 64-byte aligned.
template <class Arch, class S, class T>
void range_attention(const attention_args<T>& args, index_t row_begin, index_t row_end, index_t kv_head,
                     T* scratch) noexcept {
  constexpr std::size_t width = simd::width<T, Arch>;
  constexpr index_t widest = 16;
  constexpr std::size_t together = 4;
  using batch = simd::lanes<T, Arch>;
  const index_t padded = padded_head_dim<T>(args.head_dim);
  const index_t group = args.heads / args.kv_heads;
  const index_t count = (row_end - row_begin) * group;
  T* const sums = scratch;
  T* const weights = sums + count * padded;
  T* const maxima = weights + count * widest;
  std::fill(sums, weights + count * widest, T(0));
  for (index_t q = 0; q < count; ++q) maxima[q * widest] = -std::numeric_limits<T>::infinity();

  for (const attention_segment<T>& segment : args.segments) {
    const key_range all = detail::visible_to_any(segment.ranges, row_begin, row_end);
    for (auto page = static_cast<std::int32_t>(all.begin / page_keys); page * page_keys < all.end; ++page) {
      const S* keys = reinterpret_cast<const S*>(segment.pages[static_cast<std::size_t>(page)]) +
                      kv_head * page_head_elements<S>(args.head_dim);
      const detail::page_pass<Arch, T, S, together> pass{args, keys, keys + args.head_dim * page_keys};
      const detail::page_pass<Arch, T, S, 1> alone{args, keys, keys + args.head_dim * page_keys};
      const auto start = static_cast<std::int32_t>(page * page_keys);
      detail::query_tile<T, together> tile;
      const auto flush = [&] {
        if (tile.count == 0) return;
        if (tile.count == 1) {
          alone.run({1, {tile.queries[0]}, {tile.visible[0]}, {tile.states[0]}});
        } else {
          for (std::size_t q = tile.count; q < together; ++q) tile.queries[q] = tile.queries[0];
          pass.run(tile);
        }
        tile.count = 0;
      };
      for (index_t q = 0; q < count; ++q) {
        const index_t row = row_begin + q / group;
        key_range range = segment.ranges[static_cast<std::size_t>(row)];
        range.begin = std::max(range.begin - start, 0);
        range.end = std::min(range.end - start, static_cast<std::int32_t>(page_keys));
        if (range.begin >= range.end) continue;
        const index_t head = kv_head * group + q % group;
        tile.queries[tile.count] = segment.queries + (row * args.heads + head) * args.head_dim;
        tile.visible[tile.count] = range;
        tile.states[tile.count] = {sums + q * padded, weights + q * widest, maxima + q * widest};
        if (++tile.count == together) flush();
      }
      flush();
    }
  }

  for (index_t q = 0; q < count; ++q) {
    const index_t row = row_begin + q / group;
    const index_t head = kv_head * group + q % group;
    T* out = args.out + (row * args.heads + head) * args.head_dim;
    const T total = simd::sum(batch::load_aligned(weights + q * widest));
    const T inverse = total > 0 ? T(1) / total : T(0);  // nothing visible gives zeros
    for (index_t i = 0; i < args.head_dim; ++i) out[i] = sums[q * padded + i] * inverse;
  }
  static_assert(width <= static_cast<std::size_t>(widest));
}

}  // namespace runnel::kernels
