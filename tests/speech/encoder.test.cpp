// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <limits>
#include <stop_token>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using namespace runnel::tests;
using speech::encoder;
using speech::encoder_config;
using speech::encoder_stream;

constexpr std::string_view cases[] = {"stable", "base", "post"};

TEST_CASE("the original agrees with Transformers, module by module") {
  const auto samples = golden_samples();
  for (const auto name : cases) {
    CAPTURE(std::string(name));
    const auto folder = speech_golden(name);
    const encoder model = golden_encoder(name, speech::read_encoder_config(folder));
    for (const auto which : runnable_instruction_sets()) {
      ops::eval context({1, ops::compute_mode::f32, which});
      context.team.run([&] {
        const auto x = context.make(static_cast<index_t>(samples.size()), 1);
        std::copy(samples.begin(), samples.end(), x.data());
        const auto features = model.weights().front_end(context, x);
        CHECK(away_from(folder / "features.npy", {features.data(), static_cast<std::size_t>(features.size())}) < 1e-4);
        const auto placed = model.weights().position(context, model.weights().projection(context, features));
        CHECK(away_from(folder / "position.npy", {placed.data(), static_cast<std::size_t>(placed.size())}) < 1e-4);
      });
      const auto hidden = run_stream(model, samples, samples.size(), {{1, ops::compute_mode::f32, which}});
      CHECK(away_from(folder / "hidden.npy", hidden) < 1e-4);
    }
  }
}

TEST_CASE("the causal form agrees with its definition") {
  for (const auto name : cases) {
    CAPTURE(std::string(name));
    const encoder model = golden_encoder(name, causal_form(speech::read_encoder_config(speech_golden(name))));
    for (const auto which : runnable_instruction_sets()) {
      const auto found = run_stream(model, golden_samples(), 6400, {{1, ops::compute_mode::f32, which}});
      CHECK(away_from(speech_golden(name) / "causal.npy", found) < 1e-4);
    }
  }
}

TEST_CASE("any chunking gives the same frames, bit for bit") {
  for (const auto name : cases) {
    CAPTURE(std::string(name));
    const auto original = speech::read_encoder_config(speech_golden(name));
    auto unbounded = causal_form(original, 0, 0), later = causal_form(original, 7), half = original;
    unbounded.input.kind = speech::normalization::running;
    unbounded.pad_tail = later.pad_tail = true;
    later.input = {speech::normalization::fixed, 0.01, 0.3, 1};
    half.causal_attention = true;  // positions still look ahead
    half.input.kind = speech::normalization::utterance;
    for (const auto& config : {original, half, causal_form(original), unbounded, later}) {
      const encoder model = golden_encoder(name, config);
      for (const index_t count : {index_t{24000}, index_t{9137}}) {
        const auto samples = golden_samples(count);
        for (const auto which : runnable_instruction_sets()) {
          const auto all = run_stream(model, samples, samples.size(), {{1, ops::compute_mode::f32, which}});
          CHECK_FALSE(all.empty());
          for (const std::size_t piece : {1u, 80u, 319u, 6400u, 16001u}) {
            if (piece == 1 && which != best_instruction_set) continue;
            CAPTURE(piece);
            CHECK(same_bits(run_stream(model, samples, piece, {{1, ops::compute_mode::f32, which}}), all));
          }
          CHECK(same_bits(run_stream(model, samples, 6400, {{3, ops::compute_mode::f32, which}}), all));
        }
      }
    }
  }
}

TEST_CASE("pieces of random sizes, keys in bf16, other arithmetic") {
  const auto config = causal_form(speech::read_encoder_config(speech_golden("stable")), 13);
  const encoder model = golden_encoder("stable", config);
  const auto samples = golden_samples();
  random_stream random(3);
  for (const auto compute : {ops::compute_mode::f32, ops::compute_mode::bf16, ops::compute_mode::int8}) {
    for (const auto storage : {cache::storage_type::f32, cache::storage_type::bf16}) {
      const speech::encoder_stream_options options{{2, compute}, storage};
      const auto all = run_stream(model, samples, samples.size(), options);
      encoder_stream stream(model, options);
      std::vector<float> out;
      for (std::size_t at = 0; at < samples.size();) {
        const auto most = random.below(3) == 0 ? 5000 : 40;
        const auto count = std::min(samples.size() - at, static_cast<std::size_t>(random.below(most)));
        const auto frames = stream.push(std::span(samples).subspan(at, count));
        out.insert(out.end(), frames.data(), frames.data() + frames.size());
        at += count;
      }
      const auto rest = stream.finish();
      out.insert(out.end(), rest.data(), rest.data() + rest.size());
      CHECK(same_bits(out, all));
      if (compute != ops::compute_mode::bf16 && storage == cache::storage_type::f32) {
        auto whole = golden_encoder("stable", causal_form(speech::read_encoder_config(speech_golden("stable"))));
        CHECK(away_from(speech_golden("stable") / "causal.npy", run_stream(whole, samples, 6400, options)) < 1e-4);
      }
    }
  }
}

TEST_CASE("pages that are forgotten on the way change no bit, however far the left context reaches") {
  random_stream random(4);
  std::vector<float> samples(320 * 1300);
  for (float& one : samples) one = static_cast<float>(0.2 * random.uniform() - 0.1);
  for (const index_t left_context : {100, 448, 500, 700}) {
    CAPTURE(left_context);
    const encoder model =
        golden_encoder("stable", causal_form(speech::read_encoder_config(speech_golden("stable")), left_context));
    for (const auto storage : {cache::storage_type::f32, cache::storage_type::q8_0}) {
      const speech::encoder_stream_options options{{1, ops::compute_mode::f32}, storage};
      const auto all = run_stream(model, samples, samples.size(), options);
      CHECK(same_bits(run_stream(model, samples, 960, options), all));
      CHECK(same_bits(run_stream(model, samples, 31000, {{3, ops::compute_mode::f32}, storage}), all));
    }
  }
}

TEST_CASE("frames come as soon as their samples are there, 20 a chunk with a left pad of 80") {
  const auto original = speech::read_encoder_config(speech_golden("stable"));
  CHECK(original.receptive_field() == 400);
  CHECK(original.hop() == 320);
  CHECK(original.frames_of(399) == 0);
  CHECK(original.frames_of(6400) == 19);
  const auto samples = golden_samples();
  const encoder padded = golden_encoder("stable", causal_form(original));
  const encoder plain = golden_encoder("stable", causal_form(original, 20, 0));
  encoder_stream first(padded), second(plain);
  for (std::size_t at = 0; at + 6400 <= samples.size(); at += 6400) {
    CHECK(first.push(std::span(samples).subspan(at, 6400)).size(0) == 20);
    CHECK(second.push(std::span(samples).subspan(at, 6400)).size(0) == (at == 0 ? 19 : 20));
  }
  encoder_stream one(plain);
  for (std::size_t i = 0; i < 720; ++i) {
    CHECK(one.push(std::span(samples).subspan(i, 1)).size(0) == (i == 399 || i == 719 ? 1 : 0));
  }
}

TEST_CASE("finish flushes the tail") {
  auto config = causal_form(speech::read_encoder_config(speech_golden("stable")));
  config.pad_tail = true;
  const encoder model = golden_encoder("stable", config);
  auto samples = golden_samples(6401);
  CHECK(run_stream(model, std::span(samples).first(6400), 999).size() == 20 * 12);
  const auto longer = run_stream(model, samples, 999);
  CHECK(longer.size() == 21 * 12);
  samples.resize(6720);  // the same with zeros
  CHECK(same_bits(run_stream(model, samples, 999), longer));
  CHECK(run_stream(model, {}, 1).empty());
  CHECK(run_stream(model, std::span(samples).first(1), 1).size() == 12);
  config.pad_tail = false;
  const encoder cut = golden_encoder("stable", config);
  CHECK(run_stream(cut, std::span(samples).first(6401), 6401).size() == 20 * 12);
  encoder_stream stream(model);
  (void)stream.finish();
  CHECK_THROWS_AS((void)stream.push(samples), config_error);
  CHECK_THROWS_AS((void)stream.finish(), config_error);
}

TEST_CASE("memory is bounded, and a frame sees no further than its context") {
  const auto original = speech::read_encoder_config(speech_golden("stable"));
  const encoder model = golden_encoder("stable", causal_form(original, 20));
  const auto samples = golden_samples();
  encoder_stream stream(model);
  std::size_t early = 0;
  std::vector<float> last;
  for (int round = 0; round < 30; ++round) {
    const auto frames = stream.push(samples);
    last.assign(frames.data(), frames.data() + frames.size());
    if (round == 14) early = stream.capacity_bytes();
  }
  CHECK(stream.capacity_bytes() == early);
  CHECK(stream.num_frames() == 30 * 75);
  // Two layers see 2 x 20 frames back, the position embedding 7: another beginning changes nothing after that.
  encoder_stream other(model);
  (void)other.push(golden_samples(22400));
  (void)other.push(samples);
  const auto frames = other.push(samples);
  std::vector<float> again(frames.data(), frames.data() + frames.size());
  double most = 0;
  for (std::size_t i = 0; i < last.size(); ++i)
    most = std::max(most, static_cast<double>(std::fabs(last[i] - again[i])));
  CHECK(most < 1e-5);  // not to the bit: pages begin elsewhere
}

TEST_CASE("samples that are no numbers, silence, clipping") {
  const encoder model = golden_encoder("stable", causal_form(speech::read_encoder_config(speech_golden("stable"))));
  auto samples = golden_samples(6400), zeroed = samples;
  samples[5] = std::numeric_limits<float>::quiet_NaN();
  samples[700] = -std::numeric_limits<float>::infinity();
  zeroed[5] = zeroed[700] = 0;
  encoder_stream stream(model);
  const auto frames = stream.push(samples);
  CHECK(stream.num_replaced() == 2);
  CHECK(same_bits(std::vector<float>(frames.data(), frames.data() + frames.size()), run_stream(model, zeroed, 6400)));
  auto config = causal_form(speech::read_encoder_config(speech_golden("stable")));
  for (const auto kind : {speech::normalization::none, speech::normalization::running}) {
    config.input.kind = kind;
    const encoder other = golden_encoder("stable", config);
    for (const float level : {0.0f, 1.0f, 1e30f}) {
      for (const float value : run_stream(other, std::vector<float>(6400, level), 80)) {
        if (level < 2) CHECK(std::isfinite(value));
      }
    }
  }
}

TEST_CASE("a stopped step loses nothing") {
  const encoder model = golden_encoder("stable", causal_form(speech::read_encoder_config(speech_golden("stable"))));
  const auto samples = golden_samples();
  const auto all = run_stream(model, samples, samples.size());
  encoder_stream stream(model);
  std::stop_source stop;
  stop.request_stop();
  const auto first = stream.push(std::span(samples).first(7000));
  std::vector<float> out(first.data(), first.data() + first.size());
  stream.set_stop(stop.get_token());
  CHECK_THROWS_AS((void)stream.push(std::span(samples).subspan(7000)), cancelled_error);
  CHECK_THROWS_AS((void)stream.finish(), cancelled_error);
  stream.set_stop({});
  const auto rest = stream.finish();
  out.insert(out.end(), rest.data(), rest.data() + rest.size());
  CHECK(same_bits(out, all));
}

}  // namespace
