// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/models/decoder.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/stream/plan.hpp>

#include "command.hpp"
#include "console.hpp"
#include "median.hpp"
#include "model_file.hpp"
#include "options.hpp"
#include "training_setup.hpp"

namespace runnel::cli {

namespace {

/// Median distance from the median.
double deviation(const std::vector<double>& values) {
  const double center = median(values);
  std::vector<double> distances;
  for (const double value : values) distances.push_back(std::abs(value - center));
  return median(std::move(distances));
}

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::string compiler_name() {
#if defined(__clang__)
  return message("Clang ", __clang_major__, '.', __clang_minor__, '.', __clang_patchlevel__);
#elif defined(__GNUC__)
  return message("GCC ", __GNUC__, '.', __GNUC_MINOR__, '.', __GNUC_PATCHLEVEL__);
#else
  return "unknown compiler";
#endif
}

bool is_optimised() {
#if defined(__OPTIMIZE__)
  return true;
#else
  return false;
#endif
}

/// One row of the report.
struct measurement {
  std::string test;
  int threads = 1;
  index_t tokens = 0;   ///< of one repetition
  index_t streams = 1;  ///< that decode together
  std::vector<double> seconds;

  [[nodiscard]] std::vector<double> rates() const {
    std::vector<double> all;
    for (const double s : seconds) all.push_back(static_cast<double>(tokens) / s);
    return all;
  }
};

/// The three kinds of work, straight on the decoder: prefill, decode, and a word in and a word out.
class workbench {
 public:
  workbench(const models::decoder& network, const ops::eval_options& options, cache::storage_type storage)
      : network_(network),
        context_(options),
        cache_(network.make_cache(storage)),
        rules_(stream::group_streaming().rules(network.config().sliding_window)) {
    context_.stop = interrupts::instance().token();
  }

  /// `count` tokens in one pass; logits of the last.
  void prefill(index_t count) {
    clear();
    read(count);
    forward(0, count, 0, 0, true);
  }

  /// Fills the context for `decode`.
  void prepare_decoding(index_t depth) {
    others_.clear();
    clear();
    constexpr index_t most = 512;
    for (index_t i = 0; i < depth; i += most) {
      const index_t rows = std::min(most, depth - i);
      read(rows);
      forward(i, rows, 0, 0, false);
    }
    depth_ = depth;
  }

  /// So many streams decode together from now on, each with a copy of the context.
  void set_streams(index_t streams) {
    others_.resize(std::min(others_.size(), static_cast<std::size_t>(streams - 1)));
    while (1 + static_cast<index_t>(others_.size()) < streams) others_.push_back(cache_.snapshot());
  }

  /// `count` tokens one after another, each with logits, of every stream: a pass holds one of each. Leaves the contexts
  /// as they were.
  void decode(index_t count) {
    for (index_t i = 0; i < count; ++i) {
      read(1);
      forward(depth_ + i, 1, 0, 0, true);
    }
    for (auto& other : others_) other.truncate(group::source, depth_);
    cache_.truncate(group::source, depth_);
    when_.rewind(depth_, 0);
  }

  /// Fills the context for `step`: two thirds source, one third target.
  void prepare_steps(index_t length) {
    others_.clear();
    clear();
    target_ = std::max<index_t>(1, length / 3);
    source_ = std::max<index_t>(1, length - target_);
    read(source_);
    for (index_t i = 0; i < target_; ++i) when_.write();
    forward(0, source_, 0, target_, false);
  }

  /// One step of group-streaming: reads a word of three tokens (with the last target row fed again, in one pass),
  /// writes a word of two. The third pass is what shows that the word has ended. Leaves the context as it was.
  void step() {
    read(3);
    cache_.truncate(group::target, target_ - 1);
    forward(source_, 3, target_ - 1, 1, true);
    for (index_t i = 0; i < 2; ++i) {
      when_.write();
      forward(0, 0, target_ + i, 1, true);
    }
    cache_.truncate(group::source, source_);
    cache_.truncate(group::target, target_);
    when_.rewind(source_, target_);
  }

 private:
  void clear() {
    cache_.truncate(group::source, 0);
    cache_.truncate(group::target, 0);
    when_ = {};
  }

  void read(index_t rows) { when_.read(rows); }

  /// One pass over source rows [source, source + num_source) and target rows [target, target + num_target).
  void forward(index_t source, index_t num_source, index_t target, index_t num_target, bool predicts) {
    row_table rows;
    std::vector<std::int32_t> tokens;
    const auto some_token = [&](index_t i) {
      return static_cast<std::int32_t>((i * 977 + 5) % network_.config().vocab_size);
    };
    for (index_t i = 0; i < num_source; ++i) {
      rows.add_source(rules_, when_, source + i);
      tokens.push_back(some_token(source + i));
    }
    for (index_t i = 0; i < num_target; ++i) {
      rows.add_target(rules_, when_, target + i);
      tokens.push_back(some_token(target + i + 7));
    }
    std::vector<index_t> wanted;
    if (predicts) wanted.push_back(num_source + num_target - 1);
    std::vector<models::stream_rows> streams{{&cache_, &rows, tokens, wanted}};
    for (auto& other : others_) streams.push_back({&other, &rows, tokens, wanted});
    static_cast<void>(network_.forward(context_, streams));
  }

  const models::decoder& network_;
  ops::eval context_;
  cache::key_value_cache cache_;
  std::vector<cache::key_value_cache> others_;  // of streams that decode together with the first
  row_rules rules_;
  arrivals when_;
  index_t depth_ = 0;
  index_t source_ = 0;
  index_t target_ = 0;
};

class bench_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "bench"; }
  [[nodiscard]] const char* summary() const override { return "Measure prefill, decoding and the streaming step"; }

  void declare(arguments& options) override {
    declare_model(options, path_);
    options.text("-p,--n-prompt", prefill_, "N,N,...", "Lengths of prefill, between commas; 0: none");
    options.text("-n,--n-gen", decode_, "N,N,...", "Lengths of decoding, between commas; 0: none");
    options.text("--decode-depth", depths_, "N,N,...", "Tokens of context that decoding begins with, between commas");
    options.text("--n-parallel", parallel_, "N,N,...", "Streams that decode together, between commas");
    options.whole("-d,--depth", depth_, "N",
                  "Context of the streaming step (a word of 3 tokens read, one of 2 written); 0: none");
    options.whole("-r,--repetitions", repetitions_, "N", "Repetitions of each, after a warm-up", 1, 100000);
    options.text("-t,--threads", threads_, "N,N,...", "Numbers of threads, between commas; 0: one a processor")
        .environment("RUNNEL_ARG_THREADS");
    compute_.declare(options, ops::fastest_compute);
    cache_type_.declare(options);
    options.text("-o,--output", output_, "FORM", "How to print: md, csv or json").one_of({"md", "csv", "json"});
    options.footer(
        "Prefill (pp) is one pass over N tokens from an empty context, decoding (tg) N passes over one, from an empty "
        "one\n"
        "or, as 'tg64 @ 4096', with so many tokens of --decode-depth there; 'tg64 x 8' is of 8 streams. Figures are\n"
        "medians over repetitions, with the median distance from them; tokens/s of the streaming step counts written "
        "tokens.\n"
        "Examples:\n"
        "  runnel bench -m model.gguf\n"
        "  runnel bench -m model.gguf -t 1,2,4 -p 512 -n 128 -d 0 -r 10 -o csv > figures.csv");
  }

  void run() override {
    const auto prefill = lengths(prefill_, "--n-prompt");
    const auto decode = lengths(decode_, "--n-gen");
    const auto depths = parse_numbers(depths_, "--decode-depth", 0);
    const auto parallel = parse_numbers(parallel_, "--n-parallel", 1);
    for (const index_t streams : parallel) {
      expect<config_error>(streams <= 1024, "--n-parallel: expected at most 1024, found ", streams);
    }
    std::vector<int> thread_counts;
    for (const index_t count : parse_numbers(threads_, "--threads", 0)) {
      expect<config_error>(count <= 1024, "--threads: expected at most 1024, found ", count);
      thread_counts.push_back(threads_for(count));
    }
    const auto path = resolve_model(path_);
    const auto model = load_model_at(path);
    for (const auto* list : {&prefill, &decode}) {
      for (const index_t n : *list) {
        expect<config_error>(n <= model.context(), "bench: a test of ", n,
                             " tokens does not fit the model's context of ", model.context());
      }
    }
    for (const index_t depth : depths) {
      const index_t longest = decode.empty() ? 0 : *std::max_element(decode.begin(), decode.end());
      expect<config_error>(depth + longest <= model.context(), "--decode-depth: expected at most ",
                           model.context() - longest, " in the model's context of ", model.context(), ", found ",
                           depth);
    }
    expect<config_error>(depth_ + 8 <= model.context(), "--depth: expected at most ", model.context() - 8, ", found ",
                         depth_);
    if (!decode.empty()) {
      const auto most = [](const std::vector<index_t>& all) { return *std::max_element(all.begin(), all.end()); };
      expect_room(*model.network, most(depths) + most(decode), most(parallel));
    }
    if (!is_optimised()) note("this program was compiled without optimisation; its figures say nothing");
    for (const int threads : thread_counts) measure(model, threads, prefill, decode, depths, parallel);
    progress_.clear();
    report(model, path);
  }

 private:
  [[nodiscard]] cache::storage_type storage_of(const models::decoder& network) const {
    return cache_type_.type().value_or(network.storage_for(compute_.mode()));
  }

  static std::vector<index_t> lengths(const std::string& text, std::string_view option) {
    auto all = parse_numbers(text, option, 0);
    std::erase(all, 0);
    return all;
  }

  /// Throws config_error if keys and values of so many streams of this length do not fit in memory.
  void expect_room(const models::decoder& network, index_t length, index_t streams) const {
    auto page = network.make_cache(storage_of(network));
    page.reserve(group::source, 1);
    const auto pages = static_cast<double>((length + kernels::page_keys - 1) / kernels::page_keys);
    const double size = pages * static_cast<double>(page.capacity_bytes()) * static_cast<double>(streams);
    const auto there = available_memory();
    expect<config_error>(!there || size < 0.9 * static_cast<double>(*there), "--n-parallel: ", streams,
                         " streams take ", in_megabytes(size), " of keys and values, there are ",
                         in_megabytes(static_cast<double>(there.value_or(0))));
  }

  void measure(const stream::language_model& model, int threads, const std::vector<index_t>& prefill,
               const std::vector<index_t>& decode, const std::vector<index_t>& depths,
               const std::vector<index_t>& parallel) {
    ops::eval_options options;
    options.threads = threads;
    options.compute = compute_.mode();
    workbench bench(*model.network, options, storage_of(*model.network));
    for (const index_t n : prefill) repeat(message("pp", n), threads, n, 1, [&] { bench.prefill(n); });
    for (const index_t depth : depths) {
      if (decode.empty()) break;
      const std::string at = depth == 0 ? "" : message(" @ ", depth);
      bench.prepare_decoding(depth);
      for (const index_t streams : parallel) {
        bench.set_streams(streams);
        const std::string times = streams == 1 ? "" : message(" x ", streams);
        for (const index_t n : decode) {
          repeat(message("tg", n, times, at), threads, n * streams, 1, [&] { bench.decode(n); });
          measured_.back().streams = streams;
        }
      }
    }
    if (depth_ == 0) return;
    bench.prepare_steps(depth_);
    constexpr int steps = 8;  // enough for a 95th percentile
    repeat(message("stream 3+2 @ ", depth_), threads, 2, steps, [&] { bench.step(); });
  }

  /// Times `work`, `inner` times for each repetition, after so long a warm-up that sleeping processors are awake.
  void repeat(const std::string& test, int threads, index_t tokens, int inner, const std::function<void()>& work) {
    constexpr double warm_up_s = 0.3;
    measurement one{test, threads, tokens, 1, {}};
    const auto show = [&](std::int64_t i) {
      interrupts::instance().check();
      progress_.show(message(test, ", ", threads, threads == 1 ? " thread, " : " threads, ", i, " of ", repetitions_));
    };
    show(0);
    for (const double begin = seconds_now(); seconds_now() - begin < warm_up_s;) work();
    for (std::int64_t i = 1; i <= repetitions_; ++i) {
      show(i);
      for (int j = 0; j < inner; ++j) {
        const double begin = seconds_now();
        work();
        one.seconds.push_back(seconds_now() - begin);
      }
    }
    measured_.push_back(std::move(one));
  }

  void report(const stream::language_model& model, const std::filesystem::path& path) {
    const auto sum = model_file(path).sum();
    nlohmann::ordered_json context{
        {"model", model.name},
        {"format", sum.main_type()},
        {"parameters", sum.elements},
        {"file_bytes", sum.bytes},
        {"weight_bytes", model.network->weight_bytes()},
        {"processor", processor_name()},
        {"instruction_set", runnel::name_of(best_instruction_set)},
        {"compute", ops::name_of(model.network->effective(compute_.mode()))},
        {"cache_type", cache::name_of(storage_of(*model.network))},
        {"compiler", compiler_name()},
        {"optimised", is_optimised()},
        {"version", message(RUNNEL_VERSION_MAJOR, '.', RUNNEL_VERSION_MINOR, '.', RUNNEL_VERSION_PATCH)},
        {"repetitions", repetitions_}};
    output out;
    if (output_ == "json") {
      out.write(as_json(context) + "\n");
    } else if (output_ == "csv") {
      out.write(as_csv(context));
    } else {
      out.write(as_table(context));
    }
    out.flush();
  }

  [[nodiscard]] std::string as_json(const nlohmann::ordered_json& context) const {
    nlohmann::ordered_json all{{"context", context}, {"benchmarks", nlohmann::ordered_json::array()}};
    for (const auto& one : measured_) {
      nlohmann::ordered_json samples = nlohmann::ordered_json::array();
      for (const double s : one.seconds) samples.push_back(std::llround(s * 1e9));
      all["benchmarks"].push_back({{"name", one.test},
                                   {"threads", one.threads},
                                   {"tokens", one.tokens},
                                   {"streams", one.streams},
                                   {"median_ns", std::llround(median(one.seconds) * 1e9)},
                                   {"mad_ns", std::llround(deviation(one.seconds) * 1e9)},
                                   {"p95_ns", std::llround(percentile(one.seconds, 0.95) * 1e9)},
                                   {"median_tokens_per_s", median(one.rates())},
                                   {"mad_tokens_per_s", deviation(one.rates())},
                                   {"samples_ns", samples}});
    }
    return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }

  [[nodiscard]] std::string as_csv(const nlohmann::ordered_json& context) const {
    const auto quoted = [](std::string text) {
      for (std::size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at + 2))
        text.insert(at, 1, '"');
      return '"' + text + '"';
    };
    std::string names, values;
    for (const auto& [key, value] : context.items()) {
      names += key + ",";
      values += (value.is_string() ? quoted(value.get<std::string>()) : value.dump()) + ",";
    }
    std::string all = names + "test,threads,tokens,median_ms,mad_ms,median_tokens_per_s,mad_tokens_per_s\n";
    for (const auto& one : measured_) {
      all += values + message(quoted(one.test), ",", one.threads, ",", one.tokens, ",",
                              fixed(median(one.seconds) * 1e3, 4), ",", fixed(deviation(one.seconds) * 1e3, 4), ",",
                              fixed(median(one.rates()), 3), ",", fixed(deviation(one.rates()), 3), "\n");
    }
    return all;
  }

  [[nodiscard]] std::string as_table(const nlohmann::ordered_json& context) const {
    const auto text = [&](const char* key) { return context.at(key).get<std::string>(); };
    std::string all =
        message("runnel ", text("version"), ", ", text("compiler"), is_optimised() ? "" : " without optimisation",
                "; instruction set ", text("instruction_set"), "; compute ", text("compute"), "; cache ",
                text("cache_type"), "; ", text("processor"),
                "\n\n| model | format | parameters | size | threads | test | ms | ± | tokens/s | ± |\n"
                "|---|---|---:|---:|---:|---|---:|---:|---:|---:|\n");
    const std::string size = in_megabytes(context.at("file_bytes").get<double>());
    const std::string parameters = fixed(context.at("parameters").get<double>() / 1e6, 1) + " M";
    for (const auto& one : measured_) {
      all += message("| ", printable(text("model")), " | ", text("format"), " | ", parameters, " | ", size, " | ",
                     one.threads, " | ", one.test, " | ", fixed(median(one.seconds) * 1e3, 2), " | ",
                     fixed(deviation(one.seconds) * 1e3, 2), " | ", fixed(median(one.rates()), 2), " | ",
                     fixed(deviation(one.rates()), 2), " |\n");
    }
    return all;
  }

  std::string path_;
  std::string prefill_ = "16,128,512";
  std::string decode_ = "64,128";
  std::string depths_ = "0";
  std::string parallel_ = "1";
  std::string threads_ = "0";
  cache_type_option cache_type_;
  compute_option compute_;
  std::string output_ = "md";
  index_t depth_ = 256;
  std::int64_t repetitions_ = 5;
  std::vector<measurement> measured_;
  progress progress_;
};

}  // namespace

std::unique_ptr<command> make_bench_command() { return std::make_unique<bench_command>(); }

}  // namespace runnel::cli
