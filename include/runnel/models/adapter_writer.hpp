// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/io/atomic_file.hpp>
#include <runnel/io/safetensors_writer.hpp>
#include <runnel/models/adapter.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/models/family.hpp>
#include <runnel/models/module_layout.hpp>

/// \file
/// Writes low-rank adapters as PEFT reads them: `adapter_config.json` and `adapter_model.safetensors`.

namespace runnel::models {

/// What a PEFT directory says beside the matrices.
struct peft_options {
  std::string base_name;  ///< path or name of the model that the adapter is for
  double dropout = 0;     ///< with which it was trained
};

namespace detail {

/// The adapted modules of a decoder as PEFT has them: one for each matrix that files of the family hold.
class peft_writer {
 public:
  peft_writer(const adapter& from, const model_config& base, const peft_options& options)
      : config_(base),
        names_(find_family(&family::model_type, config_.model_type, "adapter").names),
        options_(options) {
    expect(static_cast<index_t>(from.layers.size()) == config_.num_hidden_layers, "adapter: expected ",
           config_.num_hidden_layers, " layers as the model has, found ", from.layers.size());
    for (std::size_t i = 0; i < from.layers.size(); ++i) {
      for (const adapted_module which : all_modules) {
        take(layout_of(config_, names_, which), static_cast<index_t>(i),
             from.layers[i][static_cast<std::size_t>(which)]);
      }
    }
    take(head_layout(config_, names_), 0, from.head);
    expect(!modules_.empty(), "adapter: nothing is adapted, a PEFT directory needs at least one module");
  }

  void write(const std::filesystem::path& directory) const {
    const std::string config = config_text();
    std::error_code failure;
    std::filesystem::create_directories(directory, failure);
    expect<io_error>(!failure, directory.string(), ": cannot be made: ", failure.message());
    std::vector<io::safetensors_output> tensors;
    for (const module& one : modules_) {
      const auto add = [&](const char* suffix, index_t rows, index_t columns, auto make) {
        tensors.push_back({message("base_model.model.", one.name, suffix, ".weight"),
                           quant::weight_format::f32,
                           {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns)},
                           {},
                           [&one, make] { return make(one); }});
      };
      add(".lora_A", one.rank, one.inputs, down_of);
      add(".lora_B", one.outputs, one.rank, up_of);
    }
    const std::pair<std::string, std::string> kind[] = {{"format", "pt"}};
    io::write_safetensors(directory / "adapter_model.safetensors", tensors, kind);
    io::atomic_file file(directory / "adapter_config.json");
    file.write(config);
    file.commit();
  }

 private:
  using low_rank = nn::low_rank<nn::inference_parameters>;

  struct part {
    const low_rank* from;
    index_t first_row;
  };

  /// Matrices that a file fuses have their adapters side by side: their ranks add up.
  struct module {
    std::string name;
    std::string last_name;  ///< behind the last dot
    std::vector<part> parts;
    index_t outputs = 0, inputs = 0, rank = 0;
    [[nodiscard]] double alpha() const {
      return static_cast<double>(parts.front().from->scale) * static_cast<double>(rank);
    }
  };

  void take(const module_layout& where, index_t layer, const low_rank& from) {
    const std::string name = with_layer(where.name.hugging_face, layer);
    expect(from.up_bias.size() == 0 && from.bias.size() == 0, "adapter: ", name,
           " has a bias, which is not written; expected matrices alone");
    if (from.down.outputs() == 0) return;
    expect(from.down.inputs() == where.inputs && from.up.outputs() == where.outputs &&
               from.up.inputs() == from.down.outputs(),
           "adapter: a change of a module [", where.outputs, ", ", where.inputs, "] does not fit it: ", name);
    expect(from.scale != 0, "adapter: ", name, " has a scale of 0");
    auto found = std::find_if(modules_.begin(), modules_.end(), [&](const module& one) { return one.name == name; });
    if (found == modules_.end()) {
      found = modules_.insert(modules_.end(), module{});
      found->name = name;
      found->last_name = name.substr(name.rfind('.') + 1);
      found->outputs = where.stored_rows;
      found->inputs = where.inputs;
    }
    found->parts.push_back({&from, where.first_row});
    found->rank += from.down.outputs();
  }

  [[nodiscard]] static std::vector<std::byte> bytes_of(const std::vector<float>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return {bytes.begin(), bytes.end()};
  }

  [[nodiscard]] static std::vector<std::byte> down_of(const module& of) {
    std::vector<float> values(static_cast<std::size_t>(of.rank * of.inputs));
    std::size_t at = 0;
    for (const part& one : of.parts) {
      for (index_t r = 0; r < one.from->down.outputs(); ++r) {
        one.from->down.decode_row(r, std::span(values).subspan(at, static_cast<std::size_t>(of.inputs)));
        at += static_cast<std::size_t>(of.inputs);
      }
    }
    return bytes_of(values);
  }

  [[nodiscard]] static std::vector<std::byte> up_of(const module& of) {
    std::vector<float> values(static_cast<std::size_t>(of.outputs * of.rank));
    index_t column = 0;
    for (const part& one : of.parts) {
      const index_t rank = one.from->up.inputs();
      const float ratio = one.from->scale / of.parts.front().from->scale;
      for (index_t n = 0; n < one.from->up.outputs(); ++n) {
        const auto at = static_cast<std::size_t>((one.first_row + n) * of.rank + column);
        const auto row = std::span(values).subspan(at, static_cast<std::size_t>(rank));
        one.from->up.decode_row(n, row);
        for (float& value : row) value *= ratio;
      }
      column += rank;
    }
    return bytes_of(values);
  }

  /// Last parts of names where every layer has them, else whole names.
  [[nodiscard]] std::vector<std::string> targets() const {
    std::vector<std::string> out;
    for (const module& one : modules_) {
      const auto same = std::count_if(modules_.begin(), modules_.end(),
                                      [&](const module& other) { return other.last_name == one.last_name; });
      const bool everywhere = same == config_.num_hidden_layers || !one.name.starts_with("model.layers.");
      const auto& name = everywhere ? one.last_name : one.name;
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    }
    return out;
  }

  // Numbers and names go through the writers of the container, which a JSON library comes with.
  [[nodiscard]] std::string config_text() const {
    const auto quote = [](std::string_view text) { return io::detail::quote_json(text, "adapter"); };
    const module& first = modules_.front();
    std::string names, ranks, alphas;
    const auto add = [](std::string& to, const std::string& text) { to += (to.empty() ? "" : ", ") + text; };
    for (const auto& one : targets()) add(names, quote(one));
    for (const module& one : modules_) {
      if (one.rank != first.rank) add(ranks, message(quote(one.name), ": ", one.rank));
      if (one.alpha() != first.alpha()) add(alphas, message(quote(one.name), ": ", one.alpha()));
    }
    const auto name = options_.base_name.empty() ? std::string("null") : quote(options_.base_name);
    return message("{\n \"peft_type\": \"LORA\",\n \"task_type\": \"CAUSAL_LM\",\n \"base_model_name_or_path\": ", name,
                   ",\n \"inference_mode\": true,\n \"r\": ", first.rank, ",\n \"lora_alpha\": ", first.alpha(),
                   ",\n \"lora_dropout\": ", options_.dropout, ",\n \"target_modules\": [", names,
                   "],\n \"bias\": \"none\",\n \"fan_in_fan_out\": false,\n \"use_rslora\": false,\n"
                   " \"use_dora\": false,\n \"init_lora_weights\": true,\n \"modules_to_save\": null,\n"
                   " \"rank_pattern\": {",
                   ranks, "},\n \"alpha_pattern\": {", alphas, "}\n}\n");
  }

  const model_config& config_;
  const decoder_names& names_;
  peft_options options_;
  std::vector<module> modules_;
};

}  // namespace detail

/// Writes `adapter_config.json` and `adapter_model.safetensors` (f32) into `directory`, which is made if need be, for
/// adapters of matrices: what PEFT loads beside `base`, and `load_adapter` too. Each file appears whole or not at all.
/// Adapters of matrices that files of the family fuse are written as one of the ranks' sum. Throws config_error if the
/// adapter does not fit `base`, has biases or is empty; io_error that names the path and the reason.
inline void write_peft(const adapter& from, const model_config& base, const std::filesystem::path& directory,
                       const peft_options& options = {}) {
  detail::peft_writer(from, base, options).write(directory);
}

/// The same beside a whole model.
inline void write_peft(const adapter& from, const decoder& base, const std::filesystem::path& directory,
                       const peft_options& options = {}) {
  write_peft(from, base.config(), directory, options);
}

}  // namespace runnel::models
