#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times a streaming encoder in PyTorch, eager: the peer of runnel_speech.cpp, with the same shapes, chunks and cache.

  pytorch_speech.py [threads] [f32|bf16] [seconds of audio] [frames of left context]

Convolutions keep the samples and frames that their next output needs, attention keeps keys and values of the left context in a
buffer that is written in place. The linear maps of query, key and value are one, attention is PyTorch's fused one; bf16 is a
model in bf16. Prints: label, threads, seconds of audio a second (median of the chunks of the second half), that of the first
quarter by that of the last, peak memory in MB, frames.
"""

import math
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

CONVS = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]
CHANNELS, HIDDEN, INNER, LAYERS, HEADS, KERNEL, GROUPS, CHUNK = 512, 1024, 4096, 24, 16, 128, 16, 6400


class Layer(nn.Module):
    def __init__(self, context, chunk, kind):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.qkv, self.out = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)
        self.context = context
        self.store = torch.zeros(2, HEADS, 2 * (context + chunk), HIDDEN // HEADS, dtype=kind)
        self.begin = self.end = 0

    def forward(self, x):
        n = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).view(n, 3, HEADS, -1).permute(1, 2, 0, 3)
        if self.end + n > self.store.shape[2]:  # seldom: what is still seen goes to the front
            kept = self.end - self.begin
            self.store[:, :, :kept] = self.store[:, :, self.begin:self.end].clone()
            self.begin, self.end = 0, kept
        self.store[0, :, self.end:self.end + n] = k
        self.store[1, :, self.end:self.end + n] = v
        self.end += n
        keys, values = self.store[0, :, self.begin:self.end], self.store[1, :, self.begin:self.end]
        old = self.end - self.begin - n
        rows, columns = torch.arange(n)[:, None] + old, torch.arange(old + n)[None]
        mask = (columns <= rows) & (columns >= rows - self.context)
        y = F.scaled_dot_product_attention(q[None], keys[None], values[None], attn_mask=mask)[0]
        x = x + self.out(y.transpose(0, 1).reshape(n, HIDDEN))
        self.begin = max(self.begin, self.end - self.context)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, context, kind):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(1 if i == 0 else CHANNELS, CHANNELS, k, s) for i, (k, s) in enumerate(CONVS))
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in CONVS)
        self.kept = [torch.zeros(1, 1, 80, dtype=kind)] + [torch.zeros(1, CHANNELS, 0, dtype=kind) for _ in CONVS[1:]]
        self.norm, self.projection = nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, HIDDEN)
        self.position = nn.Conv1d(HIDDEN, HIDDEN, KERNEL, groups=GROUPS)
        self.past = torch.zeros(1, HIDDEN, KERNEL - 1, dtype=kind)
        self.layers = nn.ModuleList(Layer(context, 20, kind) for _ in range(LAYERS))
        self.last = nn.LayerNorm(HIDDEN)

    def forward(self, samples):
        x = samples[None, None]
        for i, (conv, norm, (kernel, stride)) in enumerate(zip(self.convs, self.norms, CONVS)):
            x = torch.cat((self.kept[i], x), dim=2)
            count = (x.shape[2] - kernel) // stride + 1
            self.kept[i] = x[:, :, count * stride:]
            x = F.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
        x = self.projection(self.norm(x.transpose(1, 2)))
        joined = torch.cat((self.past, x.transpose(1, 2)), dim=2)
        self.past = joined[:, :, -(KERNEL - 1):]
        x = (x + F.gelu(self.position(joined)).transpose(1, 2))[0]
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    compute = sys.argv[2] if len(sys.argv) > 2 else "f32"
    audio = float(sys.argv[3]) if len(sys.argv) > 3 else 20
    context = int(sys.argv[4]) if len(sys.argv) > 4 else 500
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    kind = torch.bfloat16 if compute == "bf16" else torch.float32
    model = Encoder(context, kind).to(kind).eval()
    seconds, frames = [], 0
    with torch.inference_mode():
        for at in range(math.ceil(audio / 0.4)):
            samples = (0.3 * torch.sin(0.05 * (at * CHUNK + torch.arange(CHUNK)))).to(kind)
            start = time.perf_counter()
            frames += model(samples).shape[0]
            seconds.append(time.perf_counter() - start)
    quarter = max(1, len(seconds) // 4)
    speed = 0.4 / statistics.median(seconds[len(seconds) // 2:])
    growth = statistics.median(seconds[-quarter:]) / statistics.median(seconds[:quarter])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"pytorch-{torch.__version__} {compute} {threads} {speed:.3f} {growth:.3f} {peak:.1f} {frames}")


if __name__ == "__main__":
    main()
