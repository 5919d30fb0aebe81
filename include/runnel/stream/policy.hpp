// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/position/group.hpp>

namespace runnel::stream {

/// What a policy decides: take one more source word, or write the next target word.
enum class action : std::uint8_t { read, write };

/// What a policy may look at when it decides.
struct policy_state {
  /// Source words read so far; neither prompt nor source end count. Where a policy is asked, the source's end has not
  /// been read yet: from then on everything is written.
  index_t words_read = 0;
  /// Source words that were pushed and not read yet.
  index_t words_waiting = 0;
  /// Whether `finish()` was called: what waits is all there will be.
  bool input_finished = false;
  /// Times that a target word was completed so far: a word that goes on after a read counts again.
  index_t words_written = 0;
  /// Target tokens written so far, the assistant header not counted.
  index_t tokens_written = 0;
};

/// Reads `k` words, then one word for each word written (Ma et al. 2019). The prompt does not count, and the end of the
/// source is read like one more word.
struct wait_k {
  index_t k = 3;
  [[nodiscard]] action operator()(const policy_state& state) const noexcept {
    return state.words_read - state.words_written < k ? action::read : action::write;
  }
};

/// Reads everything before it writes.
struct read_all {
  [[nodiscard]] action operator()(const policy_state&) const noexcept { return action::read; }
};

/// Anything that answers a `policy_state` with an action and can be copied, state included.
template <class Rule>
concept Policy = std::copy_constructible<Rule> && requires(Rule rule, const policy_state& state) {
  { rule(state) } -> std::same_as<action>;
};

/// A policy: decides READ or WRITE whenever a target word is complete, and again after each read. Nothing else.
///
/// It is a value: a session copies it into each snapshot, so a policy with state of its own must keep that state inside
/// itself (not behind a pointer) for `rewind` to restore it. Make one from `wait_k`, `read_all`, or any copyable
/// callable `action(const policy_state&)`.
class policy {
 public:
  /// Waits for 3 words.
  policy() : policy(wait_k{}) {}
  /// Throws config_error unless k is at least 1.
  policy(wait_k rule) : rule_(rule), name_(message("wait-", rule.k)) {  // NOLINT(google-explicit-constructor)
    expect(rule.k >= 1, "policy: wait-k needs k of at least 1, found ", rule.k);
  }
  policy(read_all rule) : rule_(rule), name_("read-all") {}  // NOLINT(google-explicit-constructor)
  /// A rule of your own. Throws config_error if it is an empty function.
  template <class Rule>
  requires(!std::same_as<Rule, policy> && !std::same_as<Rule, wait_k> && !std::same_as<Rule, read_all>) &&
      Policy<Rule> policy(Rule rule, std::string name = "custom")  // NOLINT(google-explicit-constructor)
      : rule_(std::move(rule)),
  name_(std::move(name)) {
    expect(static_cast<bool>(rule_), "policy: the function given is empty");
  }

  /// Asks for the next action. Not const: a policy may keep state.
  [[nodiscard]] action decide(const policy_state& state) { return rule_(state); }

  /// Short name for messages and logs, e.g. "wait-3".
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  std::function<action(const policy_state&)> rule_;
  std::string name_;
};

/// The policy named "wait-K" (K at least 1) or "read-all". Throws config_error for anything else.
[[nodiscard]] inline policy parse_policy(std::string_view name) {
  if (name == "read-all") return read_all{};
  constexpr std::string_view prefix = "wait-";
  if (name.starts_with(prefix)) {
    const char* begin = name.data() + prefix.size();
    const char* end = name.data() + name.size();
    index_t k = 0;
    const auto [stop, failure] = std::from_chars(begin, end, k);
    if (failure == std::errc() && stop == end) return wait_k{k};
  }
  throw config_error(message("policy: expected wait-K (for example wait-3) or read-all, found '", name, "'"));
}

}  // namespace runnel::stream
