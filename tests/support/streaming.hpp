// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/stream/teacher_forcing.hpp>

namespace runnel::tests {

/// The plans of the paper, by the name of their factory.
inline std::vector<stream::plan> all_plans(double phi) {
  using namespace stream;
  return {batch(),
          batch_grouped(phi),
          interleaved(),
          batch_streaming(reencode::none),
          batch_streaming(reencode::positions),
          batch_streaming(reencode::all),
          batch_streaming(reencode::everything),
          group_streaming(phi),
          removed(removed_positions::side::source),
          removed(removed_positions::side::target),
          removed(removed_positions::side::both)};
}

/// Logits that predicted each target row, the last time they were computed.
using logit_log = std::map<index_t, std::vector<float>>;

/// All that a session did.
struct stream_log {
  std::vector<stream::event> events;
  logit_log logits;
};

/// Whether two logs tell the same, event ids apart.
inline bool same_events(const std::vector<stream::event>& a, const std::vector<stream::event>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].what != b[i].what) return false;
  }
  return true;
}

/// Session options that write into `log`.
inline stream::session_options watched(stream::session_options options, logit_log& log) {
  options.on_logits = [&log](const stream::prediction& seen) {
    log[seen.target_row].assign(seen.logits.begin(), seen.logits.end());
  };
  return options;
}

/// Everything is pushed at once, and events are taken one by one until the end.
inline stream_log run_at_once(const stream::language_model& model, const stream::session_options& options,
                              const std::vector<std::string>& words) {
  stream_log log;
  stream::session one(model, watched(options, log.logits));
  for (const auto& word : words) one.push(word);
  one.finish();
  while (auto happened = one.next()) log.events.push_back(std::move(*happened));
  return log;
}

/// A random policy that depends on its own (copied) state only.
class random_policy {
 public:
  explicit random_policy(std::uint64_t seed, double read_probability = 0.5) : random_(seed), read_(read_probability) {}
  stream::action operator()(const stream::policy_state&) {
    return random_.uniform() < read_ ? stream::action::read : stream::action::write;
  }

 private:
  random_stream random_;
  double read_;
};

}  // namespace runnel::tests
