// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/safetensors.hpp>

#include <doctest/doctest.h>

#include "support.hpp"

using runnel::format_error;
using runnel::io_error;
using runnel::io::open_safetensors;
using runnel::io::safetensors_file;
using runnel::quant::weight_format;
using namespace runnel_test;

namespace {

/// A file with this header and so many bytes of data, unless its length lies.
std::string file_of(std::string_view header, std::size_t data = 0) {
  return byte_builder().string(header).zeros(data).text();
}

safetensors_file parse(const std::string& bytes) { return safetensors_file(in_memory(bytes, "some.safetensors")); }

std::string tensor(std::string_view name, std::string_view type, std::string_view shape, std::uint64_t begin,
                   std::uint64_t end) {
  return runnel::message("\"", name, R"(":{"dtype":")", type, R"(","shape":)", shape, R"(,"data_offsets":[)", begin,
                         ",", end, "]}");
}

std::string refusal(const std::string& bytes) {
  return failure<format_error>([&] { (void)parse(bytes); });
}

}  // namespace

TEST_CASE("a file by the reference writer reads as it was written") {
  const safetensors_file file(golden("tiny.safetensors"));
  REQUIRE(file.tensors().size() == 6);
  REQUIRE(file.metadata().size() == 2);
  for (const auto& [key, value] : file.metadata())
    CHECK(((key == "format" && value == "np") || (key == "größe" && value == "klein")));
  const auto* matrix = file.find_tensor("matrix.f32");
  REQUIRE(matrix != nullptr);
  CHECK(matrix->format == weight_format::f32);
  CHECK(matrix->shape == std::vector<std::uint64_t>{3, 4});
  float values[12];
  REQUIRE(matrix->bytes.size() == sizeof(values));
  std::memcpy(values, matrix->bytes.data(), sizeof(values));
  for (int i = 0; i < 12; ++i) CHECK(values[i] == static_cast<float>(i) / 8 - 3);
  CHECK(matrix->file == &file.file());
  CHECK(file.file().bytes().data() + matrix->file_offset == matrix->bytes.data());
  CHECK(file.find_tensor("cube.f16")->format == weight_format::f16);
  CHECK(file.find_tensor("empty")->bytes.empty());
  CHECK(file.find_tensor("empty")->shape == std::vector<std::uint64_t>{0, 5});
  CHECK(file.find_tensor("scalar")->shape.empty());
  CHECK(file.find_tensor("scalar")->elements() == 1);
  CHECK(file.find_tensor("nothing") == nullptr);
  for (const auto& [name, type] : {std::pair("vector.i64", "I64"), std::pair("flags", "BOOL")}) {
    const auto* other = file.find_tensor(name);
    REQUIRE(other != nullptr);
    CHECK_FALSE(other->format.has_value());
    const auto text = failure<format_error>([&] { (void)other->loadable_format(); });
    CHECK(holds(text, "tiny.safetensors"));
    CHECK(holds(text, name));
    CHECK(holds(text, type));
  }
}

TEST_CASE("headers in any order, padded, with and without metadata") {
  const auto file =
      parse(file_of(R"({"b":{"data_offsets":[4,8],"shape":[2,1],"dtype":"BF16"},"__metadata__":{"k":"v"},)" +
                        tensor("a", "F32", "[]", 0, 4) + "," + tensor("empty", "F16", "[3,0]", 8, 8) + "}   ",
                    8));
  CHECK(file.tensors()[0].name == "b");
  CHECK(file.tensors()[1].shape.empty());
  CHECK(file.metadata()[0].second == "v");
  CHECK(parse(file_of("{}")).tensors().empty());
  CHECK(parse(file_of(R"({"__metadata__":{}})")).metadata().empty());
  CHECK(parse(file_of("{" + tensor("f4", "F4", "[4]", 0, 2) + "}", 2)).tensors()[0].type_name == "F4");
  CHECK(parse(file_of("{" + tensor("zero", "F32", "[18446744073709551615,18446744073709551615,0]", 0, 0) + "}"))
            .tensors()
            .size() == 1);
  CHECK(parse(file_of("{" + tensor(R"(quote\"\u00e4)", "U8", "[1]", 0, 1) + "}", 1)).find_tensor("quote\"ä") !=
        nullptr);
}

TEST_CASE("lengths that lie") {
  const auto with_length = [](std::uint64_t length) { return byte_builder().number(length).raw("{}").text(); };
  for (const std::uint64_t length :
       {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{100'000'001}, std::uint64_t{3}}) {
    const auto text = refusal(with_length(length));
    CHECK(text.starts_with("some.safetensors: "));
    CHECK(holds(text, std::to_string(length)));
  }
  CHECK(holds(refusal(with_length(1)), "JSON"));
  CHECK(holds(refusal(with_length(0)), "'{'"));
  for (const std::size_t size : {0u, 1u, 7u})
    CHECK(holds(refusal(with_length(2).substr(0, size)), "header length needs 8 bytes"));
}

TEST_CASE("ranges that lie are refused with the tensor's name") {
  const auto one = [](std::string_view type, std::string_view shape, std::uint64_t begin, std::uint64_t end,
                      std::size_t data) {
    return refusal(file_of("{" + tensor("the.name", type, shape, begin, end) + "}", data));
  };
  const auto two = [](std::uint64_t begin, std::uint64_t end, std::string_view shape, std::size_t data) {
    return refusal(file_of(
        "{" + tensor("first", "U8", "[4]", 0, 4) + "," + tensor("the.name", "U8", shape, begin, end) + "}", data));
  };
  struct bad {
    std::string text;
    const char* part;
  };
  const bad all[] = {
      {one("F32", "[1]", 4, 0, 8), "begin at 4"},
      {one("F32", "[2]", 0, 8, 7), "end at 8"},
      {one("U8", "[18446744073709551615]", 0, ~std::uint64_t{0}, 8), "end at 18446744073709551615"},
      {one("F32", "[2]", 0, 4, 4), "shape [2]"},
      {one("F32", "[]", 0, 8, 8), "shape []"},
      {one("F32", "[0]", 0, 4, 4), "shape [0]"},
      {one("F32", "[4611686018427387905]", 0, 4, 4), "shape"},    // times 4 wraps to 4
      {one("F32", "[4294967296,4294967296]", 0, 0, 0), "shape"},  // product wraps to 0
      {one("F4", "[3]", 0, 1, 1), "shape"},                       // one and a half bytes
      {one("F33", "[1]", 0, 4, 4), "'F33'"},
      {one("", "[1]", 0, 4, 4), "dtype ''"},
      {one("f32", "[1]", 0, 4, 4), "'f32'"},
      {one("F32", "[1]", 4, 8, 8), "4 unused bytes"},
      {two(3, 7, "[4]", 7), "overlaps"},
      {two(0, 4, "[4]", 4), "overlaps"},
      {two(5, 9, "[4]", 9), "1 unused bytes"},
      {one("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4, 4), "shape has more than 8 numbers"},
  };
  for (const bad& one_bad : all) {
    const auto& text = one_bad.text;
    const auto* part = one_bad.part;
    CAPTURE(text);
    CHECK(text.starts_with("some.safetensors: "));
    CHECK(holds(text, part));
    CHECK((holds(text, "'the.name'") || holds(text, "'first'")));
  }
  CHECK(holds(refusal(file_of("{}", 1)), "1 bytes after the last tensor"));
}

TEST_CASE("headers that are no headers") {
  const auto name = tensor("x", "U8", "[1]", 0, 1);
  const auto with_fields = [](std::string_view fields) {
    return refusal(file_of(runnel::message(R"({"x":{)", fields, "}}"), 1));
  };
  struct bad {
    std::string text;
    const char* part;
  };
  const bad all[] = {
      {refusal(file_of("{" + name + "," + name + "}", 2)), "'x': occurs more than once"},
      {refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})")), "'__metadata__': occurs more than once"},
      {refusal(file_of(R"({"__metadata__":{"k":"1","k":"2"}})")), "'k'"},
      {refusal(file_of(R"({"__metadata__":{"k":1}})")), "'__metadata__': expected strings"},
      {refusal(file_of(R"({"__metadata__":[]})")), "'__metadata__': expected an object"},
      {refusal(file_of(R"({"__metadata__":{"k":{}}})")), "'__metadata__': expected strings"},
      {refusal(file_of("[]")), "'{'"},
      {refusal(file_of(" {}")), "'{'"},
      {refusal(file_of("{} {}")), "JSON"},
      {refusal(file_of("{")), "JSON"},
      {refusal(file_of("{" + name)), "JSON"},
      {refusal(file_of("{\"a\xff\":1}")), "JSON"},
      {refusal(file_of(R"({"x":1})")), "'x': expected an object"},
      {refusal(file_of(R"({"x":null})")), "'x': expected an object"},
      {refusal(file_of(R"({"x":[]})")), "'x': expected an object"},
      {with_fields(R"("dtype":"U8","shape":[1])"), "'x': needs data_offsets"},
      {with_fields(R"("shape":[1],"data_offsets":[0,1])"), "'x': needs dtype"},
      {with_fields(R"("dtype":null,"shape":[1],"data_offsets":[0,1])"), "'x': expected a string as dtype"},
      {with_fields(""), "'x': needs dtype"},
      {with_fields(R"("dtype":"U8","dtype":"U8")"), "'dtype' occurs more than once"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1])"), "'shape' occurs more than once"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1])"), "'strides'"},
      {with_fields(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"), "'x': expected a string as dtype"},
      {with_fields(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), "'x': expected an array as shape"},
      {with_fields(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"),
       "'x': shape: expected whole numbers from 0 to 2^64 - 1"},
      {with_fields(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), "shape: expected whole numbers"},
      {with_fields(R"("dtype":"U8","shape":[1e0],"data_offsets":[0,1])"), "shape: expected whole numbers"},
      {with_fields(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1])"), "from 0 to 2^64 - 1"},
      {with_fields(R"("dtype":"U8","shape":[true],"data_offsets":[0,1])"), "shape: expected whole numbers"},
      {with_fields(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"), "shape: expected whole numbers"},
      {with_fields(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), "shape: expected whole numbers"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":[0])"), "two numbers"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":[])"), "two numbers"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), "data_offsets has more than 2 numbers"},
      {with_fields(R"("dtype":"U8","shape":[1],"data_offsets":{"a":1})"), "expected an array as data_offsets"},
  };
  for (const bad& one_bad : all) {
    const auto& text = one_bad.text;
    const auto* part = one_bad.part;
    CAPTURE(text);
    CHECK(text.starts_with("some.safetensors: "));
    CHECK(holds(text, part));
  }
}

TEST_CASE("deep nesting and huge headers cost neither stack nor memory") {
  const auto before = peak_address_space();
  CHECK(holds(refusal(file_of(std::string(R"({"x":)") + std::string(1'000'000, '['))), "nested deeper than 64"));
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += R"("a":{)";
  CHECK(holds(refusal(file_of(objects)), "nested deeper than 64"));
  CHECK(peak_address_space() - before < (std::uint64_t{64} << 20));

  std::string many = "{";
  for (std::uint64_t i = 0; i < 50'000; ++i) many += tensor(std::to_string(i), "U8", "[1]", i, i + 1) + ",";
  many.back() = '}';
  CHECK(parse(file_of(many, 50'000)).find_tensor("49999")->file_offset == many.size() + 8 + 49'999);
}

TEST_CASE("every file cut short is refused, and no changed byte reaches beyond the file") {
  const std::string whole = file_of(R"({"__metadata__":{"k":"v"},)" + tensor("a", "F32", "[2,2]", 0, 16) + "," +
                                        tensor("b", "F16", "[4]", 16, 24) + "}",
                                    24);
  CHECK(parse(whole).tensors().size() == 2);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(refusal(whole.substr(0, size)).starts_with("some.safetensors: "));
  }
  for (std::size_t at = 0; at < whole.size() - 24; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = whole;
      changed[at] = static_cast<char>(value);
      try {
        const auto file = parse(changed);
        for (const auto& one : file.tensors()) REQUIRE(one.file_offset + one.bytes.size() <= changed.size());
      } catch (const format_error& problem) {
        REQUIRE(std::string_view(problem.what()).starts_with("some.safetensors: "));
      }
    }
  }
}

TEST_CASE("a checkpoint is a file, a folder with one, or an index of several") {
  scratch_folder folder;
  put(folder / "model.safetensors", file_of("{" + tensor("only", "F32", "[1]", 0, 4) + "}", 4));
  CHECK(open_safetensors(folder / "model.safetensors").find_tensor("only") != nullptr);
  auto checkpoint = open_safetensors(folder.path());
  CHECK(checkpoint.tensor("only").shape == std::vector<std::uint64_t>{1});
  const auto moved = std::move(checkpoint);
  CHECK(moved.tensor("only").file == &moved.files()[0].file());
  CHECK(holds(failure<format_error>([&] { (void)moved.tensor("gone"); }), "'gone'"));
  CHECK(holds(failure<format_error>([&] { (void)moved.tensor("gone"); }), "model.safetensors"));
  std::filesystem::remove(folder / "model.safetensors");
  const auto nothing = failure<io_error>([&] { (void)open_safetensors(folder.path()); });
  CHECK(holds(nothing, folder.path().string()));
  CHECK(holds(nothing, "model.safetensors.index.json"));

  put(folder / "part-1.safetensors",
      file_of("{" + tensor("a", "F32", "[1]", 0, 4) + "," + tensor("b", "U8", "[2]", 4, 6) + "}", 6));
  put(folder / "part-2.safetensors", file_of("{" + tensor("c", "BF16", "[1]", 0, 2) + "}", 2));
  put(folder / "model.safetensors.index.json",
      R"({"metadata":{"total_size":12,"deep":[{"a":[1.5,null,true,-1]}]},
          "weight_map":{"c":"part-2.safetensors","a":"part-1.safetensors","b":"part-1.safetensors"},"more":null})");
  const auto sharded = open_safetensors(folder.path());
  REQUIRE(sharded.tensors().size() == 3);
  CHECK(sharded.files().size() == 2);
  CHECK(sharded.tensors()[0].name == "c");
  CHECK(sharded.tensor("a").file->name().ends_with("part-1.safetensors"));
  CHECK(sharded.tensor("c").file->name().ends_with("part-2.safetensors"));
  CHECK(sharded.tensor("c").format == weight_format::bf16);
  CHECK(open_safetensors(folder / "model.safetensors.index.json").tensors().size() == 3);
}

TEST_CASE("an index that lies is refused") {
  scratch_folder folder;
  put(folder / "part.safetensors", file_of("{" + tensor("a", "F32", "[1]", 0, 4) + "}", 4));
  const auto path = folder / "x.index.json";
  const auto attempt = [&](std::string_view text) {
    put(path, text);
    return failure<format_error>([&] { (void)open_safetensors(path); });
  };
  struct bad {
    std::string text;
    const char* part;
  };
  const bad all[] = {
      {attempt(R"({"weight_map":{"a":"part.safetensors","b":"part.safetensors"}})"),
       "'b' is not in 'part.safetensors'"},
      {attempt(R"({"weight_map":{"a":"part.safetensors","a":"part.safetensors"}})"), "'a' occurs more than once"},
      {attempt(R"({"weight_map":{"a":"../part.safetensors"}})"), "'../part.safetensors'"},
      {attempt(R"({"weight_map":{"a":"/etc/passwd"}})"), "'/etc/passwd'"},
      {attempt(R"({"weight_map":{"a":".."}})"), "'..'"},
      {attempt(R"({"weight_map":{"a":""}})"), "''"},
      {attempt(R"({"weight_map":{"a":"C:\\x"}})"), "plain name"},
      {attempt(R"({"weight_map":{"a":"part.safetensors\u0000"}})"), "\\x00"},
      {attempt(R"({"weight_map":{"a":1}})"), "'a'"},
      {attempt(R"({"weight_map":{"a":{"b":"part.safetensors"}}})"), "'a'"},
      {attempt(R"({"weight_map":{"a":["part.safetensors"]}})"), "'a'"},
      {attempt(R"({"weight_map":["a"]})"), "weight_map: expected an object"},
      {attempt(R"({"weight_map":"a"})"), "weight_map: expected an object"},
      {attempt(R"({"weight_map":{},"weight_map":{}})"), "more than once"},
      {attempt(R"({"weight_map":{}})"), "empty"},
      {attempt(R"({"metadata":{"weight_map":{"a":"part.safetensors"}}})"), "no 'weight_map'"},
      {attempt(R"([])"), "expected an object"},
      {attempt(R"("weight_map")"), "expected an object"},
      {attempt(R"({"weight_map":{"a":"part.safetensors"})"), "JSON"},
      {attempt(R"({"m":)" + std::string(1'000'000, '[')), "nested"},
  };
  for (const bad& one_bad : all) {
    const auto& text = one_bad.text;
    const auto* part = one_bad.part;
    CAPTURE(text);
    CHECK(holds(text, "x.index.json"));
    CHECK(holds(text, part));
  }
  const auto before = peak_address_space();
  std::string numbers = R"({"metadata":[0)";
  for (int i = 0; i < 5'000'000; ++i) numbers += ",1";
  CHECK(holds(attempt(numbers + R"(],"weight_map":{}})"), "the JSON has more than"));
  // The text has 10 million bytes and is there three times.
  CHECK(peak_address_space() - before < (std::uint64_t{160} << 20));
  put(path, R"({"weight_map":{"a":"gone.safetensors"}})");
  CHECK(holds(failure<io_error>([&] { (void)open_safetensors(path); }), "gone.safetensors"));
}
