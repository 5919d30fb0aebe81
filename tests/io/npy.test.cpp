// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/npy.hpp>

#include <doctest/doctest.h>

#include <limits>

#include "support.hpp"

using runnel::format_error;
using runnel::shape_error;
using runnel::io::read_npy;
using runnel::io::write_npy;
using namespace runnel_test;

namespace {

template <class T>
void round_trip(const std::vector<std::uint64_t>& shape, const std::vector<T>& values) {
  scratch_folder folder;
  write_npy<T>(folder / "a.npy", shape, values);
  CHECK(folder.count() == 1);
  const auto text = content(folder / "a.npy");
  CHECK((text.size() - values.size() * sizeof(T)) % 64 == 0);
  const auto back = read_npy<T>(folder / "a.npy");
  CHECK(back.shape == shape);
  CHECK(back.values == values);
}

std::string npy(std::string_view header, std::size_t data, char major = 1) {
  byte_builder out;
  out.raw("\x93NUMPY").raw(std::string(1, major)).raw(std::string(1, '\0'));
  if (major == 1)
    out.number(static_cast<std::uint16_t>(header.size()));
  else
    out.number(static_cast<std::uint32_t>(header.size()));
  return out.raw(header).zeros(data).text();
}

std::string refusal(const std::string& bytes) {
  return failure<format_error>([&] { (void)read_npy<float>(in_memory(bytes, "some.npy")); });
}

}  // namespace

TEST_CASE("arrays of every rank and type come back") {
  round_trip<float>({}, {1.5f});
  round_trip<float>({3}, {1, -0.0f, std::numeric_limits<float>::infinity()});
  round_trip<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  round_trip<float>({0}, {});
  round_trip<float>({4, 0, 2}, {});
  round_trip<double>({1, 1, 2}, {1e-300, -2});
  round_trip<std::int32_t>({2, 1, 1, 2}, {1, -2, 3, std::numeric_limits<std::int32_t>::min()});
  round_trip<std::int64_t>({1}, {std::numeric_limits<std::int64_t>::max()});
  round_trip<float>(std::vector<std::uint64_t>(30, 1), {7});
}

TEST_CASE("files by NumPy read as they were written") {
  const auto matrix = read_npy<float>(golden("matrix_f4.npy"));
  CHECK(matrix.shape == std::vector<std::uint64_t>{3, 4});
  REQUIRE(matrix.values.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) CHECK(matrix.values[i] == static_cast<float>(i) / 8 - 3);
  const auto scalar = read_npy<double>(golden("scalar_f8.npy"));
  CHECK(scalar.shape.empty());
  CHECK(scalar.values == std::vector<double>{1e-300});
  CHECK(read_npy<std::int32_t>(golden("vector_i4.npy")).values == std::vector<std::int32_t>{1, -2, 3});
  CHECK(read_npy<std::int64_t>(golden("empty_i8.npy")).shape == std::vector<std::uint64_t>{2, 0, 3});
}

TEST_CASE("what NumPy writes and we do not read is refused with the reason") {
  CHECK(holds(failure<format_error>([] { (void)read_npy<float>(golden("fortran_f4.npy")); }), "column-major"));
  const auto text = failure<format_error>([] { (void)read_npy<float>(golden("vector_i4.npy")); });
  CHECK(holds(text, "vector_i4.npy"));
  CHECK(holds(text, "'<f4'"));
  CHECK(holds(text, "'<i4'"));
}

TEST_CASE("a header is spelled as NumPy spells it") {
  scratch_folder folder;
  const auto dictionary = [](const std::filesystem::path& path) {
    const auto text = content(path);
    return text.substr(10, text.find('}') - 10);
  };
  const auto matrix = read_npy<float>(golden("matrix_f4.npy"));
  write_npy<float>(folder / "a.npy", matrix.shape, matrix.values);
  CHECK(dictionary(folder / "a.npy") == dictionary(golden("matrix_f4.npy")));
  const auto vector = read_npy<std::int32_t>(golden("vector_i4.npy"));
  write_npy<std::int32_t>(folder / "a.npy", vector.shape, vector.values);
  CHECK(dictionary(folder / "a.npy") == dictionary(golden("vector_i4.npy")));
  const auto scalar = read_npy<double>(golden("scalar_f8.npy"));
  write_npy<double>(folder / "a.npy", scalar.shape, scalar.values);
  CHECK(dictionary(folder / "a.npy") == dictionary(golden("scalar_f8.npy")));
}

TEST_CASE("headers in other spellings and versions") {
  const auto read = [](const std::string& bytes) { return read_npy<float>(in_memory(bytes, "some.npy")).shape; };
  CHECK(read(npy("{\"shape\":(2,),\"descr\":\"<f4\",\"fortran_order\":False}", 8)) == std::vector<std::uint64_t>{2});
  CHECK(read(npy("{ 'descr' : '<f4' , 'fortran_order' : True, 'shape' : ( 2 ) , }  \n", 8)) ==
        std::vector<std::uint64_t>{2});
  CHECK(read(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", 8, 2)) ==
        std::vector<std::uint64_t>{1, 2});
  CHECK(read(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4, 3)).empty());
}

TEST_CASE("malformed files are refused by name") {
  const auto shaped = [](std::string_view shape, std::size_t data) {
    return npy(runnel::message("{'descr': '<f4', 'fortran_order': False, 'shape': ", shape, ", }"), data);
  };
  struct bad {
    std::string bytes;
    const char* part;
  };
  const bad all[] = {
      {"", "magic"},
      {"NUMPY\x93\x01", "is no .npy"},
      {npy("{}", 0, 4), "version 4"},
      {npy("{}", 0), "needs descr"},
      {npy("", 0), "expected '{'"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x", 4), "follows"},
      {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4), "'descr' occurs"},
      {npy("{'descr': '<f4', 'other': 1}", 4), "'other'"},
      {npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4), "'>f4'"},
      {npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4), "records"},
      {npy("{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}", 4), "expected"},
      {npy("{'descr': '<f4", 4), "does not end"},
      {npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", 4), "True or False"},
      {shaped("(1", 4), "expected"},
      {shaped("(-1,)", 4), "expected a size"},
      {shaped("(1.5,)", 4), "expected"},
      {shaped("1", 4), "expected '('"},
      {shaped("(,)", 4), "expected a size"},
      {shaped("(2,)", 4), "[2]"},
      {shaped("(1,)", 8), "[1]"},
      {shaped("(0,)", 4), "[0]"},
      {shaped("(4611686018427387904,)", 0), "shape"},
      {shaped("(4294967296, 4294967296)", 0), "shape"},
      {shaped("(18446744073709551616,)", 0), "64 bits"},
      {shaped("(" + std::string(100, '9') + ",)", 0), "64 bits"},
      {shaped("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)", 4), "32 dimensions"},
  };
  for (const bad& one_bad : all) {
    const auto* part = one_bad.part;
    const auto text = refusal(one_bad.bytes);
    CAPTURE(text);
    CHECK(text.starts_with("some.npy: "));
    CHECK(holds(text, part));
  }
  const auto whole = shaped("(2, 3)", 24);
  for (std::size_t size = 0; size < whole.size(); ++size)
    CHECK(refusal(whole.substr(0, size)).starts_with("some.npy: "));
  auto long_header = npy("{}", 0, 2);
  long_header.replace(8, 4, "\xff\xff\xff\xff");
  CHECK(holds(refusal(long_header), "4294967295"));
}

TEST_CASE("a shape that does not fit the values is refused before a file appears") {
  scratch_folder folder;
  const std::vector<float> values(6);
  for (const auto& shape :
       std::vector<std::vector<std::uint64_t>>{{5}, {}, {7}, {2, 4}, {std::uint64_t{1} << 63, 2}, {0}}) {
    CHECK(holds(failure<shape_error>([&] { write_npy<float>(folder / "a.npy", shape, values); }), "a.npy"));
  }
  CHECK(folder.count() == 0);
}
