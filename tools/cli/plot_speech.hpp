// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include <runnel/stream/session_options.hpp>
#include <runnel/transcribe/speech_model.hpp>

#include "plot_rows.hpp"

/// \file
/// What `runnel plot` shows of a recording.

namespace runnel::cli {

/// A recording as it was heard and written down.
struct plotted_recording {
  std::string name;
  std::vector<float> samples;
  double sample_rate = 16000;
  double row_s = 0;               ///< seconds from one row of audio to the next
  plotted_sentence sentence;      ///< chunks are its words
  std::vector<double> chunks_s;   ///< when each chunk was whole
  std::vector<double> written_s;  ///< of each word: how much had been heard
};

/// Hears a file, `most_plotted_seconds` at most, and writes it down with these options. Throws what audio_input and
/// sessions throw, limit_error for one that is longer.
[[nodiscard]] plotted_recording hear_recording(const transcribe::speech_model& model,
                                               const stream::session_options& options, const std::string& path,
                                               const std::stop_token& stop);

/// Longer recordings cannot be read in a picture.
inline constexpr double most_plotted_seconds = 30;

/// Over one axis of time: the wave, when chunks were read and words written, and how the rows that write spread their
/// attention over the audio, `gamma` as in `draw_attention`. Throws as `run_gnuplot`.
[[nodiscard]] std::string draw_recording(const plotted_recording& recording, const plotted_plan& plan, double gamma,
                                         const std::string& of, const std::stop_token& stop);

}  // namespace runnel::cli
