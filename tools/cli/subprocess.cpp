// SPDX-License-Identifier: Apache-2.0

#include "subprocess.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <runnel/core/error.hpp>

#include "console.hpp"

extern char** environ;  // NOLINT: POSIX has it so

namespace runnel::cli {

namespace {

/// What a child's standard streams are.
class redirections {
 public:
  explicit redirections(const std::filesystem::path& log) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    constexpr int how = O_WRONLY | O_CREAT | O_TRUNC;
    constexpr mode_t rights = 0644;
    const char* const out = log.empty() ? "/dev/null" : log.c_str();
    ::posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, out, how, rights);
    if (!log.empty()) ::posix_spawn_file_actions_adddup2(&actions_, STDOUT_FILENO, STDERR_FILENO);
  }
  redirections(const redirections&) = delete;
  redirections& operator=(const redirections&) = delete;
  ~redirections() { ::posix_spawn_file_actions_destroy(&actions_); }

  [[nodiscard]] const posix_spawn_file_actions_t* get() const noexcept { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

/// A process group of its own: Ctrl-C is ours to answer, a second signal would end a child at once.
class own_group {
 public:
  own_group() {
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP);
  }
  own_group(const own_group&) = delete;
  own_group& operator=(const own_group&) = delete;
  ~own_group() { ::posix_spawnattr_destroy(&attributes_); }

  [[nodiscard]] const posix_spawnattr_t* get() const noexcept { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

pid_t start(const own_command& what) {
  // The link, not where it leads: a program that is built anew meanwhile stays the one that runs.
  constexpr const char* program = "/proc/self/exe";
  std::vector<std::string> words{"runnel"};
  words.insert(words.end(), what.arguments.begin(), what.arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const redirections streams(what.log);
  const own_group group;
  pid_t child = 0;
  const int failure = ::posix_spawn(&child, program, streams.get(), group.get(), pointers.data(), environ);
  expect<io_error>(failure == 0, "cannot run ", shell_command(what.arguments), ": ", std::strerror(failure));
  return child;
}

/// The last lines of a log.
std::string end_of(const std::filesystem::path& log) {
  constexpr std::size_t most = 2000;
  std::ifstream file(log, std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  return text.substr(text.size() - std::min(most, text.size()));
}

/// Children that run, and what became of the first that failed.
class children {
 public:
  children(const std::vector<own_command>& commands, const std::function<void(std::size_t)>& done)
      : commands_(commands), done_(done), running_(commands.size()) {}
  children(const children&) = delete;
  children& operator=(const children&) = delete;
  ~children() {
    stop();
    while (count_ > 0 && reap()) {
    }
  }

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

  void begin(std::size_t index) {
    running_[index] = start(commands_[index]);
    ++count_;
  }

  void stop() const {
    for (const pid_t child : running_) {
      if (child != 0) ::kill(child, SIGTERM);
    }
  }

  /// Looks once after each child.
  void look() {
    for (std::size_t i = 0; i < running_.size(); ++i) {
      int status = 0;
      if (running_[i] == 0) continue;
      const pid_t ended = ::waitpid(running_[i], &status, WNOHANG);
      const bool lost = ended < 0 && errno == ECHILD;
      if (ended != running_[i] && !lost) continue;
      running_[i] = 0;
      --count_;
      if (!lost && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        done_(i);
      } else if (problem_.empty()) {
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        problem_ = message(shell_command(commands_[i].arguments), ": ended with ", code);
        if (const auto& log = commands_[i].log; !log.empty())
          problem_ += message("; ", log.string(), ":\n", end_of(log));
      }
    }
  }

 private:
  /// Waits for any of them, whatever it says.
  bool reap() {
    for (pid_t& child : running_) {
      if (child == 0) continue;
      while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
      }
      child = 0;
      --count_;
      return true;
    }
    return false;
  }

  const std::vector<own_command>& commands_;
  const std::function<void(std::size_t)>& done_;
  std::vector<pid_t> running_;  // 0: not, or not any more
  std::size_t count_ = 0;
  std::string problem_;
};

}  // namespace

void run_own_commands(const std::vector<own_command>& commands, std::size_t at_once,
                      const std::function<void(std::size_t)>& done) {
  std::signal(SIGCHLD, SIG_DFL);  // where it is ignored nobody learns how a child ended
  children all(commands, done);
  std::size_t next = 0;
  while (next < commands.size() || all.count() > 0) {
    interrupts::instance().check();
    while (next < commands.size() && all.count() < std::max<std::size_t>(1, at_once) && all.problem().empty()) {
      all.begin(next++);
    }
    all.look();
    if (!all.problem().empty() && all.count() == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  expect<io_error>(all.problem().empty(), all.problem());
}

std::string shell_word(std::string_view text) {
  const auto plain = [](char c) {
    const auto code = static_cast<unsigned char>(c);
    return std::isalnum(code) != 0 || std::string_view("_-./=:,+").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return std::string(text);
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shell_command(const std::vector<std::string>& arguments) {
  std::string out = "runnel";
  for (const std::string& one : arguments) out += ' ' + shell_word(one);
  return out;
}

}  // namespace runnel::cli
