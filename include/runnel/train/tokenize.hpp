// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/stream/language_model.hpp>
#include <runnel/stream/transcript.hpp>
#include <runnel/text/word_splitter.hpp>
#include <runnel/train/example.hpp>

namespace runnel::train {

/// Where a session takes the words of `tokens` for complete, as counts of tokens up to each: before a token that begins
/// with white space, within or after one that has white space inside, and after `max_word_tokens` tokens (the option of
/// sessions). The last entry is the number of tokens. A token that completes several words gives its end several times.
/// Needs the tokenizer, not the network. Linear.
[[nodiscard]] inline std::vector<index_t> session_words(const stream::language_model& model,
                                                        std::span<const std::int32_t> tokens,
                                                        index_t max_word_tokens = 50) {
  std::vector<index_t> ends;
  stream::transcript written;
  auto detokenizer = model.make_detokenizer();
  const auto note = [&](index_t at) { ends.resize(written.units().size(), at); };
  for (index_t p = 0; p < static_cast<index_t>(tokens.size()); ++p) {
    const std::int32_t id = tokens[static_cast<std::size_t>(p)];
    const std::string text = detokenizer.push(id);
    if (stream::starts_with_space(text) && written.has_content()) written.cut({});
    note(p);
    written.keep(id, text, {});
    if (written.unit_tokens() >= max_word_tokens) written.cut({});
    note(p + 1);
  }
  written.append(detokenizer.finish(), {});
  written.complete({});
  note(static_cast<index_t>(tokens.size()));
  if (ends.empty() || ends.back() != static_cast<index_t>(tokens.size())) {
    ends.push_back(static_cast<index_t>(tokens.size()));
  }
  return ends;
}

/// Choices of `example_maker`.
struct tokenize_options {
  /// What the source is read in: words (with the chat format's separator), characters, or tokens of words.
  text::text_unit source_unit = text::text_unit::word;
  /// What a target word other than the first begins with: white space, by which a session tells words.
  std::string target_separator = " ";
  /// A target word counts as complete after this many tokens: what sessions are told.
  index_t max_word_tokens = 50;
  /// Learn all of the format's target suffix, not just as far as the token that stops a session (the paper's choice).
  bool whole_suffix = false;
};

/// Turns sentence pairs into tokens, segment by segment, with the functions by which a session does: prompt with its
/// instruction, words, end; header, words, end. What a segment is encoded as does not depend on its neighbours.
///
/// Words are what white space separates. Target words are those that a session would count when it writes these tokens
/// (`session_words`), so that reads come where it would read. The model's network may be missing: a tokenizer exists
/// before the model. Cheap to copy; const and shared between threads.
class example_maker {
 public:
  /// \throws config_error without a tokenizer, or if neither the vocabulary nor the format has a token that ends a text
  explicit example_maker(stream::language_model model, std::string_view instruction = {}, tokenize_options options = {})
      : model_(std::move(model)), options_(std::move(options)) {
    expect(model_.tokenizer != nullptr, "examples: the tokenizer is missing");
    expect(options_.max_word_tokens >= 1, "examples: max_word_tokens: expected at least 1, found ",
           options_.max_word_tokens);
    separator_ = options_.source_unit == text::text_unit::word ? model_.format.word_separator : std::string();
    prompt_ = model_.prompt_tokens(instruction);
    source_end_ = model_.end_tokens();
    header_ = model_.header_tokens();
    const std::string& before = model_.format.target_prefix.empty() ? model_.format.source_suffix  //
                                                                    : model_.format.target_prefix;
    begins_ = text::ends_in_token(*model_.tokenizer, before);
    take_suffix(options_.whole_suffix);
  }

  /// The pair as tokens. Bytes that are no UTF-8 are encoded as a session does. \throws config_error if the format's
  /// source is no text
  [[nodiscard]] example operator()(std::string_view source, std::string_view target) const {
    example out;
    out.source = prompt_;
    out.source_ends.push_back(static_cast<index_t>(out.source.size()));
    for (const std::string& word : split(source, options_.source_unit)) {
      const bool first = out.source_ends.size() == 1;
      append(out.source, model_.word_tokens(word, first ? std::string_view() : separator_, first));
      out.source_ends.push_back(static_cast<index_t>(out.source.size()));
    }
    append(out.source, source_end_);
    out.source_ends.push_back(static_cast<index_t>(out.source.size()));

    append_target(out, target);
    return out;
  }

  /// The same for a source of audio of which the projector makes `rows` rows: segments of `chunk_rows`, the last one
  /// with what is left. \throws config_error if the format's source is no audio, or if there is a negative number of
  /// rows or no row in a chunk
  [[nodiscard]] example of_audio(index_t rows, index_t chunk_rows, std::string_view target) const {
    expect(model_.format.source == text::source_kind::audio, "examples: the source of format \"", model_.format.name,
           "\" is text, and no audio");
    expect(rows >= 0 && rows < (index_t{1} << 30U) && chunk_rows >= 1,
           "examples: expected rows of audio in chunks of at "
           "least one, found ",
           rows, " rows in chunks of ", chunk_rows);
    example out;
    out.source = prompt_;
    out.source_ends.push_back(static_cast<index_t>(out.source.size()));
    for (index_t row = 0; row < rows; ++row) {
      out.source.push_back(static_cast<std::int32_t>(-1 - row));
      if ((row + 1) % chunk_rows == 0 || row + 1 == rows) {
        out.source_ends.push_back(static_cast<index_t>(out.source.size()));
      }
    }
    append(out.source, source_end_);
    out.source_ends.push_back(static_cast<index_t>(out.source.size()));
    append_target(out, target);
    return out;
  }

  /// The tokens of a target's words: without header, and without what comes after the last word.
  [[nodiscard]] std::vector<std::int32_t> target_tokens(std::string_view target) const {
    std::vector<std::int32_t> written;
    bool first = true;
    for (const std::string& word : split(target, text::text_unit::word)) {
      const std::string_view before = first ? std::string_view() : options_.target_separator;
      append(written, text::encode_word(*model_.tokenizer, word, before, !(first && begins_)));
      first = false;
    }
    return written;
  }

  [[nodiscard]] const stream::language_model& model() const noexcept { return model_; }

 private:
  [[nodiscard]] std::vector<std::string> split(std::string_view text, text::text_unit unit) const {
    text::word_splitter splitter(unit, model_.tokenizer.get());
    std::vector<std::string> words = splitter.push(text);
    for (std::string& last : splitter.finish()) words.push_back(std::move(last));
    return words;
  }

  /// Header, words as a session would count them, and end.
  void append_target(example& out, std::string_view target) const {
    std::vector<std::int32_t> written = target_tokens(target);
    append(written, before_stop_);
    out.target = header_;
    const auto header = static_cast<index_t>(header_.size());
    out.target_ends.push_back(header);
    append(out.target, written);
    if (!written.empty()) {
      for (const index_t end : session_words(model_, written, options_.max_word_tokens))
        out.target_ends.push_back(header + end);
    }
    append(out.target, end_);
    out.target_ends.push_back(static_cast<index_t>(out.target.size()));
  }

  static void append(std::vector<std::int32_t>& to, std::span<const std::int32_t> ids) {
    to.insert(to.end(), ids.begin(), ids.end());
  }

  /// What follows the last target word: the format's suffix as far as the token that stops a session, or, if none of it
  /// does, the tokenizer's end of sequence after it.
  void take_suffix(bool whole) {
    auto suffix = text::encode_segment(*model_.tokenizer, model_.format.target_suffix, true);
    const auto stops = model_.end_ids();
    expect(!stops.empty(), "examples: format \"", model_.format.name,
           "\": neither its target_suffix nor the tokenizer has a token that ends a text");
    const auto ends = [&](std::int32_t id) { return std::find(stops.begin(), stops.end(), id) != stops.end(); };
    auto stop = std::find_if(suffix.begin(), suffix.end(), ends);
    if (stop == suffix.end()) stop = suffix.insert(suffix.end(), stops.front());
    before_stop_.assign(suffix.begin(), stop);
    end_.assign(stop, whole ? suffix.end() : stop + 1);
  }

  stream::language_model model_;
  tokenize_options options_;
  std::string separator_;
  std::vector<std::int32_t> prompt_;
  std::vector<std::int32_t> source_end_;
  std::vector<std::int32_t> header_;
  std::vector<std::int32_t> before_stop_;
  std::vector<std::int32_t> end_;
  bool begins_ = false;
};

}  // namespace runnel::train
