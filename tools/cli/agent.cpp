// SPDX-License-Identifier: Apache-2.0

#include "agent.hpp"

#include <utility>

#include <nlohmann/json.hpp>

#include <runnel/metrics/words.hpp>

namespace runnel::cli {

namespace {

using nlohmann::json;

/// What a segment says.
struct source_segment {
  std::string text;
  bool finished = false;
};

bool flag_of(const json& value, const char* name) {
  const auto found = value.find(name);
  if (found == value.end() || found->is_null()) return false;
  expect<format_error>(found->is_boolean(), "segment: key '", name, "': expected true or false, found ",
                       found->type_name());
  return found->get<bool>();
}

source_segment parse_segment(std::string_view text) {
  const json value = json::parse(text, nullptr, false);
  expect<format_error>(value.is_object(), "segment: expected a JSON object, found ",
                       value.is_discarded() ? "what is no JSON" : value.type_name());
  source_segment segment;
  segment.finished = flag_of(value, "finished");
  if (flag_of(value, "is_empty")) return segment;
  if (const auto type = value.find("data_type"); type != value.end() && !type->is_null()) {
    expect<format_error>(*type == "text", "segment: key 'data_type': expected text, found ",
                         type->is_string() ? type->get<std::string>().substr(0, 40) : std::string(type->type_name()));
  }
  const auto content = value.find("content");
  expect<format_error>(content != value.end(), "segment: key 'content' is missing");
  if (content->is_array() && content->empty()) return segment;  // an empty segment's
  expect<format_error>(content->is_string(), "segment: key 'content': expected a text, found ", content->type_name());
  segment.text = content->get<std::string>();
  return segment;
}

}  // namespace

void agent::push(std::string_view text) {
  const auto segment = parse_segment(text);
  const auto words = metrics::split_words(segment.text);
  expect<conflict_error>(words.empty() || !finished_,
                         "segment: the source was finished already; POST /reset begins another");
  expect<limit_error>(segment.text.size() <= max_source_bytes - source_bytes_, "segment: a source may have ",
                      max_source_bytes, " bytes, and with this one it has more");
  source_bytes_ += segment.text.size();
  for (const auto word : words) session_.push(word);
  pushed_ = pushed_ || !words.empty();
  if (segment.finished && !finished_) {
    finished_ = true;
    if (pushed_) session_.finish();  // a source without a word has an empty translation
  }
}

std::string agent::pop(seconds most, const std::stop_token& stop) {
  const auto begin = std::chrono::steady_clock::now();
  while (pushed_ && !session_.done()) {
    const auto happened = session_.next(stop);
    if (!happened) break;  // it wants more source
    write(*happened);
    const bool late = most.count() > 0 && std::chrono::steady_clock::now() - begin > most;
    expect<limit_error>(!late || session_.done(), "answering took longer than ", most.count(), " s");
  }
  const bool done = finished_ && (!pushed_ || session_.done());
  const bool empty = written_.empty();
  const json segment = {{"index", 0},
                        {"content", std::exchange(written_, {})},
                        {"finished", done},
                        {"is_empty", empty},
                        {"data_type", "text"},
                        {"tgt_lang", nullptr},
                        {"config", json::object()}};
  return segment.dump(-1, ' ', false, json::error_handler_t::replace);
}

void agent::write(const stream::event& happened) {
  const auto* const word = happened.get_if<stream::word_event>();
  if (word == nullptr || word->text.empty()) return;
  if (!written_.empty() && !word->continues) written_ += ' ';
  written_ += word->text;
}

void agent::reset() {
  session_.restart();
  written_.clear();
  source_bytes_ = 0;
  pushed_ = finished_ = false;
}

agents::agents(stream::language_model model, stream::session_options options, limits most, std::stop_token stop)
    : model_(std::move(model)), options_(std::move(options)), most_(most), stop_(std::move(stop)) {
  options_.validate(model_.context());
}

/// Calls `verb` with the agent, which is made if there is none. Others go on meanwhile; one that is ended meanwhile
/// answers this call.
template <class Verb>
auto agents::with(const std::string& name, Verb&& verb) {
  std::shared_ptr<entry> found;
  {
    const std::lock_guard hold(lock_);
    auto at = all_.find(name);
    if (at == all_.end()) {
      make_room();
      at = all_.emplace(name, std::make_shared<entry>(model_, options_)).first;
    }
    at->second->used = clock::now();
    found = at->second;
  }
  const std::lock_guard hold(found->lock);
  return verb(found->one);
}

void agents::push(const std::string& name, std::string_view segment) {
  with(name, [&](agent& one) { one.push(segment); });
}

std::string agents::pop(const std::string& name) {
  return with(name, [&](agent& one) { return one.pop(most_.request, stop_); });
}

void agents::reset(const std::string& name) {
  with(name, [](agent& one) { one.reset(); });
}

bool agents::end(const std::string& name) {
  const std::lock_guard hold(lock_);
  return all_.erase(name) > 0;
}

std::string agents::describe() {
  const std::lock_guard hold(lock_);
  const json info = {
      {"info", message("runnel: ", model_.name, ", ", stream::name_of(options_.how), ", ", options_.when.name())},
      {"sessions", all_.size()},
      {"most_sessions", most_.sessions}};
  return info.dump(-1, ' ', false, json::error_handler_t::replace);
}

void agents::make_room() {
  if (static_cast<std::int64_t>(all_.size()) < most_.sessions) return;
  auto oldest = all_.end();
  for (auto at = all_.begin(); at != all_.end(); ++at) {
    const bool is_idle = at->second.use_count() == 1 && clock::now() - at->second->used > most_.idle;
    if (is_idle && (oldest == all_.end() || at->second->used < oldest->second->used)) oldest = at;
  }
  expect<limit_error>(oldest != all_.end(), "there are ", all_.size(), " sessions, and none has been idle for ",
                      most_.idle.count(), " ms; DELETE /s/<id> ends one");
  all_.erase(oldest);
}

}  // namespace runnel::cli
