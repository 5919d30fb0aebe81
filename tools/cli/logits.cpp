// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <runnel/io/npy.hpp>
#include <runnel/models/decoder.hpp>

#include "command.hpp"
#include "console.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

class logits_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "logits"; }
  [[nodiscard]] const char* summary() const override {
    return "Write the logits of every token of a text to a NumPy file";
  }

  void declare(arguments& options) override {
    model_.declare(options, ops::compute_mode::f32);
    prompt_option_ = options.text("-p,--prompt", prompt_, "TEXT",
                                  "The text; the token that begins a text comes first where the model wants it");
    tokens_option_ = options.text("--tokens", tokens_, "ID,ID,...", "Token ids between commas, taken as they are")
                         .excludes(prompt_option_);
    options.flag("--parse-special", parse_special_,
                 "Take special tokens written in the prompt, such as <|im_end|>, as such");
    options.text("-o,--out", path_, "FILE.npy", "The file: float32 [tokens, vocabulary]").required();
    options.footer(
        "One plain causal pass over positions 0, 1, 2, ...: row i of the file predicts token i + 1.\n"
        "Examples:\n"
        "  runnel logits -m model.gguf -p \"The capital of France is\" -o logits.npy\n"
        "  runnel logits -m model.gguf --tokens 504,3575,282,4649,314 -o logits.npy");
  }

  void run() override {
    expect<config_error>(prompt_option_.given() || tokens_option_.given(),
                         "logits: give a text with --prompt or --tokens");
    expect<config_error>(!parse_special_ || prompt_option_.given(), "logits: --parse-special goes with --prompt");
    std::vector<std::int32_t> tokens;
    if (tokens_option_.given()) {
      for (const index_t id : parse_numbers(tokens_, "--tokens", 0)) tokens.push_back(static_cast<std::int32_t>(id));
    }
    const auto model = model_.load();
    if (!tokens_option_.given()) {
      tokens = model.tokenizer->encode(prompt_, {parse_special_, model.tokenizer->adds_bos(), parse_special_});
    }
    const auto& network = *model.network;
    const index_t vocab_size = network.config().vocab_size;
    expect<config_error>(!tokens.empty(), "logits: the text has no tokens");
    for (const std::int32_t id : tokens) {
      expect<config_error>(id < vocab_size, "--tokens: ids must be below the vocabulary of ", vocab_size, ", found ",
                           id);
    }
    const auto count = static_cast<index_t>(tokens.size());
    const index_t limit = model_.limit(model);
    expect<limit_error>(count <= limit, "logits: the text has ", count, " tokens, but the context only ", limit);
    const auto values = compute(model, tokens);
    const std::uint64_t shape[] = {tokens.size(), static_cast<std::uint64_t>(vocab_size)};
    io::write_npy<float>(path_, shape, values);
    note(message("logits [", count, ", ", vocab_size, "] in ", path_));
  }

 private:
  /// Logits of all tokens. In pieces, which changes no bit and keeps the memory of a pass small. Where a family turns
  /// long contexts by another table, the text's length decides, unless --context does.
  std::vector<float> compute(const stream::language_model& model, const std::vector<std::int32_t>& tokens) const {
    const models::decoder& network = *model.network;
    const auto uses = model_.adapters(model);
    std::vector<nn::active_adapter<nn::inference_parameters>> adapters;
    for (const auto& use : uses) adapters.push_back({use.weights.get(), use.scale});
    constexpr index_t piece = 64;
    ops::eval context(model_.compute());
    context.stop = interrupts::instance().token();
    const auto count = static_cast<index_t>(tokens.size());
    auto cache = network.make_cache(model_.storage_for(network), model_.context() != 0 ? model_.context() : count);
    const row_rules rules{contiguous_positions{}, false, true, network.config().sliding_window};
    arrivals when;
    when.read(count);
    std::vector<float> values;
    values.reserve(tokens.size() * static_cast<std::size_t>(network.config().vocab_size));
    for (index_t begin = 0; begin < count; begin += piece) {
      const index_t rows = std::min(piece, count - begin);
      row_table table;
      std::vector<index_t> wanted;
      for (index_t i = 0; i < rows; ++i) {
        table.add_source(rules, when, begin + i);
        wanted.push_back(i);
      }
      const std::span<const std::int32_t> all(tokens);
      const models::stream_rows streams[] = {
          {&cache, &table, all.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)), wanted,
           adapters}};
      const auto found = network.forward(context, streams);
      for (index_t i = 0; i < rows; ++i) values.insert(values.end(), found.row(i).begin(), found.row(i).end());
    }
    return values;
  }

  model_options model_;
  argument prompt_option_;
  argument tokens_option_;
  std::string prompt_;
  std::string tokens_;
  std::string path_;
  bool parse_special_ = false;
};

}  // namespace

std::unique_ptr<command> make_logits_command() { return std::make_unique<logits_command>(); }

}  // namespace runnel::cli
