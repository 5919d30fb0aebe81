#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tiny checkpoints of every family but Llama, and the logits that Transformers gives for them.

    python make_families.py [--llama-cpp FOLDER]   (needs torch, transformers, safetensors, numpy; sentencepiece, gguf)

For every case: families/<case>/config.json and model.safetensors, tokens.npy [rows] and logits.npy [rows, vocab], computed by
Transformers' own class in double. Cases with "short_rows" have tokens_short.npy and logits_short.npy too: a text that fits the
original context, for which LongRoPE turns by other factors. With --llama-cpp, the folder of llama.cpp's sources, its
convert_hf_to_gguf.py makes model.gguf of the cases that ask for it.
"""

import argparse
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "families"
VOCAB = 40

# head groupings; odd sizes; tied and untied heads; windows shorter than the text; rotary scaling that acts on it.
CASES = {
    "mistral_window": dict(of="Mistral", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
                           sliding_window=5, rows=24),
    "mistral_wide": dict(of="Mistral", hidden_size=15, num_attention_heads=3, num_key_value_heads=1, head_dim=8,
                         intermediate_size=21, sliding_window=None, rows=12, gguf=True),  # files of "llama" have no window
    "mistral_tied": dict(of="Mistral", hidden_size=12, num_attention_heads=2, num_key_value_heads=2, intermediate_size=18,
                         sliding_window=66, tie_word_embeddings=True, rows=80),
    "qwen2_tied": dict(of="Qwen2", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=22,
                       tie_word_embeddings=True, rows=20, gguf=True),
    "qwen2_yarn": dict(of="Qwen2", hidden_size=24, num_attention_heads=2, num_key_value_heads=1, intermediate_size=19,
                       max_position_embeddings=128, rows=70, theta=1000.0,
                       scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
    "qwen2_window": dict(of="Qwen2", hidden_size=18, num_attention_heads=3, num_key_value_heads=3, intermediate_size=17,
                         num_hidden_layers=3, use_sliding_window=True, sliding_window=4, max_window_layers=1, rows=20),
    "qwen3_tied": dict(of="Qwen3", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
                       intermediate_size=22, tie_word_embeddings=True, rows=70, gguf=True),
    "qwen3_bias": dict(of="Qwen3", hidden_size=15, num_attention_heads=2, num_key_value_heads=1, head_dim=6,
                       intermediate_size=13, attention_bias=True, rows=14),
    "qwen3_window": dict(of="Qwen3", hidden_size=12, num_attention_heads=3, num_key_value_heads=3, head_dim=8,
                         intermediate_size=16, num_hidden_layers=3, use_sliding_window=True, sliding_window=6,
                         max_window_layers=2, rows=30, scaling=dict(rope_type="linear", factor=3.0)),
    "gemma_plain": dict(of="Gemma", hidden_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                        intermediate_size=20, rows=20),
    "gemma2_window": dict(of="Gemma2", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                          intermediate_size=20, num_hidden_layers=3, sliding_window=5, query_pre_attn_scalar=8,
                          attn_logit_softcapping=2.0, final_logit_softcapping=3.0, rows=24, gguf=True),
    "gemma2_uncapped": dict(of="Gemma2", hidden_size=15, num_attention_heads=3, num_key_value_heads=3, head_dim=6,
                            intermediate_size=19, sliding_window=64, query_pre_attn_scalar=5, attn_logit_softcapping=None,
                            final_logit_softcapping=None, rows=70),
    "gemma2_mqa": dict(of="Gemma2", hidden_size=12, num_attention_heads=4, num_key_value_heads=1, head_dim=10,
                       intermediate_size=18, sliding_window=9, query_pre_attn_scalar=20, attn_logit_softcapping=5.0,
                       final_logit_softcapping=4.0, attention_bias=True, rows=30),
    "gemma3_window": dict(of="Gemma3Text", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                          intermediate_size=20, num_hidden_layers=7, sliding_window=5, query_pre_attn_scalar=8, rows=24,
                          rope=dict(full_attention=dict(rope_type="default", rope_theta=5000.0),
                                    sliding_attention=dict(rope_type="default", rope_theta=100.0)), gguf=True),
    "gemma3_scaled": dict(of="Gemma3Text", hidden_size=15, num_attention_heads=3, num_key_value_heads=1, head_dim=6,
                          intermediate_size=17, num_hidden_layers=3, layer_types=["sliding_attention", "full_attention",
                                                                                  "sliding_attention"],
                          sliding_window=7, query_pre_attn_scalar=11, rows=70,
                          rope=dict(full_attention=dict(rope_type="linear", factor=8.0, rope_theta=5000.0),
                                    sliding_attention=dict(rope_type="default", rope_theta=100.0))),
    "gemma3_old_keys": dict(of="Gemma3Text", hidden_size=12, num_attention_heads=2, num_key_value_heads=2, head_dim=10,
                            intermediate_size=16, num_hidden_layers=4, sliding_window=6, query_pre_attn_scalar=10, rows=20,
                            final_logit_softcapping=4.0, pattern=2,
                            rope=dict(full_attention=dict(rope_type="default", rope_theta=3000.0),
                                      sliding_attention=dict(rope_type="default", rope_theta=50.0))),
    "phi3_window": dict(of="Phi3", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
                        sliding_window=6, rows=20, max_position_embeddings=64, original_max_position_embeddings=64),
    "phi3_longrope": dict(of="Phi3", hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=21,
                          max_position_embeddings=128, original_max_position_embeddings=32, rows=70, short_rows=30,
                          gguf=True, scaling=dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.6],
                                                  long_factor=[1.2, 2.5, 4.0, 4.4])),
    "phi3_partial": dict(of="Phi3", hidden_size=32, num_attention_heads=2, num_key_value_heads=1, intermediate_size=19,
                         max_position_embeddings=64, original_max_position_embeddings=64, tie_word_embeddings=True, rows=24,
                         partial_rotary_factor=0.75),
    "smollm3_tied": dict(of="SmolLM3", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
                         num_hidden_layers=5, rows=20, gguf=True),
    "smollm3_list": dict(of="SmolLM3", hidden_size=15, num_attention_heads=3, num_key_value_heads=3, head_dim=6,
                         intermediate_size=17, num_hidden_layers=3, no_rope_layers=[0, 1, 1], tie_word_embeddings=False,
                         attention_bias=True, mlp_bias=True, rows=70),
    "smollm3_window": dict(of="SmolLM3", hidden_size=12, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16,
                           num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5,
                           rows=30, scaling=dict(rope_type="linear", factor=2.0)),
}

# Keys of a case that are no keys of its config.
OURS = {"of", "rows", "short_rows", "gguf", "theta", "scaling", "rope", "pattern", "partial_rotary_factor"}


def randomise(model, generator, norm_center):
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                value.copy_(norm_center + 0.2 * noise)
            elif name.endswith(".bias"):
                value.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                value.copy_(noise * (0.3 if norm_center == 0 else 1.0))
            else:
                value.copy_(noise * (1.6 / value.shape[1] ** 0.5))


def make_config(case):
    settings = {key: value for key, value in case.items() if key not in OURS}
    rope = case.get("rope")
    if rope is None:
        rope = dict(rope_theta=case.get("theta", 10000.0), rope_type="default")
        rope.update(case.get("scaling", {}))
        if "partial_rotary_factor" in case:
            rope["partial_rotary_factor"] = case["partial_rotary_factor"]
        if case["of"] == "Phi3":
            rope["original_max_position_embeddings"] = case["original_max_position_embeddings"]
    if "pattern" in case:
        settings["sliding_window_pattern"] = case["pattern"]
    config = getattr(transformers, case["of"] + "Config")(
        **{**dict(vocab_size=VOCAB, num_hidden_layers=2, max_position_embeddings=128, rms_norm_eps=1e-5,
                  rope_parameters=rope, bos_token_id=1, eos_token_id=2, pad_token_id=0), **settings})
    config._attn_implementation = "eager"
    return config


def old_keys(settings):
    """Gemma 3's config as its first files spell it."""
    rope = settings.pop("rope_parameters")
    settings.pop("layer_types", None)
    settings["rope_theta"] = rope["full_attention"]["rope_theta"]
    settings["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    settings["rope_scaling"] = None
    settings["sliding_window_pattern"] = 2
    return settings


def train_vocabulary():
    """A tokenizer.model of VOCAB pieces, which the converter wants beside the weights."""
    import sentencepiece
    text = ["the quick brown fox jumps over the lazy dog", "a bee sees the sea", "see the bees"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text * 5), model_writer=model, vocab_size=VOCAB,
                                             model_type="bpe", pad_id=0, bos_id=1, eos_id=2, unk_id=3,
                                             hard_vocab_limit=True, minloglevel=2)
    return model.getvalue()


def convert(llama_cpp, folder):
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "model"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.npy", "*.gguf"))
        (copy / "tokenizer.model").write_bytes(train_vocabulary())
        subprocess.run([sys.executable, llama_cpp / "convert_hf_to_gguf.py", copy, "--outtype", "f32", "--outfile",
                        folder / "model.gguf"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "model.gguf").chmod(0o644)


def make(name, index, llama_cpp):
    case = CASES[name]
    config = make_config(case)
    generator = torch.Generator().manual_seed(2000 + index)
    model_class = getattr(transformers, case["of"].removesuffix("Text") + "ForCausalLM")
    model = model_class(config).eval()
    randomise(model, generator, 0.0 if case["of"].startswith("Gemma") else 1.0)

    folder = HERE / name
    folder.mkdir(exist_ok=True, parents=True)
    weights = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config.dtype = torch.float32
    config.architectures = [model_class.__name__]
    settings = json.loads(config.to_json_string(use_diff=False))
    settings = {key: value for key, value in settings.items() if not key.startswith("_")}
    if "pattern" in case:
        settings = old_keys(settings)
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")

    reread = model_class.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    for key, value in reread.state_dict().items():
        if key in weights:
            assert torch.equal(value, weights[key].double()), key
    for suffix, rows in {"": case["rows"], "_short": case.get("short_rows")}.items():
        if rows is None:
            continue
        tokens = torch.randint(0, config.vocab_size, (rows,), generator=generator)
        with torch.no_grad():
            logits = reread(tokens[None]).logits[0]
        np.save(folder / f"tokens{suffix}.npy", tokens.numpy().astype(np.int32))
        np.save(folder / f"logits{suffix}.npy", logits.numpy().astype(np.float32))
    if case.get("gguf") and llama_cpp:
        convert(llama_cpp, folder)
    print(f"{name}: {sum(v.numel() for v in weights.values())} weights, |logit| up to {logits.abs().max():.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--llama-cpp", type=pathlib.Path)
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    for number, name in enumerate(CASES):
        make(name, number, arguments.llama_cpp)
