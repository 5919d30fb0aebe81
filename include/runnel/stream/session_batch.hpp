// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include <runnel/stream/session.hpp>

namespace runnel::stream {

/// What one step of a session batch brought.
struct batch_step {
  struct member_event {
    session* member = nullptr;
    event what;
  };
  struct member_failure {
    session* member = nullptr;
    std::exception_ptr why;
  };
  std::vector<member_event> events;
  /// Members that could not go on, for example because their text outgrew the context. They are where they were, and
  /// stay in the batch until they leave.
  std::vector<member_failure> failures;

  /// Whether nothing happened and nothing was computed: every member is done, failed, or needs input.
  bool idle = false;
};

/// Sessions of one model whose forward passes run together: weights are read once for all of them.
///
/// Plans, policies and lengths may differ, and members may join and leave between steps; what each of them writes is,
/// bit for bit, what it writes alone. The batch does not own its members: a session has to leave (or the batch to go)
/// before it is moved or destroyed. One thread at a time.
class session_batch {
 public:
  explicit session_batch(std::shared_ptr<const models::decoder> network,
                         const ops::eval_options& compute = {1, ops::fastest_compute})
      : network_(std::move(network)), context_(compute) {
    expect(network_ != nullptr, "session_batch: there is no model");
  }

  /// Throws config_error if the session is a member already, has another model, or computes in other numbers.
  void join(session& member) {
    expect(member.model().network == network_, "session_batch: the session belongs to another model");
    const auto &ours = context_.options(), &theirs = member.options().compute;
    expect(network_->effective(ours.compute) == network_->effective(theirs.compute) &&
               ours.instructions == theirs.instructions,
           "session_batch: the session computes in ", ops::name_of(theirs.compute), " on ",
           name_of(theirs.instructions), ", the batch in ", ops::name_of(ours.compute), " on ",
           name_of(ours.instructions));
    expect(find(member) == members_.end(), "session_batch: the session is a member already");
    members_.push_back(&member);
  }

  /// Throws config_error if the session is no member.
  void leave(session& member) {
    const auto found = find(member);
    expect(found != members_.end(), "session_batch: the session is no member");
    members_.erase(found);
  }

  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(members_.size()); }

  /// The events that need no computing, if there are any; otherwise one forward pass over what all members wait for (at
  /// most `max_rows` of each), and the events that follow from it. Throws cancelled_error if `stop` was requested
  /// before the pass was over; then no member was changed.
  batch_step step(std::stop_token stop = {}, index_t max_rows = unlimited) {
    batch_step result;
    drain(result);
    if (!result.events.empty()) return result;
    collect(max_rows, result);
    if (streams_.empty()) {
      result.idle = true;
      return result;
    }
    context_.stop = std::move(stop);
    const auto logits = network_->forward(context_, streams_);
    index_t row = 0;
    for (session* member : computing_) {
      const bool predicts = !member->rows().logit_rows.empty();
      try {
        member->complete(predicts ? logits.row(row) : std::span<const float>());
      } catch (...) {
        result.failures.push_back({member, std::current_exception()});
      }
      row += predicts ? 1 : 0;
    }
    drain(result);
    return result;
  }

 private:
  [[nodiscard]] std::vector<session*>::iterator find(session& member) {
    return std::find(members_.begin(), members_.end(), &member);
  }

  void drain(batch_step& result) {
    for (session* member : members_) {
      try {
        while (auto happened = member->poll()) result.events.push_back({member, std::move(*happened)});
      } catch (...) {
        result.failures.push_back({member, std::current_exception()});
      }
    }
  }

  void collect(index_t max_rows, batch_step& result) {
    streams_.clear();
    computing_.clear();
    for (session* member : members_) {
      try {
        if (member->pending(max_rows) == nullptr) continue;
        streams_.push_back(member->rows());
        computing_.push_back(member);
      } catch (...) {
        result.failures.push_back({member, std::current_exception()});
      }
    }
  }

  std::shared_ptr<const models::decoder> network_;
  ops::eval context_;
  std::vector<session*> members_;
  std::vector<session*> computing_;
  std::vector<models::stream_rows> streams_;
};

}  // namespace runnel::stream
