#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tiny Llama checkpoints beside this file, and the logits that Transformers gives for them.

    python make_llama.py        (needs torch, transformers, safetensors, gguf, numpy)

For every case: <case>/config.json and model.safetensors as Transformers writes them, model.gguf with the same weights (query and
key rows permuted, as GGUF files of Llama models have them; only where GGUF can say the activation), tokens.npy [rows] and logits.npy [rows, vocab], computed in double
from the weights as they are stored.
"""

import copy
import json
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)

# Sizes that tests care about, and `rows`: longer than a page of 64 keys where it matters.
CASES = {
    "mha": dict(hidden_size=16, num_attention_heads=2, num_key_value_heads=2, intermediate_size=20, rows=12),
    "gqa": dict(hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=10, intermediate_size=22,
                tie_word_embeddings=True, rows=70),
    "mqa": dict(hidden_size=15, num_attention_heads=5, num_key_value_heads=1, head_dim=6, intermediate_size=17,
                attention_bias=True, mlp_bias=True, theta=500000.0, rows=14),
    "llama3": dict(hidden_size=12, num_attention_heads=3, num_key_value_heads=1, head_dim=16, intermediate_size=18,
                   scaling=LLAMA3, theta=500000.0, rows=70),
    "linear": dict(hidden_size=12, num_attention_heads=2, num_key_value_heads=1, head_dim=8, intermediate_size=16,
                   scaling=dict(rope_type="linear", factor=4.0), rows=40),
    "odd_bf16": dict(hidden_size=15, num_attention_heads=3, num_key_value_heads=3, head_dim=2, intermediate_size=19,
                     stored="bf16", hidden_act="gelu", rows=10),
    "f16": dict(hidden_size=18, num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=31,
                stored="f16", rms_norm_eps=1e-3, hidden_act="gelu_pytorch_tanh", rows=10),
    "quantised": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=32,
                      num_hidden_layers=1, vocab_size=40, stored="gguf", rows=20),
}

STORED = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

# The formats of the quantised case's matrices, by their name in GGUF files; the embedding is F16.
FORMATS = {"attn_q": "Q4_1", "attn_k": "Q4_0", "attn_v": "Q8_0", "attn_output": "Q4_1", "ffn_gate": "Q4_0",
           "ffn_up": "BF16", "ffn_down": "Q8_0", "token_embd": "F16", "output": "Q4_1"}

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        module, part = rest.rsplit(".", 1)
        return f"blk.{layer}.{NAMES[module]}.{part}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}[name]


def interleave(rows, heads):
    """Rows of a head from (first half, second half) to neighbours: what GGUF files of Llama models hold."""
    size = rows.shape[0] // heads
    return rows.reshape(heads, 2, size // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halve(rows, heads):
    """The inverse of `interleave`."""
    size = rows.shape[0] // heads
    return rows.reshape(heads, size // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def randomise(model, generator):
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                value.copy_(1 + 0.2 * noise)
            elif name.endswith(".bias"):
                value.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                value.copy_(noise)
            else:
                value.copy_(noise * (1.6 / value.shape[1] ** 0.5))


def llama3_divisors(config):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float64) /
                                                      config.head_dim)
    return (plain / scaled.double()).numpy().astype(np.float32)


def write_gguf(path, config, weights, stored):
    """Writes weights (float32 tensors by their Hugging Face names); returns them as a reader will see them."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config))
    seen = {}
    for name, value in weights.items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        heads = next((count for part, count in heads.items() if part in name), None)
        data = value.float().numpy()
        if heads:
            data = interleave(data, heads)
        kind = gguf.GGMLQuantizationType.F32
        if data.ndim == 2 and stored != "f32":
            module = gguf_name(name).rsplit(".", 2)[-2]
            kind = gguf.GGMLQuantizationType[FORMATS[module] if stored == "gguf" else stored.upper()]
        raw = gguf.quants.quantize(data, kind)
        writer.add_tensor(gguf_name(name), raw, raw_dtype=kind)
        back = gguf.quants.dequantize(raw, kind).reshape(data.shape)
        seen[name] = torch.from_numpy(np.ascontiguousarray(halve(back, heads) if heads else back))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


def make(case, index):
    options = copy.deepcopy(CASES[case])
    rows, stored = options.pop("rows"), options.pop("stored", "f32")
    rope = dict(rope_theta=options.pop("theta", 10000.0), rope_type="default")
    rope.update(options.pop("scaling", {}))
    config = LlamaConfig(**{**dict(vocab_size=23, num_hidden_layers=2, max_position_embeddings=128, rms_norm_eps=1e-5,
                                   rope_parameters=rope, bos_token_id=1, eos_token_id=2), **options})
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(1000 + index)
    model = LlamaForCausalLM(config).eval()
    randomise(model, generator)

    folder = HERE / case
    folder.mkdir(exist_ok=True)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    if stored == "gguf":
        weights = write_gguf(folder / "model.gguf", config, weights, stored)
    else:
        weights = {name: value.to(STORED[stored]).contiguous() for name, value in weights.items()}
        if config.hidden_act == "silu":
            seen = write_gguf(folder / "model.gguf", config, weights, stored)
            assert all(torch.equal(seen[name], weights[name].float()) for name in weights)
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config.dtype = STORED.get(stored, torch.float32)
    config.architectures = ["LlamaForCausalLM"]
    settings = json.loads(config.to_json_string())
    if case == "llama3":  # as Transformers 4 spelled it
        settings["rope_theta"] = settings["rope_parameters"].pop("rope_theta")
        settings["rope_scaling"] = settings.pop("rope_parameters")
    if case == "linear":  # as its first releases did
        settings["rope_theta"] = settings.pop("rope_parameters")["rope_theta"]
        settings["rope_scaling"] = {"type": "linear", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")

    reread = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    for name, value in reread.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name].double()), name
    tokens = torch.randint(0, config.vocab_size, (rows,), generator=generator)
    with torch.no_grad():
        logits = reread(tokens[None]).logits[0]
    np.save(folder / "tokens.npy", tokens.numpy().astype(np.int32))
    np.save(folder / "logits.npy", logits.numpy().astype(np.float32))
    print(f"{case}: {sum(v.numel() for v in weights.values())} weights, |logit| up to {logits.abs().max():.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, name in enumerate(CASES):
        make(name, number)
