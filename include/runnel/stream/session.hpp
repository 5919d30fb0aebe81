// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/stream/language_model.hpp>
#include <runnel/stream/pass.hpp>
#include <runnel/stream/segments.hpp>
#include <runnel/stream/session_options.hpp>
#include <runnel/stream/session_state.hpp>

namespace runnel::stream {

/// One stream: source words go in with `push`, events come out with `next`.
///
/// A session reads segments (the prompt at once, then words, then the end) as its policy asks, and writes target tokens
/// as its plan says. Everything it does is an event, one at a time, and it can go back to right after any of them.
///
/// A target word is complete when the next token begins with white space. If the policy then wants to read, that token
/// is dropped: it was never an event. Where the source was read to its end, nothing is dropped any more. An
/// end-of-sequence token before the source's end means READ (see `early_end`).
///
/// Every call is transactional: if it throws (cancelled, a limit, no memory), the session is where it was. A session
/// belongs to one thread at a time; the model is shared. Going on after a rewind gives the same bits as never having
/// advanced.
///
/// An empty source is allowed: `finish()` without a word reads the end, and the model writes what it will.
class session {
 public:
  /// Throws config_error if options contradict each other or the model.
  session(language_model model, session_options options)
      : model_(std::move(model)),
        options_((model_.validate(), options.validate(model_.context()), std::move(options))),
        rules_(options_.how.rules(model_.network->config().sliding_window)),
        separator_(options_.word_separator.value_or(model_.format.word_separator)),
        source_(model_.prompt_tokens(options_.instruction)),
        header_(model_.header_tokens()),
        end_ids_(model_.end_ids()),
        cache_(model_.network->make_cache(options_.storage(*model_.network), options_.limit(model_.context()))),
        sampler_(options_.sampling),
        history_(first_snapshot(source_)) {
    set_adapters(options_.adapters);
    when_.read(source_.rows_pushed());
    restore(history_.last());
  }

  session(session&&) = default;
  session& operator=(session&&) = default;

  /// Queues a source word. White space inside it stays part of it; the chat format's separator goes before every word
  /// but the first. Text that looks like a special token is text. An empty word is ignored. Throws config_error after
  /// `finish`.
  void push(std::string_view word) {
    if (word.empty()) {
      expect(!source_.finished(), "push: the source was finished, no more words can follow");
      return;
    }
    const bool first = source_.words_pushed() == 0;
    source_.push(std::string(word), model_.word_tokens(word, first ? std::string_view() : separator_, first));
  }

  /// Queues a source word given as tokens, separator included. Throws config_error after `finish`, and for ids that the
  /// model does not have. Without tokens nothing is queued.
  void push_tokens(std::span<const std::int32_t> tokens) {
    model_.check(tokens);
    expect(!source_.finished(), "push: the source was finished, no more words can follow");
    if (!tokens.empty()) source_.push(model_.text_of(tokens), tokens);
  }

  /// Queues a source word that is no text: rows [any, hidden_size] that stand where embeddings do (what a speech
  /// encoder and its projector make of a stretch of audio), called `text` in events. They are copied. Throws
  /// config_error after `finish` and for numbers that are not finite, shape_error for another width. Without rows
  /// nothing is queued.
  void push_vectors(tensor_view<const float, 2> rows, std::string_view text = {}) {
    expect(!source_.finished(), "push: the source was finished, no more words can follow");
    if (rows.size(0) == 0) return;
    const index_t width = model_.network->config().hidden_size;
    expect<shape_error>(rows.size(1) == width, "push: vectors have ", rows.size(1), " features, the model has ", width);
    for (index_t r = 0; r < rows.size(0); ++r) {
      for (const float number : rows.row(r))
        expect(std::isfinite(number), "push: a number of vector ", r, " is ", number);
    }
    source_.push_vectors(std::string(text), rows);
  }

  /// No more words will come. Calling it again does nothing.
  void finish() { source_.finish(model_.end_tokens()); }

  /// The next event, or nothing if the session needs input or is done. Computes what is needed and no more: usually one
  /// forward pass a token. Throws cancelled_error if `stop` was requested before the pass was over, limit_error if the
  /// text outgrows the context.
  std::optional<event> next(const std::stop_token& stop = {}) {
    try {
      for (;;) {
        if (auto happened = poll()) return happened;
        if (compute(unlimited, stop) == 0) return std::nullopt;
      }
    } catch (...) {
      restore(history_.last());
      throw;
    }
  }

  /// Events until the budget is used up, input is needed, or the session is done. Passes longer than the budget are
  /// cut, which changes no bit. If something is thrown after the first event, the events are returned and the next call
  /// throws again.
  std::vector<event> step(const step_budget& budget, const std::stop_token& stop = {}) {
    std::vector<event> events;
    step_budget left = budget;
    try {
      while (left.max_tokens > 0) {
        if (auto happened = poll()) {
          if (happened->get_if<token_event>() != nullptr) --left.max_tokens;
          events.push_back(std::move(*happened));
          continue;
        }
        if (left.max_passes <= 0 || left.max_rows <= 0) break;
        const index_t rows = compute(left.max_rows, stop);
        if (rows == 0) break;
        left.max_rows -= rows;
        --left.max_passes;
      }
    } catch (...) {
      restore(history_.last());
      if (events.empty()) throw;
    }
    return events;
  }

  /// Goes back to right after event `id` (`beginning`: before the first). What was written since is gone; what was read
  /// since waits again, in order; nothing pushed is lost, and `finish` stays called. Returns the event that says so.
  /// Cost: none now; rows that must see other source than before are computed again with the next pass. Throws
  /// config_error if there is no such event.
  event rewind(event_id id) {
    const index_t tokens = num_tokens();
    const index_t words = written_.num_words();
    const index_t segments = state_.segments_read;
    const detail::snapshot& target = history_.back_to(id);
    retracted_event what;
    what.back_to = id;
    what.first_word = first_word_after(target.written);
    what.num_words = words - what.first_word;
    restore(target);
    if (id == beginning && std::exchange(prompt_is_stale_, false)) ledger_.rewind(0, 0, cache_);
    what.first_token = num_tokens();
    what.num_tokens = tokens - what.first_token;
    what.segments_unread = segments - state_.segments_read;
    return emit(what);
  }

  /// Begins anew, for another source; what follows is what a new session with the same model, options and adapters
  /// would do, event for event and row for row. Memory is kept, so it costs less. If it throws, nothing has happened.
  void restart() {
    segment_queue source(model_.prompt_tokens(options_.instruction));
    detail::history anew(first_snapshot(source));
    restore(anew.last());  // what comes after it does not throw
    source_ = std::move(source);
    history_ = std::move(anew);
    for (const group which : {group::source, group::target}) cache_.truncate(which, 0);
    ledger_ = {};
    prompt_is_stale_ = false;
    counters_ = {};
    last_id_ = beginning;
    start_ = std::chrono::steady_clock::now();
  }

  /// Whether the session wants a word (or `finish`) before it can go on; known once `next` was called.
  [[nodiscard]] bool needs_input() const noexcept {
    return state_.now == detail::phase::reading && state_.segments_read == source_.size();
  }
  /// Whether the last event was a done_event.
  [[nodiscard]] bool done() const noexcept { return state_.now == detail::phase::done; }

  /// What was written, whole characters only, without the assistant header.
  [[nodiscard]] const std::string& text() const noexcept { return written_.text(); }
  /// Completed target words.
  [[nodiscard]] std::vector<std::string> words() const { return written_.words(); }
  /// For each completed word, the source words read when it was completed, the source's end being one more word.
  [[nodiscard]] std::vector<index_t> delays() const {
    std::vector<index_t> result;
    for (const source_progress& read : written_.delays()) result.push_back(read.delay());
    return result;
  }
  /// Target tokens written, without header and end.
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept { return written_.tokens(); }
  /// Source tokens read: the prompt's and the words'; -1 - r for row r of `source_vectors`.
  [[nodiscard]] std::span<const std::int32_t> source_tokens() const noexcept {
    return source_.tokens().first(static_cast<std::size_t>(when_.read_now()));
  }
  /// Vectors pushed, [any, hidden_size]; valid until the next push.
  [[nodiscard]] tensor_view<const float, 2> source_vectors() const noexcept { return source_.vectors(); }
  /// Target tokens with the assistant header: the rows of the target group.
  [[nodiscard]] std::span<const std::int32_t> target_tokens() const noexcept { return target_; }
  /// Reads and writes so far, in rows.
  [[nodiscard]] const arrivals& when() const noexcept { return when_; }
  [[nodiscard]] const row_counters& counters() const noexcept { return counters_; }
  [[nodiscard]] const session_options& options() const noexcept { return options_; }
  [[nodiscard]] const language_model& model() const noexcept { return model_; }
  /// The last event, or `beginning`.
  [[nodiscard]] event_id last_event() const noexcept { return history_.last().id; }

  // What follows is for those who run the passes of several sessions together; `next` is made of it.

  /// The next event, if it needs no forward pass.
  std::optional<event> poll() {
    try {
      return advance();
    } catch (...) {
      restore(history_.last());
      throw;
    }
  }

  /// The rows to send through the network before `poll` can go on, at most `max_rows`; nullptr if there are none. Valid
  /// until the next call on this session. Throws limit_error if a position is past the context; nothing is changed
  /// then.
  const pass* pending(index_t max_rows = unlimited) {
    pass_pending_ = false;
    const bool writing = state_.now == detail::phase::writing && !state_.next && !state_.ending;
    const bool waiting = needs_input() && options_.compute_while_waiting;
    if (!writing && !waiting) return nullptr;
    std::optional<row_id> predicting;
    if (writing) {
      predicting = options_.how.row_predicting(when_, when_.written());
      expect(predicting.has_value(),
             "session: there is no row to predict from; the prompt, the source and the assistant header are all empty");
    }
    ledger_.plan_pass({options_.how, rules_, when_, source_.tokens(), target_, predicting, max_rows}, cache_, pass_);
    if (pass_.rows.empty()) return nullptr;
    const index_t context = options_.limit(model_.context());
    expect<limit_error>(pass_.rows.max_position() < static_cast<double>(context), "session: the text reaches position ",
                        pass_.rows.max_position(), " (", when_.read_now(), " source and ", when_.written(),
                        " target tokens), but the context ends before ", context, "; use a shorter text, ",
                        context < model_.context() ? "a larger context option, " : "a model with a longer context, ",
                        "or rewind");
    pass_pending_ = true;
    return &pass_;
  }

  /// The pending pass as a decoder takes it. Valid as long as the pass.
  [[nodiscard]] models::stream_rows rows() noexcept {
    return {&cache_, &pass_.rows, pass_.tokens, pass_.logit_rows, adapters_, source_.vectors()};
  }

  /// From now on rows are computed with these adapters, and no others. What is in the cache stays as it was computed,
  /// and a token that was chosen already stays chosen: rewind to the beginning to have all of it anew, the prompt too.
  /// Throws config_error for an adapter of another model.
  void set_adapters(std::vector<adapter_use> adapters) {
    std::vector<nn::active_adapter<nn::inference_parameters>> active;
    for (const adapter_use& one : adapters) {
      expect(one.weights != nullptr, "set_adapters: an adapter is missing");
      expect(std::isfinite(one.scale), "set_adapters: expected a finite scale, found ", one.scale);
      model_.network->check(*one.weights);
      active.push_back({one.weights.get(), one.scale});
    }
    options_.adapters = std::move(adapters);
    adapters_ = std::move(active);
    prompt_is_stale_ = cache_.size(group::source) > 0;
  }

  /// Tells the session that the pending pass went through the network. `logits`: `[vocab_size]` of the pass's logit
  /// row, empty if it has none. Throws config_error if no pass is pending.
  void complete(std::span<const float> logits) {
    expect(std::exchange(pass_pending_, false), "session: no pass is pending");
    ledger_.note(options_.how, pass_, counters_);
    if (pass_.logit_rows.empty()) return;
    if (options_.on_logits) options_.on_logits({when_.written(), when_.read_now(), logits});
    detail::proposal chosen;
    chosen.random_after = state_.random;
    chosen.id = sampler_.choose(logits.first(model_.vocabulary()), chosen.random_after);
    chosen.ends = std::find(end_ids_.begin(), end_ids_.end(), chosen.id) != end_ids_.end();
    chosen.detokenizer_after = state_.detokenizer;
    if (!chosen.ends) chosen.text = chosen.detokenizer_after.push(chosen.id);
    state_.next = std::move(chosen);
  }

 private:
  /// `poll`, without the way back.
  std::optional<event> advance() {
    for (;;) {
      if (done()) return std::nullopt;
      if (const auto* completed = written_.announce()) return emit_word(*completed);
      if (state_.ending) {
        state_.now = detail::phase::done;
        return emit(done_event{*state_.ending, state_.tail});
      }
      if (reached_limit()) continue;
      switch (state_.now) {
        case detail::phase::deciding: decide(); break;
        case detail::phase::reading:
          if (needs_input()) return std::nullopt;
          return read_segment();
        default:
          if (!state_.next) return std::nullopt;
          if (auto happened = take_proposal()) return happened;
      }
    }
  }

  [[nodiscard]] index_t num_tokens() const noexcept { return static_cast<index_t>(written_.tokens().size()); }
  [[nodiscard]] bool source_complete() const noexcept {
    return state_.segments_read > 0 && source_.is_end(state_.segments_read - 1);
  }
  [[nodiscard]] source_progress progress() const noexcept {
    return {state_.segments_read - (source_complete() ? 1 : 0), source_complete()};
  }

  /// Of a session that has read the prompt, which is all of `source`.
  detail::snapshot first_snapshot(const segment_queue& source) const {
    detail::snapshot first;
    first.source_rows = source.rows_pushed();
    first.state.when = options_.when;
    first.state.random = random_stream(options_.sampling.seed);
    first.state.detokenizer = model_.make_detokenizer();
    first.written = transcript().now();
    return first;
  }

  event emit(decltype(event::what) what) {
    event happened{++last_id_, std::move(what)};
    history_.add({happened.id, when_.read_now(), when_.written(), written_.now(), state_});
    return happened;
  }

  event emit_word(const transcript::unit& completed) {
    word_event what;
    what.index = completed.word;
    what.text = written_.text_of(completed);
    what.words_read = completed.read.words;
    what.source_finished = completed.read.finished;
    what.continues = completed.continues;
    what.elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    state_.now = detail::phase::deciding;
    return emit(what);
  }

  void restore(const detail::snapshot& record) {
    detail::session_state state = record.state;  // may throw
    pass_pending_ = false;
    when_.rewind(record.source_rows, record.target_rows);
    target_.resize(static_cast<std::size_t>(record.target_rows));
    written_.rewind(record.written);
    ledger_.rewind(record.source_rows, record.target_rows, cache_);
    state_ = std::move(state);
  }

  [[nodiscard]] index_t first_word_after(const transcript::mark& point) const noexcept {
    const auto units = written_.units();
    for (std::size_t i = point.units; i < units.size(); ++i) {
      if (units[i].begin != units[i].end) return units[i].word;
    }
    return written_.num_words();
  }

  /// READ or WRITE: the only place where it is decided.
  void decide() {
    if (wants_to_read()) {
      if (std::exchange(state_.next, std::nullopt)) ++counters_.tokens_discarded;
      state_.now = detail::phase::reading;
      return;
    }
    for (std::size_t i = target_.size(); i < header_.size(); ++i) {
      target_.push_back(header_[i]);
      when_.write();
    }
    state_.now = detail::phase::writing;
  }

  bool wants_to_read() {
    if (source_complete()) return false;
    if (state_.must_read || options_.how.order == event_order::read_all_first) return true;
    policy_state state;
    state.words_read = state_.segments_read;
    state.words_waiting = source_.words_pushed() - state_.segments_read;
    state.input_finished = source_.finished();
    state.words_written = static_cast<index_t>(written_.units().size());
    state.tokens_written = num_tokens();
    return state_.when.decide(state) == action::read;
  }

  event read_segment() {
    const index_t i = state_.segments_read;
    const auto& segment = source_.at(i);
    when_.read(segment.end_row - when_.read_now());
    ++state_.segments_read;
    state_.must_read = false;
    state_.now = detail::phase::deciding;
    return emit(read_event{i, segment.text, when_.read_now(), source_.is_end(i)});
  }

  /// Keeps the chosen token, or learns from it that a word or the text has ended.
  std::optional<event> take_proposal() {
    if (state_.next->ends) {
      state_.next.reset();
      if (source_complete() || options_.end_before_source == early_end::stop) {
        end_with(done_reason::end_of_sequence);
      } else {
        ++counters_.tokens_discarded;
        written_.complete(progress());
        state_.must_read = true;
        state_.now = detail::phase::deciding;
      }
      return std::nullopt;
    }
    if (starts_with_space(state_.next->text) && (written_.has_content() || state_.after_mark)) {
      state_.after_mark = false;
      written_.cut(progress());
      return std::nullopt;
    }
    return keep_proposal();
  }

  event keep_proposal() {
    detail::proposal chosen = std::move(*state_.next);
    state_.next.reset();
    state_.random = chosen.random_after;
    state_.detokenizer = chosen.detokenizer_after;
    target_.push_back(chosen.id);
    when_.write();
    written_.keep(chosen.id, chosen.text, progress());
    ++counters_.tokens_kept;
    if (options_.punctuation_reads && is_mark(chosen.text) && written_.has_content()) {
      written_.cut(progress());
      state_.after_mark = true;
    } else if (written_.unit_tokens() >= options_.max_word_tokens) {
      written_.cut(progress());
    }
    return emit(token_event{chosen.id, num_tokens() - 1, std::move(chosen.text)});
  }

  [[nodiscard]] static bool is_mark(std::string_view text) noexcept {
    return text.size() == 1 && std::string_view(".,:;?!").find(text[0]) != std::string_view::npos;
  }

  bool reached_limit() {
    if (num_tokens() >= options_.max_tokens) {
      end_with(done_reason::max_tokens);
    } else if (options_.max_words > 0 && written_.num_words() >= options_.max_words) {
      end_with(done_reason::max_words);
    }
    return state_.ending.has_value();
  }

  void end_with(done_reason reason) {
    state_.next.reset();
    state_.tail = state_.detokenizer.finish();
    written_.append(state_.tail, progress());
    written_.complete(progress());
    state_.ending = reason;
  }

  index_t compute(index_t max_rows, const std::stop_token& stop) {
    const pass* work = pending(max_rows);
    if (work == nullptr) return 0;
    if (!context_) context_ = std::make_unique<ops::eval>(options_.compute);
    context_->stop = stop;
    const models::stream_rows streams[] = {rows()};
    const auto logits = model_.network->forward(*context_, streams);
    const index_t count = work->rows.size();
    complete(work->logit_rows.empty() ? std::span<const float>() : logits.row(0));
    return count;
  }

  language_model model_;
  session_options options_;
  row_rules rules_;
  std::string separator_;
  segment_queue source_;
  std::vector<std::int32_t> header_;
  std::vector<std::int32_t> end_ids_;
  std::vector<std::int32_t> target_;
  arrivals when_;
  transcript written_;
  cache::key_value_cache cache_;
  std::vector<nn::active_adapter<nn::inference_parameters>> adapters_;
  bool prompt_is_stale_ = false;  // rows of the prompt were computed with other adapters
  row_ledger ledger_;
  sampler sampler_;
  detail::session_state state_;
  detail::history history_;
  event_id last_id_ = beginning;
  pass pass_;
  bool pass_pending_ = false;
  row_counters counters_;
  std::unique_ptr<ops::eval> context_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace runnel::stream
