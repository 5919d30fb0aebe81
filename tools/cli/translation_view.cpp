// SPDX-License-Identifier: Apache-2.0

#include "translation_view.hpp"

#include <algorithm>
#include <cstdlib>

#include <runnel/unicode/utf8.hpp>

namespace runnel::cli {

namespace {

constexpr std::string_view dim = "\x1b[2m";
constexpr std::string_view plain = "\x1b[0m";

bool terminal_has_colour() {
  const char* const refused = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  const char* const kind = std::getenv("TERM");         // NOLINT(concurrency-mt-unsafe)
  return (refused == nullptr || *refused == '\0') && kind != nullptr && *kind != '\0' &&
         std::string_view(kind) != "dumb";
}

}  // namespace

translation_view::translation_view(bool spaced)
    : live_(output::is_terminal()), colour_(live_ && terminal_has_colour()), spaced_(spaced) {}

void translation_view::begin_sentence(const std::string& name) {
  if (!live_) return;
  out_.write(printable(name) + ": ");
  out_.flush();
  now_ = side::none;
  source_.clear();
}

void translation_view::turn_to(side next) {
  if (now_ == next) return;
  if (now_ == side::source) out_.write(colour_ ? plain : "]");
  if (now_ != side::none && next != side::none) out_.write(" ");
  if (next == side::source) out_.write(colour_ ? dim : "[");
  now_ = next;
}

void translation_view::read(std::string_view word) {
  if (!live_) return;
  source_ += word;
  const std::size_t whole = source_.size() - unicode::incomplete_tail(source_);
  std::string shown = printable(std::string_view(source_).substr(0, whole));
  source_.erase(0, whole);
  if (shown.empty()) return;
  if (now_ == side::source && spaced_) shown.insert(shown.begin(), ' ');
  if (now_ != side::source && shown.starts_with(' ')) shown.erase(0, 1);
  turn_to(side::source);
  out_.write(shown);
  out_.flush();
}

void translation_view::written(std::string_view text) {
  if (!live_) return;
  std::string shown = printable(text);
  if (now_ != side::target) {
    shown.erase(0, std::min(shown.find_first_not_of(' '), shown.size()));
    if (shown.empty()) return;
  }
  turn_to(side::target);
  out_.write(shown);
  out_.flush();
}

void translation_view::end_sentence(const std::string& translation, const std::string& before) {
  if (live_) {
    turn_to(side::none);
    out_.write("\n   = " + printable(translation) + "\n");
  } else {
    out_.write(before + translation + "\n");
  }
  out_.flush();
}

void translation_view::abandon_sentence() {
  if (!live_) return;
  turn_to(side::none);
  out_.write("\n");
  out_.flush();
}

}  // namespace runnel::cli
