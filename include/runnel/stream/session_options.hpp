// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <runnel/ops/eval.hpp>
#include <runnel/stream/pass.hpp>
#include <runnel/stream/plan.hpp>
#include <runnel/stream/policy.hpp>
#include <runnel/stream/sampler.hpp>

namespace runnel::stream {

/// What the model's end-of-sequence token means while the source has not been read to its end.
enum class early_end : std::uint8_t {
  read,  ///< "Nothing to say yet": the token is dropped and at least one more segment is read.
  stop   ///< The session is done.
};

/// Logits of one prediction, for those who watch.
struct prediction {
  /// The target row that is predicted (the assistant header's rows count).
  index_t target_row = 0;
  /// Source rows read now.
  index_t source_rows = 0;
  /// `[vocab_size]`, valid during the call.
  std::span<const float> logits;
};

/// A low-rank adapter (models/adapter.hpp) and how strongly it counts.
struct adapter_use {
  std::shared_ptr<const nn::adapter<nn::inference_parameters>> weights;
  float scale = 1;
};

/// Everything a session can be told.
struct session_options {
  plan how = group_streaming();
  policy when = wait_k{};
  /// What the model is asked to do with the source; goes into the chat format's prompt.
  std::string instruction{};
  /// What goes before every source word but the first; the chat format's separator (a space) unless given. Characters
  /// and tokens, which carry their spaces themselves, want an empty one.
  std::optional<std::string> word_separator{};
  sampler_options sampling{};
  /// Positions that may be used, the model's declared context at most; 0 means that.
  index_t context = 0;
  /// The session is done after this many tokens; at least 1.
  index_t max_tokens = 1024;
  /// The session is done after this many words; 0 means no limit.
  index_t max_words = 0;
  /// A word is taken for complete after this many tokens without white space; at least 1.
  index_t max_word_tokens = 50;
  early_end end_before_source = early_end::read;
  /// Send source that was read through the network while the policy waits for more, instead of all at once before the
  /// next word: one more pass, but the answer comes sooner. The prompt is computed before the first word arrives.
  bool compute_while_waiting = true;
  /// Count each of . , : ; ? ! that is a token of its own as one more word, and its word again at the next space, as
  /// the decoder published with the paper does. For replaying its results only: it reads too early.
  bool punctuation_reads = false;
  /// Threads, compute mode (the fastest that keeps the file's precision), instruction set.
  ops::eval_options compute{1, ops::fastest_compute};
  /// Numbers that keys and values are kept as; unless given, what suits how products are computed
  /// (`models::decoder::storage_for`).
  std::optional<cache::storage_type> cache_type{};
  /// Adapters of this session, added up; `session::set_adapters` changes them.
  std::vector<adapter_use> adapters{};
  /// Called with the logits of each prediction before a token is chosen, if set. May throw: then nothing was chosen.
  std::function<void(const prediction&)> on_logits{};

  /// Throws config_error if a number is out of range; `declared` is the model's context.
  void validate(index_t declared) const {
    expect(context >= 0, "context: expected 0 (the model's) or more positions, found ", context);
    expect(max_tokens >= 1, "max_tokens: expected at least 1, found ", max_tokens);
    expect(max_words >= 0, "max_words: expected 0 (no limit) or more, found ", max_words);
    expect(max_word_tokens >= 1, "max_word_tokens: expected at least 1, found ", max_word_tokens);
    how.validate(limit(declared));
    static_cast<void>(sampler(sampling));
  }

  /// What keys and values of `network` are kept as.
  [[nodiscard]] cache::storage_type storage(const models::decoder& network) const noexcept {
    return cache_type.value_or(network.storage_for(compute.compute));
  }

  /// Positions that may be used.
  [[nodiscard]] index_t limit(index_t declared) const noexcept {
    return context == 0 || context > declared ? declared : context;
  }
};

/// How much one `session::step` may do.
struct step_budget {
  index_t max_tokens = unlimited;  ///< tokens written
  index_t max_rows = unlimited;    ///< rows sent through the network; longer passes are cut
  index_t max_passes = unlimited;  ///< forward passes
};

}  // namespace runnel::stream
