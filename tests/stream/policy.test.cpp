// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include <doctest/doctest.h>

#include <runnel/stream/policy.hpp>

using namespace runnel;
using namespace runnel::stream;

TEST_CASE("wait-k reads k words, then one a written word") {
  policy rule = wait_k{3};
  policy_state state;
  for (state.words_read = 0; state.words_read < 3; ++state.words_read) CHECK(rule.decide(state) == action::read);
  CHECK(rule.decide(state) == action::write);
  state.words_written = 1;
  CHECK(rule.decide(state) == action::read);
  state.words_read = 4;
  CHECK(rule.decide(state) == action::write);
  state.words_written = 3;
  CHECK(rule.decide(state) == action::read);
  state.words_read = 5;
  CHECK(rule.decide(state) == action::read);
  CHECK_THROWS_AS(policy(wait_k{0}), config_error);
  CHECK_THROWS_AS(policy(wait_k{-1}), config_error);
}

TEST_CASE("read-all never writes") {
  policy rule = read_all{};
  policy_state state;
  state.words_read = 1000;
  CHECK(rule.decide(state) == action::read);
}

TEST_CASE("a policy of one's own is copied with its state") {
  policy rule([count = 0](const policy_state&) mutable { return ++count % 3 == 0 ? action::write : action::read; });
  CHECK(rule.decide({}) == action::read);
  policy copy = rule;
  CHECK(rule.decide({}) == action::read);
  CHECK(rule.decide({}) == action::write);
  CHECK(copy.decide({}) == action::read);
  CHECK(copy.decide({}) == action::write);
  CHECK(rule.name() == "custom");
  CHECK(policy([](const policy_state&) { return action::read; }, "mine").name() == "mine");
  CHECK_THROWS_AS(policy(std::function<action(const policy_state&)>()), config_error);
}

TEST_CASE("policies by name") {
  CHECK(parse_policy("wait-1").name() == "wait-1");
  CHECK(parse_policy("wait-12").name() == "wait-12");
  CHECK(parse_policy("read-all").name() == "read-all");
  for (const char* wrong :
       {"", "wait", "wait-", "wait-x", "wait-3 ", "wait-3.5", "wait-0", "wait--1", "wait-99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(static_cast<void>(parse_policy(wrong)), config_error);
  }
}
