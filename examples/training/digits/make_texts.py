#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes text on which a small decoder learns what it will hear: words as a speech encoder spells them.

    examples/training/digits/make_texts.py OUT

OUT gets frames.tsv and frames.validation.tsv: in the first column a word or a full stop a frame (a word takes one to four
frames, what is between two of them one to fifteen, before the first and after the last up to thirty), in the second the
words; and words.txt, the words, to train a vocabulary on. Needs nothing but Python.
"""

import argparse
import pathlib
import random

WORDS = "zero one two three four five six seven eight nine".split()


def line(draw):
    said = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
    frames = ["."] * draw.randint(0, 30)
    for word in said:
        frames += [word] * draw.randint(1, 4) + ["."] * draw.randint(1, 15)
    return " ".join(frames + ["."] * draw.randint(0, 15)) + "\t" + " ".join(said) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    for name, count in (("frames.tsv", 20000), ("frames.validation.tsv", 200)):
        (options.out / name).write_text("".join(line(draw) for _ in range(count)))
    text = "".join(" ".join(draw.choice(WORDS + ["."]) for _ in range(8)) + "\n" for _ in range(500))
    (options.out / "words.txt").write_text(text)


if __name__ == "__main__":
    main()
