// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/mmap.hpp>

namespace runnel::io {

/// An array read from a `.npy` file.
template <class T>
struct npy_array {
  std::vector<std::uint64_t> shape;  ///< row-major, outermost size first; empty for a scalar
  std::vector<T> values;
};

namespace detail {

/// NumPy's name of T, or empty if arrays of it are not supported.
template <class T>
inline constexpr std::string_view npy_type{};
template <>
inline constexpr std::string_view npy_type<float> = "<f4";
template <>
inline constexpr std::string_view npy_type<double> = "<f8";
template <>
inline constexpr std::string_view npy_type<std::int32_t> = "<i4";
template <>
inline constexpr std::string_view npy_type<std::int64_t> = "<i8";

struct npy_header {
  std::string_view type;
  bool column_major = false;
  std::vector<std::uint64_t> shape;
};

/// Reads the header's dictionary, a literal of Python with three known keys in any order.
class npy_header_reader {
 public:
  npy_header_reader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  [[nodiscard]] npy_header read() {
    npy_header out;
    unsigned seen = 0;
    need('{');
    while (!accept('}')) {
      const auto key = quoted_text();
      need(':');
      const auto once = [&](unsigned bit) {
        if ((seen & bit) != 0) fail("key ", in_quotes(key), " occurs more than once");
        seen |= bit;
      };
      if (key == "descr") {
        once(1);
        out.type = quoted_text();
      } else if (key == "fortran_order") {
        once(2);
        out.column_major = truth();
      } else if (key == "shape") {
        once(4);
        out.shape = sizes();
      } else {
        fail("key ", in_quotes(key), " is unknown");
      }
      if (!accept(',')) {
        need('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) fail("text follows the dictionary");
    if (seen != 7) fail("the dictionary needs descr, fortran_order and shape");
    return out;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    runnel::fail<format_error>(file_, ": header: ", parts..., " (at its byte ", at_, ")");
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool accept(char wanted) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void need(char wanted) {
    if (!accept(wanted)) fail("expected '", wanted, "'");
  }

  std::string_view quoted_text() {
    skip_space();
    const char mark = at_ < text_.size() ? text_[at_] : '\0';
    if (mark != '\'' && mark != '"') fail("expected a string; arrays of records are not supported");
    const auto end = text_.find(mark, at_ + 1);
    if (end == std::string_view::npos) fail("a string does not end");
    const auto out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return out;
  }

  bool truth() {
    skip_space();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    fail("expected True or False");
  }

  std::vector<std::uint64_t> sizes() {
    constexpr std::size_t most_dimensions = 32;
    std::vector<std::uint64_t> out;
    need('(');
    while (!accept(')')) {
      if (out.size() == most_dimensions) fail("more than ", most_dimensions, " dimensions");
      out.push_back(size());
      if (!accept(',')) {
        need(')');
        break;
      }
    }
    return out;
  }

  std::uint64_t size() {
    skip_space();
    const auto first = at_;
    std::uint64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const auto scaled = checked_mul(value, 10);
      const auto next = scaled ? checked_add(*scaled, static_cast<std::uint64_t>(text_[at_] - '0')) : std::nullopt;
      if (!next) fail("a size does not fit 64 bits");
      value = *next;
    }
    if (at_ == first) fail("expected a size");
    return value;
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
};

}  // namespace detail

/// Element types that `.npy` files are read and written in.
template <class T>
concept npy_element = !detail::npy_type<T>.empty();

/// Parses the bytes of a `.npy` file (format 1, 2 or 3, row-major, little endian). Throws format_error that names the
/// file if it is malformed or holds another type than T.
template <npy_element T>
[[nodiscard]] npy_array<T> read_npy(const mapped_file& file) {
  byte_reader in(file.bytes(), file.name());
  if (in.text(6, "magic number") != "\x93NUMPY") in.fail("is no .npy file: it does not begin with \\x93NUMPY");
  const auto major = in.number<std::uint8_t>("version");
  (void)in.number<std::uint8_t>("version");
  if (major < 1 || major > 3)
    in.fail(".npy version ", static_cast<unsigned>(major), " is not supported, expected 1 to 3");
  const std::uint64_t length =
      major == 1 ? in.number<std::uint16_t>("header length") : in.number<std::uint32_t>("header length");
  const auto text = in.text(length, "header");
  auto header = detail::npy_header_reader(text, file.name()).read();
  if (header.type != detail::npy_type<T>) {
    in.fail("expected values of type ", in_quotes(detail::npy_type<T>), ", found ", in_quotes(header.type));
  }
  if (header.column_major && header.shape.size() > 1) in.fail("column-major (Fortran) order is not supported");
  const auto elements = checked_product(header.shape);
  const auto bytes = elements ? checked_mul(*elements, sizeof(T)) : std::nullopt;
  if (bytes != in.remaining()) {
    in.fail("shape ", shape_text(header.shape), " of ", in_quotes(header.type), " does not take the ", in.remaining(),
            " bytes after the header");
  }
  npy_array<T> out;
  out.shape = std::move(header.shape);
  out.values.resize(static_cast<std::size_t>(*elements));
  if (*bytes != 0) std::memcpy(out.values.data(), in.take(*bytes, "values").data(), static_cast<std::size_t>(*bytes));
  return out;
}

/// Reads a `.npy` file. Throws io_error if it cannot be read, format_error as above.
template <npy_element T>
[[nodiscard]] npy_array<T> read_npy(const std::filesystem::path& path) {
  return read_npy<T>(mapped_file(path));
}

/// Writes a `.npy` file (format 1, row-major) atomically. Throws shape_error if `shape` does not take `values.size()`
/// values, io_error that names the path and the reason.
template <npy_element T>
void write_npy(const std::filesystem::path& path, std::span<const std::uint64_t> shape, std::span<const T> values) {
  if (checked_product(shape) != values.size()) {
    runnel::fail<shape_error>("cannot write '", path.string(), "': shape ", shape_text(shape), " does not take ",
                              values.size(), " values");
  }
  std::string header = "{'descr': '" + std::string(detail::npy_type<T>) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) header += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  header += shape.size() == 1 ? ",), }" : "), }";
  // Magic number, version, length and header together fill a multiple of 64 bytes; the header ends with a line feed.
  constexpr std::size_t before = 10;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  if (header.size() > 65535) runnel::fail<shape_error>("cannot write '", path.string(), "': too many dimensions");
  atomic_file out(path);
  out.write(std::string_view("\x93NUMPY\x01\x00", 8));
  out.number(static_cast<std::uint16_t>(header.size()));
  out.write(header);
  out.write(std::as_bytes(values));
  out.commit();
}

}  // namespace runnel::io
