// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/gguf_writer.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <numeric>

#include "support.hpp"

using runnel::config_error;
using runnel::shape_error;
using runnel::io::gguf_file;
using runnel::io::gguf_type;
using runnel::io::gguf_writer;
using runnel::quant::weight_format;
using namespace runnel_test;

namespace {

std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>((i * 31 + seed) & 255u);
  return out;
}

}  // namespace

TEST_CASE("what is written is read back, every type of it") {
  scratch_folder folder;
  const auto path = folder / "a.gguf";
  const auto matrix = pattern(3 * 5 * 4, 1);
  const auto blocks = pattern(2 * 2 * 20, 2);
  gguf_writer out;
  out.set("u8", std::uint8_t{255});
  out.set("i8", std::int8_t{-128});
  out.set("u16", std::uint16_t{65535});
  out.set("i16", std::int16_t{-32768});
  out.set("u32", std::numeric_limits<std::uint32_t>::max());
  out.set("i32", std::numeric_limits<std::int32_t>::min());
  out.set("f32", 1.0e-40f);
  out.set("bool", true);
  out.set("text", "first");
  out.set("u64", std::numeric_limits<unsigned long long>::max());
  out.set("i64", std::numeric_limits<long>::min());
  out.set("f64", std::numeric_limits<double>::denorm_min());
  out.set("none", std::vector<float>{});
  out.set("floats", std::vector<float>{1.5f, -2.5f});
  out.set("bytes", std::vector<std::uint8_t>{1, 2, 3});
  out.set("longs", std::vector<std::int64_t>{-1, std::int64_t{1} << 60});
  out.set("flags", std::vector<bool>{true, false});
  out.set("words", std::vector<std::string>{"a", "", std::string("nul\0inside", 10), "größer"});
  out.set("views", std::vector<std::string_view>{"x", "y"});
  out.set("text", std::string("second"));
  out.add_tensor("matrix", weight_format::f32, {3, 5}, matrix);
  out.add_tensor("blocks", weight_format::q4_1, {2, 64}, blocks);
  out.add_tensor("empty", weight_format::f16, {0, 4}, std::span<const std::byte>{});
  out.add_tensor("made", weight_format::bf16, {7}, [] { return pattern(14, 3); });
  out.add_tensor("scalar", weight_format::f32, {}, std::span(matrix).first(4));
  out.write(path);
  CHECK(folder.count() == 1);

  const gguf_file in(path);
  CHECK(in.version() == 3);
  CHECK(in.metadata().size() == 19);
  CHECK(in.metadata()[8].key == "text");
  CHECK(in.string("text") == "second");
  const std::pair<const char*, gguf_type> types[] = {
      {"u8", gguf_type::uint8},     {"i8", gguf_type::int8},      {"u16", gguf_type::uint16},
      {"i16", gguf_type::int16},    {"u32", gguf_type::uint32},   {"i32", gguf_type::int32},
      {"f32", gguf_type::float32},  {"bool", gguf_type::boolean}, {"text", gguf_type::string},
      {"u64", gguf_type::uint64},   {"i64", gguf_type::int64},    {"f64", gguf_type::float64},
      {"floats", gguf_type::array}, {"words", gguf_type::array}};
  for (const auto& wanted : types) {
    CAPTURE(wanted.first);
    CHECK(in.find(wanted.first)->type() == wanted.second);
  }
  CHECK(in.get<std::uint8_t>("u8") == 255);
  CHECK(in.get<std::int8_t>("i8") == -128);
  CHECK(in.get<std::uint16_t>("u16") == 65535);
  CHECK(in.get<std::int16_t>("i16") == -32768);
  CHECK(in.get<std::uint32_t>("u32") == std::numeric_limits<std::uint32_t>::max());
  CHECK(in.get<std::int32_t>("i32") == std::numeric_limits<std::int32_t>::min());
  CHECK(in.get<float>("f32") == 1.0e-40f);
  CHECK(in.get<bool>("bool"));
  CHECK(in.get<std::uint64_t>("u64") == std::numeric_limits<std::uint64_t>::max());
  CHECK(in.get<std::int64_t>("i64") == std::numeric_limits<std::int64_t>::min());
  CHECK(in.get<double>("f64") == std::numeric_limits<double>::denorm_min());
  CHECK(in.find("none")->element_type() == gguf_type::float32);
  CHECK(in.numbers<float>("none").empty());
  CHECK(in.numbers<float>("floats") == std::vector<float>{1.5f, -2.5f});
  CHECK(in.numbers<int>("bytes") == std::vector<int>{1, 2, 3});
  CHECK(in.numbers<std::int64_t>("longs")[1] == std::int64_t{1} << 60);
  CHECK(in.numbers<bool>("flags") == std::vector<bool>{true, false});
  CHECK(in.strings("words")[2] == std::string_view("nul\0inside", 10));
  CHECK(in.strings("views")[1] == "y");

  const auto same = [&](const char* name, const std::vector<std::byte>& wanted,
                        const std::vector<std::uint64_t>& shape) {
    const auto& tensor = in.tensor(name);
    CHECK(std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end()) == wanted);
    CHECK(tensor.shape == shape);
    CHECK(tensor.file_offset % 32 == 0);
  };
  same("matrix", matrix, {3, 5});
  same("blocks", blocks, {2, 64});
  same("empty", {}, {0, 4});
  same("made", pattern(14, 3), {7});
  same("scalar", std::vector<std::byte>(matrix.begin(), matrix.begin() + 4), {});
  CHECK(in.tensor("made").format == weight_format::bf16);
}

TEST_CASE("metadata moves from file to file unchanged") {
  scratch_folder folder;
  const gguf_file original(golden("tiny.gguf"));
  gguf_writer out;
  out.set_all(original);
  for (const auto& tensor : original.tensors()) {
    if (tensor.format) out.add_tensor(tensor.name, *tensor.format, tensor.shape, tensor.bytes);
  }
  out.write(folder / "copy.gguf");
  const gguf_file copy(folder / "copy.gguf");
  REQUIRE(copy.metadata().size() == original.metadata().size());
  for (std::size_t i = 0; i < copy.metadata().size(); ++i) {
    CHECK(copy.metadata()[i].key == original.metadata()[i].key);
    CHECK(copy.metadata()[i].value.describe() == original.metadata()[i].value.describe());
  }
  CHECK(copy.tensors().size() == 7);
}

TEST_CASE("an alignment that is set is kept") {
  scratch_folder folder;
  for (const std::uint32_t alignment : {8u, 64u, 4096u}) {
    gguf_writer out;
    out.set("general.alignment", alignment);
    const auto bytes = pattern(4, 0);
    out.add_tensor("a", weight_format::f32, {1}, bytes);
    out.add_tensor("b", weight_format::f32, {1}, bytes);
    out.write(folder / "a.gguf");
    const gguf_file in(folder / "a.gguf");
    CHECK(in.alignment() == alignment);
    CHECK(in.tensor("b").file_offset - in.tensor("a").file_offset == alignment);
  }
}

TEST_CASE("senseless content is refused when it is given") {
  gguf_writer out;
  const auto bytes = pattern(64, 0);
  out.add_tensor("t", weight_format::f32, {16}, bytes);
  CHECK(holds(failure<config_error>([&] { out.set("", 1); }), "key"));
  CHECK(holds(failure<config_error>([&] { out.set("general.alignment", 24u); }), "general.alignment"));
  CHECK(holds(failure<config_error>([&] { out.set("general.alignment", "32"); }), "general.alignment"));
  CHECK(holds(failure<config_error>([&] { out.add_tensor("t", weight_format::f32, {16}, bytes); }), "'t'"));
  CHECK(holds(failure<config_error>([&] { out.add_tensor("", weight_format::f32, {16}, bytes); }), "name"));
  CHECK(holds(failure<config_error>([&] { out.add_tensor("p", weight_format::f32, {16}, gguf_writer::producer{}); }),
              "'p'"));
  CHECK(holds(failure<shape_error>([&] { out.add_tensor("u", weight_format::f32, {15}, bytes); }), "'u'"));
  CHECK(holds(failure<shape_error>([&] { out.add_tensor("u", weight_format::q4_0, {2, 16}, bytes); }), "[2, 16]"));
  CHECK(holds(failure<shape_error>([&] {
                out.add_tensor("u", weight_format::f32, {~std::uint64_t{0}, 2}, bytes);
              }),
              "'u'"));
  CHECK(holds(failure<shape_error>([&] {
                out.add_tensor("u", weight_format::f32, std::vector<std::uint64_t>(9, 1), std::span(bytes).first(4));
              }),
              "9 dimensions"));
}

TEST_CASE("a writer that fails leaves the old file") {
  scratch_folder folder;
  const auto path = folder / "a.gguf";
  put(path, "old");
  gguf_writer out;
  out.add_tensor("short", weight_format::f32, {4}, [] { return pattern(15, 0); });
  const auto text = failure<shape_error>([&] { out.write(path); });
  CHECK(holds(text, "'short'"));
  CHECK(holds(text, "16"));
  CHECK(holds(text, "15"));
  CHECK(content(path) == "old");
  CHECK(folder.count() == 1);
  CHECK(holds(failure<runnel::io_error>([&] { gguf_writer().write(folder / "no" / "b.gguf"); }), "b.gguf"));
}
