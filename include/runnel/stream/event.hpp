// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <runnel/position/group.hpp>

namespace runnel::stream {

/// Names an event of one session, for `session::rewind`. Ids grow by one with each event and are never used again, so
/// an event that was taken back cannot be confused with a later one.
using event_id = std::int64_t;

/// The state before the first event: `rewind(beginning)` takes back everything.
inline constexpr event_id beginning = 0;

/// A source segment was read: word number `index`, or the end of the source.
struct read_event {
  /// Number of the word, from 0. For the end of the source, the number of words.
  index_t index = 0;
  /// The word as it was pushed, without the separator before it. Empty for the end of the source.
  std::string text;
  /// Source rows (tokens, the prompt included) read by now: c of every token written before the next read.
  index_t source_rows = 0;
  /// Whether this was the source's end, which counts as one more word.
  bool source_end = false;
  friend bool operator==(const read_event&, const read_event&) = default;
};

/// A target token was written and kept.
struct token_event {
  std::int32_t id = 0;
  /// Number of the token, from 0; the assistant header is not counted.
  index_t index = 0;
  /// What the token adds to the text: whole UTF-8 characters only, so it may be empty while one is incomplete.
  std::string text;
  friend bool operator==(const token_event&, const token_event&) = default;
};

/// A target word is complete.
struct word_event {
  /// Number of the word in `session::words()`.
  index_t index = 0;
  /// The word, or the part of it that was added since the last event about it (see `continues`).
  std::string text;
  /// Source words read when the word was completed, the source's end not counted.
  index_t words_read = 0;
  /// Whether the source's end had been read as well.
  bool source_finished = false;
  /// Whether this is more of the word reported before (same `index`): the word seemed complete, source was read, and
  /// the model went on without a space. Also true, with an empty text, where a word limit was reached in mere white
  /// space.
  bool continues = false;
  /// Seconds since the session was made, by a steady clock. Not compared: two equal runs differ in nothing else.
  double elapsed_s = 0;

  /// The delay that latency metrics count: words read, the source's end being one more word.
  [[nodiscard]] index_t delay() const noexcept { return words_read + (source_finished ? 1 : 0); }

  friend bool operator==(const word_event& a, const word_event& b) {
    return a.index == b.index && a.text == b.text && a.words_read == b.words_read &&
           a.source_finished == b.source_finished && a.continues == b.continues;
  }
};

/// Everything after an event was taken back by `session::rewind`.
struct retracted_event {
  /// The event that is now the last one.
  event_id back_to = beginning;
  /// The first target token taken back, and how many.
  index_t first_token = 0;
  index_t num_tokens = 0;
  /// The first target word taken back (or shortened), and how many.
  index_t first_word = 0;
  index_t num_words = 0;
  /// Source segments (words and end) that wait in the queue again.
  index_t segments_unread = 0;
  friend bool operator==(const retracted_event&, const retracted_event&) = default;
};

/// Why a session ended.
enum class done_reason : std::uint8_t { end_of_sequence, max_tokens, max_words };

[[nodiscard]] constexpr std::string_view name_of(done_reason reason) noexcept {
  switch (reason) {
    case done_reason::end_of_sequence: return "end_of_sequence";
    case done_reason::max_tokens: return "max_tokens";
    case done_reason::max_words: return "max_words";
  }
  return "unknown";
}

/// The session wrote all it will write.
struct done_event {
  done_reason reason = done_reason::end_of_sequence;
  /// What the detokenizer still held: text of a character that was never completed.
  std::string text;
  friend bool operator==(const done_event&, const done_event&) = default;
};

/// One thing that happened in a session. `session::rewind(id)` goes back to right after it.
struct event {
  event_id id = beginning;
  std::variant<read_event, token_event, word_event, retracted_event, done_event> what;

  /// The event as an `Event`, or nullptr if it is another kind.
  template <class Event>
  [[nodiscard]] const Event* get_if() const noexcept {
    return std::get_if<Event>(&what);
  }

  /// Calls `visitor` with the event's content.
  template <class Visitor>
  decltype(auto) visit(Visitor&& visitor) const {
    return std::visit(std::forward<Visitor>(visitor), what);
  }
};

}  // namespace runnel::stream
