#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares token ids with Hugging Face's tokenizers on vocabularies too large to be committed.

    check_real_vocabularies.py [--count 100000] [--seed 1] [--compiler c++] FILE...

Each FILE is a tokenizer.json, or a .gguf whose pre-tokenizer is that of SmolLM. Texts are the corpus beside this file
and `--count` random valid strings; each is encoded with special tokens as text and with special tokens parsed. Exits
with 1 if any ids differ. Needs a C++20 compiler and: pip install tokenizers gguf
"""

import argparse
import pathlib
import struct
import subprocess
import sys
import tempfile

import corpus
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCE = ROOT / "tests" / "support" / "tokenize_records.cpp"


def from_gguf(path):
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens, types, merges, pre = (
        fields["tokenizer.ggml." + key].contents() for key in ("tokens", "token_type", "merges", "pre")
    )
    if pre != "smollm":
        sys.exit(f"{path}: pre-tokenizer {pre}: only smollm is known here")
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, type_ in zip(tokens, types) if type_ == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def ours(program, path, records, parse):
    command = [program, path] + (["parse"] if parse else [])
    output = subprocess.run(command, input=records, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    while at < len(output):
        (count,) = struct.unpack_from("<I", output, at)
        yield list(struct.unpack_from(f"<{count}i", output, at + 4))
        at += 4 + 4 * count


def compare(program, path, texts):
    reference = from_gguf(path) if path.endswith(".gguf") else Tokenizer.from_file(path)
    records = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    different = 0
    for parse in (False, True):
        reference.encode_special_tokens = not parse
        found = list(ours(program, path, records, parse))
        assert len(found) == len(texts)
        wrong = 0
        for start in range(0, len(texts), 2000):
            batch = texts[start : start + 2000]
            for text, expected, got in zip(
                batch, reference.encode_batch(batch, add_special_tokens=False), found[start : start + 2000]
            ):
                if got != expected.ids:
                    wrong += 1
                    if wrong <= 5:
                        print(f"  {text!r}\n    expected {expected.ids[:40]}\n    found    {got[:40]}")
        print(f"{path}: special tokens {'parsed' if parse else 'as text'}: {wrong} of {len(texts)} texts differ")
        different += wrong
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compiler", default="c++")
    arguments = parser.parse_args()
    texts = corpus.lines() + list(corpus.random_strings(arguments.count, arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        program = str(pathlib.Path(folder) / "tokenize_records")
        include = "-I" + str(ROOT / "include")
        subprocess.run([arguments.compiler, "-std=c++20", "-O2", include, str(SOURCE), "-o", program], check=True)
        different = sum(compare(program, path, texts) for path in arguments.files)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
