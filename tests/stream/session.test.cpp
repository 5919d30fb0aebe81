// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/session.hpp>

#include "support/random_values.hpp"
#include "support/scripted.hpp"
#include "support/streaming.hpp"
#include "support/tiny_language.hpp"
#include "support/tiny_model.hpp"

using namespace runnel;
using namespace runnel::stream;
using tests::scripted;
using strings = std::vector<std::string>;
using ids = std::vector<index_t>;

namespace {

const language_model& model() {
  static const language_model made = tests::tiny_language(1);
  return made;
}

language_model model_with(text::chat_format format) {
  language_model made = model();
  made.format = std::move(format);
  return made;
}

session_options wait(index_t k, plan how = group_streaming()) {
  session_options options;
  options.how = std::move(how);
  options.when = wait_k{k};
  return options;
}

// Prompt "<|im_start|>ab": 3 rows; end "<|im_end|>\n": 2; header "<|im_start|>c\n": 3.
constexpr index_t prompt = 3, header = 3;

}  // namespace

TEST_CASE("wait-1 word for word: probes are dropped, source is read, the last row is fed again") {
  session one(model(), wait(1));
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  scripted run(one, {"e", "f", " g", " h", " a", " b", "c", " d", "<|im_end|>"});
  //                  word 0--  probe  word 1  probe  word 2  (source ended) word 3
  CHECK(run.take() == strings{"read 0 a 4", "token e", "token f", "word 0 ef 1", "read 1 b 5",  //
                              "token  h", "word 1 h 2", "read 2 c 6",                           //
                              "token  b", "token c", "word 2 bc 3", "read end 8",               //
                              "done end_of_sequence"});
  CHECK(one.words() == strings{"ef", "h", "bc"});
  CHECK(one.delays() == ids{1, 2, 3});
}

TEST_CASE("once the source was read to its end, no token is dropped") {
  session one(model(), wait(3));
  one.push("a");
  one.finish();
  scripted run(one, {"e", " f", " g", "<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a 4", "read end 6", "token e", "word 0 e 1+end", "token  f", "word 1 f 1+end",
                              "token  g", "word 2 g 1+end", "done end_of_sequence"});
  CHECK(one.counters().tokens_discarded == 0);
  CHECK(one.counters().passes == 4);
  CHECK(one.delays() == ids{2, 2, 2});
  CHECK(one.text() == "e f g");
  CHECK(one.done());
  CHECK_FALSE(one.next().has_value());
}

TEST_CASE("passes hold what is new and nothing else") {
  SUBCASE("group-streaming: new source and the last row again, in one pass") {
    session one(model(), wait(1));
    for (const char* word : {"a", "b"}) one.push(word);
    one.finish();
    scripted run(one, {"e", " f", " f", " g", " g", "<|im_end|>"});
    static_cast<void>(run.take());
    // source rows, target rows, source visible to each target row
    CHECK(run.passes == strings{"4s 3t [4 4 4]", "0s 1t [4]", "1s 1t [5]", "0s 1t [5]", "2s 1t [7]", "0s 1t [7]"});
    CHECK(one.counters() == row_counters{7, 6, 2, 0, 6, 3, 2});
  }
  SUBCASE("refreshing: every target row over all that is read") {
    session one(model(), wait(1, batch_streaming(reencode::all)));
    for (const char* word : {"a", "b"}) one.push(word);
    one.finish();
    scripted run(one, {"e", " f", " f", " g", " g", "<|im_end|>"});
    static_cast<void>(run.take());
    CHECK(run.passes ==
          strings{"4s 3t [4 4 4]", "0s 1t [4]", "1s 4t [5 5 5 5]", "0s 1t [5]", "2s 5t [7 7 7 7 7]", "0s 1t [7]"});
    CHECK(one.counters() == row_counters{7, 6, 0, 9, 6, 3, 2});
  }
  SUBCASE("interleaved: no row again, the new source predicts") {
    session one(model(), wait(1, interleaved()));
    for (const char* word : {"a", "b"}) one.push(word);
    one.finish();
    scripted run(one, {"e", " f", " f", " g", " g", "<|im_end|>"});
    static_cast<void>(run.take());
    CHECK(run.passes == strings{"4s 3t [4 4 4]", "0s 1t [4]", "1s 0t []", "0s 1t [5]", "2s 0t []", "0s 1t [7]"});
    CHECK(one.counters() == row_counters{7, 6, 0, 0, 6, 3, 2});
  }
  SUBCASE("batch: everything is read before the first token, whatever the policy says") {
    session one(model(), wait(1, batch()));
    for (const char* word : {"a", "b"}) one.push(word);
    one.finish();
    scripted run(one, {"e", " f", "<|im_end|>"});
    CHECK(run.take().front() == "read 0 a 4");
    CHECK(run.passes == strings{"7s 3t [7 7 7]", "0s 1t [7]", "0s 1t [7]"});
    CHECK(one.counters() == row_counters{7, 5, 0, 0, 3, 2, 0});
  }
}

TEST_CASE("source is computed while the policy waits, or not, as asked") {
  for (const bool early : {true, false}) {
    session_options options = wait(2);
    options.compute_while_waiting = early;
    session one(model(), options);
    scripted run(one, {"e", "<|im_end|>"});
    CHECK_FALSE(one.needs_input());
    CHECK(run.take().empty());
    CHECK(one.needs_input());
    one.push("a");
    CHECK_FALSE(one.needs_input());
    CHECK(run.take() == strings{"read 0 a 4"});
    CHECK(one.needs_input());
    one.push("b");
    CHECK(run.take() == strings{"read 1 b 5", "token e", "word 0 e 2"});
    CHECK(one.needs_input());
    CHECK(run.passes == (early ? strings{"3s 0t []", "1s 0t []", "1s 3t [5 5 5]", "0s 1t [5]"}
                               : strings{"5s 3t [5 5 5]", "0s 1t [5]"}));
    one.finish();
    run.script = {"<|im_end|>"};
    run.at = 0;
    CHECK(run.take() == strings{"read end 7", "done end_of_sequence"});
  }
}

TEST_CASE("an end-of-sequence token before the source's end means: read on") {
  session one(model(), wait(1));
  for (const char* word : {"a", "b"}) one.push(word);
  one.finish();
  scripted run(one, {"<|im_end|>", "<|im_end|>", "e", "<|im_end|>", "f", "<|im_end|>"});
  CHECK(run.take() ==
        strings{"read 0 a 4", "read 1 b 5", "read end 7", "token e", "word 0 e 2+end", "done end_of_sequence"});
  CHECK(one.counters().tokens_discarded == 2);

  session stopped(model(), [] {
    session_options options = wait(1);
    options.end_before_source = early_end::stop;
    return options;
  }());
  for (const char* word : {"a", "b"}) stopped.push(word);
  scripted stop_run(stopped, {"e", "<|im_end|>"});
  CHECK(stop_run.take() == strings{"read 0 a 4", "token e", "word 0 e 1", "done end_of_sequence"});
}

TEST_CASE("a word that goes on after a read keeps its number, and its delay moves") {
  session one(model(), wait(1));
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  scripted run(one, {"e", " f", "g", " h", " h", "<|im_end|>", "<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a 4", "token e", "word 0 e 1", "read 1 b 5", "token g", "word 0 +g 2",
                              "read 2 c 6", "token  h", "word 1 h 3", "read end 8", "done end_of_sequence"});
  CHECK(one.words() == strings{"eg", "h"});
  CHECK(one.delays() == ids{2, 3});
}

TEST_CASE("white space inside a token completes words without a probe") {
  session one(model(), wait(1));
  for (const char* word : {"a", "b"}) one.push(word);
  one.finish();
  scripted run(one, {"e", "d.\n", "f", "<|im_end|>", "<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a 4", "token e", "token d.\n", "word 0 ed. 1", "read 1 b 5", "token f",
                              "word 1 f 2", "read end 7", "done end_of_sequence"});
  CHECK(one.counters().tokens_discarded == 1);
  // The row of ".\n" was never computed before the read: it is fed once, with the new source.
  CHECK(run.passes[2] == "1s 1t [5]");
  CHECK(one.counters().refed_rows == 1);
}

TEST_CASE("a word without white space is cut") {
  session_options options = wait(1);
  options.max_word_tokens = 2;
  session one(model(), options);
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  scripted run(one, {"e", "f", "g", "h", " ", " ", " ", "<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a 4", "token e", "token f", "word 0 ef 1", "read 1 b 5", "token g", "token h",
                              "word 0 +gh 2", "read 2 c 6", "token  ", "token  ", "word 1 + 3", "read end 8", "token  ",
                              "done end_of_sequence"});
  CHECK(one.words() == strings{"efgh"});
  CHECK(one.delays() == ids{2});
}

TEST_CASE("characters that tokens cut in two appear whole, and a rest is replaced") {
  session_options options = wait(1);
  options.max_tokens = 4;
  session one(model(), options);
  one.push("a");
  one.finish();
  scripted run(one, {"\xC3", "\xA9", "e", "\xC3"});
  CHECK(run.take() == strings{"read 0 a 4", "token ", "token \xC3\xA9", "token e", "token ",
                              "word 0 \xC3\xA9"
                              "e\xEF\xBF\xBD 1",
                              "done max_tokens"});
  CHECK(one.text() ==
        "\xC3\xA9"
        "e\xEF\xBF\xBD");
}

TEST_CASE("limits end a session") {
  session_options options = wait(1);
  options.max_words = 2;
  session words(model(), options);
  words.push("a");
  words.push("b");
  scripted run(words, {"e", " f", " f", " g"});
  CHECK(run.take() ==
        strings{"read 0 a 4", "token e", "word 0 e 1", "read 1 b 5", "token  f", "word 1 f 2", "done max_words"});
  CHECK(words.text() == "e f");
}

TEST_CASE("punctuation reads twice when asked to replay the published decoder") {
  session_options options = wait(1);
  options.punctuation_reads = true;
  session one(model(), options);
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  scripted run(one, {"e", ",", " f", " f", "<|im_end|>", "<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a 4", "token e", "token ,", "word 0 e, 1", "read 1 b 5", "word 1 + 2",
                              "read 2 c 6", "token  f", "word 1 f 3", "read end 8", "done end_of_sequence"});
  session plain(model(), wait(1));
  for (const char* word : {"a", "b", "c"}) plain.push(word);
  plain.finish();
  scripted plain_run(plain, {"e", ",", " f", " f", "<|im_end|>", "<|im_end|>"});
  CHECK(plain_run.take()[3] == "word 0 e, 1");
}

TEST_CASE("nothing to read, nothing before the answer") {
  const auto answer = [](const plan& how) {  // with a probe, where one is dropped
    return how.order == event_order::by_policy ? strings{"e", " f", " f"} : strings{"e", " f"};
  };
  SUBCASE("an empty source: the end is read, and the model writes") {
    session one(model(), wait(2));
    one.finish();
    scripted run(one, {"e", "<|im_end|>"});
    CHECK(run.take() == strings{"read end 5", "token e", "word 0 e 0+end", "done end_of_sequence"});
  }
  SUBCASE("no header: the last source row predicts the first token") {
    for (const plan& how : {group_streaming(), interleaved(), batch()}) {
      session one(model_with({"none", "{instruction}ab", "\n", "", "", " "}), wait(1, how));
      one.push("c");
      one.finish();
      scripted run(one, answer(how));
      static_cast<void>(run.take());
      CHECK(one.text() == "e f");
      CHECK(run.passes.front().substr(1) == "s 0t []");
    }
  }
  SUBCASE("no end markup: reading the end adds no row") {
    for (const plan& how : tests::all_plans(0.5)) {
      session one(model_with({"none", "{instruction}ab", "", "", "", " "}), wait(1, how));
      one.push("c");
      scripted run(one, answer(how));
      static_cast<void>(run.take());
      one.finish();
      static_cast<void>(run.take());
      CHECK(one.text() == "e f");
    }
  }
  SUBCASE("nothing at all is an error") {
    session one(model_with({"void", "{instruction}", "", "", "", " "}), wait(1));
    one.finish();
    CHECK(one.next().has_value());
    CHECK_THROWS_AS(one.next(), config_error);
    CHECK_FALSE(one.done());
  }
}

TEST_CASE("source text is text") {
  session one(model(), wait(1));
  one.push("<|im_end|>");
  one.push("<|im_start|>e");
  one.finish();
  session_options options = wait(1);
  options.instruction = "<|im_end|>";
  session told(model(), options);
  const auto is_markup = [](std::int32_t id) { return id < 2; };
  scripted run(one, {"e", " f", " f", "<|im_end|>"});
  static_cast<void>(run.take());
  const auto read = one.source_tokens();
  CHECK(std::count_if(read.begin(), read.end(), is_markup) == 2);  // the prompt's and the end's
  const auto asked = told.source_tokens();
  CHECK(std::count_if(asked.begin(), asked.end(), is_markup) == 1);
}

TEST_CASE("words as pushed, as tokens, empty, with another separator") {
  session one(model(), wait(3));
  one.push("");
  one.push("a b");
  const auto& vocabulary = *model().tokenizer;
  const std::vector<std::int32_t> given{tests::tiny_id(vocabulary, " c"), tests::tiny_id(vocabulary, "d")};
  one.push_tokens(given);
  one.push_tokens({});
  one.push("e");
  one.finish();
  one.finish();
  CHECK_THROWS_AS(one.push("f"), config_error);
  CHECK_THROWS_AS(one.push(""), config_error);
  CHECK_THROWS_AS(one.push_tokens(given), config_error);
  scripted run(one, {"<|im_end|>"});
  CHECK(run.take() == strings{"read 0 a b 5", "read 1  cd 7", "read 2 e 8", "read end 10", "done end_of_sequence"});
  CHECK(model().tokenizer->decode(one.source_tokens().subspan(3, 5)) == "a b cd e");

  session bad(model(), wait(1));
  CHECK_THROWS_AS(bad.push_tokens(std::vector<std::int32_t>{3, -1}), config_error);
  CHECK_THROWS_AS(bad.push_tokens(std::vector<std::int32_t>{27}), config_error);
  CHECK_FALSE(bad.next().has_value());

  session_options joined = wait(2);
  joined.word_separator = "";
  session characters(model(), joined);
  characters.push("a");
  characters.push("b");
  static_cast<void>(characters.next());
  static_cast<void>(characters.next());
  CHECK(model().tokenizer->decode(characters.source_tokens().subspan(3)) == "ab");
}

TEST_CASE("the context is a limit, and the session outlives it") {
  session_options options = wait(1, batch());
  options.context = 12;
  session one(model(), options);
  for (const char* word : {"a", "b"}) one.push(word);
  one.finish();
  std::vector<event> events;
  try {
    while (auto happened = one.next()) events.push_back(*happened);
    FAIL("the context was passed");
  } catch (const limit_error& failure) {
    CHECK(std::string(failure.what()).find("position 12") != std::string::npos);
    CHECK(std::string(failure.what()).find("12") != std::string::npos);
  }
  const std::string text = one.text();
  CHECK_THROWS_AS(one.next(), limit_error);
  CHECK(one.text() == text);
  CHECK(one.when().read_now() == 7);
  one.rewind(events.front().id);
  CHECK(one.next()->what == events[1].what);
}

TEST_CASE("a stop request leaves the session whole") {
  session one(model(), wait(1));
  session twin(model(), wait(1));
  for (auto* s : {&one, &twin}) {
    for (const char* word : {"a", "b", "c"}) s->push(word);
    s->finish();
  }
  std::stop_source stop;
  stop.request_stop();
  for (int i = 0; i < 40; ++i) {
    try {
      while (auto happened = one.next(stop.get_token())) CHECK(happened->what == twin.next()->what);
    } catch (const cancelled_error&) {
    }
    const auto a = one.next(), b = twin.next();
    CHECK(a.has_value() == b.has_value());
    if (!a || !b) break;
    CHECK(a->what == b->what);
  }
}

TEST_CASE("a step that was stopped decided nothing") {
  session_options options = wait(1);
  options.when = policy([](const policy_state& state) {
    return state.words_waiting > 0 || state.words_read == 0 ? action::read : action::write;
  });
  options.max_tokens = 3;
  session one(model(), options);
  one.push("a");
  REQUIRE(one.next()->get_if<read_event>() != nullptr);
  std::stop_source stop;
  stop.request_stop();
  CHECK_THROWS_AS(one.next(stop.get_token()), cancelled_error);
  CHECK(one.when().written() == 0);
  one.push("b");
  CHECK(one.next()->get_if<read_event>() != nullptr);
}

TEST_CASE("tokens that are kept use one random number each, dropped ones none") {
  session_options options = wait(1);
  options.sampling = {.temperature = 1.3, .seed = 11};
  options.max_tokens = 40;
  index_t dropped = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    options.sampling.seed = seed;
    tests::logit_log log;
    session one(model(), tests::watched(options, log));
    for (const char* word : {"a", "b", "c", "d", "e", "f"}) one.push(word);
    one.finish();
    while (one.next()) {
    }
    dropped += one.counters().tokens_discarded;
    random_stream random(seed);
    sampler choose(options.sampling);
    for (index_t i = 0; i < static_cast<index_t>(one.tokens().size()); ++i) {
      const auto logits = std::span<const float>(log.at(header + i)).first(model().vocabulary());
      CHECK(choose.choose(logits, random) == one.tokens()[static_cast<std::size_t>(i)]);
    }
  }
  CHECK(dropped > 5);
}

TEST_CASE("an exception from a watcher or a policy changes nothing") {
  int calls = 0;
  session_options options = wait(1);
  options.max_tokens = 12;
  const auto plain = tests::run_at_once(model(), options, {"a", "b"});
  options.on_logits = [&](const prediction&) {
    if (++calls % 2 == 1) throw std::runtime_error("watcher");
  };
  int asked = 0;
  options.when = policy([&asked, rule = wait_k{1}](const policy_state& state) {
    if (++asked % 2 == 1) throw std::runtime_error("policy");
    return rule(state);
  });
  session one(model(), options);
  for (const char* word : {"a", "b"}) one.push(word);
  one.finish();
  std::vector<event> events;
  int failures = 0;
  while (!one.done()) {
    try {
      if (auto happened = one.next()) events.push_back(*happened);
    } catch (const std::runtime_error&) {
      ++failures;
    }
  }
  CHECK(failures > 3);
  CHECK(tests::same_events(events, plain.events));
}

TEST_CASE("rewinding") {
  session one(model(), wait(1));
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  scripted run(one, {"e", "f", " g", " h", " a"});
  std::vector<event> events;
  for (int i = 0; i < 6; ++i) events.push_back(*run.next());
  // read 0, token e, token f, word 0, read 1, token " h"
  REQUIRE(events[5].get_if<token_event>() != nullptr);

  const event back = one.rewind(events[1].id);
  const auto* what = back.get_if<retracted_event>();
  REQUIRE(what != nullptr);
  CHECK(*what == retracted_event{events[1].id, 1, 2, 0, 1, 1});
  CHECK(one.text() == "e");
  CHECK(one.words().empty());
  CHECK(one.when().read_now() == prompt + 1);
  CHECK(one.when().written() == header + 1);
  CHECK(one.last_event() == back.id);

  CHECK_THROWS_AS(one.rewind(events[2].id), config_error);  // was taken back
  CHECK_THROWS_AS(one.rewind(1000), config_error);
  CHECK_THROWS_AS(one.rewind(-1), config_error);
  CHECK(one.text() == "e");
  CHECK_NOTHROW(one.rewind(back.id));  // the retraction is an event too

  run.script = {"g", " h", " h"};
  run.at = 0;
  CHECK(run.next()->id > back.id);
  CHECK(one.text() == "eg");

  const event all_back = one.rewind(beginning);
  CHECK(all_back.get_if<retracted_event>()->num_tokens == 2);
  CHECK(all_back.get_if<retracted_event>()->segments_unread == 1);
  CHECK(one.text().empty());
  CHECK(one.when().read_now() == prompt);
  CHECK_THROWS_AS(one.push("d"), config_error);  // finish stays called
}

TEST_CASE("a finished session can be rewound and go on") {
  session_options options = wait(2);
  options.max_tokens = 10;
  session one(model(), options);
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  std::vector<event> events;
  while (auto happened = one.next()) events.push_back(*happened);
  REQUIRE(one.done());
  one.rewind(events[3].id);
  CHECK_FALSE(one.done());
  for (std::size_t i = 4; i < events.size(); ++i) CHECK(one.next()->what == events[i].what);
  CHECK(one.done());
}

TEST_CASE("steps keep to their budgets") {
  session_options options = wait(1);
  options.max_tokens = 20;
  const auto plain = tests::run_at_once(model(), options, {"a", "b", "c"});
  SUBCASE("tokens") {
    session one(model(), options);
    for (const char* word : {"a", "b", "c"}) one.push(word);
    one.finish();
    std::vector<event> events;
    while (!one.done()) {
      const index_t before = one.counters().tokens_kept;
      for (auto& happened : one.step({.max_tokens = 2})) events.push_back(happened);
      CHECK(one.counters().tokens_kept - before <= 2);
    }
    CHECK(tests::same_events(events, plain.events));
  }
  SUBCASE("rows and passes") {
    session one(model(), options);
    for (const char* word : {"a", "b", "c"}) one.push(word);
    one.finish();
    std::vector<event> events;
    const auto rows = [&] {
      const auto& counted = one.counters();
      return counted.source_rows + counted.target_rows + counted.refed_rows + counted.refreshed_rows;
    };
    while (!one.done()) {
      const index_t rows_before = rows(), passes_before = one.counters().passes;
      for (auto& happened : one.step({.max_rows = 2, .max_passes = 1})) events.push_back(happened);
      CHECK(rows() - rows_before <= 2);
      CHECK(one.counters().passes - passes_before <= 1);
    }
    CHECK(tests::same_events(events, plain.events));
  }
  SUBCASE("nothing") {
    session one(model(), options);
    one.push("a");
    CHECK(one.step({.max_tokens = 0}).empty());
    CHECK(one.step({.max_passes = 0}).size() == 1);  // the read needs no pass
    CHECK(one.counters().passes == 0);
  }
}

TEST_CASE("a step that is stopped in the middle returns what it did") {
  session_options options = wait(1);
  options.max_tokens = 6;
  const auto plain = tests::run_at_once(model(), options, {"a", "b", "c"});
  std::stop_source stop;
  int calls = 0;
  options.on_logits = [&](const prediction&) {
    if (++calls == 3) stop.request_stop();
  };
  session one(model(), options);
  for (const char* word : {"a", "b", "c"}) one.push(word);
  one.finish();
  std::vector<event> events = one.step({}, stop.get_token());
  CHECK_FALSE(one.done());
  CHECK(events.size() >= 3);
  CHECK_THROWS_AS(one.step({}, stop.get_token()), cancelled_error);
  for (auto& happened : one.step({})) events.push_back(happened);
  CHECK(tests::same_events(events, plain.events));
}

TEST_CASE("options that make no sense are refused") {
  const auto refused = [](auto change) {
    session_options options = wait(1);
    change(options);
    CHECK_THROWS_AS(session(model(), options), config_error);
  };
  refused([](session_options& o) { o.max_tokens = 0; });
  refused([](session_options& o) { o.max_words = -1; });
  refused([](session_options& o) { o.max_word_tokens = 0; });
  refused([](session_options& o) { o.context = -1; });
  refused([](session_options& o) { o.sampling.temperature = -1; });
  refused([](session_options& o) { o.how = group_streaming(-1); });
  refused([](session_options& o) { o.how = group_streaming(1e9); });
  refused([](session_options& o) {
    o.context = 100;
    o.how = group_streaming(100);
  });
  refused([](session_options& o) { o.how.predicts = predicting_row::latest_arrival; });
  CHECK_THROWS_AS(session(language_model{}, wait(1)), config_error);
  language_model small = model();
  random_stream random(1);
  small.network = tests::tiny_decoder(random, {.vocab_size = 20});
  CHECK_THROWS_AS(session(small, wait(1)), config_error);
}

TEST_CASE("a session can be moved") {
  session_options options = wait(1);
  options.max_tokens = 10;
  const auto plain = tests::run_at_once(model(), options, {"a", "b"});
  session one(model(), options);
  one.push("a");
  one.push("b");
  std::vector<event> events{*one.next(), *one.next()};
  session other = std::move(one);
  other.finish();
  while (auto happened = other.next()) events.push_back(*happened);
  CHECK(tests::same_events(events, plain.events));
}

TEST_CASE("thousands of words can wait") {
  session one(model(), wait(1));
  for (int i = 0; i < 5000; ++i) one.push("a");
  one.finish();
  REQUIRE(one.next().has_value());
}

TEST_CASE("a policy that throws leaves the session where it was, the policy's own state included") {
  bool broken = true;
  int seen = 0;
  session_options options = wait(1);
  options.when = policy([&broken, &seen, calls = 0](const policy_state&) mutable {
    ++calls;
    if (broken) throw std::runtime_error("no");
    seen = calls;
    return action::read;
  });
  session one(model(), options);
  one.push("a");
  CHECK_THROWS_AS(static_cast<void>(one.poll()), std::runtime_error);
  CHECK_THROWS_AS(static_cast<void>(one.poll()), std::runtime_error);
  broken = false;
  REQUIRE(one.poll().has_value());
  CHECK(seen == 1);
}

TEST_CASE("adapters are swapped at run time: rewound to the beginning, a session is one that began with them") {
  const auto& network = *model().network;
  random_stream random(7);
  auto change = std::make_shared<nn::adapter<nn::inference_parameters>>();
  change->layers.resize(network.weights().layers.size());
  const auto pack = [&](index_t rows, index_t columns) {
    const auto values = tests::normals<float>(random, rows * columns);
    return ops::prepared_matrix::prepare(
        {quant::weight_format::f32, rows, columns, std::as_bytes(std::span(values)), {}});
  };
  const auto& query = network.weights().layers[0].attention.query.weight;
  auto& adapted = change->layers[0][0];
  adapted.down = pack(2, query.inputs());
  adapted.up = pack(query.outputs(), 2);

  auto plain = wait(1);
  plain.max_tokens = 12;
  auto with_adapter = plain;
  with_adapter.adapters = {{change, 0.5f}};
  const std::vector<std::string> words{"a", "b", "c"};
  const auto without = tests::run_at_once(model(), plain, words),
             with = tests::run_at_once(model(), with_adapter, words);
  REQUIRE(without.logits != with.logits);

  tests::logit_log seen;
  session one(model(), tests::watched(plain, seen));
  for (const auto& word : words) one.push(word);
  one.finish();
  for (int i = 0; i < 4; ++i) CHECK(one.next());
  one.set_adapters({{change, 0.5f}});
  while (one.next()) {
  }
  CHECK(seen != without.logits);  // from there on
  for (const bool adapts : {true, false}) {
    one.set_adapters(adapts ? std::vector<adapter_use>{{change, 0.5f}} : std::vector<adapter_use>{});
    one.rewind(beginning);
    seen.clear();
    while (one.next()) {
    }
    CHECK(seen == (adapts ? with.logits : without.logits));
  }
  CHECK_THROWS_AS(one.set_adapters({{nullptr, 1.0f}}), config_error);
  CHECK_THROWS_AS(one.set_adapters({{change, std::numeric_limits<float>::infinity()}}), config_error);
  CHECK_THROWS_AS(one.set_adapters({{std::make_shared<nn::adapter<nn::inference_parameters>>(), 1.0f}}), config_error);
}
