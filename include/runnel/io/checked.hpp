// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <runnel/core/error.hpp>

/// \file
/// Small tools for reading bytes nobody vouches for: checked arithmetic, a bounded cursor, an index of names.

namespace runnel::io {

static_assert(std::endian::native == std::endian::little, "runnel reads weight files in place; they are little endian");

/// a + b, or nothing if it does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) noexcept {
  if (a > std::numeric_limits<std::uint64_t>::max() - b) return std::nullopt;
  return a + b;
}

/// a * b, or nothing if it does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) noexcept {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) return std::nullopt;
  return a * b;
}

/// Product of the sizes in `shape` (1 if it is empty), or nothing if it does not fit 64 bits. A zero anywhere gives 0.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_product(std::span<const std::uint64_t> shape) noexcept {
  for (const std::uint64_t size : shape) {
    if (size == 0) return 0;
  }
  std::uint64_t product = 1;
  for (const std::uint64_t size : shape) {
    const auto next = checked_mul(product, size);
    if (!next) return std::nullopt;
    product = *next;
  }
  return product;
}

/// Text of a file made fit for an error message: in quotes, control characters escaped, cut after 96 bytes.
[[nodiscard]] inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 96;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15u];
    } else {
      out += c;
    }
  }
  out += text.size() > longest ? "...'" : "'";
  return out;
}

/// A shape as `[2, 3]` for messages.
[[nodiscard]] inline std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

/// Finds names by binary search. Building costs O(n log n) comparisons whatever the names are, so hostile files gain
/// nothing. The names must outlive the index.
class name_index {
 public:
  name_index() = default;

  /// Takes the names in their order; `duplicate()` then tells whether one occurs twice.
  explicit name_index(std::vector<std::string_view> names) : names_(std::move(names)), order_(names_.size()) {
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::sort(order_.begin(), order_.end(), [this](std::size_t a, std::size_t b) { return names_[a] < names_[b]; });
  }

  /// Some name that occurs more than once, or nothing.
  [[nodiscard]] std::optional<std::string_view> duplicate() const {
    for (std::size_t i = 1; i < order_.size(); ++i) {
      if (names_[order_[i - 1]] == names_[order_[i]]) return names_[order_[i]];
    }
    return std::nullopt;
  }

  /// Positions of the names, sorted by name.
  [[nodiscard]] std::span<const std::size_t> order() const noexcept { return order_; }

  /// Position of `name` in the order given to the constructor, or nothing.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const {
    const auto found = std::lower_bound(order_.begin(), order_.end(), name,
                                        [this](std::size_t a, std::string_view wanted) { return names_[a] < wanted; });
    if (found == order_.end() || names_[*found] != name) return std::nullopt;
    return *found;
  }

 private:
  std::vector<std::string_view> names_;
  std::vector<std::size_t> order_;
};

/// A cursor over the bytes of a file that never leaves them. `file` and `about` name the file and the thing being
/// read in messages; both must outlive the reader.
class byte_reader {
 public:
  byte_reader(std::span<const std::byte> bytes, std::string_view file) noexcept : bytes_(bytes), file_(file) {}

  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  [[nodiscard]] std::uint64_t remaining() const noexcept { return bytes_.size() - offset_; }

  /// Says what is read from here on, such as "key 'general.name'"; used in messages only.
  void about(std::string_view kind, std::string_view name) noexcept {
    kind_ = kind;
    name_ = name;
  }

  /// The next little-endian number. Throws format_error if the file ends before it does.
  template <class T>
  requires std::is_arithmetic_v<T>
  [[nodiscard]] T number(std::string_view what) {
    const auto raw = take(sizeof(T), what);
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }

  /// The next `count` bytes, in place. Throws format_error if fewer remain.
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (count > remaining()) [[unlikely]] {
      fail(what, " needs ", count, " bytes at offset ", offset_, ", but only ", remaining(), " remain in the file");
    }
    const auto out = bytes_.subspan(static_cast<std::size_t>(offset_), static_cast<std::size_t>(count));
    offset_ += count;
    return out;
  }

  /// The next `count` bytes as text, in place.
  [[nodiscard]] std::string_view text(std::uint64_t count, std::string_view what) {
    const auto raw = take(count, what);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  /// Throws format_error that names the file and the thing being read.
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    complain(message(parts...));
  }

 private:
  [[noreturn, gnu::cold, gnu::noinline]] void complain(const std::string& what) const {
    if (kind_.empty()) runnel::fail<format_error>(file_, ": ", what);
    const std::string name = name_.empty() ? "(unnamed)" : in_quotes(name_);
    runnel::fail<format_error>(file_, ": ", kind_, " ", name, ": ", what);
  }

  std::span<const std::byte> bytes_;
  std::string_view file_;
  std::string_view kind_;
  std::string_view name_;
  std::uint64_t offset_ = 0;
};

}  // namespace runnel::io
