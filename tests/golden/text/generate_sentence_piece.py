#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of SentencePiece vocabularies, and of pieces of text, beside this file.

llama2/, gemma/        small BPE models with byte fallback: tokenizer.model, the tokenizer.json that Hugging Face's
                       converter would make of it, and tokenizer_config.json with added tokens that the model lacks
spaces.model           the same kind, with a normaliser that collapses spaces
<name>.plain.ids       line i: ids of every third corpus line with special tokens as text, two characters an id;
                       `mistral` is llama2 with Metaspace "first" and `metaspace` with Metaspace "always", cut at spaces
<name>.parsed.ids      number of the line and ids, with special tokens parsed, where that makes a difference
sentences.jsonl        texts in which added tokens and spaces meet, and for each vocabulary their ids, special tokens
                       parsed
sentence_piece.decoded.jsonl  a vocabulary, ids and their text
pieces.jsonl           name of a pre-tokenizer, a text and its pieces

Usage: python3 generate_sentence_piece.py   (needs: pip install tokenizers sentencepiece)
"""

import io
import json
import random

import corpus
import sentencepiece
from check_real_vocabularies import sentence_piece
from generate import HERE, code, lines_of, special, training_text, write_json
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
HTML = ["<table>", "</table>", "<b>", "</b>", "<h1>"]
RUNS = ["\n" * n for n in range(1, 8)] + ["▁" * n for n in range(2, 8)] + ["\t" * n for n in range(1, 4)]


def train(**options):
    out = io.BytesIO()
    # Characters of other scripts are left for bytes to write.
    lines = [line.rstrip("\n") for line in [*training_text(), *corpus.SENTENCES * 5]]
    lines = [line for line in lines if line and max(line) < "\u0600"]
    settings = {"vocab_size": 1500, "byte_fallback": True, "normalization_rule_name": "identity",
                "remove_extra_whitespaces": False, "character_coverage": 0.9995, "split_digits": True,
                "allow_whitespace_only_pieces": True, "hard_vocab_limit": False, "num_threads": 1,
                "minloglevel": 2, **options}  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="bpe", **settings
    )
    return out.getvalue()


def hugging_face(model, user_defined, prefix, added):
    """The tokenizer.json that belongs to a model, as a dictionary."""
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
    types = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
             for i in range(len(model))]  # fmt: skip
    types = [4 if text in user_defined else type_ for (text, _), type_ in zip(pieces, types)]
    tokenizer = sentence_piece(pieces, types, prefix)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    root = json.loads(tokenizer.to_str())
    root["added_tokens"] += added
    if not prefix:
        root["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        root["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                 "invert": False}  # fmt: skip
    return root


def token(id_, content, **flags):
    return {**special(id_, content), **flags}


def write_config(folder, added):
    decoder = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in added}
    config = {"added_tokens_decoder": decoder, "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    write_json(folder / "tokenizer_config.json", config)


def write_ids(name, root, lines):
    tokenizer = Tokenizer.from_str(json.dumps(root))
    tokenizer.encode_special_tokens = True
    plain = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    tokenizer.encode_special_tokens = False
    parsed = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    lines_of(HERE / f"{name}.plain.ids", map(code, plain))
    lines_of(HERE / f"{name}.parsed.ids", [f"{i} {code(ids)}" for i, ids in enumerate(parsed) if ids != plain[i]])
    return plain


def sentences(roots):
    rng = random.Random(8)
    words = ["a", "Hello", "word", "swords", "word_", "3", ".", "é", "\u2581", "\u2581\u2581", "😀", "\u0301", "中",
             "<b>", "<h1>", "\n\n", "\t", "\t\t\t\t", "<s>", "</s>", "<|user|>", "<|end|>", "<mask>", "[INST]"]  # fmt: skip
    spaces = ["", "", " ", " ", "  ", "   ", "        ", "\n", " \n", "\u3000", "\u00a0"]
    tokenizers = {name: Tokenizer.from_str(json.dumps(root)) for name, root in roots.items()}
    for _ in range(500):
        text = rng.choice(spaces)
        for _ in range(rng.randrange(1, 7)):
            text += rng.choice(words) + rng.choice(spaces)
        ids = {name: each.encode(text, add_special_tokens=False).ids for name, each in tokenizers.items()}
        yield json.dumps([text, *(code(ids[name]) for name in tokenizers)], ensure_ascii=False)


def decoded(roots):
    rng = random.Random(9)
    for name in ("llama2", "gemma"):
        tokenizer = Tokenizer.from_str(json.dumps(roots[name]))
        # Tokens that are looked for after normalisation are shown with their space there.
        lines = [line for line in corpus.lines() if "[INST]" not in line]
        for line in rng.sample(lines, 120):
            ids = tokenizer.encode(line, add_special_tokens=False).ids
            ids = ids[rng.randrange(3) :]
            text = tokenizer.decode(ids, skip_special_tokens=False)
            if "\ufffd" not in text:  # their decoder and ours part ways on what is no UTF-8
                yield json.dumps([name, ids, text], ensure_ascii=False)


def pieces():
    rng = random.Random(5)
    pool = ["A", "b", "C", "d", "\u0301", "\u20dd", "ª", "中", "Dž", "ʰ", " ", "\n", "/", "'", "s", "'LL", "1", "!", "\r",
            "\t", "Ⅷ", "ǅ", "é", "É", "_", "23", "  ", "'re"]  # fmt: skip
    texts = ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 12))) for _ in range(400)]
    texts += corpus.SENTENCES + corpus.CODE + corpus.CONTRACTIONS
    for name, pattern in (("o200k", O200K), ("tekken", TEKKEN)):
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        for text in texts:
            yield json.dumps([name, text, [piece for piece, _ in split.pre_tokenize_str(text)]], ensure_ascii=False)


def main():
    lines = corpus.lines()[::3]
    models = {
        "llama2": train(),
        "gemma": train(add_dummy_prefix=False, user_defined_symbols=RUNS + HTML),
    }
    (HERE / "spaces.model").write_bytes(train(vocab_size=900, remove_extra_whitespaces=True))
    roots = {}
    for name, data in models.items():
        (HERE / name).mkdir(exist_ok=True)
        (HERE / name / "tokenizer.model").write_bytes(data)
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        end = len(model)
        added = [token(end, "<|user|>", rstrip=True), token(end + 1, "<|end|>"), token(end + 2, "<mask>", lstrip=True),
                 token(end + 3, "word", single_word=True, special=False),
                 token(end + 4, "[INST]", normalized=True, special=False)]  # fmt: skip
        roots[name] = hugging_face(model, () if name == "llama2" else RUNS + HTML, name == "llama2", added)
        write_json(HERE / name / "tokenizer.json", roots[name])
        write_config(HERE / name, added)
        plain = write_ids(name, roots[name], lines)
        if name == "llama2":
            own = [model.encode(line) for line in lines]
            same = sum(a == b for a, b in zip(own, plain))
            print(f"{name}: SentencePiece itself agrees on {same} of {len(lines)} lines")
    for name, scheme, split in (("mistral", "first", False), ("metaspace", "always", True)):
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
        roots[name] = {**roots["llama2"], "normalizer": None, "pre_tokenizer": metaspace}
        write_ids(name, roots[name], lines)
    spaces = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "spaces.model"))
    lines_of(HERE / "spaces.plain.ids", [code(spaces.encode(line)) for line in lines])
    lines_of(HERE / "sentences.jsonl", sentences(roots))
    lines_of(HERE / "sentence_piece.decoded.jsonl", decoded(roots))
    lines_of(HERE / "pieces.jsonl", pieces())


if __name__ == "__main__":
    main()
