// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace runnel::cli {

/// The audio files that are meant: a folder stands for those in it and in the folders below (.wav, .flac, .ogg, .oga,
/// .opus, .mp3, .aif, .aiff, .au; links to folders are not followed), sorted byte by byte; anything else for itself,
/// in the order given. Throws io_error for a folder that cannot be read, config_error for one without any such file.
[[nodiscard]] std::vector<std::string> expand_audio_paths(const std::vector<std::string>& given);

/// The paths that a file ("-": standard input) names, one a line; empty lines are left out. Throws io_error, and
/// config_error if there is none.
[[nodiscard]] std::vector<std::string> read_path_list(const std::string& path);

}  // namespace runnel::cli
