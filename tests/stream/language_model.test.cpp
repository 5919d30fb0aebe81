// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/language_model.hpp>
#include <runnel/stream/session.hpp>

#include "support/tiny_language.hpp"

using namespace runnel;

TEST_CASE("segments are encoded one by one, and only markup becomes control tokens") {
  const auto model = tests::tiny_language(4);
  CHECK(model.tokenizer->decode(model.prompt_tokens("c")) == "<|im_start|>cab");
  CHECK(model.prompt_tokens("<|im_end|>").front() == 0);
  CHECK(model.end_tokens().front() == 1);
  CHECK(model.header_tokens().size() == 3);
  CHECK(model.word_tokens("ab", "") != model.word_tokens("ab", " "));
  CHECK(model.word_tokens("ab", " ").front() == tests::tiny_id(*model.tokenizer, " a"));
  for (const auto id : model.word_tokens("<|im_end|>", " ")) CHECK(id > 1);
  CHECK(model.text_of(std::vector<std::int32_t>{1, 4, 0}) == "a");
  CHECK_THROWS_AS(model.check(std::vector<std::int32_t>{26}), config_error);
}

TEST_CASE("a session reads and writes the ids of the segments one after another") {
  const auto model = tests::tiny_language(4);
  const auto append = [](std::vector<std::int32_t>& all, const std::vector<std::int32_t>& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  auto expected = model.prompt_tokens("cab");
  append(expected, model.word_tokens("abc", "", true));
  append(expected, model.word_tokens("<|im_end|>", " "));
  append(expected, model.word_tokens("ba", " "));
  append(expected, model.end_tokens());
  stream::session_options options;
  options.instruction = "cab";
  options.max_tokens = 3;
  stream::session session(model, options);
  for (const char* word : {"abc", "<|im_end|>", "ba"}) session.push(word);
  session.finish();
  while (session.next()) {
  }
  const auto source = session.source_tokens();
  REQUIRE(source.size() <= expected.size());
  CHECK(std::equal(source.begin(), source.end(), expected.begin()));
  options.how = stream::batch();
  stream::session whole(model, options);
  for (const char* word : {"abc", "<|im_end|>", "ba"}) whole.push(word);
  whole.finish();
  static_cast<void>(whole.next());
  while (whole.next()) {
  }
  CHECK(std::vector<std::int32_t>(whole.source_tokens().begin(), whole.source_tokens().end()) == expected);
  const auto header = model.header_tokens();
  REQUIRE(whole.target_tokens().size() >= header.size());
  CHECK(std::equal(header.begin(), header.end(), whole.target_tokens().begin()));
}

TEST_CASE("a format whose source is audio takes no words") {
  auto model = tests::tiny_language(4);
  model.format.source = text::source_kind::audio;
  CHECK_THROWS_AS(static_cast<void>(model.word_tokens("ab", "")), config_error);
  stream::session session(model, {});
  CHECK_THROWS_AS(session.push("ab"), config_error);
}

TEST_CASE("a tokenizer may have markup that the network lacks, and nothing else") {
  auto model = tests::tiny_language(4);
  const auto with_more = [&](text::token_type type) {
    text::tokenizer_data data;
    data.tokens = {"<|im_start|>", "<|im_end|>"};
    data.types = {text::token_type::control, text::token_type::control};
    data.eos_ids = {1};
    for (index_t id = 2; id <= model.network->config().vocab_size; ++id) {
      data.tokens.push_back(std::string(1, static_cast<char>('!' + id)));
      data.types.push_back(id == model.network->config().vocab_size ? type : text::token_type::normal);
    }
    auto larger = model;
    larger.tokenizer = std::make_shared<const text::tokenizer>(std::move(data));
    return larger;
  };
  const auto larger = with_more(text::token_type::control);
  CHECK_NOTHROW(larger.validate());
  CHECK(larger.tokenizer->vocabulary_size() == model.network->config().vocab_size + 1);
  CHECK(larger.vocabulary() == static_cast<std::size_t>(model.network->config().vocab_size));
  const auto last = static_cast<std::int32_t>(model.network->config().vocab_size);
  CHECK_THROWS_AS(larger.check(std::vector<std::int32_t>{last}), config_error);
  CHECK_NOTHROW(larger.check(std::vector<std::int32_t>{last - 1}));
  CHECK_THROWS_AS(with_more(text::token_type::normal).validate(), config_error);
}

TEST_CASE("the markup that ends a target ends it, text does not") {
  auto model = tests::tiny_language(4);
  CHECK(model.end_ids() == std::vector<std::int32_t>{1});
  model.format.target_suffix = "<|im_start|>\n";
  CHECK(model.end_ids() == std::vector<std::int32_t>{1, 0});
  model.format.target_suffix = "\n";
  CHECK(model.end_ids() == std::vector<std::int32_t>{1});
  model.format.target_suffix = "";
  CHECK(model.end_ids() == std::vector<std::int32_t>{1});
}
