// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/mmap.hpp>

namespace runnel::io {

/// Deepest nesting that `parse_json` takes; configs and tokenizers need 8.
inline constexpr std::size_t deepest_json = 64;

/// No config that lies beside a model is larger.
inline constexpr std::uint64_t most_config_bytes = std::uint64_t{16} << 20U;

/// Whether brackets in `text`, outside strings, are nested deeper than `limit`. Linear, no recursion.
[[nodiscard]] constexpr bool is_nested_deeper(std::string_view text, std::size_t limit) noexcept {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

/// The JSON value that `text` is; `source_name` is for messages. \throws format_error
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text, std::string_view source_name) {
  expect<format_error>(!is_nested_deeper(text, deepest_json), source_name, ": JSON is nested deeper than ",
                       deepest_json, " levels");
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& problem) {
    throw format_error(message(source_name, ": expected JSON: ", problem.what()));
  }
}

/// The JSON value in a file of at most `most_bytes`. \throws io_error if it cannot be read \throws format_error
[[nodiscard]] inline nlohmann::json read_json_file(const std::filesystem::path& path, std::uint64_t most_bytes) {
  const io::mapped_file file(path);
  const auto bytes = file.bytes();
  expect<format_error>(bytes.size() <= most_bytes, file.name(), ": has ", bytes.size(), " bytes, expected at most ",
                       most_bytes);
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name());
}

/// Typed access to the members of a JSON object; complaints name the file and the path to the member.
class json_object {
 public:
  /// \throws format_error unless `value` is an object
  json_object(const nlohmann::json& value, std::string source_name, std::string where = {})
      : value_(&value), source_name_(std::move(source_name)), where_(std::move(where)) {
    if (!value.is_object()) fail(where_.empty() ? "the file" : where_, "an object", value);
  }

  /// The member, or null if it is missing or JSON's null.
  [[nodiscard]] const nlohmann::json* find(const char* key) const {
    const auto found = value_->find(key);
    return found == value_->end() || found->is_null() ? nullptr : &*found;
  }

  /// The member as an object. \throws format_error if it is missing or something else
  [[nodiscard]] json_object object(const char* key) const { return {need(key), source_name_, path_to(key)}; }

  /// The member as an array. \throws format_error if it is missing or something else
  [[nodiscard]] const nlohmann::json& array(const char* key) const {
    const auto& member = need(key);
    if (!member.is_array()) fail(path_to(key), "an array", member);
    return member;
  }

  /// The member as text. \throws format_error if it is missing or something else
  [[nodiscard]] std::string text(const char* key) const {
    const auto& member = need(key);
    if (!member.is_string()) fail(path_to(key), "a string", member);
    return member.get<std::string>();
  }

  /// The member as text, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] std::string text_or(const char* key, std::string otherwise) const {
    return find(key) == nullptr ? std::move(otherwise) : text(key);
  }

  /// The member as a truth value, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] bool flag_or(const char* key, bool otherwise) const {
    const auto* const member = find(key);
    if (member == nullptr) return otherwise;
    if (!member->is_boolean()) fail(path_to(key), "true or false", *member);
    return member->get<bool>();
  }

  /// The member as a token id. \throws format_error if it is missing or no integer in [0, 2^31)
  [[nodiscard]] std::int32_t id(const char* key) const { return to_id(need(key), path_to(key)); }

  /// `value` as a token id. \throws format_error unless it is an integer in [0, 2^31)
  [[nodiscard]] std::int32_t to_id(const nlohmann::json& value, const std::string& where) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0x7FFFFFFFU) fail(where, "a token id", value);
    return value.get<std::int32_t>();
  }

  /// Where a member stands, for messages.
  [[nodiscard]] std::string path_to(std::string_view key) const {
    return where_.empty() ? std::string(key) : message(where_, '.', key);
  }

  /// The member as a whole number. \throws format_error if it is missing or something else
  [[nodiscard]] std::int64_t integer(const char* key) const {
    const auto& member = need(key);
    if (!member.is_number_integer() || (member.is_number_unsigned() && member.get<std::uint64_t>() >> 63 != 0))
      fail(path_to(key), "a whole number", member);
    return member.get<std::int64_t>();
  }

  /// The member as a whole number, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] std::int64_t integer_or(const char* key, std::int64_t otherwise) const {
    return find(key) == nullptr ? otherwise : integer(key);
  }

  /// The member as a number. \throws format_error if it is missing or something else
  [[nodiscard]] double number(const char* key) const {
    const auto& member = need(key);
    if (!member.is_number()) fail(path_to(key), "a number", member);
    return member.get<double>();
  }

  /// The member as a number, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] double number_or(const char* key, double otherwise) const {
    return find(key) == nullptr ? otherwise : number(key);
  }

  /// Throws format_error: `where` is not what was expected.
  [[noreturn]] void fail(std::string_view where, std::string_view expected, const nlohmann::json& found) const {
    std::string shown = show(found);
    if (shown.size() > 80) shown = shown.substr(0, 80) + "...";
    throw format_error(message(source_name_, ": ", where, ": expected ", expected, ", found ", shown));
  }

  /// The object itself.
  [[nodiscard]] const nlohmann::json& value() const noexcept { return *value_; }
  /// The file's name.
  [[nodiscard]] const std::string& source_name() const noexcept { return source_name_; }

 private:
  /// What a value is, in a few words. (The library's own writer would come into every program that only reads.)
  [[nodiscard]] static std::string show(const nlohmann::json& value) {
    if (value.is_string()) return message('"', value.get_ref<const std::string&>(), '"');
    if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
    if (value.is_number_unsigned()) return std::to_string(value.get<std::uint64_t>());
    if (value.is_number_integer()) return std::to_string(value.get<std::int64_t>());
    return value.is_number() ? message(value.get<double>()) : std::string(value.type_name());
  }

  [[nodiscard]] const nlohmann::json& need(const char* key) const {
    const auto* const member = find(key);
    if (member == nullptr) throw format_error(message(source_name_, ": ", path_to(key), " is missing"));
    return *member;
  }

  const nlohmann::json* value_;
  std::string source_name_;
  std::string where_;
};

}  // namespace runnel::io
