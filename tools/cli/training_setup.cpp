// SPDX-License-Identifier: Apache-2.0

#include "training_setup.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <runnel/io/atomic_file.hpp>
#include <runnel/io/atomic_folder.hpp>
#include <runnel/models/adapter_writer.hpp>
#include <runnel/models/export.hpp>
#include <runnel/models/hugging_face_config.hpp>
#include <runnel/models/initialize.hpp>
#include <runnel/models/map_weights.hpp>
#include <runnel/text/json_writer.hpp>
#include <runnel/text/tokenizer_data.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>
#include <runnel/train/checkpoint.hpp>
#include <runnel/train/config_io.hpp>

#include "console.hpp"
#include "model_file.hpp"
#include "options.hpp"
#include "subprocess.hpp"
#include "training_output.hpp"

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

void expect_there(std::string_view key, const std::string& path) {
  std::error_code problem;
  expect<io_error>(std::filesystem::exists(path, problem), key, ": '", printable(path), "' does not exist");
}

training_base new_model(const train::training_config& config) {
  training_base out;
  expect_there("tokenizer", config.tokenizer);
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

/// The same weights, declared for another number of positions.
std::shared_ptr<const models::decoder> declared_for(const models::decoder& model, index_t positions) {
  auto config = model.config();
  const bool depends =
      config.rope.scaling == nn::rope_scaling::yarn || config.rope.scaling == nn::rope_scaling::longrope;
  expect<config_error>(!depends, "model.context: the rotary angles of ", config.model_type,
                       " depend on its own; expected 0, found ", positions);
  config.max_position_embeddings = positions;
  const auto matrix = [](const models::weight_place&, const ops::prepared_matrix& from) { return from; };
  const auto vector = [](const models::weight_place&, const tensor<float, 1>& from) { return from.clone(); };
  auto weights = models::map_weights<nn::inference_parameters>(config, model.weights(), matrix, vector);
  return std::make_shared<const models::decoder>(std::move(config), std::move(weights));
}

/// How many numbers the adapters have; saturates.
double adapter_numbers(const train::training_config& config, const models::model_config& model) {
  const auto adapters = adapters_for(config);
  double sum = 0;
  for (const auto which : adapters->targets) {
    const auto where = models::layout_of(model, {}, which);
    sum += static_cast<double>(where.outputs) + static_cast<double>(where.inputs);
  }
  return sum * static_cast<double>(config.lora.rank) * static_cast<double>(model.num_hidden_layers);
}

/// As `text::parse_chat_format` reads it.
std::string format_text(const text::chat_format& format) {
  text::json_writer out;
  out.begin_object();
  out.member("name", format.name);
  out.member("about", format.about);
  out.member("source", format.source == text::source_kind::audio ? "audio" : "text");
  out.member("source_prefix", format.source_prefix);
  out.member("source_suffix", format.source_suffix);
  out.member("target_prefix", format.target_prefix);
  out.member("target_suffix", format.target_suffix);
  out.member("word_separator", format.word_separator);
  out.key("recognized_by");
  out.begin_object();
  const auto list = [&](const char* key, const std::vector<std::string>& texts) {
    out.key(key);
    out.begin_array();
    for (const std::string& one : texts) out.value(one);
    out.end();
  };
  list("template_has", format.recognized_by.template_has);
  list("template_lacks", format.recognized_by.template_lacks);
  list("tokens", format.recognized_by.tokens);
  out.end();
  if (!format.languages.empty()) {
    out.key("languages");
    out.begin_array();
    for (const auto& one : format.languages) {
      out.begin_object();
      out.member("code", one.code);
      out.member("instruction", one.instruction);
      out.end();
    }
    out.end();
  }
  out.end();
  return out.text() + '\n';
}

/// Changes with everything that a vocabulary's files say of how text becomes tokens.
std::uint64_t digest_of(const text::tokenizer_data& of) {
  std::uint64_t sum = 0;
  const auto add = [&](std::string_view text) { sum = train::detail::digest(text, sum); };
  const auto number = [&](auto value) { add(message(value)); };
  const auto id = [&](const std::optional<std::int32_t>& one) { number(one ? *one : -1); };
  for (const auto& one : of.tokens) add(one);
  for (const auto one : of.types) number(static_cast<int>(one));
  for (const auto& [left, right] : of.merges) {
    add(left);
    add(right);
  }
  sum = train::detail::digest(std::as_bytes(std::span(of.scores)), sum);
  for (const auto& one : {of.bos, of.unknown, of.padding, of.missing_byte}) id(one);
  for (const auto one : of.eos_ids) number(one);
  for (const bool one : {of.leftmost_ties, of.fuse_missing, of.add_bos, of.ignore_merges, of.nfc, of.split_spaces,
                         of.collapse_spaces, of.strip_leading_space}) {
    number(one ? 1 : 0);
  }
  for (const int one : {static_cast<int>(of.form), static_cast<int>(of.pre_tokenizer), static_cast<int>(of.prefix)}) {
    number(one);
  }
  return sum;
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  io::write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

void write_folder(const std::filesystem::path& path, const std::filesystem::path& tokenizer,
                  const text::chat_format& chat, const models::decoder& network, quant::weight_format format,
                  int threads) {
  std::error_code problem;
  const auto fresh = path.parent_path() / ".runnel-model.tmp";  // beside the one of a run that was gone on with
  std::filesystem::remove_all(fresh, problem);
  io::atomic_folder folder(fresh);
  models::export_options options;
  options.threads = threads;
  write_language_files(folder.path(), {tokenizer, chat, network, format, options});
  folder.commit();
  replace_folder(fresh, path);
}

}  // namespace

void write_language_files(const std::filesystem::path& folder, const language_files& what) {
  const auto vocabulary = load_vocabulary(what.tokenizer);
  std::error_code problem;
  if (std::filesystem::is_directory(what.tokenizer, problem)) {
    copy_tokenizer(what.tokenizer, folder);
  } else {
    text::write_tokenizer_json(vocabulary, folder);
  }
  const models::special_ids ids{vocabulary.bos, vocabulary.padding, vocabulary.eos_ids};
  models::write_hugging_face(what.network, what.format, folder, ids, what.how);
  write_text(folder / "chat_format.json", format_text(what.chat));
}

void expect_weights_fit(const train::training_config& config, const models::model_config& model,
                        std::optional<std::size_t> available) {
  // While it is read, the model to start from is in memory beside the weights that are made of it.
  const double numbers = matrix_numbers(model), base = static_cast<double>(bytes_of_base(config));
  const double bytes = config.lora.rank != 0 ? numbers * 4 + std::max(base, 16 * adapter_numbers(config, model))
                                             : std::max(numbers * 16, numbers * 8 + base);
  expect<limit_error>(!available || bytes <= static_cast<double>(*available), "training would take ",
                      in_megabytes(bytes), " of memory for weights alone, and there are ",
                      in_megabytes(static_cast<double>(available.value_or(0))));
}

training_base load_training_base(const train::training_config& config) {
  training_base out;
  if (config.model.init.empty()) {
    out = new_model(config);
  } else {
    expect_there("model.init", config.model.init);
    out.tokenizer = resolve_model(config.model.init);
    // One that learns to hear may have read before.
    using kind = std::optional<text::source_kind>;
    out.language = load_model_at(out.tokenizer, config.is_speech() ? kind() : kind(text::source_kind::text));
  }
  expect<config_error>(config.model.context == 0 || config.lora.rank == 0,
                       "model.context: adapters cannot say it, their model does; expected 0, found ",
                       config.model.context);
  if (config.model.context != 0) out.language.network = declared_for(*out.language.network, config.model.context);
  settle_format(config, out);
  return out;
}

void settle_format(const train::training_config& config, training_base& base) {
  format_option format;
  format.choose(config.format, "format");
  format.apply(base.language, config.is_speech() ? text::source_kind::audio : text::source_kind::text);
  constexpr std::uint64_t seed = 1;
  auto wording = base.language.format;
  wording.about.clear();      // for people
  wording.languages.clear();  // for commands
  base.identity = message("tokenizer (digest) = ", digest_of(load_vocabulary(base.tokenizer)),
                          "\nformat (digest) = ", train::detail::digest(format_text(wording), seed), '\n');
}

std::uintmax_t bytes_of_base(const train::training_config& config) {
  if (config.model.init.empty()) return 0;
  std::error_code problem;
  const std::filesystem::path path(config.model.init);
  const auto size = [](const std::filesystem::path& file) {
    std::error_code none;
    const auto found = std::filesystem::file_size(file, none);
    return none ? 0 : found;
  };
  if (!std::filesystem::is_directory(path, problem)) return size(path);
  std::uintmax_t sum = 0;
  for (const auto& one : std::filesystem::directory_iterator(path, problem)) {
    if (one.path().extension() == ".safetensors") sum += size(one.path());
  }
  return sum;
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
  out.rows.end = choice<train::end_limit>(train::end_limit_names, config.loss.end);
  out.rows.header = choice<train::header_loss>(train::header_loss_names, config.loss.header);
  out.rows.published_header_limit = config.loss.published_header_limit;
  out.rows.probe_share = config.loss.probe_share;
  out.window = model.sliding_window;
  out.budget = config.batch.rows;
  out.most_pairs = config.batch.pairs;
  out.joined = config.batch.joined;
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

train::trainer_options trainer_for(const train::training_config& config, index_t last, const std::string& identity) {
  train::trainer_options out;
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
  // What was trained with files that were not noted down is taken to be trained with these.
  out.identity = {
      train::identity_of(config, last) + identity, train::identity_of({}, last) + identity, {"schedule.steps"}};
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
                                                         const text::chat_format& format,
                                                         const train::model<float>& model) {
  const std::filesystem::path output(config.output);
  if (config.lora.rank != 0) {
    models::write_peft(model.to_adapter(), model.config(), output / "adapter",
                       {config.model.init, config.lora.dropout});
    write_text(output / "adapter" / "chat_format.json", format_text(format));
    return {output / "adapter"};
  }
  const models::decoder network = model.to_decoder();
  const auto formats = formats_for(config);
  const int threads = threads_for(config.threads);
  std::vector<std::filesystem::path> written{output / "model"};
  write_folder(written.front(), tokenizer, format, network, formats.folder, threads);
  if (formats.file) {
    written.push_back(output / "model.gguf");
    models::export_options how;
    how.threads = threads;
    const gguf_output to{written.back(), "train", "runnel", true};
    auto vocabulary = load_vocabulary(tokenizer);
    vocabulary.chat_format = format_text(format);
    for (const auto& lost : write_gguf(to, network, vocabulary, *formats.file, how)) {
      note(message(to.path.string(), " does not say that ", printable(lost)));
    }
  }
  return written;
}

std::string streaming_arguments(const train::training_config& config) {
  std::string out = message(" --plan ", config.plan.name);
  if (!config.plan.reencode.empty()) out += message(" --reencode ", config.plan.reencode);
  if (config.plan.phi) out += message(" --phi ", *config.plan.phi);
  const auto& waits = config.plan.k.waits;
  out += message(" -k ", waits[waits.size() / 2]);
  if (config.data.max_word_tokens != train::training_config().data.max_word_tokens) {
    out += message(" --max-word-tokens ", config.data.max_word_tokens);
  }
  return out;
}

std::string translate_command(const train::training_config& config, const std::filesystem::path& written) {
  const bool adapts = config.lora.rank != 0;
  std::string out = "runnel translate -m " + shell_word(adapts ? config.model.init : written.string());
  if (adapts) out += message(" --lora ", shell_word(written.string()));
  if (adapts) out += message(" --format ", shell_word((written / "chat_format.json").string()));
  out += streaming_arguments(config);
  return out + message(" --instruction ", shell_word(config.data.train.front().text.instruction));
}

namespace {

/// The first number of a file, or that behind `key`.
std::optional<std::size_t> number_in(const std::filesystem::path& path, std::string_view key = {}) {
  std::ifstream file(path);
  std::size_t number = 0;
  if (key.empty()) return file >> number ? std::optional(number) : std::nullopt;
  for (std::string name, rest; file >> name; std::getline(file, rest)) {
    if (name == key) return file >> number ? std::optional(number) : std::nullopt;
  }
  return std::nullopt;
}

/// What a control group may still take; pages of files can be taken back.
std::optional<std::size_t> left_in_group(const std::filesystem::path& group, const char* most_name,
                                         const char* used_name, std::string_view files) {
  const auto most = number_in(group / most_name), used = number_in(group / used_name);
  if (!most || !used) return std::nullopt;  // "max": no bound
  const std::size_t kept = *used - std::min(*used, number_in(group / "memory.stat", files).value_or(0));
  return *most - std::min(*most, kept);
}

}  // namespace

std::optional<std::size_t> available_memory(const std::filesystem::path& root) {
  auto out = number_in(root / "proc/meminfo", "MemAvailable:");
  if (out) *out *= 1024;
  const auto bound = [&](const std::optional<std::size_t>& left) {
    if (left && (!out || *left < *out)) out = left;
  };
  const auto groups = root / "sys/fs/cgroup";
  std::ifstream own(root / "proc/self/cgroup");
  for (std::string line; std::getline(own, line);) {
    const auto second = line.find(':', std::min(line.find(':') + 1, line.size()));
    if (second == std::string::npos) continue;
    const bool unified = line.starts_with("0::"), memory = line.find(":memory:") != std::string::npos;
    // Every group around that of this process counts.
    for (std::filesystem::path at(line.substr(second + 1)); unified || memory; at = at.parent_path()) {
      const auto inner = at.relative_path();
      bound(unified ? left_in_group(groups / inner, "memory.max", "memory.current", "inactive_file")
                    : left_in_group(groups / "memory" / inner, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                    "total_inactive_file"));
      if (inner.empty()) break;
    }
  }
  return out;
}

}  // namespace runnel::cli
