// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "study_config.hpp"

namespace runnel::cli {

/// Writes index.html, pictures and tables of what is done of a study into its folder of results. Gives the files that
/// were written. What is missing is shown as missing. Throws io_error, format_error; picture_error is told, and the
/// report then has no pictures.
std::vector<std::filesystem::path> write_report(const study_config& study);

}  // namespace runnel::cli
