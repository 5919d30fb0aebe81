// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/ascii.hpp>
#include <runnel/core/index.hpp>
#include <runnel/core/thread_team.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_writer.hpp>
#include <runnel/quant/codecs.hpp>

/// \file
/// Models in fewer bits: which tensor gets which format, as llama.cpp chooses too, and GGUF files written so.

namespace runnel::models {

/// A kind of quantized file: most matrices are in `format`; those that matter more get more bits in the mixed kinds.
struct quantization {
  std::string_view name;        ///< lower case, such as q4_k_m
  std::uint32_t file_type;      ///< `general.file_type` of GGUF files
  quant::weight_format format;  ///< of most matrices
};

/// Every kind, from the largest files to the smallest.
inline constexpr std::array<quantization, 18> all_quantizations{{
    {"f32", 0, quant::weight_format::f32},
    {"f16", 1, quant::weight_format::f16},
    {"bf16", 32, quant::weight_format::bf16},
    {"q8_0", 7, quant::weight_format::q8_0},
    {"q6_k", 18, quant::weight_format::q6_k},
    {"q5_1", 9, quant::weight_format::q5_1},
    {"q5_k_m", 17, quant::weight_format::q5_k},
    {"q5_k_s", 16, quant::weight_format::q5_k},
    {"q5_0", 8, quant::weight_format::q5_0},
    {"q4_1", 3, quant::weight_format::q4_1},
    {"q4_k_m", 15, quant::weight_format::q4_k},
    {"q4_k_s", 14, quant::weight_format::q4_k},
    {"q4_0", 2, quant::weight_format::q4_0},
    {"iq4_nl", 25, quant::weight_format::iq4_nl},
    {"q3_k_l", 13, quant::weight_format::q3_k},
    {"q3_k_m", 12, quant::weight_format::q3_k},
    {"q3_k_s", 11, quant::weight_format::q3_k},
    {"q2_k", 10, quant::weight_format::q2_k},
}};

/// The kind with this name (lower or upper case ASCII), or nothing.
[[nodiscard]] inline std::optional<quantization> find_quantization(std::string_view name) {
  const std::string lower = ascii_lower(name);
  for (const quantization& known : all_quantizations) {
    if (known.name == lower) return known;
  }
  return std::nullopt;
}

/// What the choice of formats has to know of a model.
struct quantized_model {
  index_t layers = 0;
  index_t heads_per_kv_head = 1;
  bool tied = false;  ///< the token embedding is the output matrix too
};

namespace detail {

/// The layer that a name such as blk.7.attn_v.weight is of, or 0.
[[nodiscard]] inline index_t layer_of(std::string_view name) noexcept {
  index_t layer = 0;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

/// Layers that the mixes of 4 and 5 bits give more: the first and last eighth, and every third between.
[[nodiscard]] constexpr bool wants_more_bits(index_t layer, index_t layers) noexcept {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/// Values of attention, alone or with queries and keys, which suffer most from few bits.
[[nodiscard]] inline quant::weight_format format_of_values(std::string_view kind, const quantized_model& model,
                                                           index_t layer, quant::weight_format otherwise) noexcept {
  using quant::weight_format;
  const bool shared = model.heads_per_kv_head >= 4;
  const bool more = wants_more_bits(layer, model.layers);
  weight_format chosen = otherwise;
  if (kind == "q2_k") chosen = shared ? weight_format::q4_k : weight_format::q3_k;
  if (kind == "q3_k_m") chosen = layer < 2 ? weight_format::q5_k : weight_format::q4_k;
  if (kind == "q3_k_l") chosen = weight_format::q5_k;
  if (kind == "iq4_nl" && shared) chosen = weight_format::q5_k;
  if ((kind == "q4_k_m" || kind == "q5_k_m") && more) chosen = weight_format::q6_k;
  if (kind == "q4_k_s" && layer < 4) chosen = weight_format::q5_k;
  // The 80 layers of a 70B model share each value among 8 heads: there, bits are cheap.
  const bool is_large = model.layers == 80 && model.heads_per_kv_head > 1;
  if (is_large && (chosen == weight_format::q3_k || chosen == weight_format::q4_k)) chosen = weight_format::q5_k;
  return chosen;
}

[[nodiscard]] inline quant::weight_format format_of_down(std::string_view kind, const quantized_model& model,
                                                         index_t layer, quant::weight_format otherwise) noexcept {
  using quant::weight_format;
  const bool early = layer < model.layers / 8;
  if (kind == "q2_k") return weight_format::q3_k;
  if (kind == "q3_k_m") return layer < model.layers / 16 ? weight_format::q5_k : weight_format::q4_k;
  if (kind == "q3_k_l") return weight_format::q5_k;
  if ((kind == "q4_k_m" || kind == "q5_k_m") && wants_more_bits(layer, model.layers)) return weight_format::q6_k;
  if ((kind == "q4_k_s" || kind == "iq4_nl") && early) return weight_format::q5_k;
  return otherwise;
}

/// The format for rows that are no whole number of its blocks.
[[nodiscard]] constexpr quant::weight_format fitting(quant::weight_format format, std::uint64_t row) noexcept {
  using quant::weight_format;
  if (row % quant::info(format).block_size == 0) return format;
  weight_format next = format;
  if (format == weight_format::q2_k || format == weight_format::q3_k) next = weight_format::q4_0;
  if (format == weight_format::q4_k) next = weight_format::q5_0;
  if (format == weight_format::q5_k) next = weight_format::q5_1;
  if (format == weight_format::q6_k) next = weight_format::q8_0;
  return row % quant::info(next).block_size == 0 ? next : weight_format::f16;
}

}  // namespace detail

/// Whether a tensor is quantized at all: matrices are, but for norms and what steers experts.
[[nodiscard]] inline bool is_quantizable(std::string_view name, std::span<const std::uint64_t> shape) noexcept {
  const bool is_matrix =
      shape.size() >= 2 && std::any_of(shape.begin(), shape.end() - 1, [](std::uint64_t size) { return size > 1; });
  return is_matrix && name.ends_with("weight") && name.find("_norm.weight") == std::string_view::npos &&
         name.find("ffn_gate_inp.weight") == std::string_view::npos;
}

/// The format of a tensor in a file of this kind. `name` is spelled as in GGUF files, with its layer
/// (blk.7.attn_v.weight); `shape` is row-major; `stored` is the format it has. The choices are llama.cpp's without an
/// importance matrix.
[[nodiscard]] inline quant::weight_format choose_format(const quantization& kind, const quantized_model& model,
                                                        std::string_view name, std::span<const std::uint64_t> shape,
                                                        quant::weight_format stored) noexcept {
  using quant::weight_format;
  if (!is_quantizable(name, shape)) return stored;
  if (quant::info(kind.format).block_size == 1) return kind.format;
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  const index_t layer = detail::layer_of(name);
  const std::uint64_t row = shape.back();
  weight_format chosen = kind.format;
  if (name == "output.weight" || (model.tied && name == "token_embd.weight")) {
    if (row % quant::info(chosen).block_size != 0) {
      chosen = weight_format::q8_0;
    } else if (chosen != weight_format::q8_0) {
      chosen = weight_format::q6_k;
    }
  } else if (has("attn_v.weight") || has("attn_qkv.weight") || has("attn_kv_b.weight")) {
    chosen = detail::format_of_values(kind.name, model, layer, chosen);
  } else if (has("ffn_down")) {
    chosen = detail::format_of_down(kind.name, model, layer, chosen);
  } else if (has("attn_output.weight")) {
    if (kind.name == "q2_k") chosen = weight_format::q3_k;
    if (kind.name == "q3_k_m") chosen = weight_format::q4_k;
    if (kind.name == "q3_k_l") chosen = weight_format::q5_k;
  }
  return detail::fitting(chosen, row);
}

/// One tensor of a file that is being quantized.
struct quantized_tensor {
  std::size_t number = 0;  ///< from 0
  std::size_t count = 0;   ///< of all
  std::string_view name;
  quant::weight_format from = quant::weight_format::f32;
  quant::weight_format to = quant::weight_format::f32;
  std::uint64_t bytes = 0;  ///< it will take
};

/// A matrix or vector to be written, whose rows are made when they are needed.
struct weight_rows {
  /// Gives one row, one float for each column; called from several threads at once, and must not throw.
  using reader = std::function<void(index_t row, std::span<float> values)>;

  std::string name;                                         ///< in the file to write
  std::vector<std::uint64_t> shape;                         ///< row-major; a vector is one row
  quant::weight_format format = quant::weight_format::f32;  ///< that it was in
  std::function<reader()> open;                             ///< what is needed for reading lives as long as the reader
  bool changed = false;                                     ///< by an adapter
  std::string source{};                                     ///< the file it is from, for messages
};

/// Rows in another format, `team` working on them. Throws format_error naming file and tensor for values that are not
/// finite or that the format cannot hold, cancelled_error once `stop` is requested.
[[nodiscard]] inline std::vector<std::byte> encode_weight(const weight_rows& from, quant::weight_format to,
                                                          thread_team& team, const std::stop_token& stop = {}) {
  if (stop.stop_requested()) fail<cancelled_error>("quantizing was cancelled");
  const std::size_t row = from.shape.empty() ? 1 : static_cast<std::size_t>(from.shape.back());
  const std::uint64_t count = io::checked_product(from.shape).value_or(0);
  std::vector<std::byte> out(static_cast<std::size_t>(quant::bytes_for(to, count)));
  if (count == 0) return out;
  const std::size_t row_bytes = static_cast<std::size_t>(quant::bytes_for(to, row));
  std::vector<std::vector<float>> buffers(static_cast<std::size_t>(team.size()), std::vector<float>(row));
  std::atomic<bool> is_finite{true};
  const auto check = [&is_finite](std::span<const float> values) {
    for (const float value : values) {
      if (!std::isfinite(value)) is_finite.store(false, std::memory_order_relaxed);
    }
  };
  const auto read = from.open();
  team.run([&] {
    team.parallel_for(static_cast<std::ptrdiff_t>(count / row), 4,
                      [&](std::ptrdiff_t begin, std::ptrdiff_t end, int worker) {
                        auto& values = buffers[static_cast<std::size_t>(worker)];
                        for (std::ptrdiff_t r = begin; r < end; ++r) {
                          if (stop.stop_requested() || !is_finite.load(std::memory_order_relaxed)) return;
                          read(r, values);
                          check(values);
                          std::byte* const bytes = out.data() + static_cast<std::size_t>(r) * row_bytes;
                          quant::encode(to, values.data(), row, bytes);
                          quant::decode(to, bytes, row, values.data());  // scales of 16 bits may overflow
                          check(values);
                        }
                      });
  });
  if (stop.stop_requested()) fail<cancelled_error>("quantizing was cancelled");
  expect<format_error>(is_finite.load(), from.source, from.source.empty() ? "" : ": ", "tensor ",
                       io::in_quotes(from.name), ": a value is not finite, or too large for ", quant::info(to).name);
  return out;
}

/// The same for a tensor of a file.
[[nodiscard]] inline std::vector<std::byte> convert_tensor(const io::stored_tensor& tensor, quant::weight_format to,
                                                           thread_team& team, const std::stop_token& stop = {}) {
  const auto from = tensor.loadable_format();
  const std::size_t row = tensor.shape.empty() ? 1 : static_cast<std::size_t>(tensor.shape.back());
  weight_rows rows{tensor.name, tensor.shape, from, {}};
  if (tensor.file != nullptr) rows.source = tensor.file->name();
  rows.open = [&tensor, from, row]() -> weight_rows::reader {
    return [&tensor, from, row, bytes = static_cast<std::size_t>(quant::bytes_for(from, row))](
               index_t r, std::span<float> values) {
      quant::decode(from, tensor.bytes.data() + static_cast<std::size_t>(r) * bytes, row, values.data());
    };
  };
  return encode_weight(rows, to, team, stop);
}

/// Throws config_error naming file and tensor if it is quantized already and would lose more.
inline void refuse_requantizing(const std::string& file, std::string_view name, quant::weight_format from,
                                quant::weight_format to) {
  expect<config_error>(from == to || quant::info(from).block_size == 1 || to == quant::weight_format::f32, file,
                       ": tensor ", io::in_quotes(name), " is quantized already (", quant::info(from).name,
                       "); quantizing it again loses more, and is done on request only (allow-requantize)");
}

struct quantize_options {
  quantization kind = all_quantizations.front();
  int threads = 0;                ///< 0: one a processor
  bool allow_requantize = false;  ///< take what is quantized already, and lose what that lost and more
  /// Written in place of the tensors of their names, or after them; these may be requantized without being asked.
  std::span<const weight_rows> changed{};
  std::stop_token stop{};
  std::function<void(const quantized_tensor&)> progress{};  ///< called before each tensor
};

namespace detail {

[[nodiscard]] inline quantized_model describe(const io::gguf_file& file) {
  const std::string architecture(file.string("general.architecture"));
  const auto number = [&](const char* key, index_t otherwise) {
    const auto* value = file.find(message(architecture, '.', key));
    return value != nullptr ? value->as<index_t>().value_or(otherwise) : otherwise;  // some have an array of them
  };
  quantized_model out;
  out.layers = number("block_count", 0);
  const index_t heads = number("attention.head_count", 1), kv_heads = number("attention.head_count_kv", heads);
  out.heads_per_kv_head = kv_heads > 0 ? heads / kv_heads : 1;
  out.tied = file.find_tensor("output.weight") == nullptr;
  return out;
}

inline void refuse_same_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code none;
  expect<config_error>(!std::filesystem::equivalent(from, to, none), to.string(),
                       ": the file to write is the one that is read");
}

/// Gives a GGUF file its tensors as `options` want them: those of a file, or changed ones in their place.
class tensor_queue {
 public:
  tensor_queue(const quantize_options& options, const quantized_model& model, std::size_t count, io::gguf_writer& out)
      : options_(options), model_(model), count_(count), out_(out), team_(options.threads) {}

  /// `tensor` must live until all is written.
  void add(const io::stored_tensor& tensor) {
    const auto stored = tensor.loadable_format();
    const auto chosen = choose_format(options_.kind, model_, tensor.name, tensor.shape, stored);
    const auto file = tensor.file != nullptr ? tensor.file->name() : std::string();
    if (!options_.allow_requantize) refuse_requantizing(file, tensor.name, stored, chosen);
    push(tensor.name, tensor.shape, stored, chosen, [this, &tensor, stored, chosen] {
      auto bytes = stored == chosen ? std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end())
                                    : convert_tensor(tensor, chosen, team_, options_.stop);
      tensor.release();
      return bytes;
    });
  }

  void add(const weight_rows& changed) {
    const auto chosen = choose_format(options_.kind, model_, changed.name, changed.shape, changed.format);
    push(changed.name, changed.shape, changed.format, chosen,
         [this, &changed, chosen] { return encode_weight(changed, chosen, team_, options_.stop); });
  }

 private:
  void push(const std::string& name, const std::vector<std::uint64_t>& shape, quant::weight_format stored,
            quant::weight_format chosen, io::gguf_writer::producer make) {
    const quantized_tensor report{next_++, count_, name,
                                  stored,  chosen, quant::bytes_for(chosen, io::checked_product(shape).value_or(0))};
    out_.add_tensor(name, chosen, shape, [this, report, make = std::move(make)] {
      if (options_.stop.stop_requested()) fail<cancelled_error>("quantizing was cancelled");
      if (options_.progress) options_.progress(report);
      return make();
    });
  }

  const quantize_options& options_;
  quantized_model model_;
  std::size_t count_;
  io::gguf_writer& out_;
  thread_team team_;
  std::size_t next_ = 0;
};

}  // namespace detail

/// Writes the GGUF file `from` to `to` (atomically) as `options.kind`: metadata as it is but for the file's type,
/// matrices in the formats of `choose_format`, everything else as it is. One tensor at a time is in memory.
/// Throws config_error if both are the same file or a matrix is quantized already (and would lose more, and that is not
/// allowed), format_error for malformed or unknown content, io_error, cancelled_error.
inline void quantize_gguf(const std::filesystem::path& from, const std::filesystem::path& to,
                          const quantize_options& options) {
  detail::refuse_same_file(from, to);
  const io::gguf_file file(from);
  expect<format_error>(file.get_or<std::uint64_t>("split.count", 1) <= 1, file.name(),
                       ": is one of several files of a model, which have to be merged first");
  std::map<std::string_view, const weight_rows*> changed;
  for (const weight_rows& one : options.changed) changed.emplace(one.name, &one);
  quantized_model model = detail::describe(file);
  model.tied = model.tied && !changed.contains("output.weight");
  io::gguf_writer out;
  for (const io::gguf_entry& line : file.metadata()) {
    if (!line.key.starts_with("split.")) out.set(line.key, line.value);
  }
  constexpr std::uint32_t quantization_version = 2;
  out.set("general.quantization_version", quantization_version);
  out.set("general.file_type", options.kind.file_type);
  std::size_t count = file.tensors().size();
  for (const auto& one : changed) {
    if (file.find_tensor(one.first) == nullptr) ++count;
  }
  detail::tensor_queue queue(options, model, count, out);
  for (const io::stored_tensor& tensor : file.tensors()) {
    const auto instead = changed.find(tensor.name);
    if (instead == changed.end()) {
      queue.add(tensor);
    } else {
      queue.add(*instead->second);
      changed.erase(instead);
    }
  }
  for (const auto& one : changed) queue.add(*one.second);
  out.write(to);
}

}  // namespace runnel::models
