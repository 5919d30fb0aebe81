#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists the recordings of the Free Spoken Digit Dataset for training: path, text, speaker, between tabs.

    examples/training/digit_manifests.py RECORDINGS OUT

RECORDINGS is its folder of WAV files, named {digit}_{speaker}_{index}.wav. OUT gets test.tsv (indices 0 to 4, the data set's
own test set), validation.tsv (5 and 6) and train.tsv (the others), with paths relative to OUT. Needs nothing but Python.
"""

import argparse
import os
import pathlib
import re
import sys

WORDS = "zero one two three four five six seven eight nine".split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    lists = {"train": [], "validation": [], "test": []}
    for path in options.recordings.glob("*.wav"):
        name = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", path.name)
        if not name:
            sys.exit(f"{path}: expected a name like 7_george_12.wav")
        digit, speaker, index = int(name[1]), name[2], int(name[3])
        part = "test" if index < 5 else "validation" if index < 7 else "train"
        place = os.path.relpath(path.resolve(), options.out.resolve())
        lists[part].append(((speaker, digit, index), f"{place}\t{WORDS[digit]}\t{speaker}\n"))
    if not lists["train"]:
        sys.exit(f"{options.recordings}: no recordings for training")
    options.out.mkdir(parents=True, exist_ok=True)
    for part, lines in lists.items():
        (options.out / f"{part}.tsv").write_text("".join(line for _, line in sorted(lines)))
        print(f"{options.out / (part + '.tsv')}: {len(lines)} recordings")


main()
