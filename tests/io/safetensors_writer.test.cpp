// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/safetensors_writer.hpp>

#include <doctest/doctest.h>

#include <runnel/io/safetensors.hpp>

#include "support.hpp"

using runnel::config_error;
using runnel::shape_error;
using runnel::io::safetensors_file;
using runnel::io::safetensors_output;
using runnel::io::write_safetensors;
using runnel::quant::weight_format;
using namespace runnel_test;

TEST_CASE("what is written is read back") {
  scratch_folder folder;
  const auto path = folder / "a.safetensors";
  std::string data(64, 'd');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 37);
  const auto all = bytes_of(data);
  const std::vector<safetensors_output> tensors{
      {"half", weight_format::f16, {3}, all.first(6)},
      {"matrix \"q\"\n", weight_format::f32, {2, 3}, all.subspan(6, 24)},
      {"nothing", weight_format::f32, {2, 0}, {}},
      {"größe", weight_format::bf16, {}, all.subspan(30, 2)},
  };
  const std::vector<std::pair<std::string, std::string>> metadata{{"format", "pt"}, {"", "quote\" back\\ tab\t"}};
  write_safetensors(path, tensors, metadata);
  CHECK(folder.count() == 1);
  const safetensors_file in(path);
  REQUIRE(in.tensors().size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& found = in.tensors()[i];
    CHECK(found.name == tensors[i].name);
    CHECK(found.format == tensors[i].format);
    CHECK(found.shape == tensors[i].shape);
    CHECK(std::equal(found.bytes.begin(), found.bytes.end(), tensors[i].bytes.begin(), tensors[i].bytes.end()));
  }
  CHECK(in.tensors()[0].file_offset % 8 == 0);
  CHECK(std::vector(in.metadata().begin(), in.metadata().end()) == metadata);

  write_safetensors(path, {});
  CHECK(safetensors_file(path).tensors().empty());
}

TEST_CASE("senseless content is refused and writes nothing") {
  scratch_folder folder;
  const auto path = folder / "a.safetensors";
  const auto four = bytes_of("abcd");
  const auto attempt = [&]<class Error>(const Error*, std::vector<safetensors_output> tensors) {
    return failure<Error>([&] { write_safetensors(path, tensors); });
  };
  const config_error* config = nullptr;
  const shape_error* shape = nullptr;
  CHECK(holds(attempt(config, {{"", weight_format::f32, {1}, four}}), "name"));
  CHECK(holds(attempt(config, {{"__metadata__", weight_format::f32, {1}, four}}), "__metadata__"));
  CHECK(holds(attempt(config, {{"q", weight_format::q4_0, {32}, four}}), "'q'"));
  CHECK(holds(attempt(config, {{"twice", weight_format::f32, {1}, four}, {"twice", weight_format::f32, {1}, four}}),
              "'twice'"));
  CHECK(holds(attempt(config, {{"\xff", weight_format::f32, {1}, four}}), "UTF-8"));
  CHECK(holds(attempt(shape, {{"s", weight_format::f32, {2}, four}}), "'s'"));
  CHECK(holds(attempt(shape, {{"s", weight_format::f32, {~std::uint64_t{0}, 3}, four}}), "'s'"));
  const std::vector<std::pair<std::string, std::string>> twice{{"k", "1"}, {"k", "2"}};
  CHECK(holds(failure<config_error>([&] { write_safetensors(path, {}, twice); }), "'k'"));
  CHECK(folder.count() == 0);
  CHECK(holds(failure<runnel::io_error>([&] { write_safetensors(folder / "no" / "b.safetensors", {}); }),
              "b.safetensors"));
}
