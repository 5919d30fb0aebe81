// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <runnel/kernels/key_value_page.hpp>
#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/rotary.hpp>

/// \file
/// What the streams of a pass are to attention, and how their keys and values get into their stores.

namespace runnel::ops {

/// Rotary tables that layers of one model choose from: most have one; families that mix windowed and full layers may
/// turn them at different speeds.
inline constexpr std::size_t max_rotary_tables = 2;

/// Stands for "no table": a layer without rotary.
inline constexpr int no_rotary = -1;

/// One stream's part of a pass: rows [first, first + rows->size()) of the pass's values, and the store they see and
/// extend. Streams follow one another without gaps, the first from row 0 on.
///
/// A key store has `write(layer, group, rows)`, `pages(layer, group)` and `with_storage(f)`, which calls `f(S{})` with
/// what its pages keep (kernels/key_value_page.hpp): the arena of a live stream, or a tape's, which keeps what it was
/// given for the way back.
template <class KeyStore>
struct attention_stream {
  const row_table* rows = nullptr;
  std::array<basic_rotary_angles<typename KeyStore::value_type>, max_rotary_tables> angles;
  KeyStore* store = nullptr;
  index_t first = 0;
};

/// A pass's streams, as ops take them.
template <class KeyStore>
using attention_streams = std::span<const attention_stream<KeyStore>>;

namespace detail {

/// The stream that a row of the pass belongs to.
template <class KeyStore>
[[nodiscard]] const attention_stream<KeyStore>& stream_at(attention_streams<KeyStore> streams, index_t row) noexcept {
  const auto after =
      std::upper_bound(streams.begin(), streams.end(), row,
                       [](index_t wanted, const attention_stream<KeyStore>& stream) { return wanted < stream.first; });
  return *(after - 1);
}

/// Throws shape_error unless streams follow one another without gaps and have so many rows in all.
template <class KeyStore>
void expect_streams(attention_streams<KeyStore> streams, index_t rows, const char* op) {
  index_t next = 0;
  for (const auto& stream : streams) {
    expect<shape_error>(stream.first == next, op, ": a stream begins at row ", stream.first, ", expected ", next);
    next += stream.rows->size();
  }
  expect<shape_error>(next == rows, op, ": the streams have ", next, " rows, the pass ", rows);
}

/// The heads of one row, `features` in all, turned by row `at` of a table.
template <class Arch, class T>
void turn_row(const typename basic_rotary_angles<T>::table& table, index_t at, const T* from, index_t features,
              index_t head_dim, T* to) noexcept {
  const index_t rotary = 2 * table.cosines.size(1);
  for (index_t f = 0; f < features; f += head_dim) {
    kernels::rotate_half<Arch>(from + f, table.cosines.row(at).data(), table.sines.row(at).data(), rotary, head_dim,
                               to + f);
  }
}

/// The gradient of a turned row, turned back and added to that of the row (or written, if that is `fresh`).
template <class Arch, class T>
void turn_row_back(const typename basic_rotary_angles<T>::table& table, index_t at, const T* from, index_t features,
                   index_t head_dim, T* to, bool fresh) noexcept {
  const index_t rotary = 2 * table.cosines.size(1);
  for (index_t f = 0; f < features; f += head_dim) {
    kernels::rotate_half_backward<Arch>(from + f, table.cosines.row(at).data(), table.sines.row(at).data(), rotary,
                                        head_dim, to + f, fresh);
  }
}

}  // namespace detail

/// Rotates the keys of a pass by their own positions and writes keys and values to the streams' stores, of one layer.
struct store_keys {
  index_t head_dim = 0;

  /// `keys` and `values` are [rows of all streams, kv_heads * head_dim]; `rotary` is a table or `no_rotary`. Throws
  /// shape_error unless rows and streams fit.
  template <class T, class KeyStore>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& keys,
               const typename basic_eval<T>::value& values, attention_streams<KeyStore> streams, int rotary,
               index_t layer) const {
    detail::expect_streams(streams, keys.size(0), "store_keys");
    expect_shape(values.shape(), keys.shape(), "store_keys");
    const auto scope = context.memory.mark();
    const auto turned = rotary == no_rotary ? keys : context.make(keys.size(0), keys.size(1));
    context.for_each_rows(keys.size(0), 2 * keys.size(1), [&]<class Arch>(index_t begin, index_t end, Arch) {
      for (index_t row = begin; row < end;) {
        const auto& stream = detail::stream_at(streams, row);
        const index_t count = run_length(*stream.rows, row - stream.first, end - stream.first);
        if (rotary != no_rotary) {
          const auto& own = stream.angles[static_cast<std::size_t>(rotary)].own;
          for (index_t r = row; r < row + count; ++r) {
            detail::turn_row<Arch>(own, r - stream.first, keys.row(r).data(), keys.size(1), head_dim,
                                   turned.row(r).data());
          }
        }
        const auto at = static_cast<std::size_t>(row - stream.first);
        stream.store->write(layer, stream.rows->groups()[at],
                            {stream.rows->storage()[at], turned.row(row).data(), values.row(row).data(), count,
                             turned.strides()[0], values.strides()[0]});
        row += count;
      }
    });
    context.memory.release(scope);
  }

  /// Takes the gradients that rows' keys and values have gathered in the stores (`keys` and `values` of a layer and
  /// group, as `dual`).
  template <class T, class KeyStore>
  void backward(basic_eval<T>& context, const dual<T>& keys, const dual<T>& values, attention_streams<KeyStore> streams,
                int rotary, index_t layer) const {
    const index_t features = keys.value.size(1);
    context.for_each_row(keys.value.size(0), 2 * features, [&]<class Arch>(index_t row, Arch) {
      const auto& stream = detail::stream_at(streams, row);
      const auto at = static_cast<std::size_t>(row - stream.first);
      const group of = stream.rows->groups()[at];
      const index_t place = stream.rows->storage()[at];
      const T* key = stream.store->keys(layer, of).gradient.row(place).data();
      const T* value = stream.store->values(layer, of).gradient.row(place).data();
      T* const to = keys.gradient.row(row).data();
      if (rotary == no_rotary) {
        kernels::scale_into<Arch>(key, T(1), features, to, keys.fresh);
      } else {
        detail::turn_row_back<Arch>(stream.angles[static_cast<std::size_t>(rotary)].own, row - stream.first, key,
                                    features, head_dim, to, keys.fresh);
      }
      kernels::scale_into<Arch>(value, T(1), features, values.gradient.row(row).data(), values.fresh);
    });
  }

 private:
  /// Rows from `begin` on, before `end`, that are stored one after another in one group.
  [[nodiscard]] static index_t run_length(const row_table& rows, index_t begin, index_t end) noexcept {
    const auto groups = rows.groups();
    const auto storage = rows.storage();
    const auto first = static_cast<std::size_t>(begin);
    const auto last = static_cast<std::size_t>(std::min(end, rows.size()));
    std::size_t at = first + 1;
    while (at < last && groups[at] == groups[first] && storage[at] == storage[at - 1] + 1) ++at;
    return static_cast<index_t>(at - first);
  }
};

}  // namespace runnel::ops
