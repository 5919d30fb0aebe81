// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/stream/session.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/unicode/utf8.hpp>

#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"
#include "run_totals.hpp"
#include "sentence_source.hpp"
#include "streaming_options.hpp"
#include "text_lines.hpp"
#include "translation_log.hpp"
#include "translation_view.hpp"

namespace runnel::cli {

namespace {

/// What all sentences took together.
struct totals : run_totals {
  std::int64_t skipped = 0;
  std::int64_t earlier = 0;  // taken from the log
  std::int64_t source_units = 0;
};

/// Streams all sentences of a source through sessions, one after another.
class translation_run {
 public:
  struct setup {
    stream::language_model model;
    stream::session_options options;
    text::text_unit unit = text::text_unit::word;
    std::vector<std::string> references;
    bool has_references = false;
    bool skip_long = false;
  };

  translation_run(setup how, sentence_source& source, translation_log* log)
      : how_(std::move(how)),
        source_(source),
        log_(log),
        view_(how_.unit == text::text_unit::word),
        progress_(!view_.is_live()) {
    lines_ = source_.count_lines();
    expect<config_error>(
        !how_.has_references || !lines_ || *lines_ == static_cast<std::int64_t>(how_.references.size()),
        "--target: expected as many lines as the source, ", lines_.value_or(0), ", found ", how_.references.size());
    expect<config_error>(log_ == nullptr || !lines_ || log_->last_earlier() < *lines_,
                         "--resume: instances.log has a sentence with index ",
                         log_ != nullptr ? log_->last_earlier() : 0, ", but the source has ", lines_.value_or(0),
                         " lines");
  }

  void run() {
    std::optional<stream::session> session;
    while (!source_.at_end()) {
      if (const auto* const done = log_ != nullptr ? log_->earlier(source_.line_number() - 1) : nullptr) {
        if (!show_earlier(*done)) break;
        continue;
      }
      if (!session) {
        made_ = seconds_now();
        session.emplace(how_.model, how_.options);
      }
      if (!sentence(*session)) break;
      if (one_.source_length > 0) session.reset();  // after an empty line it is as good as new
    }
    progress_.clear();
  }

  [[nodiscard]] const totals& sum() const noexcept { return sum_; }

 private:
  /// Translates the next line. Returns false if there is none.
  bool sentence(stream::session& session) {
    one_ = {};
    first_unit_ = busy_ = 0;
    shown_ = false;
    try {
      while (!session.done()) {
        feed(session);
        if (source_.line_ended() && source_.units() == 0) break;
        const double begin = seconds_now();
        const auto happened = session.next(interrupts::instance().token());
        busy_ += seconds_now() - begin;
        if (happened) {
          take(*happened);
        } else if (!session.done()) {
          source_.wait();
        }
      }
    } catch (const limit_error& problem) {
      too_long(session, problem);
      return true;
    } catch (...) {
      if (shown_) view_.abandon_sentence();
      progress_.clear();
      throw;
    }
    if (source_.line_is_missing()) return false;
    finish(session);
    return true;
  }

  /// Shows what an earlier run made of the next line. Returns false if there is none.
  bool show_earlier(const instance& done) {
    source_.read_line();
    if (source_.line_is_missing()) return false;
    std::string line = source_.line();
    if (line.ends_with('\r')) line.pop_back();
    const auto same = [](const std::string& here, const std::optional<std::string>& there) {
      return !unicode::is_valid(here) || here == there;  // the log cannot hold what is no text
    };
    expect<config_error>(same(line, done.source), "--resume: ", source_.name(), ", line ", source_.line_number(),
                         ": instances.log has another source for this sentence");
    const auto index = static_cast<std::size_t>(done.index);
    expect<config_error>(
        !how_.has_references || (index < how_.references.size() && same(how_.references[index], done.reference)),
        "--resume: --target, line ", source_.line_number(), ": instances.log has another reference for this sentence");
    progress_.clear();
    view_.begin_sentence(source_.line_number());
    view_.end_sentence(done.prediction);
    ++sum_.earlier;
    source_.next_line();
    return true;
  }

  void feed(stream::session& session) {
    source_.feed(session);
    if (first_unit_ == 0 && source_.units() > 0) first_unit_ = seconds_now();
  }

  void take(const stream::event& happened) {
    if (const auto* read = happened.get_if<stream::read_event>()) {
      if (!read->source_end) {
        begin_view();
        view_.read(read->text);
      }
    } else if (const auto* token = happened.get_if<stream::token_event>()) {
      begin_view();
      view_.written(token->text);
    } else if (const auto* word = happened.get_if<stream::word_event>()) {
      take_word(*word);
    } else if (const auto* done = happened.get_if<stream::done_event>()) {
      view_.written(done->text);
    }
  }

  void take_word(const stream::word_event& word) {
    if (word.text.empty()) return;
    one_.add_word(static_cast<std::size_t>(word.index), word.text,
                  {static_cast<double>(word.words_read), std::max(0.0, (word.elapsed_s - (first_unit_ - made_)) * 1000),
                   busy_ * 1000});
  }

  void begin_view() {
    if (!shown_) view_.begin_sentence(source_.line_number());
    shown_ = true;
  }

  /// A sentence that the context cannot hold: the end of the run, or an empty line.
  void too_long(stream::session& session, const limit_error& problem) {
    progress_.clear();
    const std::string what = message(source_.name(), ", line ", source_.line_number(), ": ", problem.what());
    if (!how_.skip_long) {
      if (shown_) view_.abandon_sentence();
      throw limit_error(what + "; --skip-long gives an empty line for such sentences and goes on");
    }
    note(what + "; skipped");
    one_ = {};
    ++sum_.skipped;
    finish(session);
  }

  void finish(stream::session& session) {
    one_.source = source_.line();
    if (one_.source.ends_with('\r')) one_.source.pop_back();
    one_.index = source_.line_number() - 1;
    one_.source_length = static_cast<double>(source_.units());
    if (how_.has_references) {
      const auto index = static_cast<std::size_t>(one_.index);
      expect<config_error>(index < how_.references.size(), "--target: has ", how_.references.size(),
                           " lines, but the source has more");
      one_.reference = how_.references[index];
    }
    if (source_.units() > 0) one_.rows = session.counters();
    sum_.add(one_.rows);
    ++sum_.sentences;
    sum_.source_units += source_.units();
    sum_.words += static_cast<std::int64_t>(one_.words.size());
    sum_.seconds += busy_;
    one_.computed_total_ms = busy_ * 1000;
    progress_.clear();
    begin_view();
    view_.end_sentence(one_.text());
    if (log_ != nullptr) log_->add(one_);
    show_progress();
    source_.next_line();
  }

  void show_progress() {
    std::string text = message("sentence ", sum_.earlier + sum_.sentences);
    if (lines_) text += message(" of ", *lines_);
    if (sum_.seconds > 0) text += message(", ", fixed(sum_.token_rate(), 1), " tokens/s");
    progress_.show(text);
  }

  setup how_;
  sentence_source& source_;
  translation_log* log_;
  translation_view view_;
  progress progress_;
  std::optional<std::int64_t> lines_;
  totals sum_;
  translation one_;
  bool shown_ = false;
  double made_ = 0;        // when the session was made
  double first_unit_ = 0;  // when the first unit of the sentence came; 0 before
  double busy_ = 0;        // seconds spent in the session
};

class translate_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "translate"; }
  [[nodiscard]] const char* summary() const override {
    return "Stream sentences through a model that writes while it reads";
  }

  void declare(arguments& options) override {
    model_.declare(options);
    declare_text(options);
    streaming_.declare(options);
    options.flag("--skip-long", skip_long_,
                 "Give an empty line for a sentence that the context cannot hold, instead of ending with an error");
    options.footer(
        "On a terminal, reads (dim) and writes are shown as they happen, then the translation. To a pipe or file goes "
        "one\n"
        "line a sentence, its translation, and nothing else. A line without words gives an empty line. Text that looks "
        "like\n"
        "a special token, such as <|im_end|>, is text. A summary goes to standard error.\n"
        "Examples:\n"
        "  runnel translate -m model.gguf --source sentences.txt --plan group-streaming --wait-k 3\n"
        "  runnel translate -m model.gguf --source sentences.txt --plan batch-streaming --reencode all -k 5 > out.txt\n"
        "  speech-to-words | runnel translate -m model.gguf --source - --target-language German\n"
        "  runnel translate -m model.gguf --source test.en --target test.fr --output results/ --resume");
  }

  void run() override {
    translation_run::setup how;
    how.options = streaming_.get(model_);
    how.unit = text::find_text_unit(unit_);
    how.skip_long = skip_long_;
    how.has_references = !target_.empty();
    expect<config_error>(!resume_ || !output_.empty(),
                         "translate: --resume needs --output, which has the log to resume");
    expect<config_error>(!(target_ == "-" && source_ == "-"),
                         "translate: --source and --target cannot both be standard input");
    if (how.has_references) how.references = read_lines(target_);
    sentence_source source(source_, how.unit);
    how.options.word_separator = source.separator();
    how.model = model_.load();
    streaming_.apply(how.model, how.options);
    how.options.adapters = model_.adapters(how.model);
    how.options.validate(how.model.context());
    std::optional<translation_log> log;
    using start = translation_log::start;
    if (!output_.empty()) log.emplace(output_, settings(how), resume_ ? start::resume : start::anew);
    const std::string plan = stream::name_of(how.options.how);
    translation_run all(std::move(how), source, log ? &*log : nullptr);
    try {
      all.run();
    } catch (const closed_pipe&) {
      throw;
    } catch (...) {
      summarise(all.sum(), plan);
      throw;
    }
    if (log) log->write_scores(scoring());
    summarise(all.sum(), plan);
  }

 private:
  void declare_text(arguments& options) {
    options.text("-s,--source", source_, "FILE", "Sentences, one a line; -: standard input, read live, word by word")
        .required();
    options.text("--source-unit", unit_, "UNIT", "What is read at a time: word, char or token")
        .one_of({"word", "char", "token"});
    options.text("--target", target_, "FILE", "References, one a line, kept for the log");
    options.text("-o,--output", output_, "DIR",
                 "Folder for instances.log (one JSON object a sentence, as SimulEval writes them; delays count source "
                 "units, elapsed is in ms), config.yaml and scores.tsv; files of an earlier run are replaced");
    options.flag("--resume,--continue-unfinished", resume_,
                 "Go on with the run that --output has the log of: sentences in it are shown, not translated again");
    unit_ms_option_ = options.real("--source-unit-ms", unit_ms_, "MS",
                                   "Time from one source unit to the next, for the computation-aware columns of "
                                   "scores.tsv; 0 leaves them out, and only words have a default",
                                   0, static_cast<double>(most_of_anything));
  }

  [[nodiscard]] session_settings settings(const translation_run::setup& how) const {
    session_settings all{{"source_type", "text"},
                         {"target_type", "text"},
                         {"eval_latency_unit", "word"},
                         {"source_unit", unit_},
                         {"source_unit_ms", message(unit_ms())},
                         {"weights", fingerprint(model_.path())},
                         {"adapters", model_.describe_adapters()}};
    for (auto& one : describe_session(how.options, how.model)) all.push_back(std::move(one));
    return all;
  }

  [[nodiscard]] double unit_ms() const { return unit_ == "word" || unit_ms_option_.given() ? unit_ms_ : 0; }

  [[nodiscard]] score_options scoring() const {
    score_options how;
    how.unit_ms = unit_ms();
    how.computation_aware = how.unit_ms > 0;
    return how;
  }

  void summarise(const totals& sum, const std::string& plan) const {
    std::string first = message("sentences: ", sum.sentences, "; source ", unit_, "s: ", sum.source_units,
                                "; words written: ", sum.words, "; plan: ", plan);
    if (const auto policy = streaming_.policy(); !policy.empty()) first += ", " + policy;
    if (sum.skipped > 0) first += message("; skipped: ", sum.skipped);
    if (sum.earlier > 0) first += message("; from the log: ", sum.earlier);
    note(first);
    note_rows(sum.rows);
    note(message("computing: ", fixed(sum.seconds, 2), " s, ", fixed(sum.token_rate(), 1), " tokens/s, ",
                 model_.threads(), model_.threads() == 1 ? " thread" : " threads"));
  }

  model_options model_;
  streaming_options streaming_;
  std::string source_;
  std::string unit_ = "word";
  std::string target_;
  std::string output_;
  bool resume_ = false;
  argument unit_ms_option_;
  double unit_ms_ = 400;  // 150 words a minute
  bool skip_long_ = false;
};

}  // namespace

std::unique_ptr<command> make_translate_command() { return std::make_unique<translate_command>(); }

}  // namespace runnel::cli
