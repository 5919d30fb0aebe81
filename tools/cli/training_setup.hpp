// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <runnel/models/export.hpp>
#include <runnel/models/quantize.hpp>
#include <runnel/ops/eval.hpp>
#include <runnel/stream/language_model.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/train/batches.hpp>
#include <runnel/train/config.hpp>
#include <runnel/train/model.hpp>
#include <runnel/train/trainer.hpp>

/// \file
/// From the settings of a training run to the things that it is made of.

namespace runnel::cli {

/// What a run starts from.
struct training_base {
  stream::language_model language;
  std::filesystem::path tokenizer;  ///< where its vocabulary was read
  /// Lines "key = value" that change with what its tokenizer and its format say, whatever the files are called.
  std::string identity;
};

/// Throws limit_error if what belongs to the weights of `model` does not fit into `available` bytes.
void expect_weights_fit(const train::training_config& config, const models::model_config& model,
                        std::optional<std::size_t> available);

/// The model to start from, with its chat format. One from scratch is not made if it does not fit. Throws config_error,
/// format_error or io_error.
[[nodiscard]] training_base load_training_base(const train::training_config& config);

/// Gives a base the chat format of the settings, and says what its tokenizer and format are.
void settle_format(const train::training_config& config, training_base& base);

/// A language model to write as a folder of Hugging Face's files.
struct language_files {
  const std::filesystem::path& tokenizer;  ///< as `resolve_tokenizer` gave it
  const text::chat_format& chat;
  const models::decoder& network;
  quant::weight_format format;
  models::export_options how;
};
/// Writes it into a folder that is there. Throws config_error or io_error.
void write_language_files(const std::filesystem::path& folder, const language_files& what);

/// Data sets with what makes tokens of them; `language` need not have its network.
[[nodiscard]] std::vector<train::training_set> training_sets(const std::vector<train::data_setting>& data,
                                                             const stream::language_model& language,
                                                             const train::training_config& config);

/// How batches are made for a model. Throws config_error.
[[nodiscard]] train::batch_options batches_for(const train::training_config& config, const models::model_config& model);

/// The adapters to train, if any. Throws config_error for a target that is no module.
[[nodiscard]] std::optional<train::lora_options> adapters_for(const train::training_config& config);

[[nodiscard]] ops::eval_options compute_for(const train::training_config& config);

/// How the trainer is run with a schedule that has fallen at step `last`. `identity` is that of the base.
[[nodiscard]] train::trainer_options trainer_for(const train::training_config& config, index_t last,
                                                 const std::string& identity = {});

/// Bytes of the files that the model to start from lies in; 0 where there are none.
[[nodiscard]] std::uintmax_t bytes_of_base(const train::training_config& config);

/// Formats that the result is written in. Throws config_error for a name that is none.
struct result_formats {
  quant::weight_format folder = quant::weight_format::f32;
  std::optional<models::quantization> file;
};
[[nodiscard]] result_formats formats_for(const train::training_config& config);

/// Writes what was trained into the output folder: `adapter` (PEFT), or `model` (Hugging Face) and `model.gguf`;
/// folders get the format as `chat_format.json` too. What was there before stays until the new is whole. Returns what
/// was written. Throws config_error or io_error.
std::vector<std::filesystem::path> write_training_result(const train::training_config& config,
                                                         const std::filesystem::path& tokenizer,
                                                         const text::chat_format& format,
                                                         const train::model<float>& model);

/// Options of a command that streams as was trained: plan, k.
[[nodiscard]] std::string streaming_arguments(const train::training_config& config);

/// The command that runs what `write_training_result` wrote as it was trained.
[[nodiscard]] std::string translate_command(const train::training_config& config, const std::filesystem::path& written);

/// Bytes of memory that the system, or a control group around this process, could still give; nothing where neither
/// says. `root` is where /proc and /sys are.
[[nodiscard]] std::optional<std::size_t> available_memory(const std::filesystem::path& root = "/");

}  // namespace runnel::cli
