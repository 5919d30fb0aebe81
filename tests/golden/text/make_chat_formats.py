#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders a conversation of one turn with the chat templates that models were published with.

    make_chat_formats.py NAME=FILE...

NAME is a built-in format, FILE its model's template: a tokenizer_config.json, a .jinja file or a .gguf. Writes
chat_formats.json beside this file: for each name the prompt, the prompt with the answer, and the ids of the latter in
one of the vocabularies beside this file, as Hugging Face's tokenizers give them for the text as a whole. Entries of
names that are not given stay as they are. Templates themselves are not kept.

Needs: pip install transformers jinja2 tokenizers gguf
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).resolve().parent
INSTRUCTION = "Translate the following English paragraph to German:"
SOURCE = "Just in the last two days, we got the new temperature records in January."
TARGET = "Erst in den letzten beiden Tagen hatten wir neue Januar-Temperaturrekorde."
# What templates may ask for; a date where one is written that changes every day.
SETTINGS = {
    "smollm3": {"enable_thinking": False, "strftime_now": lambda _: "01 July 2025"},
    "qwen3": {"enable_thinking": False},
    "qwen3-thinking": {"enable_thinking": True},
    "phi3": {"eos_token": ""},  # otherwise one follows the end of the conversation
}
BOS = {"llama": "<|begin_of_text|>", "llama2": "<s>", "mistral": "<s>", "gemma": "<bos>"}
# Vocabularies that have all markup of a format as special tokens.
VOCABULARIES = {"smollm2": "smollm", "smollm3": "smollm", "chatml": "gpt2", "qwen2": "qwen2", "qwen2.5": "qwen2"}


def read_template(path):
    if path.endswith(".gguf"):
        import gguf

        return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return json.loads(text)["chat_template"] if path.endswith(".json") else text


def bos_of(name):
    fitting = [prefix for prefix in BOS if name.startswith(prefix)]
    return BOS[max(fitting, key=len)] if fitting else ""


def render(name, template, messages, prompt):
    values = {"bos_token": bos_of(name), "eos_token": "</s>", **SETTINGS.get(name, {})}
    compiled = chat_template_utils._compile_jinja_template(template)
    return compiled.render(messages=messages, add_generation_prompt=prompt, **values)


def main():
    path = HERE / "chat_formats.json"
    golden = json.loads(path.read_text(encoding="utf-8"))["formats"] if path.exists() else {}
    for argument in sys.argv[1:]:
        name, file = argument.split("=", 1)
        template = read_template(file)
        user = {"role": "user", "content": f"{INSTRUCTION}\n{SOURCE}"}
        answer = {"role": "assistant", "content": TARGET}
        entry = {"prompt": render(name, template, [user], True)}
        if not name.endswith("-thinking"):  # whose answers begin with thoughts
            entry["whole"] = render(name, template, [user, answer], False)
        if name in VOCABULARIES:
            entry["vocabulary"] = VOCABULARIES[name]
            tokenizer = Tokenizer.from_file(str(HERE / VOCABULARIES[name] / "tokenizer.json"))
            entry["ids"] = tokenizer.encode(entry["whole"], add_special_tokens=False).ids
        golden[name] = entry
    lines = [f"{json.dumps(name)}: {json.dumps(golden[name], ensure_ascii=False)}" for name in sorted(golden)]
    conversation = {"instruction": INSTRUCTION, "source": SOURCE, "target": TARGET}
    head = json.dumps(conversation, ensure_ascii=False)[1:-1]
    path.write_text("{" + head + ', "formats": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
