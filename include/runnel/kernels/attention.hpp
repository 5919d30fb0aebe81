// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <runnel/core/dtype.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/kernels/activations.hpp>
#include <runnel/kernels/key_value_page.hpp>
#include <runnel/kernels/online_softmax.hpp>
#include <runnel/position/row_table.hpp>

/// \file
/// Range attention: the one primitive behind every plan (paper Fig. 2 right; eq. 6 split over segments).
///
/// A query row attends to key segments, to a visible range in each; keys and values lie in pages
/// (kernels/key_value_page.hpp). Softmax is online, page by page, and sums are T. Two ways to multiply: exactly in T,
/// whatever pages hold; or in pairs of bf16, where pages hold bf16 and queries and weights are rounded to it.
///
/// Row purity: pages are anchored at storage 0; each score is one chain over head_dim and each output feature one chain
/// over the row's own visible keys in ascending order (pairs of them in bf16), broken at every multiple of
/// `stripe_keys`; stripes are put together in ascending order. So neither chunking nor neighbouring rows nor who worked
/// on which stripe change a bit.

namespace runnel::kernels {

/// One segment of keys as the rows of a pass see it.
template <class T>
struct attention_segment {
  const T* queries = nullptr;         // [rows, heads, head_dim], rotated by value + offset toward this segment
  std::span<const key_range> ranges;  // [rows]
  std::span<std::byte* const> pages;  // of the segment's store
  index_t dropped = 0;                // entries that once stood before the first: stripes are counted from those
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

/// Keys of a segment that one piece of work takes in: longer segments can be shared out among threads.
inline constexpr index_t stripe_keys = 512;

/// T elements of what `attend` gives for `queries` = rows x heads a key/value head.
template <class T>
[[nodiscard]] constexpr index_t attention_state(index_t queries, index_t head_dim) noexcept {
  return queries * detail::softmax_state_size<T>(head_dim);
}

/// T elements of scratch that `attend` needs for as many queries: a page's numbers, and queries as pairs.
template <class T>
[[nodiscard]] constexpr index_t attend_scratch(index_t queries, index_t head_dim) noexcept {
  const index_t page = page_keys * (head_dim + padded_head_dim<T>(head_dim));
  return page + (queries * pair_count(head_dim) + 15) / 16 * 16;
}

/// T elements of scratch that `range_attention` needs for as many queries.
template <class T>
[[nodiscard]] constexpr index_t attention_scratch(index_t queries, index_t head_dim) noexcept {
  return 2 * attention_state<T>(queries, head_dim) + attend_scratch<T>(queries, head_dim);
}

namespace detail {

/// How scores and sums are multiplied: in T, one number at a time.
template <class T>
struct exact_attention {
  using element = T;                     // of queries, keys, weights and values
  static constexpr index_t numbers = 1;  // an element

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<T, Arch> step(T x, const simd::lanes<T, Arch>& y,
                                                 const simd::lanes<T, Arch>& acc) noexcept {
    return simd::fma(simd::lanes<T, Arch>(x), y, acc);
  }
};

/// In pairs of bf16.
struct paired_attention {
  using element = std::int32_t;
  static constexpr index_t numbers = 2;

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> step(std::int32_t x, const simd::lanes<std::int32_t, Arch>& y,
                                                     const simd::lanes<float, Arch>& acc) noexcept {
    return simd::dot2<Arch>(acc, y, simd::lanes<std::int32_t, Arch>(x));
  }
};

/// Query vectors that go through a page together, as elements of `Arithmetic`.
template <class Arithmetic, class T, std::size_t Count>
struct query_tile {
  std::array<const typename Arithmetic::element*, Count> queries{};
  std::array<key_range, Count> visible{};  // in the page; not empty
  std::array<softmax_state<T>, Count> states{};
};

/// Scores of `Count` query vectors against the keys of one page, then their weighted values.
template <class Arch, class Arithmetic, class T, std::size_t Count>
struct page_pass {
  using element = typename Arithmetic::element;
  using tile = query_tile<Arithmetic, T, Count>;
  using batch = simd::lanes<T, Arch>;
  using elements = simd::lanes<element, Arch>;
  using all_weights = std::array<std::array<element, static_cast<std::size_t>(page_keys / Arithmetic::numbers)>, Count>;
  static constexpr std::size_t width = simd::width<T, Arch>;
  static constexpr std::size_t columns =
      std::min<std::size_t>(simd::registers<Arch> == 32 ? 4 : 2, static_cast<std::size_t>(page_keys) / width);

  const attention_args<T>& args;
  const element* keys;    // [elements of a key, 64]
  const element* values;  // [elements of 64 keys, padded]

  void run(const tile& of) const noexcept {
    alignas(64) std::array<page_scores<T>, Count> scores;
    std::int32_t first = of.visible[0].begin, last = of.visible[0].end;
    for (std::size_t q = 1; q < Count; ++q) {
      first = std::min(first, of.visible[q].begin);
      last = std::max(last, of.visible[q].end);
    }
    constexpr auto stride = static_cast<std::int32_t>(columns * width);
    for (std::int32_t at = first / stride * stride; at < last; at += stride) {
      const auto wanted = static_cast<std::size_t>(last - at);
      if (wanted > columns / 2 * width) {
        score<columns>(of, at, scores);
      } else if (columns > 2 && wanted > width) {
        score<columns / 2>(of, at, scores);
      } else {
        score<1>(of, at, scores);
      }
    }
    for (std::size_t q = 0; q < Count; ++q) {
      soften<Arch>(detail::score_scaling<T>{args.scale, args.soft_cap}, scores[q], of.visible[q], args.head_dim,
                   of.states[q]);
    }
    if constexpr (Arithmetic::numbers == 1) {
      weigh_all(of, scores);
    } else {
      alignas(64) all_weights weights;
      constexpr auto lanes = static_cast<std::int32_t>(width);
      for (std::size_t q = 0; q < Count; ++q) {
        const std::int32_t start = of.visible[q].begin / lanes * lanes;
        for (std::int32_t at = start; at < of.visible[q].end; at += lanes) {
          simd::store_bf16<Arch>(batch::load_aligned(scores[q].data() + at), weights[q].data() + at / 2);
        }
      }
      weigh_all(of, weights);
    }
  }

 private:
  /// `Columns` registers of keys from `at` on.
  template <std::size_t Columns>
  void score(const tile& of, std::int32_t at, std::array<page_scores<T>, Count>& out) const noexcept {
    batch sums[Count][Columns];
    RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) sums[q][v] = batch(T(0));
    }
    const index_t steps = (args.head_dim + Arithmetic::numbers - 1) / Arithmetic::numbers;
    const element* key = keys + at;
    for (index_t i = 0; i < steps; ++i, key += page_keys) {
      elements k[Columns];
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) k[v] = elements::load_aligned(key + v * width);
      RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
        const element x = of.queries[q][i];
        RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
          sums[q][v] = Arithmetic::template step<Arch>(x, k[v], sums[q][v]);
        }
      }
    }
    RUNNEL_UNROLL for (std::size_t q = 0; q < Count; ++q) {
      RUNNEL_UNROLL for (std::size_t v = 0; v < Columns; ++v) {
        sums[q][v].store_aligned(out[q].data() + static_cast<std::size_t>(at) + v * width);
      }
    }
  }

  /// Adds the weighted values of elements [begin, end) of keys, `Columns` registers of features at a time, for `Num`
  /// query vectors from the q0-th on. Of the values' bits those in `kept` count.
  template <std::size_t Num, std::size_t Columns, bool Masked, class Weights>
  void accumulate(const tile& of, const Weights& weights, std::size_t q0, index_t feature, key_range range,
                  std::uint32_t kept) const noexcept {
    const index_t stride = padded_head_dim<T>(args.head_dim);
    batch sums[Num][Columns];
    RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        sums[q][c] = batch::load_aligned(of.states[q0 + q].sums + feature + static_cast<index_t>(c * width));
      }
    }
    const element* value = values + range.begin * stride + feature;
    for (std::int32_t at = range.begin; at < range.end; ++at, value += stride) {
      elements v[Columns];
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        v[c] = elements::load_aligned(value + c * width);
        if constexpr (Masked) v[c] = v[c] & elements(static_cast<element>(kept));
      }
      RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
        const element weight = weights[q0 + q][static_cast<std::size_t>(at)];
        RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
          sums[q][c] = Arithmetic::template step<Arch>(weight, v[c], sums[q][c]);
        }
      }
    }
    RUNNEL_UNROLL for (std::size_t q = 0; q < Num; ++q) {
      RUNNEL_UNROLL for (std::size_t c = 0; c < Columns; ++c) {
        sums[q][c].store_aligned(of.states[q0 + q].sums + feature + static_cast<index_t>(c * width));
      }
    }
  }

  /// The same for all features.
  template <std::size_t Num, bool Masked = false, class Weights>
  void weigh(const tile& of, const Weights& weights, std::size_t q0, key_range range,
             std::uint32_t kept = 0) const noexcept {
    if (range.begin >= range.end) return;
    constexpr auto wide = static_cast<index_t>(columns * width);
    const index_t padded = padded_head_dim<T>(args.head_dim);
    index_t feature = 0;
    for (; feature + wide <= padded; feature += wide) {
      accumulate<Num, columns, Masked>(of, weights, q0, feature, range, kept);
    }
    if constexpr (columns == 4) {
      for (; feature + wide / 2 <= padded; feature += wide / 2) {
        accumulate<Num, 2, Masked>(of, weights, q0, feature, range, kept);
      }
    }
    if constexpr (static_cast<index_t>(memory_alignment / sizeof(T)) % wide != 0) {  // else rows are whole steps
      for (; feature < padded; feature += static_cast<index_t>(width)) {
        accumulate<Num, 1, Masked>(of, weights, q0, feature, range, kept);
      }
    }
  }

  /// What one query vector sees of keys [begin, end), a key that shares an element with one it does not see by itself.
  template <class Weights>
  void weigh_alone(const tile& of, const Weights& weights, std::size_t q, key_range range) const noexcept {
    if (range.begin >= range.end) return;
    if constexpr (Arithmetic::numbers == 1) {
      weigh<1>(of, weights, q, range);
    } else {
      const std::int32_t first = range.begin / 2, last = range.end / 2;
      if (range.begin % 2 != 0) weigh<1, true>(of, weights, q, {first, first + 1}, 0xffff0000u);
      weigh<1>(of, weights, q, {(range.begin + 1) / 2, last});
      if (range.end % 2 != 0) weigh<1, true>(of, weights, q, {last, last + 1}, 0x0000ffffu);
    }
  }

  /// Keys that all rows see share the loads of values; what a row sees before and after stays in its own order.
  template <class Weights>
  void weigh_all(const tile& of, const Weights& weights) const noexcept {
    constexpr auto whole = static_cast<std::int32_t>(Arithmetic::numbers);
    key_range all = of.visible[0];
    for (std::size_t q = 1; q < Count; ++q) {
      all.begin = std::max(all.begin, of.visible[q].begin);
      all.end = std::min(all.end, of.visible[q].end);
    }
    all = {(all.begin + whole - 1) / whole * whole, all.end / whole * whole};
    if (Count == 1 || all.begin >= all.end) {
      for (std::size_t q = 0; q < Count; ++q) weigh_alone(of, weights, q, of.visible[q]);
      return;
    }
    for (std::size_t q = 0; q < Count; ++q) weigh_alone(of, weights, q, {of.visible[q].begin, all.begin});
    weigh<Count>(of, weights, 0, {all.begin / whole, all.end / whole});
    for (std::size_t q = 0; q < Count; ++q) weigh_alone(of, weights, q, {all.end, of.visible[q].end});
  }
};

/// One page of one segment, for the query vectors of some rows and one key/value head.
template <class Arch, class Arithmetic, class T>
struct page_of_segment {
  using element = typename Arithmetic::element;
  static constexpr std::size_t together = 4;

  const attention_args<T>& args;
  std::span<const key_range> ranges;
  index_t row_begin;
  index_t group;           // query vectors a row
  const element* queries;  // that of row r and head h at r * row_stride + h * head_stride
  index_t row_stride;
  index_t head_stride;
  T* states;

  void run(index_t count, std::int32_t start, const element* keys, const element* values) const noexcept {
    query_tile<Arithmetic, T, together> tile;
    std::size_t filled = 0;
    for (index_t q = 0; q < count; ++q) {
      const key_range range = within_page(ranges[static_cast<std::size_t>(row_begin + q / group)], start);
      if (range.begin >= range.end) continue;
      tile.queries[filled] = queries + q / group * row_stride + q % group * head_stride;
      tile.visible[filled] = range;
      tile.states[filled] = softmax_state<T>(states, q, args.head_dim);
      if (++filled == together) flush(tile, std::exchange(filled, 0), keys, values);
    }
    flush(tile, filled, keys, values);
  }

 private:
  template <std::size_t Count = together>
  void flush(const query_tile<Arithmetic, T, together>& tile, std::size_t filled, const element* keys,
             const element* values) const noexcept {
    if (filled == Count) {
      query_tile<Arithmetic, T, Count> part;
      std::copy_n(tile.queries.begin(), Count, part.queries.begin());
      std::copy_n(tile.visible.begin(), Count, part.visible.begin());
      std::copy_n(tile.states.begin(), Count, part.states.begin());
      page_pass<Arch, Arithmetic, T, Count>{args, keys, values}.run(part);
    } else if constexpr (Count > 1) {
      flush<Count - 1>(tile, filled, keys, values);
    }
  }
};

}  // namespace detail

/// Rows [row_begin, row_end) (at most `attention_rows`) and one key/value head.
struct attention_tile {
  index_t row_begin = 0;
  index_t row_end = 0;
  index_t kv_head = 0;
};

/// Stripes [begin, end) that what rows of a tile see falls into; the first, of which nothing comes, if they see
/// nothing.
struct stripe_range {
  index_t begin = 0;
  index_t end = 0;
  [[nodiscard]] index_t count() const noexcept { return end - begin; }
};

template <class T>
[[nodiscard]] stripe_range stripes_of(const attention_args<T>& args, const attention_tile& tile) noexcept {
  stripe_range all{std::numeric_limits<index_t>::max(), 0};
  for (const attention_segment<T>& segment : args.segments) {
    const key_range seen = visible_to_any(segment.ranges, tile.row_begin, tile.row_end);
    if (seen.begin >= seen.end) continue;
    all.begin = std::min(all.begin, (segment.dropped + seen.begin) / stripe_keys);
    all.end = std::max(all.end, (segment.dropped + seen.end - 1) / stripe_keys + 1);
  }
  return all.end == 0 ? stripe_range{0, 1} : all;
}

/// What a tile gathers from one stripe, entries [stripe, stripe + 1) * stripe_keys of every segment (those that were
/// dropped counted), goes to `states` (`attention_state`). Keys and values are kept as S; `paired` (for bf16)
/// multiplies them as they are. `states` and `scratch` are 64-byte aligned.
template <class Arch, class S, class T>
void attend(const attention_args<T>& args, const attention_tile& tile, index_t stripe, [[maybe_unused]] bool paired,
            T* states, T* scratch) noexcept {
  using layout = detail::page_layout<S>;
  const index_t group = args.heads / args.kv_heads, rows = tile.row_end - tile.row_begin, count = rows * group;
  std::fill_n(states, attention_state<T>(count, args.head_dim), T(0));
  for (index_t q = 0; q < count; ++q) {
    *detail::softmax_state<T>(states, q, args.head_dim).maximum = -std::numeric_limits<T>::infinity();
  }
  for (const attention_segment<T>& segment : args.segments) {
    key_range all = visible_to_any(segment.ranges, tile.row_begin, tile.row_end);
    const index_t from = stripe * stripe_keys - segment.dropped;
    if (all.begin >= all.end || all.begin >= from + stripe_keys || all.end <= from) continue;
    all.begin = static_cast<std::int32_t>(std::max<index_t>(all.begin, from));
    all.end = static_cast<std::int32_t>(std::min<index_t>(all.end, from + stripe_keys));
    // Calls f(start, what rows see, head) for the pages of which they see something.
    const auto over_pages = [&](auto&& f) {
      for (auto page = static_cast<std::int32_t>(all.begin / page_keys); page * page_keys < all.end; ++page) {
        const auto start = static_cast<std::int32_t>(page * page_keys);
        key_range seen{page_keys, 0};
        for (index_t row = tile.row_begin; row < tile.row_end; ++row) {
          const key_range here = detail::within_page(segment.ranges[static_cast<std::size_t>(row)], start);
          if (here.begin < here.end) seen = {std::min(seen.begin, here.begin), std::max(seen.end, here.end)};
        }
        if (seen.begin >= seen.end) continue;
        f(start, seen,
          segment.pages[static_cast<std::size_t>(page)] + tile.kv_head * page_head_bytes<S>(args.head_dim));
      }
    };
    const index_t row_size = args.heads * args.head_dim;
    const T* const queries = segment.queries + tile.row_begin * row_size + tile.kv_head * group * args.head_dim;
    if constexpr (std::is_same_v<S, bf16> && std::is_same_v<T, float>) {
      if (paired) {
        const index_t words = pair_count(args.head_dim);
        auto* const pairs = reinterpret_cast<std::int32_t*>(scratch);
        for (index_t q = 0; q < count; ++q) {
          const key_range seen = segment.ranges[static_cast<std::size_t>(tile.row_begin + q / group)];
          if (seen.begin >= seen.end) continue;  // its query may be unset
          round_row_to_bf16<Arch>(queries + q / group * row_size + q % group * args.head_dim, args.head_dim,
                                  pairs + q * words);
        }
        const detail::page_of_segment<Arch, detail::paired_attention, T> with{
            args, segment.ranges, tile.row_begin, group, pairs, group * words, words, states};
        over_pages([&](std::int32_t start, key_range, const std::byte* head) {
          const auto* keys = reinterpret_cast<const std::int32_t*>(head);
          with.run(count, start, keys, keys + layout::key_words(args.head_dim));
        });
        continue;
      }
    }
    const detail::page_of_segment<Arch, detail::exact_attention<T>, T> with{
        args, segment.ranges, tile.row_begin, group, queries, row_size, args.head_dim, states};
    over_pages([&](std::int32_t start, key_range seen, const std::byte* head) {
      const auto numbers = layout::template numbers<Arch>(head, args.head_dim, seen, scratch);
      with.run(count, start, numbers.keys, numbers.values);
    });
  }
}

/// Adds what a tile gathered from a later stripe, `from`, to what it has of those before, `to`.
template <class Arch, class T>
void merge_stripes(const attention_args<T>& args, const attention_tile& tile, const T* from, T* to) noexcept {
  using batch = simd::lanes<T, Arch>;
  constexpr auto width = static_cast<index_t>(simd::width<T, Arch>);
  const index_t count = (tile.row_end - tile.row_begin) * (args.heads / args.kv_heads);
  const index_t padded = padded_head_dim<T>(args.head_dim);
  const auto is_empty = [](const detail::softmax_state<T>& state) {  // false where a score was not a number
    return *state.maximum == -std::numeric_limits<T>::infinity() &&
           simd::sum(batch::load_aligned(state.weights)) == T(0);
  };
  for (index_t q = 0; q < count; ++q) {
    const detail::softmax_state<T> all(to, q, args.head_dim), more(const_cast<T*>(from), q, args.head_dim);
    if (is_empty(more)) continue;
    if (is_empty(all)) {
      std::copy_n(more.sums, detail::softmax_state_size<T>(args.head_dim), all.sums);
      continue;
    }
    const T highest = std::max(*all.maximum, *more.maximum);
    const batch one(detail::power(*all.maximum - highest)), other(detail::power(*more.maximum - highest));
    const auto add = [&](T* sum, const T* what) {
      simd::fma(batch::load_aligned(what), other, batch::load_aligned(sum) * one).store_aligned(sum);
    };
    add(all.weights, more.weights);
    for (index_t i = 0; i < padded; i += width) add(all.sums + i, more.sums + i);
    *all.maximum = highest;
  }
}

/// Writes what a tile has gathered from all stripes to `args.out`.
template <class Arch, class T>
void finish_attention(const attention_args<T>& args, const attention_tile& tile, const T* states) noexcept {
  const index_t group = args.heads / args.kv_heads;
  for (index_t q = 0; q < (tile.row_end - tile.row_begin) * group; ++q) {
    const detail::softmax_state<T> state(const_cast<T*>(states), q, args.head_dim);
    const index_t row = tile.row_begin + q / group, head = tile.kv_head * group + q % group;
    T* const out = args.out + (row * args.heads + head) * args.head_dim;
    const T total = simd::sum(simd::lanes<T, Arch>::load_aligned(state.weights));
    const T inverse = total > 0 ? T(1) / total : T(0);  // nothing visible gives zeros
    for (index_t i = 0; i < args.head_dim; ++i) out[i] = state.sums[i] * inverse;
  }
  static_assert(static_cast<index_t>(simd::width<T, Arch>) <= detail::widest_register);
}

/// All of a tile at once. `scratch` is 64-byte aligned, of `attention_scratch` elements.
template <class Arch, class S, class T>
void range_attention(const attention_args<T>& args, const attention_tile& tile, bool paired, T* scratch) noexcept {
  const index_t count = (tile.row_end - tile.row_begin) * (args.heads / args.kv_heads);
  T* const more = scratch + attention_state<T>(count, args.head_dim);
  T* const rest = more + attention_state<T>(count, args.head_dim);
  const stripe_range stripes = stripes_of(args, tile);
  attend<Arch, S>(args, tile, stripes.begin, paired, scratch, rest);
  for (index_t stripe = stripes.begin + 1; stripe < stripes.end; ++stripe) {
    attend<Arch, S>(args, tile, stripe, paired, more, rest);
    merge_stripes<Arch>(args, tile, more, scratch);
  }
  finish_attention<Arch>(args, tile, scratch);
}

}  // namespace runnel::kernels
