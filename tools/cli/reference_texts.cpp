// SPDX-License-Identifier: Apache-2.0

#include "reference_texts.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>

#include "console.hpp"
#include "text_lines.hpp"

namespace runnel::cli {

reference_texts::reference_texts(const std::string& path) : name_(path), lines_(read_lines(path)) {
  expect<config_error>(!lines_.empty(), "--reference: '", name_, "' is empty");
  const auto has_tab = [](const std::string& line) { return line.find('\t') != std::string::npos; };
  if (!std::all_of(lines_.begin(), lines_.end(), has_tab)) return;
  for (const auto& line : lines_) {
    const std::size_t tab = line.find('\t');
    const std::size_t next = std::min(line.find('\t', tab + 1), line.size());  // what follows may say the speaker
    const bool fresh = named_.emplace(line.substr(0, tab), line.substr(tab + 1, next - tab - 1)).second;
    expect<config_error>(fresh, "--reference: '", name_, "' has two texts for '", printable(line.substr(0, tab)), "'");
  }
  // A list may name files from where it lies itself: the name alone does where it is one file's only.
  std::map<std::string, std::vector<std::string>> by_name;
  for (const auto& [whole, text] : named_) by_name[std::filesystem::path(whole).filename().string()].push_back(text);
  for (auto& [name, texts] : by_name) {
    if (texts.size() == 1) named_.emplace(name, std::move(texts.front()));
  }
}

const std::string& reference_texts::find(std::size_t index, std::size_t count, const std::string& path) const {
  if (named_.empty()) {
    expect<config_error>(lines_.size() == count, "--reference: expected as many lines as there are recordings, ", count,
                         ", found ", lines_.size());
    return lines_[index];
  }
  const std::filesystem::path file(path);
  for (const auto& name : {path, file.filename().string(), file.stem().string()}) {
    if (const auto found = named_.find(name); found != named_.end()) return found->second;
  }
  fail<config_error>("--reference: '", name_, "' has no text for '", printable(path), "'");
}

}  // namespace runnel::cli
