// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <runnel/metrics/english_spelling_table.hpp>
#include <runnel/metrics/words.hpp>

namespace runnel::metrics {

/// British spellings of some 1,700 words, and their American ones: those of Whisper's normaliser. Built once in a few
/// hundred microseconds; const functions may be called from any thread.
class american_spelling {
 public:
  american_spelling() {
    const auto each = [](std::string_view list, auto&& use) {
      for (const auto one : split_words(list)) use(one == "-" ? std::string_view() : one);
    };
    for (const auto& group : detail::spelling_groups) {
      each(group.stems, [&](std::string_view stem) {
        each(group.endings, [&](std::string_view ending) {
          std::string british(stem);
          std::string american(stem);
          (british += group.british) += ending;
          (american += group.american) += ending;
          words_.emplace(std::move(british), std::move(american));
        });
      });
    }
  }

  /// The American spelling of a word in lower case, or the word itself.
  [[nodiscard]] const std::string& operator()(const std::string& word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? word : found->second;
  }

  [[nodiscard]] std::size_t size() const noexcept { return words_.size(); }

 private:
  std::unordered_map<std::string, std::string> words_;
};

}  // namespace runnel::metrics
