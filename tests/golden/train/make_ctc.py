#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Losses and gradients of torch.nn.functional.ctc_loss in double, for utterances of random logits.

    python make_ctc.py     (needs torch, numpy)

Writes ctc.shapes.npy [utterances, 3] (frames, classes, labels), ctc.labels.npy, ctc.logits.npy, ctc.gradients.npy (of the
utterances one after another, rows by rows) and ctc.losses.npy [utterances]. The blank is the last class.
"""

import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
CASES = [(1, 3, [1]), (7, 4, [0, 0, 2]), (5, 4, [1, 1, 1]), (12, 11, []), (30, 11, [9, 9, 0, 3, 3, 3, 7, 1, 2]),
         (19, 6, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])]


def main():
    random = np.random.default_rng(11)
    logits, gradients, losses = [], [], []
    for frames, classes, labels in CASES:
        x = torch.tensor((3 * random.standard_normal((frames, classes))).astype(np.float32), dtype=torch.float64,
                         requires_grad=True)
        loss = torch.nn.functional.ctc_loss(torch.log_softmax(x, dim=1)[:, None], torch.tensor([labels], dtype=torch.long),
                                            torch.tensor([frames]), torch.tensor([len(labels)]), blank=classes - 1,
                                            reduction="sum")
        loss.backward()
        logits.append(x.detach().numpy().reshape(-1))
        gradients.append(x.grad.numpy().reshape(-1))
        losses.append(loss.item())
    shapes = [(frames, classes, len(labels)) for frames, classes, labels in CASES]
    np.save(HERE / "ctc.shapes.npy", np.array(shapes, dtype=np.int32))
    np.save(HERE / "ctc.labels.npy", np.array(sum((labels for _, _, labels in CASES), []), dtype=np.int32))
    np.save(HERE / "ctc.logits.npy", np.concatenate(logits).astype(np.float32))
    np.save(HERE / "ctc.gradients.npy", np.concatenate(gradients))
    np.save(HERE / "ctc.losses.npy", np.array(losses))


main()
