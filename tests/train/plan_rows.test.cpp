// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/session.hpp>
#include <runnel/train/plan_rows.hpp>
#include <runnel/train/tokenize.hpp>

#include "support/random_values.hpp"
#include "support/streaming.hpp"
#include "support/tiny_language.hpp"

using namespace runnel;
using namespace runnel::train;
using tests::between;

namespace {

// Prompt of 2 rows, words of 1, 2 and 1 rows, an end of 2; header of 2 rows, words of 2, 1 and 2 rows, an end of 1.
example small() {
  return {{1, 2, 3, 4, 5, 6, 7, 8}, {2, 3, 5, 6, 8}, {20, 21, 22, 23, 24, 25, 26, 27}, {2, 4, 5, 7, 8}};
}

example random_example(random_stream& random) {
  example out;
  const auto fill = [&](std::vector<std::int32_t>& tokens, std::vector<index_t>& ends, index_t first_least) {
    const index_t words = random.below(7);
    for (index_t j = 0; j < words + 2; ++j) {
      const index_t least = j == 0 ? first_least : 1;
      const index_t count = between(random, least, 3);
      for (index_t i = 0; i < count; ++i) tokens.push_back(static_cast<std::int32_t>(random.below(28)));
      ends.push_back(static_cast<index_t>(tokens.size()));
    }
  };
  fill(out.source, out.source_ends, 1);
  fill(out.target, out.target_ends, 0);
  return out;
}

std::vector<index_t> source_limits(const training_rows& made) {
  std::vector<index_t> limits;
  for (const index_t row : made.logit_rows) {
    limits.push_back(made.rows.toward(group::source).ranges[static_cast<std::size_t>(row)].end);
  }
  return limits;
}

/// All that one row of a table says.
struct row_columns {
  std::int32_t token = 0;
  group of = group::source;
  double value = 0;
  key_range source, source_windowed, target, target_windowed;
  double source_offset = 0, target_offset = 0;
  friend bool operator==(const row_columns&, const row_columns&) = default;
};

row_columns columns(const row_table& rows, std::span<const std::int32_t> tokens, index_t row, index_t first_key = 0) {
  const auto i = static_cast<std::size_t>(row);
  const auto shifted = [&](key_range range) {
    const auto by = static_cast<std::int32_t>(first_key);
    return key_range{range.begin - by, range.end - by};
  };
  const auto& source = rows.toward(group::source);
  const auto& target = rows.toward(group::target);
  return {tokens[i],
          rows.groups()[i],
          rows.values()[i],
          source.ranges[i],
          source.windowed[i],
          rows.groups()[i] == group::target ? shifted(target.ranges[i]) : target.ranges[i],
          rows.groups()[i] == group::target ? shifted(target.windowed[i]) : target.windowed[i],
          source.offsets[i],
          target.offsets[i]};
}

/// Where the target's keys of a row's copy begin.
index_t first_key(const row_table& rows, index_t row) {
  return rows.groups()[static_cast<std::size_t>(row)] == group::target
             ? rows.toward(group::target).ranges[static_cast<std::size_t>(row)].begin
             : 0;
}

}  // namespace

TEST_CASE("wait-k's limits by hand: the row of a word's last token already sees what the next word is written with") {
  random_stream random(1);
  row_choices choices;
  choices.waits = {1};
  choices.end = end_limit::wait_k;
  // Prompt and 1 word for the first word, then one more for each; header rows have no loss. The header's last row and
  // the first word's first see 3 rows, the first word's last row sees 5, the second word's only row 6, and so on.
  const training_rows made = make_rows(small(), stream::group_streaming(0.5), choices, random);
  CHECK(made.labels == std::vector<std::int32_t>{22, 23, 24, 25, 26, 27});
  CHECK(source_limits(made) == std::vector<index_t>{3, 3, 5, 6, 6, 8});
  CHECK(made.logit_rows == std::vector<index_t>{9, 10, 11, 12, 13, 14});
  CHECK(made.tokens == std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 22, 23, 24, 25, 26});
  for (std::size_t row = 8; row < 15; ++row) {
    CHECK(made.rows.toward(group::source).offsets[row] == 0.5);
    CHECK(made.rows.values()[row] == static_cast<double>(row - 8));
  }
  choices.waits = {2};
  CHECK(source_limits(make_rows(small(), stream::group_streaming(), choices, random)) ==
        std::vector<index_t>{5, 5, 6, 8, 8, 8});
  choices.waits = {9};
  CHECK(source_limits(make_rows(small(), stream::group_streaming(), choices, random)) ==
        std::vector<index_t>{8, 8, 8, 8, 8, 8});
}

TEST_CASE("rows are counted before they are made") {
  random_stream random(3);
  for (int trial = 0; trial < 100; ++trial) {
    const example pair = random_example(random);
    row_choices choices;
    choices.waits = waits_between(1, 4);
    choices.probe_share = 0.5 * static_cast<double>(random.below(3));
    choices.header = random.below(2) == 0 ? header_loss::none : header_loss::predicting_row;
    for (const auto& how : tests::all_plans(1)) {
      random_stream one(7), same(7), again(7);
      const index_t rows = make_rows(pair, how, choices, one).rows.size();
      row_choices bounded = choices;
      bounded.most_rows = rows;
      CHECK(make_rows(pair, how, bounded, same).rows.size() == rows);
      bounded.most_rows = rows - 1;
      if (rows > 1) CHECK_THROWS_AS((void)make_rows(pair, how, bounded, again), limit_error);
    }
  }
  // What would be quadratic is refused at once: ten thousand words of a token each.
  example endless;
  for (std::int32_t i = 0; i < 10002; ++i) {
    for (auto* tokens : {&endless.source, &endless.target}) tokens->push_back(i % 20);
    for (auto* ends : {&endless.source_ends, &endless.target_ends}) ends->push_back(i + 1);
  }
  row_choices choices;
  choices.waits = {1};
  choices.most_rows = 4096;
  CHECK_THROWS_AS((void)make_rows(endless, stream::batch_streaming(stream::reencode::all), choices, random),
                  limit_error);
}

TEST_CASE("wait-k's limits are the closed form of the seed semantics") {
  random_stream random(2);
  for (int trial = 0; trial < 200; ++trial) {
    const example pair = random_example(random);
    const index_t k = between(random, 1, 9);
    const index_t header = pair.target_ends.front();
    row_choices choices;
    choices.waits = {k};
    choices.end = end_limit::wait_k;
    choices.header = header > 0 ? header_loss::predicting_row : header_loss::none;
    const training_rows made = make_rows(pair, stream::group_streaming(), choices, random);
    REQUIRE(made.labels == pair.target);
    const auto segments = static_cast<index_t>(pair.source_ends.size());
    const auto limits = source_limits(made);
    for (index_t p = 0; p < static_cast<index_t>(pair.target.size()); ++p) {
      // The limit of the segment of the token that is predicted; the prompt counts as one segment.
      index_t j = 0;
      while (pair.target_ends[static_cast<std::size_t>(j)] <= p) ++j;
      const index_t n = std::min(k + std::max<index_t>(j, 1), segments);
      INFO("token ", p, " of segment ", j, ", k ", k);
      CHECK(limits[static_cast<std::size_t>(p)] == pair.source_ends[static_cast<std::size_t>(n - 1)]);
    }
  }
}

TEST_CASE("the end's limit: wait-k's, the whole source, or evenly between") {
  random_stream random(3);
  example pair = small();
  pair.target_ends = {2, 7, 8};  // one target word
  row_choices choices;
  choices.waits = {1};
  choices.end = end_limit::wait_k;
  CHECK(source_limits(make_rows(pair, stream::group_streaming(), choices, random)).back() == 5);
  choices.end = end_limit::whole_source;
  CHECK(source_limits(make_rows(pair, stream::group_streaming(), choices, random)).back() == 8);
  choices.end = end_limit::drawn;
  std::map<index_t, int> seen;
  for (int i = 0; i < 3000; ++i) {
    const training_rows made = make_rows(pair, stream::group_streaming(), choices, random);
    ++seen[source_limits(made).back()];
    // Source that no row sees is not there, and the others' limits are wait-k's all the same.
    REQUIRE(made.rows.size() == source_limits(made).back() + 7);
    REQUIRE(source_limits(made).front() == 3);
  }
  REQUIRE(seen.size() == 3);
  for (const index_t limit : {5, 6, 8}) {
    CHECK(seen[limit] > 850);
    CHECK(seen[limit] < 1150);
  }
}

TEST_CASE("k is drawn evenly from the waits, the same for the same random numbers") {
  row_choices choices;
  choices.waits = waits_between(1, 3);
  choices.end = end_limit::wait_k;
  random_stream random(4);
  random_stream again(4);
  std::map<index_t, int> seen;
  for (int i = 0; i < 3000; ++i) {
    const training_rows made = make_rows(small(), stream::group_streaming(), choices, random);
    CHECK(source_limits(make_rows(small(), stream::group_streaming(), choices, again)) == source_limits(made));
    ++seen[source_limits(made).front()];
  }
  REQUIRE(seen.size() == 3);
  for (const index_t limit : {3, 5, 6}) CHECK(seen[limit] > 850);
  CHECK_THROWS_AS(static_cast<void>(waits_between(0, 3)), config_error);
  CHECK_THROWS_AS(static_cast<void>(waits_between(3, 2)), config_error);
}

TEST_CASE("the choices of the paper's code") {
  random_stream random(5);
  row_choices choices;
  choices.waits = {1};
  choices.end = end_limit::wait_k;
  choices.header = header_loss::published;
  choices.published_header_limit = true;
  const training_rows made = make_rows(small(), stream::group_streaming(), choices, random);
  CHECK(made.labels == small().target);
  // The first from the first source word's first row, though the header was written before it was read.
  CHECK(made.logit_rows == std::vector<index_t>{1, 8, 9, 10, 11, 12, 13, 14});
  CHECK(source_limits(made) == std::vector<index_t>{2, 2, 3, 3, 5, 6, 6, 8});
  choices.published_header_limit = false;
  const training_rows late = make_rows(small(), stream::group_streaming(), choices, random);
  CHECK(late.logit_rows == std::vector<index_t>{2, 8, 9, 10, 11, 12, 13, 14});
  CHECK(source_limits(late) == std::vector<index_t>{3, 3, 3, 3, 5, 6, 6, 8});
  CHECK(make_rows(small(), stream::batch(), choices, random).logit_rows.front() == 7);
  choices.header = header_loss::predicting_row;
  choices.waits = {2};
  CHECK(make_rows(small(), stream::group_streaming(), choices, random).logit_rows.front() == 4);
}

TEST_CASE("every plan's rows are those of teacher forcing") {
  random_stream random(6);
  for (int trial = 0; trial < 60; ++trial) {
    const example pair = random_example(random);
    const index_t window = random.below(3) == 0 ? 0 : between(random, 1, 9);
    for (const stream::plan& how : tests::all_plans(0.25 * static_cast<double>(random.below(20)))) {
      row_choices choices;
      choices.waits = waits_between(1, 8);
      if (random.below(2) == 0) choices.header = header_loss::predicting_row;
      const bool streams = how.order == stream::event_order::by_policy;
      const index_t all = pair.source_words() + 1;
      const index_t k = streams ? between(random, 1, 8) : all;
      const index_t end = between(random, std::min(k + pair.target_words(), all), all);
      const rehearsal done = rehearse_wait_k(pair, k, end);
      const arrivals& when = done.when;
      const training_rows made = make_rows(pair, how, done, choices, random, window);
      const std::span<const std::int32_t> source(pair.source.data(), static_cast<std::size_t>(when.read_now()));
      const std::span<const std::int32_t> target(pair.target.data(), static_cast<std::size_t>(when.written()));
      const index_t first = choices.header == header_loss::none ? done.first_word_token : 0;
      std::size_t at = 0;
      INFO(stream::name_of(how), ", k ", k, ", window ", window);
      CHECK(made.rows.window() == window);
      for (const auto& [begin, stop] : stream::forced_pieces(how, when)) {
        if (stop <= first) continue;
        const auto from = std::max(begin, first);
        const auto forced = stream::plan_forced(how, {source, target, when}, from, stop, window);
        for (std::size_t i = 0; i < forced.logit_rows.size(); ++i, ++at) {
          REQUIRE(at < made.logit_rows.size());
          CHECK(made.labels[at] == pair.target[static_cast<std::size_t>(from) + i]);
          const index_t row = made.logit_rows[at];
          const index_t base = first_key(made.rows, row);
          CHECK(columns(made.rows, made.tokens, row, base) ==
                columns(forced.rows, forced.tokens, forced.logit_rows[i]));
          if (forced.rows.groups()[static_cast<std::size_t>(forced.logit_rows[i])] == group::source) continue;
          // The rows before it, of the same copy, are what stands before it there.
          const index_t back = made.rows.storage()[static_cast<std::size_t>(row)] - base;
          for (index_t q = 1; q <= back; ++q) {
            CHECK(columns(made.rows, made.tokens, row - q, base) ==
                  columns(forced.rows, forced.tokens, forced.logit_rows[i] - q));
          }
        }
      }
      CHECK(at == made.logit_rows.size());
      CHECK(at == made.labels.size());
      // Keys are stored in the order of rows, each once.
      index_t stored[2] = {0, 0};
      for (index_t row = 0; row < made.rows.size(); ++row) {
        CHECK(made.rows.storage()[static_cast<std::size_t>(row)] ==
              stored[static_cast<std::size_t>(made.rows.groups()[static_cast<std::size_t>(row)])]++);
      }
    }
  }
}

namespace {

struct asked {
  index_t token = 0;  // that is predicted
  index_t read = 0;   // source rows read then
  row_columns row;    // that predicts
  std::vector<float> logits;
};

/// A session that writes `target` whatever its model says, and everything its model was asked.
std::vector<asked> run_forced(stream::session& one, const std::vector<std::int32_t>& target, index_t vocabulary,
                              bool compute) {
  std::vector<asked> log;
  ops::eval context;
  for (;;) {
    if (one.poll()) continue;
    const stream::pass* work = one.pending();
    if (work == nullptr) return log;
    const stream::pass pass = *work;
    const models::stream_rows streams[] = {one.rows()};
    const auto computed = one.model().network->forward(context, streams);
    if (pass.logit_rows.empty()) {
      one.complete({});
      continue;
    }
    const auto written = one.when().written();
    asked what{written, one.when().read_now(), columns(pass.rows, pass.tokens, pass.logit_rows.front()), {}};
    if (compute) what.logits.assign(computed.row(0).begin(), computed.row(0).end());
    log.push_back(what);
    std::vector<float> chosen(static_cast<std::size_t>(vocabulary));
    chosen[static_cast<std::size_t>(target[static_cast<std::size_t>(written)])] = 1;
    one.complete(chosen);
  }
}

/// Bit for bit; copies of the prefix to rounding, as attention adds up in tiles that begin at key 0.
bool agree(std::span<const float> a, std::span<const float> b, bool bitwise) {
  if (bitwise) return tests::same_bits(a, b);
  float largest = 0;
  float off = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    off = std::max(off, std::abs(a[i] - b[i]));
  }
  return off <= 1e-5F * largest;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : "  ") + word;
  return text;
}

}  // namespace

TEST_CASE("training sees at a row what a session sees there, and computes the same") {
  random_stream random(7);
  index_t probes_seen = 0;
  for (int trial = 0; trial < 25; ++trial) {
    tests::tiny_model_options options;
    options.any_family = true;
    const auto model = tests::tiny_language(100 + static_cast<std::uint64_t>(trial), options);
    const index_t vocabulary = model.network->config().vocab_size;
    const index_t window = model.network->config().sliding_window;
    const auto source = tests::random_words(random, between(random, 1, 6));
    const auto target = tests::random_words(random, between(random, 1, 6));
    tokenize_options tokenize;
    tokenize.max_word_tokens = random.below(2) == 0 ? 2 : 50;
    const example pair = example_maker(model, "ce", tokenize)(joined(source), joined(target));
    for (const stream::plan& how : tests::all_plans(1.5)) {
      stream::session_options session_options;
      session_options.how = how;
      const index_t k = between(random, 1, 7);
      session_options.when = stream::wait_k{k};
      session_options.instruction = "ce";
      session_options.max_word_tokens = tokenize.max_word_tokens;
      session_options.compute.compute = ops::compute_mode::f32;
      stream::session one(model, session_options);
      for (const auto& word : source) one.push(word);
      one.finish();
      const auto log = run_forced(one, pair.target, vocabulary, true);
      REQUIRE(one.done());
      CHECK(one.words() == target);

      const index_t all = pair.source_words() + 1;
      const bool streams = how.order == stream::event_order::by_policy;
      row_choices choices;
      // A word that was cut for its length is not asked about.
      choices.probe_share = tokenize.max_word_tokens == 2 ? 0 : 1;
      // Where the end was asked for: each of the limits that may be drawn, once.
      std::vector<index_t> end_limits;
      for (const asked& what : log) {
        if (what.token + 1 == static_cast<index_t>(pair.target.size())) end_limits.push_back(what.read);
      }
      for (index_t end = streams ? std::min(k + pair.target_words(), all) : all; end <= all; ++end) {
        const rehearsal done = rehearse_wait_k(pair, k, end);
        const rehearsal batch_done = rehearse_wait_k(pair, all, all);
        const arrivals& when = streams ? done.when : batch_done.when;
        INFO(stream::name_of(how), ", k ", k, ", end ", end, ", trial ", trial);
        const training_rows made = make_rows(pair, how, streams ? done : batch_done, choices, random, window);
        for (index_t p = 0; p < when.written(); ++p) REQUIRE(one.when().c(p) == when.c(p));
        CHECK(std::find(end_limits.begin(), end_limits.end(), when.read_now()) != end_limits.end());

        auto cache = model.network->make_cache();
        ops::eval context;
        const models::stream_rows work[] = {{&cache, &made.rows, made.tokens, made.logit_rows}};
        const auto logits = model.network->forward(context, work);
        const auto losses = static_cast<index_t>(made.logit_rows.size());
        const index_t trained = when.written() + 1 - pair.target_ends.front();
        CHECK(losses >= trained);
        std::map<std::pair<index_t, index_t>, index_t> found;  // token, read: how often
        for (index_t i = 0; i < losses; ++i) {
          const index_t row = made.logit_rows[static_cast<std::size_t>(i)];
          const row_columns mine = columns(made.rows, made.tokens, row, first_key(made.rows, row));
          // The one row of the session that predicted from the same.
          const asked* same = nullptr;
          for (const asked& what : log) {
            if (what.row == mine && agree(what.logits, logits.row(i), first_key(made.rows, row) == 0)) same = &what;
          }
          REQUIRE(same != nullptr);
          CHECK(pair.target[static_cast<std::size_t>(same->token)] == made.labels[static_cast<std::size_t>(i)]);
          ++found[{same->token, same->read}];
        }
        // What the session asked and went by is all trained: kept tokens and, before each read, the probe.
        for (const asked& what : log) {
          const bool later = what.read > when.read_now();
          const bool is_end = what.token == when.written();
          if (later || (is_end && what.read != when.read_now() && what.read > when.c(when.written() - 1))) continue;
          if (choices.probe_share == 0 && what.read < when.c(what.token)) continue;
          INFO("token ", what.token, ", read ", what.read);
          CHECK(found[{what.token, what.read}] == 1);
          if (what.read < when.c(what.token)) ++probes_seen;
        }
      }
    }
  }
  CHECK(probes_seen > 100);
}

TEST_CASE(
    "probes cost copies where the last row is fed again, a row where the plan refreshes, nothing in arrival order") {
  row_choices plain;
  plain.waits = {1};
  plain.end = end_limit::wait_k;
  row_choices probing = plain;
  probing.probe_share = 1;
  const auto cost = [&](const stream::plan& how) {
    random_stream random(8);
    const training_rows without = make_rows(small(), how, plain, random);
    const training_rows with = make_rows(small(), how, probing, random);
    CHECK(with.labels.size() == without.labels.size() + (how.order == stream::event_order::by_policy ? 3 : 0));
    return with.rows.size() - without.rows.size();
  };
  CHECK(cost(stream::group_streaming()) == 4 + 5 + 7);
  CHECK(cost(stream::batch_streaming(stream::reencode::positions)) == 4 + 5 + 7);
  CHECK(cost(stream::batch_streaming(stream::reencode::all)) == 3);
  CHECK(cost(stream::interleaved()) == 0);
  CHECK(cost(stream::batch()) == 0);

  random_stream random(9);
  probing.probe_share = 0.5;
  index_t probes = 0;
  for (int i = 0; i < 1000; ++i) {
    probes += static_cast<index_t>(make_rows(small(), stream::interleaved(), probing, random).labels.size()) - 6;
  }
  CHECK(probes > 1350);
  CHECK(probes < 1650);
}

TEST_CASE("full re-encoding: the source once, a copy of the prefix for each run of tokens") {
  random_stream random(10);
  row_choices choices;
  choices.waits = {1};
  choices.end = end_limit::wait_k;
  const training_rows made = make_rows(small(), stream::batch_streaming(stream::reencode::all), choices, random);
  // Runs: header and first word over 3, second over 5, third over 6, end over 8.
  CHECK(made.rows.size() == 8 + 3 + 4 + 6 + 7);
  CHECK(made.labels == std::vector<std::int32_t>{22, 23, 24, 25, 26, 27});
  CHECK(source_limits(made) == std::vector<index_t>{3, 3, 5, 6, 6, 8});
  const auto& target = made.rows.toward(group::target);
  CHECK(target.ranges[8] == key_range{0, 1});
  CHECK(target.ranges[10] == key_range{0, 3});
  CHECK(target.ranges[11] == key_range{3, 4});
  CHECK(target.ranges[14] == key_range{3, 7});
  CHECK(target.ranges[15] == key_range{7, 8});
  for (std::size_t row = 11; row < 15; ++row) {
    CHECK(made.rows.toward(group::source).ranges[row] == key_range{0, 5});
    CHECK(made.rows.toward(group::source).offsets[row] == 5);
    CHECK(made.rows.values()[row] == static_cast<double>(row - 11));
  }
}

TEST_CASE("joined pairs: every target is learned under batch, over its source and all pairs before") {
  random_stream random(13);
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<example> pairs;
    for (index_t i = between(random, 1, 5); i > 0; --i) pairs.push_back(random_example(random));
    row_choices choices;
    if (random.below(2) == 0) choices.header = header_loss::predicting_row;
    const index_t window = random.below(3) == 0 ? between(random, 1, 9) : 0;
    const training_rows made = join_rows(pairs, stream::batch(), choices, window);
    CHECK(made.rows.window() == window);
    std::size_t at = 0;
    example whole;  // all pairs before are a long source of this one
    for (const example& pair : pairs) {
      whole.source.insert(whole.source.end(), pair.source.begin(), pair.source.end());
      whole.source_ends = {static_cast<index_t>(whole.source.size()), static_cast<index_t>(whole.source.size())};
      whole.target = pair.target;
      whole.target_ends = pair.target_ends;
      const training_rows alone = make_rows(whole, stream::batch(), choices, random, window);
      for (std::size_t i = 0; i < alone.labels.size(); ++i, ++at) {
        REQUIRE(at < made.labels.size());
        CHECK(made.labels[at] == alone.labels[i]);
        // The same place in one sequence; a target row sees the source and what of the target is before it.
        const auto row = static_cast<std::size_t>(made.logit_rows[at]);
        CHECK(made.logit_rows[at] == alone.logit_rows[i]);
        CHECK(made.tokens[row] == alone.tokens[static_cast<std::size_t>(alone.logit_rows[i])]);
        CHECK(made.rows.values()[row] == static_cast<double>(row));
        CHECK(made.rows.toward(group::source).ranges[row].end == static_cast<index_t>(row) + 1);
      }
      whole.source.insert(whole.source.end(), pair.target.begin(), pair.target.end());
    }
    CHECK(at == made.labels.size());
    CHECK(made.tokens == whole.source);
  }
  const std::vector<example> pair{small()};
  for (const stream::plan& how : tests::all_plans(0.0)) {
    if (stream::name_of(how) != "batch") CHECK_THROWS_AS(static_cast<void>(join_rows(pair, how, {})), config_error);
  }
}

TEST_CASE("nonsense is refused") {
  random_stream random(11);
  const auto make = [&](const example& pair, const row_choices& choices = {}) {
    return make_rows(pair, stream::group_streaming(), choices, random);
  };
  CHECK(make(small()).rows.size() > 0);
  row_choices none;
  none.waits.clear();
  CHECK_THROWS_AS(make(small(), none), config_error);
  none.waits = {0};
  CHECK_THROWS_AS(make(small(), none), config_error);
  none.waits = {1};
  none.probe_share = 1.5;
  CHECK_THROWS_AS(make(small(), none), config_error);
  example wrong = small();
  wrong.source.pop_back();
  CHECK_THROWS_AS(make(wrong), config_error);
  wrong = small();
  wrong.target_ends = {2, 5, 4, 7, 8};
  CHECK_THROWS_AS(make(wrong), config_error);
  wrong = small();
  wrong.target_ends = {2, 4, 5, 8, 8};
  CHECK_THROWS_AS(make(wrong), config_error);
  wrong = small();
  wrong.source_ends = {8};
  CHECK_THROWS_AS(make(wrong), config_error);
  // Nothing stands before the first target token.
  const example blind{{}, {0, 0}, {1, 2}, {0, 1, 2}};
  CHECK_THROWS_AS(make(blind), config_error);
  CHECK_THROWS_AS(static_cast<void>(make_rows(small(), stream::batch_streaming(stream::reencode::all),
                                              rehearsal{arrivals{}, 0}, {}, random)),
                  config_error);
}
