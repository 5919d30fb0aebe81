// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace runnel {

/// Base of everything the library throws. The message names the file, key or argument, what was expected and what was found.
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

inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, const char* text) { out += text; }
inline void append(std::string& out, char character) { out += character; }
inline void append(std::string& out, long long number) { out += std::to_string(number); }
inline void append(std::string& out, unsigned long long number) { out += std::to_string(number); }
/// The shortest digits that give the number back, whatever the locale.
template <class Float>
void append_float(std::string& out, Float number) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

template <class Part>
void append_any(std::string& out, const Part& part) {
  if constexpr (std::is_same_v<Part, char>) {
    append(out, part);
  } else if constexpr (std::is_integral_v<Part> && std::is_signed_v<Part>) {
    append(out, static_cast<long long>(part));
  } else if constexpr (std::is_integral_v<Part>) {
    append(out, static_cast<unsigned long long>(part));
  } else if constexpr (std::is_floating_point_v<Part>) {
    append_float(out, part);
  } else {
    append(out, part);
  }
}

}  // namespace detail

/// Joins texts, characters and numbers: `message("rows ", 3, " of ", 7)`.
template <class... Parts>
[[nodiscard, gnu::cold, gnu::noinline]] std::string message(const Parts&... parts) {
  std::string out;
  (detail::append_any(out, parts), ...);
  return out;
}

namespace detail {

template <class Error, class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  throw Error(message(parts...));
}

}  // namespace detail

/// Throws `Error` with the joined parts unless `condition` holds.
template <class Error = config_error, class... Parts>
void expect(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    detail::fail<Error>(parts...);
  }
}

}  // namespace runnel
