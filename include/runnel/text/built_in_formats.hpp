// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

namespace runnel::text::detail {

/// A data format that needs no file: its name, and what its file would say (see `parse_chat_format`).
struct built_in_format {
  std::string_view name;
  std::string_view json;
};

/// The built-in formats: those of the chat templates that models were published with, where a conversation is one turn
/// whose message is the instruction, a line break and the source; and, named `paper-`, those of arXiv 2505.16983. What
/// a vocabulary's template is recognised by is looked at in this order, so the special come before the general.
// clang-format off
inline constexpr std::array<built_in_format, 24> built_in_formats{{
    {"smollm3", R"({
  "about": "SmolLM3 without thinking. Its template writes today's date; here it is fixed, so that ids stay the same.",
  "source_prefix": [
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 01 July 2025\n",
    "Reasoning Mode: /no_think\n\n## Custom Instructions\n\n",
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face.\n\n",
    "<|im_start|>user\n{instruction}\n"
  ],
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n<think>\n\n</think>\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["Reasoning Mode: ", "named SmolLM"], "tokens": ["<|im_start|>"]}
})"},
    {"smollm2", R"({
  "about": "SmolLM2",
  "source_prefix": [
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n",
    "<|im_start|>user\n{instruction}\n"
  ],
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["named SmolLM, trained by Hugging Face"], "tokens": ["<|im_start|>"]}
})"},
    {"qwen2.5", R"({
  "about": "Qwen2.5",
  "source_prefix": [
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n",
    "<|im_start|>user\n{instruction}\n"
  ],
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["You are Qwen, created by Alibaba Cloud"], "tokens": ["<|im_start|>"]}
})"},
    {"qwen3", R"({
  "about": "Qwen3 without thinking, as its template writes it when thinking is off",
  "source_prefix": "<|im_start|>user\n{instruction}\n",
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["enable_thinking", "<|im_start|>"], "tokens": ["<|im_start|>"]}
})"},
    {"qwen3-thinking", R"({
  "about": "Qwen3 with thinking",
  "source_prefix": "<|im_start|>user\n{instruction}\n",
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n"
})"},
    {"qwen2", R"({
  "about": "Qwen2",
  "source_prefix": [
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    "<|im_start|>user\n{instruction}\n"
  ],
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["You are a helpful assistant.<|im_end|>"], "tokens": ["<|im_start|>"]}
})"},
    {"chatml", R"({
  "about": "ChatML without a system message",
  "source_prefix": "<|im_start|>user\n{instruction}\n",
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n",
  "recognized_by": {"template_has": ["<|im_start|>"], "tokens": ["<|im_start|>"]}
})"},
    {"llama3.1", R"({
  "about": "Llama 3.1, 3.2 and 3.3, with the date that their templates have where they are given none",
  "source_prefix": [
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n",
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>\n\n{instruction}\n"
  ],
  "source_suffix": "<|eot_id|>",
  "target_prefix": "<|start_header_id|>assistant<|end_header_id|>\n\n",
  "target_suffix": "<|eot_id|>",
  "recognized_by": {"template_has": ["Cutting Knowledge Date"], "tokens": ["<|start_header_id|>"]}
})"},
    {"llama3", R"({
  "about": "Llama 3",
  "source_prefix": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{instruction}\n",
  "source_suffix": "<|eot_id|>",
  "target_prefix": "<|start_header_id|>assistant<|end_header_id|>\n\n",
  "target_suffix": "<|eot_id|>",
  "recognized_by": {"template_has": ["<|start_header_id|>"], "tokens": ["<|start_header_id|>"]}
})"},
    {"llama2", R"({
  "about": "Llama 2 chat. The space before the answer is the one that the tokenizer puts before a first word.",
  "source_prefix": "<s>[INST] {instruction}\n",
  "source_suffix": " [/INST]",
  "target_prefix": "",
  "target_suffix": " </s>",
  "recognized_by": {"template_has": ["[INST]", "<<SYS>>"], "tokens": ["<s>"]}
})"},
    {"mistral-nemo", R"({
  "about": "Mistral Nemo and later, whose markup has no spaces",
  "source_prefix": "<s>[INST]{instruction}\n",
  "source_suffix": "[/INST]",
  "target_prefix": "",
  "target_suffix": "</s>",
  "recognized_by": {"template_has": ["[INST]"], "template_lacks": ["[INST] "], "tokens": ["<s>", "[INST]"]}
})"},
    {"mistral-v3", R"({
  "about": "Mistral 7B Instruct v0.3 and others of its time",
  "source_prefix": "<s>[INST] {instruction}\n",
  "source_suffix": "[/INST]",
  "target_prefix": "",
  "target_suffix": "</s>",
  "recognized_by": {"template_has": ["[INST] "], "tokens": ["<s>", "[INST]"]}
})"},
    {"mistral", R"({
  "about": "Mistral 7B Instruct v0.1 and v0.2",
  "source_prefix": "<s>[INST] {instruction}\n",
  "source_suffix": " [/INST]",
  "target_prefix": "",
  "target_suffix": "</s>",
  "recognized_by": {"template_has": ["[INST]"], "tokens": ["<s>"]}
})"},
    {"gemma3", R"({
  "about": "Gemma 3; on text the same as Gemma 2",
  "source_prefix": "<bos><start_of_turn>user\n{instruction}\n",
  "source_suffix": "<end_of_turn>\n",
  "target_prefix": "<start_of_turn>model\n",
  "target_suffix": "<end_of_turn>\n",
  "recognized_by": {"template_has": ["<start_of_turn>", "<start_of_image>"], "tokens": ["<start_of_turn>"]}
})"},
    {"gemma2", R"({
  "about": "Gemma and Gemma 2",
  "source_prefix": "<bos><start_of_turn>user\n{instruction}\n",
  "source_suffix": "<end_of_turn>\n",
  "target_prefix": "<start_of_turn>model\n",
  "target_suffix": "<end_of_turn>\n",
  "recognized_by": {"template_has": ["<start_of_turn>"], "tokens": ["<start_of_turn>"]}
})"},
    {"phi3", R"({
  "about": "Phi-3 and Phi-3.5",
  "source_prefix": "<|user|>\n{instruction}\n",
  "source_suffix": "<|end|>\n",
  "target_prefix": "<|assistant|>\n",
  "target_suffix": "<|end|>\n",
  "recognized_by": {"template_has": ["<|user|>", "<|assistant|>"], "tokens": ["<|end|>"]}
})"},
    {"plain", R"({
  "about": "No markup: for models that know none",
  "source_prefix": "{instruction}\n",
  "source_suffix": "\n",
  "target_prefix": "",
  "target_suffix": "\n"
})"},
    {"paper-gemma2", R"({
  "about": "arXiv 2505.16983, figure 3: translation",
  "source_prefix": "<bos><start_of_turn>user{instruction}\n",
  "source_suffix": "<end_of_turn>",
  "target_prefix": "<start_of_turn>",
  "target_suffix": "<end_of_turn>"
})"},
    {"paper-gemma2-speech", R"({
  "about": "arXiv 2505.16983, figure 4: speech recognition",
  "source": "audio",
  "source_prefix": "<bos><start_of_turn>user{instruction}\n",
  "source_suffix": "<end_of_turn>",
  "target_prefix": "<start_of_turn>",
  "target_suffix": "<end_of_turn>"
})"},
    {"paper-phi3", R"({
  "about": "arXiv 2505.16983, figure 3: translation",
  "source_prefix": "<|system|>{instruction}:<|end|><|user|>",
  "source_suffix": "<|end|>",
  "target_prefix": "<|assistant|>",
  "target_suffix": "<|end|>"
})"},
    {"paper-phi3-speech", R"({
  "about": "arXiv 2505.16983, figure 4: speech recognition",
  "source": "audio",
  "source_prefix": "<|system|>{instruction}:<|end|><|user|>",
  "source_suffix": "<|end|>",
  "target_prefix": "<|assistant|>",
  "target_suffix": "<|end|>"
})"},
    {"paper-llama3.1", R"({
  "about": "arXiv 2505.16983, figure 3: translation",
  "source_prefix": [
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>{instruction}:<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>"
  ],
  "source_suffix": "<|eot_id|>",
  "target_prefix": "<|start_header_id|>assistant<|end_header_id|>",
  "target_suffix": "<|eot_id|>"
})"},
    {"paper-llama3.1-speech", R"({
  "about": "arXiv 2505.16983, figure 4: speech recognition",
  "source": "audio",
  "source_prefix": [
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>{instruction}:<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>"
  ],
  "source_suffix": "<|eot_id|>",
  "target_prefix": "<|start_header_id|>assistant<|end_header_id|>",
  "target_suffix": "<|eot_id|>"
})"},
    {"paper-qwen2.5", R"({
  "about": "Qwen2.5 in the code of arXiv 2505.16983",
  "source_prefix": "<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n",
  "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n",
  "target_suffix": "<|im_end|>\n"
})"},
}};
// clang-format on

}  // namespace runnel::text::detail
