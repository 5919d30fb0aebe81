// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/models/module_layout.hpp>
#include <runnel/models/network.hpp>

namespace runnel::models {

/// One stream's rows of a pass.
struct stream_rows {
  cache::key_value_cache* cache = nullptr;
  const row_table* rows = nullptr;
  std::span<const std::int32_t> tokens;  ///< [rows]; -1 - r: row r of `vectors`
  std::span<const index_t> logit_rows;   ///< rows whose logits are wanted, as indices into `rows`
  std::span<const nn::active_adapter<nn::inference_parameters>> adapters{};  ///< of this stream, all added up
  tensor_view<const float, 2> vectors{};  ///< [any, hidden]: rows that are no tokens (audio), in embeddings' places
};

/// A decoder-only transformer. Const and shared between threads and streams; it never knows which plan runs.
class decoder {
 public:
  using parameters = nn::inference_parameters;

  /// Throws format_error unless weights and config fit.
  decoder(model_config config, decoder_weights<parameters> weights) : network_(std::move(config), std::move(weights)) {}

  [[nodiscard]] const model_config& config() const noexcept { return network_.config(); }
  [[nodiscard]] const decoder_weights<parameters>& weights() const noexcept { return network_.weights(); }

  /// What keys and values are kept as unless someone says otherwise.
  [[nodiscard]] cache::storage_type storage_for(ops::compute_mode mode) const noexcept {
    return cache::storage_for(effective(mode));
  }

  /// An empty cache for one stream; keys and values are rounded to what they are kept as. `context` is how many
  /// positions the stream may use (0: the model's): families with a rotary table for long contexts choose by it, once.
  [[nodiscard]] cache::key_value_cache make_cache(cache::storage_type type = cache::storage_type::f32,
                                                  index_t context = 0) const {
    return cache::key_value_cache(entry_shape(type, context == 0 ? config().max_position_embeddings : context));
  }

  /// One fused pass over the rows of any number of streams: stores their keys and values and gives logits
  /// [sum of logit_rows, vocab_size], valid until the context's next pass.
  ///
  /// Rows of a stream come in storage order per group, right after what its cache holds. A row's bits depend on nothing
  /// but its own token, what it sees and the context's options. Throws config_error for rows or tokens that do not fit,
  /// cancelled_error when stopped; caches then are as they were. `Context` is `ops::eval`, or one that looks on
  /// (ops/attention_watch.hpp).
  template <std::derived_from<ops::eval> Context>
  [[nodiscard]] tensor_view<const float, 2> forward(Context& context, std::span<const stream_rows> streams) const {
    context.memory.reset();
    const std::span<lengths> after(context.memory.template take<lengths>(streams.size()), streams.size());
    for (std::size_t i = 0; i < streams.size(); ++i) {
      after[i] = check(streams[i]);
      const bool taken = std::any_of(streams.begin(), streams.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](const stream_rows& other) { return other.cache == streams[i].cache; });
      expect(!taken, "forward: stream ", i, " of the pass has the cache of another stream");
    }
    for (std::size_t i = 0; i < streams.size(); ++i) {
      for (std::size_t g = 0; g < num_groups; ++g) streams[i].cache->reserve(static_cast<group>(g), after[i][g]);
    }
    tensor_view<const float, 2> logits;
    context.team.run([&] { logits = run(context, streams); });
    for (std::size_t i = 0; i < streams.size(); ++i) {
      for (std::size_t g = 0; g < num_groups; ++g) streams[i].cache->commit(static_cast<group>(g), after[i][g]);
    }
    return logits;
  }

  /// Throws config_error unless the adapter fits this decoder.
  void check(const nn::adapter<parameters>& adapter) const {
    expect(adapter.layers.size() == weights().layers.size(), "adapter: expected ", weights().layers.size(),
           " layers as the model has, found ", adapter.layers.size());
    const auto fits = [](const nn::low_rank<parameters>& change, index_t outputs, index_t inputs) {
      const auto none_or = [&](const tensor<float, 1>& bias) { return bias.size() == 0 || bias.size() == outputs; };
      expect(none_or(change.bias) && none_or(change.up_bias) &&
                 (change.down.outputs() == 0 || (change.down.inputs() == inputs && change.up.outputs() == outputs &&
                                                 change.up.inputs() == change.down.outputs())),
             "adapter: a change of a module [", outputs, ", ", inputs, "] does not fit it");
    };
    for (std::size_t i = 0; i < adapter.layers.size(); ++i) {
      for (const adapted_module which : all_modules) {
        const auto& base = module_of(weights().layers[i], which).weight;
        fits(adapter.layers[i][static_cast<std::size_t>(which)], base.outputs(), base.inputs());
      }
    }
    fits(adapter.head, config().vocab_size, config().hidden_size);
  }

  /// What `mode` comes to with this model's weights: int8 is bf16 or f32 where nothing is quantised.
  [[nodiscard]] ops::compute_mode effective(ops::compute_mode mode) const noexcept {
    const auto format = weights().layers.empty() ? weights().embedding.weight.format()
                                                 : weights().layers.front().mlp.gate.weight.format();
    return ops::effective_compute(mode, format);
  }

  /// Bytes of all weights as they lie in memory.
  [[nodiscard]] std::size_t weight_bytes() const noexcept {
    std::size_t total = weights().embedding.weight.bytes() + weights().head.weight.bytes();
    for (const auto& layer : weights().layers) {
      for (const auto* matrix : {&layer.attention.query, &layer.attention.key, &layer.attention.value,
                                 &layer.attention.output, &layer.mlp.gate, &layer.mlp.up, &layer.mlp.down}) {
        total += matrix->weight.bytes();
      }
    }
    return total;
  }

 private:
  using lengths = std::array<index_t, num_groups>;

  [[nodiscard]] cache::entry_shape entry_shape(cache::storage_type type, index_t context) const noexcept {
    return {config().num_hidden_layers, config().num_key_value_heads, config().head_dim, type, context};
  }

  /// Checks a stream's rows against its cache; gives the lengths of its groups after the pass.
  [[nodiscard]] lengths check(const stream_rows& stream) const {
    const auto& rows = *stream.rows;
    expect(static_cast<index_t>(stream.tokens.size()) == rows.size(), "forward: ", rows.size(), " rows but ",
           stream.tokens.size(), " tokens");
    for (const std::int32_t id : stream.tokens) {
      const index_t vector = -1 - index_t{id};
      expect(id >= 0 || vector < stream.vectors.size(0), "forward: vector ", vector, " of ", stream.vectors.size(0));
      expect(id < config().vocab_size, "forward: token id ", id, " is outside of the vocabulary of ",
             config().vocab_size);
    }
    expect<shape_error>(stream.vectors.size(0) == 0 || stream.vectors.size(1) == config().hidden_size,
                        "forward: vectors have ", stream.vectors.size(1), " features, the model has ",
                        config().hidden_size);
    const cache::entry_shape& entry = stream.cache->entry();
    expect(entry == entry_shape(entry.storage, entry.context), "forward: the cache holds ", entry.layers, " layers of ",
           entry.kv_heads, " heads of ", entry.head_dim, ", the model has ", config().num_hidden_layers, " of ",
           config().num_key_value_heads, " of ", config().head_dim);
    expect(rows.empty() || rows.window() == config().sliding_window, "forward: the model has a sliding window of ",
           config().sliding_window, " (0: none), the rows one of ", rows.window());
    for (const auto& active : stream.adapters) {
      expect(active.weights != nullptr && active.weights->layers.size() == weights().layers.size(),
             "forward: an adapter is not for a model of ", config().num_hidden_layers, " layers");
    }
    lengths after{};
    for (std::size_t g = 0; g < num_groups; ++g) after[g] = stream.cache->size(static_cast<group>(g));
    for (std::size_t i = 0; i < rows.groups().size(); ++i) {
      auto& length = after[static_cast<std::size_t>(rows.groups()[i])];
      expect(rows.storage()[i] == length, "forward: row ", i, " is stored at ", rows.storage()[i], ", expected ",
             length, ": rows of a group are appended in order");
      expect(std::isfinite(rows.values()[i]), "forward: the position of row ", i, " is ", rows.values()[i]);
      ++length;
    }
    for (std::size_t s = 0; s < num_groups; ++s) {
      for (const double offset : rows.toward(s).offsets) {
        expect(std::isfinite(offset), "forward: a row has the rotary offset ", offset);
      }
      for (const key_range range : rows.toward(s).ranges) {
        expect(range.begin >= 0 && range.end <= after[s], "forward: a row sees keys [", range.begin, ", ", range.end,
               ") of ", after[s]);
      }
    }
    return after;
  }

  template <class Context>
  [[nodiscard]] tensor_view<const float, 2> run(Context& context, std::span<const stream_rows> streams) const {
    using part = network_part<parameters, cache::key_value_cache>;
    const std::span<part> parts(context.memory.template take<part>(streams.size()), streams.size());
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const auto& from = streams[i];
      parts[i] = {from.rows, from.tokens, from.cache, from.cache->entry().context, from.logit_rows, from.adapters, 0};
    }
    const auto vectors = gather_vectors(context, streams, parts);
    const auto x = network_.hidden(context, std::span<const part>(parts), vectors.size(0) == 0 ? nullptr : &vectors);
    context.check_stop();
    const auto last = network_.last_rows(context, x, std::span<const part>(parts));
    if (last.size(0) == 0) return {};
    return network_.logits(context, last, network_.last_adapters(context, std::span<const part>(parts)));
  }

  /// The vectors that a pass names, one after another, and the parts' tokens numbered accordingly.
  template <class Context, class Part>
  [[nodiscard]] typename Context::value gather_vectors(Context& context, std::span<const stream_rows> streams,
                                                       std::span<Part> parts) const {
    const auto is_vector = [](std::int32_t token) { return token < 0; };
    index_t count = 0;
    for (const auto& one : streams) count += std::count_if(one.tokens.begin(), one.tokens.end(), is_vector);
    if (count == 0) return {};
    const auto out = context.make(count, config().hidden_size);
    index_t next = 0;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const auto& from = streams[i];
      if (std::none_of(from.tokens.begin(), from.tokens.end(), is_vector)) continue;
      const std::span<std::int32_t> tokens(context.memory.template take<std::int32_t>(from.tokens.size()),
                                           from.tokens.size());
      for (std::size_t at = 0; at < tokens.size(); ++at) {
        tokens[at] = from.tokens[at];
        if (!is_vector(tokens[at])) continue;
        const auto row = from.vectors.row(-1 - index_t{tokens[at]});
        std::copy(row.begin(), row.end(), out.row(next).begin());
        tokens[at] = static_cast<std::int32_t>(-1 - next++);
      }
      parts[i].tokens = tokens;
    }
    return out;
  }

  network<parameters> network_;
};

}  // namespace runnel::models
