// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/json.hpp>

namespace runnel::train {

/// Settings by dotted keys ("batch.rows") from a JSON file and from overrides after it; what comes later counts.
class settings {
 public:
  /// Reads a file. Throws io_error, or format_error if it is not JSON; config_error unless it is an object.
  void add_file(const std::filesystem::path& path) { add({}, io::read_json_file(path, io::most_config_bytes)); }

  /// JSON text as a file called `name` would have it. Throws as `add_file`.
  void add_text(std::string_view text, std::string name) { add({}, io::json_document(text, std::move(name))); }

  /// "key=value". The value is JSON, or, where it is not, a text: `plan.name=batch`; `raw_text` gives it as it stands
  /// where a text is wanted. An object changes the keys that it has. Throws config_error without a key.
  void add_override(std::string_view assignment) {
    const auto equals = assignment.find('=');
    expect(equals != std::string_view::npos && equals > 0, "--set: expected key=value, found ",
           io::in_quotes(assignment));
    std::string key(assignment.substr(0, equals));
    const auto value = assignment.substr(equals + 1);
    std::optional<io::json_document> document;
    try {
      document.emplace(value, std::string("--set"));
    } catch (const format_error&) {
      document.emplace(quoted(value), std::string("--set"));
    }
    add(std::move(key), std::move(*document));
    layers_.back().raw = value;
  }

  /// The value of a key as an override spells it; nothing unless what counts is an override of that very key.
  [[nodiscard]] std::optional<std::string> raw_text(std::string_view key) const {
    for (auto one = layers_.rbegin(); one != layers_.rend(); ++one) {
      if (one->prefix == key) return one->raw;
      const bool around = one->prefix.empty() || is_at_or_in(key, one->prefix);
      if (around && look_up(one->document.root(), inside(key, one->prefix))) return std::nullopt;
    }
    return std::nullopt;
  }

  /// The value of a key, or nothing if it is given nowhere, or last as null.
  [[nodiscard]] std::optional<io::json_value> find(std::string_view key) const {
    for (auto one = layers_.rbegin(); one != layers_.rend(); ++one) {
      if (!one->prefix.empty() && !is_at_or_in(key, one->prefix)) continue;
      if (const auto found = look_up(one->document.root(), inside(key, one->prefix))) {
        return found->is_null() ? std::nullopt : found;
      }
    }
    return std::nullopt;
  }

  /// A value that was given for a key, or for a key within it.
  struct part {
    std::string_view within;  ///< the rest of the key; empty: the key itself
    io::json_value value;
  };

  /// Everything that was given for a key or within it, in order.
  [[nodiscard]] std::vector<part> find_all(std::string_view key) const {
    std::vector<part> out;
    for (const layer& one : layers_) {
      if (is_at_or_in(one.prefix, key)) {
        out.push_back(
            {std::string_view(one.prefix).substr(std::min(key.size() + 1, one.prefix.size())), one.document.root()});
        continue;
      }
      if (!one.prefix.empty() && !is_at_or_in(key, one.prefix)) continue;
      if (const auto found = look_up(one.document.root(), inside(key, one.prefix))) out.push_back({{}, *found});
    }
    return out;
  }

  /// A last part of a key that other programs use, and the key here.
  using other_name = std::pair<std::string_view, std::string_view>;

  /// Throws config_error naming file and key for anything given that is not one of `keys`, with the likeliest one
  /// meant. Within `open` there may be anything.
  void expect_known(const std::vector<std::string_view>& keys, std::string_view open,
                    std::span<const other_name> others = {}) const {
    for (const layer& one : layers_) {
      if (!is_at_or_in(one.prefix, open)) expect_known(one.document.root(), one.prefix, keys, others);
    }
  }

  /// Throws config_error: what was given for `key` is not what was expected.
  [[noreturn]] static void refuse(std::string_view key, std::string_view expected, const io::json_value& found) {
    fail<config_error>(found.source_name(), ": ", key, ": expected ", expected, ", found ", found.describe());
  }

 private:
  struct layer {
    std::string prefix;  // the key of an override; empty for files
    io::json_document document;
    std::string raw{};  // of an override
  };

  void add(std::string prefix, io::json_document document) {
    layers_.push_back({std::move(prefix), std::move(document), {}});
    const auto root = layers_.back().document.root();
    if (layers_.back().prefix.empty() && !root.is_object()) refuse("the file", "an object", root);
  }

  [[nodiscard]] static bool is_at_or_in(std::string_view key, std::string_view prefix) {
    return key.starts_with(prefix) && (key.size() == prefix.size() || key[prefix.size()] == '.');
  }

  /// What is left of a key within `prefix`.
  [[nodiscard]] static std::string_view inside(std::string_view key, std::string_view prefix) {
    return prefix.empty() ? key : key.substr(std::min(key.size(), prefix.size() + 1));
  }

  [[nodiscard]] static std::string_view last_part(std::string_view key) { return key.substr(key.rfind('.') + 1); }

  /// The key that was likely meant; empty if none is like it.
  [[nodiscard]] static std::string_view likely(std::string_view wrong, const std::vector<std::string_view>& keys,
                                               std::span<const other_name> others) {
    for (const auto& [name, key] : others) {
      if (name == last_part(wrong)) return key;
    }
    for (const auto key : keys) {
      if (last_part(key) == last_part(wrong)) return key;
    }
    const auto meant = std::min_element(keys.begin(), keys.end(), [&](std::string_view a, std::string_view b) {
      return distance(a, wrong) < distance(b, wrong);
    });
    return meant != keys.end() && distance(*meant, wrong) <= 1 + wrong.size() / 4 ? *meant : std::string_view();
  }

  [[nodiscard]] static std::optional<io::json_value> look_up(io::json_value at, std::string_view path) {
    while (!path.empty()) {
      const auto dot = std::min(path.find('.'), path.size());
      std::optional<io::json_value> next;
      if (at.is_object()) {
        for (const io::json_value member : at) {
          if (member.name() == path.substr(0, dot)) next = member;
        }
      }
      if (!next) return std::nullopt;
      at = *next;
      path.remove_prefix(std::min(dot + 1, path.size()));
    }
    return at;
  }

  /// As deep as keys have parts.
  static void expect_known(io::json_value value, const std::string& path, const std::vector<std::string_view>& keys,
                           std::span<const other_name> others) {
    if (std::find(keys.begin(), keys.end(), path) != keys.end()) return;
    const bool section = path.empty() || std::any_of(keys.begin(), keys.end(), [&](std::string_view key) {
                           return key.size() > path.size() && is_at_or_in(key, path);
                         });
    if (!section) {
      const auto meant = likely(path, keys, others);
      fail<config_error>(value.source_name(), ": ", io::in_quotes(path), " is no setting",
                         meant.empty() ? std::string() : message("; did you mean ", io::in_quotes(meant), "?"));
    }
    if (value.is_null()) return;
    if (!value.is_object()) refuse(path, "an object", value);
    std::vector<std::string_view> seen;
    for (const io::json_value member : value) {
      const std::string inner = path.empty() ? std::string(member.name()) : message(path, '.', member.name());
      expect(std::find(seen.begin(), seen.end(), member.name()) == seen.end(), value.source_name(), ": ",
             io::in_quotes(inner), " is given more than once");
      seen.push_back(member.name());
      expect_known(member, inner, keys, others);
    }
  }

  /// Levenshtein's.
  [[nodiscard]] static std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 0; i < a.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t j = 0; j < b.size(); ++j) {
        const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({changed, row[j] + 1, diagonal + 1});
      }
    }
    return row.back();
  }

  [[nodiscard]] static std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    return out + '"';
  }

  std::deque<layer> layers_;  // values point into the documents
};

}  // namespace runnel::train
