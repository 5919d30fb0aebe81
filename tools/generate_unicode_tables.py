#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tables.hpp, letter_tables.hpp, lower_case_tables.hpp, compatibility_tables.hpp and
normalization_tables.hpp in include/runnel/unicode/.

The properties are asked from the regular expressions and the normaliser of the Python package `tokenizers`, one code
point at a time, because token ids have to agree with that package. Canonical combining classes come from `unicodedata`;
a mark that is newer than the package's normaliser keeps class 0, as it has there.

Usage: python3 tools/generate_unicode_tables.py   (needs: pip install tokenizers)
"""

import pathlib
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "include" / "runnel" / "unicode"
LAST = 0x10FFFF
CODE_POINTS = [c for c in range(LAST + 1) if not 0xD800 <= c <= 0xDFFF]
GROUPS = ["other", "letter", "mark", "number", "punctuation", "symbol", "separator"]
LETTERS = {"letter": "L", "mark": "M", "number": "N", "punctuation": "P", "symbol": "S", "separator": "Z"}

HEADER = """// SPDX-License-Identifier: Apache-2.0
// Written by tools/generate_unicode_tables.py with tokenizers {version}; do not edit.
#pragma once

#include <array>
#include <cstdint>

namespace runnel::unicode::detail {{
"""


def matching(pattern):
    splitter = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for start in range(0, len(CODE_POINTS), 4096):
        text = "".join(map(chr, CODE_POINTS[start : start + 4096]))
        for piece, _ in splitter.pre_tokenize_str(text):
            found.update(map(ord, piece))
    return found


def array(name, comment, values, columns, type_="std::uint32_t"):
    lines = [f"/// {comment}", f"inline constexpr std::array<{type_}, {len(values)}> {name}{{"]
    line = ""
    for value in values:
        item = f"{value},"
        if line and len(line) + len(item) + 1 > columns:
            lines.append("    " + line)
            line = ""
        line = f"{line} {item}" if line else item
    lines.append("    " + line)
    lines.append("};")
    return "\n".join(lines) + "\n"


def write(name, arrays):
    text = HEADER.format(version=tokenizers.__version__)
    text += "\n" + "\n".join(arrays) + "\n}  // namespace runnel::unicode::detail\n"
    (OUT / name).write_text(text, encoding="utf-8")


def categories():
    group_of = bytearray(LAST + 1)
    for group, letter in LETTERS.items():
        for c in matching(r"\p{" + letter + "}"):
            group_of[c] = GROUPS.index(group)
    boundaries = []
    previous = None
    for c in range(LAST + 1):
        if group_of[c] != previous:
            previous = group_of[c]
            boundaries.append(f"{c << 3 | previous:#x}")
    digits = pre_tokenizers.Digits(individual_digits=True)
    numbers = {c for c in CODE_POINTS if group_of[c] == GROUPS.index("number")}
    numeric = {c for c in CODE_POINTS if len(digits.pre_tokenize_str("a" + chr(c) + "b")) == 3}
    assert numbers <= numeric
    extra = [f"{c:#x}" for c in sorted(numeric - numbers)]
    write(
        "tables.hpp",
        [
            array("category_starts", "First code point << 3 | category of each run of one category.", boundaries, 112),
            array("newer_numbers", "Numeric to digit splitting, but not yet in the category numbers.", extra, 112),
        ],
    )


def runs_of(members):
    runs = []
    for c in sorted(members):
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return [f"{{{first:#x}, {last:#x}}}" for first, last in runs]


def letters():
    upper, lower = matching(r"[\p{Lu}\p{Lt}]"), matching(r"\p{Ll}")
    boundaries = []
    previous = 0
    for c in range(LAST + 1):
        kind = 1 if c in upper else 2 if c in lower else 0
        if kind != previous:
            previous = kind
            boundaries.append(f"{c << 2 | kind:#x}")
    # What \w of the expressions that find added tokens means (Unicode Technical Standard 18, annex C).
    word = matching(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")
    usual = matching(r"[\p{L}\p{M}\p{N}]")
    pair = "std::array<std::uint32_t, 2>"
    tables = [array("case_starts", "First code point << 2 | 1 (upper or title case), 2 (lower case) or 0 of each run.",
                    boundaries, 112)]  # fmt: skip
    for name, comment, members in (
        ("word_numbers_not", "Runs of numbers that are no part of words.", usual - word),
        ("word_others", "Runs of word characters that are no letters, marks or numbers.", word - usual),
    ):
        text = array(name, comment, runs_of(members), 112, pair)
        tables.append(text.replace("{\n", "{{\n", 1).replace("\n};", "\n}};"))
    write("letter_tables.hpp", tables)


def lower_case():
    """Runs of code points whose lower-case form lies at one distance, from the package's own lower-casing."""
    lower = normalizers.Lowercase()
    runs = []  # first, last, step, distance
    for c in CODE_POINTS:
        form = lower.normalize_str(chr(c))
        if form == chr(c) or len(form) != 1:  # only U+0130 becomes two; the header knows
            continue
        distance = ord(form) - c
        if runs and runs[-1][3] == distance and (runs[-1][2] == 0 or c - runs[-1][1] == runs[-1][2]):
            step = c - runs[-1][1]
            if step <= 2:
                runs[-1][1:3] = [c, step]
                continue
        runs.append([c, c, 0, distance])
    rows = [f"{{{first:#x}, {last:#x}, {max(step, 1)}, {distance}}}" for first, last, step, distance in runs]
    comment = "First and last code point of a run, step between them, distance to the lower-case forms."
    text = array("lower_runs", comment, rows, 110, "std::array<std::int32_t, 4>")
    write("lower_case_tables.hpp", [text.replace("{\n", "{{\n", 1).replace("\n};", "\n}};")])


def compatibility():
    """Compatibility forms of what texts in Latin letters use: signs, fractions, ligatures, full-width letters."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    ranges = [(0xA0, 0x2FF), (0x2000, 0x218F), (0x2460, 0x24FF), (0x3000, 0x3000), (0xFB00, 0xFB06), (0xFF01, 0xFF5E)]
    rows = []
    for first, last in ranges:
        for c in range(first, last + 1):
            form = [ord(part) for part in nfkd.normalize_str(chr(c))]
            if form == [ord(part) for part in nfd.normalize_str(chr(c))]:
                continue
            assert len(form) <= 4 and max(form) < 0x10000
            rows.append("{" + ", ".join(f"{part:#x}" for part in [c, *form, 0, 0, 0, 0][:5]) + "}")
    text = array("compatibility_forms", "A code point, and up to four that stand for it.", rows, 110,
                 "std::array<std::uint16_t, 5>")  # fmt: skip
    write("compatibility_tables.hpp", [text.replace("{\n", "{{\n", 1).replace("\n};", "\n}};")])


def combining_classes(nfd):
    low, high = "\u0334", "\u0345"  # classes 1 and 240
    classes = {}
    for c in CODE_POINTS:
        value = unicodedata.combining(chr(c))
        if value == 0 or nfd(chr(c)) != chr(c):
            continue
        after_low = nfd("a" + chr(c) + low) != "a" + chr(c) + low
        before_high = nfd("a" + high + chr(c)) != "a" + high + chr(c)
        if (value > 1) == after_low and (value < 240) == before_high:
            classes[c] = value
    return classes


def normalization():
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    classes = combining_classes(nfd)
    decompositions, compositions = [], []
    for c in CODE_POINTS:
        if nfd(chr(c)) == chr(c) or 0xAC00 <= c <= 0xD7A3:
            continue
        parts = [int(p, 16) for p in unicodedata.decomposition(chr(c)).split()]
        assert 1 <= len(parts) <= 2, hex(c)
        first, second = parts[0], parts[1] if len(parts) == 2 else 0
        decompositions.append((c, first, second))
        if second and nfc(chr(c)) == chr(c):
            compositions.append((first, second, len(decompositions) - 1))
    runs = []
    for c, value in sorted(classes.items()):
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == value:
            runs[-1][1] = c
        else:
            runs.append([c, c, value])

    def rows(entries):
        return ["{" + ", ".join(f"{v:#x}" for v in entry) + "}" for entry in entries]

    row_type = "std::array<std::uint32_t, 3>"

    def table(name, comment, entries):
        text = array(name, comment, rows(entries), 112, row_type)
        return text.replace("{\n", "{{\n", 1).replace("\n};", "\n}};")

    write(
        "normalization_tables.hpp",
        [
            table("combining_classes", "First and last code point of a run and its canonical combining class.", runs),
            table(
                "decompositions",
                "Code point and its one-step canonical decomposition (0: a singleton).",
                decompositions,
            ),
            array(
                "compositions",
                "Places in `decompositions` of the pairs that compose again, sorted by the pair.",
                [index for _, _, index in sorted(compositions)],
                112,
                "std::uint16_t",
            ),
        ],
    )


if __name__ == "__main__":
    categories()
    letters()
    lower_case()
    compatibility()
    normalization()
