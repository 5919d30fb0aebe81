// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/io/gguf_value.hpp>
#include <runnel/quant/format.hpp>

namespace runnel::io {

/// Builds a GGUF file, version 3, and writes it atomically.
///
///     gguf_writer out;
///     out.set("general.architecture", "llama");
///     out.set("llama.block_count", std::uint32_t{2});
///     out.add_tensor("token_embd.weight", quant::weight_format::f32, {8, 4}, std::as_bytes(std::span(values)));
///     out.write("tiny.gguf");
class gguf_writer {
 public:
  /// Makes the bytes of a tensor when they are needed; called once in every `write`.
  using producer = std::function<std::vector<std::byte>()>;

  /// Sets a number or a truth value; its C++ type decides the type in the file (`std::uint32_t` is what most keys
  /// want). A key set before keeps its place. Throws config_error if the key is empty or too long, or for a senseless
  /// general.alignment.
  template <gguf_scalar T>
  requires std::is_arithmetic_v<T>
  void set(std::string_view key, T value) {
    set(key, gguf_value(gguf_type_of<T>(), std::as_bytes(std::span(&value, 1))));
  }

  /// Sets a string.
  void set(std::string_view key, std::string_view text) {
    set(key, gguf_value(gguf_type::string, std::as_bytes(std::span(text.data(), text.size()))));
  }
  void set(std::string_view key, const char* text) { set(key, std::string_view(text)); }
  void set(std::string_view key, const std::string& text) { set(key, std::string_view(text)); }

  /// Sets an array of numbers.
  template <gguf_scalar T>
  requires std::is_arithmetic_v<T>
  void set(std::string_view key, std::span<const T> values) {
    set(key, gguf_value::array_of(gguf_type_of<T>(), std::as_bytes(values)));
  }
  template <gguf_scalar T>
  requires std::is_arithmetic_v<T>
  void set(std::string_view key, const std::vector<T>& values) { set(key, std::span<const T>(values)); }

  /// Sets an array of truth values.
  void set(std::string_view key, const std::vector<bool>& values) {
    const std::vector<std::uint8_t> bytes(values.begin(), values.end());
    set(key, gguf_value::array_of(gguf_type::boolean, std::as_bytes(std::span(bytes))));
  }

  /// Sets an array of strings.
  void set(std::string_view key, std::span<const std::string_view> texts) { set(key, gguf_value::array_of(texts)); }
  void set(std::string_view key, std::span<const std::string> texts) {
    set(key, std::vector<std::string_view>(texts.begin(), texts.end()));
  }
  void set(std::string_view key, const std::vector<std::string>& texts) {
    set(key, std::span<const std::string>(texts));
  }
  void set(std::string_view key, const std::vector<std::string_view>& texts) {
    set(key, std::span<const std::string_view>(texts));
  }

  /// Sets a value as a reader found it; nothing of it is kept by reference.
  void set(std::string_view key, const gguf_value& value);

  /// Takes over all metadata of `other`.
  void set_all(const gguf_file& other) {
    for (const gguf_entry& line : other.metadata()) set(line.key, line.value);
  }

  /// Adds a tensor; `shape` is row-major, outermost size first. The bytes are not copied: they must live until
  /// `write` is done. Throws config_error for a name that is empty or taken, shape_error if bytes and shape disagree.
  void add_tensor(std::string name, quant::weight_format format, std::vector<std::uint64_t> shape,
                  std::span<const std::byte> bytes) {
    check_size(name, size_of(name, format, shape), bytes.size());
    add(std::move(name), format, std::move(shape), bytes, nullptr);
  }

  /// Adds a tensor whose bytes are made while writing, so that a large model is never in memory at once.
  void add_tensor(std::string name, quant::weight_format format, std::vector<std::uint64_t> shape, producer make) {
    expect(static_cast<bool>(make), "tensor ", in_quotes(name), ": the producer is empty");
    add(std::move(name), format, std::move(shape), {}, std::move(make));
  }

  /// Writes the file. Throws io_error that names the path and the reason (then no file appears), shape_error if a
  /// producer makes another number of bytes than its shape takes.
  void write(const std::filesystem::path& path) const;

 private:
  struct entry {
    std::string key;
    std::string payload;  ///< type and value as they stand in the file
  };
  struct tensor {
    std::string name;
    quant::weight_format format;
    std::vector<std::uint64_t> shape;
    std::uint64_t size;
    std::span<const std::byte> bytes;
    producer make;
  };

  static void append(std::string& out, std::span<const std::byte> bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  static void append(std::string& out, T number) { append(out, std::as_bytes(std::span(&number, 1))); }
  /// A string with its length before it.
  static void append(std::string& out, std::string_view text) {
    append(out, static_cast<std::uint64_t>(text.size()));
    out += text;
  }

  static std::string encode(const gguf_value& value);

  static std::uint64_t size_of(const std::string& name, quant::weight_format format,
                               std::span<const std::uint64_t> shape) {
    const auto elements = checked_product(shape);
    const std::uint64_t row = shape.empty() ? 1 : shape.back();
    const auto size =
        elements && row % quant::info(format).block_size == 0 ? quant::try_bytes_for(format, *elements) : std::nullopt;
    if (!size) {
      fail<shape_error>("tensor ", in_quotes(name), ": shape ", shape_text(shape), " cannot be stored as ",
                        quant::info(format).name, " (blocks of ", quant::info(format).block_size, ")");
    }
    return *size;
  }

  static void check_size(const std::string& name, std::uint64_t wanted, std::uint64_t found) {
    if (wanted == found) return;
    fail<shape_error>("tensor ", in_quotes(name), ": its shape takes ", wanted, " bytes, but ", found, " were given");
  }

  void add(std::string name, quant::weight_format format, std::vector<std::uint64_t> shape,
           std::span<const std::byte> bytes, producer make) {
    const std::uint64_t size = size_of(name, format, shape);
    if (name.empty()) fail<config_error>("a tensor needs a name");
    if (shape.size() > gguf_file::most_dimensions) {
      fail<shape_error>("tensor ", in_quotes(name), ": ", shape.size(), " dimensions are more than ",
                        gguf_file::most_dimensions);
    }
    if (!tensor_names_.emplace(name, tensors_.size()).second) {
      fail<config_error>("tensor ", in_quotes(name), " was added before");
    }
    tensors_.push_back({std::move(name), format, std::move(shape), size, bytes, std::move(make)});
  }

  [[nodiscard]] std::string header() const;

  std::vector<entry> entries_;
  std::unordered_map<std::string, std::size_t> keys_;
  std::vector<tensor> tensors_;
  std::unordered_map<std::string, std::size_t> tensor_names_;
  std::uint64_t alignment_ = gguf_file::default_alignment;
};

inline std::string gguf_writer::encode(const gguf_value& value) {
  std::string out;
  append(out, static_cast<std::uint32_t>(value.type()));
  if (value.is_array()) {
    append(out, static_cast<std::uint32_t>(value.element_type()));
    append(out, static_cast<std::uint64_t>(value.size()));
  }
  if (const auto text = value.as<std::string_view>()) {
    append(out, *text);
  } else if (value.is_array() && value.element_type() == gguf_type::string) {
    for (const std::string_view one : value.strings()) append(out, one);
  } else {
    append(out, value.bytes());
  }
  return out;
}

inline void gguf_writer::set(std::string_view key, const gguf_value& value) {
  if (key.empty() || key.size() > 65535) fail<config_error>("a metadata key has 1 to 65535 bytes, not ", key.size());
  if (key == "general.alignment") {
    const auto alignment = value.as<std::uint64_t>();
    if (!alignment || !std::has_single_bit(*alignment) || *alignment > gguf_file::largest_alignment) {
      fail<config_error>("key 'general.alignment': expected a power of two up to ", gguf_file::largest_alignment,
                         ", found ", value.describe());
    }
    alignment_ = *alignment;
  }
  const auto [at, fresh] = keys_.emplace(std::string(key), entries_.size());
  if (fresh)
    entries_.push_back({std::string(key), encode(value)});
  else
    entries_[at->second].payload = encode(value);
}

inline std::string gguf_writer::header() const {
  std::string out = "GGUF";
  append(out, std::uint32_t{3});
  append(out, static_cast<std::uint64_t>(tensors_.size()));
  append(out, static_cast<std::uint64_t>(entries_.size()));
  for (const entry& line : entries_) {
    append(out, std::string_view(line.key));
    out += line.payload;
  }
  std::uint64_t offset = 0;
  for (const tensor& one : tensors_) {
    append(out, std::string_view(one.name));
    append(out, static_cast<std::uint32_t>(one.shape.size()));
    for (auto size = one.shape.rbegin(); size != one.shape.rend(); ++size) append(out, *size);
    append(out, quant::info(one.format).ggml_type);
    append(out, offset);
    const auto end = checked_add(offset, one.size);
    const auto padded = end ? checked_add(*end, alignment_ - 1) : std::nullopt;
    if (!padded) fail<limit_error>("tensor ", in_quotes(one.name), ": the file would pass 2^64 bytes");
    offset = *padded / alignment_ * alignment_;
  }
  return out;
}

inline void gguf_writer::write(const std::filesystem::path& path) const {
  const std::string head = header();
  atomic_file out(path);
  out.write(head);
  out.pad(alignment_);
  for (const tensor& one : tensors_) {
    if (one.make) {
      const std::vector<std::byte> made = one.make();
      check_size(one.name, one.size, made.size());
      out.write(made);
    } else {
      out.write(one.bytes);
    }
    out.pad(alignment_);
  }
  out.commit();
}

}  // namespace runnel::io
