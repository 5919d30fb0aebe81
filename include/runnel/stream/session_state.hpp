// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/stream/event.hpp>
#include <runnel/stream/policy.hpp>
#include <runnel/stream/transcript.hpp>
#include <runnel/text/incremental_detokenizer.hpp>

namespace runnel::stream::detail {

/// A token that was chosen and not yet kept, with what keeping it would change. A token that is dropped leaves no
/// trace: neither random numbers nor half characters.
struct proposal {
  std::int32_t id = 0;
  bool ends = false;
  std::string text;
  text::incremental_detokenizer detokenizer_after;
  random_stream random_after;
};

enum class phase : std::uint8_t { deciding, reading, writing, done };

/// The part of a session that is small enough to be copied at every event.
struct session_state {
  phase now = phase::deciding;
  /// The model ended before the source did: the next action is READ.
  bool must_read = false;
  /// A punctuation mark completed a word, and the next space will do so again (`punctuation_reads`).
  bool after_mark = false;
  index_t segments_read = 0;
  std::optional<done_reason> ending;
  std::string tail;
  std::optional<proposal> next;
  text::incremental_detokenizer detokenizer;
  random_stream random;
  policy when;
};

/// The session right after one event: the small state, and the lengths of the lists that only grow.
struct snapshot {
  event_id id = beginning;
  index_t source_rows = 0;
  index_t target_rows = 0;
  transcript::mark written;
  session_state state;
};

/// Snapshots of all events that were not taken back, oldest first.
class history {
 public:
  explicit history(snapshot first) { records_.push_back(std::move(first)); }

  [[nodiscard]] const snapshot& last() const noexcept { return records_.back(); }
  void add(snapshot record) { records_.push_back(std::move(record)); }

  /// Forgets everything after event `id` and returns its snapshot. Throws config_error if there is no such event.
  const snapshot& back_to(event_id id) {
    const auto found = std::lower_bound(records_.begin(), records_.end(), id,
                                        [](const snapshot& record, event_id wanted) { return record.id < wanted; });
    expect(found != records_.end() && found->id == id, "rewind: event ", id,
           " is not in the session's history: it never happened, or was taken back");
    records_.erase(found + 1, records_.end());
    return records_.back();
  }

 private:
  std::vector<snapshot> records_;
};

}  // namespace runnel::stream::detail
