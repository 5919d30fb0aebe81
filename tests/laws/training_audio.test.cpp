// SPDX-License-Identifier: Apache-2.0
//
// Models that hear: gradients through projector, encoder and front end, and law 8 from samples to logits.

#include <runnel/train/model.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/teacher_forcing.hpp>
#include <runnel/transcribe/audio_session.hpp>

#include "support/gradients.hpp"
#include "support/streaming.hpp"
#include "support/tiny_speech.hpp"

namespace {

using namespace runnel;

/// A model, audio, and what a session over it read and wrote under a plan.
struct heard {
  transcribe::speech_model model;
  std::shared_ptr<const std::vector<float>> audio;
  std::vector<std::int32_t> source, target;
  arrivals when;
  std::vector<float> vectors;
  index_t num_vectors = 0;

  heard(std::uint64_t seed, const tests::tiny_speech_options& kind, const stream::plan& how)
      : model(tests::tiny_speech(seed, kind)) {
    random_stream random(seed);
    audio = std::make_shared<const std::vector<float>>(tests::tiny_audio(random, 150 + random.below(40)));
    stream::session_options options;
    options.how = how;
    options.when = stream::wait_k{1};
    options.max_tokens = 5;
    options.compute = {1, ops::compute_mode::f32, best_instruction_set};
    transcribe::audio_session one(model, options);
    one.push(*audio);
    one.finish();
    while (one.next()) {
    }
    const auto& session = one.session();
    source.assign(session.source_tokens().begin(), session.source_tokens().end());
    target.assign(session.target_tokens().begin(), session.target_tokens().end());
    when = session.when();
    num_vectors = session.source_vectors().size(0);
    vectors.assign(session.source_vectors().data(), session.source_vectors().data() + session.source_vectors().size());
  }

  [[nodiscard]] stream::finished_stream stream() const {
    return {source, target, when, {vectors.data(), {num_vectors, model.projector->width()}}};
  }

  [[nodiscard]] std::vector<train::training_rows> rows(const stream::plan& how) const {
    std::vector<train::training_rows> out;
    auto labels = target;
    labels.push_back(0);
    const index_t window = model.language.network->config().sliding_window;
    for (const auto& piece : stream::forced_pieces(how, when)) {
      auto pass = stream::plan_forced(how, stream(), piece.first, piece.second, window);
      auto& to = out.emplace_back();
      to.rows = std::move(pass.rows);
      to.tokens = std::move(pass.tokens);
      to.logit_rows = std::move(pass.logit_rows);
      to.labels.assign(labels.begin() + piece.first, labels.begin() + piece.second);
      to.audio = audio;
    }
    return out;
  }
};

}  // namespace

TEST_CASE("law 8: samples to logits, training computes what a session computes, under every plan") {
  for (const bool any_family : {false, true}) {
    for (const stream::plan& how : tests::all_plans(2)) {
      CAPTURE(name_of(how));
      for (const index_t stack : {index_t{1}, index_t{2}}) {
        tests::tiny_speech_options kind;
        kind.stack = stack;
        kind.any_family = any_family;
        kind.norm_first = stack == 1;
        kind.right_pad = stack == 2 ? 30 : 0;
        const heard now(static_cast<std::uint64_t>(stack), kind, how);
        train::model<float> model(*now.model.language.network, {}, std::nullopt,
                                  {now.model.encoder.get(), now.model.projector.get()});
        const auto trained = model.logits(now.rows(how));
        ops::eval context;
        const auto forced = stream::teacher_forced_logits(*now.model.language.network, context, how, now.stream());
        REQUIRE(trained.size() == forced.size());
        float most = 0, away = 0;
        for (std::size_t i = 0; i < forced.size(); ++i) {
          most = std::max(most, std::fabs(forced[i]));
          away = std::max(away, std::fabs(forced[i] - trained[i]));
        }
        CHECK(away <= 1e-5f * most);
      }
    }
  }
}

TEST_CASE("gradients of models that hear equal finite differences, from the front end to the head") {
  random_stream random(3);
  const auto plans = tests::all_plans(1.5);
  for (int turn = 0; turn < 6; ++turn) {
    CAPTURE(turn);
    const auto& how = plans[static_cast<std::size_t>(2 * turn) % plans.size()];
    tests::tiny_speech_options kind;
    kind.stack = 1 + turn % 2;
    kind.norm_first = turn % 3 != 1;
    kind.any_family = turn > 3;
    kind.causal = turn != 2;
    const heard one(static_cast<std::uint64_t>(turn), kind, how);
    train::model<double> model(*one.model.language.network, {1, ops::compute_mode::f32, best_instruction_set},
                               std::nullopt, {one.model.encoder.get(), one.model.projector.get()});
    auto batch = one.rows(how);
    const heard other(static_cast<std::uint64_t>(turn), kind, how);
    for (auto& rows : other.rows(how)) batch.push_back(std::move(rows));
    train::step_options step;
    step.scale = 0.1;
    step.checkpointing = turn % 2 == 1;
    step.dropout = turn == 4 ? 0.2 : 0;
    tests::check_gradients(model, batch, step, random);
  }
}

TEST_CASE("a frozen encoder is a constant: the same loss, no gradient, nothing dropped in it") {
  const auto how = stream::group_streaming();
  const heard one(5, {}, how);
  const auto batch = one.rows(how);
  const train::audio_modules parts{one.model.encoder.get(), one.model.projector.get()};
  train::model<float> all(*one.model.language.network, {}, std::nullopt, parts);
  train::model<float> some(*one.model.language.network, {}, std::nullopt, parts);
  for (auto& parameter : some.parameters()) {
    if (parameter.name.starts_with("encoder.")) parameter.train(false);
  }
  const auto expected = all.accumulate(batch, {});
  const auto found = some.accumulate(batch, {});
  CHECK(expected.sum == found.sum);
  auto other = all.parameters().begin();
  bool projects = false;
  for (const auto& parameter : some.parameters()) {
    if (parameter.trainable()) {
      CHECK(std::equal(parameter.gradient.values().begin(), parameter.gradient.values().end(),
                       other->gradient.values().begin()));
      projects = projects || (parameter.name == "projector.linear_1.weight" && parameter.gradient.values()[0] != 0);
    }
    ++other;
  }
  CHECK(projects);
}

TEST_CASE("adapters beside a decoder that hears: everything else is frozen when it is said so") {
  const auto how = stream::group_streaming();
  const heard one(6, {}, how);
  train::model<float> model(*one.model.language.network, {}, train::lora_options{.rank = 2},
                            {one.model.encoder.get(), one.model.projector.get()});
  for (auto& parameter : model.parameters()) {
    if (parameter.name.starts_with("encoder.") || parameter.name.starts_with("projector.")) parameter.train(false);
  }
  CHECK(model.accumulate(one.rows(how), {}).labels == static_cast<index_t>(one.target.size()) + 1);
  const auto adapter = model.to_adapter();
  CHECK(adapter.layers.size() == one.model.language.network->weights().layers.size());
}

TEST_CASE("a layer that overflows is named: of the encoder, or of the decoder behind it") {
  const auto how = stream::group_streaming();
  const heard one(8, {}, how);
  const auto batch = one.rows(how);
  const train::audio_modules parts{one.model.encoder.get(), one.model.projector.get()};
  for (const std::string name : {"encoder.encoder.layers.1.", "model.layers.0."}) {
    train::model<float> model(*one.model.language.network, {}, std::nullopt, parts);
    CHECK(model.first_non_finite(batch).empty());
    for (auto& parameter : model.parameters()) {
      if (!parameter.name.starts_with(name)) continue;
      parameter.values.values()[0] = std::numeric_limits<float>::infinity();
      break;
    }
    CHECK(model.first_non_finite(batch) + "." == name);
  }
}

TEST_CASE("rows that name audio which is not there are refused") {
  const auto how = stream::group_streaming();
  const heard one(7, {}, how);
  const train::audio_modules parts{one.model.encoder.get(), one.model.projector.get()};
  train::model<float> hears(*one.model.language.network, {}, std::nullopt, parts);
  train::model<float> reads(*one.model.language.network);
  auto batch = one.rows(how);
  CHECK_THROWS_WITH_AS(static_cast<void>(reads.evaluate(batch)), doctest::Contains("no encoder"), config_error);
  batch.front().tokens[3] = -1000;
  CHECK_THROWS_WITH_AS(static_cast<void>(hears.evaluate(batch)), doctest::Contains("row 999"), config_error);
  // Audio without a sample has no rows, and that is no fault where none are named.
  batch = one.rows(how);
  const auto silent = std::make_shared<const std::vector<float>>();
  train::training_rows none = batch.front();
  none.audio = silent;
  none.tokens.assign(none.tokens.size(), 1);
  CHECK(hears.evaluate(std::vector{none}).labels == static_cast<index_t>(none.labels.size()));
  batch.front().audio = std::make_shared<const std::vector<float>>(0);
  CHECK_THROWS_AS(static_cast<void>(hears.evaluate(batch)), config_error);
  batch.front().audio = nullptr;
  CHECK_THROWS_AS(static_cast<void>(hears.evaluate(batch)), config_error);
}
