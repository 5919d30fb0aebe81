// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// How text is cut into pieces before byte pairs are merged; no merge crosses a cut.
enum class pre_tokenizer_kind : std::uint8_t {
  gpt2,    ///< contractions, ` ?letters`, ` ?numbers`, ` ?others`, white space
  llama3,  ///< contractions in any case, one leading sign with letters, numbers by three, line breaks kept with signs
  qwen2,   ///< as llama3, but every number on its own
  smollm,  ///< every number on its own first, then gpt2 within what lies between
};

namespace detail {

/// The four kinds of characters that the patterns distinguish. Bytes that are not UTF-8 count as `other`.
enum class char_class : std::uint8_t { letter, number, space, other };

/// One character at some place of a text; `length` 0 is the end.
struct scanned_char {
  char32_t code_point = 0;
  std::uint8_t length = 0;
  char_class kind = char_class::other;

  [[nodiscard]] constexpr bool is(char_class wanted) const noexcept { return length != 0 && kind == wanted; }
  [[nodiscard]] constexpr bool is_line_break() const noexcept {
    return length != 0 && (code_point == U'\n' || code_point == U'\r');
  }
};

[[nodiscard]] constexpr scanned_char scan(std::string_view text, std::size_t at) noexcept {
  if (at >= text.size()) return {};
  const auto step = unicode::decode(text, at);
  scanned_char out{step.code_point, step.length, char_class::other};
  if (step.kind != unicode::sequence_kind::valid) return out;
  if (unicode::is_whitespace(step.code_point)) {
    out.kind = char_class::space;
  } else if (const auto group = unicode::category_of(step.code_point); group == unicode::category::letter) {
    out.kind = char_class::letter;
  } else if (group == unicode::category::number) {
    out.kind = char_class::number;
  }
  return out;
}

/// End of the longest run of `wanted` that begins at `at`, of at most `limit` characters.
[[nodiscard]] constexpr std::size_t run_end(std::string_view text, std::size_t at, char_class wanted,
                                            std::size_t limit = static_cast<std::size_t>(-1)) noexcept {
  for (auto c = scan(text, at); limit != 0 && c.is(wanted); c = scan(text, at), --limit) at += c.length;
  return at;
}

/// End of `'s 't 're 've 'm 'll 'd` at `at`, or `at` where there is none. With `any_case` letters match as they do
/// under a case-insensitive regular expression.
[[nodiscard]] constexpr std::size_t contraction_end(std::string_view text, std::size_t at, bool any_case) noexcept {
  if (at >= text.size() || text[at] != '\'') return at;
  const auto first = scan(text, at + 1);
  if (first.length == 0) return at;
  const auto same = [any_case](const scanned_char& c, char letter) {
    return any_case ? unicode::matches_ignoring_case(c.code_point, letter)
                    : c.code_point == static_cast<char32_t>(letter);
  };
  const std::size_t after_first = at + 1 + first.length;
  for (const char letter : {'s', 't', 'm', 'd'}) {
    if (same(first, letter)) return after_first;
  }
  const auto second = scan(text, after_first);
  if (second.length == 0) return at;
  const bool two = (same(first, 'r') && same(second, 'e')) || (same(first, 'v') && same(second, 'e')) ||
                   (same(first, 'l') && same(second, 'l'));
  return two ? after_first + second.length : at;
}

/// End of `\s+(?!\S)|\s+` at a white-space character: a run leaves its last character to what follows.
[[nodiscard]] constexpr std::size_t space_end(std::string_view text, std::size_t at) noexcept {
  std::size_t last = at;
  std::size_t end = at;
  for (auto c = scan(text, end); c.is(char_class::space); c = scan(text, end)) {
    last = end;
    end += c.length;
  }
  return end == text.size() || last == at ? end : last;
}

[[nodiscard]] constexpr std::size_t gpt2_end(std::string_view text, std::size_t at) noexcept {
  if (const auto end = contraction_end(text, at, false); end != at) return end;
  const auto first = scan(text, at);
  if (!first.is(char_class::space)) return run_end(text, at, first.kind);
  if (first.code_point == U' ') {
    const auto second = scan(text, at + 1);
    if (second.length != 0 && !second.is(char_class::space)) return run_end(text, at + 1, second.kind);
  }
  return space_end(text, at);
}

/// Llama 3's pattern; Qwen2's is the same with `number_run` 1.
[[nodiscard]] constexpr std::size_t llama3_end(std::string_view text, std::size_t at, std::size_t number_run) noexcept {
  if (const auto end = contraction_end(text, at, true); end != at) return end;
  const auto first = scan(text, at);
  if (first.is(char_class::letter)) return run_end(text, at, char_class::letter);
  if (first.is(char_class::number)) return run_end(text, at, char_class::number, number_run);
  const auto second = scan(text, at + first.length);
  if (!first.is_line_break() && second.is(char_class::letter)) {
    return run_end(text, at + first.length, char_class::letter);
  }
  const bool spaced_signs = first.code_point == U' ' && second.is(char_class::other);
  if (first.is(char_class::other) || spaced_signs) {
    std::size_t end = run_end(text, at + first.length, char_class::other);
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return end;
  }
  // `\s*[\r\n]+` reaches to the last line break of the run, if there is one.
  std::size_t after_break = at;
  std::size_t end = at;
  for (auto c = scan(text, end); c.is(char_class::space); c = scan(text, end)) {
    end += c.length;
    if (c.is_line_break()) after_break = end;
  }
  return after_break != at ? after_break : space_end(text, at);
}

template <class Visit>
constexpr void for_each_gpt2_piece(std::string_view text, Visit& visit) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = gpt2_end(text, at);
    visit(text.substr(at, end - at));
    at = end;
  }
}

template <class Visit>
constexpr void for_each_smollm_piece(std::string_view text, Visit& visit) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto step = unicode::decode(text, at);
    if (step.kind == unicode::sequence_kind::valid && unicode::is_numeric(step.code_point)) {
      // What lies between two digits is cut as if it were the whole text.
      for_each_gpt2_piece(text.substr(begin, at - begin), visit);
      visit(text.substr(at, step.length));
      begin = at + step.length;
    }
    at += step.length;
  }
  for_each_gpt2_piece(text.substr(begin), visit);
}

}  // namespace detail

/// Calls `visit(std::string_view piece)` for every piece of `text` in order; no piece is empty and together they are
/// `text`. Any bytes will do. Gives what the regular expressions of the original tokenizers give. Linear.
template <class Visit>
constexpr void for_each_piece(pre_tokenizer_kind kind, std::string_view text, Visit&& visit) {
  switch (kind) {
    case pre_tokenizer_kind::gpt2: return detail::for_each_gpt2_piece(text, visit);
    case pre_tokenizer_kind::smollm: return detail::for_each_smollm_piece(text, visit);
    case pre_tokenizer_kind::llama3:
    case pre_tokenizer_kind::qwen2: break;
  }
  const std::size_t number_run = kind == pre_tokenizer_kind::llama3 ? 3 : 1;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = detail::llama3_end(text, at, number_run);
    visit(text.substr(at, end - at));
    at = end;
  }
}

/// Names as GGUF's `tokenizer.ggml.pre` spells them, several for one pattern; the first of each kind is its own name.
inline constexpr std::array<std::pair<std::string_view, pre_tokenizer_kind>, 12> pre_tokenizer_names{{
    {"gpt-2", pre_tokenizer_kind::gpt2},
    {"llama-bpe", pre_tokenizer_kind::llama3},
    {"qwen2", pre_tokenizer_kind::qwen2},
    {"smollm", pre_tokenizer_kind::smollm},
    {"olmo", pre_tokenizer_kind::gpt2},
    {"phi-2", pre_tokenizer_kind::gpt2},
    {"llama3", pre_tokenizer_kind::llama3},
    {"llama-v3", pre_tokenizer_kind::llama3},
    {"deepseek-r1-qwen", pre_tokenizer_kind::qwen2},
    {"starcoder", pre_tokenizer_kind::smollm},
    {"refact", pre_tokenizer_kind::smollm},
    {"codeshell", pre_tokenizer_kind::smollm},
}};

/// The name of a kind as GGUF spells it.
[[nodiscard]] constexpr std::string_view pre_tokenizer_name(pre_tokenizer_kind kind) noexcept {
  for (const auto& [name, named] : pre_tokenizer_names) {
    if (named == kind) return name;
  }
  return "unknown";
}

/// The kind that `name` means in `tokenizer.ggml.pre` of the file `source_name`.
/// \throws format_error naming the supported ones
[[nodiscard]] inline pre_tokenizer_kind find_pre_tokenizer(std::string_view name, std::string_view source_name) {
  std::string supported;
  for (const auto& [known, kind] : pre_tokenizer_names) {
    if (known == name) return kind;
    supported += (supported.empty() ? "" : ", ");
    supported += known;
  }
  fail<format_error>(source_name, ": pre-tokenizer \"", name, "\" is not supported, expected one of ", supported);
}

}  // namespace runnel::text
