// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/atomic_folder.hpp>
#include <runnel/speech/initialize.hpp>
#include <runnel/train/audio_batches.hpp>
#include <runnel/train/checkpoint.hpp>
#include <runnel/train/ctc_model.hpp>
#include <runnel/train/freeze.hpp>
#include <runnel/transcribe/export.hpp>

#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"
#include "subprocess.hpp"
#include "text_opener.hpp"
#include "training_output.hpp"
#include "training_setup.hpp"
#include "training_task.hpp"

namespace runnel::cli {

namespace {

/// What a training on audio starts from.
struct speech_base {
  training_base decoder;
  std::shared_ptr<const speech::encoder> encoder;
  std::shared_ptr<const speech::projector> projector;  ///< none for CTC
  transcribe::speech_settings settings;
};

/// The form that the settings ask for.
speech::encoder_config in_form(speech::encoder_config config, const train::training_config& wanted) {
  const auto& form = wanted.speech.form;
  if (!form.empty()) {
    config.causal_position = form != "original";
    config.causal_attention = form == "causal";
    if (!config.causal_attention) config.left_context = 0;
  }
  if (wanted.speech.left_context >= 0) config.left_context = wanted.speech.left_context;
  speech::validate(config, "speech");
  return config;
}

std::shared_ptr<const speech::encoder> load_base_encoder(const train::training_config& config) {
  const auto& from = config.speech;
  const auto seed = static_cast<std::uint64_t>(config.seed);
  if (!from.config.empty()) {
    const auto document = io::read_json_file(from.config, io::most_config_bytes);
    const auto read = speech::read_encoder_config(io::json_object(document.root()));
    return std::make_shared<const speech::encoder>(speech::random_encoder(in_form(read, config), seed));
  }
  const std::filesystem::path folder =
      from.init.empty() ? std::filesystem::path(from.encoder) : resolve_model(from.init) / transcribe::encoder_folder;
  return std::make_shared<const speech::encoder>(
      speech::load_encoder(folder, in_form(speech::read_encoder_config(folder), config)));
}

speech_base load_speech_base(const train::training_config& config, std::optional<std::size_t> memory) {
  speech_base out;
  out.encoder = load_base_encoder(config);
  if (config.speech.init.empty()) {
    out.decoder = load_training_base(config);
  } else {
    const auto folder = resolve_model(config.speech.init);
    const auto model = transcribe::load_speech_model(folder);
    out.settings = model.settings;
    out.decoder.language = model.language;
    out.decoder.tokenizer = resolve_tokenizer((folder / transcribe::decoder_folder).string());
    out.projector = model.projector;
    settle_format(config, out.decoder);
  }
  if (config.speech.chunk_rows != 0) out.settings.chunk_rows = config.speech.chunk_rows;
  if (config.speech.longest_seconds != 0) out.settings.longest_seconds = config.speech.longest_seconds;
  const auto& instruction = config.data.train.front().text.instruction;
  if (!instruction.empty()) out.settings.instruction = instruction;
  const auto& network = out.decoder.language.network->config();
  expect_weights_fit(config, network, memory);
  expect(out.decoder.language.format.source == text::source_kind::audio, "format: \"", out.decoder.language.format.name,
         "\" is for text, expected one whose source is audio");
  if (!config.speech.ctc && !out.projector) {
    const index_t middle = config.speech.projector_size != 0 ? config.speech.projector_size : network.hidden_size;
    out.projector = std::make_shared<const speech::projector>(
        speech::random_projector({out.encoder->config().hidden_size, middle, network.hidden_size, config.speech.stack},
                                 static_cast<std::uint64_t>(config.seed)));
  }
  return out;
}

class audio_task_batches final : public task_batches {
 public:
  audio_task_batches(train::audio_batch_stream stream, double rate) : stream_(std::move(stream)), rate_(rate) {}

  std::optional<task_batch> next() override {
    auto batch = stream_.next();
    if (!batch) return std::nullopt;
    return task_batch{std::move(batch->rows), batch->describe(), static_cast<double>(batch->num_samples) / rate_};
  }
  std::string state() const override { return stream_.state(); }
  void restore(std::string_view state) override { stream_.restore(state); }

 private:
  train::audio_batch_stream stream_;
  double rate_;
};

/// Recordings: an encoder by itself (CTC), or encoder, projector and decoder.
class speech_task final : public training_task {
 public:
  speech_task(const train::training_config& config, std::optional<std::size_t> memory)
      : config_(config), base_(load_speech_base(config, memory)) {
    const auto compute = compute_for(config);
    const auto& encoder = *base_.encoder;
    if (config.speech.ctc) {
      const auto labels = static_cast<index_t>(base_.decoder.language.vocabulary());
      ctc_ =
          std::make_unique<train::ctc_model<float>>(encoder, labels, compute, static_cast<std::uint64_t>(config.seed));
      model_ = std::make_unique<model_of<train::ctc_model<float>>>(*ctc_);
    } else {
      hears_ = std::make_unique<train::model<float>>(*base_.decoder.language.network, compute, adapters_for(config),
                                                     train::audio_modules{&encoder, base_.projector.get()});
      model_ = std::make_unique<model_of<train::model<float>>>(*hears_);
    }
    decoder_config_ = base_.decoder.language.network->config();
    base_.decoder.language.network = nullptr;  // the weights are the model's now
    train::freeze(model_->parameters(), config.freeze);
    lists_.push_back(train::read_recordings(config.data.train.front().text.file, open_text));
    if (config.validation.every == 0) return;
    for (const auto& set : config.data.validation) lists_.push_back(train::read_recordings(set.text.file, open_text));
  }

  task_model& model() override { return *model_; }
  std::string identity() const override {
    return base_.decoder.identity +
           message("encoder (digest) = ",
                   train::detail::digest(transcribe::encoder_config_text(encoder_config()), std::uint64_t{1}), '\n');
  }
  std::string_view unit() const override { return "seconds of audio"; }

  task_figures read_data() override {
    const auto figures = train::count_epoch(lists_.front(), maker(0), shape(), options(0));
    longest_ = config_.speech.ctc ? figures.longest_example : figures.longest_batch;
    largest_ = figures.largest_batch;
    index_t held_out = 0, left_out = 0;
    for (std::size_t i = 1; i < lists_.size(); ++i) {
      const auto found = train::count_epoch(lists_[i], maker(i), shape(), options(i));
      held_out += found.examples;
      left_out += found.left_out;
    }
    const double rate = static_cast<double>(encoder_config().sample_rate);
    task_figures out{figures.batches, static_cast<double>(figures.samples) / rate, {}};
    out.notes.push_back(message(config_.speech.ctc ? "CTC" : message("plan: ", stream::name_of(options(0).how)),
                                "; an epoch: ", grouped(figures.examples), " examples, ", fixed(out.work / 60, 1),
                                " minutes, ", grouped(figures.rows), " rows through the decoder, ",
                                grouped(figures.predictions), " predicted, ", grouped(figures.batches),
                                " batches; validation: ", grouped(held_out), " examples"));
    if (figures.left_out + left_out > 0) {
      out.notes.push_back(
          message("left out: ", figures.left_out, " examples, ", left_out,
                  " of validation: past speech.seconds, batch.rows or the model's context, or with more "
                  "labels than frames"));
    }
    return out;
  }

  std::size_t activation_bytes() const override {
    const std::size_t audio = train::encoder_activation_bytes(encoder_config(), longest_);
    return audio + (hears_ ? hears_->activation_bytes(largest_, config_.activation_checkpointing) : 0);
  }
  std::string_view smaller() const override { return "speech.seconds, batch.rows or activation_checkpointing"; }

  std::unique_ptr<task_batches> batches() override { return stream_of(0); }
  std::vector<std::pair<std::string, std::unique_ptr<task_batches>>> held_out() override {
    std::vector<std::pair<std::string, std::unique_ptr<task_batches>>> out;
    for (std::size_t i = 1; i < lists_.size(); ++i) {
      out.emplace_back(config_.data.validation[i - 1].text.name, stream_of(i));
    }
    return out;
  }

  std::vector<std::filesystem::path> write_result() override {
    const std::filesystem::path output(config_.output);
    const auto formats = formats_for(config_);
    std::error_code problem;
    const auto fresh = output / ".runnel-model.tmp";
    std::filesystem::remove_all(fresh, problem);
    io::atomic_folder folder(fresh);
    const auto& trained = config_.speech.ctc ? ctc_->encoder() : hears_->audio()->encoder();
    const auto path = output / (config_.speech.ctc ? transcribe::encoder_folder : "model");
    if (config_.speech.ctc) {
      transcribe::write_encoder(trained.to_encoder(), formats.folder, folder.path());
    } else {
      write_model(folder.path(), formats.folder);
    }
    folder.commit();
    replace_folder(fresh, path);
    return {path};
  }

  std::string command_for(const std::filesystem::path& written) const override {
    if (config_.speech.ctc) {
      return "runnel train CONFIG.json --set model.init=MODEL --set " +
             shell_word("speech.encoder=" + written.string());
    }
    return "runnel transcribe -m " + shell_word(written.string()) + streaming_arguments(config_) + " AUDIO.wav";
  }

 private:
  void write_model(const std::filesystem::path& folder, quant::weight_format format) {
    const auto encoder = hears_->audio()->encoder().to_encoder();
    const auto projector = hears_->audio()->to_projector();
    const auto network = hears_->to_decoder();
    const auto adapter = hears_->to_adapter();
    const nn::active_adapter<nn::inference_parameters> active[] = {{&adapter, 1.0f}};
    models::export_options how;
    how.threads = compute_for(config_).threads;
    if (config_.lora.rank != 0) how.adapters = active;
    transcribe::write_encoder(encoder, format, folder / transcribe::encoder_folder);
    transcribe::write_projector(projector, format, folder / transcribe::projector_file);
    transcribe::write_settings(base_.settings, projector, folder / transcribe::settings_file);
    const auto decoder = folder / transcribe::decoder_folder;
    transcribe::detail::make_folder(decoder);
    write_language_files(decoder, {base_.decoder.tokenizer, base_.decoder.language.format, network, format, how});
  }

  [[nodiscard]] const speech::encoder_config& encoder_config() const { return base_.encoder->config(); }

  [[nodiscard]] const train::data_setting& set(std::size_t i) const {
    return i == 0 ? config_.data.train.front() : config_.data.validation[i - 1];
  }

  [[nodiscard]] train::example_maker maker(std::size_t i) const {
    train::tokenize_options how;
    how.target_separator = config_.data.target_separator;
    how.max_word_tokens = config_.data.max_word_tokens;
    how.whole_suffix = config_.data.whole_suffix;
    const auto& own = set(i).text.instruction;
    return train::example_maker(base_.decoder.language, own.empty() ? base_.settings.instruction : own, how);
  }

  [[nodiscard]] train::audio_shape shape() const {
    const auto encoder = encoder_config();
    const index_t stack = config_.speech.ctc ? 1 : base_.projector->stack;
    return {encoder.sample_rate, base_.settings.chunk_rows,
            [encoder, stack](index_t samples) { return (encoder.frames_of_audio(samples) + stack - 1) / stack; }};
  }

  /// The first list is trained on, the others are held out.
  [[nodiscard]] train::audio_batch_options options(std::size_t i) const {
    const auto text = batches_for(config_, decoder_config_);
    train::audio_batch_options out;
    out.how = text.how;
    out.rows = text.rows;
    out.window = text.window;
    out.seconds = config_.speech.seconds;
    out.budget = text.budget;
    out.most_examples = text.most_pairs;
    out.context = text.context;
    out.strings = set(i).strings;
    out.augment = config_.augment;
    out.ctc = config_.speech.ctc;
    out.epochs = config_.steps != 0 ? 0 : config_.epochs;
    out.seed = text.seed;
    out.unusable = set(i).text.unusable;
    if (i > 0) out.budget = config_.validation.rows;
    return i == 0 ? out : out.for_validation();
  }

  [[nodiscard]] std::unique_ptr<task_batches> stream_of(std::size_t i) const {
    return std::make_unique<audio_task_batches>(train::audio_batch_stream(lists_[i], maker(i), shape(), options(i)),
                                                static_cast<double>(encoder_config().sample_rate));
  }

  const train::training_config& config_;
  speech_base base_;
  std::unique_ptr<train::ctc_model<float>> ctc_;
  std::unique_ptr<train::model<float>> hears_;
  std::unique_ptr<task_model> model_;
  models::model_config decoder_config_;
  std::vector<train::recording_list> lists_;
  index_t longest_ = 0, largest_ = 0;
};

}  // namespace

std::unique_ptr<training_task> make_speech_task(const train::training_config& config,
                                                std::optional<std::size_t> memory) {
  return std::make_unique<speech_task>(config, memory);
}

}  // namespace runnel::cli
