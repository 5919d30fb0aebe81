// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/text/bpe.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_tables.hpp>
#include <runnel/unicode/utf8.hpp>

/// \file
/// What writers of vocabularies ask a vocabulary's tables.

namespace runnel::text::detail {

/// For every token that merging its own text gives: the merge that comes last there. Best rank first.
///
/// No other merge is ever applied, whatever the text. Take the first moment at which two tokens that can be merged
/// stand side by side: nothing has crossed the ends of that stretch, so what happened inside is what happens to it
/// alone, up to its last merge. Hence a token's merges may stand in any order, and two vocabularies of the same tokens
/// whose canonical merges are equal give the same ids for every text.
[[nodiscard]] inline std::vector<merge_rule> canonical_merges(const tokenizer_tables& tables) {
  std::vector<merge_rule> found;
  std::vector<std::int32_t> ids;
  bpe_merger merger(tables.merges());
  for (std::size_t id = 0; id < tables.data().tokens.size(); ++id) {
    const auto piece = tables.piece(id);
    const bool is_cut = tables.data().split_spaces && piece.find(' ', 1) != std::string_view::npos;
    if (piece.empty() || is_cut) continue;
    ids.clear();
    tables.push_piece(piece, merger, missing_byte_policy::as_vocabulary);
    merger.finish(ids);
    const bool is_it = ids.size() == 1 && ids.front() == static_cast<std::int32_t>(id);
    if (is_it && merger.last() != nullptr) found.push_back(*merger.last());
  }
  std::sort(found.begin(), found.end(), [](const merge_rule& a, const merge_rule& b) {
    return std::tie(a.rank, a.merged) < std::tie(b.rank, b.merged);
  });
  return found;
}

/// All merges by rank. Those that share one, as a token's merges do with Tiktoken, are put in some order.
[[nodiscard]] inline std::vector<merge_rule> listed_merges(const tokenizer_tables& tables) {
  const auto rules = tables.merges().rules();
  std::vector<merge_rule> list(rules.begin(), rules.end());
  std::stable_sort(list.begin(), list.end(), [](const merge_rule& a, const merge_rule& b) { return a.rank < b.rank; });
  return list;
}

/// Whether some token as a whole is not what merging makes of its text, so that `ignore_merges` matters.
[[nodiscard]] inline bool has_unmerged_tokens(const tokenizer_tables& tables) {
  std::vector<std::int32_t> ids;
  bpe_merger merger(tables.merges());
  for (std::size_t id = 0; id < tables.data().tokens.size(); ++id) {
    const auto piece = tables.piece(id);
    const auto whole = static_cast<std::int32_t>(id);
    if (tables.data().types[id] != token_type::normal || tables.find_piece(piece) != whole) continue;
    ids.clear();
    tables.push_piece(piece, merger, missing_byte_policy::as_vocabulary);
    merger.finish(ids);
    if (ids.size() != 1 || ids.front() != whole) return true;
  }
  return false;
}

/// The rules that count: the first of each added token, without those that say nothing, by id.
[[nodiscard]] inline std::vector<added_token_rule> effective_rules(const std::vector<added_token_rule>& rules,
                                                                   const std::vector<token_type>& types) {
  std::vector<added_token_rule> out = rules;
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  out.erase(std::unique(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.id == b.id; }), out.end());
  std::erase_if(out, [&](const added_token_rule& rule) {
    const auto type = types[static_cast<std::size_t>(rule.id)];
    const bool is_plain = !rule.strip_left && !rule.strip_right && !rule.normalized && !rule.single_word;
    return is_plain || (!is_markup(type) && type != token_type::user_defined);
  });
  return out;
}

/// Throws config_error naming a token that is not UTF-8, which files that others read cannot hold.
inline void expect_utf8(const tokenizer_data& data) {
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    expect(unicode::is_valid(data.tokens[id]), data.source_name, ": token ", id,
           " is not UTF-8 and cannot be written: ", io::in_quotes(data.tokens[id]));
  }
}

}  // namespace runnel::text::detail
