#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Logits of the streaming plans on the checkpoint gqa/, from their definition and nothing else.

    python make_plans.py        (after make_llama.py; needs numpy, safetensors)

A dense mask [rows, rows] and a dense matrix of relative positions [rows, rows] say all about a plan; every key is turned against
every query by that number of positions. Rows stand in the order source, target. Computed in double, written to plans/.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).parent
CHECKPOINT = HERE / "gqa"
CONFIG = json.loads((CHECKPOINT / "config.json").read_text())
WEIGHTS = {name: value.astype(np.float64) for name, value in load_file(CHECKPOINT / "model.safetensors").items()}


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + CONFIG["rms_norm_eps"]) * weight


def turned(keys, positions):
    """Each key [b, d] turned back by each row of positions [a, b]: [a, b, d]; feature i pairs with i + d / 2."""
    size = keys.shape[-1]
    theta = CONFIG["rope_parameters"]["rope_theta"]
    angle = -positions[..., None] * theta ** (-2.0 * np.arange(size // 2) / size)
    first, second = keys[None, :, :size // 2], keys[None, :, size // 2:]
    return np.concatenate([first * np.cos(angle) - second * np.sin(angle),
                           second * np.cos(angle) + first * np.sin(angle)], -1)


def attend(x, layer, mask, relative):
    """Rows [rows, hidden]; row a sees row b where mask[a, b], which stands relative[a, b] positions before it."""
    weight = lambda part: WEIGHTS[f"model.layers.{layer}.self_attn.{part}_proj.weight"]
    heads, kv_heads, size = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
    rows = len(x)
    query = (x @ weight("q").T).reshape(rows, heads, size)
    key = (x @ weight("k").T).reshape(rows, kv_heads, size)
    value = (x @ weight("v").T).reshape(rows, kv_heads, size)
    out = np.zeros((rows, heads, size))
    for head in range(heads):
        other = head // (heads // kv_heads)
        score = np.einsum("ad,abd->ab", query[:, head], turned(key[:, other], relative)) / np.sqrt(size)
        score = np.where(mask, score, -np.inf)
        share = np.exp(score - score.max(-1, keepdims=True))
        out[:, head] = share / share.sum(-1, keepdims=True) @ value[:, other]
    return out.reshape(rows, -1) @ weight("o").T


def logits(tokens, mask, relative):
    x = WEIGHTS["model.embed_tokens.weight"][tokens]
    for layer in range(CONFIG["num_hidden_layers"]):
        part = lambda name: WEIGHTS[f"model.layers.{layer}.{name}.weight"]
        x = x + attend(norm(x, part("input_layernorm")), layer, mask, relative)
        h = norm(x, part("post_attention_layernorm"))
        gate = h @ part("mlp.gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ part("mlp.up_proj").T)) @ part("mlp.down_proj").T
    return norm(x, WEIGHTS["model.norm.weight"]) @ WEIGHTS["model.embed_tokens.weight"].T


class Sentence:
    """Source segments s0 (prompt), words, end; target segments g0 (header), words, end; wait-k on words."""

    def __init__(self, source_lengths, target_lengths, k):
        self.k = k
        self.P = np.concatenate([[0], np.cumsum(source_lengths)])
        self.G = np.concatenate([[0], np.cumsum(target_lengths)])
        self.S, self.T = int(self.P[-1]), int(self.G[-1])
        self.segment_of_source = np.repeat(np.arange(len(source_lengths)), source_lengths)
        self.segment_of_target = np.repeat(np.arange(len(target_lengths)), target_lengths)
        self.most = len(source_lengths)

    def segments_read(self, j):
        """Source segments that are read when target segment j is produced; the prompt counts as one."""
        return min(self.k + max(j, 1), self.most)

    def produced_with(self, p):
        return int(self.P[self.segments_read(self.segment_of_target[p])])

    def limit(self, p):
        """The limit of the token that row p predicts."""
        return self.produced_with(min(p + 1, self.T - 1))

    def mask(self, source_limit, target_limit=None):
        """Causal in both groups; target row p sees source [0, source_limit(p)), source row r target [0, target_limit(r))."""
        S, T = self.S, self.T
        out = np.tril(np.ones((S + T, S + T), bool))
        for p in range(T):
            out[S + p, :S] = np.arange(S) < source_limit(p)
        if target_limit:
            for r in range(S):
                out[r, S:] = np.arange(T) < target_limit(r)
        return out

    def arrival_positions(self):
        """Every token's number on the one axis of arrival: s0..sk, g0, g1, s(k+1), g2, ..."""
        P, G, k = self.P, self.G, self.k
        place = np.zeros(self.S + self.T)
        for r, i in enumerate(self.segment_of_source):
            place[r] = r + (G[min(i - k + 1, len(G) - 1)] if i > k else 0)
        for p, j in enumerate(self.segment_of_target):
            place[self.S + p] = P[min(k + max(j, 1), self.most)] + p
        return place


def plans(sentence):
    """Name, mask and relative positions of every case."""
    S, T = sentence.S, sentence.T
    r, p = np.arange(S), np.arange(T)
    difference = lambda place: place[:, None] - place[None, :]
    after = lambda start: difference(np.concatenate([r, start + p]).astype(float))
    streaming = sentence.mask(sentence.limit)
    whole = sentence.mask(lambda _: S)
    yield "batch", whole, after(S)
    yield "batch_grouped_7.25", whole, after(7.25)
    for phi in (0.0, 0.5, 300.0):
        yield f"group_{phi:g}", streaming, after(phi)
    place = sentence.arrival_positions()
    yield "no_reencoding", streaming, difference(place)
    moving = after(0)
    for row in range(T):
        moving[S + row, :S] += sentence.limit(row)
    yield "reencode_positions", streaming, moving
    for step in (3, T - 1):  # all target rows recomputed over what has been read when token `step` is produced
        read = sentence.produced_with(step)
        yield f"reencode_all_{step}", sentence.mask(lambda _: read), after(read)
    in_order = difference(place) >= 0
    yield "interleaved", in_order, difference(place)
    for side, kept in (("source", np.concatenate([0 * r, 1 + 0 * p])), ("target", np.concatenate([1 + 0 * r, 0 * p])),
                       ("both", np.zeros(S + T))):
        yield f"removed_{side}", streaming, difference(place * kept)


def main():
    rng = np.random.default_rng(7)
    sentences = {"short": Sentence([3, 1, 2, 1, 2], [2, 1, 2, 1, 1], k=1), "long": Sentence([40] + [1] * 33, [3] + [2] * 33, k=3)}
    out = HERE / "plans"
    out.mkdir(exist_ok=True)
    described = {}
    for name, sentence in sentences.items():
        tokens = rng.integers(0, CONFIG["vocab_size"], sentence.S + sentence.T)
        names, found = [], []
        wanted = np.arange(sentence.S + sentence.T)
        if name == "long":  # the last rows have seen everything before them
            wanted = np.concatenate([wanted[sentence.S - 2:sentence.S], wanted[-6:]])
        for case, mask, relative in plans(sentence):
            names.append(case)
            found.append(logits(tokens, mask, relative)[wanted])
        described[name] = dict(tokens=tokens.tolist(), source_rows=sentence.S, cases=names, rows=wanted.tolist(),
                               read=[sentence.produced_with(p) for p in range(sentence.T)])
        np.save(out / f"{name}.npy", np.stack(found).astype(np.float32))
        assert sentence.produced_with(sentence.T - 1) == sentence.S
    # This model itself against Transformers' logits.
    tokens, expected = np.load(CHECKPOINT / "tokens.npy"), np.load(CHECKPOINT / "logits.npy")
    place = np.arange(len(tokens), dtype=float)
    own = logits(tokens, place[:, None] >= place[None, :], place[:, None] - place[None, :])
    assert np.abs(own - expected).max() < 1e-4, np.abs(own - expected).max()  # Transformers takes angles in float
    (out / "plans.json").write_text(json.dumps(described) + "\n")
    print({name: data["cases"] for name, data in described.items()})


if __name__ == "__main__":
    main()
