// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <runnel/unicode/compatibility_tables.hpp>
#include <runnel/unicode/normalization.hpp>

namespace runnel::unicode {

/// Appends what `c` is made of: its compatibility form if it is a sign, fraction, ligature or full-width form that
/// texts in Latin letters use (`detail::compatibility_forms`; East Asian and Arabic forms are not among them),
/// otherwise its full canonical decomposition. Marks are not put in order.
inline void append_decomposed(char32_t c, std::u32string& out) {
  const auto form =
      std::lower_bound(detail::compatibility_forms.begin(), detail::compatibility_forms.end(), c,
                       [](const auto& entry, char32_t value) { return static_cast<char32_t>(entry[0]) < value; });
  if (form != detail::compatibility_forms.end() && (*form)[0] == c) {
    for (std::size_t i = 1; i < form->size() && (*form)[i] != 0; ++i) out += static_cast<char32_t>((*form)[i]);
    return;
  }
  std::vector<detail::ranked_code_point> parts;
  detail::decompose(c, parts);
  for (const auto& part : parts) out += part.value;
}

}  // namespace runnel::unicode
