// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/language_model.hpp>

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
