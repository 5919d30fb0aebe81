// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

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

/// Joins its arguments with `operator<<`: `message("rows ", 3, " of ", 7)`.
template <class... Parts>
[[nodiscard]] std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// Throws `Error` with the joined parts unless `condition` holds.
template <class Error = config_error, class... Parts>
void expect(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    throw Error(message(parts...));
  }
}

}  // namespace runnel
