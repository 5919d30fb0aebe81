// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/io/json.hpp>
#include <runnel/kernels/ctc.hpp>
#include <runnel/train/augment.hpp>
#include <runnel/train/pairs.hpp>
#include <runnel/train/plan_rows.hpp>
#include <runnel/train/recordings.hpp>
#include <runnel/train/tokenize.hpp>

namespace runnel::train {

/// What becomes of samples before the decoder sees them.
struct audio_shape {
  index_t sample_rate = 16000;
  index_t chunk_rows = 20;  ///< of a source word
  /// Rows that so many samples become, the last chunk finished: the decoder's, or frames of the encoder for CTC.
  std::function<index_t(index_t samples)> rows_of;

  /// \throws config_error
  void validate() const {
    expect(sample_rate >= 1 && sample_rate <= 1'000'000, "audio: sample_rate: expected 1 to 1000000, found ",
           sample_rate);
    expect(chunk_rows >= 1, "audio: chunk_rows: expected at least 1, found ", chunk_rows);
    expect(static_cast<bool>(rows_of), "audio: rows_of is missing");
  }
};

/// Choices of `audio_batch_stream`.
struct audio_batch_options {
  stream::plan how = stream::group_streaming();
  row_choices rows{};
  index_t window = 0;         ///< the model's sliding window; 0: none
  double seconds = 60;        ///< of audio in a batch; an example that alone has more is left out
  index_t budget = 4096;      ///< rows of the decoder in a batch, copies included; the same
  index_t most_examples = 0;  ///< in a batch; 0: no limit
  index_t context = 0;        ///< positions of the model; an example that reaches further is left out. 0: no limit
  string_options strings{};
  augment_options augment{};
  /// No rows: labels are the tokens of the text alone, for a CTC loss over the encoder's frames.
  bool ctc = false;
  bool shuffle = true;    ///< another order each epoch; otherwise (where nothing is joined) the manifest's
  bool new_draws = true;  ///< strings, augmentation, k, ... anew each epoch; otherwise they stay (validation)
  index_t epochs = 0;     ///< after which there are no more batches; 0: never
  std::uint64_t seed = 0;
  /// An example past the budget or the context, or whose labels do not fit its frames.
  unusable_pair unusable = unusable_pair::skip;

  /// Choices for measuring: the same examples every time, just joined.
  [[nodiscard]] audio_batch_options for_validation() const {
    audio_batch_options fixed = *this;
    fixed.augment = {};
    fixed.epochs = 1;
    fixed.shuffle = fixed.new_draws = false;
    return fixed;
  }

  /// \throws config_error
  void validate(index_t recordings) const {
    constexpr double longest = 86'400;
    rows.validate();
    strings.validate(recordings);
    augment.validate();
    expect(window >= 0, "audio batches: window: expected 0 (none) or more, found ", window);
    expect(seconds > 0 && seconds <= longest, "audio batches: seconds: expected more than 0, at most ", longest,
           ", found ", seconds);
    expect(budget >= 1, "audio batches: budget: expected at least 1 row, found ", budget);
    expect(most_examples >= 0, "audio batches: most_examples: expected 0 (no limit) or more, found ", most_examples);
    expect(context >= 0, "audio batches: context: expected 0 (no limit) or more, found ", context);
    expect(epochs >= 0, "audio batches: epochs: expected 0 (no end) or more, found ", epochs);
  }
};

/// One batch: examples that follow each other in an epoch, each with its audio.
struct audio_batch {
  std::vector<training_rows> rows;  ///< of each example
  std::vector<std::string> texts;   ///< what is said in each
  std::vector<index_t> examples;    ///< their numbers in the epoch
  index_t epoch = 0;
  index_t num_rows = 0;         ///< of all
  index_t num_predictions = 0;  ///< labels of all
  index_t num_samples = 0;      ///< of all
  std::shared_ptr<const std::string> set_name{};

  /// Where it is from, for messages: epoch, manifest, and the numbers of its examples.
  [[nodiscard]] std::string describe() const {
    std::string text = message("epoch ", epoch, ", ", set_name ? std::string_view(*set_name) : "recordings");
    for (std::size_t i = 0; i < examples.size(); ++i) text += message(i == 0 ? ", example " : ", ", examples[i]);
    return text;
  }
};

/// Where an `audio_batch_stream` stands: all that is needed to go on, given the same manifest and options.
struct audio_state {
  index_t epoch = 0;
  index_t example = 0;       ///< the first that was not given out
  std::uint64_t digest = 0;  ///< of the manifest
  friend bool operator==(const audio_state&, const audio_state&) = default;

  /// One line of JSON.
  [[nodiscard]] std::string text() const {
    return message("{\"epoch\": ", epoch, ", \"example\": ", example, ", \"digest\": ", digest, "}");
  }

  /// What `text` gave. \throws format_error
  [[nodiscard]] static audio_state parse(std::string_view text) {
    constexpr std::size_t most_values = 64;
    const io::json_document document(text, "state of the recordings", most_values);
    const io::json_object object(document.root());
    audio_state out{object.integer("epoch"), object.integer("example"), 0};
    const auto digest = object.find("digest");
    expect<format_error>(digest && digest->natural(), "state of the recordings: digest: expected a whole number");
    out.digest = *digest->natural();
    expect<format_error>(out.epoch >= 0 && out.example >= 0,
                         "state of the recordings: expected no negative numbers, found ", io::in_quotes(text));
    return out;
  }
};

/// Gives out batches of audio, epoch after epoch, from WAV files that are read when their batch is made.
///
/// An example is one recording (each once an epoch, in random order), or a string of some of one group, with silence
/// between; then it is augmented. Its rows are those of `batch_stream`, with a chunk of audio for a
/// word. All draws depend on the seed, the epoch and the example alone: a stream that begins from a saved state gives
/// exactly what the first one would have, and goes there at once. Batches are examples one after another: nothing is
/// padded, so nothing is gained by sorting them. Memory: the manifest, and a batch.
class audio_batch_stream {
 public:
  /// \throws config_error if options or shape make no sense
  audio_batch_stream(recording_list list, example_maker make, audio_shape shape, audio_batch_options options)
      : list_(std::move(list)),
        make_(std::move(make)),
        shape_(std::move(shape)),
        options_(std::move(options)),
        name_(std::make_shared<const std::string>(list_.name())) {
    expect(list_.size() > 0, "audio batches: ", list_.name(), ": expected recordings, found none");
    options_.validate(list_.size());
    shape_.validate();
    most_samples_ = static_cast<index_t>(std::floor(options_.seconds * static_cast<double>(shape_.sample_rate)));
    begin_epoch(0);
  }

  /// The next batch; nothing after the last epoch. What it throws leaves the stream where it was. \throws io_error,
  /// format_error for a file that cannot be read \throws config_error for one of another rate, and if an epoch has not
  /// a single example that can be used \throws limit_error for an unusable example if they are to be refused
  [[nodiscard]] std::optional<audio_batch> next() {
    for (;;) {
      if (options_.epochs > 0 && state_.epoch >= options_.epochs) return std::nullopt;
      audio_batch out;
      out.epoch = state_.epoch;
      out.set_name = name_;
      index_t number = state_.example;
      for (; number < examples(); ++number) {
        if (!waiting_ || waiting_->number != number) waiting_ = build(number);
        if (!waiting_->problem.empty()) continue;
        if (!fits(out, *waiting_)) break;
        add(out, std::move(*waiting_));
        waiting_.reset();
      }
      state_.example = number;
      given_ = given_ || !out.rows.empty();
      if (!out.rows.empty()) return out;
      expect(given_, "audio batches: ", list_.name(),
             " has no example that can be used: ", waiting_ ? waiting_->problem : std::string());
      begin_epoch(state_.epoch + 1);
    }
  }

  /// Where it stands. Given to a stream over the same manifest, with the same options, it makes that go on from here.
  [[nodiscard]] const audio_state& position() const noexcept { return state_; }
  /// The same as one line of JSON.
  [[nodiscard]] std::string state() const { return state_.text(); }
  /// Goes to where `state` was taken, reading nothing. \throws format_error \throws config_error if the manifest is not
  /// what it was
  void restore(std::string_view state) { restore(audio_state::parse(state)); }
  /// \throws config_error if the manifest is not what it was
  void restore(const audio_state& to) {
    expect(to.digest == list_.digest() && to.epoch >= 0 && to.example >= 0 && to.example <= examples(),
           "audio batches: ", list_.name(), " or its options are not what they were when the state was saved");
    begin_epoch(to.epoch);
    state_.example = to.example;
    given_ = to.example > 0;
  }

  /// Examples of an epoch.
  [[nodiscard]] index_t examples() const noexcept { return options_.strings.count(list_.size()); }
  /// Examples left out since this stream was made.
  [[nodiscard]] index_t left_out() const noexcept { return left_out_; }
  [[nodiscard]] const recording_list& recordings() const noexcept { return list_; }
  [[nodiscard]] const audio_batch_options& options() const noexcept { return options_; }

 private:
  /// An example that is made and waits for its batch, or why there is none.
  struct made_example {
    index_t number = 0;
    training_rows rows{};
    std::string text{};
    index_t samples = 0;
    std::string problem{};
  };

  /// Independent numbers for each purpose.
  enum purpose : std::uint8_t { strings, augmenting, rows };

  void begin_epoch(index_t epoch) {
    state_ = {epoch, 0, list_.digest()};
    given_ = false;
    waiting_.reset();
    order_.clear();
    if (options_.strings.joined()) return;
    order_.resize(static_cast<std::size_t>(list_.size()));
    std::iota(order_.begin(), order_.end(), index_t{0});
    if (!options_.shuffle) return;
    constexpr index_t orders = -1;
    random_stream random(derive_seed(options_.seed, epoch, orders));
    for (std::size_t i = order_.size(); i > 1; --i) {
      std::swap(order_[i - 1], order_[static_cast<std::size_t>(random.below(static_cast<index_t>(i)))]);
    }
  }

  [[nodiscard]] made_example build(index_t number) {
    made_example out;
    out.number = number;
    const index_t alone = order_.empty() ? 0 : order_[static_cast<std::size_t>(number)];
    const auto random_of = [&](purpose which) {
      return random_stream(derive_seed(options_.seed, options_.new_draws ? state_.epoch : 0,
                                       order_.empty() ? number : alone, static_cast<index_t>(which)));
    };
    random_stream for_strings = random_of(strings), for_augmenting = random_of(augmenting), for_rows = random_of(rows);
    const recording_string parts = order_.empty()
                                       ? draw_string(list_, options_.strings, shape_.sample_rate, for_strings)
                                       : recording_string{{alone}};
    try {
      utterance said =
          join(list_, parts, shape_.sample_rate, most_samples_, options_.augment.of_each(), for_augmenting);
      augment(said.samples, for_augmenting);
      out.samples = static_cast<index_t>(said.samples.size());
      out.rows = options_.ctc ? labels_of(said) : rows_of(said, for_rows);
      out.rows.audio = std::make_shared<const std::vector<float>>(std::move(said.samples));
      out.text = std::move(said.text);
    } catch (const limit_error& too_much) {
      ++left_out_;
      out.problem = message(list_.name(), ": epoch ", state_.epoch, ", example ", number, " (",
                            list_[parts.parts.front()].file.string(), parts.parts.size() > 1 ? ", ..." : "",
                            "): ", too_much.what());
      expect<limit_error>(options_.unusable == unusable_pair::skip, out.problem);
    }
    return out;
  }

  void augment(std::vector<float>& samples, random_stream& random) const {
    const augment_options whole = options_.augment.of_whole();
    if (whole == augment_options{}) return;
    const augmentation what =
        draw_augmentation(whole, static_cast<index_t>(samples.size()), shape_.sample_rate, random);
    const index_t length = what.length(static_cast<index_t>(samples.size()));
    expect<limit_error>(length <= most_samples_, length, " samples, but there is place for ", most_samples_);
    samples = what(samples);
  }

  [[nodiscard]] index_t count_rows(const utterance& said) const {
    const index_t count = shape_.rows_of(static_cast<index_t>(said.samples.size()));
    expect(count >= 0, "audio: rows_of gave ", count, " for ", said.samples.size(), " samples");
    return count;
  }

  [[nodiscard]] training_rows labels_of(const utterance& said) const {
    training_rows out;
    out.labels = make_.target_tokens(said.text);
    expect<limit_error>(!out.labels.empty(), "nothing is said in it");
    const index_t frames = count_rows(said), least = kernels::ctc_least_frames(out.labels);
    expect<limit_error>(least <= frames, "its labels need ", least, " frames, but there are ", frames);
    return out;
  }

  [[nodiscard]] training_rows rows_of(const utterance& said, random_stream& random) const {
    row_choices choices = options_.rows;
    choices.most_rows = options_.budget;
    training_rows out = make_rows(make_.of_audio(count_rows(said), shape_.chunk_rows, said.text), options_.how, choices,
                                  random, options_.window);
    const double last = out.rows.max_position();
    expect<limit_error>(options_.context == 0 || last < static_cast<double>(options_.context), "it reaches position ",
                        last, ", but the context ends before ", options_.context);
    return out;
  }

  [[nodiscard]] bool fits(const audio_batch& batch, const made_example& more) const {
    return batch.rows.empty() ||
           (batch.num_samples + more.samples <= most_samples_ &&
            batch.num_rows + more.rows.rows.size() <= options_.budget &&
            (options_.most_examples == 0 || static_cast<index_t>(batch.rows.size()) < options_.most_examples));
  }

  static void add(audio_batch& to, made_example&& one) {
    to.num_rows += one.rows.rows.size();
    to.num_predictions += static_cast<index_t>(one.rows.labels.size());
    to.num_samples += one.samples;
    to.examples.push_back(one.number);
    to.texts.push_back(std::move(one.text));
    to.rows.push_back(std::move(one.rows));
  }

  recording_list list_;
  example_maker make_;
  audio_shape shape_;
  audio_batch_options options_;
  std::shared_ptr<const std::string> name_;
  index_t most_samples_ = 0;
  audio_state state_;
  std::vector<index_t> order_;  // of recordings in this epoch; empty where they are joined
  bool given_ = false;          // a batch in this epoch
  std::optional<made_example> waiting_;
  index_t left_out_ = 0;
};

/// What an epoch of audio has.
struct audio_figures {
  index_t examples = 0;
  index_t batches = 0;
  index_t samples = 0;
  index_t rows = 0;             ///< through the decoder, copies included
  index_t predictions = 0;      ///< labels
  index_t largest_batch = 0;    ///< rows
  index_t longest_batch = 0;    ///< samples
  index_t longest_example = 0;  ///< samples
  double max_position = 0;
  index_t left_out = 0;
};

/// Figures of the first epoch, for what is to be said before the first step. Makes all of its examples once, so it also
/// finds every file that cannot be read. \throws what `audio_batch_stream` does
[[nodiscard]] inline audio_figures count_epoch(const recording_list& list, const example_maker& make,
                                               const audio_shape& shape, const audio_batch_options& options) {
  audio_batch_options once = options;
  once.epochs = 1;
  audio_batch_stream stream(list, make, shape, once);
  audio_figures out;
  while (const auto batch = stream.next()) {
    ++out.batches;
    out.examples += static_cast<index_t>(batch->rows.size());
    out.samples += batch->num_samples;
    out.rows += batch->num_rows;
    out.predictions += batch->num_predictions;
    out.largest_batch = std::max(out.largest_batch, batch->num_rows);
    out.longest_batch = std::max(out.longest_batch, batch->num_samples);
    for (const training_rows& one : batch->rows) {
      out.longest_example = std::max(out.longest_example, static_cast<index_t>(one.audio->size()));
      out.max_position = std::max(out.max_position, one.rows.max_position());
    }
  }
  out.left_out = stream.left_out();
  return out;
}

}  // namespace runnel::train
