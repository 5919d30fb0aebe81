#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes include/runnel/metrics/english_spelling_table.hpp: British spellings and their American ones.

Which words there are is what Whisper's published normaliser maps (from tysto.com's list of spellings), because error
rates have to agree with it. Written down are stems, what differs, and endings.

Usage: python3 tools/generate_spelling_table.py english.json   (from openai-whisper's whisper/normalizers/)
"""

import collections
import json
import os
import pathlib
import sys
import textwrap

OUT = pathlib.Path(__file__).resolve().parent.parent / "include" / "runnel" / "metrics" / "english_spelling_table.hpp"

HEADER = """// SPDX-License-Identifier: Apache-2.0
// Written by tools/generate_spelling_table.py; do not edit.
#pragma once

#include <array>
#include <string_view>

namespace runnel::metrics::detail {

/// Words whose spelling differs in one way: stem + british + ending becomes stem + american + ending. Stems and endings
/// stand between spaces; "-" is an empty one.
struct spelling_group {
  std::string_view british;
  std::string_view american;
  std::string_view endings;
  std::string_view stems;
};

"""


def parts(british, american):
    stem = os.path.commonprefix([british, american])
    b, a = british[len(stem) :], american[len(stem) :]
    ending = os.path.commonprefix([b[::-1], a[::-1]])[::-1]
    return stem, b[: len(b) - len(ending)], a[: len(a) - len(ending)], ending


def literal(texts):
    """A string literal, in as many lines as it takes."""
    lines = textwrap.wrap(" ".join(text or "-" for text in texts), 104, break_on_hyphens=False)
    return "\n".join(f'     "{line}{"" if i + 1 == len(lines) else " "}"' for i, line in enumerate(lines))


def main():
    mapping = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    endings = collections.defaultdict(list)
    for british, american in mapping.items():
        american = american.removesuffix("</span>")  # markup that was left in one of them
        if not british.isalpha() or british == american:
            continue  # never found: words are looked up one by one
        assert (british + american).isascii() and american.isalpha(), (british, american)
        stem, b, a, ending = parts(british, american)
        endings[stem, b, a].append(ending)
    groups = collections.defaultdict(list)
    for (stem, b, a), of in endings.items():
        groups[b, a, tuple(sorted(of))].append(stem)
    rows = []
    for (b, a, of), stems in sorted(groups.items()):
        endings_literal = literal(of)
        between = " " if endings_literal.count("\n") == 0 else "\n     "
        rows.append(f'    {{"{b}", "{a}",{between}{endings_literal.strip()},\n{literal(sorted(stems))}}},')
    body = f"inline constexpr std::array<spelling_group, {len(rows)}> spelling_groups{{{{\n" + "\n".join(rows) + "\n}};\n"
    OUT.write_text(HEADER + body + "\n}  // namespace runnel::metrics::detail\n", encoding="utf-8")


if __name__ == "__main__":
    main()
