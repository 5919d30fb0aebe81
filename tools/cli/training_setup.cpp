// SPDX-License-Identifier: Apache-2.0

#include "training_setup.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include <runnel/io/atomic_folder.hpp>
#include <runnel/models/adapter_writer.hpp>
#include <runnel/models/export.hpp>
#include <runnel/models/hugging_face_config.hpp>
#include <runnel/models/initialize.hpp>
#include <runnel/text/tokenizer_gguf_writer.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>
#include <runnel/train/config_io.hpp>

#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"

namespace runnel::cli {

namespace {

/// Where `value` stands in `names`, as the enumeration that they spell.
template <class Enum, std::size_t N>
Enum choice(const std::array<std::string_view, N>& names, const std::string& value) {
  return static_cast<Enum>(std::find(names.begin(), names.end(), value) - names.begin());
}

/// How many numbers the matrices of a decoder have; saturates.
double matrix_numbers(const models::model_config& model) {
  const auto product = [](index_t a, index_t b) { return static_cast<double>(a) * static_cast<double>(b); };
  double layer = 0;
  for (const auto which : models::all_modules) {
    const auto where = models::layout_of(model, {}, which);
    layer += product(where.outputs, where.inputs);
  }
  return layer * static_cast<double>(model.num_hidden_layers) +
         product(model.vocab_size, model.hidden_size) * (model.tie_word_embeddings ? 1 : 2);
}

training_base new_model(const train::training_config& config) {
  training_base out;
  out.tokenizer = resolve_tokenizer(config.tokenizer);
  out.language.tokenizer = std::make_shared<const text::tokenizer>(load_tokenizer(out.tokenizer));
  const io::json_document document(config.model.config.text, "model.config");
  const io::json_object json(document.root());
  const auto sizes = models::read_hugging_face_config(json);
  expect_weights_fit(config, sizes, available_memory());
  models::initial_weights how;
  how.seed = static_cast<std::uint64_t>(config.seed);
  how.initializer_range = json.number_or("initializer_range", how.initializer_range);
  out.language.network = std::make_shared<const models::decoder>(models::random_decoder(sizes, how));
  out.language.name = "model.config";
  expect<config_error>(out.language.tokenizer_fits(), "model.config.vocab_size: the tokenizer has ",
                       out.language.tokenizer->vocabulary_size(), " tokens, found ", sizes.vocab_size);
  out.language.format = text::detect_chat_format(*out.language.tokenizer);
  return out;
}

void write_folder(const std::filesystem::path& path, const std::filesystem::path& tokenizer,
                  const models::decoder& network, quant::weight_format format, int threads) {
  std::error_code problem;
  std::filesystem::remove_all(path, problem);  // of a run that was gone on with
  io::atomic_folder folder(path);
  const auto vocabulary = load_vocabulary(tokenizer);
  if (std::filesystem::is_directory(tokenizer, problem)) {
    copy_tokenizer(tokenizer, folder.path());
  } else {
    text::write_tokenizer_json(vocabulary, folder.path());
  }
  const models::special_ids ids{vocabulary.bos, vocabulary.padding, vocabulary.eos_ids};
  models::export_options options;
  options.threads = threads;
  models::write_hugging_face(network, format, folder.path(), ids, options);
  folder.commit();
}

void write_gguf(const std::filesystem::path& path, const std::filesystem::path& tokenizer,
                const models::decoder& network, const models::quantization& kind, int threads) {
  const auto& of = models::find_family(&models::family::model_type, network.config().model_type, "train");
  io::gguf_writer out;
  models::export_options options;
  options.threads = threads;
  const auto shape = models::describe(network);
  const auto choose = [&](std::string_view name, std::span<const std::uint64_t> sizes, quant::weight_format stored) {
    return models::choose_format(kind, shape, name, sizes, stored);
  };
  models::add_to_gguf(network, choose, out, options);
  out.set("general.file_type", kind.file_type);
  constexpr std::uint32_t quantization_version = 2;
  out.set("general.quantization_version", quantization_version);
  text::gguf_tokenizer_options about;
  about.architecture = of.architecture;
  about.num_tokens = static_cast<std::size_t>(network.config().vocab_size);
  about.name = "runnel";
  about.lossy = true;
  for (const auto& lost : text::write_tokenizer_gguf(load_vocabulary(tokenizer), out, about)) {
    note(message(path.string(), " does not say that ", printable(lost)));
  }
  out.write(path);
}

}  // namespace

void expect_weights_fit(const train::training_config& config, const models::model_config& model,
                        std::optional<std::size_t> available) {
  const double bytes = matrix_numbers(model) * (config.lora.rank != 0 ? 4 : 16);
  expect<limit_error>(!available || bytes <= static_cast<double>(*available), "training would take ",
                      in_megabytes(bytes), " of memory for weights alone, and there are ",
                      in_megabytes(static_cast<double>(available.value_or(0))));
}

training_base load_training_base(const train::training_config& config) {
  training_base out;
  if (config.model.init.empty()) {
    out = new_model(config);
  } else {
    out.tokenizer = resolve_model(config.model.init);
    out.language = load_model_at(out.tokenizer);
  }
  format_option format;
  format.choose(config.format);
  format.apply(out.language);
  return out;
}

std::vector<train::training_set> training_sets(const std::vector<train::data_setting>& data,
                                               const stream::language_model& language,
                                               const train::training_config& config) {
  train::tokenize_options how;
  how.source_unit = text::find_text_unit(config.data.source_unit);
  how.target_separator = config.data.target_separator;
  how.max_word_tokens = config.data.max_word_tokens;
  how.whole_suffix = config.data.whole_suffix;
  std::vector<train::training_set> out;
  for (const auto& one : data) {
    out.push_back({one.text, train::example_maker(language, one.text.instruction, how), one.share});
  }
  return out;
}

train::batch_options batches_for(const train::training_config& config, const models::model_config& model) {
  train::batch_options out;
  out.how = train::plan_of(config);
  out.how.validate(model.max_position_embeddings);
  out.rows.waits = config.plan.k.waits;
  out.rows.end =
      choice<train::end_limit>(std::array<std::string_view, 3>{"drawn", "wait_k", "whole_source"}, config.loss.end);
  out.rows.header = choice<train::header_loss>(std::array<std::string_view, 3>{"none", "predicting_row", "published"},
                                               config.loss.header);
  out.rows.published_header_limit = config.loss.published_header_limit;
  out.rows.probe_share = config.loss.probe_share;
  out.window = model.sliding_window;
  out.budget = config.batch.rows;
  out.most_pairs = config.batch.pairs;
  out.context = model.max_position_embeddings;
  out.pool = config.batch.pool;
  out.seed = static_cast<std::uint64_t>(config.seed);
  return out;
}

std::optional<train::lora_options> adapters_for(const train::training_config& config) {
  if (config.lora.rank == 0) return std::nullopt;
  constexpr std::array<std::string_view, 7> names{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                  "gate_proj", "up_proj", "down_proj"};
  train::lora_options out;
  out.rank = config.lora.rank;
  out.alpha = config.lora.alpha;
  out.seed = static_cast<std::uint64_t>(config.seed);
  out.targets.clear();
  for (const std::string& target : config.lora.targets) {
    const auto found = choice<std::size_t>(names, target);
    std::string list;
    for (const auto name : names) list += message(list.empty() ? "" : ", ", name);
    expect<config_error>(found < names.size(), "lora.targets: expected some of ", list, "; found ",
                         io::in_quotes(target));
    out.targets.push_back(models::all_modules[found]);
  }
  return out;
}

ops::eval_options compute_for(const train::training_config& config) {
  const auto mode = config.compute == "bf16" ? ops::compute_mode::bf16 : ops::compute_mode::f32;
  return {threads_for(config.threads), mode};
}

train::trainer_options trainer_for(const train::training_config& config, index_t steps) {
  train::trainer_options out;
  const index_t last = config.schedule.steps != 0 ? config.schedule.steps : steps;
  out.rate = {choice<train::decay>(train::decay_names, config.schedule.kind), config.schedule.rate,
              config.schedule.warmup, last, config.schedule.final_ratio};
  out.optimizer = {config.optimizer.beta1, config.optimizer.beta2, config.optimizer.epsilon,
                   config.optimizer.weight_decay, config.optimizer.decay_vectors};
  out.clip_norm = config.optimizer.clip_norm;
  out.steps = config.steps != 0 ? config.steps : std::numeric_limits<index_t>::max();  // the data ends by itself
  out.accumulation = config.batch.accumulation;
  out.label_smoothing = config.loss.label_smoothing;
  out.dropout = config.dropout;
  out.adapter_dropout = config.lora.dropout;
  out.checkpointing = config.activation_checkpointing;
  out.seed = static_cast<std::uint64_t>(config.seed);
  out.on_overflow = config.on_overflow == "skip" ? train::overflow_action::skip : train::overflow_action::stop;
  out.on_save_failure =
      config.checkpoint.on_failure == "go_on" ? train::save_failure_action::go_on : train::save_failure_action::stop;
  out.validate_every = config.validation.every;
  out.save_every = config.checkpoint.every;
  out.save_seconds = config.checkpoint.seconds;
  out.checkpoints = std::filesystem::path(config.output) / "checkpoints";
  out.identity = train::identity_of(config, last);
  return out;
}

result_formats formats_for(const train::training_config& config) {
  constexpr std::array<std::string_view, 3> names{"f32", "f16", "bf16"};
  constexpr std::array formats{quant::weight_format::f32, quant::weight_format::f16, quant::weight_format::bf16};
  result_formats out;
  out.folder = formats[choice<std::size_t>(names, config.result.type)];
  if (config.result.gguf.empty()) return out;
  out.file = models::find_quantization(config.result.gguf);
  std::string list;
  for (const auto& kind : models::all_quantizations) list += message(list.empty() ? "" : ", ", kind.name);
  expect<config_error>(out.file.has_value(), "result.gguf: expected one of ", list, "; found ",
                       io::in_quotes(config.result.gguf));
  return out;
}

std::vector<std::filesystem::path> write_training_result(const train::training_config& config,
                                                         const std::filesystem::path& tokenizer,
                                                         const train::model<float>& model) {
  const std::filesystem::path output(config.output);
  const models::decoder network = model.to_decoder();
  if (config.lora.rank != 0) {
    models::write_peft(model.to_adapter(), network, output / "adapter", {config.model.init, config.lora.dropout});
    return {output / "adapter"};
  }
  const auto formats = formats_for(config);
  const int threads = threads_for(config.threads);
  std::vector<std::filesystem::path> written{output / "model"};
  write_folder(written.front(), tokenizer, network, formats.folder, threads);
  if (formats.file) {
    written.push_back(output / "model.gguf");
    write_gguf(written.back(), tokenizer, network, *formats.file, threads);
  }
  return written;
}

std::optional<std::size_t> available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    std::size_t kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
    std::getline(file, unit);
  }
  return std::nullopt;
}

}  // namespace runnel::cli
