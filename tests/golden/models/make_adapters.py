#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tiny PEFT adapters of checkpoints beside this file, and the logits that Transformers with PEFT gives for them.

    python make_adapters.py [--llama-cpp FOLDER]   (needs torch, transformers, peft, safetensors, numpy; gguf)

For every case: adapters/<case>/adapter_config.json and adapter_model.safetensors as PEFT saves them, base.txt (which checkpoint),
tokens.npy [rows] and logits.npy [rows, vocab], computed in double. Cases with "gguf" have adapter.gguf by llama.cpp's
convert_lora_to_gguf.py too.
"""

import argparse
import copy
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model

HERE = pathlib.Path(__file__).parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = {
    "plain": dict(base="gqa", r=8, lora_alpha=16, target_modules=ALL, gguf=True),
    "rslora": dict(base="families/qwen3_tied", r=8, lora_alpha=4, target_modules=["q_proj", "v_proj"], use_rslora=True),
    "bias_all": dict(base="mqa", r=8, lora_alpha=8, target_modules=["q_proj", "o_proj", "down_proj"], bias="all"),
    "bias_lora": dict(base="families/qwen2_tied", r=3, lora_alpha=8, target_modules=["k_proj", "v_proj"], bias="lora_only"),
    "up_bias": dict(base="families/gemma2_window", r=8, lora_alpha=8, target_modules=ALL, lora_bias=True),
    "fused": dict(base="families/phi3_window", r=8, lora_alpha=32, target_modules=["qkv_proj", "gate_up_proj", "o_proj"]),
    "patterns": dict(base="families/smollm3_tied", r=8, lora_alpha=16, target_modules=ALL,
                     rank_pattern={"k_proj": 2, "layers.1.mlp.down_proj": 5}, alpha_pattern={"v_proj": 3}),
    "head": dict(base="mha", r=4, lora_alpha=8, target_modules=["q_proj", "lm_head"]),
}


def make(name, index, llama_cpp):
    settings = dict(CASES[name])
    base, as_gguf = settings.pop("base"), settings.pop("gguf", False)
    torch.manual_seed(3000 + index)
    model = transformers.AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float64, attn_implementation="eager")
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings)).eval()
    with torch.no_grad():
        for key, value in tuned.named_parameters():
            noise = torch.randn(value.shape, dtype=torch.float64)
            if "lora_" in key:  # values that float32 holds: the file has them exactly
                value.copy_((noise * 0.15).float().double())
            elif key.endswith("bias") and settings.get("bias", "none") != "none":
                if settings["bias"] == "all" or any(f"{target}.base_layer" in key for target in settings["target_modules"]):
                    value.add_((noise * 0.5).float().double())
                    value.copy_(value.float().double())
    folder = HERE / "adapters" / name
    folder.mkdir(exist_ok=True, parents=True)
    single = copy.deepcopy(tuned).float()
    single.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / "adapter_model.safetensors").chmod(0o644)
    (folder / "base.txt").write_text(base + "\n")
    tokens = torch.randint(0, model.config.vocab_size, (20,))
    with torch.no_grad():
        logits = tuned(tokens[None]).logits[0]
    np.save(folder / "tokens.npy", tokens.numpy().astype(np.int32))
    np.save(folder / "logits.npy", logits.numpy().astype(np.float32))
    if as_gguf and llama_cpp:
        with tempfile.TemporaryDirectory() as scratch:
            copy_of = pathlib.Path(scratch) / "adapter"
            shutil.copytree(folder, copy_of)
            subprocess.run([sys.executable, llama_cpp / "convert_lora_to_gguf.py", copy_of, "--base", HERE / base, "--outtype",
                            "f32", "--outfile", folder / "adapter.gguf"], check=True)
        (folder / "adapter.gguf").chmod(0o644)
    print(f"{name}: |logit| up to {logits.abs().max():.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--llama-cpp", type=pathlib.Path)
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    for number, case in enumerate(CASES):
        make(case, number, arguments.llama_cpp)
