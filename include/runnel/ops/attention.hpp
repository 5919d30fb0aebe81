// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include <runnel/kernels/attention.hpp>
#include <runnel/ops/rotary.hpp>

namespace runnel::ops {

/// Rotates the keys of a pass by their own positions and writes keys and values to a store of one layer.
///
/// A key store has `write(layer, group, storage, key, value)`, `pages(layer, group)` and `with_scalar(f)`, which calls
/// `f(scalar{})` with what its pages hold: the arena of a live stream, or a tape's.
struct store_keys {
  index_t head_dim = 0;

  /// `keys` and `values` are [rows, kv_heads * head_dim]; `angles` null for layers without rotary.
  template <class KeyStore>
  void forward(eval& context, const eval::value& keys, const eval::value& values, const row_table& rows,
               const rotary_angles* angles, index_t layer, KeyStore& store) const {
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
  template <class KeyStore>
  void forward(eval& context, const eval::value& queries, const row_table& rows, const rotary_angles* angles,
               index_t layer, const KeyStore& store, const eval::value& out) const {
    const auto scope = context.memory.mark();
    std::array<kernels::attention_segment<float>, num_groups> segments;
    const float* own_frame = nullptr;
    for (std::size_t s = 0; s < num_groups; ++s) {
      const auto& toward = rows.toward(s);
      const std::span<const key_range> ranges = windowed ? toward.windowed : toward.ranges;
      segments[s].ranges = ranges;
      segments[s].pages = store.pages(layer, static_cast<group>(s));
      if (angles == nullptr) {
        segments[s].queries = queries.data();
        continue;
      }
      const bool unshifted = angles->toward[s].cosines.data() == angles->own.cosines.data();
      if (unshifted && own_frame != nullptr) {
        segments[s].queries = own_frame;
        continue;
      }
      // Where both segments share the rows' own frame, one rotation serves both, so every row is rotated.
      segments[s].queries = context(rotate{head_dim}, queries, angles->toward[s], [&](index_t row) {
                              const key_range range = ranges[static_cast<std::size_t>(row)];
                              return unshifted || range.begin < range.end;
                            }).data();
      if (unshifted) own_frame = segments[s].queries;
    }
    store.with_scalar([&]<class Scalar>(Scalar) { run<Scalar>(context, rows.size(), segments, out); });
    context.memory.release(scope);
  }

 private:
  template <class Scalar>
  void run(eval& context, index_t rows, std::span<const kernels::attention_segment<float>> segments,
           const eval::value& out) const {
    kernels::attention_args<float> args;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = scale;
    args.soft_cap = soft_cap;
    args.segments = segments;
    args.out = out.data();
    const index_t tiles = (rows + kernels::attention_rows - 1) / kernels::attention_rows;
    const index_t queries = std::min(rows, kernels::attention_rows) * (heads / kv_heads);
    const std::size_t scratch_size = kernels::attention_scratch<float>(queries, head_dim);
    auto* scratch = context.memory.take<float>(scratch_size * static_cast<std::size_t>(context.team.size()));
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
