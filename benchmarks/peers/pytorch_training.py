#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times whole training steps in PyTorch, eager: the peer of runnel_training.cpp, with the same model and batch.

  pytorch_training.py [threads] [f32|bf16] [steps]

The model is written with PyTorch's fastest operators for it (fused attention, RMS norm, cross-entropy, fused AdamW); bf16
is autocast over f32 weights. Prints: label, threads, tokens a second (median of steps), last loss, peak memory in MB.
"""

import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCAB, HIDDEN, INNER, LAYERS, HEADS, SEQUENCES, LENGTH = 8000, 256, 768, 6, 8, 32, 48


def rotate(x, cosines, sines):
    a, b = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-b, a), dim=-1) * sines


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.norm2 = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.gate_up = nn.Linear(HIDDEN, 2 * INNER, bias=False)
        self.down = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x, cosines, sines):
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, cosines, sines), rotate(k, cosines, sines), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, length, HIDDEN))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        dim = HIDDEN // HEADS
        angles = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
        self.register_buffer("cosines", angles.cos().repeat(1, 2))
        self.register_buffer("sines", angles.sin().repeat(1, 2))
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cosines, self.sines)
        return F.linear(self.norm(x), self.embedding.weight)


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    compute = sys.argv[2] if len(sys.argv) > 2 else "f32"
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Decoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    ids = torch.randint(VOCAB, (SEQUENCES, LENGTH + 1))
    seconds, loss = [], None
    for step in range(steps + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bf16"):
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, VOCAB), ids[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"pytorch-{torch.__version__} {compute} {threads} {SEQUENCES * LENGTH / statistics.median(seconds):.1f} "
          f"{loss.item():.4f} {peak:.1f}")


if __name__ == "__main__":
    main()
