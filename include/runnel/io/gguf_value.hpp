// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>

namespace runnel::io {

/// Types of metadata values, numbered as in the file.
enum class gguf_type : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64
};

/// What is known of a type: its name, and the bytes of one number or truth value (0 for strings and arrays).
struct gguf_type_info {
  std::string_view name;
  std::size_t size;
};

inline constexpr std::array<gguf_type_info, 13> gguf_types{{{"uint8", 1},
                                                            {"int8", 1},
                                                            {"uint16", 2},
                                                            {"int16", 2},
                                                            {"uint32", 4},
                                                            {"int32", 4},
                                                            {"float32", 4},
                                                            {"bool", 1},
                                                            {"string", 0},
                                                            {"array", 0},
                                                            {"uint64", 8},
                                                            {"int64", 8},
                                                            {"float64", 8}}};

[[nodiscard]] constexpr const gguf_type_info& info(gguf_type type) noexcept {
  return gguf_types[static_cast<std::size_t>(type)];
}

namespace detail {

template <class T, class... Options>
concept one_of = (std::same_as<T, Options> || ...);

}  // namespace detail

/// Types that a metadata value can be asked for: any arithmetic type, `std::string_view` (valid while the file is
/// open) and `std::string`.
template <class T>
concept gguf_scalar = detail::one_of<T, bool, float, double, std::string_view, std::string> ||
    (std::integral<T> && !detail::one_of<T, char, wchar_t, char8_t, char16_t, char32_t>);

/// The type in the file that has exactly the values of T: `long` and `long long` are one type there.
template <gguf_scalar T>
[[nodiscard]] constexpr gguf_type gguf_type_of() noexcept {
  if constexpr (detail::one_of<T, std::string_view, std::string>) return gguf_type::string;
  if constexpr (detail::one_of<T, bool>) return gguf_type::boolean;
  if constexpr (std::floating_point<T>) return sizeof(T) == 4 ? gguf_type::float32 : gguf_type::float64;
  constexpr bool has_sign = std::signed_integral<T>;
  switch (sizeof(T)) {
    case 1: return has_sign ? gguf_type::int8 : gguf_type::uint8;
    case 2: return has_sign ? gguf_type::int16 : gguf_type::uint16;
    case 4: return has_sign ? gguf_type::int32 : gguf_type::uint32;
    default: return has_sign ? gguf_type::int64 : gguf_type::uint64;
  }
}

/// One metadata value: a number, a truth value, a string, or an array of one of these. A view of the bytes of a file,
/// which need not be aligned; nothing is copied but the places of an array's strings.
class gguf_value {
 public:
  /// A number or truth value that lies in `bytes` (as many as the type has), or the string that they are.
  gguf_value(gguf_type type, std::span<const std::byte> bytes) noexcept : type_(type), data_(bytes) {}

  /// The array of numbers or truth values that lie in `elements`, one after another.
  [[nodiscard]] static gguf_value array_of(gguf_type element, std::span<const std::byte> elements) noexcept {
    gguf_value out(gguf_type::array, elements);
    out.element_type_ = element;
    out.size_ = elements.size() / info(element).size;
    return out;
  }

  /// The array of these strings; the views must live as long as the value.
  [[nodiscard]] static gguf_value array_of(std::span<const std::string_view> strings) noexcept {
    gguf_value out(gguf_type::array, std::as_bytes(strings));
    out.element_type_ = gguf_type::string;
    out.size_ = strings.size();
    return out;
  }

  [[nodiscard]] gguf_type type() const noexcept { return type_; }
  [[nodiscard]] bool is_array() const noexcept { return type_ == gguf_type::array; }

  /// Type and number of an array's elements; meaningless otherwise.
  [[nodiscard]] gguf_type element_type() const noexcept { return element_type_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Element `i` of an array, which must have so many.
  [[nodiscard]] gguf_value element(std::size_t i) const noexcept {
    if (element_type_ == gguf_type::string) {
      const std::string_view text = strings()[i];
      return {gguf_type::string, std::as_bytes(std::span(text.data(), text.size()))};
    }
    const std::size_t width = info(element_type_).size;
    return {element_type_, data_.subspan(i * width, width)};
  }

  /// The strings of an array of them; nothing for other values.
  [[nodiscard]] std::span<const std::string_view> strings() const noexcept {
    if (!is_array() || element_type_ != gguf_type::string) return {};
    return {reinterpret_cast<const std::string_view*>(data_.data()), size_};
  }

  /// The value as T, or nothing if it is of another kind or out of T's range. Integers convert to integers and
  /// floating point to floating point (double to float rounds); numbers never convert to truth values or strings, nor
  /// integers to floating point.
  template <gguf_scalar T>
  [[nodiscard]] std::optional<T> as() const {
    if constexpr (detail::one_of<T, std::string_view, std::string>) {
      if (type_ == gguf_type::string) return T(text());
    } else if constexpr (detail::one_of<T, bool>) {
      if (type_ == gguf_type::boolean) return load<std::uint8_t>() != 0;
    } else if constexpr (std::floating_point<T>) {
      const auto value = real();
      if (value && (!std::isfinite(*value) || std::abs(*value) <= std::numeric_limits<T>::max()))
        return static_cast<T>(*value);
    } else if (const auto value = whole()) {
      const bool fits =
          value->negative ? std::in_range<T>(static_cast<std::int64_t>(value->bits)) : std::in_range<T>(value->bits);
      if (fits) return static_cast<T>(value->bits);
    }
    return std::nullopt;
  }

  /// What this is, for messages: `uint32 7`, `string 'text'`, `array of 3 float32`.
  [[nodiscard]] std::string describe() const {
    if (is_array()) return message("array of ", size_, ' ', info(element_type_).name);
    const std::string_view name = info(type_).name;
    if (type_ == gguf_type::string) return message(name, ' ', in_quotes(text()));
    if (type_ == gguf_type::boolean) return message(name, load<std::uint8_t>() != 0 ? " true" : " false");
    if (type_ == gguf_type::float32) return message(name, ' ', load<float>());
    if (type_ == gguf_type::float64) return message(name, ' ', load<double>());
    const auto value = whole().value_or(integer{});
    return value.negative ? message(name, ' ', static_cast<std::int64_t>(value.bits)) : message(name, ' ', value.bits);
  }

  /// The bytes of a number, truth value or string, or of an array of numbers, as the file has them.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return data_; }

 private:
  /// An integer of any type; a negative one in two's complement.
  struct integer {
    bool negative = false;
    std::uint64_t bits = 0;
  };

  template <class T>
  [[nodiscard]] T load() const noexcept {
    T value;
    std::memcpy(&value, data_.data(), sizeof(T));
    return value;
  }

  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(data_.data()), data_.size()};
  }

  [[nodiscard]] std::optional<integer> whole() const noexcept {
    const auto from = [](std::int64_t value) { return integer{value < 0, static_cast<std::uint64_t>(value)}; };
    switch (type_) {
      case gguf_type::uint8: return integer{false, load<std::uint8_t>()};
      case gguf_type::uint16: return integer{false, load<std::uint16_t>()};
      case gguf_type::uint32: return integer{false, load<std::uint32_t>()};
      case gguf_type::uint64: return integer{false, load<std::uint64_t>()};
      case gguf_type::int8: return from(load<std::int8_t>());
      case gguf_type::int16: return from(load<std::int16_t>());
      case gguf_type::int32: return from(load<std::int32_t>());
      case gguf_type::int64: return from(load<std::int64_t>());
      default: return std::nullopt;
    }
  }

  [[nodiscard]] std::optional<double> real() const noexcept {
    if (type_ == gguf_type::float32) return static_cast<double>(load<float>());
    if (type_ == gguf_type::float64) return load<double>();
    return std::nullopt;
  }

  gguf_type type_;
  gguf_type element_type_{};
  std::span<const std::byte> data_;
  std::size_t size_ = 0;
};

}  // namespace runnel::io
