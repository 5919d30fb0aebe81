#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Blocks of weights as gguf-py encodes and decodes them.

    python make_golden.py       (needs gguf, numpy)

values.bin holds float32 values. <format>.bin holds their blocks, where gguf-py has an encoder, then random blocks;
<format>.decoded.bin what all of them decode to.
"""

import pathlib

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
# Where a block's f16 scales are; gguf-py only decodes the second half of the list.
SCALES = {"F16": [], "BF16": [], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2]}
ONLY_DECODED = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0]}


def blocks():
    rng = np.random.default_rng(3)
    for scale in (1, 1, 1, 0.02, 0.02, 1e-3, 100, 6000):
        yield rng.normal(size=32) * scale
    yield rng.uniform(-60000, 60000, 32)  # large, the scale still fits
    yield np.zeros(32)  # (of -0, gguf-py and ggml make different zeros)
    yield np.full(32, 0.7)
    yield np.full(32, -0.7)
    yield np.eye(1, 32, 5)[0] * 3
    yield -np.eye(1, 32, 31)[0] * 3
    yield np.abs(rng.normal(size=32)) + 5  # far from zero
    yield -np.abs(rng.normal(size=32)) - 5
    yield rng.normal(size=32) * 1e-5  # scales below the normal halves
    yield rng.normal(size=32) * 3e-7
    yield rng.normal(size=32) * 1e-9  # scales that round to zero
    yield rng.integers(-8, 9, 32) * 0.5  # ties
    yield rng.integers(-127, 128, 32) + 0.5
    yield np.arange(32) / 2
    yield np.arange(32) - 16
    yield np.where(np.arange(32) % 2 == 0, 4, -4)  # which extreme is first
    yield np.where(np.arange(32) % 2 == 0, -4, 4)


def main():
    values = np.stack(list(blocks())).astype(np.float32)
    values.tofile(HERE / "values.bin")
    rng = np.random.default_rng(4)
    for name, scales in (SCALES | ONLY_DECODED).items():
        kind = gguf.GGMLQuantizationType[name]
        size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        width = max(size, 32) // size * block_bytes
        free = rng.integers(0, 256, (8 if size <= 32 else 3, width), dtype=np.uint8)
        halves = rng.normal(size=(len(free), len(scales))).astype(np.float16).view(np.uint8)
        for i, at in enumerate(scales):  # any quants under finite scales
            free[:, at:at + 2] = halves[:, 2 * i:2 * i + 2]
        if not scales:
            free = np.where((free & 0x7c) == 0x7c, free ^ 0x20, free)
        both = free
        if name in SCALES:
            encoded = gguf.quants.quantize(values, kind).view(np.uint8).reshape(len(values), -1)
            both = np.concatenate([encoded, free])
        typed = both.view(np.float16) if name == "F16" else both
        decoded = gguf.quants.dequantize(typed, kind).astype(np.float32)
        assert decoded.size == both.size // block_bytes * size and not np.isnan(decoded).any()
        both.tofile(HERE / f"{name.lower()}.bin")
        decoded.tofile(HERE / f"{name.lower()}.decoded.bin")


if __name__ == "__main__":
    main()
