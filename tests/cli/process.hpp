// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/support.hpp"

/// \file
/// Runs the built program as a user would: with pipes, a terminal, and signals.

namespace runnel_test {

inline std::string from_environment(const char* name) {
  const char* const value = std::getenv(name);
  INFO("set " << std::string(name) << ", as ctest does");
  REQUIRE(value != nullptr);
  return value;
}

/// The program, and the counting model of a few kilobytes.
inline std::string program() { return from_environment("RUNNEL_CLI"); }
inline std::string tiny_model() { return from_environment("RUNNEL_TINY_MODEL"); }
/// A speech model whose decoder is the counting one.
inline std::string tiny_speech() { return from_environment("RUNNEL_TINY_SPEECH"); }

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  return all.str();
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  REQUIRE(file.good());
}

/// What a program that has ended left behind.
struct outcome {
  int code = -1;  ///< 1000 + signal if one killed it
  std::string out;
  std::string err;
};

/// A running program. Standard output is a pipe or a terminal, standard input and error are pipes.
class process {
 public:
  enum class screen : bool { no, yes };

  process(const std::vector<std::string>& arguments, screen terminal = screen::no) {
    const auto input = make_pipe();
    const auto output = terminal == screen::yes ? make_terminal() : make_pipe();
    const auto errors = make_pipe();
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) become(arguments, input[0], output[1], errors[1]);
    for (const int end : {input[0], output[1], errors[1]}) ::close(end);
    input_ = input[1];
    output_ = output[0];
    errors_ = errors[0];
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;
  ~process() {
    for (const int end : {input_, output_, errors_}) {
      if (end >= 0) ::close(end);
    }
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
  }

  /// Writes to standard input; a program that no longer reads is no failure.
  void write(std::string_view text) {
    while (!text.empty()) {
      drain(0);
      pollfd ready{input_, POLLOUT, 0};
      (void)::poll(&ready, 1, 10);
      if ((ready.revents & (POLLERR | POLLHUP)) != 0) return;
      if ((ready.revents & POLLOUT) == 0) continue;
      const auto count = ::write(input_, text.data(), std::min<std::size_t>(text.size(), 4096));
      if (count < 0 && errno != EINTR) return;
      if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void close_input() { ::close(std::exchange(input_, -1)); }
  void close_output() { ::close(std::exchange(output_, -1)); }
  void send(int signal) const { ::kill(child_, signal); }

  /// Reads until standard output holds `text`; false if the program closed it, or hung, before that.
  bool wait_for(std::string_view text) {
    const auto give_up = clock::now() + patience;
    while (result_.out.find(text) == std::string::npos) {
      if (output_ < 0 || clock::now() > give_up) return false;
      drain(50);
    }
    return true;
  }

  /// Reads until the program ends. A program that hangs is killed and reported so.
  outcome finish() {
    const auto give_up = clock::now() + patience;
    while (output_ >= 0 || errors_ >= 0) {
      if (clock::now() > give_up) {
        ::kill(child_, SIGKILL);
        result_.err += "\n(killed: it hung)";
        break;
      }
      drain(50);
    }
    int status = 0;
    ::waitpid(std::exchange(child_, -1), &status, 0);
    result_.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return result_;
  }

  [[nodiscard]] const outcome& so_far() const { return result_; }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds patience{120};  // only against hanging; nothing is timed

  static std::array<int, 2> make_pipe() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    return ends;
  }

  static std::array<int, 2> make_terminal() {
    const int ours = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(ours >= 0);
    REQUIRE(::grantpt(ours) == 0);
    REQUIRE(::unlockpt(ours) == 0);
    const int theirs = ::open(::ptsname(ours), O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(theirs >= 0);
    return {ours, theirs};
  }

  [[noreturn]] static void become(const std::vector<std::string>& arguments, int input, int output, int errors) {
    ::dup2(input, STDIN_FILENO);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(errors, STDERR_FILENO);
    // Whoever runs the tests may have these ignored (a background job) or blocked.
    for (const int number : {SIGINT, SIGTERM, SIGPIPE}) ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const char* name : {"RUNNEL_ARG_MODEL", "RUNNEL_ARG_CONTEXT", "RUNNEL_ARG_COMPUTE", "NO_COLOR"})
      ::unsetenv(name);
    ::setenv("RUNNEL_ARG_THREADS", "1", 1);  // tests run side by side
    ::setenv("TERM", "xterm", 1);
    std::string path = program();
    std::vector<std::string> all = arguments;
    std::vector<char*> pointers{path.data()};
    for (auto& one : all) pointers.push_back(one.data());
    pointers.push_back(nullptr);
    ::execv(path.c_str(), pointers.data());
    ::_exit(127);
  }

  void drain(int timeout_ms) {
    std::array<pollfd, 2> ready{pollfd{output_, POLLIN, 0}, pollfd{errors_, POLLIN, 0}};
    if (::poll(ready.data(), 2, timeout_ms) <= 0) return;
    take(ready[0], output_, result_.out);
    take(ready[1], errors_, result_.err);
  }

  static void take(const pollfd& ready, int& from, std::string& to) {
    if (from < 0 || ready.revents == 0) return;
    std::array<char, 4096> bytes{};
    const auto count = ::read(from, bytes.data(), bytes.size());
    if (count > 0) {
      to.append(bytes.data(), static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {  // a terminal whose other side is gone says EIO
      ::close(std::exchange(from, -1));
    }
  }

  pid_t child_ = -1;
  int input_ = -1;
  int output_ = -1;
  int errors_ = -1;
  outcome result_;
};

/// While it is there, programs that are started find other programs nowhere but in this folder.
class only_programs_in {
 public:
  explicit only_programs_in(const std::filesystem::path& folder) : before_(from_environment("PATH")) {
    ::setenv("PATH", folder.c_str(), 1);
  }
  only_programs_in(const only_programs_in&) = delete;
  only_programs_in& operator=(const only_programs_in&) = delete;
  ~only_programs_in() { ::setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_;
};

/// Whether pictures can be drawn here.
inline bool has_gnuplot() {
  std::istringstream folders(from_environment("PATH"));
  for (std::string one; std::getline(folders, one, ':');) {
    if (::access((one + "/gnuplot").c_str(), X_OK) == 0) return true;
  }
  return false;
}

/// Runs the program to its end with `input` on standard input.
inline outcome run(const std::vector<std::string>& arguments, std::string_view input = {}) {
  std::signal(SIGPIPE, SIG_IGN);
  process one(arguments);
  one.write(input);
  one.close_input();
  return one.finish();
}

/// Expects an exit code, nothing on standard output, and a message that begins as ours do and holds `parts`.
inline void check_refused(const outcome& result, int code, const std::vector<std::string>& parts) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(result.err.starts_with("runnel: "));
  for (const auto& part : parts) {
    CAPTURE(part);
    CHECK(result.err.find(part) != std::string::npos);
  }
}

}  // namespace runnel_test
