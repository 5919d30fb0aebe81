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
#include <runnel/unicode/letter_case.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// How text is cut into pieces before byte pairs are merged; no merge crosses a cut.
enum class pre_tokenizer_kind : std::uint8_t {
  gpt2,    ///< contractions, ` ?letters`, ` ?numbers`, ` ?others`, white space
  llama3,  ///< contractions in any case, one leading sign with letters, numbers by three, line breaks kept with signs
  qwen2,   ///< as llama3, but every number on its own
  smollm,  ///< every number on its own first, then gpt2 within what lies between
  o200k,   ///< as llama3, but words end where capitals begin, marks are letters and contractions stay with words
  tekken,  ///< as o200k, but every number on its own and no contractions
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

/// A text that remembers whether anybody asked what lies behind its end: an answer found without that stays true
/// whatever follows.
struct scanned_text {
  std::string_view bytes;
  bool asked_for_more = false;

  [[nodiscard]] constexpr scanned_char scan(std::size_t at) noexcept {
    if (at >= bytes.size()) {
      asked_for_more = true;
      return {};
    }
    const auto step = unicode::decode(bytes, at);
    scanned_char out{step.code_point, step.length, char_class::other};
    if (step.kind != unicode::sequence_kind::valid) {
      asked_for_more = asked_for_more || step.kind == unicode::sequence_kind::incomplete;
      return out;
    }
    if (unicode::is_whitespace(step.code_point)) {
      out.kind = char_class::space;
    } else if (const auto group = unicode::category_of(step.code_point); group == unicode::category::letter) {
      out.kind = char_class::letter;
    } else if (group == unicode::category::number) {
      out.kind = char_class::number;
    }
    return out;
  }
};

/// End of the longest run of `wanted` that begins at `at`, of at most `limit` characters.
[[nodiscard]] constexpr std::size_t run_end(scanned_text& text, std::size_t at, char_class wanted,
                                            std::size_t limit = static_cast<std::size_t>(-1)) noexcept {
  for (; limit != 0; --limit) {
    const auto c = text.scan(at);
    if (!c.is(wanted)) break;
    at += c.length;
  }
  return at;
}

/// End of `'s 't 're 've 'm 'll 'd` at `at`, or `at` where there is none. With `any_case` letters match as they do
/// under a case-insensitive regular expression.
[[nodiscard]] constexpr std::size_t contraction_end(scanned_text& text, std::size_t at, bool any_case) noexcept {
  if (text.scan(at).code_point != U'\'') return at;
  const auto first = text.scan(at + 1);
  if (first.length == 0) return at;
  const auto same = [any_case](const scanned_char& c, char letter) {
    return any_case ? unicode::matches_ignoring_case(c.code_point, letter)
                    : c.code_point == static_cast<char32_t>(letter);
  };
  const std::size_t after_first = at + 1 + first.length;
  for (const char letter : {'s', 't', 'm', 'd'}) {
    if (same(first, letter)) return after_first;
  }
  if (!same(first, 'r') && !same(first, 'v') && !same(first, 'l')) return at;
  const auto second = text.scan(after_first);
  if (second.length == 0) return at;
  const bool two = same(second, same(first, 'l') ? 'l' : 'e');
  return two ? after_first + second.length : at;
}

/// End of `\s+(?!\S)|\s+` at a white-space character: a run leaves its last character to what follows.
[[nodiscard]] constexpr std::size_t space_end(scanned_text& text, std::size_t at) noexcept {
  std::size_t last = at;
  std::size_t end = at;
  for (auto c = text.scan(end); c.is(char_class::space); c = text.scan(end)) {
    last = end;
    end += c.length;
  }
  return end == text.bytes.size() || last == at ? end : last;
}

/// End of `\s*[\r\n]+|\s+(?!\S)|\s+` at a white-space character: up to the last line break of the run, if it has one.
[[nodiscard]] constexpr std::size_t space_or_lines_end(scanned_text& text, std::size_t at) noexcept {
  std::size_t after_break = at;
  std::size_t end = at;
  for (auto c = text.scan(end); c.is(char_class::space); c = text.scan(end)) {
    end += c.length;
    if (c.is_line_break()) after_break = end;
  }
  return after_break != at ? after_break : space_end(text, at);
}

/// End of `[^\s\p{L}\p{N}]*[\r\n]*`, with `slash` of `[^\s\p{L}\p{N}]*[\r\n/]*`.
[[nodiscard]] constexpr std::size_t signs_end(scanned_text& text, std::size_t at, bool slash) noexcept {
  std::size_t end = run_end(text, at, char_class::other);
  for (auto c = text.scan(end); c.is_line_break() || (slash && c.code_point == U'/'); c = text.scan(end)) ++end;
  return end;
}

[[nodiscard]] constexpr std::size_t gpt2_end(scanned_text& text, std::size_t at) noexcept {
  if (const auto end = contraction_end(text, at, false); end != at) return end;
  const auto first = text.scan(at);
  if (!first.is(char_class::space)) return run_end(text, at, first.kind);
  if (first.code_point == U' ') {
    const auto second = text.scan(at + 1);
    if (second.length != 0 && !second.is(char_class::space)) return run_end(text, at + 1, second.kind);
  }
  return space_end(text, at);
}

/// Llama 3's pattern; Qwen2's is the same with `number_run` 1.
[[nodiscard]] constexpr std::size_t llama3_end(scanned_text& text, std::size_t at, std::size_t number_run) noexcept {
  if (const auto end = contraction_end(text, at, true); end != at) return end;
  const auto first = text.scan(at);
  if (first.is(char_class::letter)) return run_end(text, at, char_class::letter);
  if (first.is(char_class::number)) return run_end(text, at, char_class::number, number_run);
  const auto second = text.scan(at + first.length);
  if (!first.is_line_break() && second.is(char_class::letter)) {
    return run_end(text, at + first.length, char_class::letter);
  }
  const bool spaced_signs = first.code_point == U' ' && second.is(char_class::other);
  if (first.is(char_class::other) || spaced_signs) return signs_end(text, at + first.length, false);
  return space_or_lines_end(text, at);
}

/// What the patterns with capitals make of a character: `upper` matches the class in front of a word, `lower` the one
/// at its end; letters without case and marks match both.
struct cased_char {
  std::size_t length;
  bool upper;
  bool lower;
};

[[nodiscard]] constexpr cased_char scan_cased(scanned_text& text, std::size_t at) noexcept {
  const auto c = text.scan(at);
  if (c.is(char_class::letter)) {
    const auto letter = unicode::case_of(c.code_point);
    return {c.length, letter != unicode::letter_case::lower, letter != unicode::letter_case::upper};
  }
  const bool mark = c.is(char_class::other) && c.code_point >= 0x300 && unicode::is_mark(c.code_point);
  return {c.length, mark, mark};
}

/// Where a word ends, and whether only its second alternative matched it.
struct cased_word {
  std::size_t end;
  bool capitals_only;
};

/// `upper*lower+|upper+lower*` at `at`; ends there where that does not match. Where no lower-case letter follows the
/// capitals, the expression goes back to the last character that can stand for one.
[[nodiscard]] constexpr cased_word cased_word_at(scanned_text& text, std::size_t at) noexcept {
  std::size_t end = at;
  std::size_t after_last_lower = at;
  auto c = scan_cased(text, end);
  for (; c.upper; c = scan_cased(text, end)) {
    end += c.length;
    if (c.lower) after_last_lower = end;
  }
  if (c.lower) {
    for (; c.lower; c = scan_cased(text, end)) end += c.length;
    return {end, false};
  }
  if (after_last_lower != at) return {after_last_lower, false};
  return {end, end != at};
}

/// The patterns with capitals: o200k has numbers by three and contractions, Tekken single numbers and none.
[[nodiscard]] constexpr std::size_t cased_end(scanned_text& text, std::size_t at, bool o200k) noexcept {
  const auto first = text.scan(at);
  if (first.is(char_class::number)) return run_end(text, at, char_class::number, o200k ? 3 : 1);
  const bool may_lead = !first.is(char_class::letter) && !first.is_line_break();
  cased_word word{at, false};
  if (may_lead) {
    word = cased_word_at(text, at + first.length);
    // A mark in front of capitals is rather a word itself.
    const bool no_word = word.end == at + first.length;
    if (no_word || (word.capitals_only && scan_cased(text, at).lower)) word = cased_word_at(text, at);
  } else {
    word = cased_word_at(text, at);
  }
  if (word.end != at) return o200k ? contraction_end(text, word.end, true) : word.end;
  const bool spaced_signs = first.code_point == U' ' && text.scan(at + 1).is(char_class::other);
  if (first.is(char_class::other) || spaced_signs) return signs_end(text, at + first.length, true);
  return space_or_lines_end(text, at);
}

}  // namespace detail

/// Cuts a text into pieces, one after another. Any bytes will do. Gives what the regular expressions of the original
/// tokenizers give. Linear, as long as each call begins where the last one ended.
class piece_scanner {
 public:
  constexpr piece_scanner(pre_tokenizer_kind kind, std::string_view text) noexcept : text_{text}, kind_(kind) {}

  /// End of the piece that begins at byte `at`, which is before the end and 0 or the end of another piece.
  [[nodiscard]] constexpr std::size_t next(std::size_t at) noexcept {
    text_.asked_for_more = false;
    switch (kind_) {
      case pre_tokenizer_kind::gpt2: return detail::gpt2_end(text_, at);
      case pre_tokenizer_kind::llama3: return detail::llama3_end(text_, at, 3);
      case pre_tokenizer_kind::qwen2: return detail::llama3_end(text_, at, 1);
      case pre_tokenizer_kind::o200k: return detail::cased_end(text_, at, true);
      case pre_tokenizer_kind::tekken: return detail::cased_end(text_, at, false);
      case pre_tokenizer_kind::smollm: break;
    }
    return smollm_end(at);
  }

  /// Whether the last answer stays the same whatever text follows.
  [[nodiscard]] constexpr bool is_certain() const noexcept { return !text_.asked_for_more; }

 private:
  // What lies between two digits is cut as if it were the whole text.
  [[nodiscard]] constexpr std::size_t smollm_end(std::size_t at) noexcept {
    if (at >= digit_) {
      digit_ = next_digit(at);
      if (digit_ == at) return at + unicode::decode(text_.bytes, at).length;
    }
    detail::scanned_text between{text_.bytes.substr(0, digit_)};
    const std::size_t end = detail::gpt2_end(between, at);
    text_.asked_for_more = between.asked_for_more && digit_ == text_.bytes.size();
    return end;
  }

  [[nodiscard]] constexpr std::size_t next_digit(std::size_t at) const noexcept {
    while (at < text_.bytes.size()) {
      const auto step = unicode::decode(text_.bytes, at);
      if (step.kind == unicode::sequence_kind::valid && unicode::is_numeric(step.code_point)) break;
      at += step.length;
    }
    return at;
  }

  detail::scanned_text text_;
  pre_tokenizer_kind kind_;
  std::size_t digit_ = 0;  // nothing before it is a digit, or it is one
};

/// Calls `visit(std::string_view piece)` for every piece of `text` in order; no piece is empty and together they are
/// `text`. See `piece_scanner`.
template <class Visit>
constexpr void for_each_piece(pre_tokenizer_kind kind, std::string_view text, Visit&& visit) {
  piece_scanner pieces(kind, text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = pieces.next(at);
    visit(text.substr(at, end - at));
    at = end;
  }
}

/// Names as GGUF's `tokenizer.ggml.pre` spells them, several for one pattern; the first of each kind is its own name.
inline constexpr std::array<std::pair<std::string_view, pre_tokenizer_kind>, 14> pre_tokenizer_names{{
    {"gpt-2", pre_tokenizer_kind::gpt2},
    {"llama-bpe", pre_tokenizer_kind::llama3},
    {"qwen2", pre_tokenizer_kind::qwen2},
    {"smollm", pre_tokenizer_kind::smollm},
    {"gpt-4o", pre_tokenizer_kind::o200k},
    {"tekken", pre_tokenizer_kind::tekken},
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
