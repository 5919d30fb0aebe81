#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares token ids with Hugging Face's tokenizers on vocabularies too large to be committed.

    check_real_vocabularies.py [--count 100000] [--seed 1] [--compiler c++] [--like JSON] FILE...

Each FILE is a tokenizer.json, a tokenizer.model (SentencePiece), a Tiktoken file, or a .gguf. Texts are the corpus
beside this file and `--count` random valid strings, half of them with words of the vocabulary's own added tokens; each is
encoded with special tokens as text and with special tokens parsed. The ids to agree with are those of the package
`tokenizers`: from the file itself if that is a tokenizer.json; else from the tokenizer.json given with `--like`; else from
a tokenizer that this script makes of the file's pieces and scores, as Hugging Face's converter does. Exits with 1 if
any ids differ. Needs a C++20 compiler and: pip install tokenizers gguf sentencepiece
"""

import argparse
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import corpus
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCE = ROOT / "tests" / "support" / "tokenize_records.cpp"


def merges_of(pieces):
    """Merges that follow from [(text, score)], best score first."""
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    found = []
    for merged, (text, score) in enumerate(pieces):
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                found.append((-score, -len(left), -len(right), merged, left, right))
    return [merge[4:] for merge in sorted(found)]


def sentence_piece(pieces, types, prefix, merges=None, strips=()):
    """A tokenizer of [(text, score)] and GGUF's token types."""
    vocabulary = {text: i for i, (text, _) in enumerate(pieces)}
    unknown = next((text for (text, _), type_ in zip(pieces, types) if type_ == 2), None) or "<unk>"
    merges = merges_of(pieces) if merges is None else merges
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    for (text, _), type_ in zip(pieces, types):
        if type_ in (2, 3, 4):
            token = AddedToken(text, special=type_ != 4, normalized=False, rstrip=text in strips)
            (tokenizer.add_tokens if type_ == 4 else tokenizer.add_special_tokens)([token])
    return tokenizer


def from_model(path):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=path)
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
    types = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
             for i in range(len(model))]  # fmt: skip
    return sentence_piece(pieces, types, model.encode("a", out_type=str)[0].startswith("▁"))


def from_gguf(path):
    import gguf

    fields = {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items() if key[0] in "gt"}
    tokens, types, model = (fields["tokenizer.ggml." + key] for key in ("tokens", "token_type", "model"))
    if model in ("llama", "gemma4"):
        pieces = list(zip(tokens, fields["tokenizer.ggml.scores"]))
        prefix = fields.get("tokenizer.ggml.add_space_prefix", model == "llama")
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]] if model == "gemma4" else None
        strips = ()
        if fields["general.architecture"] == "phi3":  # as its tokenizer.json says; GGUF does not
            plain = ("<unk>", "<s>", "<|endoftext|>")
            strips = {token for token, type_ in zip(tokens, types) if type_ in (3, 4) and token not in plain}
        return sentence_piece(pieces, types, prefix, merges, strips)
    if fields["tokenizer.ggml.pre"] != "smollm":
        sys.exit(f"{path}: of byte-level vocabularies only those like SmolLM are known here; use --like")
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, type_ in zip(tokens, types) if type_ == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def reference_of(path, like):
    if like or path.endswith(".json"):
        return Tokenizer.from_file(like or path)
    return from_gguf(path) if path.endswith(".gguf") else from_model(path)


def with_added_tokens(texts, reference, seed):
    """The texts, with the vocabulary's added tokens among the words of every second one."""
    rng = random.Random(seed)
    added = [token.content for token in reference.get_added_tokens_decoder().values()]
    for i, text in enumerate(texts):
        if i % 2 == 0 or not added:
            yield text
            continue
        at = rng.randrange(len(text) + 1)
        token = rng.choice(added)
        if rng.random() < 0.2:
            token = token[: rng.randrange(1, len(token) + 1)]
        yield text[:at] + rng.choice(["", "", " ", "  ", "\n", " \n"]) + token + rng.choice(["", "", " ", "\n"]) + text[at:]


def ours(program, path, records, parse):
    command = [program, path] + (["parse"] if parse else [])
    output = subprocess.run(command, input=records, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    while at < len(output):
        (count,) = struct.unpack_from("<I", output, at)
        yield list(struct.unpack_from(f"<{count}i", output, at + 4))
        at += 4 + 4 * count


def compare(program, path, like, seed, texts):
    reference = reference_of(path, like)
    texts = list(with_added_tokens(texts, reference, seed))
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
    parser.add_argument("--like", help="a tokenizer.json with the ids to agree with")
    arguments = parser.parse_args()
    texts = corpus.lines() + list(corpus.random_strings(arguments.count, arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        program = str(pathlib.Path(folder) / "tokenize_records")
        include = "-I" + str(ROOT / "include")
        subprocess.run([arguments.compiler, "-std=c++20", "-O2", include, str(SOURCE), "-o", program], check=True)
        different = sum(compare(program, path, arguments.like, arguments.seed, texts) for path in arguments.files)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
