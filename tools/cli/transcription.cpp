// SPDX-License-Identifier: Apache-2.0

#include "transcription.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stop_token>
#include <utility>

#include <runnel/core/error.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

/// What reading a recording failed with, to be told from what writing to standard output or the log does.
struct unreadable {
  std::string why;
  bool is_format = false;
};

/// Calls `read`, which reads a recording.
template <class Read>
auto reading(Read read) {
  try {
    return read();
  } catch (const format_error& problem) {
    throw unreadable{problem.what(), true};
  } catch (const io_error& problem) {
    throw unreadable{problem.what(), false};
  }
}

/// Adds the time until it goes to a sum of seconds.
class stopwatch {
 public:
  explicit stopwatch(double& sum) : sum_(sum), begin_(seconds_now()) {}
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;
  ~stopwatch() { sum_ += seconds_now() - begin_; }

 private:
  double& sum_;
  double begin_;
};

/// Target rows that are kept free for what a stretch still writes.
index_t spare_rows(const stream::session& session) {
  constexpr index_t least = 16, part = 8;
  const index_t all = session.options().limit(session.model().context());
  return static_cast<index_t>(session.target_tokens().size()) + std::max(least, all / part);
}

}  // namespace

transcription_run::transcription_run(setup how, translation_log* log)
    : how_(std::move(how)), log_(log), view_(true), progress_(!view_.is_live()) {
  for (std::size_t i = 0; how_.references && i < how_.paths.size(); ++i) {
    (void)how_.references->find(i, how_.paths.size(), how_.paths[i]);
  }
  const transcribe::audio_session session(how_.model, how_.options);
  quiet_ = speech::quiet_cut_options::for_rate(how_.model.sample_rate());
  // The window must leave something that goes on at once.
  quiet_.window = std::clamp<index_t>(room(session) / 2, quiet_.frame, quiet_.window);
  expect<config_error>(session.chunks_left(spare_rows(session.session())) > 0,
                       "--context: ", how_.options.limit(how_.model.language.context()),
                       " positions hold no chunk of audio (", how_.model.settings.chunk_rows,
                       " rows) beside the prompt and what is written");
  const double chunk_s = how_.model.chunk_ms() / 1000;
  expect<config_error>(how_.longest_s == 0 || how_.longest_s >= chunk_s,
                       "--longest: expected at least a chunk of audio, ", chunk_s, " s, found ", how_.longest_s);
}

void transcription_run::run() {
  for (std::size_t i = 0; i < how_.paths.size(); ++i) {
    try {
      recording(i);
    } catch (const unreadable& problem) {
      if (shown_) view_.abandon_sentence();
      progress_.clear();
      if (how_.paths.size() == 1 && problem.is_format) throw format_error(problem.why);
      if (how_.paths.size() == 1) throw io_error(problem.why);
      note(problem.why + "; left out");
      ++sum_.unreadable;
    } catch (...) {
      if (shown_) view_.abandon_sentence();
      progress_.clear();
      throw;
    }
    if (interrupts::instance().signal() != 0) break;  // it ended what came live
  }
  progress_.clear();
}

double transcription_run::ms(std::int64_t samples) const {
  return 1000 * static_cast<double>(samples) / static_cast<double>(how_.model.sample_rate());
}

void transcription_run::recording(std::size_t index) {
  const auto& path = how_.paths[index];
  one_ = {};
  one_.index = static_cast<std::int64_t>(index);
  one_.source = path;
  one_.is_speech = true;
  if (how_.references) one_.reference = how_.references->find(index, how_.paths.size(), path);
  cuts_s_.clear();
  first_audio_ = busy_ = 0;
  begin_ = 0;
  earliest_ms_ = released_ms_ = 0;
  shown_ = false;
  time_shown_ = -1;
  audio_input input = reading([&] { return audio_input(path, how_.model.sample_rate(), how_.raw); });
  hear(input);
  finish(input);
}

void transcription_run::hear(audio_input& input) {
  cutter_.emplace(quiet_);
  for (;;) {
    while (cutter_->num_held() == 0 && !input.ended()) {
      if (!take(input)) input.wait();
    }
    if (cutter_->num_held() == 0) return;
    stretch(input);
  }
}

/// Takes what has come of the recording. Returns whether that was anything.
bool transcription_run::take(audio_input& input) {
  if (input.ended()) return false;
  block_.clear();
  const bool came = reading([&] { return input.take(block_); });
  if (first_audio_ == 0 && !block_.empty()) first_audio_ = seconds_now();
  cutter_->push(block_);
  if (input.ended()) cutter_->finish();
  if (came) show_progress(input);
  return came;
}

void transcription_run::stretch(audio_input& input) {
  transcribe::audio_session session(how_.model, how_.options);
  passed_ = 0;
  held_from_ = std::numeric_limits<std::int64_t>::max();
  earliest_ms_ = std::max(earliest_ms_, released_ms_);  // what follows a cut was held back until then
  released_ms_ = 0;
  words_before_ = one_.words.size();
  chunks_read_ = 0;
  // What comes live is ended by a signal, and what was heard of it is still written.
  const auto stop = input.is_live() ? std::stop_token() : interrupts::instance().token();
  const index_t most_held = 60 * how_.model.sample_rate();
  try {
    while (!session.session().done()) {
      if (input.is_live() && cutter_->num_held() < most_held) take(input);
      std::optional<stream::event> what;
      {
        const stopwatch running(busy_);
        what = session.next(stop);
      }
      if (what) {
        happened(*what, session, input);
      } else if (!session.session().done() && !feed(input, session)) {
        break;
      }
    }
  } catch (const limit_error& problem) {
    if (passed_ == 0) throw;
    note(message(input.name(), ": ", problem.what(), "; what was heard up to ", fixed(ms(begin_ + passed_) / 1000, 2),
                 " s and not written yet is lost"));
  }
  add_rows(one_.rows, session.session().counters());
  begin_ += passed_;
}

index_t transcription_run::room(const transcribe::audio_session& session) const {
  const index_t chunks = session.num_chunks() + session.chunks_left(spare_rows(session.session()));
  index_t most = chunks * how_.model.chunk_samples();
  if (how_.longest_s > 0) {
    most = std::min(most,
                    static_cast<index_t>(std::llround(how_.longest_s * static_cast<double>(how_.model.sample_rate()))));
  }
  return most - passed_;
}

/// Gives the session audio, or its end. Returns false if there was no audio in it at all.
bool transcription_run::feed(audio_input& input, transcribe::audio_session& session) {
  const index_t fits = room(session);
  const index_t free = cutter_->free_of(fits);
  // A chunk at a time: where the cuts lie must not depend on how the audio came.
  const index_t chunk_end = (session.num_chunks() + 1) * how_.model.chunk_samples() + how_.model.lookahead();
  const auto piece = cutter_->next(fits, std::max<index_t>(chunk_end - passed_, 1));
  const auto count = static_cast<std::int64_t>(piece.samples.size());
  if (count > free) {
    held_from_ = std::min(held_from_, passed_ + free);
    released_ms_ = ms(piece.cut ? begin_ + passed_ + fits : input.num_samples());  // otherwise the recording has ended
  }
  pass_on(piece.samples, session);
  if (piece.cut) cuts_s_.push_back(ms(begin_ + passed_) / 1000);
  if (piece.cut || cutter_->done()) {
    const stopwatch running(busy_);
    session.finish();
    return session.num_chunks() > 0;
  }
  if (count == 0 && !take(input)) input.wait();
  return true;
}

void transcription_run::pass_on(const std::vector<float>& samples, transcribe::audio_session& session) {
  const stopwatch running(busy_);
  session.push(samples);
  passed_ += static_cast<std::int64_t>(samples.size());
}

/// Milliseconds of the recording that had to be heard before so many chunks of the stretch could be read.
double transcription_run::heard_ms(index_t chunks, const transcribe::audio_session& session) const {
  const double here = session.delay_ms(chunks);
  const double heard = std::max(ms(begin_) + here, earliest_ms_);
  return here > ms(held_from_) ? std::max(heard, released_ms_) : heard;
}

void transcription_run::happened(const stream::event& what, const transcribe::audio_session& session,
                                 const audio_input& input) {
  if (const auto* const read = what.get_if<stream::read_event>()) {
    chunks_read_ = read->index + 1;  // the end is one more: then everything was heard
    return;
  }
  if (const auto* const word = what.get_if<stream::word_event>()) {
    if (word->text.empty()) return;
    const double heard = heard_ms(word->delay(), session);
    const double computed = busy_ * 1000;
    // What comes faster than it was spoken is taken for as fast.
    const double since_first = (seconds_now() - first_audio_) * 1000;
    const double elapsed = input.is_live() && since_first >= heard ? since_first : heard + computed;
    one_.add_word(words_before_ + static_cast<std::size_t>(word->index), word->text, {heard, elapsed, computed});
    return;
  }
  const double heard = heard_ms(chunks_read_, session);
  const auto* const token = what.get_if<stream::token_event>();
  const auto* const done = what.get_if<stream::done_event>();
  if (done != nullptr && done->reason == stream::done_reason::max_tokens) {
    note(message(input.name(), ": --max-tokens were written by ", fixed(heard / 1000, 2),
                 " s; what was heard and not written is lost"));
  }
  const std::string& text = token != nullptr ? token->text : done != nullptr ? done->text : std::string();
  if (text.find_first_not_of(" \n") == std::string::npos && time_shown_ < heard) return;
  if (!shown_) view_.begin_sentence(one_.source);
  shown_ = true;
  if (time_shown_ < heard) view_.read(fixed(heard / 1000, 1) + "s");
  time_shown_ = heard;
  view_.written(text);
}

void transcription_run::note_cuts(const std::string& name) const {
  if (cuts_s_.empty()) return;
  std::string places;
  for (const double place : cuts_s_) places += (places.empty() ? "" : ", ") + fixed(place, 2);
  note(message(name, ": is longer than ", how_.longest_s > 0 ? "is heard at once" : "the context holds",
               "; cut where it is quietest, at ", places, " s"));
}

void transcription_run::finish(const audio_input& input) {
  one_.source_length = ms(input.num_samples());
  one_.computed_total_ms = busy_ * 1000;
  sum_.add(one_.rows);
  ++sum_.sentences;
  sum_.words += static_cast<std::int64_t>(one_.words.size());
  sum_.seconds += busy_;
  sum_.audio_seconds += one_.source_length / 1000;
  sum_.cuts += static_cast<std::int64_t>(cuts_s_.size());
  if (one_.reference) sum_.errors += metrics::word_edits(one_.text(), *one_.reference);
  progress_.clear();
  if (!shown_) view_.begin_sentence(one_.source);
  shown_ = false;
  view_.end_sentence(one_.text(), one_.source + "\t");
  note_cuts(input.name());
  if (const auto odd = describe_oddities(input.facts()); !odd.empty()) note(input.name() + ": " + odd);
  if (log_ != nullptr) log_->add(one_);
}

void transcription_run::show_progress(const audio_input& input) {
  if (!progress_.is_enabled()) return;
  std::string text = message(fixed(input.facts().seconds(), 1), " s");
  if (how_.paths.size() > 1) {
    text = message("recording ", one_.index + 1, " of ", how_.paths.size(), ", ") + text;
  }
  progress_.show(text);
}

}  // namespace runnel::cli
