// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include <llama.h>

/// \file
/// The streaming step of `runnel bench` in llama.cpp, as well batched as its API allows: a word of three tokens read,
/// with the last target token fed again in the same batch, and one of two tokens written, in a context that is there
/// already.
///
/// Its keys carry positions of one sequence, so it cannot give source and target rows positions of their own; the work
/// is the same. Prints the seconds of each step, one a line.

namespace {

struct request {
  const char* model = nullptr;
  int threads = 1;
  int depth = 256;
  int steps = 40;
  int flash_attention = 1;
};

[[noreturn]] void usage() {
  std::fputs("usage: llama_stream -m FILE.gguf [-t THREADS] [-d DEPTH] [-r STEPS] [-fa 0|1]\n", stderr);
  std::exit(2);
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "llama_stream: llama.cpp %s\n", what);
  std::exit(1);
}

request parse(std::span<char*> words) {
  request out;
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    const std::string_view word = words[i];
    if (word == "-m") {
      out.model = words[i + 1];
    } else if (word == "-t") {
      out.threads = std::max(1, std::atoi(words[i + 1]));
    } else if (word == "-d") {
      out.depth = std::max(2, std::atoi(words[i + 1]));
    } else if (word == "-r") {
      out.steps = std::max(1, std::atoi(words[i + 1]));
    } else if (word == "-fa") {
      out.flash_attention = std::atoi(words[i + 1]);
    } else {
      usage();
    }
  }
  if (words.size() % 2 == 0 || out.model == nullptr) usage();
  return out;
}

class stream {
 public:
  explicit stream(const request& wanted) {
    llama_log_set(
        [](ggml_log_level level, const char* text, void*) {
          if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
        },
        nullptr);
    llama_backend_init();
    model_ = llama_model_load_from_file(wanted.model, llama_model_default_params());
    if (model_ == nullptr) fail("could not load the model");
    llama_context_params how = llama_context_default_params();
    how.n_ctx = static_cast<std::uint32_t>(wanted.depth + 16);
    how.n_batch = how.n_ubatch = 512;
    how.n_threads = how.n_threads_batch = wanted.threads;
    how.flash_attn_type = wanted.flash_attention != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_ = llama_init_from_model(model_, how);
    if (context_ == nullptr) fail("made no context");
    vocabulary_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    for (int done = 0; done < wanted.depth; done += 256) evaluate(done, std::min(256, wanted.depth - done));
    depth_ = wanted.depth;
  }
  ~stream() {
    llama_free(context_);
    llama_model_free(model_);
  }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  /// One step; leaves the context as it was.
  void step() {
    go_back(depth_ - 1);
    evaluate(depth_ - 1, 4);
    evaluate(depth_ + 3, 1);
    evaluate(depth_ + 4, 1);
    go_back(depth_);
  }

 private:
  void go_back(int length) { llama_memory_seq_rm(llama_get_memory(context_), 0, length, -1); }

  /// Tokens at positions [first, first + count), with the logits of the last.
  void evaluate(int first, int count) {
    tokens_.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) tokens_[static_cast<std::size_t>(i)] = ((first + i) * 977 + 5) % vocabulary_;
    if (llama_decode(context_, llama_batch_get_one(tokens_.data(), count)) != 0) fail("could not evaluate a batch");
    if (llama_get_logits_ith(context_, -1) == nullptr) fail("gave no logits");
  }

  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  std::int32_t vocabulary_ = 0;
  int depth_ = 0;
  std::vector<llama_token> tokens_;
};

}  // namespace

int main(int argc, char** argv) {
  const request wanted = parse({argv, static_cast<std::size_t>(argc)});
  stream one(wanted);
  for (int i = 0; i < 5; ++i) one.step();  // warms up
  for (int i = 0; i < wanted.steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    one.step();
    std::printf("%.9f\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}
