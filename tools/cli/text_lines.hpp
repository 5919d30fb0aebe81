// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace runnel::cli {

/// The lines of a file, a pipe or standard input ("-"), without their line feeds and a carriage return before those.
[[nodiscard]] std::vector<std::string> read_lines(const std::string& path);

}  // namespace runnel::cli
