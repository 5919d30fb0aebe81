// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <runnel/models/config.hpp>
#include <runnel/nn/decoder_layer.hpp>

namespace runnel::models {

/// The weights of a decoder, module by module.
template <class Parameters>
struct decoder_weights {
  nn::embedding<Parameters> embedding;
  std::vector<nn::decoder_layer<Parameters>> layers;
  nn::rms_norm<Parameters> norm;
  nn::linear<Parameters> head;  // its matrix is empty where the head is tied to the embedding
};

/// One stream's part of a pass through a network.
template <class Parameters, class KeyStore>
struct network_part {
  const row_table* rows = nullptr;
  std::span<const std::int32_t> tokens;  ///< [rows]; -1 - r: row `first_vector` + r of the pass's vectors
  KeyStore* store = nullptr;
  index_t context = 0;                  ///< positions that the stream was declared for
  std::span<const index_t> logit_rows;  ///< rows whose logits are wanted, as indices into `rows`
  std::span<const nn::active_adapter<Parameters>> adapters{};
  index_t first_vector = 0;
};

/// What a decoder-only transformer computes, written once: inference runs it over packed weights and live caches,
/// training over variables and a tape. It never knows which plan runs.
template <class Parameters>
class network {
 public:
  /// Throws format_error unless weights and config fit.
  network(model_config config, decoder_weights<Parameters> weights)
      : config_(std::move(config)), weights_(std::move(weights)) {
    validate(config_, "decoder");
    rotary_[0] = nn::rotary(config_.rope);
    if (config_.local_rope.dimension != 0) rotary_[1] = nn::rotary(config_.local_rope);
    for (const auto& layer : weights_.layers) {
      const int table = layer.attention.rotary;
      expect<format_error>(table == ops::no_rotary || (table >= 0 && table < static_cast<int>(ops::max_rotary_tables) &&
                                                       !rotary_[static_cast<std::size_t>(table)].empty()),
                           "decoder: a layer turns by rotary table ", table, ", which the config lacks");
      expect<format_error>(!layer.attention.scores.windowed || config_.sliding_window > 0,
                           "decoder: a layer is windowed, but the config has no sliding window");
    }
    expect<format_error>(static_cast<index_t>(weights_.layers.size()) == config_.num_hidden_layers,
                         "decoder: expected ", config_.num_hidden_layers, " layers, found ", weights_.layers.size());
  }

  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  [[nodiscard]] const decoder_weights<Parameters>& weights() const noexcept { return weights_; }

  /// Rows of all parts after the last layer, [rows, hidden]. Their keys and values go to the stores. `vectors`
  /// [any, hidden], in the places of embeddings (and of their scale) where tokens say so; nullptr: no token does. What
  /// parts name must live as long as the context remembers the pass.
  template <class Context, class KeyStore>
  [[nodiscard]] typename Context::value hidden(Context& context,
                                               std::span<const network_part<Parameters, KeyStore>> parts,
                                               const typename Context::value* vectors = nullptr) const {
    using stream_type = ops::attention_stream<KeyStore>;
    std::size_t num_rows = 0;
    for (const auto& part : parts) num_rows += part.tokens.size();
    const std::span<std::int32_t> tokens(context.memory.template take<std::int32_t>(num_rows), num_rows);
    const std::span<stream_type> streams(context.memory.template take<stream_type>(parts.size()), parts.size());
    const std::span<adapted> adapters(context.memory.template take<adapted>(parts.size()), parts.size());
    index_t first = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto& part = parts[i];
      std::copy(part.tokens.begin(), part.tokens.end(), tokens.begin() + first);
      adapters[i] = {first, first + part.rows->size(), part.adapters};
      streams[i] = {part.rows, {}, part.store, first};
      first += part.rows->size();
      for (std::size_t table = 0; table < rotary_.size(); ++table) {
        if (rotary_[table].empty()) continue;
        streams[i].angles[table] = rotary_[table](context, *part.rows, part.context);
      }
    }
    auto x = context.drop(embed(context, parts, tokens, vectors));
    for (index_t index = 0; index < config_.num_hidden_layers; ++index) {
      const auto& layer = weights_.layers[static_cast<std::size_t>(index)];
      // By value: a context may run a layer again when this function has long returned.
      x = context.block(x, [&context, &layer, streams, adapters, index](const typename Context::value& in) {
        return layer(context, in, std::span<const stream_type>(streams), std::span<const adapted>(adapters), index);
      });
    }
    return x;
  }

  /// The rows whose logits are wanted, after the last norm: [sum of logit_rows, hidden].
  template <class Context, class KeyStore>
  [[nodiscard]] typename Context::value last_rows(Context& context, const typename Context::value& x,
                                                  std::span<const network_part<Parameters, KeyStore>> parts) const {
    std::size_t count = 0;
    for (const auto& part : parts) count += part.logit_rows.size();
    const std::span<index_t> wanted(context.memory.template take<index_t>(count), count);
    index_t first = 0;
    count = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (const index_t row : parts[i].logit_rows) {
        expect(row >= 0 && row < parts[i].rows->size(), "forward: logits of row ", row, " of ", parts[i].rows->size());
        wanted[count++] = first + row;
      }
      first += parts[i].rows->size();
    }
    return weights_.norm(context, context(ops::select_rows{}, x, std::span<const index_t>(wanted)));
  }

  /// Rows of the result of `last_rows` with the adapters of their parts.
  template <class Context, class KeyStore>
  [[nodiscard]] static std::span<const nn::adapted_rows<Parameters>> last_adapters(
      Context& context, std::span<const network_part<Parameters, KeyStore>> parts) {
    const std::span<adapted> adapters(context.memory.template take<adapted>(parts.size()), parts.size());
    index_t first = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto count = static_cast<index_t>(parts[i].logit_rows.size());
      adapters[i] = {first, first + count, parts[i].adapters};
      first += count;
    }
    return adapters;
  }

  /// Logits [rows, vocab_size] of rows of what `last_rows` gave.
  template <class Context>
  [[nodiscard]] typename Context::value logits(Context& context, const typename Context::value& last,
                                               std::span<const nn::adapted_rows<Parameters>> adapters) const {
    const bool tied = weights_.head.weight.outputs() == 0;
    const auto y = tied ? context(ops::product{}, last, weights_.embedding.weight) : weights_.head(context, last);
    nn::adapt<Parameters>(
        context, last, y, adapters, [](const auto& active) -> auto& { return active.weights->head; });
    return config_.final_logit_softcapping > 0 ? context(ops::soft_cap{config_.final_logit_softcapping}, y) : y;
  }

 private:
  using adapted = nn::adapted_rows<Parameters>;

  /// `tokens` are those of all parts; those that are none become any other.
  template <class Context, class KeyStore>
  [[nodiscard]] typename Context::value embed(Context& context,
                                              std::span<const network_part<Parameters, KeyStore>> parts,
                                              std::span<std::int32_t> tokens,
                                              const typename Context::value* vectors) const {
    const auto count = static_cast<std::size_t>(
        std::count_if(tokens.begin(), tokens.end(), [](std::int32_t token) { return token < 0; }));
    if (count == 0) return weights_.embedding(context, std::span<const std::int32_t>(tokens));
    expect(vectors != nullptr, "forward: tokens name vectors, but there are none");
    const std::span<ops::row_move> moves(context.memory.template take<ops::row_move>(count), count);
    std::size_t row = 0, found = 0;
    for (const auto& part : parts) {
      for (const std::int32_t token : part.tokens) {
        if (token < 0) moves[found++] = {static_cast<index_t>(row), part.first_vector - 1 - index_t{token}};
        ++row;
      }
    }
    std::replace_if(
        tokens.begin(), tokens.end(), [](std::int32_t token) { return token < 0; }, 0);
    const auto x = weights_.embedding(context, std::span<const std::int32_t>(tokens));
    return context(ops::replace_rows{}, x, *vectors, std::span<const ops::row_move>(moves));
  }

  model_config config_;
  decoder_weights<Parameters> weights_;
  std::array<nn::rotary, ops::max_rotary_tables> rotary_;
};

}  // namespace runnel::models
