// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/session.hpp>
#include <runnel/train/tokenize.hpp>

#include "support/tiny_language.hpp"

using namespace runnel;
using namespace runnel::train;

namespace {

/// The tiny language's parts, without a network.
stream::language_model without_network() {
  stream::language_model model;
  model.tokenizer = tests::tiny_tokenizer();
  model.format = {"tiny", "<|im_start|>{instruction}ab", "<|im_end|>\n", "<|im_start|>c\n", "<|im_end|>\n", " "};
  model.name = "tiny";
  return model;
}

std::vector<std::string> pieces(const stream::language_model& model, const std::vector<std::int32_t>& ids) {
  std::vector<std::string> out;
  for (const std::int32_t id : ids) out.emplace_back(model.tokenizer->piece(id));
  return out;
}

using strings = std::vector<std::string>;
using ends = std::vector<index_t>;

}  // namespace

TEST_CASE("a pair is tokens segment by segment; no network is needed") {
  const auto model = without_network();
  const example pair = example_maker(model, "h")("  ab\xC2\xA0 c ", "d. \t ef");
  CHECK(pieces(model, pair.source) == strings{"<|im_start|>", "h", "a", "b", "a", "b", " c", "<|im_end|>", "\n"});
  CHECK(pair.source_ends == ends{4, 6, 7, 9});
  CHECK(pieces(model, pair.target) == strings{"<|im_start|>", "c", "\n", "d", ".", " e", "f", "<|im_end|>"});
  CHECK(pair.target_ends == ends{3, 5, 7, 8});
  CHECK(pair.source_words() == 2);
  CHECK(pair.target_words() == 2);

  tokenize_options all;
  all.whole_suffix = true;
  const example whole = example_maker(model, "h", all)("a", "b");
  CHECK(pieces(model, whole.target) == strings{"<|im_start|>", "c", "\n", "b", "<|im_end|>", "\n"});
  CHECK(whole.target_ends == ends{3, 4, 6});
}

TEST_CASE("special tokens in a text are text") {
  const auto model = without_network();
  const example pair = example_maker(model)("<|im_end|>a", "b<|im_start|>");
  CHECK(std::count(pair.source.begin(), pair.source.end(), 0) == 1);
  CHECK(std::count(pair.source.begin(), pair.source.end(), 1) == 1);
  CHECK(std::count(pair.target.begin(), pair.target.end(), 0) == 1);
  CHECK(std::count(pair.target.begin(), pair.target.end(), 1) == 1);
}

TEST_CASE("source rows are those of a session") {
  const auto model = tests::tiny_language(3);
  const example pair = example_maker(model, "ce")("ab c  def", "a");
  stream::session_options options;
  options.instruction = "ce";
  options.when = stream::read_all{};
  options.max_tokens = 1;
  stream::session one(model, options);
  for (const char* word : {"ab", "c", "def"}) one.push(word);
  one.finish();
  while (one.next()) {
  }
  const auto read = one.source_tokens();
  CHECK(std::equal(read.begin(), read.end(), pair.source.begin(), pair.source.end()));
  CHECK(std::equal(pair.target.begin(), pair.target.begin() + 3, one.target_tokens().begin()));
}

TEST_CASE("target words are where a session completes them") {
  const auto model = tests::tiny_language(4);
  const auto ids = [&](const strings& tokens) {
    std::vector<std::int32_t> out;
    for (const auto& token : tokens) out.push_back(tests::tiny_id(*model.tokenizer, token));
    return out;
  };
  CHECK(session_words(model, ids({"a", " b", "c", " d"})) == ends{1, 3, 4});
  CHECK(session_words(model, ids({" ", " b", "c", " ", "d"})) == ends{3, 5});
  // White space inside a token ends the word with that token, not before it.
  CHECK(session_words(model, ids({"a", "d.\n", "b", " c"})) == ends{2, 3, 4});
  // Half a character is no text yet.
  CHECK(session_words(model, ids({"a", " b", "\xC3", "\xA9", " c"})) == ends{1, 4, 5});
  CHECK(session_words(model, ids({"a", "b", "c", "d", "e", " f"}), 2) == ends{2, 4, 5, 6});
  CHECK(session_words(model, ids({"a", "b", " c"}), 2) == ends{2, 3});
  CHECK(session_words(model, {}) == ends{0});

  // A scripted session that wants one word more after each, over random tokens: it reads where a word was completed.
  random_stream random(5);
  for (int trial = 0; trial < 300; ++trial) {
    strings script;
    const auto count = 1 + random.below(12);
    const strings choices{"a", "b", " c", " ", "\n", "d.\n", "\xC3", "\xA9", ".\n", " h"};
    for (std::int64_t i = 0; i < count; ++i) script.push_back(choices[static_cast<std::size_t>(random.below(10))]);
    const index_t most = 1 + random.below(4);
    stream::session_options options;
    options.when = stream::wait_k{1};
    options.max_word_tokens = most;
    stream::session one(model, options);
    for (int i = 0; i < 40; ++i) one.push("a");
    const auto target = ids(script);
    for (bool over = false; !over;) {
      if (one.poll()) continue;
      const auto* work = one.pending();
      if (work == nullptr) break;
      for (const auto& [which, rows] :
           {std::pair(group::source, work->source_rows), {group::target, work->target_rows}}) {
        auto& cache = *one.rows().cache;
        cache.reserve(which, cache.size(which) + rows);
        cache.commit(which, cache.size(which) + rows);
      }
      if (work->logit_rows.empty()) {
        one.complete({});
        continue;
      }
      const auto at = static_cast<std::size_t>(one.when().written() - 3);
      over = at == target.size();
      std::vector<float> logits(28);
      logits[static_cast<std::size_t>(over ? 1 : target[at])] = 1;
      if (!over) one.complete(logits);
    }
    const ends words = session_words(model, target, most);
    const index_t prompt = static_cast<index_t>(model.prompt_tokens("").size());
    std::size_t done = 0;
    for (index_t p = 0; p < static_cast<index_t>(target.size()); ++p) {
      while (done < words.size() && words[done] <= p) ++done;
      INFO("trial ", trial, ", token ", p, ", at most ", most);
      CHECK(one.when().c(3 + p) == prompt + 1 + static_cast<index_t>(done));
    }
  }
}

TEST_CASE("formats without an end, with a late end, and with none at all") {
  auto model = without_network();
  model.format.target_suffix = "";
  CHECK(example_maker(model)("a", "b").target.back() == 1);
  model.format.target_suffix = ".\n<|im_end|>\n";
  const example late = example_maker(model)("a", "b c");
  CHECK(pieces(model, late.target) == strings{"<|im_start|>", "c", "\n", "b", " c", ".", "\n", "<|im_end|>"});
  CHECK(late.target_ends == ends{3, 4, 6, 7, 8});
  model.format.target_suffix = "h";
  CHECK(pieces(model, example_maker(model)("a", "b").target) ==
        strings{"<|im_start|>", "c", "\n", "b", "h", "<|im_end|>"});
  model.format.target_prefix = "";
  CHECK(example_maker(model)("a", "b").target_ends.front() == 0);
  model.tokenizer = nullptr;
  CHECK_THROWS_AS(example_maker{model}, config_error);
}

TEST_CASE("sources of characters and tokens carry their spaces") {
  const auto model = without_network();
  tokenize_options options;
  options.source_unit = text::text_unit::character;
  const example pair = example_maker(model, "", options)("ab c", "d e");
  CHECK(pair.source_words() == 3);
  CHECK(pieces(model, pair.source) == strings{"<|im_start|>", "a", "b", "a", "b", " c", "<|im_end|>", "\n"});
  CHECK(pair.target_words() == 2);
}

TEST_CASE("a source of audio is rows in chunks between prompt and end; the target is that of a text") {
  auto model = without_network();
  const example text = example_maker(model, "h")("a", "d. ef");
  CHECK_THROWS_AS(static_cast<void>(example_maker(model).of_audio(3, 2, "a")), config_error);
  model.format.source = text::source_kind::audio;
  const example_maker make(model, "h");
  CHECK_THROWS_AS(static_cast<void>(make("a", "b")), config_error);
  const example five = make.of_audio(5, 2, "d. ef");
  CHECK(five.source == std::vector<std::int32_t>{0, tests::tiny_id(*model.tokenizer, "h"),
                                                 tests::tiny_id(*model.tokenizer, "a"),
                                                 tests::tiny_id(*model.tokenizer, "b"), -1, -2, -3, -4, -5, 1,
                                                 tests::tiny_id(*model.tokenizer, "\n")});
  CHECK(five.source_ends == ends{4, 6, 8, 9, 11});
  CHECK(five.source_words() == 3);
  CHECK(five.target == text.target);
  CHECK(five.target_ends == text.target_ends);
  CHECK(make.of_audio(4, 2, "").source_ends == ends{4, 6, 8, 10});
  CHECK(make.of_audio(1, 20, "").source_ends == ends{4, 5, 7});
  CHECK(make.of_audio(0, 20, "").source_ends == ends{4, 6});
  CHECK(make.of_audio(0, 20, "").target_words() == 0);
  CHECK_THROWS_AS(static_cast<void>(make.of_audio(-1, 2, "a")), config_error);
  CHECK_THROWS_AS(static_cast<void>(make.of_audio(2, 0, "a")), config_error);
  CHECK(pieces(model, make.target_tokens(" d.  ef ")) == strings{"d", ".", " e", "f"});
  CHECK(make.target_tokens(" ").empty());
}
