#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the ids that formats give, segment by segment, with those of the whole text, on vocabularies too large to be
committed.

    check_chat_formats.py [--compiler c++] FORMAT=FOLDER...

FORMAT is one of those in chat_formats.json, FOLDER holds the tokenizer.json of its model. Exits with 1 if any ids
differ. Needs a C++20 compiler and: pip install tokenizers
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SOURCE = ROOT / "tests" / "support" / "chat_format_ids.cpp"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("formats", nargs="+", metavar="FORMAT=FOLDER")
    arguments = parser.parse_args()
    golden = json.loads((HERE / "chat_formats.json").read_text(encoding="utf-8"))
    different = 0
    with tempfile.TemporaryDirectory() as scratch:
        program = f"{scratch}/chat_format_ids"
        command = [arguments.compiler, "-std=c++20", "-O1", f"-I{ROOT}/include", str(SOURCE), "-o", program]
        subprocess.run(command, check=True)
        for argument in arguments.formats:
            name, folder = argument.split("=", 1)
            talk = [golden[key] for key in ("instruction", "source", "target")]
            output = subprocess.run([program, folder, name, *talk], stdout=subprocess.PIPE, check=True, text=True).stdout
            found = [[int(id_) for id_ in line.split()] for line in output.splitlines()]
            reference = Tokenizer.from_file(f"{folder}/tokenizer.json")
            for key, ids in zip(("prompt", "whole"), found):
                text = golden["formats"][name].get(key)
                if text is None:
                    continue
                expected = reference.encode(text, add_special_tokens=False).ids
                print(f"{name}, {key}: {'the same' if ids == expected else 'DIFFERENT'}, {len(expected)} ids")
                different += ids != expected
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
