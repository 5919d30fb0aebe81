// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <runnel/io/json.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/speech/load.hpp>
#include <runnel/speech/projector.hpp>
#include <runnel/stream/load.hpp>

namespace runnel::transcribe {

/// What a speech model says beside its parts.
struct speech_settings {
  index_t chunk_rows = 20;  ///< decoder rows that are one source word: what wait-k counts
  std::string instruction;  ///< goes into the chat format's prompt
  /// Audio that is best heard at once: longer audio is better cut (speech/quiet_cut.hpp), which `runnel transcribe`
  /// does. 0: what the context holds.
  double longest_seconds = 0;
};

/// A speech encoder, a projector, and a decoder-only model that reads what they make of audio (paper, section 4.3 and
/// Appendix B). Cheap to copy: the parts are shared and never change.
struct speech_model {
  std::shared_ptr<const speech::encoder> encoder;
  std::shared_ptr<const speech::projector> projector;
  stream::language_model language;
  speech_settings settings;

  /// Throws config_error if a part is missing or its sizes do not fit the others.
  void validate() const {
    expect(encoder != nullptr && projector != nullptr, "speech model '", language.name,
           "': the encoder or the projector is missing");
    language.validate();
    expect(language.format.source == text::source_kind::audio, "speech model '", language.name,
           "': the source of format \"", language.format.name, "\" is text, expected audio");
    constexpr index_t most = 65536;
    expect(settings.chunk_rows >= 1 && settings.chunk_rows <= most, "speech model '", language.name,
           "': chunk_rows: expected 1 to ", most, ", found ", settings.chunk_rows);
    constexpr double most_seconds = 86'400;
    expect(settings.longest_seconds >= 0 && settings.longest_seconds <= most_seconds, "speech model '", language.name,
           "': longest_seconds: expected 0 to ", most_seconds, ", found ", settings.longest_seconds);
    try {
      speech::validate(*projector, encoder->config().hidden_size, language.network->config().hidden_size,
                       language.name);
    } catch (const format_error& problem) {
      fail<config_error>("speech model ", problem.what());
    }
  }

  [[nodiscard]] index_t sample_rate() const noexcept { return encoder->config().sample_rate; }
  /// Samples from one row to the next.
  [[nodiscard]] index_t row_samples() const noexcept { return encoder->config().hop() * projector->stack; }
  /// Samples of a chunk.
  [[nodiscard]] index_t chunk_samples() const noexcept { return settings.chunk_rows * row_samples(); }
  /// How long a chunk is.
  [[nodiscard]] double chunk_ms() const noexcept {
    return 1000 * static_cast<double>(chunk_samples()) / static_cast<double>(sample_rate());
  }
  /// Samples after a chunk's last that its last frame still needs: 0 where the left pad is as long as frames overlap.
  [[nodiscard]] index_t lookahead() const noexcept {
    const auto& config = encoder->config();
    return std::max<index_t>(0, config.receptive_field() - config.hop() - config.left_pad);
  }
  /// Rows that so many samples give in all.
  [[nodiscard]] index_t rows_of(index_t samples) const noexcept {
    return (encoder->config().frames_of_audio(samples) + projector->stack - 1) / projector->stack;
  }
};

/// Names of the files and folders of a speech model.
inline constexpr const char* settings_file = "speech.json";
inline constexpr const char* encoder_folder = "encoder";
inline constexpr const char* projector_file = "projector.safetensors";
inline constexpr const char* decoder_folder = "decoder";

/// Whether a folder holds a speech model.
[[nodiscard]] inline bool is_speech_model(const std::filesystem::path& folder) {
  std::error_code problem;
  return std::filesystem::is_regular_file(folder / settings_file, problem);
}

namespace detail {

[[nodiscard]] inline std::shared_ptr<const speech::projector> load_projector(const std::filesystem::path& path,
                                                                             index_t stack, kernels::activation kind) {
  const auto file = io::open_safetensors(path);
  const speech::detail::checkpoint_source from(file);
  auto out = std::make_shared<speech::projector>();
  out->stack = stack;
  out->kind = kind;
  const auto linear = [&](const char* name) {
    const std::string weight = std::string(name) + ".weight";
    const auto* stored = file.find_tensor(weight);
    expect<format_error>(stored != nullptr && stored->shape.size() == 2, path.string(), ": tensor ", weight,
                         stored == nullptr ? " is missing" : ": expected a matrix");
    const auto outputs = stored->shape[0], inputs = stored->shape[1];
    const auto bias = from.floats(std::string(name) + ".bias", {outputs});
    nn::linear<nn::inference_parameters> made{
        from.matrix(weight, static_cast<index_t>(outputs), static_cast<index_t>(inputs)),
        tensor<float, 1>({static_cast<index_t>(outputs)})};
    std::copy(bias.begin(), bias.end(), made.bias.data());
    return made;
  };
  out->linear_1 = linear("linear_1");
  out->linear_2 = linear("linear_2");
  return out;
}

}  // namespace detail

/// Loads a folder: `speech.json`, `encoder/` (a wav2vec2 folder of Hugging Face's), `projector.safetensors`
/// (`linear_1`, `linear_2`), `decoder/` (any model that `stream::load_model` takes, with a `chat_format.json` whose
/// source is audio). Throws io_error, format_error or config_error naming file and key or tensor.
[[nodiscard]] inline speech_model load_speech_model(const std::filesystem::path& folder) {
  const auto document = io::read_json_file(folder / settings_file, io::most_config_bytes);
  const io::json_object json(document.root());
  json.check_names({"chunk_rows", "instruction", "longest_seconds", "stack", "projector_act"});
  speech_model out;
  out.settings.chunk_rows = json.integer("chunk_rows");
  out.settings.instruction = json.text_or("instruction", "");
  out.settings.longest_seconds = json.number_or("longest_seconds", 0);
  const index_t stack = json.integer_or("stack", 1);
  expect<format_error>(stack >= 1 && stack <= 64, json.source_name(), ": stack: expected 1 to 64 frames, found ",
                       stack);
  const auto kind = speech::detail::read_activation(json, "projector_act");
  out.encoder = std::make_shared<const speech::encoder>(speech::load_encoder(folder / encoder_folder));
  out.projector = detail::load_projector(folder / projector_file, stack, kind);
  out.language = stream::load_model(folder / decoder_folder, text::source_kind::audio);
  out.language.name = (folder / "").parent_path().filename().string();
  speech::validate(*out.projector, out.encoder->config().hidden_size, out.language.network->config().hidden_size,
                   (folder / projector_file).string());
  out.validate();
  return out;
}

}  // namespace runnel::transcribe
