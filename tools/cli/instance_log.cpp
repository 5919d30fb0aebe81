// SPDX-License-Identifier: Apache-2.0

#include "instance_log.hpp"

#include <cmath>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

using nlohmann::json;

/// Reads the keys of one line; errors name the file, the line and the key.
class line_reader {
 public:
  line_reader(const std::string& path, std::int64_t line, const json& value)
      : where_(message(path, ", line ", line)), value_(value) {
    expect<format_error>(value.is_object(), where_, ": expected a JSON object, found ", value.type_name());
  }

  [[nodiscard]] instance read() const {
    instance one;
    one.index = whole(key("index"), "index");
    one.prediction = text(key("prediction"), "prediction");
    one.delays = times(key("delays"), "delays");
    if (const json* found = find("elapsed")) one.elapsed = times(*found, "elapsed");
    expect<format_error>(one.elapsed.empty() || one.elapsed.size() == one.delays.size(), where_,
                         ": key 'elapsed': ", "expected as many times as delays, ", one.delays.size(), ", found ",
                         one.elapsed.size());
    if (const json* found = find("reference")) one.reference = text(*found, "reference");
    if (const json* found = find("source"); found != nullptr && found->is_string()) {
      one.source = text(*found, "source");
    }
    one.source_length = number(key("source_length"), "source_length");
    if (const json* found = find("source_type")) one.is_speech = text(*found, "source_type") == "speech";
    if (const json* found = find("computed_ms")) {
      one.computed_ms = times(*found, "computed_ms");
      expect<format_error>(one.computed_ms->size() == one.delays.size(), where_,
                           ": key 'computed_ms': ", "expected as many times as delays, ", one.delays.size(), ", found ",
                           one.computed_ms->size());
    }
    if (const json* found = find("rows")) read_rows(*found, one);
    return one;
  }

 private:
  /// A value that is there and not null, or nothing.
  [[nodiscard]] const json* find(const char* name) const {
    const auto found = value_.find(name);
    return found == value_.end() || found->is_null() ? nullptr : &*found;
  }

  [[nodiscard]] const json& key(const char* name) const {
    const json* const found = find(name);
    expect<format_error>(found != nullptr, where_, ": key '", name, "' is missing");
    return *found;
  }

  /// A value as messages show it: a number itself, otherwise its type.
  [[nodiscard]] static std::string found(const json& value) {
    return value.is_number() ? value.dump() : std::string(value.type_name());
  }

  [[nodiscard]] std::string text(const json& value, const char* name) const {
    expect<format_error>(value.is_string(), where_, ": key '", name, "': expected a text, found ", value.type_name());
    return value.get<std::string>();
  }

  [[nodiscard]] std::int64_t whole(const json& value, const std::string& name) const {
    const bool fits =
        value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() >> 62U == 0);
    expect<format_error>(fits && value.get<std::int64_t>() >= 0, where_, ": key '", name,
                         "': expected a whole number that is not negative, found ", found(value));
    return value.get<std::int64_t>();
  }

  [[nodiscard]] double number(const json& value, const std::string& name) const {
    expect<format_error>(value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= 0, where_,
                         ": key '", name, "': expected a number that is not negative, found ", found(value));
    return value.get<double>();
  }

  [[nodiscard]] std::vector<double> times(const json& value, const std::string& name) const {
    expect<format_error>(value.is_array(), where_, ": key '", name, "': expected a list of numbers, found ",
                         value.type_name());
    std::vector<double> all;
    all.reserve(value.size());
    for (const auto& one : value) all.push_back(number(one, message(name, '[', all.size(), ']')));
    return all;
  }

  void read_rows(const json& value, instance& one) const {
    expect<format_error>(value.is_object(), where_, ": key 'rows': expected an object, found ", value.type_name());
    std::int64_t sums[2] = {0, 0};
    for (const char* name : {"source", "target", "refed", "refreshed"}) {
      const auto found = value.find(name);
      if (found == value.end()) continue;
      const std::int64_t count = whole(*found, message("rows.", name));
      expect<format_error>(count <= std::int64_t{1} << 48U, where_, ": key 'rows.", name, "': ", count, " is too many");
      sums[0] += count;
      if (name[0] == 'r') sums[1] += count;
    }
    one.rows = sums[0];
    one.rows_again = sums[1];
  }

  std::string where_;
  const json& value_;
};

}  // namespace

instance_log read_instance_log(const std::filesystem::path& path, torn_line last) {
  const std::string name = path.string();
  const std::string all = read_all(name);
  instance_log log;
  std::unordered_map<std::int64_t, std::int64_t> line_of;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = all.find('\n', begin);
    const bool whole = end != std::string::npos;
    const auto line = std::string_view(all).substr(begin, whole ? end - begin : end);
    ++number;
    const json value = json::parse(line, nullptr, false);
    if (value.is_discarded() && !whole && last == torn_line::drop) break;
    expect<format_error>(!value.is_discarded(), name, ", line ", number, ": expected a JSON object, found '",
                         printable(line.substr(0, 40)), line.size() > 40 ? "...'" : "'");
    log.lines.push_back(line_reader(name, number, value).read());
    const auto [earlier, fresh] = line_of.emplace(log.lines.back().index, number);
    expect<format_error>(fresh, name, ", line ", number, ": key 'index': ", log.lines.back().index, " stands in line ",
                         earlier->second, " already");
    begin = whole ? end + 1 : all.size();
    log.whole_bytes = begin;
    log.open_end = !whole;
  }
  return log;
}

}  // namespace runnel::cli
