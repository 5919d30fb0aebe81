// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/gguf_writer.hpp>
#include <runnel/io/safetensors_writer.hpp>
#include <runnel/models/config_writers.hpp>
#include <runnel/models/decoder.hpp>

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

namespace detail {

/// A weight as a container holds it: perhaps rows of several matrices, one after another, perhaps reordered.
struct stored_weight {
  std::string name;
  std::vector<std::uint64_t> shape;
  quant::weight_format in_memory = quant::weight_format::f32;
  std::function<void(index_t row, std::span<float> values)> read;  ///< row of [rows, columns]; vectors have one

  [[nodiscard]] std::vector<std::byte> encode(quant::weight_format format) const {
    const std::size_t columns = static_cast<std::size_t>(shape.back());
    const std::size_t rows = shape.size() == 1 ? 1 : static_cast<std::size_t>(shape.front());
    const auto row_bytes = static_cast<std::size_t>(quant::bytes_for(format, columns));
    std::vector<std::byte> bytes(rows * row_bytes);
    std::vector<float> values(columns);
    for (std::size_t row = 0; row < rows; ++row) {
      read(static_cast<index_t>(row), values);
      quant::encode(format, values.data(), columns, bytes.data() + row * row_bytes);
    }
    return bytes;
  }
};

/// Lists the weights of a decoder under a container's names.
class weight_lister {
 public:
  weight_lister(const decoder& model, std::string_view weight_name::*spelling, head_rows rows)
      : model_(model),
        of_(find_family(&family::model_type, model.config().model_type, "export")),
        spelling_(spelling),
        rows_(rows) {}

  [[nodiscard]] std::vector<stored_weight> list() {
    const auto& weights = model_.weights();
    const decoder_names& names = of_.names;
    add_matrix(names.embedding, 0, {&weights.embedding.weight}, {});
    add_norm(names.norm, 0, weights.norm);
    if (!model_.config().tie_word_embeddings) add_matrix(names.head, 0, {&weights.head.weight}, {});
    for (std::size_t i = 0; i < weights.layers.size(); ++i) add_layer(static_cast<index_t>(i), weights.layers[i]);
    return std::move(out_);
  }

 private:
  using layer_type = nn::decoder_layer<decoder::parameters>;

  void add_layer(index_t i, const layer_type& from) {
    const decoder_names& names = of_.names;
    add_norm(names.attention_norm, i, from.attention_norm);
    if (names.fused_qkv) {
      add_matrix(names.query, i,
                 {&from.attention.query.weight, &from.attention.key.weight, &from.attention.value.weight}, {});
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
      add_matrix(names.gate, i, {&from.mlp.gate.weight, &from.mlp.up.weight}, {});
    } else {
      add_module(i, from, adapted_module::gate);
      add_module(i, from, adapted_module::up);
    }
    add_module(i, from, adapted_module::down);
    add_norm(names.mlp_post_norm, i, from.mlp_post_norm);
  }

  void add_module(index_t i, const layer_type& from, adapted_module which) {
    const module_layout where = layout_of(model_.config(), of_.names, which);
    const auto& linear = module_of(from, which);
    std::vector<index_t> rows;  // of each stored row, the row in memory
    if (rows_ == head_rows::interleaved && where.rotated_heads > 0) {
      const auto order = interleaved_row_order(where.rotated_heads, model_.config().head_dim);
      rows.resize(order.size());
      for (std::size_t n = 0; n < order.size(); ++n) rows[static_cast<std::size_t>(order[n])] = static_cast<index_t>(n);
    }
    if (linear.bias.size() != 0) add_vector(where.name, ".bias", i, linear.bias, rows, 0);
    add_matrix(where.name, i, {&linear.weight}, std::move(rows));
  }

  [[nodiscard]] std::string spelled(const weight_name& name, std::string_view part, index_t layer) const {
    return with_layer(name.*spelling_, layer).append(part);
  }

  void add_matrix(const weight_name& name, index_t layer, std::vector<const ops::prepared_matrix*> parts,
                  std::vector<index_t> rows) {
    index_t total = 0;
    for (const auto* part : parts) total += part->outputs();
    stored_weight& weight = out_.emplace_back();
    weight.name = spelled(name, ".weight", layer);
    weight.shape = {static_cast<std::uint64_t>(total), static_cast<std::uint64_t>(parts.front()->inputs())};
    weight.in_memory = parts.front()->format();
    weight.read = [parts = std::move(parts), rows = std::move(rows)](index_t row, std::span<float> values) {
      index_t at = rows.empty() ? row : rows[static_cast<std::size_t>(row)];
      std::size_t part = 0;
      for (; at >= parts[part]->outputs(); ++part) at -= parts[part]->outputs();
      parts[part]->decode_row(at, values);
    };
  }

  void add_vector(const weight_name& name, std::string_view part, index_t layer, const tensor<float, 1>& from,
                  std::vector<index_t> rows, float add) {
    stored_weight& weight = out_.emplace_back();
    weight.name = spelled(name, part, layer);
    weight.shape = {static_cast<std::uint64_t>(from.size())};
    weight.read = [&from, rows = std::move(rows), add](index_t, std::span<float> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = from(rows.empty() ? static_cast<index_t>(i) : rows[i]) + add;
      }
    };
  }

  /// Norm weights of a family that stores w - 1 stand so in Hugging Face files, and as they are in GGUF files.
  void add_norm(const weight_name& name, index_t layer, const nn::rms_norm<decoder::parameters>& norm) {
    if (norm.weight.size() == 0) return;
    const bool less_one = spelling_ == &weight_name::hugging_face && of_.norms_less_one;
    add_vector(name, ".weight", layer, norm.weight, {}, norm.offset - (less_one ? 1.0f : 0.0f));
  }

  const decoder& model_;
  const family& of_;
  std::string_view weight_name::*spelling_;
  head_rows rows_;
  std::vector<stored_weight> out_;
};

}  // namespace detail

/// Called after each weight with how many are written, of how many.
using export_progress = std::function<void(std::size_t done, std::size_t total)>;

/// Adds config and weights to a GGUF file in the making; the caller adds a tokenizer and writes it, while `model`
/// lives. Throws config_error if the config cannot be said in GGUF metadata.
inline void add_to_gguf(const decoder& model, const format_choice& choose, io::gguf_writer& out,
                        export_progress progress = {}) {
  const family& of = find_family(&family::model_type, model.config().model_type, "export");
  write_gguf_config(model.config(), of, out);
  auto weights = detail::weight_lister(model, &weight_name::gguf, of.gguf_rows).list();
  const std::size_t total = weights.size();
  auto done = std::make_shared<std::size_t>(0);
  for (detail::stored_weight& weight : weights) {
    const auto format = choose(weight.name, weight.shape, weight.in_memory);
    auto name = weight.name;
    auto shape = weight.shape;
    out.add_tensor(std::move(name), format, std::move(shape), [=, weight = std::move(weight)] {
      auto bytes = weight.encode(format);
      if (progress) progress(++*done, total);
      return bytes;
    });
  }
}

/// Writes `config.json` and `model.safetensors` into `directory`, which is made if need be, matrices as `matrices`
/// (f32, f16 or bf16), norms and biases in f32; `ids` are the vocabulary's. Each file appears whole or not at all.
/// Throws config_error if the config cannot be said there or the format is none of these; io_error that names the path
/// and the reason.
inline void write_hugging_face(const decoder& model, quant::weight_format matrices,
                               const std::filesystem::path& directory, const special_ids& ids = {},
                               const export_progress& progress = {}) {
  expect(quant::info(matrices).block_size == 1, "export: Hugging Face directories hold f32, f16 or bf16, not ",
         quant::info(matrices).name);
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  expect<io_error>(!failure, directory.string(), ": cannot be made: ", failure.message());
  const auto weights = detail::weight_lister(model, &weight_name::hugging_face, head_rows::halves).list();
  const auto choose = matrices_as(matrices);
  std::vector<io::safetensors_output> outputs;
  std::size_t done = 0;
  for (const detail::stored_weight& weight : weights) {
    const auto format = choose(weight.name, weight.shape, weight.in_memory);
    outputs.push_back({weight.name, format, weight.shape, {}, [&weight, &progress, &done, &weights, format] {
                         auto bytes = weight.encode(format);
                         if (progress) progress(++done, weights.size());
                         return bytes;
                       }});
  }
  const std::pair<std::string, std::string> kind[] = {{"format", "pt"}};
  io::write_safetensors(directory / "model.safetensors", outputs, kind);
  io::atomic_file config(directory / "config.json");
  config.write(hugging_face_config(model.config(), matrices, ids));
  config.commit();
}

}  // namespace runnel::models
