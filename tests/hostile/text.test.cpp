// SPDX-License-Identifier: Apache-2.0
// Vocabularies and texts made to take time or memory, and arguments out of all bounds.
#include "hostile.hpp"

#include <limits>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

#include "support/tiny_language.hpp"
#include "text/support.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

using namespace runnel_test;
namespace text = runnel::text;

constexpr text::pre_tokenizer_kind all_cuts[] = {text::pre_tokenizer_kind::gpt2, text::pre_tokenizer_kind::llama3,
                                                 text::pre_tokenizer_kind::qwen2, text::pre_tokenizer_kind::smollm};

std::string repeated(std::string_view part, std::size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += part;
  return all;
}

}  // namespace

TEST_CASE("no text takes more than its length") {
  // ReDoS (HT#2060): patterns that go back over what they have read.
  for (const auto cut : all_cuts) {
    auto data = byte_vocabulary({"aa", "aaa", "aaaa", "  ", "   ", "\n\n"});
    data.pre_tokenizer = cut;
    const text::tokenizer vocabulary(std::move(data));
    for (const char* part :
         {"a",  " ",    "\n",       " \n",       "\r\n ",    "\t ",  "'",        "'s", "1",  "1 ",
          "!",  " !\n", "\xCC\x81", "a\xCC\x81", "\xC2\xA0", "\xFF", "\xE2\x80", "a'", "A ", "\xF0\x9F\x98\x80",
          "<|", "ab "}) {
      CAPTURE(part);
      const auto long_text = repeated(part, 100'000);
      check_cost(cost_of([&] { static_cast<void>(vocabulary.encode(long_text)); }));
    }
  }
}

TEST_CASE("a piece of 100 KB is a token like any other") {
  // SP#1263: it overflowed a stack.
  auto data = byte_vocabulary();
  const std::string piece(100'000, 'z');
  const auto id = add_token(data, piece, text::token_type::user_defined);
  check_cost(cost_of([&] {
    const text::tokenizer vocabulary(std::move(data));
    CHECK(vocabulary.encode(piece + piece) == std::vector<std::int32_t>{id, id});
    CHECK(vocabulary.piece(id).size() == piece.size());
    CHECK(vocabulary.encode("zz!").size() == 3);
  }));
}

TEST_CASE("a piece of a null byte is right, and a vocabulary without some bytes is too") {
  // SP#1308 was too strict; openai/tiktoken#568 failed on the first byte without a token.
  const auto whole = byte_vocabulary();
  const text::tokenizer vocabulary(whole);
  CHECK(vocabulary.encode(std::string_view("a\0b", 3)).size() == 3);
  CHECK(vocabulary.piece(0) == std::string_view("\0", 1));
  text::tokenizer_data few;
  few.tokens = {"a", "b"};
  const text::tokenizer holes(std::move(few));
  CHECK(holes.missing_bytes().size() == 254);
  CHECK(holes.encode("acb") == std::vector<std::int32_t>{0, 1});
  text::encode_options strict;
  strict.missing = text::missing_byte_policy::refuse;
  CHECK_THROWS_AS(static_cast<void>(holes.encode("acb", strict)), runnel::config_error);
}

TEST_CASE("many merges that share their beginnings take no longer than their length") {
  std::string vocab, merges, token;
  for (int i = 0; i < 1500; ++i) {
    token += 'a';
    vocab += runnel::message(i == 0 ? "" : ",", '"', token, "\":", i);
    if (i > 0) merges += runnel::message(i == 1 ? "" : ",", "[\"", token.substr(1), "\",\"a\"]");
  }
  const auto json = runnel::message(R"({"model":{"type":"BPE","vocab":{)", vocab, R"(},"merges":[)", merges,
                                    R"(]},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false}})");
  check_cost(cost_of([&] {
    const text::tokenizer vocabulary(text::parse_tokenizer_json(json, "some.json"));
    CHECK(vocabulary.encode(std::string(3000, 'a')).size() <= 1500);
  }));
}

#if defined(__linux__)
TEST_CASE("a text of 2^31 bytes is refused before it is read") {
  // CVE-2025-52566: its length became negative. These bytes are only reserved; reading them would take them all.
  constexpr std::size_t size = std::size_t{1} << 31;
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const std::string_view huge(static_cast<const char*>(memory), size);
  const text::tokenizer vocabulary(byte_vocabulary());
  check_refused<runnel::limit_error>(
      {{"to tokens", [&] { static_cast<void>(vocabulary.encode(huge)); }, {"2147483648", "2147483647"}}});
  ::munmap(memory, size);
}
#endif

TEST_CASE("data formats that lie") {
  std::vector<hostile_case> cases;
  const auto add = [&](const char* about, std::string json, const char* part) {
    cases.push_back({about,
                     [json = std::move(json)] { static_cast<void>(text::parse_chat_format(json, "mine.json")); },
                     {"mine.json", part}});
  };
  add("nothing", "", "JSON");
  add("deep", R"({"source_prefix":)" + std::string(500'000, '['), "nested");
  add("very many strings", R"({"source_prefix":[)" + repeated("\"\",", 900'000) + "\"\"]}", "values");
  add("very many members", "{" + repeated("\"x\":1,", 20'000) + "\"x\":1}", "values");
  add("no instruction", R"({"source_prefix":"","target_prefix":""})", "{instruction}");
  check_refused(cases);
}

TEST_CASE("numbers out of all bounds, as arguments") {
  // CVE-2026-21869 (a negative count of entries to discard) and L#24786 (INT32_MAX).
  constexpr auto lowest = std::numeric_limits<std::int64_t>::min(), highest = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t int32 = std::numeric_limits<std::int32_t>::max();
  const auto model = runnel::tests::tiny_language(3);
  std::vector<hostile_case> cases;
  for (const std::int64_t number : {lowest, std::int64_t{-1}, std::int64_t{3}, int32, highest}) {
    cases.push_back({"truncate to " + std::to_string(number),
                     [&model, number] {
                       auto cache = model.network->make_cache();
                       cache.truncate(runnel::group::source, number);
                     },
                     {"truncate", std::to_string(number)}});
    cases.push_back({"commit " + std::to_string(number),
                     [&model, number] {
                       auto cache = model.network->make_cache();
                       cache.commit(runnel::group::target, number);
                     },
                     {"commit", std::to_string(number)}});
    cases.push_back({"rewind to " + std::to_string(number),
                     [&model, number] {
                       runnel::stream::session session(model, {});
                       static_cast<void>(session.rewind(number));
                     },
                     {std::to_string(number)}});
  }
  const auto option = [&](const char* name, std::function<void(runnel::stream::session_options&)> change) {
    cases.push_back({name,
                     [&model, change = std::move(change)] {
                       runnel::stream::session_options options;
                       change(options);
                       static_cast<void>(runnel::stream::session(model, std::move(options)));
                     },
                     {name}});
  };
  option("context", [](auto& o) { o.context = -1; });
  option("context", [](auto& o) { o.context = std::numeric_limits<std::int64_t>::min(); });
  option("max_tokens", [](auto& o) { o.max_tokens = std::numeric_limits<std::int64_t>::min(); });
  option("max_words", [](auto& o) { o.max_words = -1; });
  option("max_word_tokens", [](auto& o) { o.max_word_tokens = 0; });
  cases.push_back({"a token that is not there",
                   [&model] {
                     runnel::stream::session session(model, {});
                     const std::int32_t id = std::numeric_limits<std::int32_t>::max();
                     session.push_tokens(std::span(&id, 1));
                   },
                   {"2147483647"}});
  check_refused<runnel::config_error>(cases);
  runnel::stream::session_options options;
  options.context = options.max_tokens = options.max_words = options.max_word_tokens = highest;
  check_cost(cost_of([&] {
    runnel::stream::session session(model, options);
    session.push("ab");
    static_cast<void>(session.next());
  }));
}
