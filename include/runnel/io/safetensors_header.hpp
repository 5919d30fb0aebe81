// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/quant/format.hpp>

/// \file
/// The JSON parts of safetensors checkpoints. They are read as a stream of events, so that no tree of a hostile
/// header is ever built: memory stays within a small multiple of the header, whatever its nesting.

namespace runnel::io::detail {

/// A type that safetensors headers may name, whether or not the library can load it.
struct safetensors_type {
  std::string_view name;
  std::uint32_t bits;  ///< of a value
  std::optional<quant::weight_format> format;
};

[[nodiscard]] inline const safetensors_type* find_safetensors_type(std::string_view name) noexcept {
  using quant::weight_format;
  static constexpr std::array<safetensors_type, 22> known{{
      {"F32", 32, weight_format::f32},  {"F16", 16, weight_format::f16}, {"BF16", 16, weight_format::bf16},
      {"F64", 64, std::nullopt},        {"I64", 64, std::nullopt},       {"U64", 64, std::nullopt},
      {"C64", 64, std::nullopt},        {"I32", 32, std::nullopt},       {"U32", 32, std::nullopt},
      {"I16", 16, std::nullopt},        {"U16", 16, std::nullopt},       {"I8", 8, std::nullopt},
      {"U8", 8, std::nullopt},          {"BOOL", 8, std::nullopt},       {"F8_E5M2", 8, std::nullopt},
      {"F8_E4M3", 8, std::nullopt},     {"F8_E8M0", 8, std::nullopt},    {"F8_E5M2FNUZ", 8, std::nullopt},
      {"F8_E4M3FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},    {"F6_E3M2", 6, std::nullopt},
      {"F4", 4, std::nullopt},
  }};
  for (const safetensors_type& type : known) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

/// One tensor of a header; offsets count from the end of the header.
struct safetensors_entry {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct safetensors_header {
  std::vector<safetensors_entry> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Receives the events of the JSON parser. Derived readers overload what they accept; the rest is refused.
class json_events {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit json_events(const std::string& file) : file_(file) {}
  virtual ~json_events() = default;

  virtual bool null() { return refuse("null"); }
  virtual bool boolean(bool) { return refuse("a truth value"); }
  virtual bool number_integer(number_integer_t) { return refuse("a negative number"); }
  virtual bool number_unsigned(number_unsigned_t) { return refuse("a number"); }
  virtual bool number_float(number_float_t, const string_t&) {
    return refuse("a number that is no integer of 64 bits");
  }
  virtual bool string(string_t&) { return refuse("a string"); }
  virtual bool binary(binary_t&) { return refuse("binary data"); }
  virtual bool start_object(std::size_t) { return refuse("an object"); }
  virtual bool key(string_t&) { return refuse("a key"); }
  virtual bool end_object() { return refuse("the end of an object"); }
  virtual bool start_array(std::size_t) { return refuse("an array"); }
  virtual bool end_array() { return refuse("the end of an array"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    throw format_error(message(file_, ": the JSON is broken at its byte ", position));
  }

 protected:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw format_error(message(file_, ": ", parts...));
  }

 private:
  [[noreturn]] bool refuse(const char* what) const { fail("unexpected ", what, " in the JSON ", where()); }
  [[nodiscard]] virtual std::string where() const = 0;

  const std::string& file_;
};

/// Runs the parser over `text`. One instantiation serves all readers.
inline void parse_json_events(std::string_view text, json_events& reader) {
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
}

/// Reads the header of a safetensors file.
class safetensors_header_reader final : public json_events {
 public:
  using json_events::json_events;

  safetensors_header result;

  bool start_object(std::size_t size) override {
    if (state_ == state::start)
      state_ = state::names;
    else if (state_ == state::tensor)
      enter_tensor();
    else if (state_ == state::metadata_start)
      state_ = state::metadata;
    else
      return json_events::start_object(size);
    return true;
  }

  bool end_object() override {
    if (state_ == state::fields) {
      if (seen_ != all_fields) fail("tensor ", in_quotes(entry_.name), ": needs dtype, shape and data_offsets");
      result.tensors.push_back(std::move(entry_));
      state_ = state::names;
    } else if (state_ == state::metadata) {
      state_ = state::names;
    } else {
      state_ = state::done;
    }
    return true;
  }

  bool key(string_t& text) override {
    if (state_ == state::fields) return enter_field(text);
    if (state_ == state::metadata) {
      result.metadata.emplace_back(std::move(text), std::string());
      state_ = state::metadata_value;
    } else if (text == "__metadata__") {
      if (has_metadata_) fail("'__metadata__' occurs more than once");
      has_metadata_ = true;
      state_ = state::metadata_start;
    } else {
      entry_ = {};
      entry_.name = std::move(text);
      state_ = state::tensor;
    }
    return true;
  }

  bool string(string_t& text) override {
    if (state_ == state::metadata_value) {
      result.metadata.back().second = std::move(text);
      state_ = state::metadata;
    } else if (state_ == state::type) {
      entry_.type = std::move(text);
      state_ = state::fields;
    } else {
      return json_events::string(text);
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == state::shape) {
      if (entry_.shape.size() == most_dimensions) fail("tensor ", in_quotes(entry_.name), ": more than 8 dimensions");
      entry_.shape.push_back(value);
    } else if (state_ == state::offsets && count_ < 2) {
      (count_ == 0 ? entry_.begin : entry_.end) = value;
      ++count_;
    } else {
      return json_events::number_unsigned(value);
    }
    return true;
  }

  bool start_array(std::size_t size) override {
    if (state_ == state::shape_start)
      state_ = state::shape;
    else if (state_ == state::offsets_start)
      state_ = state::offsets;
    else
      return json_events::start_array(size);
    return true;
  }

  bool end_array() override {
    if (state_ == state::offsets && count_ != 2)
      fail("tensor ", in_quotes(entry_.name), ": data_offsets needs two numbers");
    state_ = state::fields;
    return true;
  }

 private:
  enum class state {
    start,
    names,
    tensor,
    fields,
    type,
    shape_start,
    shape,
    offsets_start,
    offsets,
    metadata_start,
    metadata,
    metadata_value,
    done
  };
  static constexpr unsigned all_fields = 7;
  static constexpr std::size_t most_dimensions = 8;

  void enter_tensor() {
    seen_ = 0;
    count_ = 0;
    state_ = state::fields;
  }

  bool enter_field(const std::string& field) {
    static constexpr std::array<std::pair<std::string_view, state>, 3> known{
        {{"dtype", state::type}, {"shape", state::shape_start}, {"data_offsets", state::offsets_start}}};
    for (unsigned i = 0; i < known.size(); ++i) {
      if (known[i].first != field) continue;
      if ((seen_ & (1u << i)) != 0)
        fail("tensor ", in_quotes(entry_.name), ": field ", in_quotes(field), " occurs more than once");
      seen_ |= 1u << i;
      state_ = known[i].second;
      return true;
    }
    fail("tensor ", in_quotes(entry_.name), ": field ", in_quotes(field), " is unknown");
  }

  [[nodiscard]] std::string where() const override {
    return entry_.name.empty() ? "header" : "header, at or after tensor " + in_quotes(entry_.name);
  }

  state state_ = state::start;
  safetensors_entry entry_;
  unsigned seen_ = 0;
  unsigned count_ = 0;
  bool has_metadata_ = false;
};

/// Reads the `weight_map` of an index; everything beside it is skipped.
class safetensors_index_reader final : public json_events {
 public:
  using json_events::json_events;

  std::vector<std::pair<std::string, std::string>> result;
  bool found = false;

  bool null() override { return skip("null"); }
  bool boolean(bool) override { return skip("a truth value"); }
  bool number_integer(number_integer_t) override { return skip("a number"); }
  bool number_unsigned(number_unsigned_t) override { return skip("a number"); }
  bool number_float(number_float_t, const string_t&) override { return skip("a number"); }
  bool string(string_t& text) override {
    if (depth_ == 2 && in_map_)
      result.back().second = std::move(text);
    else
      return skip("a string");
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 2 && in_map_) skip("an object");
    return enter();
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0 || in_map_) skip("an array");
    return enter();
  }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& text) override {
    if (depth_ == 1) {
      in_map_ = text == "weight_map";
      if (in_map_ && found) fail("'weight_map' occurs more than once");
      found = found || in_map_;
    } else if (depth_ == 2 && in_map_) {
      result.emplace_back(std::move(text), std::string());
    }
    return true;
  }

 private:
  static constexpr std::size_t deepest = 16;

  bool enter() {
    if (++depth_ > deepest) fail("the JSON is nested deeper than ", deepest);
    return true;
  }
  bool leave() {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool skip(const char* what) const {
    if (depth_ == 0 || in_map_) fail("unexpected ", what, " in the index, at ", where());
    return true;
  }
  [[nodiscard]] std::string where() const override {
    return result.empty() ? "its beginning" : "tensor " + in_quotes(result.back().first);
  }

  std::size_t depth_ = 0;
  bool in_map_ = false;
};

[[nodiscard]] inline safetensors_header parse_safetensors_header(std::string_view text, const std::string& file) {
  if (text.empty() || text.front() != '{') throw format_error(message(file, ": the header does not begin with '{'"));
  safetensors_header_reader reader(file);
  parse_json_events(text, reader);
  return std::move(reader.result);
}

/// Pairs of tensor and file, in the order of the index.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                                              const std::string& file) {
  safetensors_index_reader reader(file);
  parse_json_events(text, reader);
  if (!reader.found) throw format_error(message(file, ": the index has no 'weight_map'"));
  if (reader.result.empty()) throw format_error(message(file, ": the 'weight_map' is empty"));
  return std::move(reader.result);
}

}  // namespace runnel::io::detail
