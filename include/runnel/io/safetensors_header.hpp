// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/json.hpp>
#include <runnel/quant/format.hpp>

/// \file
/// The JSON parts of safetensors checkpoints. They are taken apart while they are read, so that no tree of a hostile
/// header is ever built: memory stays within a small multiple of the header, whatever its nesting.

namespace runnel::io::detail {

/// A type that safetensors headers may name, whether or not the library can load it.
struct safetensors_type {
  std::string_view name;
  std::uint32_t bits;  ///< of a value
  std::optional<quant::weight_format> format;
};

[[nodiscard]] inline const safetensors_type* find_safetensors_type(std::string_view name) noexcept {
  using quant::weight_format;
  static constexpr std::array<safetensors_type, 22> known{{
      {"F32", 32, weight_format::f32},  {"F16", 16, weight_format::f16}, {"BF16", 16, weight_format::bf16},
      {"F64", 64, std::nullopt},        {"I64", 64, std::nullopt},       {"U64", 64, std::nullopt},
      {"C64", 64, std::nullopt},        {"I32", 32, std::nullopt},       {"U32", 32, std::nullopt},
      {"I16", 16, std::nullopt},        {"U16", 16, std::nullopt},       {"I8", 8, std::nullopt},
      {"U8", 8, std::nullopt},          {"BOOL", 8, std::nullopt},       {"F8_E5M2", 8, std::nullopt},
      {"F8_E4M3", 8, std::nullopt},     {"F8_E8M0", 8, std::nullopt},    {"F8_E5M2FNUZ", 8, std::nullopt},
      {"F8_E4M3FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},    {"F6_E3M2", 6, std::nullopt},
      {"F4", 4, std::nullopt},
  }};
  for (const safetensors_type& type : known) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

/// One tensor of a header; offsets count from the end of the header.
struct safetensors_entry {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct safetensors_header {
  std::vector<safetensors_entry> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Values and names that JSON of such a size may have: real headers have less than one for every four bytes, and one
/// takes the memory of a few.
[[nodiscard]] constexpr std::size_t most_header_values(std::string_view text) noexcept { return text.size() / 4 + 64; }

/// Reads the header of a file.
class safetensors_header_reader {
 public:
  safetensors_header_reader(std::string_view text, const std::string& file)
      : document_(text, file, most_header_values(text)), file_(file) {}

  [[nodiscard]] safetensors_header read() {
    safetensors_header out;
    bool has_metadata = false;
    for (const json_value member : json_object(document_.root()).members()) {
      name_ = member.name();
      if (name_ != metadata_name) {
        out.tensors.push_back(read_tensor(member));
        continue;
      }
      if (std::exchange(has_metadata, true)) fail("occurs more than once");
      if (!member.is_object()) fail("expected an object");
      for (const json_value line : member) {
        const auto text = line.text();
        if (!text) fail("expected strings");
        out.metadata.emplace_back(line.name(), *text);
      }
    }
    return out;
  }

 private:
  static constexpr std::string_view metadata_name = "__metadata__";

  template <class... Parts>
  [[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) const {
    const std::string where = message(name_ == metadata_name ? "" : "tensor ", in_quotes(name_));
    runnel::fail<format_error>(file_, ": ", where, ": ", message(parts...));
  }

  [[nodiscard]] safetensors_entry read_tensor(json_value tensor) const {
    constexpr std::array<std::string_view, 3> known{"dtype", "shape", "data_offsets"};
    constexpr std::size_t most_dimensions = 8;
    safetensors_entry out;
    out.name = name_;
    if (!tensor.is_object()) fail("expected an object");
    std::array<bool, known.size()> seen{};
    for (const json_value member : tensor) {
      const auto field = std::find(known.begin(), known.end(), member.name());
      if (field == known.end()) fail("field ", in_quotes(member.name()), " is unknown");
      const auto which = static_cast<std::size_t>(field - known.begin());
      if (std::exchange(seen[which], true)) fail("field ", in_quotes(*field), " occurs more than once");
      if (which == 0) {
        const auto text = member.text();
        if (!text) fail("expected a string as dtype");
        out.type = *text;
      } else if (which == 1) {
        out.shape = read_sizes(member, most_dimensions);
      } else {
        const auto offsets = read_sizes(member, 2);
        if (offsets.size() != 2) fail("data_offsets needs two numbers");
        out.begin = offsets[0];
        out.end = offsets[1];
      }
    }
    for (std::size_t i = 0; i < known.size(); ++i) {
      if (!seen[i]) fail("needs ", known[i]);
    }
    return out;
  }

  [[nodiscard]] std::vector<std::uint64_t> read_sizes(json_value list, std::size_t most) const {
    std::vector<std::uint64_t> out;
    if (!list.is_array()) fail("expected an array as ", list.name());
    if (list.size() > most) fail(list.name(), " has more than ", most, " numbers");
    for (const json_value one : list) {
      const auto number = one.natural();
      if (!number) fail(list.name(), ": expected whole numbers from 0 to 2^64 - 1");
      out.push_back(*number);
    }
    return out;
  }

  json_document document_;
  const std::string& file_;
  std::string_view name_;
};

[[nodiscard]] inline safetensors_header parse_safetensors_header(std::string_view text, const std::string& file) {
  if (text.empty() || text.front() != '{') fail<format_error>(file, ": the header does not begin with '{'");
  return safetensors_header_reader(text, file).read();
}

/// Pairs of tensor and file, in the order of the index; what it has beside its `weight_map` is skipped.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                                              const std::string& file) {
  const json_document document(text, file, most_header_values(text));
  std::vector<std::pair<std::string, std::string>> out;
  bool found = false;
  for (const json_value member : json_object(document.root()).members()) {
    if (member.name() != "weight_map") continue;
    if (std::exchange(found, true)) fail<format_error>(file, ": 'weight_map' occurs more than once");
    if (!member.is_object()) fail<format_error>(file, ": weight_map: expected an object");
    for (const json_value line : member) {
      const auto name = line.text();
      if (!name)
        fail<format_error>(file, ": weight_map: tensor ", in_quotes(line.name()), ": expected the name of a file");
      out.emplace_back(line.name(), *name);
    }
  }
  if (!found) fail<format_error>(file, ": the index has no 'weight_map'");
  if (out.empty()) fail<format_error>(file, ": the 'weight_map' is empty");
  return out;
}

}  // namespace runnel::io::detail
