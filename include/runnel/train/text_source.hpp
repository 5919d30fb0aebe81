// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/io/checked.hpp>

/// \file
/// Text files of any size, line by line or value by value, from wherever bytes come.

namespace runnel::train {

/// Gives the next bytes of a text: fills a part of the span from its front and says how much; 0 at the end. Throws
/// io_error or format_error, naming the file.
using byte_source = std::function<std::size_t(std::span<char> into)>;

/// Opens a text. A program that reads compressed files gives one that does.
using source_opener = std::function<byte_source(const std::filesystem::path&)>;

/// Opens a plain file. \throws io_error if it cannot be opened or is a folder
[[nodiscard]] inline byte_source open_plain_file(const std::filesystem::path& path) {
  std::error_code ignored;
  expect<io_error>(!std::filesystem::is_directory(path, ignored), path.string(), ": is a folder, expected a file");
  auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
  expect<io_error>(file->is_open(), path.string(), ": cannot be opened");
  return [file, name = path.string()](std::span<char> into) {
    file->read(into.data(), static_cast<std::streamsize>(into.size()));
    expect<io_error>(!file->bad(), name, ": cannot be read");
    return static_cast<std::size_t>(file->gcount());
  };
}

/// What became of a line or value that was asked for.
enum class text_status : std::uint8_t { read, too_long, at_end };

/// Buffered reading. Memory: 64 KiB and the longest line or value asked for.
class text_reader {
 public:
  /// `name` is the file's, for messages.
  text_reader(byte_source source, std::string name) : source_(std::move(source)), name_(std::move(name)) {
    expect(static_cast<bool>(source_), "text: ", name_, ": the source is empty");
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Number of the line that was read last, or in which the value read last begins; from 1.
  [[nodiscard]] index_t line_number() const noexcept { return line_; }

  /// The next line, without its end (`\n` or `\r\n`) and, in the first, without a byte-order mark. Of one with more
  /// than `most_bytes` the rest is passed over.
  text_status next_line(std::string& line, std::size_t most_bytes) {
    line.clear();
    if (!more()) return text_status::at_end;
    ++line_;
    bool too_long = false;
    while (more()) {
      const std::string_view rest = buffered();
      const std::size_t stop = std::min(rest.find('\n'), rest.size());
      // One byte more for a carriage return.
      const std::size_t room = most_bytes + 1 - std::min(line.size(), most_bytes + 1);
      too_long |= stop > room;
      line.append(rest.substr(0, std::min(stop, room)));
      at_ += stop;
      if (stop < rest.size()) {
        ++at_;
        break;
      }
    }
    if (line.ends_with('\r')) line.pop_back();
    return too_long || line.size() > most_bytes ? text_status::too_long : text_status::read;
  }

  /// The next value of a JSON array of objects, as its text. The array's brackets and commas are taken care of; what is
  /// inside the value is not looked at beyond finding its end. \throws format_error where the array is malformed or
  /// ends too early, naming the line
  text_status next_element(std::string& value, std::size_t most_bytes) {
    value.clear();
    if (!in_array_) begin_array();
    if (after_array_) return text_status::at_end;
    char c = skip_space("',' or ']'");
    if (c == ']') return end_array();
    if (any_) {
      if (c != ',') refuse("',' or ']'", c);
      c = skip_space("an object");
    }
    any_ = true;
    if (c != '{') refuse("an object", c);
    line_ = here_;
    return take_object(value, most_bytes);
  }

 private:
  static constexpr std::size_t buffer_size = std::size_t{1} << 16U;

  [[nodiscard]] std::string_view buffered() const noexcept { return std::string_view(buffer_).substr(at_); }

  /// Whether there is another byte, in the buffer from here on.
  bool more() {
    if (at_ < buffer_.size()) return true;
    const bool first = !begun_;
    begun_ = true;
    fill();
    constexpr std::string_view mark = "\xEF\xBB\xBF";
    while (first && buffer_.size() < mark.size() && mark.starts_with(buffer_) && fill_more()) {
    }
    if (first && buffer_.starts_with(mark)) {
      at_ = mark.size();
      if (at_ == buffer_.size()) fill();
    }
    return at_ < buffer_.size();
  }

  void fill() {
    buffer_.resize(buffer_size);
    buffer_.resize(source_(buffer_));
    at_ = 0;
  }

  /// Adds to a buffer shorter than a byte-order mark; false at the end.
  bool fill_more() {
    const std::size_t held = buffer_.size();
    buffer_.resize(buffer_size);
    const std::size_t count = source_(std::span<char>(buffer_).subspan(held));
    buffer_.resize(held + count);
    return count > 0;
  }

  /// The next character after white space, taken.
  char skip_space(std::string_view expected) {
    for (; more(); ++at_) {
      const char c = buffer_[at_];
      if (c == '\n') ++here_;
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
      ++at_;
      return c;
    }
    fail<format_error>(name_, ": line ", here_, ": expected ", expected, ", found the end of the file");
  }

  [[noreturn]] void refuse(std::string_view expected, char found) const {
    fail<format_error>(name_, ": line ", here_, ": expected ", expected, ", found ",
                       io::in_quotes(std::string_view(&found, 1)));
  }

  void begin_array() {
    in_array_ = true;
    const char c = skip_space("an array of objects");
    if (c != '[') refuse("an array of objects", c);
  }

  text_status end_array() {
    after_array_ = true;
    for (; more(); ++at_) {
      const char c = buffer_[at_];
      if (c == '\n') ++here_;
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r') refuse("the end of the file after ']'", c);
    }
    return text_status::at_end;
  }

  /// The rest of an object whose brace was taken: to where all braces and brackets are closed, strings left alone.
  text_status take_object(std::string& value, std::size_t most_bytes) {
    value = "{";
    index_t depth = 1;
    bool in_string = false, escaped = false, too_long = false;
    while (depth > 0) {
      expect<format_error>(more(), name_, ": line ", line_, ": the object that begins here does not end");
      const char c = buffer_[at_++];
      if (c == '\n') ++here_;
      if (value.size() < most_bytes) {
        value += c;
      } else {
        too_long = true;
      }
      if (escaped) {
        escaped = false;
      } else if (in_string) {
        escaped = c == '\\';
        in_string = c != '"';
      } else {
        in_string = c == '"';
        depth += (c == '{' || c == '[') ? 1 : (c == '}' || c == ']') ? -1 : 0;
      }
    }
    return too_long ? text_status::too_long : text_status::read;
  }

  byte_source source_;
  std::string name_;
  std::string buffer_;
  std::size_t at_ = 0;
  index_t line_ = 0;
  index_t here_ = 1;  // the line of the next character; for arrays
  bool begun_ = false;
  bool in_array_ = false;
  bool any_ = false;
  bool after_array_ = false;
};

}  // namespace runnel::train
