// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

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

inline constexpr std::array<std::string_view, 13> gguf_type_names{"uint8",  "int8",    "uint16", "int16",  "uint32",
                                                                  "int32",  "float32", "bool",   "string", "array",
                                                                  "uint64", "int64",   "float64"};

/// A truth value in an array; one byte, so that an array of them is a span.
enum class gguf_bool : std::uint8_t { no, yes };

namespace detail {

/// The alternatives of both variants below stand in the order of `gguf_type`, so an index is a type.
template <template <class> class Wrap, class Bool, class Nested>
using gguf_variant =
    std::variant<Wrap<std::uint8_t>, Wrap<std::int8_t>, Wrap<std::uint16_t>, Wrap<std::int16_t>, Wrap<std::uint32_t>,
                 Wrap<std::int32_t>, Wrap<float>, Wrap<Bool>, Wrap<std::string_view>, Nested, Wrap<std::uint64_t>,
                 Wrap<std::int64_t>, Wrap<double>>;

template <class T>
using gguf_vector = std::vector<T>;

template <class T, class... Options>
concept one_of = (std::same_as<T, Options> || ...);

}  // namespace detail

/// Element types of metadata arrays that have a span.
template <class T>
concept gguf_element =
    detail::one_of<T, std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, float,
                   gguf_bool, std::string_view, std::uint64_t, std::int64_t, double>;

/// An array of metadata. Numbers are copied out of the file (it does not align them); strings are views into it.
class gguf_array {
 public:
  using storage = detail::gguf_variant<detail::gguf_vector, gguf_bool, std::monostate>;

  gguf_array() = default;
  template <gguf_element T>
  explicit gguf_array(std::vector<T> values) : values_(std::move(values)) {}

  [[nodiscard]] gguf_type element_type() const noexcept { return static_cast<gguf_type>(values_.index()); }
  [[nodiscard]] std::size_t size() const noexcept {
    return std::visit(
        [](const auto& values) -> std::size_t {
          if constexpr (std::is_same_v<std::decay_t<decltype(values)>, std::monostate>) {
            return 0;
          } else {
            return values.size();
          }
        },
        values_);
  }

  /// The elements, or nothing if their type in the file is another.
  template <gguf_element T>
  [[nodiscard]] std::optional<std::span<const T>> as() const noexcept {
    if (const auto* values = std::get_if<std::vector<T>>(&values_)) return std::span<const T>(*values);
    return std::nullopt;
  }

  [[nodiscard]] const storage& values() const noexcept { return values_; }

 private:
  storage values_;
};

namespace detail {

template <class T>
using gguf_plain = T;

/// `value` as T if T holds it: integers by range, floating point by range (double to float rounds), nothing across
/// kinds.
template <class T, class From>
[[nodiscard]] constexpr std::optional<T> convert_number(From value) noexcept {
  if constexpr (std::is_same_v<T, From>) {
    return value;
  } else if constexpr (std::integral<T> && std::integral<From> && !one_of<T, bool> && !one_of<From, bool>) {
    if (!std::in_range<T>(value)) return std::nullopt;
    return static_cast<T>(value);
  } else if constexpr (std::floating_point<T> && std::floating_point<From>) {
    if constexpr (sizeof(T) < sizeof(From)) {
      constexpr auto largest = static_cast<From>(std::numeric_limits<T>::max());
      const bool finite = value - value == From{0};
      if (finite && (value > largest || value < -largest)) return std::nullopt;
    }
    return static_cast<T>(value);
  } else {
    return std::nullopt;
  }
}

}  // namespace detail

/// Types that a metadata value can be asked for: any arithmetic type, `std::string_view` (valid while the file is
/// open) and `std::string`.
template <class T>
concept gguf_scalar = detail::one_of<T, bool, std::string_view, std::string> ||
                      (std::integral<T> && !detail::one_of<T, char, wchar_t, char8_t, char16_t, char32_t>) ||
                      detail::one_of<T, float, double>;

/// One metadata value: a number, a truth value, a string or an array.
class gguf_value {
 public:
  using storage = detail::gguf_variant<detail::gguf_plain, bool, gguf_array>;

  gguf_value() = default;
  explicit gguf_value(storage value) : value_(std::move(value)) {}

  [[nodiscard]] gguf_type type() const noexcept { return static_cast<gguf_type>(value_.index()); }

  /// The value as T, or nothing if it is of another kind or out of T's range. Integers convert to integers and
  /// floating point to floating point; numbers never convert to truth values or strings, nor integers to floating
  /// point.
  template <gguf_scalar T>
  [[nodiscard]] std::optional<T> as() const {
    return std::visit(
        [](const auto& held) -> std::optional<T> {
          using held_type = std::decay_t<decltype(held)>;
          if constexpr (std::is_same_v<held_type, std::string_view>) {
            if constexpr (detail::one_of<T, std::string, std::string_view>) return T(held);
            return std::nullopt;
          } else if constexpr (std::is_same_v<held_type, gguf_array> ||
                               detail::one_of<T, std::string, std::string_view>) {
            return std::nullopt;
          } else {
            return detail::convert_number<T>(held);
          }
        },
        value_);
  }

  /// The array, or null if the value is none.
  [[nodiscard]] const gguf_array* array() const noexcept { return std::get_if<gguf_array>(&value_); }

  [[nodiscard]] const storage& value() const noexcept { return value_; }

  /// What this is, for messages: `uint32 7`, `string`, `array of 3 float32`.
  [[nodiscard]] std::string describe() const {
    const auto name = [](gguf_type type) { return std::string(gguf_type_names[static_cast<std::size_t>(type)]); };
    if (const auto* list = array())
      return "array of " + std::to_string(list->size()) + " " + name(list->element_type());
    return name(type()) + std::visit(
                              [](const auto& held) -> std::string {
                                using held_type = std::decay_t<decltype(held)>;
                                if constexpr (std::is_same_v<held_type, bool>)
                                  return held ? " true" : " false";
                                else if constexpr (std::is_arithmetic_v<held_type>)
                                  return " " + std::to_string(held);
                                else if constexpr (std::is_same_v<held_type, std::string_view>)
                                  return " " + in_quotes(held);
                                else
                                  return "";
                              },
                              value_);
  }

 private:
  storage value_;
};

namespace detail {

/// How messages name the type asked for.
template <class T>
[[nodiscard]] std::string requested_type() {
  if constexpr (one_of<T, bool>)
    return "bool";
  else if constexpr (one_of<T, std::string, std::string_view>)
    return "string";
  else if constexpr (std::floating_point<T>)
    return sizeof(T) == 4 ? "float32" : "float64";
  else if constexpr (one_of<T, gguf_bool>)
    return "bool";
  else
    return (std::is_signed_v<T> ? "int" : "uint") + std::to_string(8 * sizeof(T));
}

}  // namespace detail

}  // namespace runnel::io
