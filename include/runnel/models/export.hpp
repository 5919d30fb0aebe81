// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/gguf_writer.hpp>
#include <runnel/io/safetensors_writer.hpp>
#include <runnel/models/config_writers.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/models/merge.hpp>
#include <runnel/models/quantize.hpp>

/// \file
/// Writes decoders as other programs read them: Hugging Face directories and GGUF files. Whatever a decoder was read
/// from, its values are written as they are in memory, in the format asked for; tokenizers are written by the text
/// room.

namespace runnel::models {

/// The format in which a weight is written, by its name in the container, its shape, and the format it has in memory.
using format_choice = std::function<quant::weight_format(std::string_view name, std::span<const std::uint64_t> shape,
                                                         quant::weight_format in_memory)>;

/// Norms and biases in f32, matrices in `matrices`.
[[nodiscard]] inline format_choice matrices_as(quant::weight_format matrices) {
  return [=](std::string_view, std::span<const std::uint64_t> shape, quant::weight_format) {
    return shape.size() == 1 ? quant::weight_format::f32 : matrices;
  };
}

/// Adapters that are merged while a decoder is written: W + scale B A, rounded once, to the format it is written in.
using merged_adapters = std::span<const nn::active_adapter<nn::inference_parameters>>;

/// How a decoder is written.
struct export_options {
  int threads = 1;                ///< 0: one a processor
  merged_adapters adapters = {};  ///< must live until all is written
  std::stop_token stop = {};
  std::function<void(const quantized_tensor&)> progress = {};  ///< called before each tensor
};

namespace detail {

/// Lists the weights of a decoder under a container's names.
class weight_lister {
 public:
  weight_lister(const decoder& model, std::string_view weight_name::*spelling, merged_adapters adapters)
      : model_(model),
        of_(find_family(&family::model_type, model.config().model_type, "export")),
        spelling_(spelling),
        rows_(spelling == &weight_name::gguf ? of_.gguf_rows : head_rows::halves),
        adapters_(adapters) {
    for (const auto& active : adapters) {
      expect(active.weights != nullptr, "export: an adapter is missing");
      model.check(*active.weights);
    }
    if (spelling == &weight_name::gguf) expect_places();
  }

  /// The weights, to be read while the decoder and the adapters live.
  [[nodiscard]] std::vector<weight_rows> list() {
    const auto& weights = model_.weights();
    const decoder_names& names = of_.names;
    add_matrix(names.embedding, 0, {{&weights.embedding.weight, {}}}, {});
    add_norm(names.norm, 0, weights.norm);
    if (!is_tied(model_, adapters_)) {
      const bool was_tied = model_.config().tie_word_embeddings;
      matrix_part part{was_tied ? &weights.embedding.weight : &weights.head.weight, {}};
      for (const auto& active : adapters_) part.add(active.weights->head, active.scale);
      add_matrix(names.head, 0, {std::move(part)}, {});
    }
    for (std::size_t i = 0; i < weights.layers.size(); ++i) add_layer(static_cast<index_t>(i), weights.layers[i]);
    return std::move(out_);
  }

  /// Whether the output matrix is the embedding, also once the adapters are merged.
  [[nodiscard]] static bool is_tied(const decoder& model, merged_adapters adapters) {
    return model.config().tie_word_embeddings && !nn::changes_head(adapters);
  }

 private:
  using layer_type = nn::decoder_layer<decoder::parameters>;
  using low_rank = nn::low_rank<decoder::parameters>;

  // GGUF's readers know by the architecture which tensors there are.
  void expect_places() const {
    const model_config& config = model_.config();
    const bool is_tied_always = of_.architecture == "gemma" || of_.architecture == "gemma2";
    expect(!is_tied_always || is_tied(model_, adapters_), "export: GGUF files of ", of_.architecture,
           " have no place for an output matrix beside the embedding");
    expect(of_.architecture == "llama" || (!config.attention_output_bias && !config.mlp_bias), "export: GGUF files of ",
           of_.architecture, " have no place for biases but those of query, key and value");
  }

  /// A matrix and what is added to it.
  struct matrix_part {
    const ops::prepared_matrix* base;
    std::vector<std::pair<const low_rank*, float>> changes;

    void add(const low_rank& change, float scale) {
      if (change.down.outputs() != 0) changes.emplace_back(&change, scale * change.scale);
    }
  };

  [[nodiscard]] matrix_part part_of(index_t i, const layer_type& from, adapted_module which) const {
    matrix_part part{&module_of(from, which).weight, {}};
    for (const auto& active : adapters_) part.add(active.at(i, which), active.scale);
    return part;
  }

  void add_fused(index_t i, const layer_type& from, std::initializer_list<adapted_module> modules) {
    std::vector<matrix_part> parts;
    for (const adapted_module which : modules) {
      parts.push_back(part_of(i, from, which));
      static_cast<void>(bias_of(i, from, which));
    }
    add_matrix(layout_of(model_.config(), of_.names, *modules.begin()).name, i, std::move(parts), {});
  }

  struct merged_bias {
    std::vector<float> values;
    bool changed = false;
  };

  [[nodiscard]] merged_bias bias_of(index_t i, const layer_type& from, adapted_module which) const {
    const auto& linear = module_of(from, which);
    merged_bias out{{linear.bias.data(), linear.bias.data() + linear.bias.size()}};
    const auto add = [&](const tensor<float, 1>& change, float scale) {
      if (change.size() == 0) return;
      out.changed = true;
      out.values.resize(static_cast<std::size_t>(change.size()));
      for (std::size_t n = 0; n < out.values.size(); ++n) out.values[n] += scale * change(static_cast<index_t>(n));
    };
    for (const auto& active : adapters_) {
      const low_rank& change = active.at(i, which);
      add(change.up_bias, active.scale * change.scale);
      add(change.bias, 1);
    }
    const module_layout where = layout_of(model_.config(), of_.names, which);
    expect(out.values.empty() || where.bias, "export: an adapter gives ", spelled(where.name, ".bias", i),
           ", which files of this model have no place for");
    return out;
  }

  void add_layer(index_t i, const layer_type& from) {
    const decoder_names& names = of_.names;
    add_norm(names.attention_norm, i, from.attention_norm);
    if (names.fused_qkv) {
      add_fused(i, from, {adapted_module::query, adapted_module::key, adapted_module::value});
    } else {
      add_module(i, from, adapted_module::query);
      add_module(i, from, adapted_module::key);
      add_module(i, from, adapted_module::value);
    }
    add_norm(names.query_norm, i, from.attention.query_norm);
    add_norm(names.key_norm, i, from.attention.key_norm);
    add_module(i, from, adapted_module::output);
    add_norm(names.attention_post_norm, i, from.attention_post_norm);
    add_norm(names.mlp_norm, i, from.mlp_norm);
    if (names.fused_gate_up) {
      add_fused(i, from, {adapted_module::gate, adapted_module::up});
    } else {
      add_module(i, from, adapted_module::gate);
      add_module(i, from, adapted_module::up);
    }
    add_module(i, from, adapted_module::down);
    add_norm(names.mlp_post_norm, i, from.mlp_post_norm);
  }

  void add_module(index_t i, const layer_type& from, adapted_module which) {
    const module_layout where = layout_of(model_.config(), of_.names, which);
    std::vector<index_t> rows;  // of each stored row, the row in memory
    if (rows_ == head_rows::interleaved && where.rotated_heads > 0) {
      const auto order = interleaved_row_order(where.rotated_heads, model_.config().head_dim);
      rows.resize(order.size());
      for (std::size_t n = 0; n < order.size(); ++n) rows[static_cast<std::size_t>(order[n])] = static_cast<index_t>(n);
    }
    auto bias = bias_of(i, from, which);
    if (!bias.values.empty()) {
      auto ordered = bias.values;
      for (std::size_t n = 0; n < rows.size(); ++n) ordered[n] = bias.values[static_cast<std::size_t>(rows[n])];
      add_vector(where.name, ".bias", i, std::move(ordered), bias.changed);
    }
    add_matrix(where.name, i, {part_of(i, from, which)}, std::move(rows));
  }

  [[nodiscard]] std::string spelled(const weight_name& name, std::string_view part, index_t layer) const {
    return with_layer(name.*spelling_, layer).append(part);
  }

  void add_matrix(const weight_name& name, index_t layer, std::vector<matrix_part> parts, std::vector<index_t> rows) {
    index_t total = 0;
    weight_rows& weight = out_.emplace_back();
    for (const auto& part : parts) {
      total += part.base->outputs();
      weight.changed = weight.changed || !part.changes.empty();
    }
    weight.name = spelled(name, ".weight", layer);
    weight.shape = {static_cast<std::uint64_t>(total), static_cast<std::uint64_t>(parts.front().base->inputs())};
    weight.format = parts.front().base->format();
    weight.open = [parts = std::move(parts), rows = std::move(rows)] { return read_matrix(parts, rows); };
  }

  [[nodiscard]] static weight_rows::reader read_matrix(const std::vector<matrix_part>& parts,
                                                       const std::vector<index_t>& rows) {
    auto changes = std::make_shared<std::vector<std::vector<matrix_change>>>();
    for (const auto& part : parts) {
      auto& of_part = changes->emplace_back();
      for (const auto& [change, scale] : part.changes) of_part.emplace_back(*change, scale);
    }
    return [&parts, &rows, changes](index_t row, std::span<float> values) {
      index_t at = rows.empty() ? row : rows[static_cast<std::size_t>(row)];
      std::size_t part = 0;
      for (; at >= parts[part].base->outputs(); ++part) at -= parts[part].base->outputs();
      parts[part].base->decode_row(at, values);
      for (const matrix_change& change : (*changes)[part]) change.add_to_row(at, values);
    };
  }

  void add_vector(const weight_name& name, std::string_view part, index_t layer, std::vector<float> values,
                  bool changed) {
    weight_rows& weight = out_.emplace_back();
    weight.name = spelled(name, part, layer);
    weight.shape = {static_cast<std::uint64_t>(values.size())};
    weight.changed = changed;
    weight.open = [values = std::move(values)]() -> weight_rows::reader {
      return [&values](index_t, std::span<float> out) { std::copy(values.begin(), values.end(), out.begin()); };
    };
  }

  /// Norm weights of a family that stores w - 1 stand so in Hugging Face files, and as they are in GGUF files.
  void add_norm(const weight_name& name, index_t layer, const nn::rms_norm<decoder::parameters>& norm) {
    if (norm.weight.size() == 0) return;
    const bool less_one = spelling_ == &weight_name::hugging_face && of_.norms_less_one;
    std::vector<float> values(norm.weight.data(), norm.weight.data() + norm.weight.size());
    for (float& value : values) value += norm.offset - (less_one ? 1.0F : 0.0F);
    add_vector(name, ".weight", layer, std::move(values), false);
  }

  const decoder& model_;
  const family& of_;
  std::string_view weight_name::*spelling_;
  head_rows rows_;
  merged_adapters adapters_;
  std::vector<weight_rows> out_;
};

/// Encodes weights for a file, one after another, and reports them.
class weight_encoder {
 public:
  weight_encoder(const export_options& options, std::size_t count)
      : options_(options), count_(count), team_(options.threads) {}

  [[nodiscard]] std::vector<std::byte> operator()(const weight_rows& weight, quant::weight_format format) {
    const std::uint64_t bytes = quant::bytes_for(format, io::checked_product(weight.shape).value_or(0));
    if (options_.progress) options_.progress({next_++, count_, weight.name, weight.format, format, bytes});
    return encode_weight(weight, format, team_, options_.stop);
  }

 private:
  export_options options_;
  std::size_t count_;
  std::size_t next_ = 0;
  thread_team team_;
};

}  // namespace detail

/// The weights of `model` with `adapters` merged, as the files of a container hold them; to be read while both live.
/// `spelling` is `&weight_name::gguf` or `&weight_name::hugging_face`. Throws config_error for biases that such files
/// have no place for.
[[nodiscard]] inline std::vector<weight_rows> list_weights(const decoder& model,
                                                           std::string_view weight_name::*spelling,
                                                           merged_adapters adapters = {}) {
  return detail::weight_lister(model, spelling, adapters).list();
}

/// What the choice of formats has to know of a decoder that is written with `adapters` merged.
[[nodiscard]] inline quantized_model describe(const decoder& model, merged_adapters adapters = {}) {
  const model_config& config = model.config();
  return {config.num_hidden_layers, config.num_attention_heads / config.num_key_value_heads,
          detail::weight_lister::is_tied(model, adapters)};
}

/// Adds config and weights to a GGUF file in the making; the caller adds a tokenizer and writes it, while `model`
/// lives. One tensor at a time is in memory beside it. Throws config_error if the config cannot be said in GGUF
/// metadata, or what adapters change has no place there.
inline void add_to_gguf(const decoder& model, const format_choice& choose, io::gguf_writer& out,
                        const export_options& options = {}) {
  const family& of = find_family(&family::model_type, model.config().model_type, "export");
  write_gguf_config(model.config(), of, out);
  auto weights = detail::weight_lister(model, &weight_name::gguf, options.adapters).list();
  const auto encode = std::make_shared<detail::weight_encoder>(options, weights.size());
  for (weight_rows& weight : weights) {
    const auto format = choose(weight.name, weight.shape, weight.format);
    auto name = weight.name;
    auto shape = weight.shape;
    out.add_tensor(std::move(name), format, std::move(shape),
                   [encode, format, weight = std::move(weight)] { return (*encode)(weight, format); });
  }
}

/// Writes `config.json` and `model.safetensors` into `directory`, which is made if need be, matrices as `matrices`
/// (f32, f16 or bf16), norms and biases in f32; `ids` are the vocabulary's. Each file appears whole or not at all.
/// Throws config_error if the config cannot be said there, what adapters change has no place there, or the format is
/// none of these; io_error that names the path and the reason.
inline void write_hugging_face(const decoder& model, quant::weight_format matrices,
                               const std::filesystem::path& directory, const special_ids& ids = {},
                               const export_options& options = {}) {
  expect(quant::info(matrices).block_size == 1, "export: Hugging Face directories hold f32, f16 or bf16, not ",
         quant::info(matrices).name);
  model_config config = model.config();
  config.tie_word_embeddings = detail::weight_lister::is_tied(model, options.adapters);
  const auto weights = detail::weight_lister(model, &weight_name::hugging_face, options.adapters).list();
  const std::string config_text = hugging_face_config(config, matrices, ids);
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  expect<io_error>(!failure, directory.string(), ": cannot be made: ", failure.message());
  const auto choose = matrices_as(matrices);
  detail::weight_encoder encode(options, weights.size());
  std::vector<io::safetensors_output> outputs;
  for (const weight_rows& weight : weights) {
    const auto format = choose(weight.name, weight.shape, weight.format);
    outputs.push_back({weight.name, format, weight.shape, {}, [&, format] { return encode(weight, format); }});
  }
  const std::pair<std::string, std::string> kind[] = {{"format", "pt"}};
  io::write_safetensors(directory / "model.safetensors", outputs, kind);
  io::atomic_file file(directory / "config.json");
  file.write(config_text);
  file.commit();
}

}  // namespace runnel::models
