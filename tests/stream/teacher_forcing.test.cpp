// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/teacher_forcing.hpp>

#include "support/tiny_model.hpp"

using namespace runnel;
using namespace runnel::stream;

namespace {

const std::vector<std::int32_t> source{1, 2, 3, 4, 5, 6};
const std::vector<std::int32_t> target{7, 8, 9, 10};
const std::array<index_t, 4> read_at{2, 2, 4, 4};

finished_stream example() { return {source, target, arrivals(read_at, 6)}; }

}  // namespace

TEST_CASE("one pass over everything: rows, tokens, and the row that predicts each token") {
  const forced_pass work = plan_forced(group_streaming(1.5), example(), 0, 5);
  CHECK(work.tokens == std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(work.logit_rows == std::vector<index_t>{1, 6, 7, 8, 9});
  const auto& ranges = work.rows.toward(group::source).ranges;
  CHECK(ranges[6] == key_range{0, 2});
  CHECK(ranges[7] == key_range{0, 4});
  CHECK(ranges[8] == key_range{0, 4});
  CHECK(ranges[9] == key_range{0, 6});

  const forced_pass arrived = plan_forced(interleaved(), example(), 0, 5);
  CHECK(arrived.logit_rows == std::vector<index_t>{1, 6, 3, 8, 5});
  CHECK(arrived.rows.toward(group::target).ranges[4] == key_range{0, 4});
}

TEST_CASE("a part of the tokens needs only the rows before it") {
  const forced_pass work = plan_forced(group_streaming(), example(), 1, 3);
  CHECK(work.rows.size() == 8);
  CHECK(work.logit_rows == std::vector<index_t>{6, 7});
  CHECK(plan_forced(group_streaming(), example(), 2, 2).logit_rows.empty());
}

TEST_CASE("a plan that refreshes takes a pass for each run of tokens without a read") {
  const plan how = batch_streaming(reencode::all);
  using pieces = std::vector<std::pair<index_t, index_t>>;
  CHECK(forced_pieces(how, example().when) == pieces{{0, 2}, {2, 4}, {4, 5}});
  CHECK(forced_pieces(group_streaming(), example().when) == pieces{{0, 5}});
  const forced_pass work = plan_forced(how, example(), 2, 4);
  CHECK(work.tokens == std::vector<std::int32_t>{1, 2, 3, 4, 7, 8, 9});
  CHECK(work.logit_rows == std::vector<index_t>{5, 6});
  for (std::size_t i = 4; i < 7; ++i) {
    CHECK(work.rows.toward(group::source).ranges[i] == key_range{0, 4});
    CHECK(work.rows.toward(group::source).offsets[i] == 4);
  }
  CHECK_THROWS_AS(static_cast<void>(plan_forced(how, example(), 0, 3)), config_error);
}

TEST_CASE("arrivals that do not fit the tokens are refused") {
  finished_stream wrong = example();
  wrong.source = wrong.source.first(5);
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), wrong, 0, 1)), config_error);
  wrong = example();
  wrong.target = wrong.target.first(3);
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), wrong, 0, 1)), config_error);
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), example(), 0, 6)), config_error);
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), example(), 3, 2)), config_error);
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), example(), -1, 2)), config_error);
  const std::array<index_t, 1> unread{0};
  const finished_stream blind{source, std::span(target).first(1), arrivals(unread, 6)};
  CHECK_THROWS_AS(static_cast<void>(plan_forced(batch(), blind, 0, 1)), config_error);
}

TEST_CASE("logits come row by row, for all tokens and what would follow") {
  random_stream random(3);
  const auto network = tests::tiny_decoder(random);
  ops::eval context;
  for (const plan& how : {group_streaming(), interleaved(), batch_streaming(reencode::all)}) {
    const auto logits = teacher_forced_logits(*network, context, how, example());
    REQUIRE(logits.size() == 5 * 28);
    // The first token is predicted from the source read by then, whatever was written later.
    const finished_stream start{std::span(source).first(2), {}, arrivals({}, 2)};
    const auto first = teacher_forced_logits(*network, context, how, start);
    CHECK(std::equal(first.begin(), first.end(), logits.begin()));
  }
}

TEST_CASE("a window of a plan in which source sees target gives the bits of the whole") {
  random_stream random(5);
  const auto network = tests::tiny_decoder(random);
  ops::eval context;
  const auto vocabulary = static_cast<std::size_t>(network->config().vocab_size);
  const auto all = teacher_forced_logits(*network, context, interleaved(), example());
  for (index_t first = 0; first < 5; ++first) {
    for (index_t last = first + 1; last <= 5; ++last) {
      const forced_pass work = plan_forced(interleaved(), example(), first, last);
      auto cache = network->make_cache();
      const models::stream_rows streams[] = {{&cache, &work.rows, work.tokens, work.logit_rows}};
      const auto logits = network->forward(context, streams);
      for (index_t p = first; p < last; ++p) {
        const auto row = logits.row(p - first);
        CHECK(std::equal(row.begin(), row.end(), all.begin() + p * static_cast<index_t>(vocabulary)));
      }
    }
  }
}
