// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/stream/teacher_forcing.hpp>
#include <runnel/train/example.hpp>

/// \file
/// Ranges, positions and loss rows of every plan (paper Fig. 5): what a training row sees is what the row that predicts
/// the same token sees in a session with that plan and wait-k, had the model written this target.

namespace runnel::train {

/// How much source the row sees that predicts the end of the target.
enum class end_limit : std::uint8_t {
  /// Drawn per sentence, evenly in segments, from wait-k's to the whole source. At inference an end before the source's
  /// end means READ, and the end is asked for again after each read: all these limits occur there.
  drawn,
  wait_k,  ///< One word more than the last target word (the paper's). Trains to end early where the source is long.
  whole_source,  ///< All of it: only what lets a session end.
};

/// Whether the target's header, which a session writes without asking the model, is learned too.
enum class header_loss : std::uint8_t {
  none,
  predicting_row,  ///< Each header token from the row that would predict it.
  /// As the paper's code: the first header token from the first row of the first source word (under plans that read all
  /// first, from the last source row), the others from the row before.
  published,
};

/// The choices of `make_rows` that are not the plan's.
struct row_choices {
  /// wait-k: one k is drawn from these for every sentence, evenly (name one several times to have it oftener). A k past
  /// the source reads all of it. Plans that read all first do not look at it.
  std::vector<index_t> waits{3};
  end_limit end = end_limit::drawn;
  header_loss header = header_loss::none;
  /// As the paper's code: the header is written one word before the first target word. (A session writes both at once.)
  bool published_header_limit = false;
  /// Share of word ends whose probe row is trained as well, in [0, 1]: the word's last row over the source read so far,
  /// by which a session finds out that the word has ended, and which the paper never trains. (Words that a session cuts
  /// for their length alone are no exception, though it asks nothing there.) See `make_rows` for what it costs.
  double probe_share = 0;
  /// More rows are refused before they are made; 0: any number.
  index_t most_rows = 0;

  /// \throws config_error
  void validate() const {
    expect(!waits.empty(), "training rows: no k of wait-k is given");
    for (const index_t k : waits) expect(k >= 1, "training rows: wait-k needs k of at least 1, found ", k);
    expect(probe_share >= 0 && probe_share <= 1, "training rows: probe_share: expected a number in [0, 1], found ",
           probe_share);
  }
};

/// The waits `least`, ..., `most`: k drawn per sentence from a range. \throws config_error unless 1 <= least <= most
[[nodiscard]] inline std::vector<index_t> waits_between(index_t least, index_t most) {
  constexpr index_t largest = 4096;
  expect(least >= 1 && least <= most && most <= largest, "wait-k: expected 1 <= least <= most <= ", largest, ", found ",
         least, " and ", most);
  std::vector<index_t> waits;
  for (index_t k = least; k <= most; ++k) waits.push_back(k);
  return waits;
}

/// Throws config_error unless segments are in order, end where the tokens do, and are at least prompt and end, header
/// and end, with an end token to learn.
inline void validate(const example& pair) {
  const auto check = [](std::span<const index_t> ends, std::size_t tokens, const char* side) {
    expect(ends.size() >= 2, "example: expected at least two ", side, " segments, found ", ends.size());
    index_t last = 0;
    for (const index_t end : ends) {
      expect(end >= last, "example: ", side, " segments must not go back, found an end ", end, " after ", last);
      last = end;
    }
    expect(last == static_cast<index_t>(tokens), "example: ", side, " segments end at ", last, ", but there are ",
           tokens, " tokens");
  };
  check(pair.source_ends, pair.source.size(), "source");
  check(pair.target_ends, pair.target.size(), "target");
  expect(pair.target_ends[pair.target_ends.size() - 2] < pair.target_ends.back(),
         "example: the target has no end token, so that no model would learn to stop");
}

/// What was read and written in one sentence, down to the row before the last end token (which nothing follows).
struct rehearsal {
  /// c(p) of these target rows; `read_now` is what the end is predicted over, and source after it is not needed.
  arrivals when;
  /// First target token with a loss; the header is before it.
  index_t first_word_token = 0;
};

/// Reads and writes of a session with wait-`k` that wrote this target: k words are read before the header, one more
/// after each target word (the last one included), and the source's end is one more word. A session finds out that a
/// word has ended by the next token, drops that, reads, and feeds the word's last row again, which therefore has the
/// next word's limit. `end_segments`: source words read when the end is kept (the end being one more), at least
/// wait-k's. `header_late` is `row_choices::published_header_limit`. Linear.
[[nodiscard]] inline rehearsal rehearse_wait_k(const example& pair, index_t k, index_t end_segments,
                                               bool header_late = false) {
  const index_t all = pair.source_words() + 1;
  const auto rows_of = [&](index_t words) {
    return pair.source_ends[static_cast<std::size_t>(std::clamp<index_t>(words, 0, all))];
  };
  rehearsal out;
  std::vector<index_t> read;
  read.reserve(pair.target.size());
  const auto segments = static_cast<index_t>(pair.target_ends.size());
  for (index_t j = 0; j < segments; ++j) {
    // k + j - 1 without overflow for a k that stands for everything.
    index_t words = std::min(k, all) + std::max<index_t>(j, 1) - 1;
    if (j == 0 && header_late && k <= all) words = k - 1;
    if (j + 1 == segments) words = std::max(words, end_segments);
    read.resize(static_cast<std::size_t>(pair.target_ends[static_cast<std::size_t>(j)]), rows_of(words));
  }
  expect(!read.empty(), "example: the target has no tokens");
  const index_t read_at_end = read.back();
  read.pop_back();
  out.when = arrivals(read, read_at_end);
  out.first_word_token = pair.target_ends.front();
  return out;
}

namespace detail {

/// Draws k and the end's limit, and rehearses.
[[nodiscard]] inline rehearsal draw_rehearsal(const example& pair, const stream::plan& how, const row_choices& choices,
                                              random_stream& random) {
  const index_t all = pair.source_words() + 1;
  if (how.order == stream::event_order::read_all_first) return rehearse_wait_k(pair, all, all);
  const auto count = static_cast<index_t>(choices.waits.size());
  const index_t k = choices.waits[count == 1 ? 0 : static_cast<std::size_t>(random.below(count))];
  const index_t by_wait = std::min(std::min(k, all) + pair.target_words(), all);
  index_t end = by_wait;
  if (choices.end == end_limit::whole_source) end = all;
  if (choices.end == end_limit::drawn) end += random.below(all - by_wait + 1);
  return rehearse_wait_k(pair, k, end, choices.published_header_limit);
}

/// Builds the rows of one example.
class row_builder {
 public:
  row_builder(const example& pair, const stream::plan& how, const rehearsal& done, index_t window)
      : pair_(pair), how_(how), when_(done.when), first_word_(done.first_word_token), rules_(how.rules(window)) {}

  /// Tokens [first, all) predicted in one pass, as a session computes them.
  void add_forced(index_t first, index_t window) {
    const auto source = std::span(pair_.source).first(static_cast<std::size_t>(when_.read_now()));
    const auto target = std::span(pair_.target).first(static_cast<std::size_t>(when_.written()));
    stream::forced_pass work = stream::plan_forced(how_, {source, target, when_}, first, when_.written() + 1, window);
    out_.rows = std::move(work.rows);
    out_.tokens = std::move(work.tokens);
    out_.logit_rows = std::move(work.logit_rows);
    target_rows_ = when_.written();
    for (index_t p = first; p <= when_.written(); ++p) out_.labels.push_back(token(p));
  }

  /// The same for a plan that refreshes: the source once, then, for each run of tokens written without a read, a copy
  /// of what had been written, over the source read then. A copy gets one row more for the probe at its end.
  void add_refreshed(index_t first, const std::vector<bool>& probes) {
    for (index_t r = 0; r < when_.read_now(); ++r) {
      out_.rows.add_source(rules_, when_, r);
      out_.tokens.push_back(pair_.source[static_cast<std::size_t>(r)]);
    }
    for (const auto& [begin, end] : stream::forced_pieces(how_, when_)) {
      const bool probed = end <= when_.written() && probes[static_cast<std::size_t>(end)];
      if (end <= first) continue;
      const index_t base = out_.rows.size();
      add_prefix(probed ? end : end - 1, when_.c(begin), when_.c(begin));
      for (index_t p = std::max(begin, first); p < end; ++p) predict(p, base);
      if (probed) predict(end, base);
    }
  }

  /// Probe rows of a plan that does not refresh.
  void add_probes(const std::vector<bool>& probes) {
    for (index_t p = 1; p <= when_.written(); ++p) {
      if (!probes[static_cast<std::size_t>(p)]) continue;
      if (how_.predicts == stream::predicting_row::latest_arrival) {
        predict(p, when_.read_now());  // the row is there: nothing is fed again
        continue;
      }
      const index_t base = out_.rows.size();
      add_prefix(p, std::nullopt, when_.c(p - 1));
      predict(p, base);
    }
  }

  /// Which tokens have a probe: the first ones after a read, except the first of all.
  [[nodiscard]] std::vector<bool> draw_probes(double share, random_stream& random) const {
    std::vector<bool> probes(static_cast<std::size_t>(when_.written()) + 1);
    if (share <= 0) return probes;
    for (index_t p = std::max<index_t>(1, first_word_ + 1); p <= when_.written(); ++p) {
      if (when_.c(p) == when_.c(p - 1)) continue;
      probes[static_cast<std::size_t>(p)] = share >= 1 || random.uniform() < share;
    }
    return probes;
  }

  /// How many rows there will be. Linear.
  [[nodiscard]] index_t count(index_t first, const std::vector<bool>& probes) const {
    index_t rows = when_.read_now();
    if (how_.refresh != stream::refresh_rule::none) {
      for (const auto& [begin, end] : stream::forced_pieces(how_, when_)) {
        const bool probed = end <= when_.written() && probes[static_cast<std::size_t>(end)];
        if (end > first) rows += probed ? end : end - 1;
      }
      return rows;
    }
    rows += when_.written();
    if (how_.predicts == stream::predicting_row::latest_arrival) return rows;
    for (index_t p = 1; p <= when_.written(); ++p) rows += probes[static_cast<std::size_t>(p)] ? p : 0;
    return rows;
  }

  /// The row from which the paper's code predicts the first header token.
  void publish_first_row() {
    if (first_word_ == 0 || how_.order == stream::event_order::read_all_first) return;
    out_.logit_rows.front() = std::min(pair_.source_ends.front(), when_.c(0) - 1);
  }

  [[nodiscard]] training_rows take() { return std::move(out_); }

 private:
  [[nodiscard]] std::int32_t token(index_t p) const { return pair_.target[static_cast<std::size_t>(p)]; }

  /// A copy of target rows [0, `count`), which sees nothing of other copies. All rows see `limit` source rows (nothing:
  /// what the plan says), the last one `last_limit`.
  void add_prefix(index_t count, std::optional<index_t> limit, index_t last_limit) {
    const index_t first_key = target_rows_;
    for (index_t p = 0; p < count; ++p) {
      const index_t seen = p + 1 == count ? last_limit : limit.value_or(how_.visible_source(when_, p));
      out_.rows.add_target(rules_, when_, p, seen, first_key);
      out_.tokens.push_back(token(p));
    }
    target_rows_ += count;
  }

  /// Token p is predicted by the row of token p - 1, in the target rows that begin at row `base`.
  void predict(index_t p, index_t base) {
    const bool from_source = p == 0;
    expect(!from_source || when_.c(0) > 0, "training rows: the first target token has no row before it");
    out_.logit_rows.push_back(from_source ? when_.c(0) - 1 : base + p - 1);
    out_.labels.push_back(token(p));
  }

  const example& pair_;
  const stream::plan& how_;
  const arrivals& when_;
  index_t first_word_;
  row_rules rules_;
  training_rows out_;
  index_t target_rows_ = 0;
};

}  // namespace detail

/// Rows of one forward pass that trains `how` on a sentence whose reads and writes are given (of any policy): ranges,
/// positions, windows, and which rows predict what. `window` is the model's sliding window (0: none). `random` draws
/// the probes alone.
///
/// The loss is on the words' tokens and on the end tokens that the example has, each once; the last end token has no
/// row. Source rows are there once; those after what the end row sees are left out. A plan that refreshes has one copy
/// of the target's prefix for each run of tokens written without a read in between: rows (and time) quadratic in the
/// words. The probe rows of other plans whose last row is fed again differ from the row fed again in their own key, so
/// each is a copy of the prefix, too: as many rows more as there are tokens before each trained word end, which is
/// about half the target's length for each (`probe_share` makes it less). Where the latest arrival predicts, probes
/// cost nothing; where the plan refreshes, one row each.
///
/// \throws config_error if the example, its reads and writes, or the choices make no sense
/// \throws limit_error if there would be more rows than the choices allow
[[nodiscard]] inline training_rows make_rows(const example& pair, const stream::plan& how, const rehearsal& done,
                                             const row_choices& choices, random_stream& random, index_t window = 0) {
  expect(done.when.written() + 1 == static_cast<index_t>(pair.target.size()), "training rows: ", pair.target.size(),
         " target tokens, but arrivals of ", done.when.written(), ", expected one less");
  expect(done.when.read_now() <= static_cast<index_t>(pair.source.size()), "training rows: arrivals of ",
         done.when.read_now(), " source rows of ", pair.source.size());
  expect(done.first_word_token >= 0 && done.first_word_token <= done.when.written(),
         "training rows: the first word begins at token ", done.first_word_token, " of ", pair.target.size());
  detail::row_builder build(pair, how, done, window);
  const index_t first = choices.header == header_loss::none ? done.first_word_token : 0;
  const std::vector<bool> probes = build.draw_probes(choices.probe_share, random);
  if (choices.most_rows > 0) {
    const index_t rows = build.count(first, probes);
    expect<limit_error>(rows <= choices.most_rows, "the pair has ", rows, " rows, but there is place for ",
                        choices.most_rows);
  }
  if (how.refresh != stream::refresh_rule::none) {
    build.add_refreshed(first, probes);
  } else {
    build.add_forced(first, window);
    build.add_probes(probes);
  }
  if (choices.header == header_loss::published) build.publish_first_row();
  return build.take();
}

/// The same with reads and writes of wait-k: k, the end's limit and the probes are drawn from `random` (k only if there
/// is a choice). Plans that read all first have no k. The same state of `random` gives the same rows.
/// \throws config_error, limit_error
[[nodiscard]] inline training_rows make_rows(const example& pair, const stream::plan& how, const row_choices& choices,
                                             random_stream& random, index_t window = 0) {
  choices.validate();
  validate(pair);
  return make_rows(pair, how, detail::draw_rehearsal(pair, how, choices, random), choices, random, window);
}

/// Rows of pairs one after another in one sequence, each token seeing all before it: what language models are
/// pretrained on, so that distances up to the sequence's length are in the trained range. Every pair's target is
/// learned as under `batch`, over its own source and all pairs before. Linear. \throws config_error if an example makes
/// no sense, or if the plan is another one than `batch`: only there are source and target one causal sequence
[[nodiscard]] inline training_rows join_rows(std::span<const example> pairs, const stream::plan& how,
                                             const row_choices& choices, index_t window = 0) {
  expect(
      how.order == stream::event_order::read_all_first && std::holds_alternative<contiguous_positions>(how.positions),
      "training rows: pairs are joined under the plan batch only, found ", stream::name_of(how));
  training_rows out;
  for (const example& pair : pairs) {
    validate(pair);
    const auto before = static_cast<index_t>(out.tokens.size() + pair.source.size());
    out.tokens.insert(out.tokens.end(), pair.source.begin(), pair.source.end());
    out.tokens.insert(out.tokens.end(), pair.target.begin(), pair.target.end());
    const index_t first = choices.header == header_loss::none ? pair.target_ends.front() : 0;
    for (auto p = first; p < static_cast<index_t>(pair.target.size()); ++p) {
      out.logit_rows.push_back(before + p - 1);
      out.labels.push_back(pair.target[static_cast<std::size_t>(p)]);
    }
  }
  const auto count = static_cast<index_t>(out.tokens.size());
  const arrivals all({}, count);
  for (index_t r = 0; r < count; ++r) out.rows.add_source(how.rules(window), all, r);
  return out;
}

}  // namespace runnel::train
