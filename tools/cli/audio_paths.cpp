// SPDX-License-Identifier: Apache-2.0

#include "audio_paths.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <system_error>

#include <runnel/core/ascii.hpp>
#include <runnel/core/error.hpp>

#include "text_lines.hpp"

namespace runnel::cli {

namespace {

bool is_audio(const std::filesystem::path& path) {
  constexpr std::array known{".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"};
  const std::string kind = ascii_lower(path.extension().string());
  return std::find(known.begin(), known.end(), kind) != known.end();
}

std::vector<std::string> audio_below(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code problem;
  std::filesystem::recursive_directory_iterator at(folder, problem);
  for (; !problem && at != std::filesystem::end(at); at.increment(problem)) {
    std::error_code vanished;
    if (at->is_regular_file(vanished) && is_audio(at->path())) found.push_back(at->path().string());
  }
  expect<io_error>(!problem, "cannot read the folder '", folder, "': ", problem.message());
  expect<config_error>(!found.empty(), "'", folder, "' has no audio file (.wav, .flac, .ogg, .mp3 and the like)");
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<std::string> expand_audio_paths(const std::vector<std::string>& given) {
  std::vector<std::string> all;
  for (const auto& path : given) {
    std::error_code problem;
    if (path == "-" || !std::filesystem::is_directory(path, problem)) {
      all.push_back(path);
      continue;
    }
    auto below = audio_below(path);
    std::move(below.begin(), below.end(), std::back_inserter(all));
  }
  return all;
}

std::vector<std::string> read_path_list(const std::string& path) {
  auto lines = read_lines(path);
  std::erase(lines, std::string());
  expect<config_error>(!lines.empty(), "'", path, "' names no file");
  return lines;
}

}  // namespace runnel::cli
