// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
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
#include <runnel/io/mmap.hpp>
#include <runnel/io/safetensors_header.hpp>
#include <runnel/io/tensor_file.hpp>

namespace runnel::io {

/// One safetensors file: header checked, tensors in the map. Move-only; spans stay valid when the object moves. The
/// container does not align tensors: copy values out with memcpy rather than through a typed pointer.
class safetensors_file {
 public:
  /// A longer header is refused.
  static constexpr std::uint64_t largest_header = 100'000'000;

  /// Opens and checks `path`. Throws io_error if it cannot be read, format_error (naming file and tensor) if its
  /// content is malformed: broken or oversized header, duplicate names, ranges that overlap, leave holes, pass the
  /// end of the file or disagree with shape and type.
  explicit safetensors_file(const std::filesystem::path& path) : safetensors_file(mapped_file(path)) {}

  /// As above, over bytes that are already there.
  explicit safetensors_file(mapped_file file) : file_(std::make_unique<const mapped_file>(std::move(file))) {
    byte_reader in(file_->bytes(), file_->name());
    const auto length = in.number<std::uint64_t>("header length");
    if (length > largest_header) in.fail("a header of ", length, " bytes is longer than ", largest_header);
    const auto text = in.text(length, "header");
    auto header = detail::parse_safetensors_header(text, file_->name());
    metadata_ = std::move(header.metadata);
    std::vector<std::string_view> keys;
    for (const auto& entry : metadata_) keys.push_back(entry.first);
    if (const auto twice = name_index(std::move(keys)).duplicate())
      in.fail("key ", in_quotes(*twice), " of __metadata__ occurs more than once");
    place(in, std::move(header.tensors));
  }

  [[nodiscard]] const std::string& name() const noexcept { return file_->name(); }
  [[nodiscard]] const mapped_file& file() const noexcept { return *file_; }

  /// The tensors in the order of the header.
  [[nodiscard]] std::span<const stored_tensor> tensors() const noexcept { return tensors_; }

  /// The `__metadata__` of the header, in its order.
  [[nodiscard]] std::span<const std::pair<std::string, std::string>> metadata() const noexcept { return metadata_; }

  /// The tensor with this name, or null. O(log n).
  [[nodiscard]] const stored_tensor* find_tensor(std::string_view name) const {
    const auto at = names_.find(name);
    return at ? &tensors_[*at] : nullptr;
  }

 private:
  void place(byte_reader& in, std::vector<detail::safetensors_entry> entries);

  std::unique_ptr<const mapped_file> file_;  // on the heap: tensors point to it, and must still do so after a move
  std::vector<stored_tensor> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  name_index names_;
};

inline void safetensors_file::place(byte_reader& in, std::vector<detail::safetensors_entry> entries) {
  const std::uint64_t start = in.offset();
  const std::uint64_t size = in.remaining();
  tensors_.reserve(entries.size());
  for (auto& entry : entries) {
    in.about("tensor", entry.name);
    const auto* type = detail::find_safetensors_type(entry.type);
    if (type == nullptr) in.fail("dtype ", in_quotes(entry.type), " is unknown");
    if (entry.begin > entry.end) in.fail("data_offsets begin at ", entry.begin, " after their end ", entry.end);
    if (entry.end > size) in.fail("data_offsets end at ", entry.end, ", but the file has ", size, " bytes of data");
    const std::uint64_t bytes = entry.end - entry.begin;
    const auto elements = checked_product(entry.shape);
    const auto bits = elements ? checked_mul(*elements, type->bits) : std::nullopt;
    if (!bits || *bits % 8 != 0 || *bits / 8 != bytes) {
      in.fail("shape ", shape_text(entry.shape), " of ", type->name, " does not take the ", bytes,
              " bytes of its data_offsets");
    }
    stored_tensor tensor;
    tensor.name = std::move(entry.name);
    tensor.format = type->format;
    tensor.type_name = type->name;
    tensor.shape = std::move(entry.shape);
    tensor.file_offset = start + entry.begin;
    tensor.bytes =
        file_->bytes().subspan(static_cast<std::size_t>(tensor.file_offset), static_cast<std::size_t>(bytes));
    tensor.file = file_.get();
    tensors_.push_back(std::move(tensor));
  }

  in.about("", "");
  names_ = index_by_name(tensors_);
  if (const auto twice = names_.duplicate()) in.fail("tensor ", in_quotes(*twice), ": occurs more than once");
  std::uint64_t reached = start;
  for (const stored_tensor* tensor : in_file_order(tensors_)) {
    in.about("tensor", tensor->name);
    if (tensor->file_offset < reached) in.fail("overlaps the tensor before it in the file");
    if (tensor->file_offset > reached) in.fail("is preceded by ", tensor->file_offset - reached, " unused bytes");
    reached += tensor->bytes.size();
  }
  in.about("", "");
  if (reached != start + size) in.fail(start + size - reached, " bytes after the last tensor belong to none");
}

/// A checkpoint of one or more safetensors files: what `open_safetensors` gives.
class safetensors_checkpoint {
 public:
  /// One file.
  explicit safetensors_checkpoint(safetensors_file only) {
    source_ = only.name();
    for (const stored_tensor& tensor : only.tensors()) tensors_.push_back(stored_tensor(tensor));
    names_ = index_by_name(tensors_);
    files_.push_back(std::move(only));
  }

  /// The files that an index (`model.safetensors.index.json`) names, beside it. Only tensors that the index lists are
  /// exposed. Throws io_error for a missing file, format_error if the index is malformed or a tensor is not in the
  /// file it promises.
  [[nodiscard]] static safetensors_checkpoint from_index(const std::filesystem::path& index);

  /// All tensors, in the order of the header or the index.
  [[nodiscard]] std::span<const stored_tensor> tensors() const noexcept { return tensors_; }
  [[nodiscard]] std::span<const safetensors_file> files() const noexcept { return files_; }

  /// The tensor with this name, or null. O(log n).
  [[nodiscard]] const stored_tensor* find_tensor(std::string_view name) const {
    const auto at = names_.find(name);
    return at ? &tensors_[*at] : nullptr;
  }

  /// The tensor with this name. Throws format_error if there is none.
  [[nodiscard]] const stored_tensor& tensor(std::string_view name) const {
    const auto* found = find_tensor(name);
    if (found == nullptr) fail<format_error>(source_, ": tensor ", in_quotes(name), " is missing");
    return *found;
  }

  /// The path of the file or the index, for messages.
  [[nodiscard]] const std::string& name() const noexcept { return source_; }

 private:
  safetensors_checkpoint() = default;

  std::string source_;
  std::vector<safetensors_file> files_;
  std::vector<stored_tensor> tensors_;
  name_index names_;
};

inline safetensors_checkpoint safetensors_checkpoint::from_index(const std::filesystem::path& index) {
  const mapped_file listing(index);
  const std::string& name = listing.name();
  const std::size_t size = listing.bytes().size();
  expect<format_error>(size <= safetensors_file::largest_header, name, ": an index of ", size, " bytes is longer than ",
                       safetensors_file::largest_header);
  const auto lines = detail::parse_safetensors_index(
      std::string_view(reinterpret_cast<const char*>(listing.bytes().data()), size), name);

  safetensors_checkpoint out;
  out.source_ = name;
  std::vector<std::string_view> shards;
  for (const auto& line : lines) shards.push_back(line.second);
  const name_index by_shard(std::move(shards));
  std::vector<std::size_t> file_of(lines.size());
  std::string_view last;
  for (const std::size_t place : by_shard.order()) {
    const std::string& shard = lines[place].second;
    if (shard != last || out.files_.empty()) {
      if (shard.empty() || shard == "." || shard == ".." ||
          shard.find_first_of(std::string_view("/\\:\0", 4)) != std::string::npos) {
        fail<format_error>(name, ": ", in_quotes(shard), " is not the plain name of a file beside the index");
      }
      out.files_.emplace_back(index.parent_path() / shard);
      last = shard;
    }
    file_of[place] = out.files_.size() - 1;
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto& [tensor, shard] = lines[i];
    const auto* found = out.files_[file_of[i]].find_tensor(tensor);
    if (found == nullptr) {
      fail<format_error>(name, ": tensor ", in_quotes(tensor), " is not in ", in_quotes(shard),
                         ", where the index puts it");
    }
    out.tensors_.push_back(stored_tensor(*found));
  }
  out.names_ = index_by_name(out.tensors_);
  if (const auto twice = out.names_.duplicate()) {
    fail<format_error>(name, ": tensor ", in_quotes(*twice), " occurs more than once");
  }
  return out;
}

/// Opens a checkpoint: a `.safetensors` file, an index (`*.index.json`), or a folder that holds `model.safetensors` or
/// `model.safetensors.index.json` (the first wins). Throws io_error or format_error.
[[nodiscard]] inline safetensors_checkpoint open_safetensors(const std::filesystem::path& path) {
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem)) {
    const auto single = path / "model.safetensors";
    if (std::filesystem::exists(single, problem)) return safetensors_checkpoint(safetensors_file(single));
    const auto index = path / "model.safetensors.index.json";
    if (std::filesystem::exists(index, problem)) return safetensors_checkpoint::from_index(index);
    fail<io_error>("cannot read '", path.string(), "': the folder holds neither model.safetensors nor ",
                   "model.safetensors.index.json");
  }
  if (path.string().ends_with(".index.json")) return safetensors_checkpoint::from_index(path);
  return safetensors_checkpoint(safetensors_file(path));
}

}  // namespace runnel::io
