// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <runnel/kernels/attention.hpp>
#include <runnel/kernels/attention_backward.hpp>
#include <runnel/kernels/reference/attention.hpp>
#include <runnel/ops/attention_streams.hpp>
#include <runnel/ops/product.hpp>

namespace runnel::ops {

/// Range attention of a pass over its streams' stores (kernels/attention.hpp): [rows of all streams, heads * head_dim]
/// to the same shape. All streams are worked on together.
struct range_attention {
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  float scale = 1;
  float soft_cap = 0;
  bool windowed = false;  ///< whether rows see the ranges of the family's sliding window
  /// Of the layer's weights: where they are multiplied in f32, so are keys and values, whatever these are kept as.
  quant::weight_format layer_format = quant::weight_format::f32;

  /// Writes to `out`. `rotary` is a table or `no_rotary`. Throws shape_error unless rows and streams fit. Cost:
  /// proportional to the keys that rows see.
  template <class T, class KeyStore>
  void forward(basic_eval<T>& context, const typename basic_eval<T>::value& queries,
               attention_streams<KeyStore> streams, int rotary, index_t layer,
               const typename basic_eval<T>::value& out) const {
    detail::expect_streams(streams, queries.size(0), "range_attention");
    expect<shape_error>(queries.size(1) == heads * head_dim, "range_attention: queries have ", queries.size(1),
                        " features, expected ", heads * head_dim);
    expect_shape(out.shape(), queries.shape(), "range_attention");
    const auto scope = context.memory.mark();
    const auto turned = turn_queries(context, queries, streams, rotary, false);
    using segments = std::array<kernels::attention_segment<T>, num_groups>;
    const std::span<segments> all(context.memory.template take<segments>(streams.size()), streams.size());
    const std::span<tile> tiles = make_tiles(context, streams);
    index_t seen = 0;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      for (std::size_t s = 0; s < num_groups; ++s) {
        all[i][s].ranges = ranges_of(*streams[i].rows, s);
        all[i][s].pages = streams[i].store->pages(layer, static_cast<group>(s));
        all[i][s].dropped = streams[i].store->dropped(static_cast<group>(s));
        all[i][s].queries = turned.toward(streams[i], s, rotary).data() + streams[i].first * queries.size(1);
        const key_range any = kernels::visible_to_any(all[i][s].ranges, 0, streams[i].rows->size());
        seen += std::max(0, any.end - any.begin) * streams[i].rows->size();
      }
    }
    kernels::attention_args<T> args;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = static_cast<T>(scale);
    args.soft_cap = static_cast<T>(soft_cap);
    const tile_work<T, KeyStore> work{streams, all, tiles, args, out, is_paired(context)};
    const index_t cost = seen * heads * head_dim / (2 * std::max<index_t>(1, work.tasks()));
    const stripe_sum stripes = work.stripes();
    const bool uneven = 2 * stripes.most * static_cast<index_t>(context.team.size()) > stripes.all;
    const index_t state = kernels::attention_state<T>(work.vectors(), head_dim);
    constexpr index_t most_state = index_t{1} << 22;  // elements: in the caches of a large processor
    if (context.team.size() > 1 && stripes.most > 1 && uneven && stripes.all * state <= most_state) {
      attend_by_stripes(context, work, stripes.all, cost * work.tasks() / stripes.all);
    } else {
      attend_by_tiles(context, work, cost);
    }
    context.memory.release(scope);
  }

  /// The weights by which `forward` averages values, by their definition and in double: calls `f(row, head, weights)`
  /// for every row of every stream and every head, where `row` is of its stream and `weights[s]` has one for each key
  /// of segment s in the row's range. They sum to one over both segments, or are none where the row sees nothing; keys
  /// outside of the range have none. Takes what `forward` takes, changes nothing, and is slow: for looking at.
  template <class T, class KeyStore, class F>
  void weigh(basic_eval<T>& context, const typename basic_eval<T>::value& queries, attention_streams<KeyStore> streams,
             int rotary, index_t layer, F&& f) const {
    const auto scope = context.memory.mark();
    const auto turned = turn_queries(context, queries, streams, rotary, false);
    const auto size = static_cast<std::size_t>(head_dim);
    std::vector<T> key(size);
    std::vector<double> scores;
    std::array<std::span<const double>, num_groups> weights;
    for (index_t task = 0; task < queries.size(0) * heads; ++task) {
      const auto& stream = detail::stream_at(streams, task / heads);
      const index_t row = task / heads - stream.first, head = task % heads;
      scores.clear();
      for (std::size_t s = 0; s < num_groups; ++s) {
        const auto query = turned.toward(stream, s, rotary)
                               .row(stream.first + row)
                               .subspan(static_cast<std::size_t>(head * head_dim), size);
        const auto pages = stream.store->pages(layer, static_cast<group>(s));
        const key_range range = ranges_of(*stream.rows, s)[static_cast<std::size_t>(row)];
        for (index_t at = range.begin; at < range.end; ++at) {
          stream.store->with_storage([&]<class Storage>(Storage) {
            kernels::load_key<Storage>(pages[static_cast<std::size_t>(at / kernels::page_keys)], at,
                                       head / (heads / kv_heads), head_dim, key.data());
          });
          scores.push_back(kernels::reference::attention_score<T>(query, key, static_cast<double>(scale),
                                                                  static_cast<double>(soft_cap)));
        }
      }
      kernels::reference::softmax(scores);
      std::size_t first = 0;
      for (std::size_t s = 0; s < num_groups; ++s) {
        const key_range range = ranges_of(*stream.rows, s)[static_cast<std::size_t>(row)];
        const auto count = static_cast<std::size_t>(std::max(0, range.end - range.begin));
        weights[s] = std::span<const double>(scores).subspan(first, count);
        first += count;
      }
      f(row, head, weights);
    }
    context.memory.release(scope);
  }

  /// Adds to the gradients in the stores, and to those of the queries. Twice and a half the forward pass.
  template <class T, class KeyStore>
  void backward(basic_eval<T>& context, const dual<T>& queries, attention_streams<KeyStore> streams, int rotary,
                index_t layer, const dual<T>& out) const {
    const auto scope = context.memory.mark();
    const tensor_view<T, 2> values(const_cast<T*>(queries.value.data()), queries.value.shape());  // only read
    const auto turned = turn_queries(context, values, streams, rotary, true);
    const auto gradients = turned.template map<T>([&](const tensor_view<T, 2>& of) {
      const auto made = context.make(of.size(0), of.size(1));
      std::fill_n(made.data(), made.size(), T(0));
      return made;
    });
    using segments = std::array<kernels::attention_segment_gradient<T>, num_groups>;
    const std::span<segments> all(context.memory.template take<segments>(streams.size()), streams.size());
    index_t most = 0;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const index_t offset = streams[i].first * values.size(1);
      index_t count = 0;
      for (std::size_t s = 0; s < num_groups; ++s) {
        const dual<T> stored_keys = streams[i].store->keys(layer, static_cast<group>(s));
        const dual<T> stored_values = streams[i].store->values(layer, static_cast<group>(s));
        all[i][s] = {turned.toward(streams[i], s, rotary).data() + offset,
                     gradients.toward(streams[i], s, rotary).data() + offset,
                     ranges_of(*streams[i].rows, s),
                     stored_keys.value.data(),
                     stored_keys.gradient.data(),
                     stored_values.value.data(),
                     stored_values.gradient.data(),
                     stored_keys.value.size(0)};
        count += all[i][s].count;
      }
      most = std::max(most, count);
    }
    run_backward(context, streams, all, most, out);
    turn_back(context, gradients, streams, rotary, queries);
    context.memory.release(scope);
  }

 private:
  /// Rows of one stream that share a page while it is in the first cache.
  struct tile {
    std::size_t stream = 0;
    index_t begin = 0;
    index_t end = 0;
  };

  /// Queries of all streams in their own frame, for streams and segments without an offset, and in that of each
  /// segment, for those with one. What no stream wants is empty.
  template <class T>
  struct turned_queries {
    tensor_view<T, 2> own;
    std::array<tensor_view<T, 2>, num_groups> shifted;

    template <class KeyStore>
    [[nodiscard]] static bool is_shifted(const attention_stream<KeyStore>& stream, std::size_t s, int rotary) noexcept {
      if (rotary == no_rotary) return false;
      const auto& angles = stream.angles[static_cast<std::size_t>(rotary)];
      return angles.toward[s].cosines.data() != angles.own.cosines.data();
    }
    template <class KeyStore>
    [[nodiscard]] const tensor_view<T, 2>& toward(const attention_stream<KeyStore>& stream, std::size_t s,
                                                  int rotary) const noexcept {
      return is_shifted(stream, s, rotary) ? shifted[s] : own;
    }
    /// Others of the same shapes.
    template <class U, class F>
    [[nodiscard]] turned_queries<U> map(F&& f) const {
      turned_queries<U> out;
      if (own.data() != nullptr) out.own = f(own);
      for (std::size_t s = 0; s < num_groups; ++s) {
        if (shifted[s].data() != nullptr) out.shifted[s] = f(shifted[s]);
      }
      return out;
    }
  };

  /// Stripes of keys of all tasks, and of the task that has most.
  struct stripe_sum {
    index_t all = 0;
    index_t most = 0;
  };

  /// A pass as tasks: tiles of rows, by key/value head.
  template <class T, class KeyStore>
  struct tile_work {
    attention_streams<KeyStore> streams;
    std::span<const std::array<kernels::attention_segment<T>, num_groups>> segments;  // of each stream
    std::span<const tile> tiles;
    kernels::attention_args<T> args;
    tensor_view<T, 2> out;
    bool paired = false;

    [[nodiscard]] index_t tasks() const noexcept { return static_cast<index_t>(tiles.size()) * args.kv_heads; }
    [[nodiscard]] const tile& rows_of(index_t task) const noexcept {
      return tiles[static_cast<std::size_t>(task / args.kv_heads)];
    }
    [[nodiscard]] kernels::attention_tile tile_of(index_t task) const noexcept {
      return {rows_of(task).begin, rows_of(task).end, task % args.kv_heads};
    }
    [[nodiscard]] kernels::attention_args<T> args_of(index_t task) const noexcept {
      const std::size_t stream = rows_of(task).stream;
      auto mine = args;
      mine.segments = segments[stream];
      mine.out = out.data() + streams[stream].first * out.size(1);
      return mine;
    }
    [[nodiscard]] kernels::stripe_range stripes_of(index_t task) const noexcept {
      return kernels::stripes_of(args_of(task), tile_of(task));
    }
    [[nodiscard]] stripe_sum stripes() const noexcept {
      stripe_sum sum;
      for (index_t task = 0; task < tasks(); task += args.kv_heads) {
        const index_t count = stripes_of(task).count();
        sum.all += count * args.kv_heads;
        sum.most = std::max(sum.most, count);
      }
      return sum;
    }
    /// Query vectors of the largest tile.
    [[nodiscard]] index_t vectors() const noexcept {
      index_t rows = 0;
      for (const tile& one : tiles) rows = std::max(rows, one.end - one.begin);
      return rows * (args.heads / args.kv_heads);
    }
  };

  /// Whether pages that hold bf16 are multiplied as they are.
  template <class T>
  [[nodiscard]] bool is_paired(const basic_eval<T>& context) const noexcept {
    return effective_compute(context.options().compute, layer_format) != compute_mode::f32;
  }

  template <class T, class KeyStore>
  void attend_by_tiles(basic_eval<T>& context, const tile_work<T, KeyStore>& work, index_t cost) const {
    const auto size = static_cast<std::size_t>(kernels::attention_scratch<T>(work.vectors(), head_dim));
    T* const scratch = context.memory.template take<T>(size * static_cast<std::size_t>(context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      const index_t grain = context.grain_of(work.tasks(), cost);
      context.team.parallel_for(work.tasks(), grain, [&](index_t begin, index_t end, int worker) {
        for (index_t task = begin; task < end; ++task) {
          work.streams[work.rows_of(task).stream].store->with_storage([&]<class Storage>(Storage) {
            kernels::range_attention<Arch, Storage>(work.args_of(task), work.tile_of(task), work.paired,
                                                    scratch + static_cast<std::size_t>(worker) * size);
          });
        }
      });
    });
  }

  /// The same where a few tiles see most of the keys: threads share out the keys too, `pieces` stripes in all, each of
  /// which costs `cost`.
  template <class T, class KeyStore>
  void attend_by_stripes(basic_eval<T>& context, const tile_work<T, KeyStore>& work, index_t pieces,
                         index_t cost) const {
    struct piece {
      index_t task = 0;
      index_t stripe = 0;
    };
    const auto count = static_cast<std::size_t>(pieces), tasks = static_cast<std::size_t>(work.tasks());
    const std::span<piece> all(context.memory.template take<piece>(count), count);
    const std::span<std::size_t> first(context.memory.template take<std::size_t>(tasks + 1), tasks + 1);
    std::size_t made = 0;
    for (index_t task = 0; task < work.tasks(); ++task) {
      first[static_cast<std::size_t>(task)] = made;
      const kernels::stripe_range stripes = work.stripes_of(task);
      for (index_t stripe = stripes.begin; stripe < stripes.end; ++stripe) all[made++] = {task, stripe};
    }
    first[tasks] = made;
    const auto state = static_cast<std::size_t>(kernels::attention_state<T>(work.vectors(), head_dim));
    const auto size = static_cast<std::size_t>(kernels::attend_scratch<T>(work.vectors(), head_dim));
    T* const states = context.memory.template take<T>(state * count);
    T* const scratch = context.memory.template take<T>(size * static_cast<std::size_t>(context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      context.team.parallel_for(pieces, context.grain_of(pieces, cost), [&](index_t begin, index_t end, int worker) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          work.streams[work.rows_of(all[i].task).stream].store->with_storage([&]<class Storage>(Storage) {
            kernels::attend<Arch, Storage>(work.args_of(all[i].task), work.tile_of(all[i].task), all[i].stripe,
                                           work.paired, states + i * state,
                                           scratch + static_cast<std::size_t>(worker) * size);
          });
        }
      });
      const index_t merging = static_cast<index_t>(state * count) / std::max<index_t>(1, work.tasks());
      context.team.parallel_for(work.tasks(), context.grain_of(work.tasks(), merging),
                                [&](index_t begin, index_t end, int) {
                                  for (index_t task = begin; task < end; ++task) {
                                    merge_task<Arch>(work, task, states, state, first[static_cast<std::size_t>(task)],
                                                     first[static_cast<std::size_t>(task) + 1]);
                                  }
                                });
    });
  }

  /// Puts pieces [begin, end) of one task together.
  template <class Arch, class T, class KeyStore>
  static void merge_task(const tile_work<T, KeyStore>& work, index_t task, T* states, std::size_t state,
                         std::size_t begin, std::size_t end) noexcept {
    const auto args = work.args_of(task);
    const auto of = work.tile_of(task);
    for (std::size_t i = begin + 1; i < end; ++i) {
      kernels::merge_stripes<Arch>(args, of, states + i * state, states + begin * state);
    }
    kernels::finish_attention<Arch>(args, of, states + begin * state);
  }

  [[nodiscard]] std::span<const key_range> ranges_of(const row_table& rows, std::size_t segment) const noexcept {
    const auto& toward = rows.toward(segment);
    return windowed ? toward.windowed : toward.ranges;
  }

  template <class T, class KeyStore>
  [[nodiscard]] static std::span<tile> make_tiles(basic_eval<T>& context, attention_streams<KeyStore> streams) {
    constexpr index_t height = kernels::attention_rows;
    index_t count = 0;
    for (const auto& stream : streams) count += (stream.rows->size() + height - 1) / height;
    const auto size = static_cast<std::size_t>(count);
    const std::span<tile> tiles(context.memory.template take<tile>(size), size);
    auto next = tiles.begin();
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const index_t rows = streams[i].rows->size();
      for (index_t row = 0; row < rows; row += height) *next++ = {i, row, std::min(rows, row + height)};
    }
    return tiles;
  }

  /// Unless `all` are wanted, rows that see nothing of a segment to which they have an offset are left unset there.
  template <class T, class KeyStore>
  [[nodiscard]] turned_queries<T> turn_queries(basic_eval<T>& context, const tensor_view<T, 2>& queries,
                                               attention_streams<KeyStore> streams, int rotary, bool all) const {
    turned_queries<T> turned;
    if (rotary == no_rotary) {
      turned.own = queries;
      return turned;
    }
    for (const auto& stream : streams) {
      for (std::size_t s = 0; s < num_groups; ++s) {
        auto& to = turned.is_shifted(stream, s, rotary) ? turned.shifted[s] : turned.own;
        if (to.data() == nullptr) to = context.make(queries.size(0), queries.size(1));
      }
    }
    context.for_each_row(queries.size(0), 3 * queries.size(1), [&]<class Arch>(index_t row, Arch) {
      const auto& stream = detail::stream_at(streams, row);
      const auto& angles = stream.angles[static_cast<std::size_t>(rotary)];
      const index_t at = row - stream.first;
      bool in_own_frame = false;
      for (std::size_t s = 0; s < num_groups; ++s) {
        const bool shifted = turned.is_shifted(stream, s, rotary);
        const key_range range = ranges_of(*stream.rows, s)[static_cast<std::size_t>(at)];
        if (shifted ? !all && range.begin >= range.end : in_own_frame) continue;
        in_own_frame = in_own_frame || !shifted;
        detail::turn_row<Arch>(angles.toward[s], at, queries.row(row).data(), queries.size(1), head_dim,
                               turned.toward(stream, s, rotary).row(row).data());
      }
    });
    return turned;
  }

  /// Adds what queries in their frames have gathered to their gradients.
  template <class T, class KeyStore>
  void turn_back(basic_eval<T>& context, const turned_queries<T>& gradients, attention_streams<KeyStore> streams,
                 int rotary, const dual<T>& queries) const {
    if (rotary == no_rotary) return detail::pass_on(context, T(1), gradients.own, queries);
    const index_t features = queries.value.size(1);
    context.for_each_row(queries.value.size(0), 3 * features, [&]<class Arch>(index_t row, Arch) {
      const auto& stream = detail::stream_at(streams, row);
      const auto& angles = stream.angles[static_cast<std::size_t>(rotary)];
      bool in_own_frame = false;
      for (std::size_t s = 0; s < num_groups; ++s) {
        const bool shifted = gradients.is_shifted(stream, s, rotary);
        if (!shifted && in_own_frame) continue;
        in_own_frame = in_own_frame || !shifted;
        detail::turn_row_back<Arch>(angles.toward[s], row - stream.first,
                                    gradients.toward(stream, s, rotary).row(row).data(), features, head_dim,
                                    queries.gradient.row(row).data(), queries.fresh && s == 0);
      }
    });
  }

  template <class T, class KeyStore, class Segments>
  void run_backward(basic_eval<T>& context, attention_streams<KeyStore> streams, std::span<Segments> segments,
                    index_t most_keys, const dual<T>& out) const {
    kernels::attention_gradient_args<T> args;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = static_cast<T>(scale);
    args.soft_cap = static_cast<T>(soft_cap);
    const std::size_t size = kernels::attention_gradient_scratch<T>(most_keys, head_dim, num_groups);
    T* const scratch = context.memory.template take<T>(size * static_cast<std::size_t>(context.team.size()));
    simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
      const auto tasks = static_cast<index_t>(streams.size()) * kv_heads;
      context.team.parallel_for(tasks, 1, [&](index_t begin, index_t end, int worker) {
        for (index_t task = begin; task < end; ++task) {
          const auto i = static_cast<std::size_t>(task / kv_heads);
          auto mine = args;
          mine.rows = streams[i].rows->size();
          mine.segments = segments[i];
          mine.out_gradient = out.gradient.data() + streams[i].first * out.gradient.size(1);
          kernels::range_attention_backward<Arch>(mine, task % kv_heads,
                                                  scratch + static_cast<std::size_t>(worker) * size);
        }
      });
    });
  }
};

}  // namespace runnel::ops
