#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads what `runnel train` wrote with the programs it is meant for, and compares logits with ours.

    pip install torch transformers peft
    tests/golden/train/check_result.py build/release/runnel runs/multi30k/model
    tests/golden/train/check_result.py build/release/runnel BASE_FOLDER --adapter runs/smollm2-lora/adapter
    tests/golden/train/check_result.py build/release/runnel runs/multi30k/model --gguf runs/multi30k/model.gguf

The folder is loaded by Transformers as its own (AutoModelForCausalLM, AutoTokenizer), an adapter by PEFT. Prints the largest
differences; exits with 1 if one exceeds --limit times the largest logit. (For llama.cpp on GGUF files: benchmarks/peers/divergence.)
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def ours(runnel, model, ids, adapter=None):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.npy")
        command = [runnel, "logits", "-m", model, "--tokens", ",".join(map(str, ids)), "--out", out]
        if adapter:
            command += ["--lora", adapter]
        subprocess.run(command, check=True)
        return np.load(out)


def report(name, found, expected, limit):
    difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    print(f"{name}: largest difference {difference:.2e}, largest logit {largest:.2f}")
    return difference <= limit * max(1.0, largest)


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runnel")
    parse.add_argument("model")
    parse.add_argument("--adapter")
    parse.add_argument("--gguf")
    parse.add_argument("--text", default="A man is standing in front of a house.")
    parse.add_argument("--limit", type=float, default=1e-4)
    args = parse.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    ids = tokenizer(args.text)["input_ids"]
    same_ids = subprocess.run([args.runnel, "tokenize", "-m", args.model], input=args.text + "\n", text=True, check=True,
                              stdout=subprocess.PIPE).stdout.split()
    print("token ids:", "equal" if [int(i) for i in same_ids] == ids else f"{same_ids} here, {ids} there")
    good = [int(i) for i in same_ids] == ids
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter).eval()
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].numpy()
    mine = ours(args.runnel, args.model, ids, args.adapter)
    good &= report("PEFT" if args.adapter else "Transformers", mine, theirs[:, : mine.shape[1]], args.limit)
    if args.gguf:
        read = ours(args.runnel, args.gguf, ids)
        good &= report("the GGUF file, read by us", read, mine, args.limit)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
