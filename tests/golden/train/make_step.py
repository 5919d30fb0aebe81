#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets Transformers and torch.optim.AdamW make one training step, and keeps the weights after it.

    python make_step.py     (needs torch, transformers, safetensors)

For some of the tiny checkpoints in tests/golden/models: the tokens of their goldens, each predicting the next (mean
cross-entropy, label smoothing 0.1), gradients clipped to norm 1, one step of AdamW (rate 0.01, epsilon 1e-4, weight decay
0.1 of matrices). Writes <name>.step.safetensors with the checkpoint's tensor names.
"""

import pathlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "models"
CASES = ["gqa", "families/gemma2_mqa", "families/qwen3_bias", "families/phi3_window", "families/mistral_window"]


def main():
    for case in CASES:
        folder = MODELS / case
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.train()
        model.get_input_embeddings().padding_idx = None  # else token 0 would be learned as an output only
        tokens = torch.tensor(np.load(folder / "tokens.npy").astype(np.int64))[None]
        logits = model(tokens[:, :-1], use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], label_smoothing=0.1)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                       {"params": vectors, "weight_decay": 0.0}], lr=0.01, eps=1e-4)
        optimizer.step()
        after = model.state_dict()
        names = load_file(folder / "model.safetensors").keys()
        kept = {name: after[name].detach().clone().contiguous() for name in names}
        kept["loss_and_norm"] = torch.tensor([loss.item(), norm.item()])
        save_file(kept, HERE / f"{folder.name}.step.safetensors")
        print(folder.name, loss.item(), norm.item())


if __name__ == "__main__":
    main()
