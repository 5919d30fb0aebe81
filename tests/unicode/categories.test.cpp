// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>

#include <runnel/unicode/categories.hpp>

namespace unicode = runnel::unicode;
using unicode::category;

TEST_CASE("categories of characters from many blocks") {
  for (const char32_t c : {U'a', U'Z', U'ß', U'é', U'ſ', U'я', U'ή', U'ש', U'ع', U'क', U'ก', U'中', U'あ', U'한', U'ǅ',
                           U'ª', U'\U00020000', U'\U0001D518'}) {
    CHECK_MESSAGE(unicode::is_letter(c), static_cast<unsigned>(c));
  }
  for (const char32_t c : {U'0', U'9', U'²', U'½', U'Ⅷ', U'٣', U'①', U'〇', U'\U0001D7D9'}) {
    CHECK_MESSAGE(unicode::is_number(c), static_cast<unsigned>(c));
    CHECK(unicode::is_numeric(c));
  }
  for (const char32_t c : {U'\u0301', U'\u093F', U'\uFE0F', U'\u20DD', U'\U000E0100'}) {
    CHECK_MESSAGE(unicode::is_mark(c), static_cast<unsigned>(c));
  }
  for (const char32_t c : {U'!', U'_', U'«', U'。', U'¿', U'\u2019', U'-'}) {
    CHECK_MESSAGE(unicode::is_punctuation(c), static_cast<unsigned>(c));
  }
  for (const char32_t c : {U'$', U'+', U'^', U'`', U'|', U'€', U'😀', U'©'}) {
    CHECK_MESSAGE(unicode::is_symbol(c), static_cast<unsigned>(c));
  }
  for (const char32_t c : {U' ', U'\u00A0', U'\u2028', U'\u3000'})
    CHECK(unicode::category_of(c) == category::separator);
  for (const char32_t c : {U'\0', U'\n', U'\u00AD', U'\u200B', U'\u200D', U'\uFEFF', U'\u0378', U'\uE000'}) {
    CHECK_MESSAGE(unicode::category_of(c) == category::other, static_cast<unsigned>(c));
  }
  CHECK(unicode::category_of(0x10FFFF) == category::other);
  CHECK(unicode::category_of(0x110000) == category::other);
  CHECK(unicode::category_of(0xFFFFFFFF) == category::other);
}

TEST_CASE("how many code points each category has in Unicode 16") {
  std::size_t counts[7] = {};
  std::size_t numeric = 0;
  std::size_t spaces = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    ++counts[static_cast<std::size_t>(unicode::category_of(c))];
    numeric += unicode::is_numeric(c) ? 1U : 0U;
    spaces += unicode::is_whitespace(c) ? 1U : 0U;
  }
  CHECK(counts[static_cast<std::size_t>(category::letter)] == 141028);
  CHECK(counts[static_cast<std::size_t>(category::mark)] == 2501);
  CHECK(counts[static_cast<std::size_t>(category::number)] == 1911);
  CHECK(counts[static_cast<std::size_t>(category::punctuation)] == 855);
  CHECK(counts[static_cast<std::size_t>(category::separator)] == 19);
  CHECK(numeric == 1924);
  CHECK(spaces == 25);
}

TEST_CASE("white space is the property, not the category") {
  for (const char32_t c : {U'\t', U'\n', U'\v', U'\f', U'\r', U' ', U'\u0085', U'\u00A0', U'\u1680', U'\u2000',
                           U'\u200A', U'\u2028', U'\u2029', U'\u202F', U'\u205F', U'\u3000'}) {
    CHECK(unicode::is_whitespace(c));
  }
  for (const char32_t c : {U'\u001C', U'\u001F', U'\u180E', U'\u200B', U'\u2060', U'\uFEFF', U'x', U'\0'}) {
    CHECK_FALSE(unicode::is_whitespace(c));
  }
}

TEST_CASE("letters match in any case") {
  CHECK(unicode::matches_ignoring_case(U's', 's'));
  CHECK(unicode::matches_ignoring_case(U'S', 's'));
  CHECK(unicode::matches_ignoring_case(0x17F, 's'));
  CHECK_FALSE(unicode::matches_ignoring_case(0x17F, 't'));
  CHECK_FALSE(unicode::matches_ignoring_case(U'3', 's'));
  CHECK_FALSE(unicode::matches_ignoring_case(U't', 's'));
  CHECK_FALSE(unicode::matches_ignoring_case(0x173, 's'));
  CHECK_FALSE(unicode::matches_ignoring_case(0xFFFFFFFF, 's'));
}

static_assert(unicode::is_letter(U'x') && !unicode::is_letter(U'1'), "usable in constant expressions");
