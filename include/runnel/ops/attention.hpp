// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <runnel/kernels/attention.hpp>
#include <runnel/kernels/attention_backward.hpp>
#include <runnel/kernels/reference/attention.hpp>
#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/rotary.hpp>

namespace runnel::ops {

/// Rotates the keys of a pass by their own positions and writes keys and values to a store of one layer.
///
/// A key store has `write(layer, group, storage, key, value)`, `pages(layer, group)` and `with_scalar(f)`, which calls
/// `f(scalar{})` with what its pages hold: the arena of a live stream, or a tape's, which keeps what it was given for
/// the way back.
struct store_keys {
  index_t head_dim = 0;

  /// `keys` and `values` are [rows, kv_heads * head_dim]; `angles` null for layers without rotary.
  template <class T, class KeyStore>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& keys,
               const typename basic_eval<T>::value& values, const row_table& rows,
               const std::type_identity_t<basic_rotary_angles<T>>* angles, index_t layer, KeyStore& store) const {
    const auto scope = context.memory.mark();
    const auto rotated =
        angles == nullptr ? keys : context(rotate{head_dim}, keys, angles->own, [](index_t) { return true; });
    context.team.parallel_for(rows.size(), 16, [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const auto at = static_cast<std::size_t>(row);
        store.write(layer, rows.groups()[at], rows.storage()[at], rotated.row(row).data(), values.row(row).data());
      }
    });
    context.memory.release(scope);
  }

  /// Takes the gradients that rows' keys and values have gathered in the store (`keys` and `values` of a layer and
  /// group, as `dual`).
  template <class T, class KeyStore>
  void backward(basic_eval<T>& context, const dual<T>& keys, const dual<T>& values, const row_table& rows,
                const std::type_identity_t<basic_rotary_angles<T>>* angles, index_t layer, KeyStore& store) const {
    const auto scope = context.memory.mark();
    const auto gathered = context.make(keys.value.size(0), keys.value.size(1));
    context.for_each_row(rows.size(), keys.value.size(1), [&]<class Arch>(index_t row, Arch) {
      const auto at = static_cast<std::size_t>(row);
      const auto key = store.keys(layer, rows.groups()[at]).gradient.row(rows.storage()[at]);
      std::copy(key.begin(), key.end(), gathered.row(row).begin());
    });
    if (angles == nullptr) {
      detail::pass_on(context, T(1), gathered, keys);
    } else {
      rotate{head_dim}.backward(context, gathered, keys, angles->own, [](index_t) { return true; });
    }
    context.for_each_row(rows.size(), values.value.size(1), [&]<class Arch>(index_t row, Arch) {
      const auto at = static_cast<std::size_t>(row);
      const dual<T> stored = store.values(layer, rows.groups()[at]);
      kernels::scale_into<Arch>(stored.gradient.row(rows.storage()[at]).data(), T(1), values.value.size(1),
                                values.gradient.row(row).data(), values.fresh);
    });
    context.memory.release(scope);
  }
};

/// Range attention of a pass over a store (kernels/attention.hpp): [rows, heads * head_dim] to the same shape.
struct range_attention {
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  float scale = 1;
  float soft_cap = 0;
  bool windowed = false;  ///< whether rows see the ranges of the family's sliding window

  /// Writes to `out`. Cost: proportional to the keys that rows see.
  template <class T, class KeyStore>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& queries, const row_table& rows,
               const std::type_identity_t<basic_rotary_angles<T>>* angles, index_t layer, const KeyStore& store,
               const typename basic_eval<T>::value& out) const {
    const auto scope = context.memory.mark();
    std::array<kernels::attention_segment<T>, num_groups> segments;
    const auto rotated = rotate_queries(context, queries, rows, angles, false);
    for (std::size_t s = 0; s < num_groups; ++s) {
      segments[s].ranges = ranges_of(rows, s);
      segments[s].pages = store.pages(layer, static_cast<group>(s));
      segments[s].queries = rotated[s].data();
    }
    store.with_scalar([&]<class Scalar>(Scalar) { run<Scalar>(context, rows.size(), segments, out); });
    context.memory.release(scope);
  }

  /// The weights by which `forward` averages values, by their definition and in double: calls `f(row, head, weights)`
  /// for every row and head, where `weights[s]` has one for each key of segment s in the row's range. They sum to one
  /// over both segments, or are none where the row sees nothing; keys outside of the range have none. Takes what
  /// `forward` takes, changes nothing, and is slow: for looking at.
  template <class T, class KeyStore, class F>
  void weigh(basic_eval<T>& context, const typename basic_eval<T>::value& queries, const row_table& rows,
             const std::type_identity_t<basic_rotary_angles<T>>* angles, index_t layer, const KeyStore& store,
             F&& f) const {
    const auto scope = context.memory.mark();
    const auto rotated = rotate_queries(context, queries, rows, angles, false);
    const auto size = static_cast<std::size_t>(head_dim);
    std::vector<T> key(size);
    std::vector<double> scores;
    std::array<std::span<const double>, num_groups> weights;
    for (index_t task = 0; task < rows.size() * heads; ++task) {
      const index_t row = task / heads, head = task % heads;
      scores.clear();
      for (std::size_t s = 0; s < num_groups; ++s) {
        const auto query = rotated[s].row(row).subspan(static_cast<std::size_t>(head * head_dim), size);
        const auto pages = store.pages(layer, static_cast<group>(s));
        const key_range range = ranges_of(rows, s)[static_cast<std::size_t>(row)];
        for (index_t at = range.begin; at < range.end; ++at) {
          store.with_scalar([&]<class Scalar>(Scalar) {
            kernels::load_key<Scalar>(pages[static_cast<std::size_t>(at / kernels::page_keys)], at,
                                      head / (heads / kv_heads), head_dim, key.data());
          });
          scores.push_back(kernels::reference::attention_score<T>(query, key, static_cast<double>(scale),
                                                                  static_cast<double>(soft_cap)));
        }
      }
      kernels::reference::softmax(scores);
      std::size_t first = 0;
      for (std::size_t s = 0; s < num_groups; ++s) {
        const key_range range = ranges_of(rows, s)[static_cast<std::size_t>(row)];
        const auto count = static_cast<std::size_t>(std::max(0, range.end - range.begin));
        weights[s] = std::span<const double>(scores).subspan(first, count);
        first += count;
      }
      f(row, head, weights);
    }
    context.memory.release(scope);
  }

  /// Adds to the gradients in the store, and to those of the queries. Twice and a half the forward pass.
  template <class T, class KeyStore>
  void backward(basic_eval<T>& context, const dual<T>& queries, const row_table& rows,
                const std::type_identity_t<basic_rotary_angles<T>>* angles, index_t layer, KeyStore& store,
                const dual<T>& out) const {
    const auto scope = context.memory.mark();
    const tensor_view<T, 2> values(const_cast<T*>(queries.value.data()), queries.value.shape());  // only read
    const auto rotated = rotate_queries(context, values, rows, angles, true);
    const bool one_frame = rotated[0].data() == rotated[1].data();
    std::array<tensor_view<T, 2>, num_groups> gradients;
    for (std::size_t s = 0; s < num_groups; ++s) {
      gradients[s] = s > 0 && one_frame ? gradients[0] : context.make(queries.value.size(0), queries.value.size(1));
      if (s == 0 || !one_frame) std::fill_n(gradients[s].data(), gradients[s].size(), T(0));
    }
    std::array<kernels::attention_segment_gradient<T>, num_groups> segments;
    index_t count = 0;
    for (std::size_t s = 0; s < num_groups; ++s) {
      const dual<T> stored_keys = store.keys(layer, static_cast<group>(s));
      const dual<T> stored_values = store.values(layer, static_cast<group>(s));
      segments[s] = {rotated[s].data(),
                     gradients[s].data(),
                     ranges_of(rows, s),
                     stored_keys.value.data(),
                     stored_keys.gradient.data(),
                     stored_values.value.data(),
                     stored_values.gradient.data(),
                     stored_keys.value.size(0)};
      count += segments[s].count;
    }
    run_backward(context, rows.size(), count, segments, out);
    for (std::size_t s = 0; s < (one_frame ? 1 : num_groups); ++s) {
      dual<T> to = queries;
      to.fresh = queries.fresh && s == 0;
      if (angles == nullptr) {
        detail::pass_on(context, T(1), gradients[s], to);
      } else {
        rotate{head_dim}.backward(context, gradients[s], to, angles->toward[s], [](index_t) { return true; });
      }
    }
    context.memory.release(scope);
  }

 private:
  [[nodiscard]] std::span<const key_range> ranges_of(const row_table& rows, std::size_t segment) const noexcept {
    const auto& toward = rows.toward(segment);
    return windowed ? toward.windowed : toward.ranges;
  }

  /// Queries in the frame of each segment; the same value where these agree. Unless `all` are wanted, rows that see
  /// nothing of a segment are left unset there.
  template <class T>
  [[nodiscard]] auto rotate_queries(basic_eval<T>& context, const tensor_view<T, 2>& queries, const row_table& rows,
                                    const basic_rotary_angles<T>* angles, bool all) const {
    std::array<tensor_view<T, 2>, num_groups> rotated;
    tensor_view<T, 2> own_frame;
    for (std::size_t s = 0; s < num_groups; ++s) {
      if (angles == nullptr) {
        rotated[s] = queries;
        continue;
      }
      const bool unshifted = angles->toward[s].cosines.data() == angles->own.cosines.data();
      if (unshifted && own_frame.data() != nullptr) {
        rotated[s] = own_frame;
        continue;
      }
      // Where both segments share the rows' own frame, one rotation serves both, so every row is rotated.
      const auto ranges = ranges_of(rows, s);
      rotated[s] = context(rotate{head_dim}, queries, angles->toward[s], [&](index_t row) {
        const key_range range = ranges[static_cast<std::size_t>(row)];
        return all || unshifted || range.begin < range.end;
      });
      if (unshifted) own_frame = rotated[s];
    }
    return rotated;
  }

  template <class T>
  void run_backward(basic_eval<T>& context, index_t rows, index_t keys,
                    const std::array<kernels::attention_segment_gradient<T>, num_groups>& segments,
                    const dual<T>& out) const {
    kernels::attention_gradient_args<T> args;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = static_cast<T>(scale);
    args.soft_cap = static_cast<T>(soft_cap);
    args.rows = rows;
    args.segments = segments;
    args.out_gradient = out.gradient.data();
    const std::size_t size = kernels::attention_gradient_scratch<T>(keys, head_dim, segments.size());
    T* const scratch = context.memory.template take<T>(size * static_cast<std::size_t>(context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      context.team.parallel_for(kv_heads, 1, [&](index_t begin, index_t end, int worker) {
        for (index_t head = begin; head < end; ++head) {
          kernels::range_attention_backward<Arch>(args, head, scratch + static_cast<std::size_t>(worker) * size);
        }
      });
    });
  }

  template <class Scalar, class T>
  void run(basic_eval<T>& context, index_t rows, const std::array<kernels::attention_segment<T>, num_groups>& segments,
           const tensor_view<T, 2>& out) const {
    kernels::attention_args<T> args;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = static_cast<T>(scale);
    args.soft_cap = static_cast<T>(soft_cap);
    args.segments = segments;
    args.out = out.data();
    const index_t tiles = (rows + kernels::attention_rows - 1) / kernels::attention_rows;
    const index_t queries = std::min(rows, kernels::attention_rows) * (heads / kv_heads);
    const std::size_t scratch_size = kernels::attention_scratch<T>(queries, head_dim);
    auto* scratch = context.memory.template take<T>(scratch_size * static_cast<std::size_t>(context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      context.team.parallel_for(tiles * kv_heads, 1, [&](index_t begin, index_t end, int worker) {
        for (index_t task = begin; task < end; ++task) {
          const index_t first = task / kv_heads * kernels::attention_rows;
          kernels::range_attention<Arch, Scalar>(args, first, std::min(rows, first + kernels::attention_rows),
                                                 task % kv_heads,
                                                 scratch + static_cast<std::size_t>(worker) * scratch_size);
        }
      });
    });
  }
};

}  // namespace runnel::ops
