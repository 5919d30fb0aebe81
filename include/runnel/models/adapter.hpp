// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/ascii.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/json.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/models/weight_reader.hpp>

/// \file
/// Reads low-rank adapters: PEFT directories (`adapter_config.json`, `adapter_model.safetensors`) and GGUF files.

namespace runnel::models {

/// An adapter of one decoder, as streams share it.
using adapter = nn::adapter<nn::inference_parameters>;

namespace detail {

/// How one container spells the parts of an adapted module.
struct adapter_spelling {
  std::string_view down, up, up_bias, bias, wrapped_bias;
};

/// Takes the low-rank matrices of every module out of a container, and complains about what is left.
class adapter_builder {
 public:
  using low_rank = nn::low_rank<nn::inference_parameters>;
  /// The scale of a module from its name (without ".weight") and rank.
  using scale_of = std::function<float(const std::string& module, index_t rank)>;

  adapter_builder(const decoder& base, weight_reader& read, head_rows rows, const adapter_spelling& spelling,
                  scale_of scale)
      : base_(base),
        names_(find_family(&family::model_type, base.config().model_type, read.source()).names),
        read_(read),
        rows_(rows),
        spelling_(spelling),
        scale_(std::move(scale)) {}

  [[nodiscard]] adapter build() const {
    adapter out;
    const model_config& config = base_.config();
    for (index_t i = 0; i < config.num_hidden_layers; ++i) {
      auto& layer = out.layers.emplace_back();
      for (const adapted_module which : all_modules) {
        const auto& linear = module_of(base_.weights().layers[static_cast<std::size_t>(i)], which);
        layer[static_cast<std::size_t>(which)] = module(layout_of(config, names_, which), i, linear.bias);
      }
    }
    out.head = module(head_layout(config, names_), 0, {});
    return out;
  }

 private:
  [[nodiscard]] low_rank module(const module_layout& where, index_t layer, tensor_view<const float, 1> bias) const {
    low_rank out;
    const auto order = rows_ == head_rows::interleaved && where.rotated_heads > 0
                           ? interleaved_row_order(where.rotated_heads, base_.config().head_dim)
                           : std::vector<index_t>{};
    const auto* down = read_.find(where.name, spelling_.down, layer);
    if (down != nullptr) {
      const index_t rank = down->shape.empty() ? 0 : static_cast<index_t>(down->shape[0]);
      expect<format_error>(down->shape.size() == 2 && rank > 0 && rank <= where.inputs + where.outputs, read_.source(),
                           ": tensor ", down->name, ": expected shape [rank, ", where.inputs, "], found ",
                           io::shape_text(down->shape));
      out.down = read_.matrix(where.name, layer, {rank, where.inputs, {}, {}, 0, 0, spelling_.down});
      out.up = read_.matrix(where.name, layer,
                            {where.outputs, rank, order, {}, where.first_row, where.stored_rows, spelling_.up});
      out.up_bias = slice_of(where, spelling_.up_bias, layer, order);
      out.scale = scale_(read_.spelled(where.name, "", layer), rank);
    }
    for (const auto part : {spelling_.bias, spelling_.wrapped_bias}) {
      auto trained = slice_of(where, part, layer, order);
      if (trained.size() == 0) continue;
      for (index_t n = 0; n < trained.size(); ++n) trained(n) -= bias.size() == 0 ? 0.0f : bias(n);
      out.bias = std::move(trained);
    }
    return out;
  }

  /// The part of a vector that belongs to the module; empty if there is none.
  [[nodiscard]] tensor<float, 1> slice_of(const module_layout& where, std::string_view part, index_t layer,
                                          std::span<const index_t> order) const {
    if (part.empty() || read_.find(where.name, part, layer) == nullptr) return {};
    const auto whole = read_.vector(where.name, part, layer, where.stored_rows);
    tensor<float, 1> out({where.outputs});
    for (index_t n = 0; n < where.outputs; ++n) {
      out(n) = whole(where.first_row + (order.empty() ? n : order[static_cast<std::size_t>(n)]));
    }
    return out;
  }

  const decoder& base_;
  const decoder_names& names_;
  weight_reader& read_;
  head_rows rows_;
  adapter_spelling spelling_;
  scale_of scale_;
};

/// Throws format_error naming a tensor of the file that was not read: no part of an adapter is left out in silence.
template <class Tensors>
void expect_all_read(const Tensors& tensors, const std::set<std::string>& read, const std::string& source) {
  for (const io::stored_tensor& tensor : tensors) {
    expect<format_error>(read.contains(tensor.name), source, ": tensor ", tensor.name,
                         " changes nothing that an adapter of this model can: the projections of attention and MLP, "
                         "and the output head");
  }
}

/// How far a matrix in a format may be from what it was made of: root mean square, relative.
[[nodiscard]] inline double rounding_of(quant::weight_format format) noexcept {
  switch (format) {
    case quant::weight_format::f32: return 0;
    case quant::weight_format::f16: return 1e-3;
    case quant::weight_format::bf16: return 1e-2;
    case quant::weight_format::q8_0: return 2e-2;
    default: return 0.4;
  }
}

/// Whether a stored matrix holds the values of `base`, but for the rounding of either: PEFT saves the head beside its
/// adapter.
[[nodiscard]] inline bool holds(const io::stored_tensor& stored, const ops::prepared_matrix& base) {
  const std::vector<std::uint64_t> shape{static_cast<std::uint64_t>(base.outputs()),
                                         static_cast<std::uint64_t>(base.inputs())};
  const auto format = stored.loadable_format();
  const auto row_bytes = quant::try_bytes_for(format, shape[1]);
  if (stored.shape != shape || !row_bytes || stored.bytes.size() != *row_bytes * shape[0]) return false;
  const auto inputs = static_cast<std::size_t>(base.inputs());
  std::vector<float> values(inputs), expected(inputs);
  double off = 0, all = 0;
  for (index_t n = 0; n < base.outputs(); ++n) {
    quant::decode(format, stored.bytes.data() + static_cast<std::size_t>(n) * *row_bytes, inputs, values.data());
    base.decode_row(n, expected);
    for (std::size_t i = 0; i < inputs; ++i) {
      const auto wanted = static_cast<double>(expected[i]), difference = static_cast<double>(values[i]) - wanted;
      off += difference * difference;
      all += wanted * wanted;
    }
  }
  const double most = rounding_of(base.format()) + rounding_of(format);
  return off <= most * most * all;  // NaN is nothing's value
}

/// A scale as products take it. Throws format_error naming `source` and `key` if it is beyond floats.
[[nodiscard]] inline float checked_scale(double scale, const std::string& source, const char* key) {
  expect<format_error>(std::fabs(scale) <= static_cast<double>(std::numeric_limits<float>::max()), source, ": ", key,
                       ": expected a finite scale, found ", scale);
  return static_cast<float>(scale);
}

/// `adapter_config.json`: alpha, rank and what modifies them.
class peft_config {
 public:
  explicit peft_config(const std::filesystem::path& path)
      : document_(io::read_json_file(path, io::most_config_bytes)), json_(document_.root()) {
    const auto type = json_.text("peft_type");
    expect<format_error>(type == "LORA", name(), ": peft_type: expected LORA, found ", type);
    for (const char* key : {"use_dora", "fan_in_fan_out", "use_qalora"}) {
      expect<format_error>(!json_.flag_or(key, false), name(), ": ", key, " is not supported, expected false");
    }
    for (const char* key : {"modules_to_save", "alora_invocation_tokens", "layer_replication", "use_bdlora",
                            "kasa_config", "arrow_config", "monteclora_config"}) {
      const auto found = json_.find(key);
      const bool nothing =
          !found || found->truth() == false || ((found->is_array() || found->is_object()) && found->size() == 0);
      if (!nothing) io::json_object::fail(key, "nothing, it is not supported", *found);
    }
    // Others start from changed base weights, which the adapter alone does not hold.
    if (const auto start = json_.find("init_lora_weights"); start && start->text()) {
      const auto plain = {"gaussian", "eva", "orthogonal", "mica"};
      if (std::find(plain.begin(), plain.end(), ascii_lower(*start->text())) == plain.end()) {
        io::json_object::fail("init_lora_weights", "true, false, gaussian, eva, orthogonal or mica", *start);
      }
    }
    rank_stabilised_ = json_.flag_or("use_rslora", false);
    alpha_ = json_.number("lora_alpha");
  }

  [[nodiscard]] float scale(const std::string& module, index_t rank) const {
    const double alpha = pattern("alpha_pattern", module).value_or(alpha_);
    const auto declared = pattern("rank_pattern", module);
    const double expected = declared ? *declared : json_.number("r");
    expect<format_error>(expected == static_cast<double>(rank), name(), ": ", module, " has rank ", expected,
                         ", but its weights have ", rank);
    const auto width = static_cast<double>(rank);
    return checked_scale(rank_stabilised_ ? alpha / std::sqrt(width) : alpha / width, name(), "lora_alpha");
  }

 private:
  [[nodiscard]] const std::string& name() const noexcept { return json_.source_name(); }

  /// The value that a pattern, a module's name or the end of it, has for a module.
  [[nodiscard]] std::optional<double> pattern(std::string_view key, const std::string& module) const {
    if (!json_.find(key)) return {};
    const auto patterns = json_.object(key);
    for (const auto one : patterns.members()) {
      const std::string_view wanted = one.name();
      expect<format_error>(wanted.find_first_of("*+?[]{}()|\\^$") == std::string_view::npos, name(), ": ", key, ": \"",
                           wanted, "\" is a regular expression; expected a module's name or the end of one");
      if (module != wanted && !module.ends_with(message('.', wanted))) continue;
      const auto value = one.number();
      if (!value) io::json_object::fail(patterns.path_to(wanted), "a number", one);
      return *value;
    }
    return {};
  }

  io::json_document document_;
  io::json_object json_;
  bool rank_stabilised_ = false;
  double alpha_ = 0;
};

[[nodiscard]] inline adapter read_peft(const std::filesystem::path& directory, const decoder& base) {
  const peft_config config(directory / "adapter_config.json");
  const io::safetensors_file weights(directory / "adapter_model.safetensors");
  std::set<std::string> used;
  weight_reader read(weights.name(), &weight_name::hugging_face,
                     [&](const std::string& name) -> const io::stored_tensor* {
                       const auto* found = weights.find_tensor("base_model.model." + name);
                       if (found != nullptr) used.insert(found->name);
                       return found;
                     });
  constexpr adapter_spelling spelling{".lora_A.weight", ".lora_B.weight", ".lora_B.bias", ".bias", ".base_layer.bias"};
  auto out = adapter_builder(base, read, head_rows::halves, spelling, [&](const std::string& module, index_t rank) {
               return config.scale(module, rank);
             }).build();
  if (const auto* head = weights.find_tensor("base_model.model.lm_head.base_layer.weight")) {
    const auto& ours = base.config().tie_word_embeddings ? base.weights().embedding.weight : base.weights().head.weight;
    expect<format_error>(holds(*head, ours), weights.name(), ": tensor ", head->name,
                         " differs from the output head of the model: whole modules are no adapter");
    used.insert(head->name);
  }
  expect_all_read(weights.tensors(), used, weights.name());
  return out;
}

[[nodiscard]] inline adapter read_gguf_adapter(const std::filesystem::path& path, const decoder& base) {
  const io::gguf_file file(path);
  const auto& of = find_family(&family::model_type, base.config().model_type, file.name());
  const auto expect_text = [&](const char* key, std::string_view expected) {
    const auto found = file.string(key);
    expect<format_error>(found == expected, file.name(), ": ", key, ": expected ", expected, ", found ", found);
  };
  expect_text("general.type", "adapter");
  expect_text("adapter.type", "lora");
  expect_text("general.architecture", of.architecture);
  const double alpha = file.get<double>("adapter.lora.alpha");
  expect<format_error>(std::isfinite(alpha), file.name(), ": adapter.lora.alpha: expected a number, found ", alpha);
  expect<format_error>(file.find("adapter.alora.invocation_tokens") == nullptr, file.name(),
                       ": adapter.alora.invocation_tokens: adapters that begin at an invocation are not supported");
  std::set<std::string> used;
  weight_reader read(file.name(), &weight_name::gguf, [&](const std::string& name) {
    const auto* found = file.find_tensor(name);
    if (found != nullptr) used.insert(found->name);
    return found;
  });
  constexpr adapter_spelling spelling{".weight.lora_a", ".weight.lora_b", "", "", ""};
  auto out =
      adapter_builder(base, read, of.gguf_rows, spelling, [&](const std::string&, index_t rank) {
        return alpha == 0 ? 1.0f : checked_scale(alpha / static_cast<double>(rank), file.name(), "adapter.lora.alpha");
      }).build();
  expect_all_read(file.tensors(), used, file.name());
  return out;
}

}  // namespace detail

/// The adapter in a PEFT directory or a GGUF file, for `base`, whose weights may have any format and stay as they are.
/// PEFT: LoRA and rank-stabilised LoRA, patterns of rank and alpha that name modules, biases (`bias`, `lora_bias`).
/// Throws io_error if something cannot be read, format_error naming file and key or tensor if it is malformed, not for
/// this model, or does what is not supported (DoRA, whole modules): nothing in the file is left out in silence.
[[nodiscard]] inline std::shared_ptr<const adapter> load_adapter(const std::filesystem::path& path,
                                                                 const decoder& base) {
  std::error_code failure;
  expect<io_error>(std::filesystem::exists(path, failure), "adapter ", path.string(), ": no such file or directory");
  return std::make_shared<const adapter>(std::filesystem::is_directory(path, failure)
                                             ? detail::read_peft(path, base)
                                             : detail::read_gguf_adapter(path, base));
}

}  // namespace runnel::models
