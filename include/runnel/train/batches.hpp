// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/train/pairs.hpp>
#include <runnel/train/plan_rows.hpp>
#include <runnel/train/tokenize.hpp>

namespace runnel::train {

/// Parallel text with what makes tokens of it.
struct training_set {
  data_set text;
  example_maker make;
  /// Pairs taken at a time where several sets are mixed; the sets take turns. To have sets of unequal size mixed evenly
  /// give each about its share of the pairs. (Within a pool the order is random anyway.)
  index_t share = 1;
};

/// Choices of `batch_stream`.
struct batch_options {
  stream::plan how = stream::group_streaming();
  row_choices rows{};
  /// The model's sliding window; 0: none.
  index_t window = 0;
  /// Rows in a batch, copies included; a pair that alone has more is left out.
  index_t budget = 4096;
  /// Pairs in a batch; 0: no limit.
  index_t most_pairs = 0;
  /// Positions of the model; a pair that reaches further is left out. 0: no limit.
  index_t context = 0;
  /// Pairs one after another make streams of up to so many rows (`join_rows`); 0: every pair is alone in its stream.
  index_t joined = 0;
  /// Pairs that are in memory, shuffled and sorted together: about 300 bytes and 8 for each token each.
  index_t pool = index_t{1} << 16U;
  /// In random order, another one each epoch. Otherwise in the order of the sets and their files.
  bool shuffle = true;
  /// Pairs of about as many rows go together. Changes nothing but the order.
  bool by_length = true;
  /// k, the end's limit and the probes of a pair are drawn anew each epoch; otherwise they stay (validation).
  bool new_draws = true;
  /// After which there are no more batches; 0: never.
  index_t epochs = 0;
  std::uint64_t seed = 0;
  /// A pair past the budget or the context.
  unusable_pair unusable = unusable_pair::skip;

  /// Choices for measuring: all pairs once and alone, in the same batches with the same draws every time.
  [[nodiscard]] batch_options for_validation() const {
    batch_options fixed = *this;
    fixed.epochs = 1;
    fixed.shuffle = fixed.by_length = fixed.new_draws = false;
    fixed.joined = 0;
    return fixed;
  }

  /// \throws config_error
  void validate() const {
    rows.validate();
    expect(window >= 0, "batches: window: expected 0 (none) or more, found ", window);
    expect(budget >= 1, "batches: budget: expected at least 1 row, found ", budget);
    expect(most_pairs >= 0, "batches: most_pairs: expected 0 (no limit) or more, found ", most_pairs);
    expect(context >= 0, "batches: context: expected 0 (no limit) or more, found ", context);
    const index_t most_joined = context == 0 ? budget : std::min(budget, context);
    expect(joined >= 0 && joined <= most_joined, "batches: joined: expected 0 (no pairs are joined) to ", most_joined,
           ", the rows of a batch or the model's context, found ", joined);
    expect(epochs >= 0, "batches: epochs: expected 0 (no end) or more, found ", epochs);
    expect(pool >= 1, "batches: pool: expected at least 1 pair, found ", pool);
  }
};

/// Which pair: the set, and its number among the set's usable pairs, from 0 and in the files' order.
struct pair_id {
  index_t set = 0;
  index_t number = 0;
  friend bool operator==(pair_id, pair_id) = default;
};

/// One batch: a stream for each pair, or for several that are joined.
struct training_batch {
  std::vector<training_rows> rows;  ///< of each stream
  std::vector<pair_id> pairs;       ///< of the first stream, the second, ...
  index_t epoch = 0;
  index_t num_rows = 0;         ///< of all streams
  index_t num_predictions = 0;  ///< labels of all streams
  std::shared_ptr<const std::vector<std::string>> set_names{};

  /// Where it is from, for messages: epoch, data sets, and the numbers of their pairs.
  [[nodiscard]] std::string describe() const {
    std::string text = message("epoch ", epoch);
    for (const pair_id id : pairs) {
      const auto set = static_cast<std::size_t>(id.set);
      const bool named = set_names != nullptr && set < set_names->size();
      text += named ? message(", ", (*set_names)[set], " ", id.number) : message(", set ", id.set, " pair ", id.number);
    }
    return text;
  }
};

/// Where a `batch_stream` stands: all that is needed to go on, given the same sets and options.
struct batch_state {
  index_t epoch = 0;
  index_t pairs = 0;    ///< taken in this epoch before the pool in memory
  index_t batches = 0;  ///< given out of that pool
  /// Of the texts taken in this epoch, that pool's included; 0 while there is none. Tells data that has changed.
  std::uint64_t digest = 0;
  friend bool operator==(const batch_state&, const batch_state&) = default;

  /// One line of JSON.
  [[nodiscard]] std::string text() const {
    return message("{\"epoch\": ", epoch, ", \"pairs\": ", pairs, ", \"batches\": ", batches, ", \"digest\": ", digest,
                   "}");
  }

  /// What `text` gave. \throws format_error
  [[nodiscard]] static batch_state parse(std::string_view text) {
    constexpr std::size_t most_values = 64;
    const io::json_document document(text, "state of the data", most_values);
    const io::json_object object(document.root());
    batch_state out{object.integer("epoch"), object.integer("pairs"), object.integer("batches"), 0};
    const auto digest = object.find("digest");
    expect<format_error>(digest && digest->natural(), "state of the data: digest: expected a whole number");
    out.digest = *digest->natural();
    expect<format_error>(out.epoch >= 0 && out.pairs >= 0 && out.batches >= 0,
                         "state of the data: expected no negative numbers, found ", io::in_quotes(text));
    return out;
  }
};

/// Gives out batches, epoch after epoch, from files that need not fit into memory.
///
/// Pairs are taken from the sets in turn, a pool at a time; a pool is shuffled, sorted by length, cut into batches of
/// at most `budget` rows, and the batches are shuffled. Every usable pair occurs once an epoch. All draws depend on the
/// seed, the epoch and the pair alone, so a stream that begins from a saved state gives exactly what the first one
/// would have; it reads past the pairs before its pool without encoding them. A corpus larger than the pool is shuffled
/// within pools only: have its lines in random order.
class batch_stream {
 public:
  /// \throws config_error if options make no sense, or if the data is not what it was when `from` was saved
  /// \throws io_error, format_error
  batch_stream(std::vector<training_set> sets, batch_options options, source_opener open = open_plain_file,
               const batch_state& from = {})
      : names_(names_of(sets)), sets_(std::move(sets)), options_(std::move(options)), open_(std::move(open)) {
    options_.validate();
    expect(!sets_.empty(), "batches: no data set is given");
    for (const training_set& set : sets_) {
      expect(set.share >= 1, "data set ", io::in_quotes(set.text.name), ": share: expected at least 1, found ",
             set.share);
    }
    restore(from);
  }

  /// The next batch; nothing after the last epoch. \throws io_error, format_error, and config_error if an epoch has not
  /// a single usable pair
  [[nodiscard]] std::optional<training_batch> next() {
    while (state_.batches == static_cast<index_t>(batches_.size())) {
      if (options_.epochs > 0 && state_.epoch >= options_.epochs) return std::nullopt;
      if (next_pool()) continue;
      expect(given_, "batches: the data sets have no pair that can be used (", skipped().total(), " unusable, ",
             left_out_, " past the budget or the context)");
      skipped_in_epoch_ = skipped();
      begin_epoch(state_.epoch + 1);
    }
    training_batch out = build(batches_[static_cast<std::size_t>(state_.batches)]);
    ++state_.batches;
    given_ = true;
    return out;
  }

  /// Where it stands. Given to a stream over the same sets, with the same options, it makes that go on from here.
  [[nodiscard]] const batch_state& position() const noexcept { return state_; }
  /// The same as one line of JSON.
  [[nodiscard]] std::string state() const { return state_.text(); }
  /// Goes to where `state` was taken. \throws config_error if the data is not what it was \throws format_error
  /// \throws io_error
  void restore(std::string_view state) { restore(batch_state::parse(state)); }

  /// Goes to a position. Cost: pairs before its pool are read, its pool is encoded. \throws config_error if the data is
  /// not what it was \throws io_error, format_error
  void restore(const batch_state& to) {
    expect(to.epoch >= 0 && to.pairs >= 0 && to.batches >= 0, "batches: a position has negative numbers");
    begin_epoch(to.epoch);
    if (to.digest == 0) return;
    sentence_pair pair;
    pair_id id;
    bool same = true;
    while (same && taken_ < to.pairs) same = take(pair, id);
    given_ = to.pairs > 0 || to.batches > 0;
    same = same && next_pool() && state_.digest == to.digest && to.batches <= static_cast<index_t>(batches_.size());
    expect(same, "batches: the data sets or their options are not what they were when the state was saved: epoch ",
           to.epoch, " does not come out the same after ", to.pairs, " pairs");
    state_.batches = to.batches;
  }

  /// Pairs that the readers left out in the last whole epoch.
  [[nodiscard]] const skipped_pairs& skipped_in_epoch() const noexcept { return skipped_in_epoch_; }
  /// The same in this one, so far.
  [[nodiscard]] skipped_pairs skipped() const noexcept {
    skipped_pairs all;
    for (const auto& one : readers_) {
      all.empty += one->skipped().empty;
      all.malformed += one->skipped().malformed;
      all.too_long += one->skipped().too_long;
    }
    return all;
  }
  /// Pairs past the budget or the context since this stream was made.
  [[nodiscard]] index_t left_out() const noexcept { return left_out_; }
  [[nodiscard]] const std::vector<training_set>& sets() const noexcept { return sets_; }
  [[nodiscard]] const batch_options& options() const noexcept { return options_; }

 private:
  struct pooled {
    example pair;
    pair_id id;
    index_t rows = 0;
  };
  struct range {
    std::size_t begin = 0, end = 0;
  };

  /// Independent numbers for each purpose.
  [[nodiscard]] random_stream random_of(index_t epoch, index_t set, index_t number) const noexcept {
    return random_stream(derive_seed(options_.seed, epoch, set, number));
  }

  [[nodiscard]] training_rows joined_rows(range which) const {
    std::vector<example> pairs;
    for (std::size_t i = which.begin; i < which.end; ++i) pairs.push_back(pool_[i].pair);
    return join_rows(pairs, options_.how, options_.rows, options_.window);
  }

  /// Of a pair that is alone in its stream.
  [[nodiscard]] training_rows rows_of(const example& pair, pair_id id) const {
    random_stream random = random_of(options_.new_draws ? state_.epoch : 0, id.set, id.number);
    row_choices choices = options_.rows;
    choices.most_rows = options_.budget;
    return make_rows(pair, options_.how, choices, random, options_.window);
  }

  [[nodiscard]] static std::shared_ptr<const std::vector<std::string>> names_of(const std::vector<training_set>& sets) {
    auto names = std::make_shared<std::vector<std::string>>();
    for (const training_set& set : sets) names->push_back(set.text.name);
    return names;
  }

  void begin_epoch(index_t epoch) {
    state_ = {};
    state_.epoch = epoch;
    readers_.clear();
    for (const training_set& set : sets_) readers_.push_back(std::make_unique<pair_reader>(set.text, open_));
    numbers_.assign(sets_.size(), 0);
    ended_.assign(sets_.size(), false);
    turn_ = 0;
    taken_in_turn_ = 0;
    taken_ = 0;
    digest_ = 0xcbf29ce484222325U;
    given_ = false;
    pool_.clear();
    streams_.clear();
    batches_.clear();
  }

  /// The next pair of all sets; false at the end.
  bool take(sentence_pair& pair, pair_id& id) {
    std::size_t ended = 0;
    while (ended < sets_.size()) {
      const bool turn_over = options_.shuffle && taken_in_turn_ == sets_[turn_].share;
      if (!ended_[turn_] && !turn_over) {
        if (readers_[turn_]->next(pair)) {
          id = {static_cast<index_t>(turn_), numbers_[turn_]++};
          ++taken_in_turn_;
          ++taken_;
          for (const std::string* text : {&pair.source, &pair.target}) add_to_digest(*text);
          return true;
        }
        ended_[turn_] = true;
      }
      ended = ended_[turn_] ? ended + 1 : 0;
      turn_ = (turn_ + 1) % sets_.size();
      taken_in_turn_ = 0;
    }
    return false;
  }

  /// Fowler, Noll and Vo's 1a, with the length.
  void add_to_digest(std::string_view text) noexcept {
    const auto mix = [&](std::uint64_t value) { digest_ = (digest_ ^ value) * 0x100000001b3U; };
    for (const char c : text) mix(static_cast<unsigned char>(c));
    mix(text.size());
  }

  /// Takes a pool and cuts it into batches; false if there are no more pairs.
  bool next_pool() {
    state_.pairs = taken_;
    state_.batches = 0;
    pool_.clear();
    streams_.clear();
    batches_.clear();
    sentence_pair pair;
    pair_id id;
    while (taken_ - state_.pairs < options_.pool && take(pair, id)) add(pair, id);
    if (taken_ == state_.pairs) return false;
    state_.digest = digest_ == 0 ? 1 : digest_;
    constexpr index_t orders = -1;
    random_stream random = random_of(state_.epoch, orders, state_.pairs);
    if (options_.shuffle) shuffle(pool_, random);
    if (options_.by_length && options_.joined == 0) {
      std::stable_sort(pool_.begin(), pool_.end(), [](const pooled& a, const pooled& b) { return a.rows < b.rows; });
    }
    cut();
    if (options_.shuffle) shuffle(batches_, random);
    return true;
  }

  void add(const sentence_pair& pair, pair_id id) {
    const training_set& set = sets_[static_cast<std::size_t>(id.set)];
    pooled one{set.make(pair.source, pair.target), id};
    const std::string problem = options_.joined > 0 ? measure_joined(one) : measure(one);
    if (problem.empty()) {
      pool_.push_back(std::move(one));
      return;
    }
    ++left_out_;
    expect<limit_error>(options_.unusable == unusable_pair::skip, readers_[static_cast<std::size_t>(id.set)]->place(),
                        ": ", problem);
  }

  /// Counts the rows of a pair in a stream of its own; why it cannot be used, or nothing.
  [[nodiscard]] std::string measure(pooled& one) const {
    try {
      const training_rows made = rows_of(one.pair, one.id);
      one.rows = made.rows.size();
      const double last = made.rows.max_position();
      if (options_.context == 0 || last < static_cast<double>(options_.context)) return {};
      return message("the pair reaches position ", last, ", but the context ends before ", options_.context);
    } catch (const limit_error& too_many) {
      return too_many.what();
    }
  }

  /// The same for one of several in a stream.
  [[nodiscard]] std::string measure_joined(pooled& one) const {
    one.rows = static_cast<index_t>(one.pair.source.size() + one.pair.target.size());
    if (one.rows <= options_.joined) return {};
    return message("the pair has ", one.rows, " rows, but there is place for ", options_.joined);
  }

  template <class T>
  static void shuffle(std::vector<T>& list, random_stream& random) {
    for (std::size_t i = list.size(); i > 1; --i) {
      std::swap(list[i - 1], list[static_cast<std::size_t>(random.below(static_cast<index_t>(i)))]);
    }
  }

  /// Pairs make streams, streams make batches.
  void cut() {
    index_t rows = 0;
    for (std::size_t i = 0; i < pool_.size(); ++i) {
      const bool many = i > 0 && options_.most_pairs > 0 &&
                        i - streams_.back().begin == static_cast<std::size_t>(options_.most_pairs);
      if (i == 0 || many || rows + pool_[i].rows > options_.joined) {
        streams_.push_back({i, i});
        rows = 0;
      }
      rows += pool_[i].rows;
      streams_.back().end = i + 1;
    }
    index_t pairs = rows = 0;
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      const index_t more = rows_in(streams_[i]), more_pairs = static_cast<index_t>(streams_[i].end - streams_[i].begin);
      const bool full = rows + more > options_.budget ||
                        (options_.most_pairs > 0 && pairs + more_pairs > options_.most_pairs && pairs > 0);
      if (i == 0 || full) {
        batches_.push_back({i, i});
        rows = pairs = 0;
      }
      rows += more;
      pairs += more_pairs;
      batches_.back().end = i + 1;
    }
  }

  [[nodiscard]] index_t rows_in(range stream) const {
    index_t rows = 0;
    for (std::size_t i = stream.begin; i < stream.end; ++i) rows += pool_[i].rows;
    return rows;
  }

  [[nodiscard]] training_batch build(range which) const {
    training_batch out;
    out.epoch = state_.epoch;
    out.set_names = names_;
    for (std::size_t s = which.begin; s < which.end; ++s) {
      const range stream = streams_[s];
      const pooled& first = pool_[stream.begin];
      out.rows.push_back(options_.joined > 0 ? joined_rows(stream) : rows_of(first.pair, first.id));
      for (std::size_t i = stream.begin; i < stream.end; ++i) out.pairs.push_back(pool_[i].id);
      out.num_rows += rows_in(stream);
      out.num_predictions += static_cast<index_t>(out.rows.back().labels.size());
    }
    return out;
  }

  std::shared_ptr<const std::vector<std::string>> names_;
  std::vector<training_set> sets_;
  batch_options options_;
  source_opener open_;
  batch_state state_;
  std::vector<std::unique_ptr<pair_reader>> readers_;
  std::vector<index_t> numbers_;  // pairs taken of each set
  std::vector<bool> ended_;
  std::size_t turn_ = 0;
  index_t taken_in_turn_ = 0;
  index_t taken_ = 0;
  std::uint64_t digest_ = 0;
  bool given_ = false;  // a batch in this epoch
  index_t left_out_ = 0;
  skipped_pairs skipped_in_epoch_;
  std::vector<pooled> pool_;
  std::vector<range> streams_;  // of the pool
  std::vector<range> batches_;  // of the streams
};

/// What an epoch has.
struct epoch_figures {
  index_t pairs = 0;
  index_t batches = 0;
  index_t rows = 0;            ///< rows through the network, copies included
  index_t predictions = 0;     ///< labels
  index_t largest_batch = 0;   ///< rows
  index_t longest_stream = 0;  ///< rows
  double max_position = 0;
  skipped_pairs skipped;
  index_t left_out = 0;  ///< past the budget or the context
};

/// Figures of the first epoch, for what is to be said before the first step. Reads and encodes all of the data once.
/// \throws config_error, io_error, format_error
[[nodiscard]] inline epoch_figures count_epoch(const std::vector<training_set>& sets, const batch_options& options,
                                               const source_opener& open = open_plain_file) {
  batch_options once = options;
  once.epochs = 1;
  batch_stream stream(sets, once, open);
  epoch_figures out;
  while (const auto batch = stream.next()) {
    ++out.batches;
    out.pairs += static_cast<index_t>(batch->pairs.size());
    out.rows += batch->num_rows;
    out.predictions += batch->num_predictions;
    out.largest_batch = std::max(out.largest_batch, batch->num_rows);
    for (const training_rows& one : batch->rows) {
      out.longest_stream = std::max(out.longest_stream, one.rows.size());
      out.max_position = std::max(out.max_position, one.rows.max_position());
    }
  }
  out.skipped = stream.skipped_in_epoch();
  out.left_out = stream.left_out();
  return out;
}

}  // namespace runnel::train
