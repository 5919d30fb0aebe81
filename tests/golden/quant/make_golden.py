#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Blocks of weights as gguf-py encodes and decodes them.

    python make_golden.py       (needs gguf, numpy)

values.bin holds float32 values. <format>.bin holds their blocks, then random blocks; <format>.decoded.bin what both decode to.
"""

import pathlib

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
FORMATS = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


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
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        encoded = gguf.quants.quantize(values, kind).view(np.uint8).reshape(len(values), -1)
        free = rng.integers(0, 256, (8, 32 // size * block_bytes), dtype=np.uint8)
        if name.startswith("Q"):  # any quants under finite scales
            halves = 2 if name == "Q4_1" else 1
            free[:, :2 * halves] = rng.normal(size=(8, halves)).astype(np.float16).view(np.uint8)
        else:
            free = np.where((free & 0x7c) == 0x7c, free ^ 0x20, free)
        both = np.concatenate([encoded, free])
        typed = both.view(np.float16) if name == "F16" else both
        decoded = gguf.quants.dequantize(typed, kind).astype(np.float32)
        assert decoded.size == both.shape[0] * 32 and not np.isnan(decoded).any()
        both.tofile(HERE / f"{name.lower()}.bin")
        decoded.tofile(HERE / f"{name.lower()}.decoded.bin")


if __name__ == "__main__":
    main()
