// SPDX-License-Identifier: Apache-2.0

#include <runnel/train/ctc_model.hpp>

#include <cmath>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/train/optimizer.hpp>

#include "support/tiny_speech.hpp"

namespace {

using namespace runnel;

std::vector<train::training_rows> batch_of(std::uint64_t seed, index_t utterances, index_t labels) {
  random_stream random(seed);
  std::vector<train::training_rows> out;
  for (index_t i = 0; i < utterances; ++i) {
    auto& one = out.emplace_back();
    one.audio = std::make_shared<const std::vector<float>>(tests::tiny_audio(random, 200 + random.below(80)));
    for (index_t k = 0; k < 1 + i % 3; ++k) one.labels.push_back(static_cast<std::int32_t>(random.below(labels)));
  }
  return out;
}

}  // namespace

TEST_CASE("ctc: gradients of encoder and head equal finite differences, for every form of the encoder") {
  random_stream random(2);
  for (const bool causal : {true, false}) {
    const auto model = tests::tiny_speech(3, {.causal = causal, .norm_first = causal});
    train::ctc_model<double> trained(*model.encoder, 4);
    const auto batch = batch_of(5, 3, 4);
    train::step_options how;
    how.scale = 0.3;
    static_cast<void>(trained.accumulate(batch, how));
    for (auto& parameter : trained.parameters()) {
      CAPTURE(parameter.name);
      for (int turn = 0; turn < 2; ++turn) {
        const auto at = static_cast<std::size_t>(random.below(parameter.values.size()));
        double& number = parameter.values.values()[at];
        const double before = number, h = 1e-5;
        const auto loss = [&](double step) {
          number = before + step;
          const double out = trained.evaluate(batch).sum * how.scale;
          number = before;
          return out;
        };
        const double numeric = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
        const double expected = parameter.gradient.values()[at];
        CHECK(std::fabs(numeric - expected) <= 1e-6 * std::max(1.0, std::fabs(expected)));
      }
    }
  }
}

TEST_CASE("ctc: an encoder learns to hear a few utterances, the same bits with any number of threads") {
  const auto model = tests::tiny_speech(3);
  const auto batch = batch_of(8, 4, 3);
  std::vector<double> losses;
  for (const int threads : {1, 2}) {
    train::ctc_model<float> trained(*model.encoder, 3, {threads, ops::compute_mode::f32, best_instruction_set}, 7);
    train::adamw optimizer(trained.parameters(), {});
    thread_team team(1);
    train::batch_loss last;
    for (int step = 0; step < 250; ++step) {
      last = trained.accumulate(batch, {.scale = 0.1});
      optimizer.step(0.01, 1, team);
    }
    CHECK(last.sum < 2);
    CHECK(last.labels == 7);
    CHECK(last.correct >= 5);
    losses.push_back(last.sum);
    const auto heard = trained.hear(*batch[1].audio);
    CHECK(static_cast<index_t>(heard.size()) <= 3);
  }
  CHECK(losses[0] == losses[1]);
}

TEST_CASE("ctc: what has no alignment counts for nothing, and labels that are no classes are refused") {
  const auto model = tests::tiny_speech(3);
  train::ctc_model<float> trained(*model.encoder, 3);
  auto batch = batch_of(8, 1, 3);
  batch[0].labels.assign(100, 1);
  const auto loss = trained.accumulate(batch, {});
  CHECK(loss.sum == 0);
  CHECK(loss.labels + loss.correct == 0);
  for (const auto& parameter : trained.parameters()) {
    for (const float number : parameter.gradient.values()) REQUIRE(number == 0);
  }
  batch[0].labels = {3};
  CHECK_THROWS_AS(static_cast<void>(trained.evaluate(batch)), config_error);
  batch[0].audio = nullptr;
  CHECK_THROWS_AS(static_cast<void>(trained.evaluate(batch)), config_error);
  CHECK_THROWS_AS(train::ctc_model<float>(*model.encoder, 0), config_error);
  CHECK(trained.first_non_finite(batch_of(8, 2, 3)).empty());
}
