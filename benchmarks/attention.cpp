// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/ops/attention.hpp>
#include <runnel/stream/plan.hpp>

#include "compute_modes.hpp"
#include "support.hpp"

/// \file
/// Range attention of one layer: the last rows of a stream over the keys that its plan lets them see.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

struct setup {
  std::string plan;
  index_t rows = 1;
  index_t keys = 1;
  index_t window = 0;
  index_t heads = 1;
  index_t kv_heads = 1;
  index_t head_size = 1;
  std::string storage;
  std::string compute;
  bool rotary = false;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "attention/plan:" + plan + "/rows:" + std::to_string(rows) + "/keys:" + std::to_string(keys) +
           (window != 0 ? "/window:" + std::to_string(window) : "") + "/heads:" + std::to_string(heads) +
           "/kv_heads:" + std::to_string(kv_heads) + "/head_size:" + std::to_string(head_size) + "/storage:" + storage +
           "/compute:" + compute + (rotary ? "/rotary" : "") + "/threads:" + std::to_string(threads);
  }
  [[nodiscard]] cache::entry_shape entry() const {
    cache::entry_shape out{1, kv_heads, head_size};
    const auto type = cache::storage_from_name(storage);
    if (!type) parameters::fail("unknown storage " + storage);
    out.storage = *type;
    return out;
  }
  [[nodiscard]] ops::compute_mode mode() const {
    const auto known = benchmarks::compute_mode_named(compute);
    if (!known) parameters::fail("unknown compute mode " + compute);
    return *known;
  }
};

/// Two rows read for each written, as a policy of wait-3 orders them, or all read first.
struct stream_of_rows {
  arrivals when;
  std::vector<stream::row_id> order;

  stream_of_rows(index_t count, bool all_first) {
    const index_t targets = count / 3, sources = count - targets;
    const auto read = [&] {
      order.push_back({group::source, when.read_now()});
      when.read(1);
    };
    const auto write = [&] {
      order.push_back({group::target, when.written()});
      when.write();
    };
    for (index_t p = 0; p < targets; ++p) {
      const index_t wanted = all_first ? sources : std::min(sources, 2 * p + 6);
      while (when.read_now() < wanted) read();
      write();
    }
    while (when.read_now() < sources) read();
  }
};

/// The last `rows` of a stream, each over what it sees.
class attention_run {
 public:
  explicit attention_run(const setup& with)
      : with_(with),
        context_(ops::eval_options{.threads = with.threads, .compute = with.mode()}),
        cache_(with.entry()),
        frequencies_(static_cast<std::size_t>(with.head_size / 2)) {
    for (std::size_t i = 0; i < frequencies_.size(); ++i) {
      frequencies_[i] = std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(frequencies_.size()));
    }
    if (with.plan == "plain") {
      lay_out_plain();
    } else {
      lay_out(stream::parse_plan(with.plan));
    }
    if (with.window != 0) narrow();
    queries_ = benchmarks::normals(with.rows * with.heads * with.head_size, 2);
    out_.resize(queries_.size());
  }

  void operator()() {
    context_.memory.reset();
    const ops::eval::value queries(queries_.data(), {with_.rows, with_.heads * with_.head_size});
    const ops::eval::value out(out_.data(), {with_.rows, with_.heads * with_.head_size});
    const float scale = 1.0f / std::sqrt(static_cast<float>(with_.head_size));
    const ops::range_attention attend{with_.heads, with_.kv_heads, with_.head_size, scale, 0};
    context_.team.run([&] {
      ops::attention_stream<cache::key_value_cache> stream{&rows_, {}, &cache_, 0};
      if (with_.rotary) stream.angles[0] = context_(ops::rotary_table{frequencies_, 1}, rows_);
      const ops::attention_streams<cache::key_value_cache> streams(&stream, 1);
      context_(attend, queries, streams, with_.rotary ? 0 : ops::no_rotary, index_t{0}, out);
    });
    benchmarks::keep(out_.data());
  }

  /// Keys that rows see, all rows together.
  [[nodiscard]] double seen() const {
    double total = 0;
    for (std::size_t s = 0; s < row_table::num_segments(); ++s) {
      for (const key_range range : rows_.toward(s).ranges) total += std::max(0, range.end - range.begin);
    }
    return total;
  }

  [[nodiscard]] benchmarks::work work() const {
    const auto size = static_cast<double>(with_.head_size);
    const double page = cache_.with_storage(
        [&]<class S>(S) { return static_cast<double>(kernels::page_head_bytes<S>(with_.head_size)); });
    const double entry = static_cast<double>(with_.kv_heads) * page / static_cast<double>(kernels::page_keys);
    const double features = static_cast<double>(with_.rows * with_.heads) * size * sizeof(float);
    // A product with the key and one with the value: four operations a feature.
    const bool paired = cache_.entry().storage == cache::storage_type::bf16 && with_.mode() != ops::compute_mode::f32;
    return {paired ? benchmarks::arithmetic::bf16 : benchmarks::arithmetic::f32,
            4 * seen() * static_cast<double>(with_.heads) * size, distinct() * entry + features, with_.threads};
  }

 private:
  void lay_out_plain() {
    store(group::source, with_.keys);
    for (index_t r = with_.keys - with_.rows; r < with_.keys; ++r) {
      rows_.add({group::source, static_cast<double>(r), r}, {0, static_cast<std::int32_t>(r + 1)}, 0, {0, 0}, 0);
    }
  }

  void lay_out(const stream::plan& plan) {
    const stream_of_rows all(with_.keys, plan.order == stream::event_order::read_all_first);
    store(group::source, all.when.read_now());
    store(group::target, all.when.written());
    const auto rules = plan.rules();
    for (std::size_t i = all.order.size() - static_cast<std::size_t>(with_.rows); i < all.order.size(); ++i) {
      if (all.order[i].of == group::source) {
        rows_.add_source(rules, all.when, all.order[i].index);
      } else {
        rows_.add_target(rules, all.when, all.order[i].index, plan.visible_source(all.when, all.order[i].index));
      }
    }
  }

  /// The same rows seeing at most the last `window` keys of each segment.
  void narrow() {
    const auto last = [&](key_range range) {
      return key_range{std::max(range.begin, range.end - static_cast<std::int32_t>(with_.window)), range.end};
    };
    row_table narrowed;
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows_.size()); ++i) {
      const auto& source = rows_.toward(group::source);
      const auto& target = rows_.toward(group::target);
      narrowed.add({rows_.groups()[i], rows_.values()[i], rows_.storage()[i]}, last(source.ranges[i]),
                   source.offsets[i], last(target.ranges[i]), target.offsets[i]);
    }
    rows_ = std::move(narrowed);
  }

  void store(group which, index_t count) {
    const index_t features = with_.kv_heads * with_.head_size;
    const auto keys = benchmarks::normals(count * features, 3), values = benchmarks::normals(count * features, 4);
    cache_.reserve(which, count);
    for (index_t i = 0; i < count; ++i) {
      cache_.write(0, which, {i, keys.data() + i * features, values.data() + i * features});
    }
    cache_.commit(which, count);
  }

  /// Keys that at least one row sees: each has to be read once.
  [[nodiscard]] double distinct() const {
    double total = 0;
    for (std::size_t s = 0; s < row_table::num_segments(); ++s) {
      std::vector<bool> read(static_cast<std::size_t>(with_.keys));
      for (const key_range range : rows_.toward(s).ranges) {
        for (auto key = range.begin; key < range.end; ++key) read[static_cast<std::size_t>(key)] = true;
      }
      total += static_cast<double>(std::count(read.begin(), read.end(), true));
    }
    return total;
  }

  setup with_;
  ops::eval context_;
  cache::key_value_cache cache_;
  row_table rows_;
  std::vector<double> frequencies_;
  std::vector<float> queries_;
  std::vector<float> out_;
};

void measure(benchmark::State& state, const setup& with) {
  attention_run run(with);
  benchmarks::measure(state, run.work(), run);
  state.counters["seen"] = run.seen();
}

}  // namespace

int main(int argc, char** argv) {
  parameters given("Range attention of one layer: the last rows of a stream of `keys` rows, a third of them written.",
                   argc, argv);
  std::vector<setup> all{setup{}};
  vary(all,
       given.words("plan", "plain,batch,interleaved,group-streaming",
                   "plain: one segment, causal; or a plan: batch, batch-grouped, interleaved, batch-streaming, "
                   "group-streaming, removed-both"),
       &setup::plan);
  vary(all, given.numbers("keys", "128,1024,4096", "rows of the stream, all segments together", 3), &setup::keys);
  vary(all, given.numbers("rows", "1,8,64,512", "query rows, the last of the stream"), &setup::rows);
  vary(all, given.numbers("window", "0", "most keys a row sees of a segment; 0: no limit", 0), &setup::window);
  vary(all, given.numbers("heads", "9", "query heads"), &setup::heads);
  vary(all, given.numbers("kv_heads", "3", "key and value heads"), &setup::kv_heads);
  vary(all, given.numbers("head_size", "64", "features of a head, even"), &setup::head_size);
  vary(all, given.words("storage", "f32,bf16,f16,q8_0", "of keys and values"), &setup::storage);
  vary(all, given.words("compute", "f32,bf16", "bf16: keys and values kept so are multiplied so"), &setup::compute);
  vary(all, given.numbers("rotary", "0", "1: with the rotation of queries toward each segment", 0), &setup::rotary);
  vary(all, given.numbers("threads", "1", "threads"), &setup::threads);
  given.done();
  std::erase_if(all, [](const setup& one) {
    if (one.mode() != ops::compute_mode::f32 && one.storage != "bf16") return true;  // as with f32
    return one.rows > one.keys || one.heads % one.kv_heads != 0 || one.head_size % 2 != 0;
  });
  benchmarks::run(all, measure);
}
