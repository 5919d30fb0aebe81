// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "audio_source.hpp"

namespace runnel::cli {

/// Opens a file that libsndfile reads: FLAC, Ogg (Vorbis, Opus), MP3, AIFF, and WAV files of other samples than ours.
/// Throws io_error if the program was built without it, format_error that names the file for what it cannot read.
[[nodiscard]] std::unique_ptr<audio_source> open_sound_file(const std::string& path);

/// Whether the program was built with libsndfile.
[[nodiscard]] bool has_sound_files() noexcept;

}  // namespace runnel::cli
