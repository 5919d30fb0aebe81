#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of the text room beside this file.

corpus.jsonl          one JSON string a line (see corpus.py)
<name>/tokenizer.json a small byte-level BPE with the pre-tokenizer of GPT-2, Llama 3, Qwen2 or SmolLM, and
                      tokenizer_config.json or generation_config.json where that kind of model has one
<name>.plain.ids      line i: ids of corpus line i with special tokens as text, two characters an id
<name>.parsed.ids     line number and ids, with special tokens parsed, of the lines where that makes a difference
nfc.jsonl             pairs of a string and its normalization form C
detokenized.jsonl     pairs of a list of ids of the vocabulary `qwen2` and their text, invalid bytes replaced

Vocabularies are trained on the corpus and on sources of Python's standard library, so they differ between versions of
Python; commit all files together. Usage: python3 generate.py   (needs: pip install tokenizers)
"""

import inspect
import json
import pathlib
import random

import corpus
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

HERE = pathlib.Path(__file__).resolve().parent
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(False)])


PRE_TOKENIZERS = {
    "gpt2": byte_level(True),
    "llama3": split(LLAMA3),
    "qwen2": split(QWEN2),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]),
}


def training_text():
    import argparse
    import json.decoder
    import statistics
    import textwrap

    for module in (argparse, textwrap, statistics, json.decoder):
        yield from inspect.getsource(module).splitlines(keepends=True)
    for line in corpus.lines():
        yield line
        yield line


def train(name):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[]
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return json.loads(tokenizer.to_str())


def special(id_, content, is_special=True, strip=False, normalized=False):
    return {"id": id_, "content": content, "single_word": False, "lstrip": strip, "rstrip": strip,
            "normalized": normalized, "special": is_special}  # fmt: skip


def build(name):
    root = train(name)
    model = root["model"]
    vocabulary = model["vocab"]
    if name == "llama3":
        # Tokens that no merge makes: only `ignore_merges` finds them.
        for word in ("hasn", "Ġprices", "Straße", "ĠÐ³", "12", "Ġâĸģ", "ĠADDRESS", "return", "Ġstatistics", "main"):
            vocabulary.setdefault(word, len(vocabulary))
        model["ignore_merges"] = True
    next_id = len(vocabulary)
    added = [special(next_id + i, text) for i, text in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))]
    # User-defined text, one token that is the beginning of another, and one that takes white space along.
    added.append(special(next_id + 3, "<think>", is_special=False))
    added.append(special(next_id + 4, "<|im_start|", is_special=name == "gpt2"))
    added.append(special(next_id + 5, "<s>", strip=name in ("gpt2", "qwen2")))
    added.append(special(next_id + 6, "[INST]", is_special=False, normalized=name in ("smollm", "qwen2")))
    if name == "llama3":
        added.append(special(next_id + 9, "<|eot_id|>"))  # after a hole in the numbering
        vocabulary.update((token["content"], token["id"]) for token in added)  # as many files repeat them
    root["added_tokens"] = added
    root["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    if name == "llama3":
        model["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        piece = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
        template = {"type": "TemplateProcessing", "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [next_id + 1],
                                                        "tokens": ["<|im_start|>"]}}}  # fmt: skip
        root["post_processor"] = {"type": "Sequence", "processors": [template]}
    return root


def code(ids):
    return "".join(chr(33 + i // 94) + chr(33 + i % 94) for i in ids)


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def companions(name, folder):
    if name == "smollm":
        config = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "pad_token": "<|im_end|>",
                  "unk_token": "<|endoftext|>", "add_bos_token": False,
                  "chat_template": "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                                   "Hugging Face<|im_end|>\n' }}"}  # fmt: skip
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "generation_config.json", {"eos_token_id": 2000})
    if name == "qwen2":
        templates = [{"name": "tool_use", "template": "other"}, {"name": "default", "template": "<|im_start|>user"}]
        config = {"bos_token": None, "eos_token": "<|im_end|>", "chat_template": templates}
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "generation_config.json", {"eos_token_id": [2002, 2000]})


def lines_of(path, rows):
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def detokenized(tokenizer):
    rng = random.Random(5)
    for _ in range(300):
        ids = [rng.randrange(256 if rng.random() < 0.7 else 2000) for _ in range(rng.randrange(1, 12))]
        yield json.dumps([ids, tokenizer.decode(ids, skip_special_tokens=False)], ensure_ascii=False)


def main():
    lines = corpus.lines()
    lines_of(HERE / "corpus.jsonl", [json.dumps(line, ensure_ascii=False) for line in lines])
    for name in PRE_TOKENIZERS:
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        write_json(folder / "tokenizer.json", build(name))
        companions(name, folder)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        plain = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
        tokenizer.encode_special_tokens = False
        parsed = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
        lines_of(HERE / f"{name}.plain.ids", map(code, plain))
        different = [f"{i} {code(ids)}" for i, ids in enumerate(parsed) if ids != plain[i]]
        lines_of(HERE / f"{name}.parsed.ids", different)
        if name == "qwen2":
            lines_of(HERE / "detokenized.jsonl", detokenized(tokenizer))
    nfc = normalizers.NFC().normalize_str
    rng = random.Random(3)
    pool = corpus.FORMS + corpus.MARKS + ["a", "e", "o", "\u1100", "\u1161", "\u11a8", "각"]
    strings = ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 9))) for _ in range(600)]
    strings += ["".join(corpus.assigned(rng) for _ in range(6)) for _ in range(200)]
    lines_of(HERE / "nfc.jsonl", [json.dumps([text, nfc(text)], ensure_ascii=False) for text in strings])


if __name__ == "__main__":
    main()
