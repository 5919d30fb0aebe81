// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/text/tokenizer_data.hpp>

namespace runnel::text {

/// The vocabulary in the metadata of a GGUF file: `tokenizer.ggml.model` "gpt2", which means byte-level BPE. GGUF does
/// not say whether a vocabulary normalises text or ignores merges; both follow from the name of its pre-tokenizer.
/// \throws format_error naming file and key
[[nodiscard]] inline tokenizer_data read_tokenizer_gguf(const io::gguf_file& file) {
  tokenizer_data data;
  data.source_name = file.name();
  const auto model = file.string("tokenizer.ggml.model");
  expect<format_error>(model == "gpt2", file.name(), ": tokenizer.ggml.model \"", model,
                       "\" is not supported yet, expected \"gpt2\" (byte-level BPE)");
  const auto pre = file.string("tokenizer.ggml.pre");
  data.pre_tokenizer = find_pre_tokenizer(pre, file.name() + ": tokenizer.ggml.pre");
  data.nfc = pre == "qwen2";
  data.ignore_merges = data.pre_tokenizer == pre_tokenizer_kind::llama3;

  const auto tokens = file.strings("tokenizer.ggml.tokens");
  data.tokens.assign(tokens.begin(), tokens.end());
  if (file.contains("tokenizer.ggml.token_type")) {
    const auto types = file.numbers<std::int32_t>("tokenizer.ggml.token_type");
    data.types.reserve(types.size());
    for (const auto type : types) data.types.push_back(static_cast<token_type>(type));
    expect<format_error>(types.size() == tokens.size(), file.name(), ": tokenizer.ggml.token_type has ", types.size(),
                         " elements for ", tokens.size(), " tokens");
  }

  const auto merges = file.strings("tokenizer.ggml.merges");
  data.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto space = merges[i].find(' ', 1);
    expect<format_error>(space != std::string_view::npos, file.name(), ": tokenizer.ggml.merges[", i,
                         "]: expected two tokens and a space, found \"", merges[i], '"');
    data.merges.emplace_back(merges[i].substr(0, space), merges[i].substr(space + 1));
  }

  const auto id_at = [&](std::string_view key) -> std::optional<std::int32_t> {
    if (!file.contains(key)) return {};
    const auto id = file.get<std::int64_t>(key);
    expect<format_error>(id >= 0 && static_cast<std::uint64_t>(id) < tokens.size(), file.name(), ": ", key, ' ', id,
                         " is outside the vocabulary of ", tokens.size());
    return static_cast<std::int32_t>(id);
  };
  data.bos = id_at("tokenizer.ggml.bos_token_id");
  data.unknown = id_at("tokenizer.ggml.unknown_token_id");
  data.padding = id_at("tokenizer.ggml.padding_token_id");
  for (const auto* const name : {"eos", "eot", "eom"}) {
    if (const auto id = id_at(message("tokenizer.ggml.", name, "_token_id"))) data.eos_ids.push_back(*id);
  }
  data.add_bos = file.get_or<bool>("tokenizer.ggml.add_bos_token",
                                   data.pre_tokenizer == pre_tokenizer_kind::llama3 && data.bos.has_value());
  data.chat_template = file.get_or<std::string>("tokenizer.chat_template", {});
  return data;
}

}  // namespace runnel::text
