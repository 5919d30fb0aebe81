// SPDX-License-Identifier: Apache-2.0

#include "text_lines.hpp"

#include <algorithm>
#include <cstddef>

#include "console.hpp"

namespace runnel::cli {

std::vector<std::string> read_lines(const std::string& path) {
  const std::string all = read_all(path);
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    lines.push_back(all.substr(begin, end - begin));
    if (lines.back().ends_with('\r')) lines.back().pop_back();
    begin = end + 1;
  }
  return lines;
}

}  // namespace runnel::cli
