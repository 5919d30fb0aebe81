// SPDX-License-Identifier: Apache-2.0
//
// A session over audio: the laws of sessions, with rows that are no tokens.

#include <runnel/transcribe/audio_session.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"
#include "support/streaming.hpp"
#include "support/tiny_speech.hpp"

namespace {

using namespace runnel;
using namespace runnel::stream;
using transcribe::audio_session;

session_options options_for(const plan& how, instruction_set instructions = best_instruction_set) {
  session_options options;
  options.how = how;
  options.when = wait_k{2};
  options.max_tokens = 40;
  options.compute = {1, ops::compute_mode::f32, instructions};
  return options;
}

struct outcome {
  std::string text;
  std::vector<index_t> delays;
  std::vector<std::int32_t> tokens;
  tests::logit_log logits;
  index_t chunks = 0;
};

/// Hears audio in pieces of so many samples, and says all that it can after each.
outcome hear(const transcribe::speech_model& model, const session_options& options, std::span<const float> audio,
             std::size_t piece, bool at_once = false) {
  outcome out;
  audio_session one(model, tests::watched(options, out.logits));
  for (std::size_t at = 0; at < audio.size(); at += piece) {
    one.push(audio.subspan(at, std::min(piece, audio.size() - at)));
    while (!at_once && one.next()) {
    }
  }
  one.finish();
  while (one.next()) {
  }
  CHECK(one.session().done());
  out.text = one.session().text();
  out.delays = one.session().delays();
  out.tokens.assign(one.session().tokens().begin(), one.session().tokens().end());
  out.chunks = one.num_chunks();
  return out;
}

TEST_CASE("however audio is cut into pieces, text, delays and logits are the same bits under every plan") {
  index_t tokens = 0;
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    tests::tiny_speech_options kind;
    kind.stack = seed == 2 ? 2 : 1;
    kind.norm_first = seed != 3;
    kind.any_family = seed == 3;
    kind.right_pad = seed == 1 ? 50 : 0;
    const auto model = tests::tiny_speech(seed, kind);
    random_stream random(seed);
    const auto audio = tests::tiny_audio(random, 420 + random.below(60));
    for (const instruction_set instructions : tests::runnable_instruction_sets()) {
      for (const plan& how : tests::all_plans(3)) {
        CAPTURE(name_of(how));
        const auto options = options_for(how, instructions);
        const auto whole = hear(model, options, audio, audio.size());
        for (const std::size_t piece : {std::size_t{1}, std::size_t{17}, std::size_t{60}, std::size_t{200}}) {
          const auto cut = hear(model, options, audio, piece);
          REQUIRE(cut.text == whole.text);
          REQUIRE(cut.delays == whole.delays);
          REQUIRE(cut.logits == whole.logits);
        }
        CHECK(hear(model, options, audio, 33, true).logits == whole.logits);
        tokens += static_cast<index_t>(whole.tokens.size());
      }
    }
  }
  CHECK(tokens > 200);
}

TEST_CASE("law 1 over vectors: a session's logits are those of one pass over what it read and wrote") {
  const auto model = tests::tiny_speech(7);
  random_stream random(7);
  const auto audio = tests::tiny_audio(random, 500);
  for (const plan& how : tests::all_plans(2)) {
    CAPTURE(name_of(how));
    const auto options = options_for(how);
    tests::logit_log log;
    audio_session one(model, tests::watched(options, log));
    for (std::size_t at = 0; at < audio.size(); at += 50) {
      one.push(std::span(audio).subspan(at, 50));
      while (one.next()) {
      }
    }
    one.finish();
    while (one.next()) {
    }
    const auto& session = one.session();
    REQUIRE(session.source_vectors().size(0) == 25);
    const finished_stream whole{session.source_tokens(), session.target_tokens(), session.when(),
                                session.source_vectors()};
    ops::eval context(options.compute);
    const auto forced = teacher_forced_logits(*model.language.network, context, how, whole);
    const index_t vocabulary = model.language.network->config().vocab_size;
    for (const auto& [row, logits] : log) {
      const auto expected = std::span(forced).subspan(static_cast<std::size_t>(row * vocabulary), logits.size());
      if (row > session.when().written()) continue;
      REQUIRE(tests::same_bits(std::span<const float>(logits), expected));
    }
  }
}

TEST_CASE("rewinding over audio is never having advanced") {
  const auto model = tests::tiny_speech(11);
  random_stream random(11);
  const auto audio = tests::tiny_audio(random, 460);
  for (const plan& how : {group_streaming(), batch_streaming(reencode::all), interleaved()}) {
    const auto options = options_for(how);
    const auto plain = hear(model, options, audio, audio.size());
    tests::logit_log log;
    audio_session one(model, tests::watched(options, log));
    one.push(audio);
    one.finish();
    std::vector<event_id> ids{beginning};
    for (int i = 0; i < 12; ++i) {
      const auto happened = one.next();
      if (!happened) break;
      ids.push_back(happened->id);
    }
    one.session().rewind(ids[ids.size() / 2]);
    while (one.next()) {
    }
    CHECK(one.session().text() == plain.text);
    CHECK(log == plain.logits);
  }
}

TEST_CASE("finish makes a chunk of what is left, and delays are those of the audio") {
  const auto model = tests::tiny_speech(5);
  CHECK(model.row_samples() == 20);
  CHECK(model.chunk_samples() == 60);
  CHECK(model.lookahead() == 0);
  random_stream random(5);
  for (const index_t count : {0, 1, 59, 60, 61, 119, 121, 180}) {
    CAPTURE(count);
    audio_session one(model, options_for(group_streaming()));
    const auto audio = tests::tiny_audio(random, count);
    one.push(audio);
    CHECK(one.num_chunks() == count / 60);
    one.finish();
    one.finish();
    CHECK(one.num_chunks() == (count + 59) / 60);
    CHECK(one.session().source_vectors().size(0) == model.rows_of(count));
    CHECK(one.delay_ms(0) == 0);
    CHECK(one.delay_ms(1) == std::min<index_t>(60, count));
    CHECK(one.delay_ms(1000) == count);
    while (one.next()) {
    }
    CHECK(one.session().done());
    CHECK_THROWS_AS(one.push(audio), config_error);
  }
}

TEST_CASE("zeros after the last sample are rows too, and no audio stays none") {
  const auto model = tests::tiny_speech(5, {.right_pad = 50});
  random_stream random(5);
  for (const index_t count : {0, 1, 59, 60, 100}) {
    CAPTURE(count);
    audio_session one(model, options_for(group_streaming()));
    one.push(tests::tiny_audio(random, count));
    CHECK(one.num_chunks() == count / 60);
    one.finish();
    CHECK(model.rows_of(count) == (count == 0 ? 0 : (count + 50 + 19) / 20));
    CHECK(one.session().source_vectors().size(0) == model.rows_of(count));
    CHECK(one.delay_ms(9) == count);
  }
}

TEST_CASE("an encoder that looks ahead says how far, and an offline one gives all at the end") {
  auto model = tests::tiny_speech(5);
  auto config = model.encoder->config();
  config.left_pad = 0;
  model.encoder = std::make_shared<const speech::encoder>(speech::random_encoder(config, 5));
  CHECK(model.lookahead() == 5);
  random_stream random(6);
  const auto audio = tests::tiny_audio(random, 200);
  audio_session ahead(model, options_for(group_streaming()));
  ahead.push(std::span(audio).first(64));
  CHECK(ahead.num_chunks() == 0);
  ahead.push(std::span(audio).subspan(64, 1));
  CHECK(ahead.num_chunks() == 1);
  CHECK(ahead.delay_ms(1) == 65);

  const auto offline = tests::tiny_speech(5, {.causal = false});
  audio_session whole(offline, options_for(batch()));
  whole.push(audio);
  CHECK(whole.num_chunks() == 0);
  whole.finish();
  CHECK(whole.num_chunks() == 4);
  CHECK(whole.delay_ms(0) == 0);
  CHECK(whole.delay_ms(1) == 200);  // nothing is known before all was heard
}

TEST_CASE("samples that are far too large count as 0: one of them spoils no chunk") {
  const auto model = tests::tiny_speech(9);
  audio_session one(model, options_for(group_streaming()));
  std::vector<float> audio(180, 0.25f);
  audio[70] = 3e38f;
  one.push(audio);
  one.finish();
  CHECK(one.num_replaced() == 1);
  while (one.next()) {
  }
  CHECK(one.session().done());
}

TEST_CASE("chunks that are left count prompt, end and what is to be written") {
  const auto model = tests::tiny_speech(5);
  auto options = options_for(group_streaming());
  options.context = 40;
  audio_session one(model, options);
  const auto fixed =
      static_cast<index_t>(model.language.prompt_tokens("a").size() + model.language.end_tokens().size());
  CHECK(one.chunks_left() == (40 - fixed) / 3);
  CHECK(one.chunks_left(10) == (30 - fixed) / 3);
  CHECK(one.chunks_left(1000) == 0);
  random_stream random(8);
  one.push(tests::tiny_audio(random, 120));
  CHECK(one.chunks_left() == (40 - fixed - 6) / 3);
}

TEST_CASE("numbers that are not finite are counted as 0, and wrong vectors are refused") {
  const auto model = tests::tiny_speech(9);
  audio_session one(model, options_for(group_streaming()));
  std::vector<float> audio(120, 0.25f), clean(120, 0.25f);
  audio[3] = std::numeric_limits<float>::quiet_NaN();
  audio[70] = std::numeric_limits<float>::infinity();
  clean[3] = clean[70] = 0;
  one.push(audio);
  CHECK(one.num_replaced() == 2);
  audio_session other(model, options_for(group_streaming()));
  other.push(clean);
  CHECK(tests::same_bits(std::span(one.session().source_vectors().data(), 10),
                         std::span(other.session().source_vectors().data(), 10)));

  session plain(model.language, options_for(group_streaming()));
  const index_t width = model.language.network->config().hidden_size;
  std::vector<float> rows(static_cast<std::size_t>(2 * width));
  CHECK_THROWS_AS(plain.push_vectors({rows.data(), {1, width - 1}}), shape_error);
  rows[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(plain.push_vectors({rows.data(), {2, width}}), config_error);
  rows[5] = 0;
  plain.push_vectors({rows.data(), {0, width}});
  CHECK(plain.source_vectors().size(0) == 0);
  plain.push_vectors({rows.data(), {2, width}}, "audio");
  CHECK_THROWS_WITH_AS(plain.push("word"), doctest::Contains("is audio, and no words"), config_error);
  plain.finish();
  CHECK_THROWS_AS(plain.push_vectors({rows.data(), {2, width}}), config_error);
}

TEST_CASE("a model whose parts do not fit is refused") {
  auto model = tests::tiny_speech(3);
  model.settings.chunk_rows = 0;
  CHECK_THROWS_WITH_AS(audio_session(model, {}), doctest::Contains("chunk_rows"), config_error);
  model = tests::tiny_speech(3);
  model.language.format.source = text::source_kind::text;
  CHECK_THROWS_WITH_AS(audio_session(model, {}), doctest::Contains("expected audio"), config_error);
  model = tests::tiny_speech(3);
  model.projector = std::make_shared<const speech::projector>(speech::random_projector({7, 5, 8, 1}));
  CHECK_THROWS_WITH_AS(audio_session(model, {}), doctest::Contains("the projector takes"), config_error);
  model.projector = nullptr;
  CHECK_THROWS_AS(audio_session(model, {}), config_error);
}

}  // namespace
