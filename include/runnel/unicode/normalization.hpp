// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/unicode/normalization_tables.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::unicode {

namespace detail {

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
inline constexpr char32_t hangul_base = 0xAC00;
inline constexpr char32_t lead_base = 0x1100;
inline constexpr char32_t vowel_base = 0x1161;
inline constexpr char32_t tail_base = 0x11A7;
inline constexpr char32_t lead_count = 19;
inline constexpr char32_t vowel_count = 21;
inline constexpr char32_t tail_count = 28;
inline constexpr char32_t syllable_count = lead_count * vowel_count * tail_count;

/// A code point on its way through the normaliser, with its canonical combining class.
struct ranked_code_point {
  char32_t value;
  std::uint8_t rank;
};

[[nodiscard]] constexpr std::uint8_t combining_class(char32_t c) noexcept {
  if (c < combining_classes.front()[0]) return 0;
  const auto run = std::lower_bound(combining_classes.begin(), combining_classes.end(), c,
                                    [](const auto& entry, char32_t value) { return entry[1] < value; });
  return run != combining_classes.end() && (*run)[0] <= c ? static_cast<std::uint8_t>((*run)[2]) : std::uint8_t{0};
}

/// Appends the full canonical decomposition of `c`.
inline void decompose(char32_t c, std::vector<ranked_code_point>& out) {
  if (c >= hangul_base && c < hangul_base + syllable_count) {
    const char32_t index = c - hangul_base;
    out.push_back({lead_base + index / (vowel_count * tail_count), 0});
    out.push_back({vowel_base + index / tail_count % vowel_count, 0});
    if (index % tail_count != 0) out.push_back({tail_base + index % tail_count, 0});
    return;
  }
  const std::size_t begin = out.size();
  // Only the first half of a decomposition decomposes further, so the halves come out last to first.
  while (c >= decompositions.front()[0]) {
    const auto entry = std::lower_bound(decompositions.begin(), decompositions.end(), c,
                                        [](const auto& row, char32_t value) { return row[0] < value; });
    if (entry == decompositions.end() || (*entry)[0] != c) break;
    if ((*entry)[2] != 0) out.push_back({(*entry)[2], combining_class((*entry)[2])});
    c = (*entry)[1];
  }
  out.push_back({c, combining_class(c)});
  std::reverse(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end());
}

/// What two code points compose to, or 0.
[[nodiscard]] constexpr char32_t compose(char32_t first, char32_t second) noexcept {
  const bool is_lead = first >= lead_base && first < lead_base + lead_count;
  if (is_lead && second >= vowel_base && second < vowel_base + vowel_count) {
    return hangul_base + ((first - lead_base) * vowel_count + (second - vowel_base)) * tail_count;
  }
  if (first >= hangul_base && first < hangul_base + syllable_count && (first - hangul_base) % tail_count == 0 &&
      second > tail_base && second < tail_base + tail_count) {
    return first + (second - tail_base);
  }
  const auto key = std::pair<char32_t, char32_t>(first, second);
  const auto pair_of = [](std::uint16_t place) {
    return std::pair<char32_t, char32_t>(decompositions[place][1], decompositions[place][2]);
  };
  const auto found = std::lower_bound(compositions.begin(), compositions.end(), key,
                                      [&](std::uint16_t place, const auto& value) { return pair_of(place) < value; });
  return found != compositions.end() && pair_of(*found) == key ? static_cast<char32_t>(decompositions[*found][0]) : 0;
}

/// Sorts marks by class within each run of marks, keeping the order of equals. Linear.
inline void reorder(std::vector<ranked_code_point>& points) {
  std::vector<ranked_code_point> run;
  for (std::size_t begin = 0; begin < points.size();) {
    std::size_t end = begin;
    bool sorted = true;
    for (; end < points.size() && points[end].rank != 0; ++end)
      sorted = sorted && (end == begin || points[end - 1].rank <= points[end].rank);
    if (!sorted) {
      run.assign(points.begin() + static_cast<std::ptrdiff_t>(begin),
                 points.begin() + static_cast<std::ptrdiff_t>(end));
      std::array<std::size_t, 257> place{};
      for (const auto& point : run) ++place[point.rank + std::size_t{1}];
      for (std::size_t rank = 0; rank < 256; ++rank) place[rank + 1] += place[rank];
      for (const auto& point : run) points[begin + place[point.rank]++] = point;
    }
    begin = end + 1;
  }
}

/// Composes decomposed and ordered code points in place.
inline void recompose(std::vector<ranked_code_point>& points) {
  constexpr auto none = static_cast<std::size_t>(-1);
  std::size_t starter = none;
  std::size_t kept = 0;
  int last_rank = -1;  // rank of the last code point kept after the starter; -1: none was
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto point = points[i];
    if (starter != none && last_rank < static_cast<int>(point.rank)) {
      if (const char32_t composed = compose(points[starter].value, point.value); composed != 0) {
        points[starter].value = composed;
        continue;
      }
    }
    if (point.rank == 0) {
      starter = kept;
      last_rank = -1;
    } else {
      last_rank = point.rank;
    }
    points[kept++] = point;
  }
  points.resize(kept);
}

}  // namespace detail

/// Whether `c` stands alone before it: what is in front of it and it normalise each for itself. Says no for a few
/// that do, never the other way round. Slow for what is not below U+0300 and no ideograph or syllable.
[[nodiscard]] inline bool begins_normalized(char32_t c) {
  if (c < 0x300 || (c >= 0x3400 && c < 0xA000) || (c >= detail::hangul_base && c < 0xD7A4)) return true;
  if (c >= detail::lead_base && c < 0x1200) return false;  // Hangul Jamo
  std::vector<detail::ranked_code_point> parts;
  detail::decompose(c, parts);
  if (parts.front().rank != 0) return false;
  for (const std::uint16_t place : detail::compositions) {
    if (detail::decompositions[place][2] == parts.front().value) return false;
  }
  return true;
}

/// Normalization form C of `text`. Bytes that are not UTF-8 stay as they are and nothing composes across them. Linear,
/// up to sorting runs of combining marks; text below U+0300 is only copied.
[[nodiscard]] inline std::string nfc(std::string_view text) {
  bool stable = true;
  for (const char byte : text) stable = stable && static_cast<std::uint8_t>(byte) < 0xCC;
  std::string out;
  if (stable) {
    out = text;
    return out;
  }
  out.reserve(text.size());
  std::vector<detail::ranked_code_point> points;
  const auto flush = [&] {
    detail::reorder(points);
    detail::recompose(points);
    for (const auto& point : points) append(out, point.value);
    points.clear();
  };
  for_each_code_point(text, [&](const code_point_step& step, std::string_view bytes) {
    if (step.kind == sequence_kind::valid) {
      detail::decompose(step.code_point, points);
    } else {
      flush();
      out += bytes;
    }
  });
  flush();
  return out;
}

}  // namespace runnel::unicode
