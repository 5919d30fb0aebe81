// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <runnel/core/ascii.hpp>
#include <runnel/core/error.hpp>

/// \file
/// The formats in which weights are stored: names, block sizes, numbers in GGUF files. Codecs live in their own
/// headers.

namespace runnel::quant {

/// How a weight matrix is stored. Rows are cut into blocks; every block is `block_bytes` long and holds `block_size`
/// values.
enum class weight_format : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl
};

/// What is known about a format without decoding it.
struct format_info {
  weight_format format;
  std::string_view name;    ///< lower case, as options and messages spell it
  std::size_t block_size;   ///< values in a block
  std::size_t block_bytes;  ///< bytes of a block
  std::uint32_t ggml_type;  ///< number of the type in GGUF files
};

/// Every format, in the order of the enumeration.
inline constexpr std::array<format_info, 14> all_formats{{
    {weight_format::f32, "f32", 1, 4, 0},
    {weight_format::f16, "f16", 1, 2, 1},
    {weight_format::bf16, "bf16", 1, 2, 30},
    {weight_format::q8_0, "q8_0", 32, 34, 8},
    {weight_format::q4_0, "q4_0", 32, 18, 2},
    {weight_format::q4_1, "q4_1", 32, 20, 3},
    {weight_format::q5_0, "q5_0", 32, 22, 6},
    {weight_format::q5_1, "q5_1", 32, 24, 7},
    {weight_format::q2_k, "q2_k", 256, 84, 10},
    {weight_format::q3_k, "q3_k", 256, 110, 11},
    {weight_format::q4_k, "q4_k", 256, 144, 12},
    {weight_format::q5_k, "q5_k", 256, 176, 13},
    {weight_format::q6_k, "q6_k", 256, 210, 14},
    {weight_format::iq4_nl, "iq4_nl", 32, 18, 20},
}};

/// The names of all formats, for messages.
[[nodiscard]] inline std::string format_names() {
  std::string list;
  for (const format_info& known : all_formats) list.append(list.empty() ? "" : ", ").append(known.name);
  return list;
}

/// Facts about `format`. Constant time.
[[nodiscard]] constexpr const format_info& info(weight_format format) noexcept {
  return all_formats[static_cast<std::size_t>(format)];
}

/// The format with this number in GGUF files, or nothing if the library has no codec for it.
[[nodiscard]] constexpr std::optional<weight_format> from_ggml_type(std::uint32_t type) noexcept {
  for (const format_info& known : all_formats) {
    if (known.ggml_type == type) return known.format;
  }
  return std::nullopt;
}

/// The format with this name (lower or upper case ASCII), or nothing.
[[nodiscard]] constexpr std::optional<weight_format> from_name(std::string_view name) noexcept {
  const auto same = [](std::string_view lower, std::string_view any) {
    return std::equal(lower.begin(), lower.end(), any.begin(), any.end(),
                      [](char ours, char theirs) { return ours == ascii_lower(theirs); });
  };
  for (const format_info& known : all_formats) {
    if (same(known.name, name)) return known.format;
  }
  return std::nullopt;
}

/// Bytes that `elements` values take, or nothing if they are no whole number of blocks or the product overflows.
[[nodiscard]] constexpr std::optional<std::uint64_t> try_bytes_for(weight_format format,
                                                                   std::uint64_t elements) noexcept {
  const format_info& known = info(format);
  if (elements % known.block_size != 0) return std::nullopt;
  const std::uint64_t blocks = elements / known.block_size;
  if (blocks > std::numeric_limits<std::uint64_t>::max() / known.block_bytes) return std::nullopt;
  return blocks * known.block_bytes;
}

/// Bytes that `elements` values take. Throws shape_error if they are no whole number of blocks, limit_error if the
/// product does not fit 64 bits.
[[nodiscard]] inline std::uint64_t bytes_for(weight_format format, std::uint64_t elements) {
  const format_info& known = info(format);
  expect<shape_error>(elements % known.block_size == 0, known.name, " stores values in blocks of ", known.block_size,
                      ", but ", elements, " values are no whole number of blocks");
  const auto bytes = try_bytes_for(format, elements);
  expect<limit_error>(bytes.has_value(), elements, " values of ", known.name, " take more than 2^64 bytes");
  return *bytes;
}

namespace detail {
constexpr bool formats_are_in_order() noexcept {
  for (std::size_t i = 0; i < all_formats.size(); ++i) {
    if (static_cast<std::size_t>(all_formats[i].format) != i) return false;
  }
  return true;
}
static_assert(formats_are_in_order());
}  // namespace detail

}  // namespace runnel::quant
