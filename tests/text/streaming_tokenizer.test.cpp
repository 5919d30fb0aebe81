// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/text/streaming_tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>

#include "support.hpp"

namespace text = runnel::text;
using runnel_test::failure;
using runnel_test::holds;
using ids = std::vector<std::int32_t>;

namespace {

ids operator+(ids a, const ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Reads a text in random chunks and checks all that the class promises. Returns the share of ids that were final
/// before the end.
double check(const text::tokenizer& vocabulary, const std::string& whole, const text::encode_options& options,
             std::mt19937& random) {
  CAPTURE(whole);
  const auto expected = vocabulary.encode(whole, options);
  text::streaming_tokenizer stream(vocabulary, options);
  ids found;
  const std::size_t longest = 1 + random() % 20;
  for (std::size_t at = 0; at < whole.size();) {
    const std::size_t length = std::min<std::size_t>(1 + random() % longest, whole.size() - at);
    found = found + stream.push(std::string_view(whole).substr(at, length));
    at += length;
    REQUIRE(found.size() <= expected.size());
    REQUIRE(std::equal(found.begin(), found.end(), expected.begin()));
    REQUIRE(stream.num_final() == found.size());
    if (random() % 8 == 0) {
      REQUIRE(found + stream.tentative() == vocabulary.encode(std::string_view(whole).substr(0, at), options));
    }
  }
  const double share = expected.empty() ? 1 : static_cast<double>(found.size()) / static_cast<double>(expected.size());
  REQUIRE(found + stream.finish() == expected);
  REQUIRE(stream.held() == 0);
  return share;
}

void check_many(const text::tokenizer& vocabulary, double least_final) {
  std::mt19937 random(31);
  const auto& corpus = runnel_test::corpus();
  double share = 0;
  constexpr int rounds = 700;
  for (int round = 0; round < rounds; ++round) {
    std::string whole = corpus[random() % corpus.size()];
    if (round % 2 == 0) whole += ' ' + corpus[random() % corpus.size()];
    if (round % 5 == 0) whole = runnel_test::random_bytes(random, random() % 60);
    if (round % 4 == 0) {
      for (int i = 0; i < 3; ++i) {
        const auto id = static_cast<std::int32_t>(random() % 12);
        const auto last = vocabulary.vocabulary_size() - 1;
        whole.insert(random() % (whole.size() + 1), vocabulary.token(random() % 2 == 0 ? id : last - id));
      }
    }
    text::encode_options options;
    options.parse_special = random() % 2 == 0;
    options.parse_user_defined = random() % 4 != 0;
    options.continues = random() % 3 == 0;
    options.add_bos = vocabulary.bos().has_value() && random() % 2 == 0;
    share += check(vocabulary, whole, options, random);
  }
  CHECK(share / rounds > least_final);
}

std::string metaspace(const std::string& scheme, bool split) {
  auto root = nlohmann::json::parse(runnel_test::content(runnel_test::text_golden("llama2") / "tokenizer.json"));
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", split}};
  return root.dump();
}

}  // namespace

TEST_CASE("final ids never change, and with the tentative ones they are those of the text so far") {
  for (const std::string name : {"gpt2", "llama3", "qwen2", "smollm", "llama2", "gemma"}) {
    CAPTURE(name);
    check_many(text::tokenizer(text::read_tokenizer_json(runnel_test::text_golden(name))), 0.75);
  }
  check_many(text::tokenizer(text::read_tokenizer_model(runnel_test::text_golden("spaces.model"))), 0.75);
  check_many(text::tokenizer(text::parse_tokenizer_json(metaspace("first", false), "first")), 0.75);
  check_many(text::tokenizer(text::parse_tokenizer_json(metaspace("always", true), "always")), 0.75);
  for (const auto kind : {text::pre_tokenizer_kind::o200k, text::pre_tokenizer_kind::tekken}) {
    auto data = text::read_tokenizer_json(runnel_test::text_golden("llama3"));
    data.pre_tokenizer = kind;
    check_many(text::tokenizer(std::move(data)), 0.75);
  }
}

TEST_CASE("ids become final as soon as the text shows it") {
  const auto vocabulary = runnel_test::golden_tokenizer("gpt2");
  text::streaming_tokenizer stream(vocabulary);
  CHECK(stream.push("Hel").empty());
  CHECK(stream.push("lo").empty());
  CHECK(stream.held() == 5);
  CHECK(stream.tentative() == vocabulary.encode("Hello"));
  CHECK(stream.push(" ") == vocabulary.encode("Hello"));  // a space belongs to what follows
  CHECK(stream.push("w").empty());
  CHECK(stream.push("orld").empty());
  CHECK(stream.push("!") == vocabulary.encode(" world"));
  CHECK(stream.finish() == vocabulary.encode("!"));
  CHECK(stream.num_final() == 0);
  CHECK(stream.push("Hello!\n") == vocabulary.encode("Hello!"));
  CHECK(stream.finish() == vocabulary.encode("\n"));

  const text::tokenizer gemma(text::read_tokenizer(runnel_test::text_golden("gemma")));
  text::streaming_tokenizer words(gemma);
  CHECK(words.push("window").empty());
  CHECK(words.push(" ") == gemma.encode("window"));
  CHECK(words.push("<tab").empty());  // could become a token
  CHECK(words.push("le>") == gemma.encode(" <table>"));
  CHECK(words.finish().empty());
}

TEST_CASE("memory is bounded: what is final is forgotten, and a piece without an end is refused") {
  for (const std::string name : {"llama3", "qwen2", "gemma"}) {
    const text::tokenizer vocabulary(text::read_tokenizer(runnel_test::text_golden(name)));
    text::streaming_tokenizer stream(vocabulary);
    std::size_t most = 0;
    std::uint64_t count = 0;
    for (int i = 0; i < 20000; ++i) {
      count += stream.push("some words, and caf\u00E9s ").size();
      most = std::max(most, stream.held());
    }
    CHECK(most < 64);
    CHECK(stream.num_final() == count);
    CHECK(count > 100000);
  }
  const auto vocabulary = runnel_test::golden_tokenizer("llama3");
  text::streaming_tokenizer stream(vocabulary, {}, 10000);
  const auto first = stream.push("word " + std::string(9000, 'a'));
  CHECK(first == vocabulary.encode("word"));
  const auto before = stream.tentative();
  for (const auto& more : {std::string(2000, 'a'), "aa b" + std::string(20000, 'a')}) {
    CHECK(holds(failure<runnel::limit_error>([&] { static_cast<void>(stream.push(more)); }),
                "more than 10000 bytes of text have no place where their ids could be parted"));
    CHECK(stream.tentative() == before);
    CHECK(stream.num_final() == first.size());
  }
  // A chunk may be larger than that, if it has places to cut.
  std::string many;
  for (int i = 0; i < 50000; ++i) many += " word";
  CHECK(stream.push(many).size() > 50000);
}

TEST_CASE("a megabyte of one kind of character, in small chunks, takes no long time") {
  for (const std::string name : {"llama3", "gemma", "llama2"}) {
    const text::tokenizer vocabulary(text::read_tokenizer(runnel_test::text_golden(name)));
    for (const char c : {'a', ' ', '\n', '\xFF'}) {
      const std::string whole(1000000, c);
      text::streaming_tokenizer stream(vocabulary);
      std::size_t count = 0;
      for (std::size_t at = 0; at < whole.size(); at += 16) count += stream.push(whole.substr(at, 16)).size();
      count += stream.finish().size();
      CHECK(count == vocabulary.encode(whole).size());
    }
  }
}

TEST_CASE("options") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  data.bos = runnel_test::add_token(data, "<s>");
  data.tokens['z'] = "";
  const text::tokenizer vocabulary(std::move(data));
  text::encode_options options;
  options.add_bos = true;
  options.missing = text::missing_byte_policy::refuse;
  text::streaming_tokenizer stream(vocabulary, options);
  CHECK(stream.push("ab ") == ids{257, 256});
  CHECK(stream.finish() == ids{' '});
  CHECK(stream.tentative() == ids{257});
  CHECK_THROWS_AS(static_cast<void>(stream.push("z z")), runnel::config_error);
  const text::tokenizer without(runnel_test::byte_vocabulary());
  CHECK_THROWS_AS(text::streaming_tokenizer(without, options), runnel::config_error);
}
