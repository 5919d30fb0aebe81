// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/stream/session.hpp>

#include "command.hpp"
#include "console.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

class generate_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "generate"; }
  [[nodiscard]] const char* summary() const override { return "Continue a text"; }

  void declare(arguments& options) override {
    model_.declare(options);
    prompt_option_ = options.text("-p,--prompt", prompt_, "TEXT", "The text to continue");
    file_option_ = options
                       .text("-f,--file", file_, "FILE",
                             "Take the prompt from a file, without its last line break; -: standard input")
                       .excludes(prompt_option_);
    options.whole("-n,--predict", tokens_, "N", "Tokens to write at most", 1);
    options.flag("--chat", chat_, "Ask the model in its own chat format, instead of having it go on with the text");
    options.flag("--parse-special", parse_special_,
                 "Take special tokens written in the prompt, such as <|im_end|>, as such");
    format_.declare(options);
    sampling_.declare(options);
    options.footer(
        "The text goes to standard output, figures to standard error.\n"
        "Examples:\n"
        "  runnel generate -m model.gguf -p \"Once upon a time\" -n 64\n"
        "  runnel generate -m model.gguf --chat -p \"Why is the sky blue?\" --temp 0.8 --top-p 0.95 --seed 7\n"
        "  runnel generate -m model.gguf -f prompt.txt -n 200 > text.txt");
  }

  void run() override {
    expect<config_error>(prompt_option_.given() || file_option_.given(),
                         "generate: give a text with --prompt or --file");
    expect<config_error>(!(chat_ && parse_special_),
                         "generate: --parse-special is not for --chat, whose markup is the format's");
    expect<config_error>(chat_ || !format_.given(), "generate: --format is for --chat; without it there is no markup");
    std::string prompt = file_option_.given() ? read_all(file_) : prompt_;
    if (file_option_.given() && prompt.ends_with('\n')) prompt.pop_back();
    auto model = model_.load();
    format_.apply(model);
    auto session = begin(std::move(model), prompt);
    write(session);
  }

 private:
  /// A session that has read the prompt.
  stream::session begin(stream::language_model model, const std::string& prompt) {
    stream::session_options options;
    options.how = stream::batch();
    options.sampling = sampling_.get();
    options.context = model_.context();
    options.compute = model_.compute();
    options.cache_type = model_.cache_type();
    options.adapters = model_.adapters(model);
    if (!chat_) {  // nothing around the text, but the bos token that the vocabulary may want
      const std::string name = model.format.name;
      model.format = {name, "{instruction}", "", "", "", ""};
    }
    const auto tokens = chat_ ? model.word_tokens(prompt, "", true)
                              : model.tokenizer->encode(prompt, {parse_special_, false, parse_special_});
    const auto before = static_cast<index_t>(model.prompt_tokens("").size());
    const auto after = static_cast<index_t>(model.end_tokens().size() + model.header_tokens().size());
    num_prompt_ = before + static_cast<index_t>(tokens.size()) + after;
    expect<config_error>(num_prompt_ > 0,
                         "generate: the prompt is empty, and this model has no token that begins a text");
    const index_t limit = options.limit(model.context());
    expect<limit_error>(num_prompt_ <= limit, "generate: the prompt has ", num_prompt_,
                        " tokens, but the context only ", limit, "; use a shorter one",
                        limit < model.context() ? " or a larger --context" : "");
    options.max_tokens = std::min(tokens_, limit - num_prompt_ + 1);  // the last token is not computed any more
    cut_short_ = options.max_tokens < tokens_;
    start_ = seconds_now();
    stream::session session(std::move(model), std::move(options));
    session.push_tokens(tokens);
    session.finish();
    return session;
  }

  void write(stream::session& session) {
    output out;
    double first = 0;
    bool ended_line = true;
    std::optional<stream::done_reason> reason;
    const auto show = [&](const std::string& text) {
      if (text.empty()) return;
      out.write(text);
      out.flush();
      ended_line = text.back() == '\n';
    };
    const auto end_line = [&] {
      if (!ended_line) show("\n");
    };
    try {
      while (const auto happened = session.next(interrupts::instance().token())) {
        if (const auto* token = happened->get_if<stream::token_event>()) {
          if (first == 0) first = seconds_now();
          show(token->text);
        } else if (const auto* done = happened->get_if<stream::done_event>()) {
          show(done->text);
          reason = done->reason;
        }
      }
    } catch (const cancelled_error&) {
      end_line();
      report(session, first, "interrupted");
      throw;
    }
    end_line();
    const bool ended = reason == stream::done_reason::end_of_sequence;
    report(session, first, ended ? "the model ended" : cut_short_ ? "the context is full" : "all tokens written");
  }

  void report(const stream::session& session, double first, const char* why) const {
    const auto written = static_cast<double>(session.tokens().size());
    const double end = seconds_now();
    if (first == 0) first = end;
    std::string line = message("prompt: ", num_prompt_, " tokens in ", fixed(first - start_, 3), " s, ",
                               fixed(static_cast<double>(num_prompt_) / (first - start_), 1),
                               " tokens/s; written: ", session.tokens().size(), " tokens");
    if (written > 1) {
      line += message(" in ", fixed(end - first, 3), " s, ", fixed((written - 1) / (end - first), 1), " tokens/s");
    }
    note(message(line, "; ", model_.threads(), model_.threads() == 1 ? " thread; " : " threads; ", why));
  }

  model_options model_;
  sampling_options sampling_;
  format_option format_;
  argument prompt_option_;
  argument file_option_;
  std::string prompt_;
  std::string file_;
  index_t tokens_ = 256;
  bool chat_ = false;
  bool parse_special_ = false;
  index_t num_prompt_ = 0;
  bool cut_short_ = false;
  double start_ = 0;
};

}  // namespace

std::unique_ptr<command> make_generate_command() { return std::make_unique<generate_command>(); }

}  // namespace runnel::cli
