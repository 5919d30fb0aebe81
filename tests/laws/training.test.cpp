// SPDX-License-Identifier: Apache-2.0
//
// Gradients of whole decoders against finite differences in double, and law 8: training computes what inference does.

#include <runnel/train/model.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/models/hugging_face_model.hpp>
#include <runnel/stream/teacher_forcing.hpp>
#include <runnel/train/plan_rows.hpp>

#include "support/gradients.hpp"
#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"
#include "support/streaming.hpp"
#include "support/tiny_model.hpp"

namespace {

using namespace runnel;

/// A random stream of tokens, and when they were read and written.
struct random_sentence {
  random_sentence(random_stream& random, index_t vocabulary) {
    const index_t target_rows = 1 + random.below(7);
    std::vector<index_t> read_at;
    index_t read = 1 + random.below(6);
    for (index_t p = 0; p < target_rows; ++p) {
      if (random.below(2) == 0) read += random.below(4);
      read_at.push_back(read);
    }
    read += random.below(3);
    when = arrivals(read_at, read);
    const auto draw = [&](index_t count) {
      std::vector<std::int32_t> out;
      for (index_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(random.below(vocabulary)));
      return out;
    };
    source = draw(read);
    target = draw(target_rows);
  }

  [[nodiscard]] stream::finished_stream stream() const { return {source, target, when}; }

  std::vector<std::int32_t> source;
  std::vector<std::int32_t> target;
  arrivals when;
};

/// All passes of a sentence under a plan, each target token (and one that follows) a label.
std::vector<train::training_rows> rows_of(const random_sentence& from, const stream::plan& how, index_t window) {
  std::vector<train::training_rows> out;
  auto labels = from.target;
  labels.push_back(0);
  for (const auto& piece : stream::forced_pieces(how, from.when)) {
    auto pass = stream::plan_forced(how, from.stream(), piece.first, piece.second, window);
    train::training_rows& rows = out.emplace_back();
    rows.rows = std::move(pass.rows);
    rows.tokens = std::move(pass.tokens);
    rows.logit_rows = std::move(pass.logit_rows);
    rows.labels.assign(labels.begin() + piece.first, labels.begin() + piece.second);
  }
  return out;
}

/// Compares the gradients of all parameters at once, along one direction.
void check_along_all(train::model<double>& model, const std::vector<train::training_rows>& batch,
                     const train::step_options& options, random_stream& random) {
  tests::clear_gradients(model);
  model.accumulate(batch, options);
  double expected = 0;
  std::vector<std::vector<double>> directions, starts;
  for (const auto& parameter : model.parameters()) {
    directions.push_back(tests::normals<double>(random, parameter.values.size(), 0.1));
    starts.emplace_back(parameter.values.values().begin(), parameter.values.values().end());
    for (std::size_t i = 0; i < starts.back().size(); ++i) {
      expected += directions.back()[i] * parameter.gradient.values()[i];
    }
  }
  const auto at = [&](double step) {
    std::size_t index = 0;
    for (auto& parameter : model.parameters()) {
      for (std::size_t i = 0; i < starts[index].size(); ++i) {
        parameter.values.values()[i] = starts[index][i] + step * directions[index][i];
      }
      ++index;
    }
    return model.accumulate(batch, options).sum * options.scale;
  };
  const double h = 2e-5;
  const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  at(0);
  CAPTURE(numeric);
  CAPTURE(expected);
  CHECK(std::abs(numeric - expected) <= 1e-6 * std::max(1.0, std::abs(expected)));
}

}  // namespace

TEST_CASE("gradients of random decoders of any family, under every plan, equal finite differences") {
  random_stream random(4);
  for (int turn = 0; turn < 12; ++turn) {
    tests::tiny_model_options options;
    options.tied = turn % 3 == 0;
    options.bias = turn % 4 == 1;
    options.any_family = turn > 2;
    const auto network = tests::tiny_decoder(random, options);
    train::model<double> model(*network, {1, ops::compute_mode::f32, best_instruction_set});
    const random_sentence one(random, network->config().vocab_size), other(random, network->config().vocab_size);
    const auto plans = tests::all_plans(random.below(2) == 0 ? 0 : 2.5);
    const auto& how = plans[static_cast<std::size_t>(turn) % plans.size()];
    CAPTURE(turn);
    CAPTURE(name_of(how));
    auto batch = rows_of(one, how, network->config().sliding_window);
    for (auto& rows : rows_of(other, how, network->config().sliding_window)) batch.push_back(std::move(rows));
    train::step_options step;
    step.scale = 0.1;
    step.label_smoothing = turn % 2 == 0 ? 0.1 : 0;
    step.dropout = turn % 5 == 0 ? 0.3 : 0;
    step.checkpointing = turn % 4 == 2;
    step.seed = static_cast<std::uint64_t>(turn);
    tests::check_gradients(model, batch, step, random);
  }
}

TEST_CASE("gradients of every family's checkpoints, under every plan, equal finite differences") {
  random_stream random(14);
  const auto here = std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "models";
  std::vector<std::filesystem::path> folders{here / "mqa", here / "llama3"};
  for (const auto& entry : std::filesystem::directory_iterator(here / "families")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const auto& folder : folders) {
    const auto network = models::load_hugging_face_decoder(folder);
    train::model<double> model(network);
    for (const auto& how : tests::all_plans(1.5)) {
      CAPTURE(folder.filename().string());
      CAPTURE(name_of(how));
      const random_sentence sentence(random, network.config().vocab_size);
      const auto batch = rows_of(sentence, how, network.config().sliding_window);
      check_along_all(model, batch, {.scale = 1}, random);
    }
  }
}

TEST_CASE("rows that training makes, probes and copies and all: gradients, and the logits of inference") {
  random_stream random(15);
  const auto segments = [&](std::vector<std::int32_t>& tokens, std::vector<index_t>& ends, index_t vocabulary) {
    const index_t words = random.below(5);
    for (index_t j = 0; j < words + 2; ++j) {
      for (index_t left = tests::between(random, 1, 3); left > 0; --left) {
        tokens.push_back(static_cast<std::int32_t>(random.below(vocabulary)));
      }
      ends.push_back(static_cast<index_t>(tokens.size()));
    }
  };
  for (int turn = 0; turn < 4; ++turn) {
    tests::tiny_model_options options;
    options.any_family = true;
    options.bias = turn % 2 == 0;
    const auto network = tests::tiny_decoder(random, options);
    train::model<double> model(*network);
    train::model<float> single(*network);
    for (const auto& how : tests::all_plans(0.5 * static_cast<double>(turn))) {
      CAPTURE(name_of(how));
      train::row_choices choices;
      choices.waits = train::waits_between(1, 4);
      choices.probe_share = 1;
      choices.header = static_cast<train::header_loss>(turn % 3);
      std::vector<train::training_rows> batch;
      for (int i = 0; i < 2; ++i) {
        train::example pair;
        segments(pair.source, pair.source_ends, network->config().vocab_size);
        segments(pair.target, pair.target_ends, network->config().vocab_size);
        batch.push_back(train::make_rows(pair, how, choices, random, network->config().sliding_window));
      }
      const auto found = single.logits(batch);
      ops::eval context;
      std::size_t at = 0;
      for (const auto& rows : batch) {
        auto cache = network->make_cache();
        const models::stream_rows one{&cache, &rows.rows, rows.tokens, rows.logit_rows};
        const auto expected = network->forward(context, {&one, 1});
        for (index_t i = 0; i < expected.size(); ++i, ++at) {
          CHECK(std::abs(expected.data()[i] - found[at]) <= 1e-5f * std::max(1.0f, std::abs(found[at])));
        }
      }
      CHECK(at == found.size());
      check_along_all(model, batch,
                      {.scale = 0.1, .dropout = turn == 1 ? 0.2 : 0, .seed = 5, .checkpointing = turn == 1}, random);
    }
  }
}

TEST_CASE("law 8: the training forward pass gives the logits of inference") {
  random_stream random(8);
  for (int turn = 0; turn < 40; ++turn) {
    tests::tiny_model_options options;
    options.tied = random.below(2) == 0;
    options.any_family = random.below(3) != 0;
    const auto network = tests::tiny_decoder(random, options);
    const random_sentence sentence(random, network->config().vocab_size);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      train::model<float> model(*network, {2, ops::compute_mode::f32, which});
      ops::eval context({1, ops::compute_mode::f32, which});
      for (const auto& how : tests::all_plans(random.below(2) == 0 ? 0 : 3)) {
        CAPTURE(name_of(how));
        const auto expected = stream::teacher_forced_logits(*network, context, how, sentence.stream());
        const auto batch = rows_of(sentence, how, network->config().sliding_window);
        const auto found = model.logits(batch);
        REQUIRE(found.size() == expected.size());
        float most = 0, off = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
          most = std::max(most, std::abs(expected[i]));
          off = std::max(off, std::abs(found[i] - expected[i]));
        }
        CHECK(off <= 1e-5f * std::max(1.0f, most));
      }
    }
  }
}

TEST_CASE("joined pairs give the logits of batch over all that is before") {
  random_stream random(9);
  for (int turn = 0; turn < 20; ++turn) {
    tests::tiny_model_options options;
    options.any_family = random.below(3) != 0;
    const auto network = tests::tiny_decoder(random, options);
    train::example pair;
    for (auto* side : {&pair.source, &pair.target}) {
      for (index_t i = tests::between(random, 2, 9); i > 0; --i) {
        side->push_back(static_cast<std::int32_t>(random.below(network->config().vocab_size)));
      }
    }
    pair.source_ends = {static_cast<index_t>(pair.source.size()) - 1, static_cast<index_t>(pair.source.size())};
    pair.target_ends = {0, static_cast<index_t>(pair.target.size())};
    train::row_choices choices;
    const index_t window = network->config().sliding_window;
    train::model<float> model(*network, {2, ops::compute_mode::f32});
    const std::vector alone{train::make_rows(pair, stream::batch(), choices, random, window)};
    const std::vector joined{train::join_rows(std::span(&pair, 1), stream::batch(), choices, window)};
    const auto expected = model.logits(alone);
    const auto found = model.logits(joined);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-4));
  }
}
