// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/gguf_value.hpp>
#include <runnel/io/mmap.hpp>
#include <runnel/io/tensor_file.hpp>
#include <runnel/quant/format.hpp>

namespace runnel::io {

/// One line of the metadata, a view into the file.
struct gguf_entry {
  std::string_view key;
  gguf_value value;
};

/// A tensor type that GGUF files may name, whether or not the library can load it.
struct gguf_tensor_type {
  std::uint32_t number;
  std::string_view name;
  std::uint32_t block_size;   ///< values in a block
  std::uint32_t block_bytes;  ///< bytes of a block
};

/// The type with this number, or null if nothing is known about it.
[[nodiscard]] inline const gguf_tensor_type* find_gguf_tensor_type(std::uint32_t number) noexcept {
  static constexpr std::array<gguf_tensor_type, 34> known{{
      {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},
      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
      {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
      {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
      {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
      {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
      {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
      {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},
  }};
  const auto found =
      std::find_if(known.begin(), known.end(), [number](const auto& type) { return type.number == number; });
  return found == known.end() ? nullptr : &*found;
}

/// A GGUF file, versions 2 and 3, little endian: metadata in memory, tensors in the map. Everything is checked when
/// the file is opened (sizes, ranges, types, duplicates), in O(n log n) of its entries, allocating at most a small
/// multiple of the header's bytes. Move-only; views and spans stay valid when the object moves and end with it.
class gguf_file {
 public:
  static constexpr std::uint64_t default_alignment = 32;
  static constexpr std::uint64_t largest_alignment = 65536;
  static constexpr std::uint32_t most_dimensions = 8;

  /// Opens and checks `path`. Throws io_error if it cannot be read, format_error (naming file and key or tensor) if
  /// its content is malformed.
  explicit gguf_file(const std::filesystem::path& path) : gguf_file(mapped_file(path)) {}

  /// As above, over bytes that are already there.
  explicit gguf_file(mapped_file file);

  [[nodiscard]] const std::string& name() const noexcept { return file_->name(); }
  [[nodiscard]] const mapped_file& file() const noexcept { return *file_; }
  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] std::uint64_t alignment() const noexcept { return alignment_; }

  /// The metadata in the order of the file.
  [[nodiscard]] std::span<const gguf_entry> metadata() const noexcept { return entries_; }
  /// The tensors in the order of the file.
  [[nodiscard]] std::span<const stored_tensor> tensors() const noexcept { return tensors_; }

  /// The value of `key`, or null. O(log n).
  [[nodiscard]] const gguf_value* find(std::string_view key) const {
    const auto at = keys_.find(key);
    return at ? &entries_[*at].value : nullptr;
  }
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }

  /// The value of `key` as T. Throws format_error if the key is missing, of another kind, or out of T's range.
  template <gguf_scalar T>
  [[nodiscard]] T get(std::string_view key) const {
    auto value = need(key).template as<T>();
    if (!value) mismatch(key, message(info(gguf_type_of<T>()).name));
    return *std::move(value);
  }

  /// The value of `key` as T, or `otherwise` if the key is missing. Throws format_error if it is there but does not
  /// fit.
  template <gguf_scalar T>
  [[nodiscard]] T get_or(std::string_view key, T otherwise) const {
    return contains(key) ? get<T>(key) : std::move(otherwise);
  }

  /// The string at `key`, a view into the file. Throws format_error if the key is missing or no string.
  [[nodiscard]] std::string_view string(std::string_view key) const { return get<std::string_view>(key); }

  /// The array of strings at `key`, views into the file. Throws format_error if the key is missing or of another type.
  [[nodiscard]] std::span<const std::string_view> strings(std::string_view key) const {
    const gguf_value& value = need(key);
    if (!value.is_array() || value.element_type() != gguf_type::string) mismatch(key, "array of string");
    return value.strings();
  }

  /// The array of numbers at `key`, each converted as `get` converts. Throws format_error that names the element if
  /// one does not fit.
  template <gguf_scalar T>
  requires std::is_arithmetic_v<T>
  [[nodiscard]] std::vector<T> numbers(std::string_view key) const {
    const gguf_value& list = need(key);
    const auto wanted = info(gguf_type_of<T>()).name;
    if (!list.is_array() || list.element_type() == gguf_type::string) mismatch(key, message("array of ", wanted));
    std::vector<T> out;
    out.reserve(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto value = list.element(i).template as<T>();
      if (!value) mismatch(key, message("array of ", wanted, " (element ", i, ")"));
      out.push_back(*value);
    }
    return out;
  }

  /// The tensor with this name, or null. O(log n).
  [[nodiscard]] const stored_tensor* find_tensor(std::string_view name) const {
    const auto at = tensor_names_.find(name);
    return at ? &tensors_[*at] : nullptr;
  }

  /// The tensor with this name. Throws format_error if the file has none.
  [[nodiscard]] const stored_tensor& tensor(std::string_view name) const {
    const auto* found = find_tensor(name);
    if (found == nullptr) fail<format_error>(file_->name(), ": tensor ", in_quotes(name), " is missing");
    return *found;
  }

 private:
  struct counts {
    std::uint64_t tensors;
    std::uint64_t entries;
  };

  [[nodiscard]] counts read_header(byte_reader& in);
  void read_metadata(byte_reader& in, std::uint64_t count);
  void read_alignment();
  void read_tensors(byte_reader& in, std::uint64_t count);
  void place_tensors(byte_reader& in);
  void refuse_overlap() const;

  [[nodiscard]] const gguf_value& need(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) fail<format_error>(file_->name(), ": key ", in_quotes(key), " is missing");
    return *value;
  }

  [[noreturn]] void mismatch(std::string_view key, const std::string& wanted) const {
    fail<format_error>(file_->name(), ": key ", in_quotes(key), ": expected ", wanted, ", found ",
                       need(key).describe());
  }

  std::unique_ptr<const mapped_file> file_;  // on the heap: tensors point to it, and must still do so after a move
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = default_alignment;
  std::vector<gguf_entry> entries_;
  std::vector<std::vector<std::string_view>> texts_;  // of arrays of strings, which values point to
  std::vector<stored_tensor> tensors_;
  name_index keys_;
  name_index tensor_names_;
};

namespace detail {

inline std::string_view read_gguf_string(byte_reader& in, std::string_view what) {
  return in.text(in.number<std::uint64_t>(what), what);
}

inline gguf_type read_gguf_type(byte_reader& in, std::string_view what) {
  const auto number = in.number<std::uint32_t>(what);
  if (number >= gguf_types.size()) in.fail("value type ", number, " is unknown, expected 0 to 12");
  return static_cast<gguf_type>(number);
}

/// `count` numbers or truth values.
inline std::span<const std::byte> read_gguf_numbers(byte_reader& in, gguf_type type, std::uint64_t count,
                                                    std::string_view what) {
  const auto bytes = in.take(count * info(type).size, what);
  if (type != gguf_type::boolean) return bytes;
  for (const std::byte one : bytes) {
    if (one > std::byte{1}) in.fail("a bool must be 0 or 1, found ", std::to_integer<unsigned>(one));
  }
  return bytes;
}

/// An array; what says where its strings are is added to `texts`.
inline gguf_value read_gguf_array(byte_reader& in, std::vector<std::vector<std::string_view>>& texts) {
  const auto type = read_gguf_type(in, "array element type");
  if (type == gguf_type::array) in.fail("arrays inside arrays are not supported");
  const auto count = in.number<std::uint64_t>("array length");
  // A string takes its 8-byte length at least; so nothing is reserved that the file could not fill.
  const std::uint64_t smallest = type == gguf_type::string ? 8 : info(type).size;
  if (count > in.remaining() / smallest) {
    in.fail("an array of ", count, " elements of at least ", smallest, " bytes does not fit the ", in.remaining(),
            " bytes that remain in the file");
  }
  if (type != gguf_type::string) return gguf_value::array_of(type, read_gguf_numbers(in, type, count, "array"));
  auto& strings = texts.emplace_back();
  strings.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) strings.push_back(read_gguf_string(in, "string in array"));
  return gguf_value::array_of(strings);
}

inline gguf_value read_gguf_value(byte_reader& in, std::vector<std::vector<std::string_view>>& texts) {
  const auto type = read_gguf_type(in, "value type");
  if (type == gguf_type::array) return read_gguf_array(in, texts);
  if (type != gguf_type::string) return {type, read_gguf_numbers(in, type, 1, "value")};
  return {type, in.take(in.number<std::uint64_t>("string"), "string")};
}

/// Bytes of a tensor whose innermost size must be whole blocks; fails if a product overflows.
inline std::uint64_t gguf_tensor_bytes(const byte_reader& in, const stored_tensor& tensor,
                                       const gguf_tensor_type& type) {
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type.block_size != 0) {
    in.fail("rows of ", row, " values are no whole number of ", type.name, " blocks of ", type.block_size);
  }
  const auto elements = checked_product(tensor.shape);
  const auto bytes = elements ? checked_mul(*elements / type.block_size, type.block_bytes) : std::nullopt;
  if (!bytes) in.fail("shape ", shape_text(tensor.shape), " of type ", type.name, " takes more than 2^64 bytes");
  return *bytes;
}

}  // namespace detail

inline gguf_file::gguf_file(mapped_file file) : file_(std::make_unique<const mapped_file>(std::move(file))) {
  byte_reader in(file_->bytes(), file_->name());
  const counts found = read_header(in);
  read_metadata(in, found.entries);
  read_alignment();
  read_tensors(in, found.tensors);
  place_tensors(in);
  refuse_overlap();
}

inline gguf_file::counts gguf_file::read_header(byte_reader& in) {
  const auto magic = in.text(4, "magic number");
  if (magic != "GGUF") in.fail("is no GGUF file: it begins with ", in_quotes(magic), " instead of 'GGUF'");
  version_ = in.number<std::uint32_t>("version");
  if (version_ != 0 && (version_ & 0xffffu) == 0) in.fail("is a big-endian GGUF file; only little endian is supported");
  if (version_ != 2 && version_ != 3) in.fail("GGUF version ", version_, " is not supported, expected 2 or 3");
  counts found{};
  found.tensors = in.number<std::uint64_t>("number of tensors");
  found.entries = in.number<std::uint64_t>("number of metadata entries");
  // The least an entry takes: length, one letter of key, type, one byte; a tensor: length, letter, dimensions, type,
  // offset.
  constexpr std::uint64_t smallest_entry = 8 + 1 + 4 + 1;
  constexpr std::uint64_t smallest_tensor = 8 + 1 + 4 + 4 + 8;
  if (found.entries > in.remaining() / smallest_entry) {
    in.fail("cannot hold ", found.entries, " metadata entries in ", in.remaining(), " bytes");
  }
  if (found.tensors > in.remaining() / smallest_tensor) {
    in.fail("cannot hold ", found.tensors, " tensors in ", in.remaining(), " bytes");
  }
  return found;
}

inline void gguf_file::read_metadata(byte_reader& in, std::uint64_t count) {
  constexpr std::uint64_t longest_key = 65535;
  std::vector<std::string_view> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    in.about("metadata", "");
    const auto key = detail::read_gguf_string(in, "key");
    if (key.empty()) in.fail("the key of entry ", i, " is empty");
    in.about("key", key);
    if (key.size() > longest_key) in.fail("a key of ", key.size(), " bytes is longer than ", longest_key);
    entries_.push_back({key, detail::read_gguf_value(in, texts_)});
    names.push_back(key);
  }
  in.about("", "");
  keys_ = name_index(std::move(names));
  if (const auto twice = keys_.duplicate()) in.fail("key ", in_quotes(*twice), " occurs more than once");
}

inline void gguf_file::read_alignment() {
  constexpr std::string_view key = "general.alignment";
  alignment_ = get_or<std::uint64_t>(key, default_alignment);
  if (!std::has_single_bit(alignment_) || alignment_ > largest_alignment) {
    fail<format_error>(file_->name(), ": key '", key, "': expected a power of two up to ", largest_alignment,
                       ", found ", alignment_);
  }
}

inline void gguf_file::read_tensors(byte_reader& in, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    in.about("tensor", "");
    const auto name = detail::read_gguf_string(in, "name");
    if (name.empty()) in.fail("the name of tensor ", i, " is empty");
    in.about("tensor", name);
    stored_tensor tensor;
    tensor.name = name;
    tensor.file = file_.get();
    const auto dimensions = in.number<std::uint32_t>("number of dimensions");
    if (dimensions > most_dimensions) in.fail(dimensions, " dimensions are more than ", most_dimensions);
    tensor.shape.resize(dimensions);
    for (std::uint32_t d = dimensions; d > 0; --d) tensor.shape[d - 1] = in.number<std::uint64_t>("dimension");
    const auto number = in.number<std::uint32_t>("type");
    const auto* type = find_gguf_tensor_type(number);
    if (type == nullptr) in.fail("tensor type ", number, " is unknown");
    tensor.type_name = type->name;
    tensor.format = quant::from_ggml_type(number);
    tensor.file_offset = in.number<std::uint64_t>("offset");  // relative to the data until they are placed
    const std::uint64_t bytes = detail::gguf_tensor_bytes(in, tensor, *type);
    if (bytes > file_->bytes().size()) {
      in.fail("shape ", shape_text(tensor.shape), " of type ", type->name, " takes ", bytes,
              " bytes, but the whole file has ", file_->bytes().size());
    }
    if (tensor.file_offset % alignment_ != 0) {
      in.fail("offset ", tensor.file_offset, " is no multiple of the alignment ", alignment_);
    }
    // Only the length is known yet; `place_tensors` moves the span to its place.
    tensor.bytes = file_->bytes().first(static_cast<std::size_t>(bytes));
    tensors_.push_back(std::move(tensor));
  }
  in.about("", "");
}

inline void gguf_file::place_tensors(byte_reader& in) {
  const std::uint64_t start = (in.offset() + alignment_ - 1) / alignment_ * alignment_;
  const std::uint64_t size = file_->bytes().size();
  for (stored_tensor& tensor : tensors_) {
    const std::uint64_t bytes = tensor.bytes.size();
    const auto begin = checked_add(start, tensor.file_offset);
    const auto end = begin ? checked_add(*begin, bytes) : std::nullopt;
    if (bytes == 0) {
      // A tensor without values may stand where the file ends, before padding that was never written.
      tensor.file_offset = begin ? std::min(*begin, size) : size;
      tensor.bytes = {};
    } else {
      in.about("tensor", tensor.name);
      if (!end || *end > size) {
        in.fail("its ", bytes, " bytes at offset ", tensor.file_offset, " of the data (which begins at ", start,
                ") pass the end of the file at ", size);
      }
      tensor.file_offset = *begin;
      tensor.bytes = file_->bytes().subspan(static_cast<std::size_t>(*begin), static_cast<std::size_t>(bytes));
    }
  }
  in.about("", "");
  tensor_names_ = index_by_name(tensors_);
  if (const auto twice = tensor_names_.duplicate()) in.fail("tensor ", in_quotes(*twice), " occurs more than once");
}

inline void gguf_file::refuse_overlap() const {
  const stored_tensor* last = nullptr;
  for (const stored_tensor* tensor : in_file_order(tensors_)) {
    if (tensor->bytes.empty()) continue;
    if (last != nullptr && last->file_offset + last->bytes.size() > tensor->file_offset) {
      fail<format_error>(file_->name(), ": tensors ", in_quotes(last->name), " and ", in_quotes(tensor->name),
                         " overlap");
    }
    last = tensor;
  }
}

}  // namespace runnel::io
