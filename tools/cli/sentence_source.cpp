// SPDX-License-Identifier: Apache-2.0

#include "sentence_source.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

namespace runnel::cli {

std::optional<std::int64_t> sentence_source::count_lines() const {
  if (!bytes_.is_regular() || bytes_.name() == "standard input") return std::nullopt;
  byte_source again(bytes_.name());
  std::string part;
  std::int64_t lines = 0;
  bool open = false;
  while (!again.ended()) {
    part.clear();
    again.take(part);
    lines += std::count(part.begin(), part.end(), '\n');
    if (!part.empty()) open = part.back() != '\n';
  }
  return lines + (open ? 1 : 0);
}

bool sentence_source::at_end() {
  if (!line_.empty() || !pending_.empty()) return false;
  bytes_.take(pending_);
  return pending_.empty() && bytes_.ended();
}

std::string_view sentence_source::take_line_part() {
  const std::size_t before = line_.size();
  std::size_t end = pending_.find('\n');
  if (end == std::string::npos) {  // one piece at a time: a line may have no end, and words in it should not wait
    const std::size_t seen = pending_.size();
    if (!bytes_.ended() && bytes_.take(pending_)) end = pending_.find('\n', seen);
  }
  line_feed_ = end != std::string::npos;
  line_ended_ = line_feed_ || bytes_.ended();
  line_.append(pending_, 0, end);
  pending_.erase(0, end == std::string::npos ? end : end + 1);
  return std::string_view(line_).substr(before);
}

void sentence_source::feed(stream::session& session) {
  if (line_ended_) return;
  const auto part = take_line_part();
  if (!part.empty()) push(session, words_.push(part));
  if (!line_ended_) return;
  push(session, words_.finish());
  if (units_ > 0) session.finish();
}

void sentence_source::push(stream::session& session, const std::vector<std::string>& units) {
  const auto& model = session.model();
  for (const auto& unit : units) {
    if (unit_ != text::text_unit::token) {
      session.push(unit);
      ++units_;
      continue;
    }
    const bool first = num_words_++ == 0;
    const auto ids = model.word_tokens(unit, first ? std::string_view() : model.format.word_separator, first);
    for (const std::int32_t id : ids) {
      session.push_tokens(std::span(&id, 1));
      ++units_;
    }
  }
}

void sentence_source::read_line() {
  while (!line_ended_) {
    take_line_part();
    interrupts::instance().check();
    if (!line_ended_) bytes_.wait();
  }
}

void sentence_source::next_line() {
  while (!line_ended_) {
    take_line_part();
    line_.clear();
    interrupts::instance().check();
    if (!line_ended_) bytes_.wait();
  }
  (void)words_.finish();
  line_.clear();
  line_ended_ = line_feed_ = false;
  units_ = num_words_ = 0;
  ++line_number_;
}

std::optional<std::string> sentence_source::separator() const {
  if (unit_ == text::text_unit::character) return std::string();
  return std::nullopt;
}

}  // namespace runnel::cli
