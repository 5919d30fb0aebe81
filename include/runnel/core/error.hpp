// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <cstdarg>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include <runnel/core/config.hpp>

namespace runnel {

/// Base of everything the library throws. The message names the file, key or argument, what was expected and what was
/// found.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes that do not fit together.
class shape_error : public error {
 public:
  using error::error;
};

/// Content of a file that is malformed, unsupported or inconsistent.
class format_error : public error {
 public:
  using error::error;
};

/// Options and arguments that make no sense, alone or together.
class config_error : public error {
 public:
  using error::error;
};

/// The operating system refused: a file is missing, unreadable, or the disk is full.
class io_error : public error {
 public:
  using error::error;
};

/// A declared limit (context length, trained range of positions, a budget) would be passed; nothing was changed.
class limit_error : public error {
 public:
  using error::error;
};

/// The caller asked to stop through its `std::stop_token`; nothing was changed.
class cancelled_error : public error {
 public:
  using error::error;
};

namespace detail {

// Parts of a message go through C's variable arguments, with a text that says what each is: one function then serves
// every message of a program, where one for every sequence of types takes seconds to compile.

struct text_part {
  const char* data;
  std::size_t size;
};

inline const char* erase(const char* text) noexcept { return text; }
inline text_part erase(std::string_view text) noexcept { return {text.data(), text.size()}; }
inline char erase(char character) noexcept { return character; }
inline float erase(float number) noexcept { return number; }
inline double erase(double number) noexcept { return number; }
template <std::signed_integral T>
long long erase(T number) noexcept {
  return number;
}
template <std::unsigned_integral T>
unsigned long long erase(T number) noexcept {
  return number;
}

template <class Part>
inline constexpr char part_kind = 0;
template <>
inline constexpr char part_kind<const char*> = 's';
template <>
inline constexpr char part_kind<text_part> = 'v';
template <>
inline constexpr char part_kind<char> = 'c';
template <>
inline constexpr char part_kind<float> = 'f';
template <>
inline constexpr char part_kind<double> = 'd';
template <>
inline constexpr char part_kind<long long> = 'i';
template <>
inline constexpr char part_kind<unsigned long long> = 'u';

template <class... Parts>
inline constexpr char part_kinds[] = {part_kind<Parts>..., '\0'};

/// The shortest digits that give the number back, whatever the locale.
template <class Number>
void append_number(std::string& out, Number number) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

[[nodiscard, gnu::cold, gnu::noinline]] inline std::string join(const char* kinds, std::va_list& parts) {
  std::string out;
  for (; *kinds != '\0'; ++kinds) {
    switch (*kinds) {
      case 's': out += va_arg(parts, const char*); break;
      case 'v': {
        const auto text = va_arg(parts, text_part);
        out.append(text.data, text.size);
        break;
      }
      case 'c': out += static_cast<char>(va_arg(parts, int)); break;
      case 'f': append_number(out, static_cast<float>(va_arg(parts, double))); break;
      case 'd': append_number(out, va_arg(parts, double)); break;
      case 'i': append_number(out, va_arg(parts, long long)); break;
      default: append_number(out, va_arg(parts, unsigned long long)); break;
    }
  }
  return out;
}

[[nodiscard, gnu::cold, gnu::noinline]] inline std::string join_parts(const char* kinds, ...) {
  std::va_list parts;
  va_start(parts, kinds);
  std::string out = join(kinds, parts);
  va_end(parts);
  return out;
}

template <class Error>
[[noreturn, gnu::cold, gnu::noinline]] void throw_parts(const char* kinds, ...) {
  std::va_list parts;
  va_start(parts, kinds);
  const std::string text = join(kinds, parts);
  va_end(parts);
  throw Error(text);
}

}  // namespace detail

/// Joins texts, characters and numbers: `message("rows ", 3, " of ", 7)`.
template <class... Parts>
[[nodiscard]] RUNNEL_INLINE std::string message(const Parts&... parts) {
  return detail::join_parts(detail::part_kinds<decltype(detail::erase(parts))...>, detail::erase(parts)...);
}

/// Throws `Error` with the joined parts.
template <class Error, class... Parts>
[[noreturn]] RUNNEL_INLINE void fail(const Parts&... parts) {
  detail::throw_parts<Error>(detail::part_kinds<decltype(detail::erase(parts))...>, detail::erase(parts)...);
}

/// Throws `Error` with the joined parts unless `condition` holds.
template <class Error = config_error, class... Parts>
void expect(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    fail<Error>(parts...);
  }
}

}  // namespace runnel
