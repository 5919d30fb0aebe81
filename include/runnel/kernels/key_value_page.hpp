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
#include <type_traits>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/dtype.hpp>
#include <runnel/core/simd.hpp>
#include <runnel/kernels/activations.hpp>
#include <runnel/position/row_table.hpp>

/// \file
/// How keys and values lie in memory: pages of 64 entries, and in a page, for each key/value head, a block of keys and
/// one of values.
///
/// Numbers as they are: keys [head_dim, 64] (a lane is a key), values [64, padded head_dim] (a lane is a feature). In
/// 16 bits: the same with two features of a key, and a feature of two keys, in a word of 32 bits, as products of pairs
/// want them. In bytes: as numbers, with a float scale for each 32 features of an entry.

namespace runnel::kernels {

/// Keys a page.
inline constexpr index_t page_keys = 64;

/// Stands for entries kept as bytes: q = round(x / scale), scale = max |x| / 127 of 32 features. An entry with a number
/// that is not finite gives NaN there.
struct byte_entry {};

/// Numbers that `head_dim` features take in a row of values: whole cache lines of T.
template <class T>
[[nodiscard]] constexpr index_t padded_head_dim(index_t head_dim) noexcept {
  constexpr auto line = static_cast<index_t>(memory_alignment / sizeof(T));
  return (head_dim + line - 1) / line * line;
}

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

namespace detail {

/// The part of a range that lies in the page which begins at key `start`.
[[nodiscard]] inline key_range within_page(key_range range, std::int32_t start) noexcept {
  return {std::max(range.begin - start, 0), std::min(range.end - start, static_cast<std::int32_t>(page_keys))};
}

/// Rows of one head on their way into a page: `count` from `slot` on.
template <class T>
struct head_rows {
  const T* from = nullptr;
  index_t stride = 0;
  index_t slot = 0;
  index_t count = 0;
};

/// A page's numbers of one head, as T.
template <class T>
struct head_numbers {
  const T* keys = nullptr;    // [head_dim, 64]
  const T* values = nullptr;  // [64, padded head_dim]
};

/// Numbers stored as they are. Every layout has: bytes of a head's keys and values, how rows are stored, one number
/// read back, and the entries of a range as T, of which the lanes around it hold anything.
template <class S>
struct page_layout {
  static constexpr index_t key_bytes(index_t head_dim) noexcept {
    return head_dim * page_keys * static_cast<index_t>(sizeof(S));
  }
  static constexpr index_t value_bytes(index_t head_dim) noexcept {
    return page_keys * padded_head_dim<S>(head_dim) * static_cast<index_t>(sizeof(S));
  }
  static void store_keys(const head_rows<S>& rows, index_t head_dim, std::byte* to) noexcept {
    S* line = reinterpret_cast<S*>(to) + rows.slot;
    for (index_t i = 0; i < head_dim; ++i, line += page_keys) {  // one line of the page at a time
      for (index_t r = 0; r < rows.count; ++r) line[r] = rows.from[r * rows.stride + i];
    }
  }
  static void store_values(const head_rows<S>& rows, index_t head_dim, std::byte* to) noexcept {
    const index_t padded = padded_head_dim<S>(head_dim);
    S* const first = reinterpret_cast<S*>(to) + rows.slot * padded;
    for (index_t r = 0; r < rows.count; ++r) std::copy_n(rows.from + r * rows.stride, head_dim, first + r * padded);
  }
  static S key(const std::byte* keys, index_t, index_t slot, index_t feature) noexcept {
    return reinterpret_cast<const S*>(keys)[feature * page_keys + slot];
  }
  template <class Arch>
  static head_numbers<S> numbers(const std::byte* head, index_t head_dim, key_range, S*) noexcept {
    const S* keys = reinterpret_cast<const S*>(head);
    return {keys, keys + head_dim * page_keys};
  }
};

/// Two numbers of 16 bits a word, the first in the lower half.
template <class S>
struct word_layout {
  using word = std::uint32_t;
  static constexpr index_t key_words(index_t head_dim) noexcept { return pair_count(head_dim) * page_keys; }
  static constexpr index_t key_bytes(index_t head_dim) noexcept { return 4 * key_words(head_dim); }
  static constexpr index_t value_bytes(index_t head_dim) noexcept {
    return page_keys / 2 * padded_head_dim<word>(head_dim) * 4;
  }
  static void store_keys(const head_rows<float>& rows, index_t head_dim, std::byte* to) noexcept {
    word* const first = reinterpret_cast<word*>(to) + rows.slot;
    round(rows, head_dim, [&](index_t r, index_t feature, const word* pairs, index_t count) {
      word* line = first + feature / 2 * page_keys + r;
      for (index_t i = 0; i < count; i += 2, line += page_keys) *line = pairs[i / 2];
    });
  }
  static void store_values(const head_rows<float>& rows, index_t head_dim, std::byte* to) noexcept {
    const index_t padded = padded_head_dim<word>(head_dim);
    round(rows, head_dim, [&](index_t r, index_t feature, const word* pairs, index_t count) {
      const index_t slot = rows.slot + r;
      auto* const halves = reinterpret_cast<std::uint16_t*>(to) + (slot / 2 * padded + feature) * 2 + slot % 2;
      for (index_t i = 0; i < count; ++i) halves[2 * i] = static_cast<std::uint16_t>(pairs[i / 2] >> (i % 2 * 16));
    });
  }
  static float key(const std::byte* keys, index_t, index_t slot, index_t feature) noexcept {
    const word pair = reinterpret_cast<const word*>(keys)[feature / 2 * page_keys + slot];
    return static_cast<float>(S::from_bits(static_cast<std::uint16_t>(pair >> (feature % 2 * 16))));
  }
  template <class Arch>
  static head_numbers<float> numbers(const std::byte* head, index_t head_dim, key_range range, float* to) noexcept {
    constexpr auto width = static_cast<index_t>(simd::width<float, Arch>);
    const auto* words = reinterpret_cast<const std::int32_t*>(head);
    float* const keys = to;
    for (index_t i = 0; i < head_dim; i += 2, words += page_keys) {
      for (index_t at = range.begin / width * width; at < range.end; at += width) {
        const auto pair = simd::lanes<std::int32_t, Arch>::load_aligned(words + at);
        first<Arch>(pair).store_aligned(keys + i * page_keys + at);
        if (i + 1 < head_dim) second<Arch>(pair).store_aligned(keys + (i + 1) * page_keys + at);
      }
    }
    float* const values = keys + head_dim * page_keys;
    const index_t padded = padded_head_dim<float>(head_dim);
    for (index_t pair = range.begin / 2; 2 * pair < range.end; ++pair) {
      for (index_t i = 0; i < padded; i += width) {
        const auto both = simd::lanes<std::int32_t, Arch>::load_aligned(words + pair * padded + i);
        first<Arch>(both).store_aligned(values + 2 * pair * padded + i);
        second<Arch>(both).store_aligned(values + (2 * pair + 1) * padded + i);
      }
    }
    return {keys, values};
  }

 private:
  static_assert(std::endian::native == std::endian::little);

  /// Calls `f(row, feature, pairs, count)` with `count` features from `feature` on, a zero after an odd last one.
  template <class F>
  static void round(const head_rows<float>& rows, index_t head_dim, F&& f) noexcept {
    constexpr index_t most = 64;
    std::array<word, most / 2> pairs;
    for (index_t r = 0; r < rows.count; ++r) {
      for (index_t feature = 0; feature < head_dim; feature += most) {
        const index_t count = std::min(most, head_dim - feature);
        to_pairs(rows.from + r * rows.stride + feature, count, pairs.data());
        f(r, feature, pairs.data(), count);
      }
    }
  }
  static void to_pairs(const float* from, index_t count, word* pairs) noexcept {
    if constexpr (std::is_same_v<S, bf16>) {  // rounding is the same on all instruction sets
      return round_row_to_bf16<simd::best_arch>(from, count, reinterpret_cast<quant::word*>(pairs));
    }
    for (index_t i = 0; i < count; i += 2) {
      const word second = i + 1 < count ? S(from[i + 1]).bits : 0u;
      pairs[i / 2] = S(from[i]).bits | second << 16;
    }
  }

  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> first(const simd::lanes<std::int32_t, Arch>& words) noexcept {
    if constexpr (std::is_same_v<S, f16>) return simd::half_to_float<Arch>(words);
    return simd::bit_cast_to<float>(words << 16);
  }
  template <class Arch>
  RUNNEL_INLINE static simd::lanes<float, Arch> second(const simd::lanes<std::int32_t, Arch>& words) noexcept {
    using ints = simd::lanes<std::int32_t, Arch>;
    if constexpr (std::is_same_v<S, f16>) return simd::half_to_float<Arch>(words >> 16);
    return simd::bit_cast_to<float>(words & ints(static_cast<std::int32_t>(0xffff0000u)));
  }
};

template <>
struct page_layout<bf16> : word_layout<bf16> {};
template <>
struct page_layout<f16> : word_layout<f16> {};

/// Keys: bytes [head_dim, 64], then scales [blocks, 64]; values: bytes [64, padded], then scales [64, blocks].
template <>
struct page_layout<byte_entry> {
  static constexpr index_t block = 32;  // features that share a scale
  static constexpr index_t blocks(index_t head_dim) noexcept { return (head_dim + block - 1) / block; }
  static constexpr index_t key_bytes(index_t head_dim) noexcept {
    return page_keys * (head_dim + 4 * blocks(head_dim));
  }
  static constexpr index_t value_bytes(index_t head_dim) noexcept {
    return page_keys * (padded_head_dim<float>(head_dim) + 4 * blocks(head_dim));
  }
  static void store_keys(const head_rows<float>& rows, index_t head_dim, std::byte* to) noexcept {
    auto* const bytes = reinterpret_cast<std::int8_t*>(to) + rows.slot;
    float* const scales = reinterpret_cast<float*>(to + head_dim * page_keys) + rows.slot;
    store(
        rows, head_dim, [&](index_t r, index_t i, std::int8_t q) { bytes[i * page_keys + r] = q; },
        [&](index_t r, index_t b, float scale) { scales[b * page_keys + r] = scale; });
  }
  static void store_values(const head_rows<float>& rows, index_t head_dim, std::byte* to) noexcept {
    const index_t padded = padded_head_dim<float>(head_dim), across = blocks(head_dim);
    auto* const bytes = reinterpret_cast<std::int8_t*>(to) + rows.slot * padded;
    float* const scales = reinterpret_cast<float*>(to + page_keys * padded) + rows.slot * across;
    store(
        rows, head_dim, [&](index_t r, index_t i, std::int8_t q) { bytes[r * padded + i] = q; },
        [&](index_t r, index_t b, float scale) { scales[r * across + b] = scale; });
  }
  static float key(const std::byte* keys, index_t head_dim, index_t slot, index_t feature) noexcept {
    const auto* scales = reinterpret_cast<const float*>(keys + head_dim * page_keys);
    return static_cast<float>(reinterpret_cast<const std::int8_t*>(keys)[feature * page_keys + slot]) *
           scales[feature / block * page_keys + slot];
  }
  template <class Arch>
  static head_numbers<float> numbers(const std::byte* head, index_t head_dim, key_range range, float* to) noexcept {
    using batch = simd::lanes<float, Arch>;
    constexpr auto width = static_cast<index_t>(simd::width<float, Arch>);
    const index_t padded = padded_head_dim<float>(head_dim), across = blocks(head_dim);
    const auto* bytes = reinterpret_cast<const std::int8_t*>(head);
    const auto* scales = reinterpret_cast<const float*>(head + head_dim * page_keys);
    float* const keys = to;
    for (index_t i = 0; i < head_dim; ++i) {
      for (index_t at = range.begin / width * width; at < range.end; at += width) {
        const batch scale = batch::load_aligned(scales + i / block * page_keys + at);
        (xsimd::to_float(simd::load_bytes<Arch>(bytes + i * page_keys + at)) * scale)
            .store_aligned(keys + i * page_keys + at);
      }
    }
    float* const values = keys + head_dim * page_keys;
    bytes += key_bytes(head_dim);
    scales = reinterpret_cast<const float*>(bytes + page_keys * padded);
    for (index_t key = range.begin; key < range.end; ++key) {
      for (index_t i = 0; i < padded; i += width) {
        const batch scale(scales[key * across + std::min(i / block, across - 1)]);
        (xsimd::to_float(simd::load_bytes<Arch>(bytes + key * padded + i)) * scale)
            .store_aligned(values + key * padded + i);
      }
    }
    return {keys, values};
  }

 private:
  /// Calls `put(row, feature, byte)` and `scaled(row, block, scale)` for all that rows hold.
  template <class Put, class Scaled>
  static void store(const head_rows<float>& rows, index_t head_dim, Put&& put, Scaled&& scaled) noexcept {
    for (index_t r = 0; r < rows.count; ++r) {
      const float* const row = rows.from + r * rows.stride;
      for (index_t first = 0; first < head_dim; first += block) {
        const index_t last = std::min(head_dim, first + block);
        float largest = 0, check = 0;
        for (index_t i = first; i < last; ++i) {
          largest = std::max(largest, std::fabs(row[i]));
          check += row[i] * 0.0f;  // NaN unless all are finite
        }
        const float inverse = check == 0 && largest > 0 ? 127 / largest : 0.0f;
        for (index_t i = first; i < last; ++i) {
          const float q = std::isfinite(inverse) && inverse != 0 ? row[i] * inverse : 0.0f;
          put(r, i, static_cast<std::int8_t>(std::lrint(q)));
        }
        const float scale = std::isfinite(inverse) && inverse != 0 ? largest / 127 : 0.0f;
        scaled(r, first / block, check == 0 ? scale : std::numeric_limits<float>::quiet_NaN());
      }
    }
  }
};

}  // namespace detail

/// Bytes of one page for one key/value head, kept as S: float, double, bf16, f16 or `byte_entry`.
template <class S>
[[nodiscard]] constexpr index_t page_head_bytes(index_t head_dim) noexcept {
  return detail::page_layout<S>::key_bytes(head_dim) + detail::page_layout<S>::value_bytes(head_dim);
}

/// Writes rows to the one page they fall in, kept as S.
template <class S, class T>
void store_key_values(std::byte* page, const key_value_rows<T>& rows, index_t kv_heads, index_t head_dim) noexcept {
  using layout = detail::page_layout<S>;
  const index_t slot = rows.storage % page_keys;
  for (index_t h = 0; h < kv_heads; ++h, page += page_head_bytes<S>(head_dim)) {
    layout::store_keys({rows.keys + h * head_dim, rows.key_stride, slot, rows.count}, head_dim, page);
    layout::store_values({rows.values + h * head_dim, rows.value_stride, slot, rows.count}, head_dim,
                         page + layout::key_bytes(head_dim));
  }
}

/// Reads back one head's key of the row at `storage`, as it was stored: `key` is [head_dim]. One element at a time.
template <class S, class T>
void load_key(const std::byte* page, index_t storage, index_t kv_head, index_t head_dim, T* key) noexcept {
  const std::byte* const head = page + kv_head * page_head_bytes<S>(head_dim);
  for (index_t i = 0; i < head_dim; ++i) {
    key[i] = static_cast<T>(detail::page_layout<S>::key(head, head_dim, storage % page_keys, i));
  }
}

}  // namespace runnel::kernels
