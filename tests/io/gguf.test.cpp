// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/gguf.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "gguf_builder.hpp"

using runnel::format_error;
using runnel::io::gguf_file;
using runnel::io::gguf_type;
using runnel::quant::weight_format;
using namespace runnel_test;

namespace {

gguf_file parse(const std::string& bytes) { return gguf_file(in_memory(bytes, "some.gguf")); }
gguf_file parse(const gguf_builder& builder) { return parse(builder.build()); }

std::vector<float> floats(const runnel::io::stored_tensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

/// A file with a bit of everything.
gguf_builder rich_file() {
  gguf_builder out;
  out.string("general.architecture", "llama").uint32("general.alignment", 64);
  out.alignment = 64;
  out.array("words", 8, 3, byte_builder().string("one").string("").string("three"));
  out.array("scores", 6, 2, byte_builder().number(0.5f).number(-1.0f));
  out.array("flags", 7, 2, byte_builder().number(std::uint8_t{1}).number(std::uint8_t{0}));
  out.entry("f64", 12, byte_builder().number(2.5));
  out.tensor("a", {4, 2}, 0, 0).tensor("b", {32, 1}, 8, 64).tensor("none", {7, 0}, 0, 128).tensor("c", {}, 0, 128);
  out.data = byte_builder().number(1.0f).number(2.0f).pad(64).zeros(34).pad(64).number(7.0f).text();
  return out;
}

}  // namespace

TEST_CASE("a file by the reference writer reads as it was written") {
  const gguf_file file(golden("tiny.gguf"));
  CHECK(file.version() == 3);
  CHECK(file.alignment() == 32);
  CHECK(file.string("general.architecture") == "llama");
  CHECK(file.get<std::uint8_t>("test.uint8") == 250);
  CHECK(file.get<std::int8_t>("test.int8") == -100);
  CHECK(file.get<std::uint16_t>("test.uint16") == 65000);
  CHECK(file.get<std::int16_t>("test.int16") == -30000);
  CHECK(file.get<std::uint32_t>("test.uint32") == 4'000'000'000u);
  CHECK(file.get<std::int32_t>("test.int32") == -2'000'000'000);
  CHECK(file.get<float>("test.float32") == 0.15625f);
  CHECK(file.get<bool>("test.bool"));
  CHECK(file.get<std::string>("test.string") == "größer");
  CHECK(file.get<std::uint64_t>("test.uint64") == std::uint64_t{1} << 63);
  CHECK(file.get<std::int64_t>("test.int64") == -(std::int64_t{1} << 62));
  CHECK(file.get<double>("test.float64") == 1e-300);
  const auto words = file.strings("test.strings");
  REQUIRE(words.size() == 4);
  CHECK(words[0] == "a");
  CHECK(words[1].empty());
  CHECK(words[2] == "Straße");
  CHECK(words[3] == std::string(40, 'x'));
  CHECK(file.numbers<int>("test.ints") == std::vector<int>{1, -2, 3});
  CHECK(file.numbers<float>("test.floats") == std::vector<float>{0.5f, -0.25f});
  CHECK(file.numbers<bool>("test.bools") == std::vector<bool>{true, false, true});

  REQUIRE(file.tensors().size() == 9);
  CHECK(file.tensor("scalar.f32").shape == std::vector<std::uint64_t>{1});
  CHECK(floats(file.tensor("scalar.f32")) == std::vector<float>{1.5f});
  const auto& matrix = file.tensor("matrix.f32");
  CHECK(matrix.shape == std::vector<std::uint64_t>{3, 4});
  const auto values = floats(matrix);
  REQUIRE(values.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) CHECK(values[i] == static_cast<float>(i) / 8 - 3);
  CHECK(file.tensor("cube.f16").shape == std::vector<std::uint64_t>{2, 3, 4});
  CHECK(file.tensor("cube.f16").format == weight_format::f16);
  CHECK(file.tensor("matrix.bf16").format == weight_format::bf16);
  CHECK(file.tensor("matrix.q8_0").shape == std::vector<std::uint64_t>{2, 64});
  CHECK(file.tensor("matrix.q8_0").loadable_format() == weight_format::q8_0);
  CHECK(file.tensor("matrix.q8_0").bytes.size() == 4 * 34);
  CHECK(file.tensor("matrix.q4_0").bytes.size() == 4 * 18);
  CHECK(file.tensor("matrix.q4_1").bytes.size() == 4 * 20);

  SUBCASE("types without a codec are listed, and only loading them fails") {
    for (const auto& [name, type] : {std::pair("matrix.iq4_xs", "IQ4_XS"), std::pair("vector.i64", "I64")}) {
      const auto& tensor = file.tensor(name);
      CHECK(tensor.type_name == type);
      CHECK_FALSE(tensor.format.has_value());
      const auto text = failure<format_error>([&] { (void)tensor.loadable_format(); });
      CHECK(holds(text, "tiny.gguf"));
      CHECK(holds(text, name));
      CHECK(holds(text, type));
    }
    CHECK(file.tensor("matrix.iq4_xs").shape == std::vector<std::uint64_t>{2, 256});
  }
}

TEST_CASE("metadata, tensors and spans survive a move") {
  gguf_file first = parse(rich_file());
  const auto* data = first.tensor("a").bytes.data();
  gguf_file file(std::move(first));
  CHECK(file.tensor("a").bytes.data() == data);
  CHECK(file.tensor("a").file == &file.file());
  CHECK(file.strings("words")[2] == "three");
  CHECK(file.find_tensor("b") == &file.tensors()[1]);
  CHECK(file.find_tensor("d") == nullptr);
  CHECK(file.metadata()[0].key == "general.architecture");
  CHECK(file.metadata().size() == 6);
  file.tensor("a").release();
  CHECK(floats(file.tensor("a"))[1] == 2.0f);
}

TEST_CASE("alignment, empty tensors and scalars") {
  const gguf_file file = parse(rich_file());
  CHECK(file.alignment() == 64);
  CHECK(file.tensor("a").file_offset % 64 == 0);
  CHECK(file.tensor("none").bytes.empty());
  CHECK(file.tensor("none").shape == std::vector<std::uint64_t>{0, 7});
  CHECK(file.tensor("none").elements() == 0);
  CHECK(file.tensor("c").shape.empty());
  CHECK(file.tensor("c").elements() == 1);
  CHECK(floats(file.tensor("c")) == std::vector<float>{7.0f});

  for (const std::uint32_t alignment : {1u, 2u, 8u, 16u, 128u, 4096u, 65536u}) {
    gguf_builder builder;
    builder.uint32("general.alignment", alignment).tensor("t", {1}, 0, 0);
    builder.alignment = alignment;
    builder.data = byte_builder().number(3.0f).text();
    CHECK(floats(parse(builder).tensor("t")) == std::vector<float>{3.0f});
  }
  // Nothing to store: the file may end with the descriptions, and an offset may point beyond its end.
  CHECK(parse(gguf_builder().tensor("t", {0}, 0, 32)).tensor("t").bytes.empty());
  CHECK(parse(gguf_builder()).tensors().empty());
}

TEST_CASE("version 2 reads as version 3") {
  auto builder = rich_file();
  builder.version = 2;
  const gguf_file file = parse(builder);
  CHECK(file.version() == 2);
  CHECK(file.tensors().size() == 4);
}

TEST_CASE("numbers convert by range and never across kinds") {
  gguf_builder builder;
  builder.uint32("u", 300).entry("i", 5, byte_builder().number(std::int32_t{-1})).string("s", "text");
  builder.entry("f", 6, byte_builder().number(1.5f)).entry("d", 12, byte_builder().number(1e300));
  builder.entry("b", 7, byte_builder().number(std::uint8_t{1}))
      .entry("u64", 10, byte_builder().number(~std::uint64_t{0}));
  builder.entry("inf", 12, byte_builder().number(std::numeric_limits<double>::infinity()));
  builder.array("list", 4, 2, byte_builder().number(std::uint32_t{1}).number(std::uint32_t{256}));
  builder.array("texts", 8, 1, byte_builder().string("x"));
  const gguf_file file = parse(builder);

  CHECK(file.get<std::int64_t>("u") == 300);
  CHECK(file.get<unsigned long long>("u") == 300);
  CHECK(file.get<double>("f") == 1.5);
  CHECK(std::isinf(file.get<float>("inf")));
  CHECK(file.get_or<int>("missing", 7) == 7);
  CHECK(file.get_or<int>("u", 7) == 300);
  CHECK(file.get_or<std::string_view>("missing", "x") == "x");
  CHECK(file.numbers<std::uint16_t>("list") == std::vector<std::uint16_t>{1, 256});
  CHECK(file.find("list")->size() == 2);
  CHECK(file.find("list")->element_type() == gguf_type::uint32);
  CHECK(file.find("list")->element(1).as<int>() == 256);
  CHECK(file.find("list")->strings().empty());
  CHECK(file.find("missing") == nullptr);
  CHECK(file.contains("u"));
  CHECK(file.find("u")->type() == gguf_type::uint32);

  const auto check = [&](auto&& action, std::string_view key, std::string_view wanted, std::string_view found) {
    const auto text = failure<format_error>(action);
    CAPTURE(text);
    CHECK(holds(text, "some.gguf"));
    CHECK(holds(text, key));
    CHECK(holds(text, wanted));
    CHECK(holds(text, found));
  };
  check([&] { (void)file.get<std::uint8_t>("u"); }, "'u'", "uint8", "uint32 300");
  check([&] { (void)file.get<std::uint32_t>("i"); }, "'i'", "uint32", "int32 -1");
  check([&] { (void)file.get<std::int64_t>("u64"); }, "'u64'", "int64", "uint64 18446744073709551615");
  check([&] { (void)file.get<std::uint32_t>("s"); }, "'s'", "uint32", "string 'text'");
  check([&] { (void)file.get<std::uint32_t>("f"); }, "'f'", "uint32", "float32 1.5");
  check([&] { (void)file.get<float>("u"); }, "'u'", "float32", "uint32 300");
  check([&] { (void)file.get<float>("d"); }, "'d'", "float32", "float64");
  check([&] { (void)file.get<int>("b"); }, "'b'", "int32", "bool true");
  check([&] { (void)file.get<bool>("u"); }, "'u'", "bool", "uint32 300");
  check([&] { (void)file.get<int>("list"); }, "'list'", "int32", "array of 2 uint32");
  check([&] { (void)file.get_or<int>("s", 3); }, "'s'", "int32", "string");
  check([&] { (void)file.string("u"); }, "'u'", "string", "uint32 300");
  check([&] { (void)file.strings("list"); }, "'list'", "array of string", "array of 2 uint32");
  check([&] { (void)file.strings("u"); }, "'u'", "array of string", "uint32 300");
  check([&] { (void)file.numbers<float>("list"); }, "'list'", "array of float32", "array of 2 uint32");
  check([&] { (void)file.numbers<std::uint8_t>("list"); }, "'list'", "element 1", "array of 2 uint32");
  check([&] { (void)file.numbers<int>("texts"); }, "'texts'", "array of int32", "array of 1 string");
  check([&] { (void)file.numbers<int>("u"); }, "'u'", "array of int32", "uint32 300");
  check([&] { (void)file.get<int>("gone"); }, "'gone'", "missing", "");
  check([&] { (void)file.tensor("gone"); }, "'gone'", "missing", "");
}

TEST_CASE("booleans in arrays are truth values") {
  const gguf_file file = parse(rich_file());
  CHECK(file.numbers<bool>("flags") == std::vector<bool>{true, false});
  CHECK(file.find("flags")->element(0).type() == gguf_type::boolean);
  CHECK_FALSE(file.find("flags")->element(1).as<std::uint8_t>().has_value());
}

namespace {

struct bad_file {
  const char* what;
  gguf_builder builder;
  std::string expected;  ///< what the message must hold beside the name of the file
};

gguf_builder with(void (*change)(gguf_builder&)) {
  gguf_builder out;
  change(out);
  return out;
}

std::vector<bad_file> bad_headers() {
  return {
      {"magic", with([](auto& b) { b.magic = "GGML"; }), "'GGML'"},
      {"magic with control characters", with([](auto& b) { b.magic = std::string("\x01\x00\x1b\x7f", 4); }),
       "\\x01\\x00\\x1b\\x7f"},
      {"version 0", with([](auto& b) { b.version = 0; }), "version 0"},
      {"version 1", with([](auto& b) { b.version = 1; }), "version 1"},
      {"version 4", with([](auto& b) { b.version = 4; }), "version 4"},
      {"big endian", with([](auto& b) { b.version = 0x03000000; }), "big-endian"},
      {"one entry too few", with([](auto& b) { b.more_entries = 1; }), "1 metadata entries"},
      {"number of entries 2^63", with([](auto& b) { b.more_entries = std::numeric_limits<std::int64_t>::min(); }),
       "metadata entries"},
      {"number of entries 2^64-1", with([](auto& b) { b.more_entries = -1; }), "18446744073709551615 metadata entries"},
      {"number of tensors 2^64-1", with([](auto& b) { b.more_tensors = -1; }), "18446744073709551615 tensors"},
      {"number of tensors 2^40", with([](auto& b) { b.more_tensors = std::int64_t{1} << 40; }), "tensors"},
      {"one tensor too few", with([](auto& b) { b.uint32("a.key.that.is.long.enough", 1).more_tensors = 1; }),
       "tensor"},
  };
}

std::vector<bad_file> bad_metadata() {
  return {
      {"empty key", with([](auto& b) {
         b.uint32("", 1);
         b.uint32("k", 1);
       }),
       "empty"},
      {"key twice", with([](auto& b) { b.uint32("k", 1).uint32("other", 1).string("k", "x"); }),
       "'k' occurs more than once"},
      {"long key", with([](auto& b) { b.uint32(std::string(70'000, 'k'), 1); }), "70000 bytes"},
      {"type 13", with([](auto& b) { b.entry("k", 13, byte_builder().zeros(8)); }), "'k': value type 13"},
      {"type 2^32-1", with([](auto& b) { b.entry("k", ~0u, byte_builder().zeros(8)); }), "'k': value type 4294967295"},
      {"bool 2", with([](auto& b) { b.entry("k", 7, byte_builder().number(std::uint8_t{2})); }), "'k': a bool"},
      {"bool 2 in an array", with([](auto& b) { b.array("k", 7, 1, byte_builder().number(std::uint8_t{2})); }),
       "'k': a bool"},
      {"string length 2^64-1",
       with([](auto& b) { b.entry("k", 8, byte_builder().number(~std::uint64_t{0}).raw("abc")); }),
       "'k': string needs 18446744073709551615 bytes"},
      {"string length 1 GiB",
       with([](auto& b) { b.entry("k", 8, byte_builder().number(std::uint64_t{1} << 30).raw("abc")); }),
       "'k': string needs 1073741824 bytes"},
      {"string length one too many",
       with([](auto& b) { b.entry("k", 8, byte_builder().number(std::uint64_t{4}).raw("abc")); }),
       "'k': string needs 4 bytes"},
      {"value cut off", with([](auto& b) { b.entry("key", 10, byte_builder().number(std::uint32_t{4})); }),
       "'key': value needs 8"},
      {"array of 2^64-1 numbers", with([](auto& b) { b.array("k", 4, ~std::uint64_t{0}, byte_builder().zeros(64)); }),
       "'k': an array"},
      {"array whose bytes wrap to 0",
       with([](auto& b) { b.array("k", 4, std::uint64_t{1} << 62, byte_builder().zeros(64)); }),
       "'k': an array of 4611686018427387904"},
      {"array of 2^28 bytes", with([](auto& b) { b.array("k", 0, std::uint64_t{1} << 28, byte_builder().zeros(64)); }),
       "'k': an array"},
      {"array of 2^61 strings",
       with([](auto& b) { b.array("k", 8, std::uint64_t{1} << 61, byte_builder().zeros(64)); }), "'k': an array"},
      {"array one string short",
       with([](auto& b) { b.array("k", 8, 3, byte_builder().string("a").string("bcdefghijkl")); }),
       "'k': string in array"},
      {"array string too long",
       with([](auto& b) { b.array("k", 8, 1, byte_builder().number(~std::uint64_t{7}).raw("abc")); }),
       "'k': string in array needs"},
      {"array of type 13", with([](auto& b) { b.array("k", 13, 1, byte_builder().zeros(64)); }), "'k': value type 13"},
      {"alignment 0", with([](auto& b) { b.uint32("general.alignment", 0); }), "'general.alignment'"},
      {"alignment 24", with([](auto& b) { b.uint32("general.alignment", 24); }), "'general.alignment'"},
      {"alignment 2^30", with([](auto& b) { b.uint32("general.alignment", 1u << 30); }), "'general.alignment'"},
      {"alignment as text", with([](auto& b) { b.string("general.alignment", "32"); }),
       "'general.alignment': expected uint64"},
      {"alignment negative",
       with([](auto& b) { b.entry("general.alignment", 5, byte_builder().number(std::int32_t{-32})); }),
       "'general.alignment'"},
  };
}

constexpr std::uint64_t huge = std::numeric_limits<std::int64_t>::max();

std::vector<bad_file> bad_tensors() {
  const auto one = [](std::vector<std::uint64_t> sizes, std::uint32_t type, std::uint64_t offset) {
    gguf_builder out;
    out.tensor("t", std::move(sizes), type, offset);
    out.data = std::string(256, '\0');
    return out;
  };
  std::vector<bad_file> out{
      {"passes the end", one({65}, 0, 0), "'t': its 260 bytes"},
      {"begins at the end", one({1}, 0, 256), "'t': its 4 bytes"},
      {"offset far outside", one({1}, 0, std::uint64_t{1} << 40), "'t': its 4 bytes"},
      {"offset wraps", one({8}, 0, ~std::uint64_t{31}), "'t': its 32 bytes"},
      {"offset unaligned", one({1}, 0, 4), "'t': offset 4"},
      {"offset 2^64-4: padding would wrap", one({1}, 0, ~std::uint64_t{3}), "'t': offset"},
      {"size wraps to 0", one({std::uint64_t{1} << 62, 4}, 0, 0), "'t': shape [4, 4611686018427387904]"},
      {"size wraps to small", one({(std::uint64_t{1} << 42) + 1, std::uint64_t{1} << 22}, 0, 0), "'t': shape"},
      {"elements wrap in the fourth size", one({1u << 16, 1u << 16, 1u << 16, 1u << 16}, 24, 0), "'t': shape"},
      {"size SIZE_MAX-3", one({~std::uint64_t{3}}, 24, 0), "'t': shape"},
      {"product negative if signed", one({huge, 2}, 24, 0), "'t': shape [2, 9223372036854775807]"},
      {"bytes wrap only with the block size", one({huge / 256 * 256}, 15, 0), "'t': shape"},
      {"larger than the file", one({1 << 20}, 0, 0), "whole file"},
      {"9 dimensions", one({1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 0), "'t': 9 dimensions"},
      {"unknown type", one({1}, 4, 0), "'t': tensor type 4"},
      {"type 2^32-1", one({1}, ~0u, 0), "'t': tensor type 4294967295"},
      {"row of half a block", one({16, 2}, 2, 0), "'t': rows of 16 values"},
      {"scalar of blocks", one({}, 8, 0), "'t': rows of 1 values"},
      {"unsupported type is still checked", one({256, 3}, 12, 0), "'t': shape [3, 256] of type Q4_K takes 432"},
      {"empty name", with([](auto& b) { b.tensor("", {1}, 0, 0).tensor("t", {1}, 0, 32).data = std::string(64, 'x'); }),
       "empty"},
      {"name twice",
       with([](auto& b) { b.tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data = std::string(64, 'x'); }),
       "'t' occurs more than once"},
      {"overlap", with([](auto& b) { b.tensor("t", {9}, 0, 0).tensor("u", {1}, 0, 32).data = std::string(64, 'x'); }),
       "'t' and 'u' overlap"},
      {"same place", with([](auto& b) { b.tensor("t", {1}, 0, 0).tensor("u", {1}, 0, 0).data = std::string(64, 'x'); }),
       "overlap"},
      {"sum of sizes wraps", with([](auto& b) {
         b.tensor("t", {std::uint64_t{1} << 63}, 24, 0)
             .tensor("u", {std::uint64_t{1} << 63}, 24, std::uint64_t{1} << 63);
         b.data = std::string(64, 'x');
       }),
       "'t': shape"},
  };
  return out;
}

void check_all(const std::vector<bad_file>& files) {
  for (const bad_file& bad : files) {
    CAPTURE(bad.what);
    const auto text = failure<format_error>([&] { (void)parse(bad.builder); });
    CAPTURE(text);
    CHECK(text.starts_with("some.gguf: "));
    CHECK(holds(text, bad.expected));
    CHECK(text.size() < 400);
  }
}

}  // namespace

TEST_CASE("malformed files are refused by name, and cost no memory") {
  const auto before = peak_address_space();
  check_all(bad_headers());
  check_all(bad_metadata());
  check_all(bad_tensors());
  CHECK(peak_address_space() - before < (std::uint64_t{64} << 20));
}

TEST_CASE("2^32-1 dimensions are refused before they are read") {
  byte_builder bytes;
  bytes.raw("GGUF").number(std::uint32_t{3}).number(std::uint64_t{1}).number(std::uint64_t{0});
  bytes.string("t").number(~std::uint32_t{0}).zeros(100);
  CHECK(holds(failure<format_error>([&] { (void)parse(bytes.text()); }), "'t': 4294967295 dimensions"));
}

TEST_CASE("nested arrays are refused at any depth without recursion") {
  byte_builder nested;
  for (int i = 0; i < 200'000; ++i) nested.number(std::uint32_t{9}).number(std::uint64_t{1});
  gguf_builder builder;
  builder.entry("deep", 9, nested);
  const auto text = failure<format_error>([&] { (void)parse(builder); });
  CHECK(holds(text, "some.gguf"));
  CHECK(holds(text, "'deep'"));
  CHECK(holds(text, "arrays inside arrays"));
}

TEST_CASE("a file of four bytes, of none, and of half a header") {
  for (const std::size_t size : {0u, 1u, 3u, 4u, 7u, 8u, 15u, 23u}) {
    const auto text = failure<format_error>([&] { (void)parse(gguf_builder().build().substr(0, size)); });
    CHECK(holds(text, "some.gguf"));
  }
}

TEST_CASE("many entries and tensors are no trouble, duplicates among them are found") {
  constexpr std::uint32_t many = 100'000;
  gguf_builder builder;
  for (std::uint32_t i = 0; i < many; ++i) {
    builder.uint32("key." + std::to_string(i), i);
    builder.tensor("tensor." + std::to_string(i), {1}, 24, std::uint64_t{i} * 32);
  }
  builder.data = std::string(std::size_t{many} * 32, 'd');
  const gguf_file file = parse(builder);
  CHECK(file.get<std::uint32_t>("key.77777") == 77'777);
  CHECK(file.find_tensor("tensor.99999")->file_offset - file.find_tensor("tensor.0")->file_offset == 99'999 * 32);
  builder.uint32("key.5", 1);
  CHECK(holds(failure<format_error>([&] { (void)parse(builder); }), "'key.5' occurs more than once"));
}

TEST_CASE("every file cut short is refused, or loses nothing but padding") {
  const std::string whole = rich_file().build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    const auto text = failure<format_error>([&] { (void)parse(whole.substr(0, size)); });
    CHECK(text.starts_with("some.gguf: "));
  }
  CHECK(parse(whole).tensors().size() == 4);
}

TEST_CASE("no changed byte makes a file that lies about its tensors") {
  const std::string whole = rich_file().build();
  const auto size = whole.size();
  int refused = 0;
  for (std::size_t at = 0; at < size; ++at) {
    for (const int change : {0x01, 0x80, 0xff, 0x100}) {
      std::string changed = whole;
      changed[at] = change == 0x100
                        ? '\0'
                        : static_cast<char>(static_cast<unsigned char>(changed[at]) ^ static_cast<unsigned>(change));
      try {
        const gguf_file file = parse(changed);
        for (const auto& tensor : file.tensors()) {
          REQUIRE(tensor.file_offset + tensor.bytes.size() <= size);
          if (tensor.format)
            REQUIRE(runnel::quant::try_bytes_for(*tensor.format, tensor.elements()) == tensor.bytes.size());
        }
        for (const auto& entry : file.metadata()) (void)entry.value.describe();
      } catch (const format_error& problem) {
        REQUIRE(std::string_view(problem.what()).starts_with("some.gguf: "));
        ++refused;
      }
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("a missing file is the system's error, not the format's") {
  const auto text = failure<runnel::io_error>([] { (void)gguf_file(std::filesystem::path("/no/such/model.gguf")); });
  CHECK(holds(text, "/no/such/model.gguf"));
}
