// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <llama.h>

#include <runnel/stream/load.hpp>

#include "../compute_modes.hpp"

/// \file
/// How far reduced precision moves the predictions: the mean Kullback-Leibler divergence, in nats a token, from this
/// library's f32 computation to each of its compute modes and storage types and to llama.cpp, all from one file and
/// over one text.
///
/// The text is cut into chunks of tokens, each predicted from an empty context. llama.cpp gets the same token ids.

namespace {

using namespace runnel;

struct request {
  std::string model;
  std::string text;
  std::size_t bytes = 65536;
  std::size_t chunk = 512;
  int threads = 1;
};

[[noreturn]] void usage() {
  std::fputs("usage: divergence -m FILE.gguf --text FILE [--bytes N] [--chunk TOKENS] [-t THREADS]\n", stderr);
  std::exit(2);
}

request parse(std::span<char*> words) {
  request out;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (i + 1 == words.size()) usage();
    const char* value = words[++i];
    if (word == "-m") {
      out.model = value;
    } else if (word == "--text") {
      out.text = value;
    } else if (word == "--bytes") {
      out.bytes = static_cast<std::size_t>(std::atoll(value));
    } else if (word == "--chunk") {
      out.chunk = static_cast<std::size_t>(std::max(2ll, std::atoll(value)));
    } else if (word == "-t") {
      out.threads = std::max(1, std::atoi(value));
    } else {
      usage();
    }
  }
  if (out.model.empty() || out.text.empty()) usage();
  return out;
}

/// Logits of one row after another.
using row_sink = std::function<void(std::size_t row, std::span<const float> logits)>;

/// Predicts a chunk from an empty context.
using predictor = std::function<void(std::span<const std::int32_t> tokens, const row_sink& sink)>;

predictor with_runnel(const stream::language_model& model, int threads, ops::compute_mode mode,
                      cache::storage_type storage) {
  return [&model, threads, mode, storage](std::span<const std::int32_t> tokens, const row_sink& sink) {
    constexpr std::size_t piece = 64;
    ops::eval_options options;
    options.threads = threads;
    options.compute = mode;
    ops::eval context(options);
    auto cache = model.network->make_cache(storage);
    const row_rules rules{contiguous_positions{}, false, true, model.network->config().sliding_window};
    arrivals when;
    when.read(static_cast<index_t>(tokens.size()));
    for (std::size_t begin = 0; begin < tokens.size(); begin += piece) {
      const std::size_t rows = std::min(piece, tokens.size() - begin);
      row_table table;
      std::vector<index_t> wanted;
      for (std::size_t i = 0; i < rows; ++i) {
        table.add_source(rules, when, static_cast<index_t>(begin + i));
        wanted.push_back(static_cast<index_t>(i));
      }
      const models::stream_rows streams[] = {{&cache, &table, tokens.subspan(begin, rows), wanted}};
      const auto found = model.network->forward(context, streams);
      for (std::size_t i = 0; i < rows; ++i) sink(begin + i, found.row(static_cast<index_t>(i)));
    }
  };
}

/// A model in llama.cpp.
class peer {
 public:
  explicit peer(const std::string& path) {
    llama_log_set(
        [](ggml_log_level level, const char* text, void*) {
          if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
        },
        nullptr);
    llama_backend_init();
    model_.reset(llama_model_load_from_file(path.c_str(), llama_model_default_params()));
    expect<io_error>(model_ != nullptr, "llama.cpp could not load ", path);
    vocabulary_ = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
  }

  /// With its own defaults, or with keys and values kept in f32, which leaves the products alone.
  [[nodiscard]] predictor predicts(int threads, std::size_t chunk, bool wide_cache) const {
    llama_context_params how = llama_context_default_params();
    how.n_ctx = how.n_batch = how.n_ubatch = static_cast<std::uint32_t>(chunk);
    how.n_threads = how.n_threads_batch = threads;
    if (wide_cache) {
      how.type_k = how.type_v = GGML_TYPE_F32;
      how.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    const std::shared_ptr<llama_context> context(llama_init_from_model(model_.get(), how), llama_free);
    expect<io_error>(context != nullptr, "llama.cpp made no context");
    return [context, vocabulary = vocabulary_](std::span<const std::int32_t> tokens, const row_sink& sink) {
      llama_memory_clear(llama_get_memory(context.get()), true);
      llama_batch batch = llama_batch_init(static_cast<std::int32_t>(tokens.size()), 0, 1);
      batch.n_tokens = static_cast<std::int32_t>(tokens.size());
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
      }
      const bool done = llama_decode(context.get(), batch) == 0;
      llama_batch_free(batch);
      expect<io_error>(done, "llama.cpp could not evaluate a chunk");
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        sink(i, {llama_get_logits_ith(context.get(), static_cast<std::int32_t>(i)), vocabulary});
      }
    };
  }

 private:
  struct release {
    void operator()(llama_model* one) const { llama_model_free(one); }
  };
  std::unique_ptr<llama_model, release> model_;
  std::size_t vocabulary_ = 0;
};

double log_sum_exp(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float value : logits) sum += std::exp(static_cast<double>(value) - most);
  return most + std::log(sum);
}

/// Divergence of `other` from `reference`, in nats.
double divergence(std::span<const float> reference, std::span<const float> other) {
  const double p_total = log_sum_exp(reference), q_total = log_sum_exp(other);
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - p_total;
    sum += std::exp(log_p) * (log_p - (static_cast<double>(other[i]) - q_total));
  }
  return std::max(0.0, sum);
}

std::size_t likeliest(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct tally {
  std::string name;
  predictor predicts;
  std::vector<double> values;  ///< one a token
  std::size_t same = 0;        ///< tokens with the same likeliest successor

  void print() {
    const auto count = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const double value : values) {
      sum += value;
      squares += value * value;
    }
    const double mean = sum / count;
    std::sort(values.begin(), values.end());
    std::printf("| %s | %.3e | %.1e | %.3e | %.3e | %.2f%% |\n", name.c_str(), mean,
                std::sqrt(std::max(0.0, squares / count - mean * mean) / count), values[values.size() / 2],
                values.back(), 100 * static_cast<double>(same) / count);
  }
};

std::vector<std::int32_t> read_tokens(const request& wanted, const text::tokenizer& tokenizer) {
  std::ifstream in(wanted.text, std::ios::binary);
  expect<io_error>(in.good(), "cannot read ", wanted.text);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  expect<io_error>(text.size() >= wanted.bytes, wanted.text, ": expected at least ", wanted.bytes, " bytes, found ",
                   text.size());
  text.resize(wanted.bytes);
  return tokenizer.encode(text, {false, false, false});
}

void run(const request& wanted) {
  const auto model = stream::load_model(wanted.model);
  const peer other(wanted.model);
  const auto tokens = read_tokens(wanted, *model.tokenizer);
  const auto modes = benchmarks::all_compute_modes();
  const predictor reference = with_runnel(model, wanted.threads, ops::compute_mode::f32, cache::storage_type::f32);
  std::vector<tally> all;
  for (const ops::compute_mode mode : modes) {
    if (mode == ops::compute_mode::f32 || model.network->effective(mode) != mode) continue;
    for (const auto storage : cache::storage_types) {
      all.push_back({message("runnel ", ops::name_of(mode), ", ", cache::name_of(storage), " cache"),
                     with_runnel(model, wanted.threads, mode, storage),
                     {},
                     0});
    }
  }
  all.push_back({"llama.cpp, f16 cache", other.predicts(wanted.threads, wanted.chunk, false), {}, 0});
  all.push_back({"llama.cpp, f32 cache", other.predicts(wanted.threads, wanted.chunk, true), {}, 0});

  std::vector<std::vector<float>> expected;
  std::size_t done = 0;
  while (done + 1 < tokens.size()) {
    const auto chunk = std::span(tokens).subspan(done, std::min(wanted.chunk, tokens.size() - done));
    expected.assign(chunk.size(), {});
    reference(chunk, [&](std::size_t row, std::span<const float> logits) {
      expected[row].assign(logits.begin(), logits.end());
    });
    for (tally& one : all) {
      one.predicts(chunk, [&](std::size_t row, std::span<const float> logits) {
        one.values.push_back(divergence(expected[row], logits));
        if (likeliest(expected[row]) == likeliest(logits)) ++one.same;
      });
    }
    done += chunk.size();
    std::fprintf(stderr, "\r%zu of %zu tokens", done, tokens.size());
  }
  std::fprintf(stderr, "\n");
  std::printf("%s, %zu bytes of text, %zu tokens in chunks of %zu\n\n", model.name.c_str(), wanted.bytes, done,
              wanted.chunk);
  std::puts(
      "| f32 to | mean divergence, nats | standard error | median | largest | same likeliest token |\n"
      "|---|---:|---:|---:|---:|---:|");
  for (tally& one : all) one.print();
}

}  // namespace

int main(int argc, char** argv) {
  const request wanted = parse({argv, static_cast<std::size_t>(argc)});
  try {
    run(wanted);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "divergence: %s\n", failure.what());
    return 1;
  }
}
