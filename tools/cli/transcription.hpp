// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <runnel/io/wav_layout.hpp>
#include <runnel/metrics/wer.hpp>
#include <runnel/speech/quiet_cut.hpp>
#include <runnel/transcribe/audio_session.hpp>

#include "audio_input.hpp"
#include "reference_texts.hpp"
#include "run_totals.hpp"
#include "translation_log.hpp"
#include "translation_view.hpp"

namespace runnel::cli {

/// Streams recordings through sessions, one after another.
///
/// A recording that outgrows the context is cut where it is quietest, and each stretch has a session of its own; where
/// it was cut is said on standard error at its end. A recording that cannot be read is named there and left out, unless
/// it is the only one. What comes live is ended by a signal as by its own end, and the run with it.
class transcription_run {
 public:
  struct setup {
    transcribe::speech_model model;
    stream::session_options options;
    std::vector<std::string> paths;  ///< "-" is standard input
    std::optional<io::wav_layout> raw;
    std::optional<reference_texts> references;
    double longest_s = 0;  ///< of a stretch; 0: what the context holds
  };

  /// What all recordings took together.
  struct totals : run_totals {
    double audio_seconds = 0;
    std::int64_t cuts = 0;
    std::int64_t unreadable = 0;
    metrics::edit_counts errors;
  };

  /// Throws config_error for a context that holds no chunk, and for recordings without a reference where there are any.
  transcription_run(setup how, translation_log* log);

  void run();
  [[nodiscard]] const totals& sum() const noexcept { return sum_; }

 private:
  void recording(std::size_t index);
  void hear(audio_input& input);
  bool take(audio_input& input);
  void stretch(audio_input& input);
  bool feed(audio_input& input, transcribe::audio_session& session);
  void pass_on(const std::vector<float>& samples, transcribe::audio_session& session);
  void happened(const stream::event& what, const transcribe::audio_session& session, const audio_input& input);
  void written(std::string_view text);
  void finish(const audio_input& input);

  [[nodiscard]] index_t room(const transcribe::audio_session& session) const;
  [[nodiscard]] double heard_ms(index_t chunks, const transcribe::audio_session& session) const;
  [[nodiscard]] double ms(std::int64_t samples) const;
  void note_cuts(const std::string& name) const;
  void show_progress(const audio_input& input);

  setup how_;
  translation_log* log_;
  speech::quiet_cut_options quiet_;
  translation_view view_;
  progress progress_;
  totals sum_;

  // Of the recording.
  translation one_;
  std::optional<speech::quiet_cut> cutter_;
  std::vector<float> block_;
  std::vector<double> cuts_s_;
  double first_audio_ = 0;  // when its first samples came; 0 before
  double busy_ = 0;         // seconds spent in sessions
  bool shown_ = false;

  // Of the stretch.
  std::int64_t begin_ = 0;        // samples before it
  std::int64_t passed_ = 0;       // samples of it that went into the session
  std::int64_t held_from_ = 0;    // those from here on were held back,
  double released_ms_ = 0;        // until this much of the recording had been heard
  double earliest_ms_ = 0;        // and nothing of it goes on before
  std::size_t words_before_ = 0;  // of the recording
  index_t chunks_read_ = 0;
  double time_shown_ = -1;
};

}  // namespace runnel::cli
