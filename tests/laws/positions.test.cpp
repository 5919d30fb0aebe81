// SPDX-License-Identifier: Apache-2.0
//
// Laws 2 to 5: what plans have in common and what positions mean, to 1e-4 of the largest logit.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/nn/rotary.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/stream/teacher_forcing.hpp>

#include "support/instruction_sets.hpp"
#include "support/streaming.hpp"
#include "support/tiny_language.hpp"
#include "support/tiny_model.hpp"

using namespace runnel;
using namespace runnel::stream;

namespace {

using logits_type = std::vector<float>;

/// A random finished stream over a random model.
struct situation {
  explicit situation(std::uint64_t seed) : random(seed) {
    tests::tiny_model_options options;
    options.tied = random.below(3) == 0;
    options.any_family = random.below(3) != 0;
    options.max_position_embeddings = index_t{1} << 22;
    network = tests::tiny_decoder(random, options);
    const index_t target_rows = 1 + random.below(30);
    std::vector<index_t> read_at;
    index_t read = 1 + random.below(80);
    for (index_t p = 0; p < target_rows; ++p) {
      if (random.below(3) == 0) read += random.below(4);
      read_at.push_back(read);
    }
    read += random.below(5);
    when = arrivals(read_at, read);
    source = tokens(read);
    target = tokens(target_rows);
  }

  std::vector<std::int32_t> tokens(index_t count) {
    std::vector<std::int32_t> result;
    for (index_t i = 0; i < count; ++i) result.push_back(static_cast<std::int32_t>(random.below(26)));
    return result;
  }

  [[nodiscard]] finished_stream stream() const { return {source, target, when}; }
  /// The same tokens, everything read first.
  [[nodiscard]] finished_stream read_first() const {
    return {source, target, arrivals(std::vector<index_t>(target.size(), when.read_now()), when.read_now())};
  }

  random_stream random;
  std::shared_ptr<const models::decoder> network;
  arrivals when;
  std::vector<std::int32_t> source;
  std::vector<std::int32_t> target;
};

bool close(std::span<const float> a, std::span<const float> b, double tolerance = 1e-4) {
  if (a.size() != b.size() || a.empty()) return false;
  double most = 0, apart = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return false;
    most = std::max(most, static_cast<double>(std::abs(b[i])));
    apart = std::max(apart, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return apart <= tolerance * most;
}

logits_type run(const models::decoder& network, ops::eval& context, cache::key_value_cache& cache,
                const row_table& rows, std::span<const std::int32_t> tokens, std::span<const index_t> wanted) {
  const models::stream_rows streams[] = {{&cache, &rows, tokens, wanted}};
  const auto logits = network.forward(context, streams);
  return {logits.data(), logits.data() + logits.size()};
}

template <class F>
void for_each_situation(int count, F&& f) {
  for (const instruction_set instructions : tests::runnable_instruction_sets()) {
    for (int seed = 0; seed < count; ++seed) {
      CAPTURE(name_of(instructions));
      CAPTURE(seed);
      situation now(static_cast<std::uint64_t>(77 * seed + 5));
      ops::eval context({.instructions = instructions});
      f(now, context);
    }
  }
}

/// Rotates every key of a group that a cache holds by `by` positions, in place. They lie as in
/// kernels/key_value_page.hpp.
void rotate_cached_keys(const models::model_config& config, cache::key_value_cache& cache, group which, double by) {
  for (index_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const int table = config.layer(layer).rotary;
    if (table == ops::no_rotary) continue;
    const nn::rotary_config& rope = table == 0 ? config.rope : config.local_rope;
    const auto frequencies = nn::rotary_frequencies(rope, true);  // caches are declared for more than any original
    const index_t half = rope.dimension / 2;
    const auto pages = cache.pages(layer, which);
    for (index_t row = 0; row < cache.size(which); ++row) {
      std::byte* const page = pages[static_cast<std::size_t>(row / kernels::page_keys)];
      for (index_t h = 0; h < config.num_key_value_heads; ++h) {
        std::byte* const head = page + h * kernels::page_head_bytes<float>(config.head_dim);
        float* const keys = reinterpret_cast<float*>(head) + row % kernels::page_keys;
        for (index_t i = 0; i < half; ++i) {
          float& x = keys[i * kernels::page_keys];
          float& y = keys[(i + half) * kernels::page_keys];
          const double angle = by * frequencies[static_cast<std::size_t>(i)];
          const double c = std::cos(angle), s = std::sin(angle);
          const double turned_x = static_cast<double>(x) * c - static_cast<double>(y) * s;
          const double turned_y = static_cast<double>(x) * s + static_cast<double>(y) * c;
          x = static_cast<float>(turned_x);
          y = static_cast<float>(turned_y);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("law 2: group-streaming with phi = source length and everything visible is batch") {
  for_each_situation(25, [](situation& now, ops::eval& context) {
    const auto length = static_cast<double>(now.source.size());
    const finished_stream stream = now.read_first();
    const auto wanted = teacher_forced_logits(*now.network, context, batch(), stream);
    CHECK(close(teacher_forced_logits(*now.network, context, group_streaming(length), stream), wanted));
    CHECK(close(teacher_forced_logits(*now.network, context, batch_streaming(reencode::none), stream), wanted));
    CHECK(close(teacher_forced_logits(*now.network, context, interleaved(), stream), wanted));
    // And it is not so for another phi: the law says something.
    if (now.target.size() > 3) {
      CHECK_FALSE(close(teacher_forced_logits(*now.network, context, group_streaming(length + 3), stream), wanted));
    }
    // Batch is what it is anywhere: one causal sequence of source and target.
    row_table rows;
    std::vector<std::int32_t> tokens = now.source;
    tokens.insert(tokens.end(), now.target.begin(), now.target.end());
    std::vector<index_t> predicting;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto row = static_cast<index_t>(i);
      const index_t window = now.network->config().sliding_window;
      rows.add({group::source, static_cast<double>(i), row}, {0, static_cast<std::int32_t>(row + 1)}, 0, {0, 0}, 0,
               {window == 0 ? 0 : std::max<index_t>(0, row + 1 - window), 0});
      rows.set_window(window);
      if (i + 1 >= now.source.size()) predicting.push_back(row);
    }
    auto cache = now.network->make_cache();
    CHECK(close(run(*now.network, context, cache, rows, tokens, predicting), wanted));
  });
}

TEST_CASE("law 2, streamed: sessions with both plans predict the same first token") {
  for (const instruction_set instructions : tests::runnable_instruction_sets()) {
    for (std::uint64_t seed = 0; seed < 15; ++seed) {
      CAPTURE(seed);
      random_stream random(seed);
      const auto model =
          tests::tiny_language(static_cast<std::uint64_t>(random()), {.any_family = random.below(2) == 0});
      const auto words = tests::random_words(random, 1 + random.below(8));
      session_options options;
      options.compute = {1, ops::compute_mode::f32, instructions};
      options.max_tokens = 12;
      options.how = batch();
      tests::logit_log log;
      session one(model, tests::watched(options, log));
      for (const auto& word : words) one.push(word);
      one.finish();
      while (one.next()) {
      }
      options.how = group_streaming(static_cast<double>(one.source_tokens().size()));
      options.when = read_all{};
      const auto other = tests::run_at_once(model, options, words);
      const index_t first = static_cast<index_t>(model.header_tokens().size());
      REQUIRE(log.contains(first));
      REQUIRE(other.logits.contains(first));
      CHECK(close(other.logits.at(first), log.at(first)));
    }
  }
}

TEST_CASE("law 3: position re-encoding is re-rotating every cached target key, contents as they stand") {
  for_each_situation(25, [](situation& now, ops::eval& context) {
    const plan how = batch_streaming(reencode::positions);
    const row_rules rules = how.rules(now.network->config().sliding_window);
    // Write step t: the source read by then, and the rows before the last one as they were computed, each with its own
    // limit.
    const auto rows_written = static_cast<index_t>(now.target.size());
    const index_t last = rows_written - 1;
    const index_t read = now.when.read_now();
    row_table before;
    std::vector<std::int32_t> tokens = now.source;
    for (index_t r = 0; r < read; ++r) before.add_source(rules, now.when, r);
    for (index_t p = 0; p < last; ++p) {
      before.add_target(rules, now.when, p);
      tokens.push_back(now.target[static_cast<std::size_t>(p)]);
    }
    auto cache = now.network->make_cache();
    static_cast<void>(run(*now.network, context, cache, before, tokens, {}));
    auto rotated = cache.snapshot();
    rotate_cached_keys(now.network->config(), rotated, group::target, static_cast<double>(read));

    const std::array<std::int32_t, 1> token{now.target.back()};
    const std::array<index_t, 1> wanted{0};
    row_table by_offset;
    by_offset.add_target(rules, now.when, last);
    const window_begins within{by_offset.toward(group::source).windowed[0].begin,
                               by_offset.toward(group::target).windowed[0].begin};
    row_table by_rotation;
    by_rotation.add({group::target, static_cast<double>(read + last), last}, {0, static_cast<std::int32_t>(read)}, 0,
                    {0, static_cast<std::int32_t>(last + 1)}, 0, within);
    by_rotation.set_window(rules.window);
    const auto streamed = run(*now.network, context, cache, by_offset, token, wanted);
    CHECK(close(streamed, run(*now.network, context, rotated, by_rotation, token, wanted)));
    // Had the keys not been rotated, it would show.
    if (last > 3) {
      cache.truncate(group::target, last);
      row_table wrong;
      wrong.add({group::target, static_cast<double>(read + last), last}, {0, static_cast<std::int32_t>(read)}, 0,
                {0, static_cast<std::int32_t>(last + 1)}, 0, within);
      wrong.set_window(rules.window);
      CHECK_FALSE(close(run(*now.network, context, cache, wrong, token, wanted), streamed));
    }
  });
}

TEST_CASE("law 4: full re-encoding at step t is batch on the source read so far and the target prefix") {
  for (const instruction_set instructions : tests::runnable_instruction_sets()) {
    for (std::uint64_t seed = 0; seed < 15; ++seed) {
      CAPTURE(seed);
      random_stream random(seed + 100);
      const auto model =
          tests::tiny_language(static_cast<std::uint64_t>(random()), {.any_family = random.below(2) == 0});
      const auto words = tests::random_words(random, 1 + random.below(8));
      session_options options;
      options.compute = {1, ops::compute_mode::f32, instructions};
      options.max_tokens = 25;
      options.max_word_tokens = 3;
      options.when = wait_k{1 + random.below(3)};
      options.how = batch_streaming(reencode::all);
      tests::logit_log log;
      session one(model, tests::watched(options, log));
      for (const auto& word : words) one.push(word);
      one.finish();
      while (one.next()) {
      }
      ops::eval context({.instructions = instructions});
      bool read_in_between = false;
      for (const auto& [p, logits] : log) {
        const index_t read = one.when().c(p);
        if (p >= one.when().written()) continue;
        read_in_between = read_in_between || read < one.when().read_now();
        const std::vector<index_t> all_read(static_cast<std::size_t>(p), read);
        const finished_stream prefix{one.source_tokens().first(static_cast<std::size_t>(read)),
                                     one.target_tokens().first(static_cast<std::size_t>(p)), arrivals(all_read, read)};
        const auto whole = teacher_forced_logits(*model.network, context, batch(), prefix);
        const auto last = std::span<const float>(whole).last(logits.size());
        CHECK(close(logits, last));
      }
      if (words.size() > 4) CHECK(read_in_between);
    }
  }
}

TEST_CASE("law 5: adding one constant to all positions changes nothing") {
  for_each_situation(12, [](situation& now, ops::eval& context) {
    for (const plan& how : tests::all_plans(now.random.uniform() * 10)) {
      if (how.refresh != refresh_rule::none) continue;
      CAPTURE(name_of(how));
      const forced_pass plain =
          plan_forced(how, now.stream(), 0, now.when.written() + 1, now.network->config().sliding_window);
      auto cache = now.network->make_cache();
      const auto wanted = run(*now.network, context, cache, plain.rows, plain.tokens, plain.logit_rows);
      for (const double shift : {1.0, 0.25, 4096.0, 1048576.0}) {
        CAPTURE(shift);
        row_table shifted;
        for (index_t i = 0; i < plain.rows.size(); ++i) {
          const auto k = static_cast<std::size_t>(i);
          shifted.add(
              {plain.rows.groups()[k], plain.rows.values()[k] + shift, plain.rows.storage()[k]},
              plain.rows.toward(group::source).ranges[k], plain.rows.toward(group::source).offsets[k],
              plain.rows.toward(group::target).ranges[k], plain.rows.toward(group::target).offsets[k],
              {plain.rows.toward(group::source).windowed[k].begin, plain.rows.toward(group::target).windowed[k].begin});
        }
        shifted.set_window(plain.rows.window());
        auto other = now.network->make_cache();
        CHECK(close(run(*now.network, context, other, shifted, plain.tokens, plain.logit_rows), wanted));
      }
    }
  });
}
