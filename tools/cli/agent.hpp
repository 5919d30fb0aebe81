// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/stream/session.hpp>

/// \file
/// What stands behind SimulEval's remote-agent protocol, without the network.

namespace runnel::cli {

/// A segment that cannot be taken now: the source was finished already. (What is no segment is a format_error.)
class conflict_error : public error {
 public:
  using error::error;
};

/// One agent: segments of source go in, segments of target come out. Belongs to one thread at a time.
class agent {
 public:
  /// Throws config_error if options contradict each other or the model.
  agent(stream::language_model model, stream::session_options options)
      : session_(std::move(model), std::move(options)) {}

  using seconds = std::chrono::duration<double>;

  /// Takes one segment, as SimulEval writes it: a JSON object with `content` (text; the words in it are pushed one by
  /// one), `finished` (the source's last), `is_empty` and `data_type`. Throws format_error that names the key for what
  /// is none, or is not text; conflict_error for text after the end; limit_error beyond `max_source_bytes`.
  void push(std::string_view segment);

  /// Goes on until the session wants more source, or is done, and gives the words that were completed, as a segment.
  /// Throws limit_error if that takes longer than `most` (0: any time) or the context is full, cancelled_error; what
  /// was written until then is given next time. A word that seemed complete, was given, and then went on without a
  /// space cannot be called back: its rest comes in the next segment, and SimulEval takes it for another word.
  [[nodiscard]] std::string pop(seconds most, const std::stop_token& stop);

  /// Begins anew.
  void reset();

  /// Source that one sentence may have.
  static constexpr std::size_t max_source_bytes = std::size_t{1} << 20U;

 private:
  void write(const stream::event& happened);

  stream::session session_;
  std::string written_;  // words that were not given yet
  std::size_t source_bytes_ = 0;
  bool pushed_ = false;    // a word
  bool finished_ = false;  // the source
};

/// Agents by name, for many sentences at a time. May be used from any thread; one call on an agent at a time.
class agents {
 public:
  struct limits {
    std::int64_t sessions = 16;               ///< at a time
    std::chrono::milliseconds idle{600'000};  ///< after which an agent may make room for another
    agent::seconds request{60};               ///< that one answer may take; 0: any
  };

  agents(stream::language_model model, stream::session_options options, limits most, std::stop_token stop);

  /// The agent's verbs; the agent is made by the first. Throws what `agent` throws, and limit_error if there are
  /// too many agents that are not idle.
  void push(const std::string& name, std::string_view segment);
  [[nodiscard]] std::string pop(const std::string& name);
  void reset(const std::string& name);
  /// Ends one; whether there was one.
  bool end(const std::string& name);
  /// What is served, in JSON.
  [[nodiscard]] std::string describe();

 private:
  using clock = std::chrono::steady_clock;
  struct entry {
    entry(const stream::language_model& model, const stream::session_options& options) : one(model, options) {}
    std::mutex lock;  // of `one`
    agent one;
    clock::time_point used;  // under the lock of all
  };

  template <class Verb>
  auto with(const std::string& name, Verb&& verb);
  void make_room();

  std::mutex lock_;  // of all_
  stream::language_model model_;
  stream::session_options options_;
  limits most_;
  std::stop_token stop_;
  std::map<std::string, std::shared_ptr<entry>> all_;
};

}  // namespace runnel::cli
