// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/metrics/english_numbers.hpp>
#include <runnel/metrics/english_spelling.hpp>
#include <runnel/metrics/words.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/compatibility.hpp>
#include <runnel/unicode/lower_case.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::metrics {

namespace detail {

[[nodiscard]] inline std::u32string to_code_points(std::string_view text) {
  std::u32string out;
  unicode::for_each_code_point(text,
                               [&](const unicode::code_point_step& step, std::string_view) { out += step.code_point; });
  return out;
}

[[nodiscard]] inline std::string to_utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) unicode::append(out, c);
  return out;
}

[[nodiscard]] constexpr bool is_in_word(char32_t c) noexcept {
  return c == U'_' || unicode::is_letter(c) || unicode::is_number(c);
}
[[nodiscard]] constexpr bool is_ascii_digit(char32_t c) noexcept { return c >= U'0' && c <= U'9'; }
[[nodiscard]] constexpr bool is_ascii_lower(char32_t c) noexcept { return c >= U'a' && c <= U'z'; }
[[nodiscard]] constexpr bool is_currency(char32_t c) noexcept {
  return c == U'$' || c == U'\u00A2' || c == U'\u00A3' || c == U'\u20AC';
}

/// Whether a word begins or ends at place `at` of `text`.
[[nodiscard]] constexpr bool is_boundary(std::u32string_view text, std::size_t at) noexcept {
  const bool before = at > 0 && is_in_word(text[at - 1]);
  const bool after = at < text.size() && is_in_word(text[at]);
  return before != after;
}

/// What stands for what. `from` ends at a word's boundary, and begins at one if `whole`.
struct replacement {
  std::u32string_view from;
  std::u32string_view to;
  bool whole = true;
};

// Contractions and titles, in the order in which Whisper's normaliser replaces them.
inline constexpr std::array replacements{
    replacement{U"won't", U"will not"},
    replacement{U"can't", U"can not"},
    replacement{U"let's", U"let us"},
    replacement{U"ain't", U"aint"},
    replacement{U"y'all", U"you all"},
    replacement{U"wanna", U"want to"},
    replacement{U"gotta", U"got to"},
    replacement{U"gonna", U"going to"},
    replacement{U"i'ma", U"i am going to"},
    replacement{U"imma", U"i am going to"},
    replacement{U"woulda", U"would have"},
    replacement{U"coulda", U"could have"},
    replacement{U"shoulda", U"should have"},
    replacement{U"ma'am", U"madam"},
    replacement{U"mr", U"mister "},
    replacement{U"mrs", U"missus "},
    replacement{U"st", U"saint "},
    replacement{U"dr", U"doctor "},
    replacement{U"prof", U"professor "},
    replacement{U"capt", U"captain "},
    replacement{U"gov", U"governor "},
    replacement{U"ald", U"alderman "},
    replacement{U"gen", U"general "},
    replacement{U"sen", U"senator "},
    replacement{U"rep", U"representative "},
    replacement{U"pres", U"president "},
    replacement{U"rev", U"reverend "},
    replacement{U"hon", U"honorable "},
    replacement{U"asst", U"assistant "},
    replacement{U"assoc", U"associate "},
    replacement{U"lt", U"lieutenant "},
    replacement{U"col", U"colonel "},
    replacement{U"jr", U"junior "},
    replacement{U"sr", U"senior "},
    replacement{U"esq", U"esquire "},
    replacement{U"'d been", U" had been", false},
    replacement{U"'s been", U" has been", false},
    replacement{U"'d gone", U" had gone", false},
    replacement{U"'s gone", U" has gone", false},
    replacement{U"'d done", U" had done", false},
    replacement{U"'s got", U" has got", false},
    replacement{U"n't", U" not", false},
    replacement{U"'re", U" are", false},
    replacement{U"'s", U" is", false},
    replacement{U"'d", U" would", false},
    replacement{U"'ll", U" will", false},
    replacement{U"'t", U" not", false},
    replacement{U"'ve", U" have", false},
    replacement{U"'m", U" am", false},
};

[[nodiscard]] inline std::u32string replace_words(std::u32string text, const replacement& rule) {
  std::u32string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(rule.from); at != std::u32string::npos; at = text.find(rule.from, at)) {
    const std::size_t end = at + rule.from.size();
    if (!is_boundary(text, end) || (rule.whole && !is_boundary(text, at))) {
      ++at;
      continue;
    }
    out.append(text, done, at - done);
    out += rule.to;
    done = at = end;
  }
  if (done == 0) return text;
  out.append(text, done);
  return out;
}

/// Goes through `text` once; `step(rest, out)` appends what stands for the beginning of the rest and returns how many
/// code points that was, or 0 to leave one as it is.
template <class Step>
[[nodiscard]] std::u32string rewrite(std::u32string_view text, Step&& step) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t taken = step(at, out);
    if (taken == 0) out += text[at];
    at += std::max<std::size_t>(taken, 1);
  }
  return out;
}

/// Takes out what stands in < >, [ ] and, then, in ( ).
[[nodiscard]] inline std::u32string without_asides(const std::u32string& text) {
  std::size_t close = 0;  // first closing bracket from here on: looked for once
  const auto next = [&](const std::u32string& in, std::size_t from, std::u32string_view closing) {
    if (close < from) close = std::min(in.find_first_of(closing, from), in.size());
    return close;
  };
  const auto open = rewrite(text, [&](std::size_t at, std::u32string&) -> std::size_t {
    if (text[at] != U'<' && text[at] != U'[') return 0;
    const std::size_t end = next(text, at + 1, U">]");
    return end < text.size() ? end + 1 - at : 0;
  });
  close = 0;
  return rewrite(open, [&](std::size_t at, std::u32string&) -> std::size_t {
    if (open[at] != U'(') return 0;
    const std::size_t end = next(open, at + 1, U")");
    return end < open.size() && end > at + 1 ? end + 1 - at : 0;
  });
}

[[nodiscard]] inline std::size_t spaces_at(std::u32string_view text, std::size_t at) noexcept {
  std::size_t count = 0;
  while (at + count < text.size() && is_space(text[at + count])) ++count;
  return count;
}

/// Takes out hesitations, and white space before apostrophes.
[[nodiscard]] inline std::u32string without_hesitations(const std::u32string& text) {
  constexpr std::array<std::u32string_view, 6> sounds{U"hmm", U"mm", U"mhm", U"mmm", U"uh", U"um"};
  const auto quiet = rewrite(text, [&](std::size_t at, std::u32string&) -> std::size_t {
    if (!is_boundary(text, at)) return 0;
    for (const auto sound : sounds) {
      const bool here = std::u32string_view(text).substr(at).starts_with(sound);
      if (here && is_boundary(text, at + sound.size())) return sound.size();
    }
    return 0;
  });
  return rewrite(quiet, [&](std::size_t at, std::u32string&) -> std::size_t {
    if (at > 0 && is_space(quiet[at - 1])) return 0;  // within a run that was looked at
    const std::size_t spaces = spaces_at(quiet, at);
    return spaces > 0 && at + spaces < quiet.size() && quiet[at + spaces] == U'\'' ? spaces : 0;
  });
}

/// What a letter without a decomposition is written as in English, or nothing.
[[nodiscard]] constexpr std::u32string_view plain_letters(char32_t c) noexcept {
  switch (c) {
    case 0x153: return U"oe";
    case 0x152: return U"OE";
    case 0xF8: return U"o";
    case 0xD8: return U"O";
    case 0xE6: return U"ae";
    case 0xC6: return U"AE";
    case 0xDF: return U"ss";
    case 0x1E9E: return U"SS";
    case 0x111:
    case 0xF0: return U"d";
    case 0x110:
    case 0xD0: return U"D";
    case 0xFE:
    case 0xDE: return U"th";
    case 0x142: return U"l";
    case 0x141: return U"L";
    default: return {};
  }
}

/// Joins digits across commas, takes full stops from between words, marks from letters, and makes other signs spaces.
[[nodiscard]] inline std::u32string without_signs(const std::u32string& text) {
  const auto digits = rewrite(text, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (at + 2 >= text.size() || text[at + 1] != U',') return 0;
    if (!is_ascii_digit(text[at]) || !is_ascii_digit(text[at + 2])) return 0;
    (out += text[at]) += text[at + 2];
    return 3;
  });
  const auto stops = rewrite(digits, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (digits[at] != U'.' || (at + 1 < digits.size() && is_ascii_digit(digits[at + 1]))) return 0;
    out += U' ';
    if (at + 1 < digits.size()) out += digits[at + 1];
    return 2;
  });
  std::u32string parts;
  for (const char32_t c : stops) unicode::append_decomposed(c, parts);
  return rewrite(parts, [&](std::size_t at, std::u32string& out) -> std::size_t {
    const char32_t c = parts[at];
    if (c == U'.' || c == U'%' || is_currency(c)) return 0;
    const auto plain = plain_letters(c);
    if (!plain.empty()) {
      out += plain;
    } else if (unicode::is_punctuation(c) || unicode::is_symbol(c)) {
      out += U' ';
    } else if (!unicode::is_mark(c)) {
      out += c;
    }
    return 1;
  });
}

/// Puts a space between letters and digits, but none before what makes an ordinal or a decade.
[[nodiscard]] inline std::u32string part_letters_from_digits(const std::u32string& text) {
  const auto between = [](const std::u32string& in, auto first, auto second) {
    return rewrite(in, [&](std::size_t at, std::u32string& out) -> std::size_t {
      if (at + 1 >= in.size() || !first(in[at]) || !second(in[at + 1])) return 0;
      ((out += in[at]) += U' ') += in[at + 1];
      return 2;
    });
  };
  const auto parted = between(between(text, is_ascii_lower, is_ascii_digit), is_ascii_digit, is_ascii_lower);
  constexpr std::array<std::u32string_view, 5> endings{U"st", U"nd", U"rd", U"th", U"s"};
  return rewrite(parted, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (!is_ascii_digit(parted[at])) return 0;
    const std::size_t spaces = spaces_at(parted, at + 1);
    if (spaces == 0) return 0;
    const std::size_t begin = at + 1 + spaces;
    for (const auto ending : endings) {
      const bool here = std::u32string_view(parted).substr(begin).starts_with(ending);
      if (!here || !is_boundary(parted, begin + ending.size())) continue;
      (out += parted[at]) += ending;
      return 1 + spaces + ending.size();
    }
    return 0;
  });
}

/// Up to two digits at `at` that end where a word ends; how many.
[[nodiscard]] inline std::size_t cents_at(std::u32string_view text, std::size_t at) noexcept {
  for (std::size_t count = 2; count > 0; --count) {
    if (at + count > text.size() || !is_boundary(text, at + count)) continue;
    if (std::all_of(text.begin() + static_cast<std::ptrdiff_t>(at),
                    text.begin() + static_cast<std::ptrdiff_t>(at + count), is_ascii_digit)) {
      return count;
    }
  }
  return 0;
}

/// "$2 and ¢7" becomes "$2.07", "$0.50" becomes "¢50", and 1 is written "one".
[[nodiscard]] inline std::u32string with_cents(const std::u32string& text) {
  constexpr char32_t cent = U'\u00A2';
  const auto is_money = [](char32_t c) { return is_currency(c) && c != cent; };
  const auto joined = rewrite(text, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (!is_money(text[at])) return 0;
    std::size_t end = at + 1;
    while (end < text.size() && is_ascii_digit(text[end])) ++end;
    const std::size_t digits = end;
    if (end == at + 1 || end >= text.size() || text[end] != U' ') return 0;
    ++end;
    if (std::u32string_view(text).substr(end).starts_with(U"and ")) end += 4;
    if (end >= text.size() || text[end] != cent) return 0;
    const std::size_t count = cents_at(text, end + 1);
    if (count == 0) return 0;
    out.append(text, at, digits - at);
    out += count == 1 ? U".0" : U".";
    out.append(text, end + 1, count);
    return end + 1 + count - at;
  });
  const auto small = rewrite(joined, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (!is_money(joined[at]) || at + 3 >= joined.size() || joined[at + 1] != U'0') return 0;
    const std::size_t count = cents_at(joined, at + 3);
    if (count == 0) return 0;
    out += cent;
    const std::size_t zero = count == 2 && joined[at + 3] == U'0' ? 1 : 0;
    out.append(joined, at + 3 + zero, count - zero);
    return 3 + count;
  });
  return rewrite(small, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (small[at] != U'1' || !is_boundary(small, at)) return 0;
    const bool plural = at + 1 < small.size() && small[at + 1] == U's' && is_boundary(small, at + 2);
    if (!plural && !is_boundary(small, at + 1)) return 0;
    out += plural ? U"ones" : U"one";
    return plural ? 2 : 1;
  });
}

/// Takes signs from where no number is beside them, and makes every run of white space one space.
[[nodiscard]] inline std::u32string tidied(const std::u32string& text) {
  const auto before = rewrite(text, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if ((text[at] != U'.' && !is_currency(text[at])) || at + 1 >= text.size() || is_ascii_digit(text[at + 1])) return 0;
    (out += U' ') += text[at + 1];
    return 2;
  });
  const auto after = rewrite(before, [&](std::size_t at, std::u32string& out) -> std::size_t {
    if (is_ascii_digit(before[at]) || at + 1 >= before.size() || before[at + 1] != U'%') return 0;
    (out += before[at]) += U' ';
    return 2;
  });
  return rewrite(after, [&](std::size_t at, std::u32string& out) -> std::size_t {
    const std::size_t spaces = spaces_at(after, at);
    if (spaces > 0) out += U' ';
    return spaces;
  });
}

}  // namespace detail

/// English as Whisper's published normaliser leaves it before word error rates are taken (Radford et al., 2022,
/// appendix C): lower case, no asides in brackets, hesitations or punctuation, contractions and titles in full,
/// numbers as digits, American spelling. Differences: digits are ASCII's; every mark is taken from its letter, those
/// with a width of their own too; compatibility forms are those of `unicode::append_decomposed`; bytes that are no
/// UTF-8 are spaces. Built once; const functions may be called from any thread.
class english_normalizer {
 public:
  /// The text in its normal form, in which single spaces may stand at both ends. Linear for ordinary text.
  [[nodiscard]] std::string operator()(std::string_view text) const {
    auto now = detail::to_code_points(unicode::to_lower(text));
    now = detail::without_hesitations(detail::without_asides(now));
    for (const auto& rule : detail::replacements) now = detail::replace_words(std::move(now), rule);
    const std::string plain = detail::to_utf8(detail::without_signs(now));
    const std::string halves = join(with_halves(join(split(plain))));
    const auto parted = detail::to_utf8(detail::part_letters_from_digits(detail::to_code_points(halves)));
    const auto counted = detail::with_cents(detail::to_code_points(join(numbers_(split(parted)))));
    auto words = split(detail::to_utf8(counted));
    for (auto& word : words) word = spelling_(word);
    return detail::to_utf8(detail::tidied(detail::to_code_points(join(words))));
  }

 private:
  [[nodiscard]] static std::vector<std::string> split(std::string_view text) {
    const auto words = split_words(text);
    return {words.begin(), words.end()};
  }

  [[nodiscard]] static std::string join(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) {
      if (!text.empty()) text += ' ';
      text += word;
    }
    return text;
  }

  /// "two and a half" becomes "two point five"; behind nothing at all, "and a half" is dropped.
  [[nodiscard]] std::vector<std::string> with_halves(std::string_view text) const {
    const auto words = split(text);
    std::vector<std::string> out;
    bool fresh = true;  // no word since the last half
    for (std::size_t i = 0; i < words.size(); ++i) {
      const bool half = i + 2 < words.size() && words[i] == "and" && words[i + 1] == "a" && words[i + 2] == "half";
      if (!half) {
        out.push_back(words[i]);
        fresh = false;
        continue;
      }
      if (!fresh) {
        const bool number = numbers_.takes_half(out.back());
        for (const char* word : {number ? "point" : "and", number ? "five" : "a", number ? "" : "half"}) {
          if (*word != '\0') out.emplace_back(word);
        }
      }
      fresh = true;
      i += 2;
    }
    return out;
  }

  english_numbers numbers_;
  american_spelling spelling_;
};

}  // namespace runnel::metrics
