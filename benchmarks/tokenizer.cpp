// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/io/gguf.hpp>
#include <runnel/text/incremental_detokenizer.hpp>
#include <runnel/text/streaming_tokenizer.hpp>
#include <runnel/text/tokenizer_file.hpp>
#include <runnel/text/tokenizer_gguf.hpp>

#include "support.hpp"

/// \file
/// Text to tokens and back, on one thread.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

struct setup {
  std::string vocabulary;
  std::string text;
  std::string task;
  index_t bytes = 1;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "tokenizer/" + task + "/vocabulary:" + std::filesystem::path(vocabulary).filename().string() +
           "/text:" + std::filesystem::path(text).filename().string() + "/bytes:" + std::to_string(bytes);
  }
};

/// A name of one of the tests' small vocabularies, a tokenizer.json, tokenizer.model or GGUF file.
text::tokenizer read_vocabulary(const std::string& name) {
  const auto small = std::filesystem::path(RUNNEL_TOKENIZERS) / name / "tokenizer.json";
  if (std::filesystem::exists(small)) return text::tokenizer(text::read_tokenizer_json(small));
  const std::filesystem::path path(name);
  if (path.extension() != ".gguf") return text::tokenizer(text::read_tokenizer(path));
  return text::tokenizer(text::read_tokenizer_gguf(io::gguf_file(path)));
}

/// `bytes` of text: a file's, over and over, or built-in sentences in several scripts.
std::string read_text(const std::string& name, index_t bytes) {
  std::string once =
      "The river had risen overnight, and by 6:30 a.m. nobody could say who'd closed the gates. Die Fl\xC3\xBC"
      "chtenden "
      "warteten seit Stunden am Ufer; \xD0\xBD\xD0\xB8\xD0\xBA\xD1\x82\xD0\xBE \xD0\xBD\xD0\xB5 \xD0\xB7\xD0\xBD\xD0"
      "\xB0\xD0\xBB, \xE6\xB2\xB3\xE6\xB0\xB4\xE4\xBD\x95\xE6\x97\xB6\xE9\x80\x80\xE5\x8E\xBB\xE3\x80\x82 It cost "
      "$1,299.95 (about 12% more than in 2019).\n\n    for (int i = 0; i < n; ++i) total += price[i];\n";
  if (name != "mixed") {
    std::ifstream in(name, std::ios::binary);
    if (!in) parameters::fail("cannot read " + name);
    once = std::string(std::istreambuf_iterator<char>(in), {});
    if (once.empty()) parameters::fail(name + " is empty");
  }
  std::string text;
  while (static_cast<index_t>(text.size()) < bytes) text += once;
  text.resize(static_cast<std::size_t>(bytes));
  return text;
}

void measure(benchmark::State& state, const setup& with) {
  const auto vocabulary = read_vocabulary(with.vocabulary);
  const std::string text = read_text(with.text, with.bytes);
  const auto tokens = vocabulary.encode(text);
  const auto run = [&](auto&& once) {
    once();
    const auto begin = std::chrono::steady_clock::now();
    for (auto _ : state) once();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const double seconds = took.count() / static_cast<double>(state.iterations());
    state.counters["MB/s"] = static_cast<double>(text.size()) / seconds / 1e6;
    state.counters["tokens/s"] = static_cast<double>(tokens.size()) / seconds;
  };
  if (with.task == "encode") {
    run([&] { benchmarks::keep(vocabulary.encode(text).data()); });
  } else if (with.task == "lines") {
    std::vector<std::string_view> lines;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      lines.push_back(std::string_view(text).substr(at, end - at));
      at = end + 1;
    }
    run([&] {
      for (const auto line : lines) benchmarks::keep(vocabulary.encode(line).data());
    });
  } else if (with.task == "stream") {
    run([&] {
      text::streaming_tokenizer stream(vocabulary);
      std::size_t length = 0;
      for (std::size_t at = 0; at < text.size(); at += 8) {
        length += stream.push(std::string_view(text).substr(at, 8)).size();
      }
      length += stream.finish().size();
      benchmark::DoNotOptimize(length);
    });
  } else if (with.task == "decode") {
    run([&] { benchmarks::keep(vocabulary.decode(tokens).data()); });
  } else {
    run([&] {
      text::incremental_detokenizer words(vocabulary);
      std::size_t length = 0;
      for (const std::int32_t token : tokens) length += words.push(token).size();
      benchmark::DoNotOptimize(length);
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  parameters given("Text to tokens and back, on one thread.", argc, argv);
  std::vector<setup> all{setup{}};
  vary(all,
       given.words("vocabulary", "gpt2,smollm,llama3,qwen2,llama2,gemma",
                   "small vocabularies of the tests; or a tokenizer.json, tokenizer.model or GGUF file"),
       &setup::vocabulary);
  vary(all, given.words("text", "mixed", "mixed: a few sentences, repeated; or a file"), &setup::text);
  vary(all, given.numbers("bytes", "32,4096,65536", "length of the text"), &setup::bytes);
  vary(all,
       given.words("task", "encode,lines,stream,decode,detokenize",
                   "lines: each by itself; stream: from 8 bytes at a time; detokenize: token by token, as they are "
                   "generated"),
       &setup::task);
  given.done();
  for (const setup& one : all) {
    const bool known = one.task == "encode" || one.task == "lines" || one.task == "stream" || one.task == "decode" ||
                       one.task == "detokenize";
    if (!known) parameters::fail("unknown task " + one.task);
  }
  benchmarks::run(all, measure);
}
