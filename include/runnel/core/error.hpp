// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

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

/// One part of a message, its type erased, so that the many messages of a program share one function.
class message_part {
 public:
  message_part(std::string_view text) noexcept : kind_(kind::text), text_(text) {}
  message_part(const std::string& text) noexcept : kind_(kind::text), text_(text) {}
  message_part(const char* text) noexcept : kind_(kind::text), text_(text) {}
  message_part(char character) noexcept : kind_(kind::character), signed_(character) {}
  message_part(float number) noexcept : kind_(kind::single_float), float_(number) {}
  message_part(double number) noexcept : kind_(kind::double_float), double_(number) {}
  template <std::signed_integral T>
  message_part(T number) noexcept : kind_(kind::signed_integer), signed_(number) {}
  template <std::unsigned_integral T>
  message_part(T number) noexcept : kind_(kind::unsigned_integer), unsigned_(number) {}

  void append_to(std::string& out) const {
    switch (kind_) {
      case kind::text: out += text_; return;
      case kind::character: out += static_cast<char>(signed_); return;
      case kind::signed_integer: return append(out, signed_);
      case kind::unsigned_integer: return append(out, unsigned_);
      case kind::single_float: return append(out, float_);
      case kind::double_float: return append(out, double_);
    }
  }

 private:
  enum class kind : std::uint8_t { text, character, signed_integer, unsigned_integer, single_float, double_float };

  /// The shortest digits that give the number back, whatever the locale.
  template <class Number>
  static void append(std::string& out, Number number) {
    char text[32];
    out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
  }

  kind kind_;
  union {
    std::string_view text_;
    long long signed_;
    unsigned long long unsigned_;
    float float_;
    double double_;
  };
};

using message_parts = std::initializer_list<message_part>;

/// Joins texts, characters and numbers.
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string message(message_parts parts) {
  std::string out;
  for (const message_part& part : parts) part.append_to(out);
  return out;
}

/// Joins texts, characters and numbers: `message("rows ", 3, " of ", 7)`.
template <class... Parts>
[[nodiscard, gnu::cold]] std::string message(const Parts&... parts) {
  return message(message_parts{message_part(parts)...});
}

/// Throws `Error` with the joined parts.
template <class Error>
[[noreturn, gnu::cold, gnu::noinline]] void fail(message_parts parts) {
  throw Error(message(parts));
}

/// Throws `Error` with the joined parts.
template <class Error, class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  fail<Error>(message_parts{message_part(parts)...});
}

/// Throws `Error` with the joined parts unless `condition` holds.
template <class Error = config_error, class... Parts>
void expect(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    fail<Error>(parts...);
  }
}

}  // namespace runnel
