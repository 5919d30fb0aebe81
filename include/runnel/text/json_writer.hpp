// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text {

/// Writes JSON text piece by piece, without a tree of it: for documents of many members, and for programs that should
/// not compile a JSON library for a few. Commas, colons and line breaks come by themselves.
///
///     json_writer out;
///     out.begin_object();
///     out.member("name", "tiny");
///     out.key("sizes");
///     out.begin_array();
///     out.value(3);
///     out.end();
///     out.end();
///     io::write_file_atomically("tiny.json", std::as_bytes(std::span(out.text())));
class json_writer {
 public:
  /// Opens an object or an array as the next value; `end` closes it. Its members stand on lines of their own, or all on
  /// one line if `flat`.
  void begin_object(bool flat = false) { open('{', '}', flat); }
  void begin_array(bool flat = false) { open('[', ']', flat); }
  void end() {
    const level closed = levels_.back();
    levels_.pop_back();
    if (closed.used && !closed.flat) new_line();
    text_ += closed.close;
  }

  /// Names the next value of an object. Throws config_error if `name` is not UTF-8.
  void key(std::string_view name) {
    separate();
    quote(name);
    text_ += ": ";
    named_ = true;
  }

  void value(std::string_view text) {
    separate();
    quote(text);
  }
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(std::nullptr_t) { plain("null"); }
  template <std::integral T>
  void value(T number) {
    if constexpr (std::same_as<T, bool>) {
      plain(number ? "true" : "false");
    } else {
      plain(std::to_string(number));
    }
  }
  /// The shortest digits that give the number back; null where JSON has none (NaN, infinity).
  template <std::floating_point T>
  void value(T number) {
    plain(std::isfinite(number) ? message(number) : std::string("null"));
  }

  /// `key` and `value` in one.
  template <class T>
  void member(std::string_view name, const T& of) {
    key(name);
    value(of);
  }

  /// What was written so far.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  struct level {
    char close;
    bool flat;
    bool used;
  };

  void open(char begin, char close, bool flat) {
    separate();
    text_ += begin;
    levels_.push_back({close, flat || (!levels_.empty() && levels_.back().flat), false});
  }

  void plain(std::string_view text) {
    separate();
    text_ += text;
  }

  /// What stands between the value before and the next one.
  void separate() {
    if (std::exchange(named_, false) || levels_.empty()) return;
    level& here = levels_.back();
    if (here.used) text_ += here.flat ? ", " : ",";
    here.used = true;
    if (!here.flat) new_line();
  }

  void new_line() {
    text_ += '\n';
    text_.append(levels_.size(), ' ');
  }

  void quote(std::string_view text) {
    text_ += '"';
    std::size_t kept = 0;  // before it, the text is written
    for (std::size_t at = 0; at < text.size();) {
      const auto byte = static_cast<std::uint8_t>(text[at]);
      if (byte >= 0x80) {
        const auto step = unicode::decode(text, at);
        if (step.kind != unicode::sequence_kind::valid)
          fail<config_error>("JSON cannot hold what is not UTF-8: ", io::in_quotes(text));
        at += step.length;
        continue;
      }
      if (byte < 0x20 || byte == '"' || byte == '\\') {
        text_ += text.substr(kept, at - kept);
        escape(byte);
        kept = at + 1;
      }
      ++at;
    }
    text_ += text.substr(kept);
    text_ += '"';
  }

  void escape(std::uint8_t byte) {
    constexpr std::string_view special = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt", digits = "0123456789abcdef";
    text_ += '\\';
    if (const auto at = special.find(static_cast<char>(byte)); at != std::string_view::npos) {
      text_ += letters[at];
      return;
    }
    text_ += "u00";
    text_ += digits[byte >> 4U];
    text_ += digits[byte & 15U];
  }

  std::string text_;
  std::vector<level> levels_;
  bool named_ = false;  // a key waits for its value
};

}  // namespace runnel::text
