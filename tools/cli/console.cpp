// SPDX-License-Identifier: Apache-2.0

#include "console.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <runnel/unicode/utf8.hpp>

namespace runnel::cli {

namespace {

std::atomic<int> received_signal{0};

[[noreturn]] void fail(const std::string& name, int code) {
  throw io_error(message(name, ": ", std::generic_category().message(code)));
}

/// Writes everything, or returns the error.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(descriptor, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wanted{descriptor, POLLOUT, 0};
      (void)::poll(&wanted, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

/// A standard stream that was closed before we started stays unusable, instead of becoming the next file we open.
void occupy_standard_descriptors() {
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(standard, F_GETFD) != -1) continue;
    const int opened = ::open("/dev/null", standard == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (opened >= 0 && opened != standard) ::close(opened);
  }
}

}  // namespace

void output::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= buffer_size) flush();
}

void output::flush() {
  std::string pending;
  pending.swap(buffer_);  // what could not be written is not tried again
  const int failure = write_all(STDOUT_FILENO, pending);
  if (failure == EPIPE) throw closed_pipe{};
  if (failure != 0) fail("standard output", failure);
}

bool output::is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

void note(std::string_view text) {
  std::string line = "runnel: ";
  line += text;
  line += '\n';
  (void)write_all(STDERR_FILENO, line);
}

progress::progress(bool enabled) : enabled_(enabled && ::isatty(STDERR_FILENO) == 1) {}

void progress::show(std::string_view text) {
  if (!enabled_) return;
  constexpr std::size_t narrow = 60;  // a line that wraps could not be written over
  std::string line = "\r";
  line += text.substr(0, narrow);
  line += "\x1b[K";
  (void)write_all(STDERR_FILENO, line);
  shown_ = true;
}

void progress::clear() {
  if (shown_) (void)write_all(STDERR_FILENO, "\r\x1b[K");
  shown_ = false;
}

interrupts& interrupts::instance() {
  static auto* const only = new interrupts;  // never destroyed: its thread lives as long as the program
  return *only;
}

interrupts::interrupts() {
  std::signal(SIGPIPE, SIG_IGN);  // writing says EPIPE instead
  occupy_standard_descriptors();
  if (::pipe(wake_) != 0) fail("pipe", errno);
  for (const int end : wake_) (void)::fcntl(end, F_SETFD, FD_CLOEXEC);
  listen();
}

void interrupts::listen() {
  sigset_t waited_for;
  sigemptyset(&waited_for);
  bool any = false;
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction inherited {};
    // A program that was told to ignore a signal (nohup, a shell's background job) goes on doing so.
    if (::sigaction(number, nullptr, &inherited) == 0 && inherited.sa_handler == SIG_IGN) continue;
    sigaddset(&waited_for, number);
    any = true;
  }
  if (!any) return;
  // All threads started from here on have them blocked too; only the one below takes them.
  (void)::pthread_sigmask(SIG_BLOCK, &waited_for, nullptr);
  std::thread([this, waited_for] {
    for (;;) {
      int number = 0;
      if (::sigwait(&waited_for, &number) != 0) continue;
      if (received_signal.exchange(number) != 0) ::_exit(128 + number);
      stop_.request_stop();
      (void)write_all(wake_[1], "!");
    }
  }).detach();
}

int interrupts::signal() const noexcept { return received_signal.load(); }

void interrupts::check() const { expect<cancelled_error>(signal() == 0, "interrupted"); }

byte_source::byte_source(const std::string& path) : name_(path == "-" ? "standard input" : path) {
  descriptor_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail(name_, errno);
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    const int code = errno;
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
    fail(name_, code);
  }
  if (S_ISDIR(status.st_mode)) {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
    throw io_error(message(name_, ": is a directory, a file is needed"));
  }
  regular_ = S_ISREG(status.st_mode);
}

byte_source::~byte_source() {
  if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
}

bool byte_source::ready(int timeout_ms, bool or_signal) const {
  std::array<pollfd, 2> wanted{pollfd{descriptor_, POLLIN, 0},
                               pollfd{interrupts::instance().wake_descriptor(), POLLIN, 0}};
  for (;;) {
    const int count = ::poll(wanted.data(), or_signal ? 2 : 1, timeout_ms);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(name_, errno);
    return wanted[0].revents != 0;
  }
}

bool byte_source::take(std::string& to) {
  if (ended_ || !ready(0, false)) return ended_;
  constexpr std::size_t most = std::size_t{1} << 16U;
  const std::size_t before = to.size();
  to.resize(before + most);
  const auto count = ::read(descriptor_, to.data() + before, most);
  const int code = errno;
  to.resize(before + static_cast<std::size_t>(count > 0 ? count : 0));
  if (count < 0 && (code == EINTR || code == EAGAIN || code == EWOULDBLOCK)) return false;
  if (count < 0) fail(name_, code);
  ended_ = count == 0;
  return true;
}

void byte_source::wait() const {
  while (!ended_ && !ready(-1, true)) interrupts::instance().check();
}

std::string read_all(const std::string& path) {
  byte_source from(path);
  std::string all;
  while (!from.ended()) {
    from.wait();
    from.take(all);
  }
  return all;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string printable(std::string_view text) {
  std::string shown;
  unicode::for_each_code_point(text, [&](const unicode::code_point_step& step, std::string_view bytes) {
    const char32_t c = step.code_point;
    if (step.kind != unicode::sequence_kind::valid) {
      shown += unicode::replacement_character;
    } else if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029) {
      shown += ' ';
    } else {
      shown += bytes;
    }
  });
  return shown;
}

std::string fixed(double value, int decimals) {
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return {text.data(), static_cast<std::size_t>(length < 0 ? 0 : length)};
}

std::string in_megabytes(double bytes) {
  if (bytes < 1e6) return fixed(bytes / 1e3, 1) + " kB";
  return bytes < 1e9 ? fixed(bytes / 1e6, 1) + " MB" : fixed(bytes / 1e9, 2) + " GB";
}

}  // namespace runnel::cli
