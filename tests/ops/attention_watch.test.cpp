// SPDX-License-Identifier: Apache-2.0
// Weights of attention that are looked at: what they are, and that looking changes nothing.
#include <runnel/ops/attention_watch.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include <runnel/stream/teacher_forcing.hpp>

#include "support/instruction_sets.hpp"
#include "support/streaming.hpp"
#include "support/tiny_model.hpp"

namespace {

using namespace runnel;

using watched_rows = std::map<std::tuple<index_t, index_t, index_t>, std::array<std::vector<double>, num_groups>>;

ops::attention_watch::watcher keep_in(watched_rows& seen) {
  return [&seen](const ops::attention_weights& one) {
    auto& kept = seen[{one.layer, one.row, one.head}];
    for (std::size_t s = 0; s < num_groups; ++s) kept[s].assign(one.of[s].begin(), one.of[s].end());
  };
}

struct finished {
  std::vector<std::int32_t> source, target;
  arrivals when;
};

finished random_stream_of(random_stream& random) {
  finished out;
  const auto tokens = [&](index_t count) {
    std::vector<std::int32_t> ids;
    for (index_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(random.below(26)));
    return ids;
  };
  std::vector<index_t> read_at;
  index_t read = 1 + random.below(70);  // more than a page of keys, at times
  for (index_t p = 1 + random.below(12); p > 0; --p) {
    read += random.below(3) == 0 ? random.below(4) : 0;
    read_at.push_back(read);
  }
  out.when = arrivals(read_at, read);
  out.source = tokens(read);
  out.target = tokens(static_cast<index_t>(read_at.size()));
  return out;
}

TEST_CASE("looking at attention changes no bit, and its weights sum to one over what a row sees") {
  for (int turn = 0; turn < 24; ++turn) {
    CAPTURE(turn);
    random_stream random(static_cast<std::uint64_t>(turn) + 11);
    tests::tiny_model_options options;
    options.any_family = turn % 3 != 0;
    const auto network = tests::tiny_decoder(random, options);
    const auto& config = network->config();
    const finished stream = random_stream_of(random);
    const auto type = turn % 4 == 1 ? cache::storage_type::bf16 : cache::storage_type::f32;
    for (const stream::plan& how : tests::all_plans(0.5 * turn)) {
      CAPTURE(stream::name_of(how));
      for (const auto& [first, last] : stream::forced_pieces(how, stream.when)) {
        const auto work =
            stream::plan_forced(how, {stream.source, stream.target, stream.when}, first, last, config.sliding_window);
        const auto forward = [&](auto& context) {
          auto cache = network->make_cache(type);
          const models::stream_rows streams[] = {{&cache, &work.rows, work.tokens, work.logit_rows}};
          const auto logits = network->forward(context, streams);
          return std::vector<float>(logits.data(), logits.data() + logits.size());
        };
        ops::eval plain;
        watched_rows seen;
        ops::attention_watch watch(keep_in(seen), {.threads = 1 + turn % 3});
        REQUIRE(forward(plain) == forward(watch));
        REQUIRE(seen.size() ==
                static_cast<std::size_t>(config.num_hidden_layers * work.rows.size() * config.num_attention_heads));
        bool good = true;
        for (const auto& [place, weights] : seen) {
          const auto [layer, row, head] = place;
          double sum = 0;
          for (std::size_t s = 0; s < num_groups; ++s) {
            const auto& toward = work.rows.toward(s);
            const auto range =
                (config.layer(layer).windowed ? toward.windowed : toward.ranges)[static_cast<std::size_t>(row)];
            good = good && static_cast<int>(weights[s].size()) == std::max(0, range.end - range.begin);
            for (const double weight : weights[s]) {
              good = good && weight >= 0 && weight <= 1;
              sum += weight;
            }
          }
          good = good && std::fabs(sum - 1) < 1e-12;
        }
        CHECK(good);
      }
    }
  }
}

// One head, keys and values by hand: the weights must be those by which the op averages.
TEST_CASE("the weights are those by which values are averaged, offsets and soft cap included") {
  for (int turn = 0; turn < 40; ++turn) {
    CAPTURE(turn);
    random_stream random(static_cast<std::uint64_t>(turn) + 3);
    ops::range_attention op;
    op.kv_heads = 1 + random.below(2);
    op.heads = op.kv_heads * (1 + random.below(3));
    op.head_dim = 4 * (1 + random.below(3));
    op.scale = 0.5f;
    op.soft_cap = turn % 2 == 0 ? 1.5f : 0;
    const index_t source = 1 + random.below(90), target = 1 + random.below(5);
    cache::key_value_cache store({1, op.kv_heads, op.head_dim, cache::storage_type::f32, 4096});
    const index_t width = op.kv_heads * op.head_dim;
    std::array<std::vector<std::vector<float>>, num_groups> values;
    const auto numbers = [&](index_t count) {
      std::vector<float> out;
      for (index_t i = 0; i < count; ++i) out.push_back(static_cast<float>(2 * random.uniform() - 1));
      return out;
    };
    for (std::size_t g = 0; g < num_groups; ++g) {
      const index_t length = g == 0 ? source : target;
      store.reserve(static_cast<group>(g), length);
      for (index_t at = 0; at < length; ++at) {
        values[g].push_back(numbers(width));
        const auto key = numbers(width);
        store.write(0, static_cast<group>(g), {at, key.data(), values[g].back().data()});
      }
      store.commit(static_cast<group>(g), length);
    }
    row_table rows;
    const double phi = random.uniform() * 20;
    const auto end = static_cast<std::int32_t>(1 + random.below(source));
    rows.add({group::target, 3, 0}, {static_cast<std::int32_t>(random.below(end)), end}, phi,
             {0, static_cast<std::int32_t>(target)}, 0);
    rows.add({group::target, 4, 1}, {0, 0}, phi, {0, 1}, 0);
    rows.add({group::target, 5, 2}, {0, 0}, phi, {0, 0}, 0);  // sees nothing
    ops::eval context;
    const std::vector<double> frequencies(static_cast<std::size_t>(op.head_dim / 2), 0.3);
    const auto angles = context(ops::rotary_table{frequencies, 1}, rows);
    auto queries = numbers(3 * op.heads * op.head_dim);
    const ops::eval::value q(queries.data(), {3, op.heads * op.head_dim});
    std::vector<float> result(queries.size());
    const ops::eval::value out(result.data(), {3, op.heads * op.head_dim});
    const ops::attention_stream<cache::key_value_cache> stream{&rows, {angles}, &store, 0};
    const std::span streams(&stream, 1);
    context(op, q, streams, 0, index_t{0}, out);
    index_t calls = 0;
    op.weigh(context, q, streams, 0, 0, [&](index_t row, index_t head, const auto& weights) {
      ++calls;
      if (row == 1) CHECK(weights[1].front() == 1.0);
      if (row == 2) CHECK(weights[0].size() + weights[1].size() == 0);
      for (index_t i = 0; i < op.head_dim; ++i) {
        double sum = 0;
        for (std::size_t g = 0; g < num_groups; ++g) {
          const auto begin = rows.toward(g).ranges[static_cast<std::size_t>(row)].begin;
          for (std::size_t k = 0; k < weights[g].size(); ++k) {
            const auto& value = values[g][static_cast<std::size_t>(begin) + k];
            const index_t feature = head / (op.heads / op.kv_heads) * op.head_dim + i;
            sum += weights[g][k] * static_cast<double>(value[static_cast<std::size_t>(feature)]);
          }
        }
        CHECK(std::fabs(sum - static_cast<double>(out.row(row)[static_cast<std::size_t>(head * op.head_dim + i)])) <
              1e-5);
      }
    });
    CHECK(calls == 3 * op.heads);
  }
}

TEST_CASE("a watch without a watcher is refused") {
  const ops::attention_watch::watcher nobody;
  CHECK_THROWS_AS(ops::attention_watch{nobody}, config_error);
}

}  // namespace
