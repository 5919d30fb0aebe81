// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/quant/format.hpp>

namespace runnel::io {

/// A tensor to be written. The bytes are not copied: they must live until the file is written.
struct safetensors_output {
  std::string name;
  quant::weight_format format = quant::weight_format::f32;  ///< f32, f16 or bf16
  std::vector<std::uint64_t> shape;                         ///< row-major, outermost size first
  std::span<const std::byte> bytes;
  std::function<std::vector<std::byte>()> make{};  ///< makes the bytes when they are written, in place of `bytes`
};

namespace detail {

/// `text` as a JSON string. Throws config_error naming `what` it is if it is not UTF-8.
[[nodiscard]] inline std::string quote_json(std::string_view text, std::string_view what) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail<config_error>(what, " is not UTF-8: ", in_quotes(text));
  }
}

}  // namespace detail

/// Writes a safetensors file atomically, tensors in the given order, data aligned to 8 bytes. Throws config_error for
/// a name that is empty, taken, reserved or not UTF-8, or a format the container lacks; shape_error if bytes and
/// shape disagree; io_error that names the path and the reason.
inline void write_safetensors(const std::filesystem::path& path, std::span<const safetensors_output> tensors,
                              std::span<const std::pair<std::string, std::string>> metadata = {}) {
  std::vector<std::string_view> names;
  std::string out = "{";
  if (!metadata.empty()) {
    std::vector<std::string_view> keys;
    for (const auto& entry : metadata) keys.push_back(entry.first);
    if (const auto twice = name_index(std::move(keys)).duplicate()) {
      fail<config_error>("metadata key ", in_quotes(*twice), " occurs more than once");
    }
    out += "\"__metadata__\":{";
    for (std::size_t i = 0; i < metadata.size(); ++i) {
      if (i != 0) out += ',';
      out +=
          detail::quote_json(metadata[i].first, "metadata") + ":" + detail::quote_json(metadata[i].second, "metadata");
    }
    out += '}';
  }
  std::uint64_t offset = 0;
  for (const safetensors_output& tensor : tensors) {
    const auto& info = quant::info(tensor.format);
    if (tensor.name.empty()) fail<config_error>("a tensor needs a name");
    if (tensor.name == "__metadata__") fail<config_error>("a tensor cannot be called '__metadata__'");
    if (info.block_size != 1)
      fail<config_error>("safetensors cannot hold ", info.name, " (tensor ", in_quotes(tensor.name), ")");
    const auto elements = checked_product(tensor.shape);
    const auto bytes = elements ? quant::try_bytes_for(tensor.format, *elements) : std::nullopt;
    if (!bytes || (!tensor.make && *bytes != tensor.bytes.size())) {
      fail<shape_error>("tensor ", in_quotes(tensor.name), ": shape ", shape_text(tensor.shape), " of ", info.name,
                        " does not take the ", tensor.bytes.size(), " bytes given");
    }
    std::string type(info.name);
    for (char& c : type) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    if (out.size() > 1) out += ',';
    out += detail::quote_json(tensor.name, "a tensor's name") + ":{\"dtype\":\"" + type +
           "\",\"shape\":" + shape_text(tensor.shape) + ",\"data_offsets\":[" + std::to_string(offset) + "," +
           std::to_string(offset + *bytes) + "]}";
    offset += *bytes;
    names.push_back(tensor.name);
  }
  out += '}';
  out.append((8 - out.size() % 8) % 8, ' ');
  const name_index index(std::move(names));
  if (const auto twice = index.duplicate()) fail<config_error>("tensor ", in_quotes(*twice), " occurs more than once");

  atomic_file file(path);
  file.number(static_cast<std::uint64_t>(out.size()));
  file.write(out);
  for (const safetensors_output& tensor : tensors) {
    if (!tensor.make) {
      file.write(tensor.bytes);
      continue;
    }
    const std::vector<std::byte> made = tensor.make();
    const auto elements = checked_product(tensor.shape).value_or(0);
    expect<shape_error>(made.size() == quant::try_bytes_for(tensor.format, elements), "tensor ", in_quotes(tensor.name),
                        ": ", made.size(), " bytes were made for shape ", shape_text(tensor.shape));
    file.write(made);
  }
  file.commit();
}

}  // namespace runnel::io
