// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <stop_token>
#include <string>
#include <string_view>

#include <runnel/core/error.hpp>

/// \file
/// What every command shares of its surroundings: standard output, notes on standard error, signals, reading input as
/// it comes. POSIX only.

namespace runnel::cli {

/// Thrown when nobody reads standard output any more; the program then ends in silence.
struct closed_pipe {};

/// Standard output, buffered by us. Data goes here and nothing else.
class output {
 public:
  static constexpr std::size_t buffer_size = std::size_t{1} << 16U;

  output() = default;
  output(const output&) = delete;
  output& operator=(const output&) = delete;

  /// Appends text. Throws closed_pipe, or io_error if the system refuses it (a full disk).
  void write(std::string_view text);
  /// Hands over what is buffered. Throws as `write`.
  void flush();
  /// Whether somebody looks on.
  [[nodiscard]] static bool is_terminal();

 private:
  std::string buffer_;
};

/// A line on standard error, after "runnel: ". Never fails.
void note(std::string_view text);

/// A line on standard error that is written over again and again; only where standard error is a terminal.
class progress {
 public:
  /// `enabled` false: shows nothing.
  explicit progress(bool enabled = true);
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() { clear(); }

  void show(std::string_view text);
  void clear();
  /// Whether there is a terminal to show it on.
  [[nodiscard]] bool is_enabled() const noexcept { return enabled_; }

 private:
  bool enabled_ = false;
  bool shown_ = false;
};

/// Turns SIGINT and SIGTERM into a stop request. A second signal ends the program at once.
class interrupts {
 public:
  /// Begins to listen with the first call, which has to come before any thread is started.
  static interrupts& instance();

  [[nodiscard]] std::stop_token token() const { return stop_.get_token(); }
  /// The signal that came, or 0.
  [[nodiscard]] int signal() const noexcept;
  /// Becomes readable when a signal comes.
  [[nodiscard]] int wake_descriptor() const noexcept { return wake_[0]; }
  /// Throws cancelled_error if a signal came.
  void check() const;

 private:
  interrupts();
  void listen();

  std::stop_source stop_;
  int wake_[2] = {-1, -1};
};

/// Bytes of a file, a pipe or standard input, as they come.
class byte_source {
 public:
  /// "-" is standard input. Throws io_error that names the path and the reason.
  explicit byte_source(const std::string& path);
  byte_source(const byte_source&) = delete;
  byte_source& operator=(const byte_source&) = delete;
  ~byte_source();

  /// Appends what is there to `to`, without waiting. Returns whether anything came or the end was found.
  bool take(std::string& to);
  /// Waits for bytes or the end. Throws cancelled_error if a signal comes first.
  void wait() const;
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// For messages.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Whether this is a plain file, whose lines can be counted ahead.
  [[nodiscard]] bool is_regular() const noexcept { return regular_; }

 private:
  [[nodiscard]] bool ready(int timeout_ms, bool or_signal) const;

  int descriptor_ = -1;
  bool regular_ = false;
  bool ended_ = false;
  std::string name_;
};

/// All bytes of a file, a pipe or standard input ("-").
[[nodiscard]] std::string read_all(const std::string& path);

/// Seconds on a clock that never goes back.
[[nodiscard]] double seconds_now();

/// Text fit for a terminal or a message: control characters become spaces, what is no UTF-8 becomes U+FFFD.
[[nodiscard]] std::string printable(std::string_view text);

/// `value` with `decimals` digits after the point.
[[nodiscard]] std::string fixed(double value, int decimals);

/// Bytes as "93.7 MB".
[[nodiscard]] std::string in_megabytes(double bytes);

}  // namespace runnel::cli
