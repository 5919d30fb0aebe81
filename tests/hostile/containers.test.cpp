// SPDX-License-Identifier: Apache-2.0
// GGUF, safetensors and npy files that lie, and files with very many names. What each field may say is tested beside
// the readers, in tests/io.
#include "hostile.hpp"

#include <runnel/io/gguf.hpp>
#include <runnel/io/npy.hpp>
#include <runnel/io/safetensors.hpp>

namespace {

using namespace runnel_test;
using runnel::io::gguf_file;
using runnel::io::safetensors_file;

void read_gguf(const std::string& bytes) { static_cast<void>(gguf_file(in_memory(bytes, "some.gguf"))); }

hostile_case gguf_case(std::string about, std::vector<std::string> parts, const gguf_builder& builder) {
  parts.emplace_back("some.gguf: ");
  return {std::move(about), [bytes = builder.build()] { read_gguf(bytes); }, std::move(parts)};
}

gguf_builder with(const std::function<void(gguf_builder&)>& change) {
  gguf_builder out;
  out.string("general.architecture", "llama");
  change(out);
  return out;
}

constexpr std::uint64_t most = ~std::uint64_t{0};

}  // namespace

TEST_CASE("GGUF headers and metadata") {
  const auto array = [](std::uint32_t type, std::uint64_t length, const byte_builder& elements) {
    return with([&](auto& b) { b.array("k", type, length, elements); });
  };
  const auto text_of_length = [](std::uint64_t length) {
    return with([&](auto& b) { b.entry("k", 8, byte_builder().number(length).raw("abc")); });
  };
  std::vector<hostile_case> cases{
      // CVE-2024-23496: the length of a string. CVE-2024-21825: that of an array of strings.
      gguf_case("a string of 2^64 - 1 bytes", {"'k'", "string"}, text_of_length(most)),
      gguf_case("a string of 2^63 bytes", {"'k'", "string"}, text_of_length(std::uint64_t{1} << 63)),
      gguf_case("a string whose length and terminator wrap", {"'k'", "string"}, text_of_length(most - 8)),
      gguf_case("a string of 1 GiB in 160 bytes (ggml#1516)", {"'k'", "1073741824"}, text_of_length(1u << 30)),
      gguf_case("a token of 2^31 bytes (CVE-2025-49847)", {"'k'", "string"},
                array(8, 1, byte_builder().number(std::uint64_t{1} << 31))),
      gguf_case("an array of 2^64 - 1 strings", {"'k'", "array"}, array(8, most, byte_builder().string("a"))),
      gguf_case("an array whose strings wrap", {"'k'", "array"},
                array(8, (std::uint64_t{1} << 60) + 1, byte_builder().string("a"))),
      gguf_case("an array of 2^62 numbers", {"'k'", "array"},
                array(4, std::uint64_t{1} << 62, byte_builder().zeros(8))),
      gguf_case("an array of 2^64 - 1 bytes", {"'k'", "array"}, array(0, most, byte_builder().zeros(8))),
      // CVE-2024-21836, -23605 (n_tensors, n_kv).
      gguf_case("2^64 - 1 entries", {"metadata entries"}, with([](auto& b) { b.more_entries = -2; })),
      gguf_case("2^58 entries, whose bytes wrap", {"metadata entries"},
                with([](auto& b) { b.more_entries = std::int64_t{1} << 58; })),
      gguf_case("2^64 - 1 tensors", {"tensors"}, with([](auto& b) { b.more_tensors = -1; })),
      gguf_case("2^59 tensors, whose bytes wrap", {"tensors"},
                with([](auto& b) { b.more_tensors = std::int64_t{1} << 59; })),
      // CVE-2024-32878, CVE-2024-41130: the file ends among its entries.
      gguf_case("an entry that is not there", {"key"},
                with([](auto& b) { b.uint32("another.key.of.some.length", 1).more_entries = 1; })),
      gguf_case("an empty key (L#24263)", {"empty"}, with([](auto& b) { b.uint32("", 1).uint32("k", 1); })),
      gguf_case("a key of 1 MiB", {"1048576 bytes"}, with([](auto& b) { b.uint32(std::string(1 << 20, 'k'), 1); })),
      gguf_case("a key twice", {"'k' occurs more than once"}, with([](auto& b) { b.uint32("k", 1).uint32("k", 1); })),
      gguf_case("an unknown type", {"'k'", "type 99"},
                with([](auto& b) { b.entry("k", 99, byte_builder().zeros(64)); })),
      gguf_case("an array in an array", {"'k'", "arrays inside arrays"},
                array(9, 1, byte_builder().number(std::uint32_t{4}).number(std::uint64_t{0}))),
  };
  // CVE-2025-0315 and others: padding by 0, or by so much that nothing is left.
  for (const std::uint64_t alignment : {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1} << 30}) {
    cases.push_back(
        gguf_case("alignment " + std::to_string(alignment), {"general.alignment", std::to_string(alignment)},
                  with([&](auto& b) { b.uint32("general.alignment", static_cast<std::uint32_t>(alignment)); })));
  }
  cases.push_back(gguf_case("alignment 2^63", {"general.alignment"}, with([](auto& b) {
                              b.entry("general.alignment", 10, byte_builder().number(std::uint64_t{1} << 63));
                            })));
  // GGUF-PY-F001: arrays nested as deep as the file is long.
  byte_builder nested;
  for (int i = 0; i < 100'000; ++i) nested.number(std::uint32_t{9}).number(std::uint64_t{1});
  cases.push_back(
      gguf_case("nested arrays", {"'k'", "arrays inside arrays"}, with([&](auto& b) { b.entry("k", 9, nested); })));
  for (const std::size_t size : {1u, 3u, 4u, 8u, 12u, 23u}) {  // CVE-2024-39720; a legacy loader crashed on 8 bytes
    cases.push_back({std::to_string(size) + " bytes",
                     [size] { read_gguf(gguf_builder().build().substr(0, size)); },
                     {"some.gguf: "}});
  }
  check_refused(cases);
}

TEST_CASE("GGUF files with very many keys, tensors and texts take no longer than their length") {
  constexpr std::uint32_t many = 40'000;
  const std::string prefix(100, 'p');  // which every comparison has to read
  gguf_builder keys, tensors;
  for (std::uint32_t i = 0; i < many; ++i) {
    keys.uint32(prefix + std::to_string(i), i);
    tensors.tensor(prefix + std::to_string(i), {0}, 0, 0);
  }
  const auto text_keys = keys.build(), text_tensors = tensors.build();
  check_cost(cost_of([&] { read_gguf(text_keys); }));
  check_cost(cost_of([&] { read_gguf(text_tensors); }));
  keys.uint32(prefix + "7", 1);
  tensors.tensor(prefix + "7", {0}, 0, 0);
  byte_builder empty;
  for (std::uint32_t i = 0; i < 200'000; ++i) empty.string("");
  gguf_builder texts;
  texts.array("k", 8, 200'000, empty);
  check_cost(cost_of([bytes = texts.build()] { read_gguf(bytes); }));
  check_refused({gguf_case("one of many keys twice", {"occurs more than once"}, keys),
                 gguf_case("one of many tensors twice", {"occurs more than once"}, tensors)});
}

namespace {

std::string safetensors(std::string_view header, std::size_t data = 0) {
  return byte_builder().number(std::uint64_t{header.size()}).raw(header).zeros(data).text();
}

void read_safetensors(const std::string& bytes) {
  static_cast<void>(safetensors_file(in_memory(bytes, "some.safetensors")));
}

std::string tensor(std::string_view name, std::string_view type, std::string_view shape, std::uint64_t begin,
                   std::uint64_t end) {
  return runnel::message('"', name, R"(":{"dtype":")", type, R"(","shape":)", shape, R"(,"data_offsets":[)", begin, ',',
                         end, "]}");
}

}  // namespace

TEST_CASE("safetensors headers") {
  struct row {
    const char* about;
    std::string bytes;
    const char* part;
  };
  const auto length = [](std::uint64_t value) { return byte_builder().number(value).raw("{}").text(); };
  const auto one = [](std::string_view type, std::string_view shape, std::uint64_t begin, std::uint64_t end,
                      std::size_t data) { return safetensors("{" + tensor("t", type, shape, begin, end) + "}", data); };
  const row rows[] = {
      {"a header of 2^64 - 1 bytes (QuintinShaw/openasr#73)", length(most), "18446744073709551615"},
      {"a header of 2^63 bytes", length(std::uint64_t{1} << 63), "9223372036854775808"},
      {"a header above the cap of 100 MB", length(100'000'001), "100000001"},
      {"a header one byte longer than the file", length(3), "header needs 3 bytes"},
      {"a name twice (safetensors#401)",
       safetensors("{" + tensor("t", "U8", "[1]", 0, 1) + "," + tensor("t", "U8", "[1]", 1, 2) + "}", 2),
       "'t': occurs more than once"},
      {"a name twice for the same bytes",
       safetensors("{" + tensor("t", "U8", "[1]", 0, 1) + "," + tensor("t", "U8", "[1]", 0, 1) + "}", 1),
       "'t': occurs more than once"},
      {"overlap (antirez/h3.c#48)",
       safetensors("{" + tensor("s", "U8", "[2]", 0, 2) + "," + tensor("t", "U8", "[2]", 1, 3) + "}", 3), "overlaps"},
      {"a hole", safetensors("{" + tensor("s", "U8", "[1]", 0, 1) + "," + tensor("t", "U8", "[1]", 2, 3) + "}", 3),
       "'t': is preceded by 1 unused bytes"},
      {"bytes after the last", one("U8", "[1]", 0, 1, 2), "1 bytes after the last tensor"},
      {"a range that is not shape times type (ml-explore/mlx#3364)", one("F32", "[2]", 0, 4, 4), "'t': shape [2]"},
      {"sizes whose product wraps to the range", one("F32", "[4611686018427387905]", 0, 4, 4), "'t': shape"},
      {"sizes whose product wraps to 0", one("U8", "[4294967296,4294967296]", 0, 0, 0), "'t': shape"},
      {"an end before the begin (leejet/stable-diffusion.cpp#1754)", one("U8", "[1]", 2, 1, 2),
       "'t': data_offsets begin"},
      {"a range past the end", one("U8", "[9]", 0, 9, 1), "'t': data_offsets end at 9"},
      {"an end of 2^64 - 1", one("U8", "[18446744073709551615]", 0, most, 1), "'t': data_offsets end"},
      {"an unknown type of fitting size (kekzl/imp#1603)", one("Q9", "[1]", 0, 1, 1), "'t': dtype 'Q9'"},
      {"a negative size", one("U8", "[-1]", 0, 1, 1), "'t': shape"},
      {"a size that is a fraction", one("U8", "[1.5]", 0, 1, 1), "'t': shape"},
      {"a size beyond 64 bits", one("U8", "[18446744073709551616]", 0, 1, 1), "'t': shape"},
      {"deeply nested", safetensors(R"({"t":)" + std::string(500'000, '[')), "nested deeper"},
      {"no JSON", safetensors("{\"t\":\xff}"), "JSON"},
      {"JSON of something else", safetensors("[1,2]"), "'{'"},
  };
  std::vector<hostile_case> cases;
  for (const auto& one_row : rows) {
    cases.push_back({one_row.about, [&] { read_safetensors(one_row.bytes); }, {"some.safetensors: ", one_row.part}});
  }
  check_refused(cases);
}

TEST_CASE("safetensors: what is unusual and still right") {
  CHECK_NOTHROW(read_safetensors(safetensors("{}")));
  CHECK_NOTHROW(read_safetensors(safetensors(R"({"__metadata__":{}})")));
  CHECK_NOTHROW(read_safetensors(safetensors("{" + tensor("none", "F32", "[0,4]", 0, 0) + "}")));
  CHECK_NOTHROW(read_safetensors(safetensors("{" + tensor("scalar", "F32", "[]", 0, 4) + "}", 4)));
  CHECK_NOTHROW(read_safetensors(
      safetensors("{" + tensor("second", "U8", "[1]", 4, 5) + "," + tensor("first", "F32", "[1]", 0, 4) + "}    ", 5)));
  CHECK_NOTHROW(read_safetensors(safetensors("{" + tensor("", "U8", "[1]", 0, 1) + "}", 1)));
}

TEST_CASE("safetensors with very many tensors take no longer than their length") {
  const std::string prefix(100, 'p');
  std::string header = "{";
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    header += tensor(prefix + std::to_string(i), "U8", "[1]", i, i + 1) + ",";
  }
  header.back() = '}';
  check_cost(cost_of([bytes = safetensors(header, 20'000)] { read_safetensors(bytes); }));
  header.back() = ',';
  header += tensor(prefix + "7", "U8", "[0]", 0, 0) + "}";
  check_refused({{"one of many twice",
                  [bytes = safetensors(header, 20'000)] { read_safetensors(bytes); },
                  {"some.safetensors", "occurs more than once"}}});
}

TEST_CASE("npy files") {
  const auto npy = [](std::string_view header, std::size_t data) {
    return byte_builder()
        .raw("\x93NUMPY")
        .number(std::uint8_t{1})
        .number(std::uint8_t{0})
        .number(static_cast<std::uint16_t>(header.size()))
        .raw(header)
        .zeros(data)
        .text();
  };
  struct row {
    const char* about;
    std::string bytes;
    const char* part;
  };
  const auto shape = [&](std::string_view sizes) {
    return npy(runnel::message("{'descr': '<f4', 'fortran_order': False, 'shape': (", sizes, "), }"), 8);
  };
  const row rows[] = {
      {"sizes whose product wraps to the data", shape("4611686018427387906,"), "shape"},
      {"sizes whose product wraps to 0", shape("4294967296, 4294967296"), "shape"},
      {"a size beyond 64 bits", shape("18446744073709551616,"), "64 bits"},
      {"a negative size", shape("-2,"), "size"},
      {"more data than there is", shape("3,"), "shape [3]"},
      {"less data than there is", shape("1,"), "shape [1]"},
      {"a thousand dimensions",
       shape(std::string("1") +
             [] {
               std::string s;
               for (int i = 0; i < 999; ++i) s += ",1";
               return s;
             }()),
       "dimensions"},
      {"a header longer than the file", npy("{}", 0).substr(0, 9), "header length"},
      {"a string without end", npy("{'descr': '<f4", 8), "does not end"},
      {"nested parentheses", npy("{'shape': " + std::string(60'000, '(') + "}", 0), "size"},
      {"objects, which NumPy would run as programs", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8),
       "'|O'"},
      {"another format", "PK\x03\x04 not npy at all", "NUMPY"},
  };
  std::vector<hostile_case> cases;
  for (const auto& one_row : rows) {
    cases.push_back({one_row.about,
                     [&] { static_cast<void>(runnel::io::read_npy<float>(in_memory(one_row.bytes, "some.npy"))); },
                     {"some.npy: ", one_row.part}});
  }
  check_refused(cases);
}
