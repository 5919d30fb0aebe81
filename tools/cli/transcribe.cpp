// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>

#include "audio_input.hpp"
#include "audio_paths.hpp"
#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "speech_options.hpp"
#include "streaming_options.hpp"
#include "transcription.hpp"

namespace runnel::cli {

namespace {

class transcribe_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "transcribe"; }
  [[nodiscard]] const char* summary() const override {
    return "Write down what is said in recordings, or live, while it is said";
  }

  void declare(arguments& options) override {
    options.rest("recordings", given_, "FILE|FOLDER|-",
                 "Recordings: WAV, and with libsndfile FLAC, Ogg, MP3, AIFF; a folder means all of them in it; -: "
                 "standard input, heard live");
    list_option_ = options.text("--list", list_, "FILE", "A file that names more recordings, one a line");
    model_.declare(options);
    declare_audio(options);
    streaming_.declare_for_speech(options);
    options.flag("--offline", offline_, "Hear everything before anything is written");
    longest_option_ =
        options.real("--longest", longest_s_, "S",
                     "Seconds after which a recording is cut, where it is quietest; 0: what the context holds; without "
                     "the option what the model says",
                     0, static_cast<double>(most_of_anything));
    options.text("-r,--reference", reference_, "FILE",
                 "What is said, for the log and the word error rate: one line a recording, or lines of a recording's "
                 "name, a tab and its text");
    options.text("-o,--output", output_, "DIR",
                 "Folder for instances.log (one JSON object a recording, as SimulEval writes them; all times are in "
                 "ms), config.yaml and scores.tsv; files of an earlier run are replaced");
    options.footer(
        "On a terminal, words are shown as they come, after the time up to which had been heard (dim). To a pipe or "
        "file\n"
        "goes one line a recording: its path, a tab, its text. What is odd about a recording goes to standard error, "
        "and\n"
        "one that cannot be read is left out; then the exit code is 1. Ctrl-C ends live audio as its own end does.\n"
        "Examples:\n"
        "  runnel transcribe call.wav\n"
        "  arecord -f S16_LE -r 8000 -t wav | runnel transcribe -\n"
        "  ffmpeg -loglevel error -i talk.mkv -f s16le -ac 1 -ar 16000 - | runnel transcribe - --rate 16000\n"
        "  runnel transcribe recordings/ --reference said.tsv --wait-k 3 --output results/");
  }

  void run() override {
    transcription_run::setup how;
    how.paths = recordings();
    how.raw = raw_layout();
    how.options = streaming_.get(model_);
    if (offline_) how.options.when = stream::read_all{};
    if (!reference_.empty()) how.references.emplace(reference_);
    how.model = model_.load();
    how.longest_s = longest_option_.given() ? longest_s_ : longest_of(how.model);
    how.options.instruction = how.model.settings.instruction;
    if (!how.model.encoder->config().streams()) {
      note("the encoder hears everything before it gives anything: words come at the end of a recording");
    }
    how.options.validate(how.model.language.context());
    std::optional<translation_log> log;
    if (!output_.empty()) log.emplace(output_, settings(how), translation_log::start::anew);
    const std::string manner = message(stream::name_of(how.options.how), ", ", how.options.when.name());
    transcription_run all(std::move(how), log ? &*log : nullptr);
    try {
      all.run();
    } catch (const closed_pipe&) {
      throw;
    } catch (...) {
      summarise(all.sum(), manner);
      throw;
    }
    if (log) log->write_scores(scoring());
    summarise(all.sum(), manner);
    expect<io_error>(all.sum().unreadable == 0, all.sum().unreadable, " of the recordings could not be read");
  }

 private:
  void declare_audio(arguments& options) {
    rate_option_ = options.whole("--rate", rate_, "HZ",
                                 "Standard input without a WAV header, and files called .raw or .pcm, have this sample "
                                 "rate",
                                 audio_input::least_rate, audio_input::greatest_rate);
    channels_option_ = options.whole("--channels", channels_, "N", "and so many channels", 1, most_channels);
    format_option_ = options.text("--sample-format", format_, "NAME", "and such samples: u8, s16, s24, s32 or f32");
    format_option_.one_of({"u8", "s16", "s24", "s32", "f32"});
  }

  void expect_one_standard_input(const std::vector<std::string>& paths) const {
    const auto users =
        std::count(paths.begin(), paths.end(), "-") + (list_ == "-" ? 1 : 0) + (reference_ == "-" ? 1 : 0);
    expect<config_error>(users <= 1, "transcribe: standard input can be only one thing");
  }

  [[nodiscard]] std::vector<std::string> recordings() const {
    auto all = given_;
    expect_one_standard_input(all);
    if (list_option_.given()) {
      auto more = read_path_list(list_);
      std::move(more.begin(), more.end(), std::back_inserter(all));
      expect_one_standard_input(all);
    }
    expect<config_error>(!all.empty(), "transcribe: expected a recording, a folder of them, or - for standard input");
    return expand_audio_paths(all);
  }

  /// What the model says, but no less than the chunks that were asked for.
  [[nodiscard]] static double longest_of(const transcribe::speech_model& model) {
    return model.settings.longest_seconds > 0 ? std::max(model.settings.longest_seconds, model.chunk_ms() / 1000) : 0;
  }

  [[nodiscard]] std::optional<io::wav_layout> raw_layout() const {
    expect<config_error>(rate_option_.given() || !(channels_option_.given() || format_option_.given()),
                         "transcribe: --channels and --sample-format are for raw samples, which need --rate too");
    if (!rate_option_.given()) return std::nullopt;
    return io::wav_layout{find_sample_format(format_), channels_, rate_};
  }

  [[nodiscard]] session_settings settings(const transcription_run::setup& how) const {
    session_settings all{{"source_type", "speech"},
                         {"target_type", "text"},
                         {"eval_latency_unit", "word"},
                         {"sample_rate", message(how.model.sample_rate())},
                         {"chunk_ms", message(how.model.chunk_ms())},
                         {"longest_s", message(how.longest_s)},
                         {"weights", fingerprint(model_.path())}};
    for (auto& one : describe_session(how.options, how.model.language)) all.push_back(std::move(one));
    return all;
  }

  [[nodiscard]] static score_options scoring() {
    score_options how;
    how.computation_aware = true;
    return how;
  }

  void summarise(const transcription_run::totals& sum, const std::string& manner) const {
    std::string first = message("recordings: ", sum.sentences, "; audio: ", fixed(sum.audio_seconds, 2),
                                " s; words written: ", sum.words, "; plan: ", manner);
    if (sum.cuts > 0) first += message("; cuts: ", sum.cuts);
    if (sum.unreadable > 0) first += message("; left out: ", sum.unreadable);
    note(first);
    note_rows(sum.rows);
    std::string second = message("computing: ", fixed(sum.seconds, 2), " s, ", model_.threads(),
                                 model_.threads() == 1 ? " thread" : " threads");
    if (sum.audio_seconds > 0) second += "; real-time factor: " + fixed(sum.seconds / sum.audio_seconds, 4);
    note(second);
    if (reference_.empty() || sum.sentences == 0) return;
    const auto& edits = sum.errors;
    note(message("word error rate: ", fixed(100 * edits.rate(), 2), " % (", edits.substitutions, " substituted, ",
                 edits.insertions, " inserted, ", edits.deletions, " deleted; ", edits.reference_length,
                 " words said)"));
  }

  static constexpr std::int64_t most_channels = 1024;

  std::vector<std::string> given_;
  argument list_option_;
  std::string list_;
  speech_options model_;
  streaming_options streaming_;
  argument rate_option_;
  std::int64_t rate_ = 16000;
  argument channels_option_;
  std::int64_t channels_ = 1;
  argument format_option_;
  std::string format_ = "s16";
  bool offline_ = false;
  argument longest_option_;
  double longest_s_ = 0;
  std::string reference_;
  std::string output_;
};

}  // namespace

std::unique_ptr<command> make_transcribe_command() { return std::make_unique<transcribe_command>(); }

}  // namespace runnel::cli
