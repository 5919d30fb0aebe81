// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/train/pairs.hpp>

using namespace runnel;
using namespace runnel::train;

namespace {

/// Files that exist in memory only, given out in pieces of `piece` bytes.
struct memory_files {
  std::map<std::string, std::string> texts;
  std::size_t piece = 65536;

  [[nodiscard]] source_opener opener() const {
    return [this](const std::filesystem::path& path) -> byte_source {
      const auto found = texts.find(path.string());
      expect<io_error>(found != texts.end(), path.string(), ": there is none");
      return [rest = std::string_view(found->second), piece = piece](std::span<char> into) mutable {
        const std::size_t count = std::min({rest.size(), piece, into.size()});
        std::copy_n(rest.begin(), count, into.begin());
        rest.remove_prefix(count);
        return count;
      };
    };
  }
};

using pairs = std::vector<std::pair<std::string, std::string>>;

pairs all_of(pair_reader& reader) {
  pairs out;
  for (sentence_pair one; reader.next(one);) out.emplace_back(one.source, one.target);
  return out;
}

pairs read(const memory_files& files, const data_set& set) {
  pair_reader reader(set, files.opener());
  return all_of(reader);
}

data_set set_of(const std::string& file, const std::string& target = {}) {
  data_set set;
  set.name = "set";
  set.file = file;
  set.target_file = target;
  return set;
}

/// The message of what reading throws.
template <class Error>
std::string refusal(const memory_files& files, const data_set& set) {
  try {
    static_cast<void>(read(files, set));
  } catch (const Error& problem) {
    return problem.what();
  }
  return "nothing was thrown";
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("every format gives the same pairs, whatever pieces the bytes come in") {
  const pairs wanted{{"A man.", "Ein \"Mann\"."}, {"two [ ] } words", "zw\xC3\xB6lf\\ {"}, {"c", "d"}};
  memory_files files;
  files.texts["a.json"] =
      "\xEF\xBB\xBF [\n{\"source\": \"A man.\", \"target\": \"Ein \\\"Mann\\\".\", \"more\": [1, {\"x\": \"]}\"}]}\n,"
      "{\"target\":\"zw\\u00f6lf\\\\ {\",\"source\":\"two [ ] } words\"}, {\"source\":\"c\",\"target\":\"d\"} ]\r\n ";
  files.texts["a.jsonl"] =
      "{\"source\": \"A man.\", \"target\": \"Ein \\\"Mann\\\".\"}\n"
      "{\"target\":\"zw\\u00f6lf\\\\ {\",\"source\":\"two [ ] } words\"}\r\n{\"source\":\"c\",\"target\":\"d\"}";
  files.texts["a.tsv.gz"] =
      "\xEF\xBB\xBF"
      "A man.\tEin \"Mann\".\ntwo [ ] } words\tzw\xC3\xB6lf\\ {\tmore\r\nc\td\n";
  files.texts["a.en"] =
      "\xEF\xBB\xBF"
      "A man.\r\ntwo [ ] } words\r\nc";
  files.texts["a.de"] = "Ein \"Mann\".\nzw\xC3\xB6lf\\ {\nd\n";
  for (const std::size_t piece : {1U, 2U, 3U, 7U, 65536U}) {
    files.piece = piece;
    CHECK(read(files, set_of("a.json")) == wanted);
    CHECK(read(files, set_of("a.jsonl")) == wanted);
    CHECK(read(files, set_of("a.tsv.gz")) == wanted);
    CHECK(read(files, set_of("a.en", "a.de")) == wanted);
  }
}

TEST_CASE("keys, keys inside objects, and columns are the data set's") {
  memory_files files;
  files.texts["t"] = R"([{"translation": {"en": "a", "de": "b"}, "x.y": "c"}])";
  data_set set = set_of("t");
  set.format = pair_format::json;
  set.source_key = "translation.de";
  set.target_key = "x.y";
  CHECK(read(files, set) == pairs{{"b", "c"}});
  set.target_key = "translation.fr";
  CHECK(has(refusal<format_error>(files, set), "t: line 1"));
  CHECK(has(refusal<format_error>(files, set), "fr"));

  files.texts["u"] = "1\t2\t3\t4\n";
  set = set_of("u");
  set.format = pair_format::tsv;
  set.source_column = 4;
  set.target_column = 2;
  CHECK(read(files, set) == pairs{{"4", "2"}});
  set.target_column = 5;
  CHECK(refusal<format_error>(files, set) == "u: line 1: expected column 5, found 4 columns");
}

TEST_CASE("pairs that cannot be used are skipped and counted, or refused") {
  memory_files files;
  files.texts["a"] = "one\n\nthree\n \xC2\xA0\nf\xFFve\n123456\nseven\n1234567\n12345\r\n";
  files.texts["b"] = "1\n2\n \n4\n5\n6\n1234567\n8\n123456\n";
  data_set set = set_of("a", "b");
  set.most_bytes = 6;
  for (const std::size_t piece : {1U, 4U, 65536U}) {
    files.piece = piece;
    pair_reader reader(set, files.opener());
    CHECK(all_of(reader) == pairs{{"one", "1"}, {"123456", "6"}, {"12345", "123456"}});
    CHECK(reader.skipped() == skipped_pairs{3, 1, 2});
    CHECK(reader.skipped().total() == 6);
  }
  set.unusable = unusable_pair::refuse;
  CHECK(refusal<format_error>(files, set) == "a: line 5: the pair is not UTF-8");
  files.texts["a"].erase(files.texts["a"].find("\xFF"), 1);
  CHECK(refusal<format_error>(files, set) == "a: line 7: the pair is longer than 6 bytes");

  // In JSON, too, and what comes after an object that is too long is found again.
  files.texts["c.json"] = "[{\"source\":\"a\",\"target\":\"b\xFF\"},\n{\"source\":\"" + std::string(99, 'x') +
                          "}\",\"target\":\"b\"},{\"source\":\"1234567\",\"target\":\"b\"},"
                          "{\"source\":\"c\",\"target\":\"\\n\"},{\"source\":\"d\",\"target\":\"e\"}]";
  set = set_of("c.json");
  set.most_bytes = 9;
  pair_reader reader(set, files.opener());
  CHECK(all_of(reader) == pairs{{"1234567", "b"}, {"d", "e"}});
  CHECK(reader.skipped() == skipped_pairs{1, 1, 1});
}

TEST_CASE("two files of unequal length are an error that names both counts") {
  memory_files files;
  files.texts["long"] = "a\nb\nc\nd\n";
  files.texts["short"] = "a\nb\n";
  CHECK(refusal<format_error>(files, set_of("long", "short")) == "long has 4 lines and short has 2, expected as many");
  CHECK(refusal<format_error>(files, set_of("short", "long")) == "short has 2 lines and long has 4, expected as many");
}

TEST_CASE("files that are not what they should be are refused with their line") {
  memory_files files;
  const auto json = [&](const std::string& text) {
    files.texts["x.json"] = text;
    return refusal<format_error>(files, set_of("x.json"));
  };
  const std::string good = R"({"source": "a", "target": "b"})";
  CHECK(json("[" + good + "]") == "nothing was thrown");
  CHECK(json("[]") == "nothing was thrown");
  CHECK(json("") == "x.json: line 1: expected an array of objects, found the end of the file");
  CHECK(json("\n\n" + good) == "x.json: line 3: expected an array of objects, found '{'");
  CHECK(json("[" + good + "\n" + good + "]") == "x.json: line 2: expected ',' or ']', found '{'");
  CHECK(json("[" + good + ",]") == "x.json: line 1: expected an object, found ']'");
  CHECK(json("[" + good + ",\n3]") == "x.json: line 2: expected an object, found '3'");
  CHECK(json("[" + good + "\n") == "x.json: line 2: expected ',' or ']', found the end of the file");
  CHECK(json("[\n{\"source\": \"}\n") == "x.json: line 2: the object that begins here does not end");
  CHECK(json("[" + good + "] x") == "x.json: line 1: expected the end of the file after ']', found 'x'");
  CHECK(has(json("[" + good + ",\n\n{\"source\": \"a\"}]"), "x.json: line 3"));
  CHECK(has(json("[" + good + ",\n\n{\"source\": \"a\"}]"), "target"));
  CHECK(has(json("[\n{\"source\": 3, \"target\": \"b\"}]"), "source"));
  CHECK(has(json("[\n{\"source\" \"a\"}]"), "x.json: line 2"));
  CHECK(has(json("[{\"source\": \"a\", \"target\": null}]"), "target"));
  CHECK(has(json("[{\"source\": " + std::string(100000, '[') + std::string(100000, ']') + "}]"), "x.json"));

  files.texts["x.jsonl"] = good + "\n[1]\n";
  CHECK(has(refusal<format_error>(files, set_of("x.jsonl")), "x.jsonl: line 2"));
  files.texts["x.jsonl"] = good + "\n{\"source\": \"a\"\n";
  CHECK(has(refusal<format_error>(files, set_of("x.jsonl")), "x.jsonl: line 2"));
  files.texts["x.tsv"] = "a\tb\n\nc\n";
  CHECK(refusal<format_error>(files, set_of("x.tsv")) == "x.tsv: line 3: expected column 2, found 1 column");
  CHECK(has(refusal<io_error>(files, set_of("none.tsv")), "none.tsv"));
}

TEST_CASE("options that make no sense are refused") {
  const memory_files files;
  const auto refused = [&](auto&& change) {
    data_set set = set_of("a.tsv");
    change(set);
    return refusal<config_error>(files, set) != "nothing was thrown";
  };
  CHECK(refused([](data_set& set) { set.file.clear(); }));
  CHECK(refused([](data_set& set) { set.file = "a.txt"; }));
  CHECK(refused([](data_set& set) { set.source_column = 0; }));
  CHECK(refused([](data_set& set) { set.most_bytes = 0; }));
  CHECK(refused([](data_set& set) { set.format = pair_format::lines; }));
  CHECK(refused([](data_set& set) {
    set.format = pair_format::tsv;
    set.target_file = "b";
  }));
  CHECK_THROWS_AS(static_cast<void>(find_pair_format("xml")), config_error);
  CHECK(find_pair_format("jsonl") == pair_format::jsonl);
}

TEST_CASE("plain files are read from disk; folders and missing files are errors") {
  const auto path = std::filesystem::temp_directory_path() / "runnel_pairs_test.tsv";
  std::string text;
  for (int i = 0; i < 20000; ++i) text += message("source ", i, "\ttarget ", i, '\n');
  std::ofstream(path, std::ios::binary) << text;
  data_set set = set_of(path.string());
  pair_reader reader(set);
  const auto found = all_of(reader);
  std::filesystem::remove(path);
  REQUIRE(found.size() == 20000);
  CHECK(found[19999] == std::pair<std::string, std::string>{"source 19999", "target 19999"});
  set.file = std::filesystem::temp_directory_path();
  set.format = pair_format::tsv;
  CHECK_THROWS_AS(pair_reader{set}, io_error);
  set.file = path;
  CHECK_THROWS_AS(pair_reader{set}, io_error);
}
