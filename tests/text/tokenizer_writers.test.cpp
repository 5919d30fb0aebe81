// SPDX-License-Identifier: Apache-2.0
// Vocabularies written as GGUF metadata and as tokenizer.json, and read back: the same ids for every text, or a
// refusal.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_gguf_writer.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>

#include "support.hpp"

namespace text = runnel::text;
namespace io = runnel::io;
using nlohmann::json;
using runnel_test::failure;
using runnel_test::holds;
using text::token_type;
using text::tokenizer_data;
using ids = std::vector<std::int32_t>;

namespace {

tokenizer_data through_json(const tokenizer_data& data) {
  const runnel_test::scratch_folder folder;
  text::write_tokenizer_json(data, folder.path());
  return text::read_tokenizer(folder.path());
}

tokenizer_data through_gguf(const tokenizer_data& data, const text::gguf_tokenizer_options& options = {}) {
  io::gguf_writer out;
  out.set("general.architecture", options.architecture.empty() ? "llama" : options.architecture);
  const auto lost = text::write_tokenizer_gguf(data, out, options);
  CHECK(lost.empty() == !options.lossy);
  const runnel_test::scratch_folder folder;
  out.write(folder / "model.gguf");
  return text::read_tokenizer_gguf(io::gguf_file(folder / "model.gguf"));
}

/// The same without a file, as its ids go.
text::tokenizer from_text_of(const tokenizer_data& data) {
  return text::tokenizer(text::parse_tokenizer_json(text::tokenizer_json(data), "written"));
}

/// What files say of a vocabulary beside its tokens.
void check_same_facts(const text::tokenizer& a, const text::tokenizer& b) {
  CHECK(a.bos() == b.bos());
  CHECK(a.unknown() == b.unknown());
  CHECK(a.padding() == b.padding());
  CHECK(std::ranges::equal(a.eos_ids(), b.eos_ids()));
  CHECK(a.adds_bos() == b.adds_bos());
  CHECK(a.normalizes_nfc() == b.normalizes_nfc());
  CHECK(a.prefix() == b.prefix());
  CHECK(a.strips_leading_space() == b.strips_leading_space());
  CHECK(a.chat_template() == b.chat_template());
  CHECK(a.missing_bytes() == b.missing_bytes());
  CHECK(a.pre_tokenizer() == b.pre_tokenizer());
}

/// The first text that two vocabularies take for different ids, special tokens as text and parsed; or "".
std::string first_difference(const text::tokenizer& a, const text::tokenizer& b,
                             const std::vector<std::string>& texts) {
  text::encode_options parsing, nothing;
  parsing.parse_special = true;
  nothing.parse_user_defined = false;
  for (const auto& one : texts) {
    for (const auto& options : {text::encode_options{}, parsing, nothing}) {
      const auto found = a.encode(one, options);
      if (found != b.encode(one, options) || a.decode(found) != b.decode(found)) return "text: " + one;
    }
  }
  return {};
}

const std::vector<std::string>& texts() {
  static const auto all = [] {
    std::vector<std::string> out = runnel_test::corpus();
    for (const auto& line : runnel_test::golden_lines("sentences.jsonl")) {
      out.push_back(json::parse(line)[0].get<std::string>());
    }
    std::mt19937 random(3);
    for (int i = 0; i < 300; ++i) out.push_back(runnel_test::random_bytes(random, random() % 50));
    return out;
  }();
  return all;
}

tokenizer_data from_json(const std::string& name) {
  return text::read_tokenizer_json(runnel_test::text_golden(name) / "tokenizer.json");
}

tokenizer_data from_model(const std::string& name) {
  return text::read_tokenizer_model(runnel_test::text_golden(name) / "tokenizer.model");
}

/// llama2's tokenizer.json with Metaspace in place of its normaliser.
tokenizer_data with_metaspace(const std::string& scheme, bool split) {
  auto root = json::parse(runnel_test::content(runnel_test::text_golden("llama2") / "tokenizer.json"));
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", split}};
  return text::parse_tokenizer_json(root.dump(), "metaspace");
}

std::vector<std::pair<std::string, tokenizer_data>> golden_vocabularies() {
  std::vector<std::pair<std::string, tokenizer_data>> out;
  for (const std::string name : runnel_test::vocabulary_names) out.emplace_back(name, from_json(name));
  for (const std::string name : {"llama2", "gemma"}) {
    out.emplace_back(name + " (merges)", from_json(name));
    out.emplace_back(name + " (scores)", from_model(name));
  }
  return out;
}

/// What GGUF can say of it.
tokenizer_data without_rules(tokenizer_data data) {
  data.added_rules.clear();
  return data;
}

/// A Tiktoken-style vocabulary of the letters a and b, spaces, and random strings of them.
tokenizer_data random_ranks(std::mt19937& random) {
  auto data = runnel_test::byte_vocabulary();
  std::set<std::string> more;
  const std::size_t count = 4 + random() % 40;
  while (more.size() < count) {
    std::string token;
    for (std::size_t i = 2 + random() % 5; i > 0; --i) token += "ab"[random() % 2];
    more.insert(token);
  }
  std::vector<std::string> ranked(more.begin(), more.end());
  std::shuffle(ranked.begin(), ranked.end(), random);
  for (const auto& token : ranked) data.tokens.push_back(token);
  data.types.assign(data.tokens.size(), token_type::normal);
  for (std::size_t id = 0; id < data.tokens.size(); ++id) data.scores.push_back(-static_cast<float>(id));
  data.leftmost_ties = true;
  return data;
}

/// A SentencePiece vocabulary of a, b and U+2581 with tokens of random strings, some with merges, in random order.
tokenizer_data random_pieces(std::mt19937& random, bool with_merges) {
  tokenizer_data data;
  data.source_name = "pieces";
  data.form = text::vocabulary_form::sentence_piece;
  data.tokens = {"<unk>", "a", "b", "\u2581"};
  data.types = {token_type::unknown, token_type::normal, token_type::normal, token_type::normal};
  std::set<std::string> known{"a", "b", "\u2581"};
  const std::size_t count = 4 + random() % 24;
  while (known.size() < 3 + count) {
    std::string token;
    for (std::size_t i = 2 + random() % 3; i > 0; --i) token += std::array{"a", "b", "\u2581"}[random() % 3];
    if (known.insert(token).second) data.tokens.push_back(token);
  }
  data.types.resize(data.tokens.size(), token_type::normal);
  data.unknown = data.missing_byte = 0;
  data.fuse_missing = true;
  if (!with_merges) {
    for (std::size_t id = 0; id < data.tokens.size(); ++id) {
      data.scores.push_back(static_cast<float>(random() % 8));  // many are equal
    }
    return data;
  }
  for (const auto& token : data.tokens) {
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = token.substr(0, cut), right = token.substr(cut);
      if (known.contains(left) && known.contains(right) && random() % 4 != 0) data.merges.emplace_back(left, right);
    }
  }
  std::shuffle(data.merges.begin(), data.merges.end(), random);
  return data;
}

std::vector<std::string> random_words(std::mt19937& random, const char* letters, std::size_t num_letters) {
  std::vector<std::string> out;
  for (int i = 0; i < 60; ++i) {
    std::string word;
    for (std::size_t k = random() % 14; k > 0; --k) word += letters[random() % num_letters];
    out.push_back(word);
  }
  return out;
}

void add_rule(tokenizer_data& data, std::int32_t id, bool left, bool right, bool normalized, bool word) {
  data.added_rules.push_back({id, left, right, normalized, word});
}

}  // namespace

TEST_CASE("tokenizer.json: the golden vocabularies come back, whatever they were read from") {
  for (const auto& vocabulary : golden_vocabularies()) {
    const auto& data = vocabulary.second;
    CAPTURE(vocabulary.first);
    const text::tokenizer before(data), after(through_json(data));
    CHECK(before.vocabulary_size() == after.vocabulary_size());
    check_same_facts(before, after);
    CHECK(first_difference(before, after, texts()) == "");
  }
  for (const auto& way : {std::pair("first", false), {"always", true}, {"always", false}, {"never", true}}) {
    CAPTURE(way.first);
    const auto data = with_metaspace(way.first, way.second);
    const text::tokenizer before(data), after(through_json(data));
    check_same_facts(before, after);
    CHECK(first_difference(before, after, texts()) == "");
  }
}

TEST_CASE("GGUF: the golden vocabularies come back, but for rules of added tokens") {
  for (const auto& vocabulary : golden_vocabularies()) {
    const auto& whole = vocabulary.second;
    CAPTURE(vocabulary.first);
    const auto data = without_rules(whole);
    const text::tokenizer before(data), after(through_gguf(data));
    CHECK(before.vocabulary_size() == after.vocabulary_size());
    check_same_facts(before, after);
    CHECK(first_difference(before, after, texts()) == "");
    if (whole.added_rules.empty()) continue;
    const auto problem = failure<runnel::config_error>([&] { static_cast<void>(through_gguf(whole)); });
    CHECK_MESSAGE(holds(problem, "GGUF cannot say that the added token '"), problem);
    text::gguf_tokenizer_options lossy;
    lossy.lossy = true;
    const text::tokenizer left(through_gguf(whole, lossy));
    CHECK(first_difference(before, left, texts()) == "");
  }
}

TEST_CASE("from one form to the other and on: nothing wears off") {
  for (const auto& vocabulary : golden_vocabularies()) {
    const auto& whole = vocabulary.second;
    CAPTURE(vocabulary.first);
    const auto data = without_rules(whole);
    const auto last = through_gguf(through_json(through_gguf(data)));
    const text::tokenizer before(data), after(last);
    check_same_facts(before, after);
    CHECK(first_difference(before, after, texts()) == "");
    // What is written of what was written is the same text.
    CHECK(text::tokenizer_json(through_json(last)) == text::tokenizer_json(last));
  }
}

TEST_CASE("ranks of Tiktoken, however odd, become merges of the same ids") {
  std::mt19937 random(17);
  for (int round = 0; round < 300; ++round) {
    auto data = random_ranks(random);
    data.ignore_merges = round % 2 == 0;
    const auto words = random_words(random, "aabb ", 5);
    CHECK(first_difference(text::tokenizer(data), from_text_of(data), words) == "");
    if (round % 8 > 1) continue;  // files are slow
    data.pre_tokenizer = data.ignore_merges ? text::pre_tokenizer_kind::llama3 : text::pre_tokenizer_kind::gpt2;
    CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_gguf(data)), words) == "");
  }
}

TEST_CASE("scores of SentencePiece become merges, and merges scores, however odd") {
  std::mt19937 random(23);
  for (int round = 0; round < 600; ++round) {
    const auto data = random_pieces(random, round % 2 == 0);
    const auto words = random_words(random, "aabb x", 6);
    const text::tokenizer before(data);
    CHECK(first_difference(before, from_text_of(data), words) == "");
    if (round % 8 < 2) CHECK(first_difference(before, text::tokenizer(through_gguf(data)), words) == "");
  }
  auto data = random_pieces(random, true);
  runnel_test::add_token(data, std::string(2000, 'a'), token_type::normal);
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_gguf(data)), {"abab"}) == "");  // never made
  data.merges.clear();
  for (std::size_t length = 2; length <= 2048; length *= 2) {
    if (std::find(data.tokens.begin(), data.tokens.end(), std::string(length, 'a')) == data.tokens.end()) {
      runnel_test::add_token(data, std::string(length, 'a'), token_type::normal);
    }
    data.merges.emplace_back(std::string(length / 2, 'a'), std::string(length / 2, 'a'));
  }
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_json(data)), {std::string(5000, 'a')}) == "");
  const auto problem = failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data)); });
  CHECK_MESSAGE(holds(problem, "GGUF, which has scores in place of merges: pieces: "), problem);
}

TEST_CASE("tokens of any characters") {
  const std::vector<std::string> odd{"\"",        "\\",      "\\n",     "a\nb",   "\t",           std::string("\0", 1),
                                     "\x1F\x7F",  "</s>",    "\u2028",  "\u2581", "\U0001F600",   "\xEF\xBB\xBF",
                                     "{\"a\":1}", "\u0120a", "a b  c ", " ",      "\u00e9\u0301", "<0x0A>",
                                     "'"};
  auto bytes = runnel_test::byte_vocabulary({"\"\"", "\\\\", " \n", "ab", "\x01\x02"});
  auto pieces = from_json("llama2");
  pieces.added_rules.clear();
  std::vector<std::string> words;
  for (const auto& one : odd) {
    const bool is_known = std::find(bytes.tokens.begin(), bytes.tokens.end(), one) != bytes.tokens.end();
    if (!is_known)
      runnel_test::add_token(bytes, one, words.size() % 2 == 0 ? token_type::control : token_type::user_defined);
    const bool is_piece = std::find(pieces.tokens.begin(), pieces.tokens.end(), one) != pieces.tokens.end();
    if (!is_piece) runnel_test::add_token(pieces, one);
    words.push_back(one);
    words.push_back("x" + one + one + "y ab \x01\x02\"\"\\\\ \n");
    words.push_back(one + " " + one);
  }
  bytes.chat_template = "{% for \"m\" in\tx %}\n\\ \u00e9 \x01";
  for (const auto& data : {bytes, pieces}) {
    const text::tokenizer before(data), json_after(through_json(data)), gguf_after(through_gguf(data));
    check_same_facts(before, json_after);
    check_same_facts(before, gguf_after);
    CHECK(first_difference(before, json_after, words) == "");
    CHECK(first_difference(before, gguf_after, words) == "");
    for (const auto& one : odd) CHECK(json_after.find(one) == before.find(one));
    CHECK(json::accept(text::tokenizer_json(data)));
  }
}

TEST_CASE("rules of added tokens survive in tokenizer.json") {
  std::mt19937 random(5);
  for (const std::string name : {"gpt2", "llama2", "gemma"}) {
    CAPTURE(name);
    auto data = from_json(name);
    data.added_rules.clear();
    std::vector<std::string> words;
    for (int flags = 0; flags < 16; ++flags) {
      const std::string token = "<" + std::string(1, static_cast<char>('A' + flags)) + " x>";
      const auto id =
          runnel_test::add_token(data, token, flags % 3 == 0 ? token_type::user_defined : token_type::control);
      add_rule(data, id, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0);
      add_rule(data, id, true, true, true, true);  // the first rule of a token counts
      for (const char* around : {"", " ", "  \n", "a", "\u00e9"})
        words.push_back("b" + (around + token) + around + "c");
    }
    const auto after = through_json(data);
    const auto before_rules = text::detail::effective_rules(data.added_rules, data.types);
    CHECK(before_rules.size() == 15);
    CHECK(text::detail::effective_rules(after.added_rules, after.types).size() == 15);
    CHECK(first_difference(text::tokenizer(data), text::tokenizer(after), words) == "");
  }
}

TEST_CASE("holes, twins and unused tokens") {
  auto data = runnel_test::byte_vocabulary({"ab", "abc"});
  data.tokens.insert(data.tokens.end(), {"", "ab", "<unused>", "[PAD258]", ""});
  data.types.insert(data.types.end(), {token_type::unused, token_type::unused, token_type::unused, token_type::control,
                                       token_type::normal});
  const text::tokenizer before(data);
  text::gguf_tokenizer_options options;
  options.num_tokens = 300;
  const auto gguf = through_gguf(data, options);
  CHECK(gguf.tokens.size() == 300);
  CHECK(std::set<std::string>(gguf.tokens.begin(), gguf.tokens.end()).size() == 300);
  CHECK(gguf.tokens[258] == "[PAD258]_");
  CHECK(gguf.tokens[259] == "[PAD259]");
  CHECK(gguf.tokens[260] == "<unused>");
  CHECK(gguf.tokens[299] == "[PAD299]");
  CHECK(gguf.types[299] == token_type::unused);
  CHECK(gguf.types[262] == token_type::unused);
  const std::vector<std::string> words{"abcab", "[PAD258]", "<unused> ab", "[PAD259]"};
  CHECK(first_difference(before, text::tokenizer(gguf), words) == "");
  const auto back = through_json(gguf);
  CHECK(back.tokens.size() == 300);
  CHECK(first_difference(before, text::tokenizer(back), words) == "");
  CHECK(first_difference(before, text::tokenizer(through_json(data)), words) == "");
  // The twin that is used keeps the name, also where it comes second.
  auto twins = runnel_test::byte_vocabulary({"ab"});
  twins.types[static_cast<std::size_t>('q')] = token_type::unused;
  twins.tokens.push_back("q");
  twins.types.push_back(token_type::normal);
  const text::tokenizer second(twins);
  CHECK(second.encode("q") == ids{257});
  CHECK(text::tokenizer(through_gguf(twins)).encode("qab") == ids{257, 256});
  CHECK(text::tokenizer(through_json(twins)).encode("qab") == ids{257, 256});
  // With ignore_merges a piece that is an unused token must not become it.
  auto whole = runnel_test::byte_vocabulary();
  whole.tokens.push_back("abc");
  whole.types.push_back(token_type::unused);
  whole.ignore_merges = true;
  whole.pre_tokenizer = text::pre_tokenizer_kind::llama3;
  CHECK(text::tokenizer(through_json(whole)).encode("abc") == ids{97, 98, 99});
  CHECK(text::tokenizer(through_gguf(whole)).encode("abc") == ids{97, 98, 99});
}

TEST_CASE("markup beyond the network's rows is left out of GGUF files, anything else is refused") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  const auto end = runnel_test::add_token(data, "<end>");
  const auto image = runnel_test::add_token(data, "<image>");
  data.padding = runnel_test::add_token(data, "<pad>");
  data.eos_ids = {end, image};
  add_rule(data, image, true, false, false, false);
  text::gguf_tokenizer_options options;
  options.num_tokens = 258;
  const auto after = through_gguf(data, options);
  CHECK(after.tokens.size() == 258);
  CHECK(after.eos_ids == ids{end});
  CHECK_FALSE(after.padding.has_value());
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(after), {"abab<end>", "a b"}) == "");
  options.num_tokens = 256;
  const auto problem = failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data, options)); });
  CHECK_MESSAGE(holds(problem, "bytes: token 256 ('ab') is more than markup, but the network has only 256"), problem);
}

TEST_CASE("ids of special tokens") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  for (const char* name : {"<a>", "<b>", "<c>", "<d>", "<e>"}) runnel_test::add_token(data, name);
  data.bos = 257;
  data.unknown = 258;
  data.padding = 259;
  data.add_bos = true;
  data.eos_ids = {261, 260, 261, 257};
  for (const auto& after : {through_json(data), through_gguf(data)}) {
    check_same_facts(text::tokenizer(data), text::tokenizer(after));
    CHECK(after.eos_ids.front() == 261);  // the one that stands first elsewhere
  }
  data.add_bos = false;
  for (const auto& after : {through_json(data), through_gguf(data)}) {
    check_same_facts(text::tokenizer(data), text::tokenizer(after));
  }
  const runnel_test::scratch_folder folder;
  text::write_tokenizer_json(data, folder.path());
  CHECK(json::parse(runnel_test::content(folder / "generation_config.json")).at("eos_token_id") ==
        json({261, 260, 257}));
  data.eos_ids = {260};
  const runnel_test::scratch_folder other;
  text::write_tokenizer_json(data, other.path());
  CHECK_FALSE(std::filesystem::exists(other / "generation_config.json"));
  data.eos_ids = {257, 258, 259, 260};
  CHECK(text::tokenizer(through_json(data)).eos_ids().size() == 4);
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data)); }), "4 tokens end a text"));
}

TEST_CASE("unknown tokens stand for missing bytes where the format can say so") {
  auto data = runnel_test::byte_vocabulary();
  data.types[static_cast<std::size_t>('q')] = token_type::unused;
  data.tokens[static_cast<std::size_t>('q')] = "";
  const auto unknown = runnel_test::add_token(data, "<unk>");
  const std::vector<std::string> words{"aqqb", "q", "<unk>"};
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_gguf(data)), words) == "");
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_json(data)), words) == "");
  data.missing_byte = data.unknown = unknown;
  for (const bool fuse : {false, true}) {
    data.fuse_missing = fuse;
    const text::tokenizer before(data);
    CHECK(before.encode("aqqb") == (fuse ? ids{97, unknown, 98} : ids{97, unknown, unknown, 98}));
    CHECK(first_difference(before, text::tokenizer(through_json(data)), words) == "");
    CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data)); }),
                "bytes without a token become '<unk>'"));
  }
  std::mt19937 random(1);
  auto pieces = random_pieces(random, false);
  CHECK(first_difference(text::tokenizer(pieces), text::tokenizer(through_gguf(pieces)), {"axxb", "x a"}) == "");
  pieces.fuse_missing = false;
  CHECK(first_difference(text::tokenizer(pieces), text::tokenizer(through_json(pieces)), {"axxb", "x a"}) == "");
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(through_gguf(pieces)); }),
              "gives an unknown token each"));
}

TEST_CASE("Phi-3's rules are known by architecture and name") {
  auto data = without_rules(from_model("llama2"));
  for (const char* name : {"<|endoftext|>", "<|assistant|>", "<|end|>"}) {
    data.scores.push_back(-std::numeric_limits<float>::infinity());
    if (std::find(data.tokens.begin(), data.tokens.end(), name) != data.tokens.end()) {
      data.scores.pop_back();
      continue;
    }
    runnel_test::add_token(data, name);
  }
  text::gguf_tokenizer_options options;
  options.architecture = "phi3";
  options.name = "mini";
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data, options)); }), "Phi-3"));
  data.added_rules = text::detail::phi3_rules(data.tokens, data.types);
  CHECK(data.added_rules.size() > 3);
  const std::vector<std::string> words{"<|end|> \n a", "a <s> b</s>  c", "<|user|>\nHello<|endoftext|> x"};
  CHECK(first_difference(text::tokenizer(data), text::tokenizer(through_gguf(data, options)), words) == "");
  const auto name_of = [&](const tokenizer_data& from) {
    io::gguf_writer out;
    out.set("general.architecture", options.architecture);
    auto lossy = options;
    lossy.lossy = true;
    static_cast<void>(text::write_tokenizer_gguf(from, out, lossy));
    const runnel_test::scratch_folder folder;
    out.write(folder / "model.gguf");
    return io::gguf_file(folder / "model.gguf").get_or<std::string>("general.name", {});
  };
  CHECK(name_of(data) == "Phi-3 mini");
  CHECK(name_of(runnel_test::byte_vocabulary()) == "mini");
  options.name = "my Phi3";
  CHECK(name_of(data) == "my Phi3");
  CHECK(name_of(runnel_test::byte_vocabulary()).empty());
}

TEST_CASE("what GGUF cannot say is refused, or named when it is left out") {
  using change = std::function<void(tokenizer_data&)>;
  const auto pieces = without_rules(from_json("llama2"));
  const auto bytes = runnel_test::byte_vocabulary({"ab", " b"});
  const std::vector<std::pair<std::pair<const tokenizer_data*, change>, std::string>> cases{
      {{&pieces, [](auto& d) { d.nfc = true; }}, "text is brought to normalization form C"},
      {{&pieces, [](auto& d) { d.prefix = text::space_prefix::first_run; }}, "in front of the first word only"},
      {{&pieces, [](auto& d) { d.prefix = text::space_prefix::each_run; }}, "in front of text only where it has none"},
      {{&pieces, [](auto& d) { d.strip_leading_space = false; }}, "decoded text keeps a space in front"},
      {{&pieces, [](auto& d) { d.prefix = text::space_prefix::none; }}, "decoded text loses a space in front"},
      {{&pieces, [](auto& d) { d.split_spaces = true; }}, "no merge goes on into a space"},
      {{&bytes, [](auto& d) { d.nfc = true; }}, "normalization form C with the pre-tokenizer gpt-2"},
      {{&bytes,
        [](auto& d) {
          d.ignore_merges = true;
          d.merges.pop_back();
        }},
       "a piece of text that is a token is that token"},
      {{&bytes,
        [](auto& d) {
          d.pre_tokenizer = text::pre_tokenizer_kind::llama3;
          d.merges.pop_back();
        }},
       "a piece of text that is a token is merged like any other"},
  };
  for (const auto& [of, expected] : cases) {
    auto data = *of.first;
    of.second(data);
    const auto problem = failure<runnel::config_error>([&] { static_cast<void>(through_gguf(data)); });
    CHECK_MESSAGE(holds(problem, data.source_name + ": GGUF cannot say that "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
    io::gguf_writer out;
    text::gguf_tokenizer_options lossy;
    lossy.lossy = true;
    const auto lost = text::write_tokenizer_gguf(data, out, lossy);
    REQUIRE(lost.size() == 1);
    CHECK(holds(lost[0], expected));
  }
  // What makes no difference is no loss.
  auto same = bytes;
  same.ignore_merges = true;
  CHECK(text::tokenizer(through_gguf(same)).encode("ab b") == ids{256, 257});
  same.pre_tokenizer = text::pre_tokenizer_kind::qwen2;
  for (const bool nfc : {false, true}) {
    same.nfc = nfc;
    CHECK(text::tokenizer(through_gguf(same)).normalizes_nfc() == nfc);
  }
  auto parted = bytes;
  parted.tokens.push_back("x y");
  parted.tokens.push_back("x yab");
  parted.types.resize(parted.tokens.size(), token_type::normal);
  parted.merges.emplace_back("x y", "ab");
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(through_gguf(parted)); }), "a space would part"));
}

TEST_CASE("what tokenizer.json cannot say is refused, before anything is written") {
  using change = std::function<void(tokenizer_data&)>;
  const auto bytes = runnel_test::byte_vocabulary({"ab"});
  const auto pieces = from_json("gemma");
  const std::vector<std::pair<std::pair<const tokenizer_data*, change>, std::string>> cases{
      {{&pieces, [](auto& d) { d.collapse_spaces = true; }}, "runs of spaces are one"},
      {{&pieces,
        [](auto& d) {
          d.prefix = text::space_prefix::each_segment;
          d.split_spaces = true;
        }},
       "no merge goes on into one"},
      {{&bytes, [](auto& d) { d.bos = 97; }}, "its bos token 97 is ordinary text, but 'a' is"},
      {{&bytes, [](auto& d) { d.eos_ids = {98}; }}, "its eos token 98"},
      {{&bytes, [](auto& d) { d.padding = 33; }}, "its padding token 33"},
      {{&bytes, [](auto& d) { d.unknown = 33; }}, "its unknown token 33"},
      {{&bytes,
        [](auto& d) {
          d.tokens.push_back("<0x0A>");
          d.types.push_back(token_type::byte);
        }},
       "is a byte beside GPT-2's alphabet"},
      {{&pieces, [](auto& d) { runnel_test::add_token(d, "<0x0a>", token_type::normal); }}, "is text and no byte"},
      {{&pieces, [](auto& d) { runnel_test::add_token(d, "  ", token_type::normal); }}, "one of two that are both"},
      {{&bytes,
        [](auto& d) {
          d.tokens.resize(70000);
          d.types.resize(70000, token_type::unused);
        }},
       "ids have no token"},
  };
  for (const auto& [of, expected] : cases) {
    auto data = *of.first;
    of.second(data);
    const runnel_test::scratch_folder folder;
    const auto problem = failure<runnel::config_error>([&] { text::write_tokenizer_json(data, folder.path()); });
    CHECK_MESSAGE(holds(problem, data.source_name + ": tokenizer.json cannot say that "), problem);
    CHECK_MESSAGE(holds(problem, expected), problem);
    CHECK(std::filesystem::is_empty(folder.path()));
  }
}

TEST_CASE("vocabularies that are none, tokens that are not UTF-8, and folders that are not there") {
  auto data = runnel_test::byte_vocabulary({"ab"});
  io::gguf_writer out;
  runnel_test::add_token(data, "bad\xFF");
  CHECK(holds(failure<runnel::config_error>([&] { static_cast<void>(text::tokenizer_json(data)); }),
              "bytes: token 257 is not UTF-8"));
  CHECK(holds(failure<runnel::config_error>([&] { text::write_tokenizer_gguf(data, out); }), "token 257 is not UTF-8"));
  data = runnel_test::byte_vocabulary({"ab"});
  data.chat_template = "\xC3";
  const runnel_test::scratch_folder folder;
  CHECK_THROWS_AS(text::write_tokenizer_json(data, folder.path()), runnel::config_error);
  CHECK(std::filesystem::is_empty(folder.path()));
  data.chat_template.clear();
  CHECK(holds(failure<runnel::io_error>([&] { text::write_tokenizer_json(data, folder / "none"); }), "none"));
  data.merges.emplace_back("a", "none");
  CHECK_THROWS_AS(static_cast<void>(text::tokenizer_json(data)), runnel::format_error);
  CHECK_THROWS_AS(text::write_tokenizer_gguf(data, out), runnel::format_error);
}

TEST_CASE("spaces in tokens of GGUF files are U+2581 in tokenizer.json") {
  // As converters write Gemma: user-defined runs of spaces are plain ones.
  auto data = without_rules(from_model("gemma"));
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != token_type::user_defined) continue;
    std::string plain;
    text::detail::append_with_spaces(plain, data.tokens[id]);
    data.tokens[id] = plain;
  }
  const text::tokenizer before(data), after(through_json(data));
  std::vector<std::string> words;
  for (const auto& one : texts()) {
    if (one.find("\u2581") == std::string::npos) words.push_back(one);
  }
  for (std::size_t spaces = 1; spaces < 30; ++spaces) words.push_back("a" + std::string(spaces, ' ') + "b\n");
  text::encode_options parsing;
  parsing.parse_special = true;
  for (const auto& one : words) CHECK_MESSAGE(before.encode(one, parsing) == after.encode(one, parsing), one);
  CHECK(after.find("\u2581\u2581").has_value());
}
