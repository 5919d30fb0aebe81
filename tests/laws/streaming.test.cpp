// SPDX-License-Identifier: Apache-2.0
//
// Laws 0, 1, 6 and 7, bit for bit, and the rows that plans compute, with random tiny models, plans, policies and
// chunkings.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/session_batch.hpp>
#include <runnel/stream/teacher_forcing.hpp>

#include "support/instruction_sets.hpp"
#include "support/streaming.hpp"
#include "support/tiny_language.hpp"
#include "support/tiny_model.hpp"

using namespace runnel;
using namespace runnel::stream;

namespace {

/// A random model in a random format, computed in random numbers, and the words of a sentence.
struct situation {
  /// Seeds in a row go through all formats and compute modes.
  explicit situation(std::uint64_t turn) : random(1000 * turn + 17) {
    tests::tiny_model_options options;
    options.tied = random.below(3) == 0;
    options.bias = random.below(3) == 0;
    options.any_family = random.below(2) == 0;
    options.format = quant::all_formats[5 * turn % quant::all_formats.size()].format;
    const ops::compute_mode modes[] = {ops::compute_mode::int8, ops::compute_mode::bf16, ops::compute_mode::f32};
    mode = modes[turn % 3];
    cache_type = cache::storage_types[static_cast<std::size_t>(random.below(cache::storage_types.size()))];
    model = tests::tiny_language(static_cast<std::uint64_t>(random()), options);
    if (random.below(5) == 0) model.format.target_prefix.clear();
    if (random.below(5) == 0) model.format.source_suffix.clear();
    words = tests::random_words(random, random.below(9));
  }

  /// Options with a random policy, random sampling, random limits.
  session_options options(plan how, instruction_set instructions) {
    session_options made;
    made.how = std::move(how);
    made.compute = compute(random.below(8) == 0 ? 3 : 1, instructions);
    made.cache_type = cache_type;
    // Prompts around the size of a page of keys, and several pages.
    auto length = random.below(3) == 0 ? 55 + random.below(80) : random.below(6);
    if (random.below(24) == 0) length += 480;  // and a stripe
    for (std::int64_t i = 0; i < length; ++i) made.instruction += static_cast<char>('a' + random.below(8));
    made.max_tokens = 1 + random.below(40);
    made.max_word_tokens = 2 + random.below(8);
    made.compute_while_waiting = random.below(2) == 0;
    made.punctuation_reads = random.below(4) == 0;
    if (random.below(2) == 0) {
      made.when = wait_k{1 + random.below(4)};
    } else {
      made.when = tests::random_policy(static_cast<std::uint64_t>(random()));
    }
    if (random.below(2) == 0) {
      made.sampling.temperature = 0.3 + 2 * random.uniform();
      made.sampling.seed = static_cast<std::uint64_t>(random());
      if (random.below(2) == 0) made.sampling.top_k = 1 + random.below(20);
      if (random.below(2) == 0) made.sampling.top_p = 0.5 + 0.5 * random.uniform();
    }
    return made;
  }

  [[nodiscard]] ops::eval_options compute(index_t threads, instruction_set instructions) const {
    return {static_cast<int>(threads), mode, instructions};
  }

  double phi() { return random.below(3) == 0 ? 0 : random.uniform() * 20; }

  random_stream random;
  language_model model;
  ops::compute_mode mode = ops::compute_mode::f32;
  cache::storage_type cache_type = cache::storage_type::f32;
  std::vector<std::string> words;
};

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
         });
}

/// Whether the logits of all kept tokens are, bit for bit, those of `forced` `[target + 1, vocab]`.
bool same_logits(const tests::logit_log& streamed, const std::vector<float>& forced, index_t vocab, index_t kept) {
  for (const auto& [row, logits] : streamed) {
    if (row >= kept) continue;
    const auto wanted =
        std::span<const float>(forced).subspan(static_cast<std::size_t>(row * vocab), static_cast<std::size_t>(vocab));
    if (!same_bits(logits, wanted)) return false;
  }
  return true;
}

bool same_logits(const tests::logit_log& a, const tests::logit_log& b, index_t kept) {
  for (const auto& [row, logits] : a) {
    if (row >= kept) continue;
    const auto found = b.find(row);
    if (found == b.end() || !same_bits(logits, found->second)) return false;
  }
  return true;
}

index_t num_instruction_sets() { return static_cast<index_t>(tests::runnable_instruction_sets().size()); }

template <class F>
void for_each_situation(int count, F&& f) {
  for (const instruction_set instructions : tests::runnable_instruction_sets()) {
    for (int turn = 0; turn < count; ++turn) {
      CAPTURE(name_of(instructions));
      CAPTURE(turn);
      situation now(static_cast<std::uint64_t>(turn));
      f(now, instructions);
    }
  }
}

}  // namespace

TEST_CASE("law 0: a row's bits do not depend on chunks, neighbours or threads") {
  for_each_situation(18, [](situation& now, instruction_set instructions) {
    random_stream& random = now.random;
    const auto& network = *now.model.network;
    const index_t rows = 20 + random.below(130);
    const index_t vocab = network.config().vocab_size;
    std::vector<std::int32_t> tokens;
    row_table all;
    std::vector<row_table::row> own;
    for (index_t i = 0; i < rows; ++i) {
      const auto seen = static_cast<std::int32_t>(i + 1);
      const auto begin = static_cast<std::int32_t>(random.below(3) == 0 ? random.below(i + 1) : 0);
      tokens.push_back(static_cast<std::int32_t>(random.below(26)));
      all.add({group::source, static_cast<double>(i), i}, {begin, seen}, 0, {0, 0}, random.uniform(),
              {random.below(i + 1), 0});
    }
    all.set_window(network.config().sliding_window);
    std::vector<index_t> wanted;
    for (index_t i = 0; i < rows; ++i) wanted.push_back(i);

    ops::eval alone(now.compute(1, instructions));
    auto cache = network.make_cache(now.cache_type);
    const models::stream_rows one[] = {{&cache, &all, tokens, wanted}};
    const auto logits = network.forward(alone, one);
    const std::vector<float> reference(logits.data(), logits.data() + rows * vocab);

    ops::eval team(now.compute(1 + random.below(4), instructions));
    auto chunked_cache = network.make_cache(now.cache_type);
    for (index_t at = 0; at < rows;) {
      const index_t count = std::min<index_t>(rows - at, 1 + random.below(random.below(2) == 0 ? 3 : 70));
      row_table part;
      std::vector<index_t> part_wanted;
      for (index_t i = at; i < at + count; ++i) {
        const auto k = static_cast<std::size_t>(i);
        part.add({group::source, all.values()[k], i}, all.toward(0).ranges[k], all.toward(0).offsets[k],
                 all.toward(1).ranges[k], all.toward(1).offsets[k], {all.toward(0).windowed[k].begin, 0});
        part.set_window(all.window());
        if (random.below(2) == 0) part_wanted.push_back(i - at);
      }
      // Another stream goes along, before or after.
      auto other_cache = network.make_cache(now.cache_type);
      const bool first = random.below(2) == 0;
      const auto part_tokens = std::span(tokens).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count));
      const models::stream_rows part_rows{&chunked_cache, &part, part_tokens, part_wanted};
      const models::stream_rows other_rows{&other_cache, &all, tokens, wanted};
      const models::stream_rows both[] = {first ? part_rows : other_rows, first ? other_rows : part_rows};
      const auto got = network.forward(team, both);
      for (std::size_t i = 0; i < part_wanted.size(); ++i) {
        const index_t row = at + part_wanted[i];
        const index_t where = static_cast<index_t>(i) + (first ? 0 : rows);
        const auto wanted_row = std::span<const float>(reference).subspan(static_cast<std::size_t>(row * vocab),
                                                                          static_cast<std::size_t>(vocab));
        REQUIRE(same_bits(got.row(where), wanted_row));
      }
      at += count;
    }
  });
}

TEST_CASE("law 1: any chunking of reads and writes gives the logits of one pass with the plan's ranges") {
  index_t words = 0, dropped = 0, tokens = 0;
  for_each_situation(30, [&](situation& now, instruction_set instructions) {
    for (const plan& how : tests::all_plans(now.phi())) {
      CAPTURE(name_of(how));
      const session_options options = now.options(how, instructions);
      tests::logit_log log;
      session one(now.model, tests::watched(options, log));
      std::size_t pushed = 0;
      bool finished = false;
      while (!one.done()) {
        switch (now.random.below(4)) {
          case 0:
            if (pushed < now.words.size()) {
              one.push(now.words[pushed++]);
            } else if (!std::exchange(finished, true)) {
              one.finish();
            }
            break;
          case 1: {
            const step_budget budget{.max_rows = 1 + now.random.below(9), .max_passes = 1 + now.random.below(3)};
            static_cast<void>(one.step(budget));
            break;
          }
          default: static_cast<void>(one.next());
        }
      }
      ops::eval context(now.compute(1, instructions));
      const finished_stream whole{one.source_tokens(), one.target_tokens(), one.when()};
      const auto forced = teacher_forced_logits(*now.model.network, context, how, whole, now.cache_type);
      REQUIRE(same_logits(log, forced, now.model.network->config().vocab_size, one.when().written()));
      words += static_cast<index_t>(one.words().size());
      dropped += one.counters().tokens_discarded;
      tokens += one.counters().tokens_kept;
    }
  });
  // The law is empty unless words ended while there was source to read.
  CHECK(words > 200 * num_instruction_sets());
  CHECK(dropped > 60 * num_instruction_sets());
  CHECK(tokens > 700 * num_instruction_sets());
}

TEST_CASE("law 6: rewinding to any event and going on is never having advanced") {
  index_t rewinds = 0;
  for_each_situation(12, [&](situation& now, instruction_set instructions) {
    for (const plan& how : tests::all_plans(now.phi())) {
      CAPTURE(name_of(how));
      const session_options options = now.options(how, instructions);
      const auto plain = tests::run_at_once(now.model, options, now.words);
      tests::logit_log log;
      session one(now.model, tests::watched(options, log));
      std::vector<event> events;
      std::size_t pushed = 0;
      bool finished = false;
      int left = 8;
      std::stop_source stop;
      stop.request_stop();
      while (!one.done() || left > 0) {
        switch (now.random.below(6)) {
          case 0:
            if (pushed < now.words.size()) {
              one.push(now.words[pushed++]);
            } else if (!std::exchange(finished, true)) {
              one.finish();
            }
            break;
          case 1: {
            if (left == 0) break;
            --left;
            ++rewinds;
            const auto keep = static_cast<std::size_t>(now.random.below(static_cast<index_t>(events.size()) + 1));
            one.rewind(keep == 0 ? beginning : events[keep - 1].id);
            events.resize(keep);
            break;
          }
          case 2:
            try {
              if (auto happened = one.next(stop.get_token())) events.push_back(*happened);
            } catch (const cancelled_error&) {
            }
            break;
          case 3:
            for (auto& happened : one.step({.max_tokens = 3, .max_rows = 1 + now.random.below(6)})) {
              events.push_back(happened);
            }
            break;
          default:
            if (auto happened = one.next()) events.push_back(*happened);
        }
      }
      REQUIRE(tests::same_events(events, plain.events));
      const auto kept = one.when().written();
      REQUIRE(same_logits(plain.logits, log, kept));
    }
  });
  CHECK(rewinds > 200 * num_instruction_sets());
}

TEST_CASE("a restarted session does what a new one does") {
  for_each_situation(6, [](situation& now, instruction_set instructions) {
    for (const plan& how : tests::all_plans(now.phi())) {
      CAPTURE(name_of(how));
      const session_options options = now.options(how, instructions);
      const auto plain = tests::run_at_once(now.model, options, now.words);
      session fresh(now.model, options);
      tests::logit_log log;
      session one(now.model, tests::watched(options, log));
      for (int turn = 0; turn < 3; ++turn) {
        for (const auto& word : tests::random_words(now.random, now.random.below(9))) one.push(word);
        if (now.random.below(2) == 0) one.finish();
        (void)one.step({.max_tokens = now.random.below(12)});
        if (now.random.below(3) == 0) one.rewind(beginning);
        if (now.random.below(3) == 0) one.set_adapters({});
        one.restart();
        log.clear();
      }
      CHECK(one.last_event() == beginning);
      if (now.random.below(2) == 0) one.rewind(beginning);
      std::vector<event> events;
      for (auto* each : {&fresh, &one}) {
        for (const auto& word : now.words) each->push(word);
        each->finish();
        events.clear();
        while (auto happened = each->next()) events.push_back(*happened);
      }
      CHECK(tests::same_events(events, plain.events));
      CHECK(same_logits(plain.logits, log, one.when().written()));
      CHECK(one.counters() == fresh.counters());
      CHECK(one.text() == fresh.text());
      CHECK(one.delays() == fresh.delays());
    }
  });
}

TEST_CASE("law 7: a session in any batch gives what it gives alone") {
  for_each_situation(10, [](situation& now, instruction_set instructions) {
    random_stream& random = now.random;
    std::vector<tests::stream_log> alone;
    std::vector<std::unique_ptr<session>> sessions;
    std::vector<tests::logit_log> logs;
    const auto plans = tests::all_plans(now.phi());
    logs.resize(plans.size());
    for (const plan& how : plans) {
      const session_options options = now.options(how, instructions);
      alone.push_back(tests::run_at_once(now.model, options, now.words));
      sessions.push_back(std::make_unique<session>(now.model, tests::watched(options, logs[sessions.size()])));
    }
    const auto count = static_cast<index_t>(sessions.size());
    std::vector<std::vector<event>> events(sessions.size());
    std::vector<std::size_t> pushed(sessions.size());
    std::vector<bool> joined(sessions.size());
    auto compute = now.compute(random.below(2) == 0 ? 1 : 3, instructions);
    for (const auto mode : {ops::compute_mode::f32, ops::compute_mode::bf16, ops::compute_mode::int8}) {
      const bool same = now.model.network->effective(mode) == now.model.network->effective(now.mode);
      if (same && random.below(2) == 0) compute.compute = mode;  // another name for the same
    }
    session_batch batch_of(now.model.network, compute);
    const auto all_done = [&] {
      return std::all_of(sessions.begin(), sessions.end(), [](const auto& s) { return s->done(); });
    };
    while (!all_done()) {
      const auto i = static_cast<std::size_t>(random.below(count));
      session& member = *sessions[i];
      switch (random.below(5)) {
        case 0:
          if (!joined[i]) {
            batch_of.join(member);
            joined[i] = true;
          } else if (random.below(4) == 0) {
            batch_of.leave(member);
            joined[i] = false;
          }
          break;
        case 1:
          if (pushed[i] < now.words.size()) {
            member.push(now.words[pushed[i]++]);
          } else {
            member.finish();
          }
          break;
        case 2:
          if (auto happened = member.next()) events[i].push_back(*happened);
          break;
        default: {
          const auto step = batch_of.step({}, random.below(2) == 0 ? unlimited : 1 + random.below(9));
          REQUIRE(step.failures.empty());
          for (const auto& news : step.events) {
            const auto found =
                std::find_if(sessions.begin(), sessions.end(), [&](const auto& s) { return s.get() == news.member; });
            events[static_cast<std::size_t>(found - sessions.begin())].push_back(news.what);
          }
        }
      }
    }
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      CAPTURE(name_of(plans[i]));
      REQUIRE(tests::same_events(events[i], alone[i].events));
      REQUIRE(same_logits(alone[i].logits, logs[i], sessions[i]->when().written()));
    }
  });
}

TEST_CASE("every plan computes the rows its ranges need and no others") {
  index_t refed = 0, refreshed = 0;
  for_each_situation(15, [&](situation& now, instruction_set instructions) {
    for (const plan& how : tests::all_plans(now.phi())) {
      CAPTURE(name_of(how));
      session_options options = now.options(how, instructions);
      struct state {
        index_t written, read;
      };
      std::vector<state> predictions;
      options.on_logits = [&](const prediction& seen) { predictions.push_back({seen.target_row, seen.source_rows}); };
      session one(now.model, options);
      for (const auto& word : now.words) one.push(word);
      one.finish();
      while (one.next()) {
      }
      // What a prediction needs that the one before it did not have: new rows, the last row again if a token was
      // dropped, and, in a plan that refreshes, all rows over new source.
      row_counters needed;
      for (std::size_t i = 0; i < predictions.size(); ++i) {
        const state is = predictions[i];
        const state was = i == 0 ? state{0, 0} : predictions[i - 1];
        needed.source_rows += is.read - was.read;
        needed.target_rows += is.written - was.written;
        const bool source_came = is.read > was.read;
        const bool again = i > 0 && is.written == was.written;
        if (how.refresh == refresh_rule::before_every_token) {
          needed.refreshed_rows += was.read + was.written;
        } else if (how.refresh != refresh_rule::none && source_came) {
          needed.refreshed_rows += was.written;
        } else if (again && (!source_came || (!how.source_sees_target() && is.written > 0))) {
          ++(how.refresh == refresh_rule::none || is.written == 0 ? needed.refed_rows : needed.refreshed_rows);
        }
        ++needed.passes;
      }
      needed.tokens_kept = static_cast<index_t>(one.tokens().size());
      needed.tokens_discarded = one.counters().tokens_discarded;
      REQUIRE(one.counters() == needed);
      refed += needed.refed_rows;
      refreshed += needed.refreshed_rows;
      if (how.source_sees_target() && !now.model.format.source_suffix.empty()) CHECK(needed.refed_rows == 0);
      if (how.order == event_order::read_all_first) CHECK(needed.refed_rows + needed.tokens_discarded == 0);
    }
  });
  CHECK(refed > 50 * num_instruction_sets());
  CHECK(refreshed > 80 * num_instruction_sets());
}
