// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if __has_include(<nlohmann/detail/input/parser.hpp>)
#include <nlohmann/detail/input/parser.hpp>  // all that is needed; the whole of it costs every program a second
#else
#include <nlohmann/json.hpp>
#endif

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/mmap.hpp>

namespace runnel::io {

/// No config that lies beside a model is larger.
inline constexpr std::uint64_t most_config_bytes = std::uint64_t{16} << 20U;

class json_value;

namespace detail {

enum class json_kind : std::uint8_t {
  null,
  boolean,
  natural,   ///< an integer without a sign, up to 2^64 - 1
  negative,  ///< an integer with one, down to -2^63
  real,      ///< any other number
  string,
  name,  ///< of the member of an object whose value comes next
  array,
  object,
};

class json_filler;

}  // namespace detail

/// A parsed JSON text: its values in one list, as they stand in the text, and its strings in another. Memory: 16 bytes
/// for each value and name, and the strings. (The tree of nlohmann/json, whose parser this is filled by, takes several
/// times that, and seconds to compile.)
class json_document {
 public:
  /// Deepest nesting; configs and tokenizers need 8.
  static constexpr std::size_t deepest = 64;

  /// \throws format_error naming `source_name` unless `text` is JSON of less than 4 GiB with at most `most_values`
  /// values and names
  json_document(std::string_view text, std::string source_name,
                std::size_t most_values = std::numeric_limits<std::size_t>::max());

  /// The value that the text is. It and what is in it must not outlive the document.
  [[nodiscard]] json_value root() const noexcept;

  /// The file's name.
  [[nodiscard]] const std::string& source_name() const noexcept { return source_name_; }

 private:
  friend class json_value;
  friend class detail::json_filler;

  /// A value, or the name of the one after it.
  struct node {
    detail::json_kind kind;
    std::uint32_t size;  ///< of a string: its bytes; of an array or object: the nodes after it that belong to it
    std::uint64_t bits;  ///< of a string: its place; of an array or object: how many it has; otherwise the value
  };

  std::string source_name_;
  std::vector<node> nodes_;
  std::string strings_;
};

/// One value of a document, as cheap to copy as a pointer. Iterating over an array or object gives its values; over
/// anything else, nothing.
class json_value {
 public:
  using kind = detail::json_kind;

  class iterator {
   public:
    explicit iterator(const json_document& document, std::size_t place, std::size_t names) noexcept
        : document_(&document), place_(place), names_(names) {}
    [[nodiscard]] json_value operator*() const noexcept { return {*document_, place_}; }
    iterator& operator++() noexcept {
      place_ = json_value(*document_, place_).after() + names_;
      return *this;
    }
    friend bool operator==(const iterator& a, const iterator& b) noexcept { return a.place_ == b.place_; }

   private:
    const json_document* document_;
    std::size_t place_;
    std::size_t names_;  // nodes before each value
  };

  json_value(const json_document& document, std::size_t place) noexcept : document_(&document), place_(place) {}

  [[nodiscard]] bool is_null() const noexcept { return here().kind == kind::null; }
  [[nodiscard]] bool is_array() const noexcept { return here().kind == kind::array; }
  [[nodiscard]] bool is_object() const noexcept { return here().kind == kind::object; }

  /// The value as what it is; nothing if it is something else, or a number that does not fit.
  [[nodiscard]] std::optional<std::string_view> text() const noexcept {
    if (here().kind != kind::string) return std::nullopt;
    return string_at(place_);
  }
  [[nodiscard]] std::optional<bool> truth() const noexcept {
    if (here().kind != kind::boolean) return std::nullopt;
    return here().bits != 0;
  }
  [[nodiscard]] std::optional<std::uint64_t> natural() const noexcept {
    if (here().kind != kind::natural) return std::nullopt;
    return here().bits;
  }
  [[nodiscard]] std::optional<std::int64_t> integer() const noexcept {
    const bool fits = here().kind == kind::natural && here().bits >> 63U == 0;
    if (here().kind != kind::negative && !fits) return std::nullopt;
    return static_cast<std::int64_t>(here().bits);
  }
  [[nodiscard]] std::optional<double> number() const noexcept {
    if (here().kind == kind::real) return std::bit_cast<double>(here().bits);
    if (here().kind == kind::natural) return static_cast<double>(here().bits);
    if (here().kind == kind::negative) return static_cast<double>(static_cast<std::int64_t>(here().bits));
    return std::nullopt;
  }

  /// The values of an array or object, in their order.
  [[nodiscard]] iterator begin() const noexcept { return iterator(*document_, place_ + 1 + names(), names()); }
  [[nodiscard]] iterator end() const noexcept { return iterator(*document_, after() + names(), names()); }
  [[nodiscard]] std::size_t size() const noexcept {
    return is_array() || is_object() ? static_cast<std::size_t>(here().bits) : 0;
  }

  /// The name of a member of an object; for those only.
  [[nodiscard]] std::string_view name() const noexcept { return string_at(place_ - 1); }

  /// What this is, in a few words.
  [[nodiscard]] std::string describe() const {
    switch (here().kind) {
      case kind::null: return "null";
      case kind::boolean: return here().bits != 0 ? "true" : "false";
      case kind::natural: return message(here().bits);
      case kind::negative: return message(static_cast<std::int64_t>(here().bits));
      case kind::real: return message(std::bit_cast<double>(here().bits), " (a floating-point number)");
      case kind::array: return "array";
      case kind::object: return "object";
      default: break;
    }
    constexpr std::size_t longest = 80;
    const auto whole = string_at(place_);
    return message('"', whole.substr(0, longest), whole.size() > longest ? "..." : "\"");
  }

  [[nodiscard]] const std::string& source_name() const noexcept { return document_->source_name_; }

 private:
  [[nodiscard]] const json_document::node& here() const noexcept { return document_->nodes_[place_]; }
  [[nodiscard]] std::size_t names() const noexcept { return is_object() ? 1 : 0; }
  [[nodiscard]] std::size_t after() const noexcept {
    return place_ + 1 + (is_array() || is_object() ? static_cast<std::size_t>(here().size) : 0);
  }
  [[nodiscard]] std::string_view string_at(std::size_t place) const noexcept {
    const auto& node = document_->nodes_[place];
    return std::string_view(document_->strings_).substr(static_cast<std::size_t>(node.bits), node.size);
  }

  const json_document* document_;
  std::size_t place_;
};

namespace detail {

/// What the parser of nlohmann/json asks of its tree's type.
struct json_types {
  using number_integer_t = std::int64_t;
  using number_unsigned_t = std::uint64_t;
  using number_float_t = double;
  using string_t = std::string;
  using binary_t = std::vector<std::uint8_t>;
  using exception = nlohmann::detail::exception;
};

}  // namespace detail
}  // namespace runnel::io

template <>
struct nlohmann::detail::is_basic_json<runnel::io::detail::json_types> : std::true_type {};

namespace runnel::io {
namespace detail {

/// Takes the events of the parser of nlohmann/json into a document.
class json_filler {
 public:
  using json = json_types;
  using kind = json_kind;

  json_filler(json_document& document, std::size_t most_values) : document_(document), most_values_(most_values) {}

  bool null() { return add(kind::null, 0); }
  bool boolean(bool value) { return add(kind::boolean, value ? 1 : 0); }
  bool number_integer(json::number_integer_t value) {
    return add(value < 0 ? kind::negative : kind::natural, static_cast<std::uint64_t>(value));
  }
  bool number_unsigned(json::number_unsigned_t value) { return add(kind::natural, value); }
  bool number_float(json::number_float_t value, const json::string_t&) {
    return add(kind::real, std::bit_cast<std::uint64_t>(value));
  }
  bool string(const json::string_t& text) { return add_text(kind::string, text); }
  bool binary(const json::binary_t&) { return false; }  // not in JSON
  bool key(const json::string_t& text) { return add_text(kind::name, text); }
  bool start_object(std::size_t) { return open(kind::object); }
  bool start_array(std::size_t) { return open(kind::array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(std::size_t, const std::string&, const json::exception& problem) const {
    fail<format_error>(document_.source_name_, ": expected JSON: ", problem.what());
  }

 private:
  bool add(kind what, std::uint64_t bits, std::size_t size = 0) {
    auto& nodes = document_.nodes_;
    expect<format_error>(nodes.size() < most_values_, document_.source_name_, ": the JSON has more than ", most_values_,
                         " values and names");
    if (!open_.empty() && what != kind::name) ++nodes[open_.back()].bits;
    nodes.push_back({what, static_cast<std::uint32_t>(size), bits});
    return true;
  }
  bool add_text(kind what, const std::string& text) {
    add(what, document_.strings_.size(), text.size());
    document_.strings_ += text;
    return true;
  }
  bool open(kind what) {
    expect<format_error>(open_.size() < json_document::deepest, document_.source_name_, ": JSON is nested deeper than ",
                         json_document::deepest, " levels");
    add(what, 0);
    open_.push_back(document_.nodes_.size() - 1);
    return true;
  }
  bool close() {
    auto& nodes = document_.nodes_;
    nodes[open_.back()].size = static_cast<std::uint32_t>(nodes.size() - open_.back() - 1);
    open_.pop_back();
    return true;
  }

  json_document& document_;
  std::size_t most_values_;
  std::vector<std::size_t> open_;  // places of the arrays and objects that have not ended
};

}  // namespace detail

inline json_document::json_document(std::string_view text, std::string source_name, std::size_t most_values)
    : source_name_(std::move(source_name)) {
  expect<format_error>(text.size() <= std::numeric_limits<std::uint32_t>::max(), source_name_,
                       ": JSON of 4 GiB and more is not supported");
  nodes_.reserve(std::min(text.size() / 8, most_values));  // about what configs and vocabularies have
  detail::json_filler filler(*this, most_values);
  // nlohmann::json::sax_parse would do the same, and compile the tree and the readers of five binary formats with it.
  auto input = nlohmann::detail::input_adapter(text);
  nlohmann::detail::parser<detail::json_types, decltype(input)>(std::move(input)).sax_parse(&filler);
}

inline json_value json_document::root() const noexcept { return {*this, 0}; }

/// The JSON in a file of at most `most_bytes`. \throws io_error if it cannot be read \throws format_error
[[nodiscard]] inline json_document read_json_file(const std::filesystem::path& path, std::uint64_t most_bytes) {
  const mapped_file file(path);
  const auto bytes = file.bytes();
  expect<format_error>(bytes.size() <= most_bytes, file.name(), ": has ", bytes.size(), " bytes, expected at most ",
                       most_bytes);
  return {{reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.name()};
}

/// Typed access to the members of a JSON object; complaints name the file and the path to the member.
class json_object {
 public:
  /// `where` is the object's place in the file. \throws format_error unless `value` is an object
  explicit json_object(json_value value, std::string where = {}) : value_(value), where_(std::move(where)) {
    if (!value.is_object()) fail(where_.empty() ? "the file" : where_, "an object", value);
  }

  /// The members, to iterate over.
  [[nodiscard]] json_value members() const noexcept { return value_; }

  /// The member, or nothing if it is missing or JSON's null; of several the last.
  [[nodiscard]] std::optional<json_value> find(std::string_view key) const {
    const auto found = last(key);
    return found && found->is_null() ? std::nullopt : found;
  }

  /// Whether there is such a member, JSON's null included.
  [[nodiscard]] bool has(std::string_view key) const { return last(key).has_value(); }

  /// The member as an object. \throws format_error if it is missing or something else
  [[nodiscard]] json_object object(std::string_view key) const { return json_object(need(key), path_to(key)); }

  /// The member as an array. \throws format_error if it is missing or something else
  [[nodiscard]] json_value array(std::string_view key) const {
    const auto member = need(key);
    if (!member.is_array()) fail(path_to(key), "an array", member);
    return member;
  }

  /// The member as text. \throws format_error if it is missing or something else
  [[nodiscard]] std::string_view text(std::string_view key) const {
    const auto member = need(key);
    const auto text = member.text();
    if (!text) fail(path_to(key), "a string", member);
    return *text;
  }

  /// The member as text, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] std::string_view text_or(std::string_view key, std::string_view otherwise) const {
    return find(key) ? text(key) : otherwise;
  }

  /// The member as a truth value, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] bool flag_or(std::string_view key, bool otherwise) const {
    const auto member = find(key);
    if (!member) return otherwise;
    const auto truth = member->truth();
    if (!truth) fail(path_to(key), "true or false", *member);
    return *truth;
  }

  /// The member as a whole number. \throws format_error if it is missing or something else
  [[nodiscard]] std::int64_t integer(std::string_view key) const {
    const auto member = need(key);
    const auto value = member.integer();
    if (!value) fail(path_to(key), "a whole number", member);
    return *value;
  }

  /// The member as a whole number, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] std::int64_t integer_or(std::string_view key, std::int64_t otherwise) const {
    return find(key) ? integer(key) : otherwise;
  }

  /// The member as a number. \throws format_error if it is missing or something else
  [[nodiscard]] double number(std::string_view key) const {
    const auto member = need(key);
    const auto value = member.number();
    if (!value) fail(path_to(key), "a number", member);
    return *value;
  }

  /// The member as a number, or `otherwise` if it is missing. \throws format_error if it is something else
  [[nodiscard]] double number_or(std::string_view key, double otherwise) const {
    return find(key) ? number(key) : otherwise;
  }

  /// The member as a token id. \throws format_error if it is missing or no integer in [0, 2^31)
  [[nodiscard]] std::int32_t id(std::string_view key) const { return to_id(need(key), path_to(key)); }

  /// `value` as a token id; `where` and the name there are for messages. \throws format_error unless it is an integer
  /// in [0, 2^31)
  [[nodiscard]] static std::int32_t to_id(json_value value, std::string_view where, std::string_view name = {}) {
    const auto number = value.natural();
    if (!number || *number > 0x7FFFFFFFU) {
      fail(name.empty() ? message(where) : message(where, " of \"", name, '"'), "a token id", value);
    }
    return static_cast<std::int32_t>(*number);
  }

  /// The texts of an array; none if it is missing. \throws format_error if it is something else
  [[nodiscard]] std::vector<std::string> texts(std::string_view key) const {
    std::vector<std::string> list;
    if (!find(key)) return list;
    for (const auto one : array(key)) {
      const auto text = one.text();
      if (!text) fail(message(path_to(key), '[', list.size(), ']'), "a string", one);
      list.emplace_back(*text);
    }
    return list;
  }

  /// \throws format_error unless the members' names are some of `known`, each once
  void check_names(std::initializer_list<std::string_view> known) const {
    std::vector<std::string_view> seen;
    for (const auto member : value_) {
      const auto key = member.name();
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        std::string list;
        for (const auto one : known) list += message(list.empty() ? "" : ", ", one);
        runnel::fail<format_error>(source_name(), ": ", path_to(in_quotes(key)), " is unknown, expected one of ", list);
      }
      expect<format_error>(std::find(seen.begin(), seen.end(), key) == seen.end(), source_name(), ": ", path_to(key),
                           " occurs more than once");
      seen.push_back(key);
    }
  }

  /// Where a member stands, for messages.
  [[nodiscard]] std::string path_to(std::string_view key) const {
    return where_.empty() ? std::string(key) : message(where_, '.', key);
  }

  /// Throws format_error: `where` is not what was expected.
  [[noreturn]] static void fail(std::string_view where, std::string_view expected, json_value found) {
    runnel::fail<format_error>(found.source_name(), ": ", where, ": expected ", expected, ", found ", found.describe());
  }

  /// The file's name.
  [[nodiscard]] const std::string& source_name() const noexcept { return value_.source_name(); }

 private:
  [[nodiscard]] std::optional<json_value> last(std::string_view key) const {
    std::optional<json_value> found;
    for (const json_value member : value_) {
      if (member.name() == key) found = member;
    }
    return found;
  }

  [[nodiscard]] json_value need(std::string_view key) const {
    const auto member = find(key);
    if (!member) runnel::fail<format_error>(source_name(), ": ", path_to(key), " is missing");
    return *member;
  }

  json_value value_;
  std::string where_;
};

}  // namespace runnel::io
