#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random wav2vec2 checkpoints, and what Transformers makes of some audio with them.

    python generate.py     (needs torch, transformers, safetensors, numpy)

Writes a folder a case: config.json, model.safetensors and, for the samples that `samples()` makes (the test makes the same),

    features.npy    after the convolutions            position.npy    after the position embedding is added
    hidden.npy      the last hidden state, all from Wav2Vec2Model
    causal.npy      the streaming form of the same weights, computed here with torch alone: left pad 80, causal position
                    embedding, causal attention over `LEFT_CONTEXT` frames before each
    mean.npy, variance.npy   where there is group norm: the statistics of this audio, to be frozen
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

HERE = pathlib.Path(__file__).parent
COUNT = 24000
LEFT_CONTEXT = 20
COMMON = dict(conv_dim=[8] * 7, hidden_size=12, num_attention_heads=3, intermediate_size=20, num_hidden_layers=2,
              vocab_size=5, num_conv_pos_embedding_groups=2, hidden_dropout=0.0, attention_dropout=0.0,
              feat_proj_dropout=0.0, final_dropout=0.0, layerdrop=0.0, apply_spec_augment=False)
CASES = {
    # large-lv60: layer norms, pre-LN; weight norm as torch spells it today.
    "stable": dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, num_conv_pos_embeddings=8,
                   spelling="new", head=False),
    # base: group norm, post-LN; the old spelling, under a head.
    "base": dict(feat_extract_norm="group", do_stable_layer_norm=False, conv_bias=False, num_conv_pos_embeddings=6,
                 spelling="old", head=True),
    # post-LN behind layer norms, an odd kernel.
    "post": dict(feat_extract_norm="layer", do_stable_layer_norm=False, conv_bias=False, num_conv_pos_embeddings=5,
                 spelling="old", head=False),
}


def samples():
    i = np.arange(COUNT, dtype=np.int64)
    mixed = (i * 7919 + (i * i % 1013) * 31 + (i // 160) * 577) % 2003 - 1001
    return (mixed.astype(np.float32) * np.float32(1.0 / 2048)).astype(np.float32)


def attend(layer, x, heads, mask):
    a = layer.attention
    frames, hidden = x.shape
    split = lambda y: y.view(frames, heads, hidden // heads).transpose(0, 1)
    q, k, v = split(a.q_proj(x)), split(a.k_proj(x)), split(a.v_proj(x))
    scores = q @ k.transpose(1, 2) / (hidden // heads) ** 0.5
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    return a.out_proj((weights @ v).transpose(0, 1).reshape(frames, hidden))


def feed(layer, x):
    return layer.feed_forward.output_dense(functional.gelu(layer.feed_forward.intermediate_dense(x)))


def convolve(model, audio, config, frozen):
    """The front end by its definition, [1, 1, samples] to [frames, channels]."""
    x = audio
    for i, conv in enumerate(model.feature_extractor.conv_layers):
        x = functional.conv1d(x, conv.conv.weight, conv.conv.bias, stride=config.conv_stride[i])
        if config.feat_extract_norm == "layer":
            x = functional.layer_norm(x.transpose(1, 2), x.shape[1:2], conv.layer_norm.weight, conv.layer_norm.bias,
                                      1e-5).transpose(1, 2)
        elif i == 0:
            x = functional.batch_norm(x, frozen[0], frozen[1], conv.layer_norm.weight, conv.layer_norm.bias, eps=1e-5)
        x = functional.gelu(x)
    return x[0].transpose(0, 1)


def causal(model, config, audio, frozen):
    x = convolve(model, functional.pad(audio, (80, 0)), config, frozen)
    x = model.feature_projection.projection(model.feature_projection.layer_norm(x))
    conv = model.encoder.pos_conv_embed.conv
    padded = functional.pad(x.transpose(0, 1)[None], (config.num_conv_pos_embeddings - 1, 0))
    position = functional.conv1d(padded, conv.weight, conv.bias, groups=config.num_conv_pos_embedding_groups)
    x = x + functional.gelu(position[0].transpose(0, 1))
    t = torch.arange(x.shape[0])
    mask = (t[None] <= t[:, None]) & (t[None] >= t[:, None] - LEFT_CONTEXT)
    heads = config.num_attention_heads
    if config.do_stable_layer_norm:
        for layer in model.encoder.layers:
            x = x + attend(layer, layer.layer_norm(x), heads, mask)
            x = x + feed(layer, layer.final_layer_norm(x))
        return model.encoder.layer_norm(x)
    x = model.encoder.layer_norm(x)
    for layer in model.encoder.layers:
        x = layer.layer_norm(x + attend(layer, x, heads, mask))
        x = layer.final_layer_norm(x + feed(layer, x))
    return x


def save(folder, name, values):
    np.save(folder / f"{name}.npy", values.detach().contiguous().numpy().astype(np.float32))


def make(name, case):
    torch.manual_seed(len(name))
    spelling, head = case.pop("spelling"), case.pop("head")
    config = Wav2Vec2Config(**COMMON, **case)
    whole = Wav2Vec2ForCTC(config) if head else Wav2Vec2Model(config)
    model = whole.wav2vec2 if head else whole
    with torch.no_grad():
        for key, value in whole.named_parameters():
            if key.endswith("layer_norm.weight"):
                value.copy_(1 + 0.3 * torch.randn_like(value))
            elif value.dim() < 2:
                value.copy_(0.3 * torch.randn_like(value))
            elif "original0" in key:
                value.copy_(1 + 0.5 * torch.rand_like(value))
            else:
                value.copy_(torch.randn_like(value) * (1.5 / (value[0].numel() ** 0.5)))
    whole.eval()
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    audio = torch.from_numpy(samples())[None, None]
    frozen = None
    with torch.no_grad():
        if config.feat_extract_norm == "group":
            first = model.feature_extractor.conv_layers[0].conv(audio)[0].double()
            frozen = first.mean(1).float(), first.var(1, unbiased=False).float()
            save(folder, "mean", frozen[0])
            save(folder, "variance", frozen[1])
        features = model.feature_extractor(audio[0])[0].transpose(0, 1)
        assert torch.allclose(features, convolve(model, audio, config, frozen), atol=1e-4)
        projected, _ = model.feature_projection(features[None])
        save(folder, "features", features)
        save(folder, "position", (projected + model.encoder.pos_conv_embed(projected))[0])
        save(folder, "hidden", model(audio[0]).last_hidden_state[0])
        save(folder, "causal", causal(model, config, audio, frozen))
    weights = {}
    for key, value in whole.state_dict().items():
        if spelling == "old":
            key = key.replace("parametrizations.weight.original0", "weight_g")
            key = key.replace("parametrizations.weight.original1", "weight_v")
        weights[key] = value.contiguous().clone()
    save_file(weights, folder / "model.safetensors")
    kept = {k: v for k, v in config.to_dict().items() if k in COMMON or k in case or k in
            ("model_type", "conv_kernel", "conv_stride", "hidden_act", "feat_extract_activation", "layer_norm_eps")}
    (folder / "config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(name, features.shape, sum(f.stat().st_size for f in folder.iterdir()))


if __name__ == "__main__":
    for case_name, options in CASES.items():
        make(case_name, dict(options))
