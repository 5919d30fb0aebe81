#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets torch.optim.AdamW make some updates, and keeps what went in and what came out.

    python make_adamw.py     (needs torch, numpy)

Three parameters one after another, a matrix [5, 7], a vector [19] and a matrix [3, 16]: adamw.initial.npy [102],
adamw.gradients.npy [6, 102], and for each case adamw.<case>.npy [6, 102], the weights after each update.
"""

import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
SHAPES = [(5, 7), (19,), (3, 16)]
STEPS = 6
CASES = {
    "clipped": dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, decay_vectors=False, clip=1.0, rates=[1e-2] * STEPS),
    "bounded": dict(betas=(0.8, 0.95), eps=1e-3, weight_decay=0.01, decay_vectors=True, clip=None,
                    rates=[1e-3, 5e-3, 2e-2, 2e-2, 1e-2, 3e-3]),
}


def pieces(flat):
    start = 0
    for shape in SHAPES:
        size = int(np.prod(shape))
        yield torch.tensor(flat[start:start + size].reshape(shape))
        start += size


def main():
    random = np.random.default_rng(5)
    total = sum(int(np.prod(shape)) for shape in SHAPES)
    initial = random.standard_normal(total).astype(np.float32)
    # Norms from far below the bound to far above it.
    sizes = np.array([0.01, 1, 0.1, 5, 0.02, 0.5])[:, None]
    gradients = (random.standard_normal((STEPS, total)) * sizes).astype(np.float32)
    np.save(HERE / "adamw.initial.npy", initial)
    np.save(HERE / "adamw.gradients.npy", gradients)
    for name, case in CASES.items():
        weights = [torch.nn.Parameter(one.clone()) for one in pieces(initial)]
        groups = [dict(params=[one], weight_decay=case["weight_decay"] if one.dim() > 1 or case["decay_vectors"] else 0.0)
                  for one in weights]
        optimizer = torch.optim.AdamW(groups, lr=case["rates"][0], betas=case["betas"], eps=case["eps"], foreach=False)
        after = []
        for step in range(STEPS):
            for weight, gradient in zip(weights, pieces(gradients[step])):
                weight.grad = gradient.clone()
            if case["clip"]:
                torch.nn.utils.clip_grad_norm_(weights, case["clip"])
            for group in optimizer.param_groups:
                group["lr"] = case["rates"][step]
            optimizer.step()
            after.append(np.concatenate([one.detach().numpy().reshape(-1) for one in weights]))
        np.save(HERE / f"adamw.{name}.npy", np.stack(after))


main()
