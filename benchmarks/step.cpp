// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <runnel/models/decoder.hpp>
#include <runnel/models/gguf_model.hpp>
#include <runnel/stream/plan.hpp>

#include "compute_modes.hpp"
#include "support.hpp"

/// \file
/// Passes of a whole decoder: prefill, decoding, and the step of a live stream, by format, compute mode and depth.
///
/// The decoder has random weights in the shape of a small language model, or is read from a file.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

struct setup {
  std::string model;
  std::string format;
  std::string compute;
  std::string task;
  index_t rows = 1;
  index_t depth = 0;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "step/" + (model == "random" ? format : std::filesystem::path(model).stem().string()) +
           "/compute:" + compute + "/" + task + "/rows:" + std::to_string(rows) + "/depth:" + std::to_string(depth) +
           "/threads:" + std::to_string(threads);
  }
  [[nodiscard]] ops::compute_mode mode() const {
    const auto found = benchmarks::compute_mode_named(compute);
    if (!found) parameters::fail("unknown compute mode " + compute);
    return *found;
  }
};

/// A decoder of 135 million parameters whose values mean nothing.
class random_decoder {
 public:
  explicit random_decoder(quant::weight_format format) : format_(format) {}

  [[nodiscard]] std::shared_ptr<const models::decoder> make() {
    models::model_config config;
    config.model_type = "llama";
    config.vocab_size = 49152;
    config.hidden_size = 576;
    config.intermediate_size = 1536;
    config.num_hidden_layers = 30;
    config.num_attention_heads = 9;
    config.num_key_value_heads = 3;
    config.head_dim = 64;
    config.max_position_embeddings = 8192;
    config.tie_word_embeddings = true;
    config.rope.dimension = config.head_dim;
    config.rope.theta = 10000;
    const index_t hidden = config.hidden_size, mlp = config.intermediate_size;
    const index_t queries = config.num_attention_heads * config.head_dim;
    const index_t keys = config.num_key_value_heads * config.head_dim;
    models::decoder_weights<nn::inference_parameters> weights;
    weights.embedding.weight = matrix(config.vocab_size, hidden);
    weights.norm.weight = ones(hidden);
    for (index_t i = 0; i < config.num_hidden_layers; ++i) {
      nn::decoder_layer<nn::inference_parameters> layer;
      layer.attention_norm.weight = ones(hidden);
      layer.mlp_norm.weight = ones(hidden);
      layer.attention.query.weight = matrix(queries, hidden);
      layer.attention.key.weight = matrix(keys, hidden, models::key_planes);
      layer.attention.value.weight = matrix(keys, hidden, models::value_planes);
      layer.attention.output.weight = matrix(hidden, queries);
      layer.attention.scores.heads = config.num_attention_heads;
      layer.attention.scores.kv_heads = config.num_key_value_heads;
      layer.attention.scores.head_dim = config.head_dim;
      layer.attention.scores.scale = 0.125f;
      layer.mlp.gate.weight = matrix(mlp, hidden);
      layer.mlp.up.weight = matrix(mlp, hidden);
      layer.mlp.down.weight = matrix(hidden, mlp);
      weights.layers.push_back(std::move(layer));
    }
    return std::make_shared<const models::decoder>(std::move(config), std::move(weights));
  }

 private:
  ops::prepared_matrix matrix(index_t outputs, index_t inputs, const ops::input_planes& planes = {}) {
    const double scale = std::sqrt(3.0 / static_cast<double>(inputs));
    std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
    for (float& value : values) value = static_cast<float>((2 * random_.uniform() - 1) * scale);
    std::vector<std::byte> bytes(quant::bytes_for(format_, values.size()));
    quant::encode(format_, values.data(), values.size(), bytes.data());
    return ops::prepared_matrix::prepare({format_, outputs, inputs, bytes, {}, planes});
  }

  static tensor<float, 1> ones(index_t size) {
    tensor<float, 1> out({size});
    for (index_t i = 0; i < size; ++i) out(i) = 1;
    return out;
  }

  quant::weight_format format_;
  random_stream random_{1};
};

/// Kept for the next benchmark, which mostly wants the same.
std::shared_ptr<const models::decoder> decoder_for(const setup& with) {
  static std::pair<std::string, std::shared_ptr<const models::decoder>> last;
  const std::string key = with.model == "random" ? with.format : with.model;
  if (last.first == key) return last.second;
  last = {};
  if (with.model == "random") {
    const auto format = quant::from_name(with.format);
    if (!format) parameters::fail("unknown format " + with.format);
    last = {key, random_decoder(*format).make()};
  } else {
    const io::gguf_file file{std::filesystem::path(with.model)};
    last = {key, std::make_shared<const models::decoder>(models::load_gguf_decoder(file))};
  }
  return last.second;
}

/// One stream: two thirds of its depth are source, a third is target.
class live_stream {
 public:
  live_stream(const models::decoder& network, const setup& with)
      : network_(network),
        context_(ops::eval_options{.threads = with.threads, .compute = with.mode()}),
        cache_(network.make_cache(network.storage_for(with.mode()))),
        rules_(stream::group_streaming().rules()),
        target_(with.depth / 3),
        source_(with.depth - target_) {
    when_.read(source_);
    for (index_t i = 0; i < target_; ++i) when_.write();
    if (with.depth > 0) forward(0, source_, 0, target_, false);
  }

  /// A word of `rows` tokens is read, in one pass.
  void read(index_t rows) {
    when_.read(rows);
    forward(source_, rows, 0, 0, true);
    go_back();
  }

  /// `rows` tokens are written, one pass each.
  void write(index_t rows) {
    for (index_t i = 0; i < rows; ++i) {
      when_.write();
      forward(0, 0, target_ + i, 1, true);
    }
    go_back();
  }

  /// A word is read, with the last target row fed again in the same pass, and one of two tokens is written.
  void turn(index_t rows) {
    when_.read(rows);
    const index_t again = target_ > 0 ? 1 : 0;
    cache_.truncate(group::target, target_ - again);
    forward(source_, rows, target_ - again, again, true);
    write(2);
  }

 private:
  void go_back() {
    cache_.truncate(group::source, source_);
    cache_.truncate(group::target, target_);
    when_.rewind(source_, target_);
  }

  void forward(index_t source, index_t num_source, index_t target, index_t num_target, bool predicts) {
    row_table rows;
    std::vector<std::int32_t> tokens;
    const auto add = [&](index_t i) {
      tokens.push_back(static_cast<std::int32_t>((i * 977 + 5) % network_.config().vocab_size));
    };
    for (index_t i = source; i < source + num_source; ++i) {
      rows.add_source(rules_, when_, i);
      add(i);
    }
    for (index_t i = target; i < target + num_target; ++i) {
      rows.add_target(rules_, when_, i);
      add(i + 7);
    }
    std::vector<index_t> wanted;
    if (predicts) wanted.push_back(num_source + num_target - 1);
    const models::stream_rows streams[] = {{&cache_, &rows, tokens, wanted}};
    benchmarks::keep(network_.forward(context_, streams).data());
  }

  const models::decoder& network_;
  ops::eval context_;
  cache::key_value_cache cache_;
  row_rules rules_;
  arrivals when_;
  index_t target_;
  index_t source_;
};

/// Weights that a token is multiplied with, those of the head left out.
double layer_parameters(const models::model_config& config) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto queries = static_cast<double>(config.num_attention_heads * config.head_dim);
  const auto keys = static_cast<double>(config.num_key_value_heads * config.head_dim);
  const double layer = hidden * (2 * queries + 2 * keys + 3 * static_cast<double>(config.intermediate_size));
  return layer * static_cast<double>(config.num_hidden_layers);
}

void measure(benchmark::State& state, const setup& with) {
  const auto network = decoder_for(with);
  live_stream stream(*network, with);
  const auto& config = network->config();
  const bool writes = with.task == "write", turns = with.task == "turn";
  const double passes = writes ? static_cast<double>(with.rows) : turns ? 3 : 1;
  const double rows = static_cast<double>(with.rows) + (turns ? 3 : 0);
  benchmarks::work each;
  each.in = benchmarks::arithmetic_of(network->effective(with.mode()));
  each.threads = with.threads;
  each.operations = 2 * rows * layer_parameters(config) +
                    2 * passes * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
  each.bytes = passes * static_cast<double>(network->weight_bytes());
  each.working_set = static_cast<double>(network->weight_bytes());
  benchmarks::measure(state, each, [&] {
    if (writes) return stream.write(with.rows);
    if (turns) return stream.turn(with.rows);
    stream.read(with.rows);
  });
  state.counters["ms/pass"] = each.bytes / passes / state.counters["GB/s"] / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  parameters given("Passes of a whole decoder, with the logits of the last row of each.", argc, argv);
  std::vector<setup> all{setup{}};
  vary(all, given.words("model", "random", "random: 135 million parameters without meaning; or a GGUF file"),
       &setup::model);
  vary(all, given.words("format", "q8_0,q4_0,bf16", "of the random weights"), &setup::format);
  vary(all, given.words("compute", benchmarks::compute_mode_names(), "the numbers in which products are taken"),
       &setup::compute);
  vary(all,
       given.words("task", "read,write,turn",
                   "read: a pass over `rows` tokens; write: as many passes of one; turn: a word of `rows` tokens read "
                   "with the last target row fed again, and two tokens written"),
       &setup::task);
  vary(all, given.numbers("rows", "3,128", "tokens"), &setup::rows);
  vary(all, given.numbers("depth", "0,1024", "tokens of context, a third of them target", 0), &setup::depth);
  vary(all, given.numbers("threads", "1,2", "threads"), &setup::threads);
  given.done();
  for (const setup& one : all) {
    static_cast<void>(one.mode());
    if (one.task != "read" && one.task != "write" && one.task != "turn") parameters::fail("unknown task " + one.task);
  }
  std::set<std::string> names;  // a file has one format, whatever --format lists
  std::erase_if(all, [&](const setup& one) {
    if (one.task != "read" && one.rows > 16) return true;  // the same as fewer, only longer
    const auto format = quant::from_name(one.format);
    if (one.model == "random" && format && ops::effective_compute(one.mode(), *format) != one.mode()) return true;
    return !names.insert(one.name()).second;
  });
  benchmarks::run(all, measure);
}
