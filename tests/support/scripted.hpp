// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <runnel/stream/session.hpp>

#include "support/tiny_language.hpp"

namespace runnel::tests {

/// Runs a session without a network: the next token is the next one of a script, and an end-of-sequence token after its
/// end.
class scripted {
 public:
  scripted(stream::session& one, std::vector<std::string> tokens) : script(std::move(tokens)), session_(one) {}

  /// Tokens as their bytes.
  std::vector<std::string> script;
  std::size_t at = 0;
  /// The passes so far, as "4s 3t [4 4 4]": source rows, target rows, source rows visible to each target row.
  std::vector<std::string> passes;

  /// Events until the session is done or waits, each in a few words.
  std::vector<std::string> take() {
    std::vector<std::string> events;
    while (const auto happened = next()) events.push_back(describe(*happened));
    return events;
  }

  std::optional<stream::event> next() {
    for (;;) {
      if (auto happened = session_.poll()) return happened;
      const stream::pass* work = session_.pending();
      if (work == nullptr) return std::nullopt;
      note(*work);
      auto& cache = *session_.rows().cache;
      grow(cache, group::source, work->source_rows);
      grow(cache, group::target, work->target_rows);
      std::vector<float> logits(static_cast<std::size_t>(session_.model().network->config().vocab_size));
      if (!work->logit_rows.empty()) {
        const std::string token = at < script.size() ? script[at] : "<|im_end|>";
        ++at;
        logits[static_cast<std::size_t>(tiny_id(*session_.model().tokenizer, token))] = 1;
        session_.complete(logits);
      } else {
        session_.complete({});
      }
    }
  }

 private:
  static void grow(cache::key_value_cache& cache, group which, index_t rows) {
    cache.reserve(which, cache.size(which) + rows);
    cache.commit(which, cache.size(which) + rows);
  }

  void note(const stream::pass& work) {
    std::string limits;
    for (const index_t limit : work.limits) limits += message(limits.empty() ? "" : " ", limit);
    passes.push_back(message(work.source_rows, "s ", work.target_rows, "t [", limits, "]"));
  }

  static std::string describe(const stream::event& happened) {
    struct describer {
      std::string operator()(const stream::read_event& e) const {
        if (e.source_end) return message("read end ", e.source_rows);
        return message("read ", e.index, " ", e.text, " ", e.source_rows);
      }
      std::string operator()(const stream::token_event& e) const { return "token " + e.text; }
      std::string operator()(const stream::word_event& e) const {
        return message("word ", e.index, e.continues ? " +" : " ", e.text, " ", e.words_read,
                       e.source_finished ? "+end" : "");
      }
      std::string operator()(const stream::retracted_event& e) const { return message("retracted to ", e.back_to); }
      std::string operator()(const stream::done_event& e) const { return "done " + std::string(name_of(e.reason)); }
    };
    return happened.visit(describer{});
  }

  stream::session& session_;
};

}  // namespace runnel::tests
