// SPDX-License-Identifier: Apache-2.0

#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

class tokenize_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "tokenize"; }
  [[nodiscard]] const char* summary() const override { return "Turn lines of text into token ids"; }

  void declare(arguments& options) override {
    declare_model(options, path_);
    prompt_option_ =
        options.text("-p,--prompt", prompt_, "TEXT", "The text; without it and --file, standard input is read");
    options.text("-f,--file", file_, "FILE", "Read this file; -: standard input").excludes(prompt_option_);
    options.flag("--parse-special", parse_special_,
                 "Take special tokens written in the text, such as <|im_end|>, as such");
    options.flag("--bos", add_bos_, "Begin each line with the token that begins a text");
    options.flag("--pieces", pieces_, "Print each token's text as well, as a JSON string after the id");
    options.footer(
        "For each line, byte for byte up to its line feed, one line of ids with spaces between them; an empty line "
        "gives an\n"
        "empty line. Only the tokenizer is loaded, so a tokenizer.json or tokenizer.model is enough for "
        "--model.\n"
        "Examples:\n"
        "  runnel tokenize -m model.gguf -p \"Hello, world\" --pieces\n"
        "  runnel tokenize -m model.gguf < corpus.txt > ids.txt");
  }

  void run() override {
    const auto vocabulary = load_tokenizer(resolve_tokenizer(path_));
    options_.parse_special = parse_special_;
    options_.parse_user_defined = true;
    options_.add_bos = add_bos_;
    expect<config_error>(!add_bos_ || vocabulary.bos(),
                         "tokenize: --bos: this vocabulary has no token that begins a text");
    if (prompt_option_.given()) {
      lines(vocabulary, prompt_.empty() ? "\n" : prompt_, true);
      out_.flush();
      return;
    }
    byte_source from(file_);
    std::string pending;
    while (!from.ended()) {
      if (!from.take(pending)) {
        out_.flush();  // whoever feeds us line by line gets each answer at once
        from.wait();
        continue;
      }
      interrupts::instance().check();
      pending.erase(0, lines(vocabulary, pending, from.ended()));
    }
    out_.flush();
  }

 private:
  /// Answers the whole lines of `text`, and what is left after them if `last`. Returns the bytes taken.
  std::size_t lines(const text::tokenizer& vocabulary, std::string_view text, bool last) {
    std::size_t begin = 0;
    while (begin < text.size()) {
      const std::size_t end = text.find('\n', begin);
      if (end == std::string_view::npos && !last) break;
      line(vocabulary, text.substr(begin, end == std::string_view::npos ? end : end - begin));
      begin = end == std::string_view::npos ? text.size() : end + 1;
    }
    return begin;
  }

  void line(const text::tokenizer& vocabulary, std::string_view text) {
    std::string shown;
    for (const std::int32_t id : vocabulary.encode(text, options_)) {
      if (!shown.empty()) shown += ' ';
      char digits[16];
      shown.append(digits, std::to_chars(digits, digits + sizeof digits, id).ptr);
      if (!pieces_) continue;
      const nlohmann::json piece = std::string(vocabulary.piece(id));
      shown += ':' + piece.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
    shown += '\n';
    out_.write(shown);
  }

  std::string path_;
  argument prompt_option_;
  std::string prompt_;
  std::string file_ = "-";
  bool parse_special_ = false;
  bool add_bos_ = false;
  bool pieces_ = false;
  text::encode_options options_;
  output out_;
};

}  // namespace

std::unique_ptr<command> make_tokenize_command() { return std::make_unique<tokenize_command>(); }

}  // namespace runnel::cli
