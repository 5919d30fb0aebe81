// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <runnel/stream/plan.hpp>
#include <runnel/text/json_writer.hpp>
#include <runnel/train/pairs.hpp>
#include <runnel/train/plan_rows.hpp>
#include <runnel/train/recordings.hpp>
#include <runnel/train/settings.hpp>

/// \file
/// The settings of a training run: one table names, explains, bounds, reads and prints them.

namespace runnel::train {

/// JSON text that is passed on to whom it concerns.
struct raw_json {
  std::string text;
};

/// k of wait-k: a number, a list of which one is drawn for every sentence, or a range as text: "1-9".
struct wait_list {
  std::vector<index_t> waits{3};
};

/// Parallel text, and how much of it is taken at a time where several are mixed; or recordings, and how they are
/// joined.
struct data_setting {
  data_set text;
  index_t share = 1;
  string_options strings{};
};

/// What `runnel train` is told. The meaning of each stands in `visit_settings`.
struct training_config {
  /// Whether the source is audio.
  [[nodiscard]] bool is_speech() const noexcept {
    return !speech.init.empty() || !speech.encoder.empty() || !speech.config.empty();
  }

  std::string output;
  index_t seed = 0;
  index_t threads = 0;
  std::string compute = "bf16";
  struct {
    std::string init;
    raw_json config;
    index_t context = 0;
  } model;
  std::string tokenizer;
  std::string format;
  struct {
    std::string init;
    std::string encoder;
    std::string config;
    std::string form;
    index_t left_context = -1;
    index_t stack = 1;
    index_t chunk_rows = 0;
    double longest_seconds = 0;
    index_t projector_size = 0;
    bool ctc = false;
    double seconds = 60;
  } speech;
  augment_options augment;
  struct {
    std::vector<data_setting> train, validation;
    std::string source_unit = "word";
    std::string target_separator = " ";
    index_t max_word_tokens = 50;
    bool whole_suffix = false;
  } data;
  struct {
    std::string name = "group-streaming";
    std::string reencode;
    std::optional<double> phi;
    wait_list k;
  } plan;
  struct {
    std::string end = "drawn";
    std::string header = "none";
    bool published_header_limit = false;
    double probe_share = 0;
    double label_smoothing = 0;
  } loss;
  struct {
    index_t rows = 4096;
    index_t pairs = 0;
    index_t joined = 0;
    index_t accumulation = 1;
    index_t pool = index_t{1} << 16U;
  } batch;
  index_t steps = 0;
  index_t epochs = 1;
  double dropout = 0;
  bool activation_checkpointing = false;
  struct {
    double weight_decay = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    bool decay_vectors = false;
    double clip_norm = 1;
  } optimizer;
  struct {
    std::string kind = "cosine";
    double rate = 1e-3;
    index_t warmup = 0;
    index_t steps = 0;
    double final_ratio = 0;
  } schedule;
  struct {
    index_t rank = 0;
    double alpha = 16;
    double dropout = 0;
    std::vector<std::string> targets{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  } lora;
  std::vector<std::string> freeze;
  struct {
    index_t every = 200;
    index_t rows = 4096;
  } validation;
  struct {
    index_t every = 200;
    double seconds = 600;
    std::string on_failure = "stop";
  } checkpoint;
  std::string on_overflow = "stop";
  struct {
    std::string weights = "best";
    std::string type = "f32";
    std::string gguf = "f32";
  } result;
};

/// What the table says of one setting.
struct setting {
  std::string_view key;
  std::string_view help;
  std::vector<std::string_view> choices{};  ///< of a text; empty: any
  double least = 0;                         ///< of a number
  double most = std::numeric_limits<double>::infinity();
  /// Whether a run that is gone on with has to have it as it was.
  bool identity = true;
};

namespace detail {

/// A setting that a run may change when it goes on.
[[nodiscard]] inline setting changeable(setting of) {
  of.identity = false;
  return of;
}

inline constexpr double most_whole = 1e9;

}  // namespace detail

/// Texts of choices, in the order of the enumerations that they stand for: `end_limit`, `header_loss`.
inline constexpr std::array<std::string_view, 3> end_limit_names{"drawn", "wait_k", "whole_source"};
inline constexpr std::array<std::string_view, 3> header_loss_names{"none", "predicting_row", "published"};

namespace detail {

template <std::size_t N>
[[nodiscard]] std::vector<std::string_view> list(const std::array<std::string_view, N>& names) {
  return {names.begin(), names.end()};
}

/// What is trained on what.
template <class Config, class Visit>
void visit_subject_settings(Config& c, Visit&& visit) {
  visit(changeable({"output", "Folder for all that training makes; new or empty, or of the run that is gone on with"}),
        c.output);
  visit({"seed", "Chooses weights, order, draws and dropout; the same seed gives the same bits"}, c.seed);
  visit(changeable({"threads", "Threads to work with; 0: one a processor", {}, 0, 1024}), c.threads);
  visit({"compute", "Numbers that products are computed in; weights are f32 always", {"f32", "bf16"}}, c.compute);
  visit({"model.init", "GGUF file or Hugging Face folder of the model to start from"}, c.model.init);
  visit({"model.config", "Or a model from scratch: the members of a Hugging Face config.json"}, c.model.config);
  visit({"model.context", "Positions that the model is to declare; 0: as it does", {}, 0, most_whole}, c.model.context);
  visit({"tokenizer", "Tokenizer of a model from scratch: tokenizer.json, its folder, or a GGUF file"}, c.tokenizer);
  visit({"format", "Chat format, by name or file; empty: the one that the tokenizer hints at"}, c.format);
  visit({"speech.init", "Folder of a speech model to start from; model.init is in it then"}, c.speech.init);
  visit({"speech.encoder", "Or Hugging Face folder of a wav2vec2 encoder, for a new projector and model.init"},
        c.speech.encoder);
  visit({"speech.config", "Or a new encoder: the config.json of one"}, c.speech.config);
  visit({"speech.form",
         "What the encoder sees: all, nothing later where it places frames, nothing later at all; empty: as it is",
         {"", "original", "causal_position", "causal"}},
        c.speech.form);
  visit({"speech.left_context",
         "Frames before itself that a frame sees, causal; 0: all, -1: as it is",
         {},
         -1,
         most_whole},
        c.speech.left_context);
  visit({"speech.stack", "Frames that a new projector makes one row of", {}, 1, 64}, c.speech.stack);
  visit({"speech.chunk_rows", "Rows that are one source word; 0: as the model has it, else 20", {}, 0, 65536},
        c.speech.chunk_rows);
  visit({"speech.longest_seconds",
         "Audio that the result hears at once, longer audio being cut where it is quiet; 0: as the "
         "model has it, else what the context holds",
         {},
         0,
         86400},
        c.speech.longest_seconds);
  visit({"speech.projector_size", "Features in the middle of a new projector; 0: the decoder's", {}, 0, 65536},
        c.speech.projector_size);
  visit({"speech.ctc", "Train the encoder alone, with CTC over the target's tokens"}, c.speech.ctc);
  visit({"speech.seconds", "Most audio in a batch; longer recordings are left out", {}, 0.01, 86400}, c.speech.seconds);
  visit({"augment.speed", "Each recording is played faster or slower by a factor up to 1 + so much", {}, 0, 0.89},
        c.augment.speed);
  visit(
      {"augment.filter", "Each recording goes through a random filter with so much beside the sound itself", {}, 0, 10},
      c.augment.filter);
  visit({"augment.gain_db", "Loudness, drawn from [least, most]"}, c.augment.gain_db);
  visit({"augment.noise_share", "Share of recordings that get noise", {}, 0, 1}, c.augment.noise_share);
  visit({"augment.snr_db", "Speech over noise, drawn from [least, most]"}, c.augment.snr_db);
  visit({"augment.low_noise_share", "Share of noises that are low", {}, 0, 1}, c.augment.low_noise_share);
  visit({"augment.silence_before_ms", "Drawn from [least, most]"}, c.augment.silence_before_ms);
  visit({"augment.silence_after_ms", "Drawn from [least, most]"}, c.augment.silence_after_ms);
  visit({"augment.time_masks", "Most stretches that are lost", {}, 0, 1000}, c.augment.time_masks);
  visit({"augment.longest_mask_ms", "Longest of them", {}, 0, 60000}, c.augment.longest_mask_ms);
  visit({"data.train", "What to train on: a list of objects (see below)"}, c.data.train);
  visit({"data.validation", "What to validate on, the same; never trained on"}, c.data.validation);
  visit({"data.source_unit", "What the source is read in", {"word", "char", "token"}}, c.data.source_unit);
  visit({"data.target_separator", "What a target word other than the first begins with"}, c.data.target_separator);
  visit({"data.max_word_tokens", "A target word is complete after so many tokens", {}, 1, most_whole},
        c.data.max_word_tokens);
  visit({"data.whole_suffix", "Learn all of the format's target suffix, not just up to what stops a session"},
        c.data.whole_suffix);
  visit({"plan.name",
         "Streaming plan",
         {"batch", "batch-grouped", "interleaved", "batch-streaming", "group-streaming", "removed-source",
          "removed-target", "removed-both"}},
        c.plan.name);
  visit({"plan.reencode", "What batch-streaming computes again", {"", "none", "positions", "all"}}, c.plan.reencode);
  visit({"plan.phi", "Where the target begins, for group-streaming and batch-grouped; null: 0"}, c.plan.phi);
  visit({"plan.k", "wait-k: a number, a list of which one is drawn for every sentence, or a range as \"1-9\""},
        c.plan.k);
}

/// How it is trained.
template <class Config, class Visit>
void visit_method_settings(Config& c, Visit&& visit) {
  visit({"loss.end", "Source that the row sees which predicts the end", list(end_limit_names)}, c.loss.end);
  visit({"loss.header", "Whether the target's header is learned", list(header_loss_names)}, c.loss.header);
  visit({"loss.published_header_limit", "As the paper's code: the header comes one word before the target's first"},
        c.loss.published_header_limit);
  visit({"loss.probe_share", "Share of word ends whose probe row is trained too", {}, 0, 1}, c.loss.probe_share);
  visit({"loss.label_smoothing", "Probability given to all tokens alike", {}, 0, 0.999}, c.loss.label_smoothing);
  visit({"batch.rows", "Most rows in a batch; longer pairs are left out", {}, 1, most_whole}, c.batch.rows);
  visit({"batch.pairs", "Most pairs in a batch; 0: no limit", {}, 0, most_whole}, c.batch.pairs);
  visit({"batch.joined",
         "Rows of a stream of pairs one after another, each seeing all before it (plan batch); 0: every pair alone",
         {},
         0,
         most_whole},
        c.batch.joined);
  visit({"batch.accumulation", "Batches a step", {}, 1, 65536}, c.batch.accumulation);
  visit({"batch.pool", "Pairs that are shuffled and sorted by length together", {}, 1, most_whole}, c.batch.pool);
  visit(changeable({"steps", "Steps to train for; 0: as many as the epochs have", {}, 0, most_whole}), c.steps);
  visit(changeable({"epochs", "Times to go through the data where steps is 0", {}, 0, most_whole}), c.epochs);
  visit({"dropout", "Share of numbers dropped", {}, 0, 0.999}, c.dropout);
  visit({"activation_checkpointing", "Compute again instead of keeping: less memory, a third more time"},
        c.activation_checkpointing);
  visit({"optimizer.weight_decay", "Of AdamW, of matrices"}, c.optimizer.weight_decay);
  visit({"optimizer.beta1", "Of AdamW", {}, 0, 0.999999}, c.optimizer.beta1);
  visit({"optimizer.beta2", "Of AdamW", {}, 0, 0.999999}, c.optimizer.beta2);
  visit({"optimizer.epsilon", "Of AdamW"}, c.optimizer.epsilon);
  visit({"optimizer.decay_vectors", "Weight decay of norms and biases too"}, c.optimizer.decay_vectors);
  visit({"optimizer.clip_norm", "Bound of the gradients' norm; 0: none"}, c.optimizer.clip_norm);
  visit({"schedule.kind", "How the learning rate falls", {"constant", "linear", "cosine"}}, c.schedule.kind);
  visit({"schedule.rate", "Highest learning rate"}, c.schedule.rate);
  visit({"schedule.warmup", "Steps in which it rises", {}, 0, most_whole}, c.schedule.warmup);
  visit({"schedule.steps", "Step at which it has fallen; 0: the last of the run, as it was begun", {}, 0, most_whole},
        c.schedule.steps);
  visit({"schedule.final_ratio", "What it falls to, as a share of the highest", {}, 0, 1}, c.schedule.final_ratio);
  visit({"lora.rank", "Train adapters of this rank beside the weights; 0: the weights", {}, 0, 65536}, c.lora.rank);
  visit({"lora.alpha", "Adapters count alpha / rank"}, c.lora.alpha);
  visit({"lora.dropout", "Share of what adapters are given that is dropped", {}, 0, 0.999}, c.lora.dropout);
  visit({"lora.targets", "Modules that have adapters"}, c.lora.targets);
  visit({"freeze", "Patterns (* and ?) of the names of parameters that stay as they are"}, c.freeze);
}

/// What is looked at and kept.
template <class Config, class Visit>
void visit_keeping_settings(Config& c, Visit&& visit) {
  visit(changeable({"validation.every", "Steps between validations; 0: none", {}, 0, most_whole}), c.validation.every);
  visit(changeable(
            {"validation.rows", "Most rows in a batch of validation; longer pairs are left out", {}, 1, most_whole}),
        c.validation.rows);
  visit(changeable({"checkpoint.every", "Steps between checkpoints; 0: none for their number", {}, 0, most_whole}),
        c.checkpoint.every);
  visit(changeable({"checkpoint.seconds", "Seconds between checkpoints; 0: none for their age"}), c.checkpoint.seconds);
  visit(changeable({"checkpoint.on_failure", "When one cannot be written", {"stop", "go_on"}}),
        c.checkpoint.on_failure);
  visit({"on_overflow", "When loss or gradients are not finite", {"stop", "skip"}}, c.on_overflow);
  visit(changeable({"result.weights", "Which weights the result has", {"best", "last"}}), c.result.weights);
  visit(changeable({"result.type", "Of the matrices in the Hugging Face folder", {"f32", "f16", "bf16"}}),
        c.result.type);
  visit(changeable({"result.gguf", "Of those in the GGUF file, as `runnel quantize` has them; empty: no such file"}),
        c.result.gguf);
}

}  // namespace detail

/// Calls `visit(setting, member)` for every setting, in the order in which they are printed.
template <class Config, class Visit>
void visit_settings(Config& c, Visit&& visit) {
  detail::visit_subject_settings(c, visit);
  detail::visit_method_settings(c, visit);
  detail::visit_keeping_settings(c, visit);
}

/// The members of an object in `data.train` and `data.validation`.
template <class Data, class Visit>
void visit_data_settings(Data& d, Visit&& visit) {
  visit({"name", "For messages"}, d.text.name);
  visit({"instruction", "What the model is told to do with it, for the chat format's prompt"}, d.text.instruction);
  visit({"file", "JSON (an array), JSON lines, TSV, lines of source text, or a list of recordings; also with .gz"},
        d.text.file);
  visit({"target_file", "The target's lines, where `file` has the source's"}, d.text.target_file);
  visit(
      {"format",
       "How it lies there; auto: by the name; audio: recordings, a line each: WAV file, tab, text, maybe tab and group",
       {"auto", "json", "jsonl", "tsv", "lines", "audio"}},
      d.text.format);
  visit({"source_key", "Of JSON objects; a dot leads into one"}, d.text.source_key);
  visit({"target_key", "The same for the target"}, d.text.target_key);
  visit({"source_column", "Of TSV, from 1", {}, 1, detail::most_whole}, d.text.source_column);
  visit({"target_column", "The same for the target", {}, 1, detail::most_whole}, d.text.target_column);
  visit({"most_bytes", "Longer sentences are left out", {}, 1, 268435456}, d.text.most_bytes);
  visit({"unusable", "Sentences that are too long or no UTF-8", {"skip", "refuse"}}, d.text.unusable);
  visit({"strings_least", "Recordings of one group that are joined to one example", {}, 1, 10000}, d.strings.least);
  visit({"strings_most", "At most so many; 1: every recording by itself", {}, 1, 10000}, d.strings.most);
  visit({"gap_ms", "Silence between them, drawn from [least, most]"}, d.strings.gap_ms);
  visit({"examples", "Examples of an epoch; 0: each recording about once", {}, 0, detail::most_whole},
        d.strings.examples);
  visit({"share", "Pairs taken at a time where several sets are mixed", {}, 1, detail::most_whole}, d.share);
}

}  // namespace runnel::train
