// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace runnel::cli {

/// What was said in recordings: one text a line, in their order; or, where every line has a tab, the recording's name
/// and its text. A name is a path as it was given, a file's name, or that without its ending.
class reference_texts {
 public:
  /// Reads a file. Throws io_error; config_error for an empty one, and for a name that stands twice.
  explicit reference_texts(const std::string& path);

  /// The text of recording number `index` of `count`, which lies at `path`. Throws config_error if there is none, or
  /// if there are not as many lines as recordings.
  [[nodiscard]] const std::string& find(std::size_t index, std::size_t count, const std::string& path) const;

 private:
  std::string name_;
  std::vector<std::string> lines_;
  std::map<std::string, std::string> named_;
};

}  // namespace runnel::cli
