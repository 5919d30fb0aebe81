// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <map>
#include <memory>
#include <stop_token>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/session_batch.hpp>

#include "support/streaming.hpp"
#include "support/tiny_language.hpp"

using namespace runnel;
using namespace runnel::stream;

namespace {

const language_model& model() {
  static const language_model made = tests::tiny_language(2);
  return made;
}

session_options wait(index_t k, plan how = group_streaming()) {
  session_options options;
  options.how = std::move(how);
  options.when = wait_k{k};
  options.max_tokens = 15;
  return options;
}

void fill(session& one) {
  for (const char* word : {"ab", "c", "def"}) one.push(word);
  one.finish();
}

using log_type = std::map<session*, std::vector<event>>;

void run(session_batch& together, log_type& log) {
  for (;;) {
    const auto step = together.step();
    REQUIRE(step.failures.empty());
    if (step.idle) return;
    for (const auto& [member, what] : step.events) log[member].push_back(what);
  }
}

}  // namespace

TEST_CASE("members write what they write alone, in fewer passes") {
  const auto alone1 = tests::run_at_once(model(), wait(1), {"ab", "c", "def"});
  const auto alone2 = tests::run_at_once(model(), wait(2, interleaved()), {"ab", "c", "def"});
  const auto alone3 = tests::run_at_once(model(), wait(1, batch_streaming(reencode::all)), {"ab", "c", "def"});
  session one(model(), wait(1)), two(model(), wait(2, interleaved()));
  session three(model(), wait(1, batch_streaming(reencode::all)));
  session_batch together(model().network);
  for (session* member : {&one, &two, &three}) {
    fill(*member);
    together.join(*member);
  }
  CHECK(together.size() == 3);
  log_type log;
  run(together, log);
  CHECK(tests::same_events(log[&one], alone1.events));
  CHECK(tests::same_events(log[&two], alone2.events));
  CHECK(tests::same_events(log[&three], alone3.events));
  CHECK((one.done() && two.done() && three.done()));
}

TEST_CASE("members join once, leave once, and have the batch's model") {
  session one(model(), wait(1));
  session_batch together(model().network);
  CHECK_THROWS_AS(together.leave(one), config_error);
  together.join(one);
  CHECK_THROWS_AS(together.join(one), config_error);
  together.leave(one);
  CHECK(together.size() == 0);
  session stranger(tests::tiny_language(3), wait(1));
  CHECK_THROWS_AS(together.join(stranger), config_error);
  CHECK_THROWS_AS(session_batch(nullptr), config_error);
}

TEST_CASE("an empty batch and one that waits for input are idle") {
  session_batch together(model().network);
  CHECK(together.step().idle);
  session one(model(), wait(2));
  together.join(one);
  CHECK_FALSE(together.step().idle);  // the prompt
  CHECK(together.step().idle);
  CHECK(one.needs_input());
  one.push("a");
  CHECK(together.step().events.size() == 1);
}

TEST_CASE("a stop request changes no member") {
  session one(model(), wait(1)), two(model(), wait(2));
  session_batch together(model().network);
  for (session* member : {&one, &two}) {
    fill(*member);
    together.join(*member);
  }
  log_type log;
  for (const auto& [member, what] : together.step().events) log[member].push_back(what);
  std::stop_source stop;
  stop.request_stop();
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(together.step(stop.get_token()), cancelled_error);
  CHECK(one.counters().passes == 0);
  run(together, log);
  CHECK(tests::same_events(log[&one], tests::run_at_once(model(), wait(1), {"ab", "c", "def"}).events));
  CHECK(tests::same_events(log[&two], tests::run_at_once(model(), wait(2), {"ab", "c", "def"}).events));
}

TEST_CASE("a member that fails does not hold up the others") {
  session_options narrow = wait(1, batch());
  narrow.context = 8;
  session one(model(), narrow), two(model(), wait(1));
  session_batch together(model().network);
  for (session* member : {&one, &two}) {
    fill(*member);
    together.join(*member);
  }
  std::vector<event> events;
  std::size_t failures = 0;
  for (;;) {
    const auto step = together.step();
    for (const auto& [member, what] : step.events) {
      if (member == &two) events.push_back(what);
    }
    for (const auto& [member, why] : step.failures) {
      ++failures;
      CHECK(member == &one);
      CHECK_THROWS_AS(std::rethrow_exception(why), limit_error);
    }
    if (step.idle) break;
  }
  CHECK(failures > 1);
  CHECK(tests::same_events(events, tests::run_at_once(model(), wait(1), {"ab", "c", "def"}).events));
}

TEST_CASE("a watcher that throws costs its session one more pass and nothing else") {
  int calls = 0;
  session_options options = wait(1);
  options.on_logits = [&](const prediction&) {
    if (++calls % 3 == 1) throw 1;
  };
  session one(model(), options), two(model(), wait(1));
  session_batch together(model().network);
  for (session* member : {&one, &two}) {
    fill(*member);
    together.join(*member);
  }
  log_type log;
  std::size_t failures = 0;
  for (;;) {
    const auto step = together.step();
    failures += step.failures.size();
    for (const auto& [member, what] : step.events) log[member].push_back(what);
    if (step.idle) break;
  }
  CHECK(failures > 2);
  const auto alone = tests::run_at_once(model(), wait(1), {"ab", "c", "def"});
  CHECK(tests::same_events(log[&one], alone.events));
  CHECK(tests::same_events(log[&two], alone.events));
}

TEST_CASE("a pass is completed once, and not after a rewind") {
  session one(model(), wait(1));
  fill(one);
  CHECK_THROWS_AS(one.complete({}), config_error);
  const auto first = one.poll();
  REQUIRE(first.has_value());
  CHECK_FALSE(one.poll().has_value());
  REQUIRE(one.pending() != nullptr);
  one.rewind(beginning);
  CHECK_THROWS_AS(one.complete(std::vector<float>(28)), config_error);
}
