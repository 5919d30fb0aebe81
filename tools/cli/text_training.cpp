// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <runnel/train/freeze.hpp>

#include "console.hpp"
#include "text_opener.hpp"
#include "training_setup.hpp"
#include "training_task.hpp"

namespace runnel::cli {

namespace {

class text_batches final : public task_batches {
 public:
  text_batches(std::vector<train::training_set> sets, train::batch_options options, train::source_opener open)
      : stream_(std::move(sets), std::move(options), std::move(open)) {}

  std::optional<task_batch> next() override {
    auto batch = stream_.next();
    if (!batch) return std::nullopt;
    return task_batch{std::move(batch->rows), batch->describe(), static_cast<double>(batch->num_rows)};
  }
  std::string state() const override { return stream_.state(); }
  void restore(std::string_view state) override { stream_.restore(state); }

 private:
  train::batch_stream stream_;
};

/// Parallel text.
class text_task final : public training_task {
 public:
  text_task(const train::training_config& config, std::optional<std::size_t> memory) : config_(config) {
    auto base = load_training_base(config);
    tokenizer_ = base.tokenizer;
    format_ = base.language.format;
    identity_ = base.identity;
    expect_weights_fit(config, base.language.network->config(), memory);
    model_ = std::make_unique<train::model<float>>(*base.language.network, compute_for(config), adapters_for(config));
    adapter_.emplace(*model_);
    base.language.network = nullptr;  // the weights are the model's now
    train::freeze(model_->parameters(), config.freeze);
    batches_ = batches_for(config, model_->config());
    batches_.epochs = config.steps != 0 ? 0 : config.epochs;
    sets_ = training_sets(config.data.train, base.language, config);
    if (config.validation.every != 0) held_out_ = training_sets(config.data.validation, base.language, config);
  }

  task_model& model() override { return *adapter_; }
  std::string identity() const override { return identity_; }
  std::string_view unit() const override { return "tokens"; }

  task_figures read_data() override {
    const auto figures = train::count_epoch(sets_, batches_, open_text_until_signal);
    index_t pairs = 0, left_out = 0, skipped = 0;
    for (const auto& set : held_out_) {
      const auto found = train::count_epoch({set}, for_validation(), open_text_until_signal);
      validation_rows_ = std::max(validation_rows_, found.largest_batch);
      pairs += found.pairs;
      left_out += found.left_out;
      skipped += found.skipped.total();
    }
    largest_batch_ = figures.largest_batch;
    task_figures out{figures.batches, static_cast<double>(figures.rows), {}};
    out.notes.push_back(message("plan: ", stream::name_of(batches_.how), "; an epoch: ", grouped(figures.pairs),
                                " pairs, ", grouped(figures.rows), " tokens through the model, ",
                                grouped(figures.predictions), " predicted, ", grouped(figures.batches),
                                " batches; validation: ", grouped(pairs), " pairs"));
    if (figures.skipped.total() + figures.left_out > 0) {
      out.notes.push_back(message("left out: ", figures.skipped.empty, " pairs with an empty side, ",
                                  figures.skipped.malformed, " that are no UTF-8, ", figures.skipped.too_long,
                                  " too long, ", figures.left_out, " past batch.rows or the model's context"));
    }
    if (left_out + skipped > 0) {
      out.notes.push_back(message("left out of validation: ", skipped, " pairs that cannot be used, ", left_out,
                                  " past validation.rows or the model's context"));
    }
    return out;
  }

  std::size_t activation_bytes() const override {
    // A validation keeps nothing for a backward pass, as little as one that computes again.
    return std::max(model_->activation_bytes(largest_batch_, config_.activation_checkpointing),
                    validation_rows_ == 0 ? std::size_t{0} : model_->activation_bytes(validation_rows_, true));
  }
  std::string_view smaller() const override { return "batch.rows, validation.rows or activation_checkpointing"; }

  std::unique_ptr<task_batches> batches() override {
    return std::make_unique<text_batches>(sets_, batches_, open_text);
  }
  std::vector<std::pair<std::string, std::unique_ptr<task_batches>>> held_out() override {
    std::vector<std::pair<std::string, std::unique_ptr<task_batches>>> out;
    for (const auto& set : held_out_) {
      out.emplace_back(set.text.name, std::make_unique<text_batches>(std::vector{set}, for_validation(), open_text));
    }
    return out;
  }

  std::vector<std::filesystem::path> write_result() override {
    return write_training_result(config_, tokenizer_, format_, *model_);
  }
  std::string command_for(const std::filesystem::path& written) const override {
    return translate_command(config_, written);
  }

 private:
  [[nodiscard]] train::batch_options for_validation() const {
    auto out = batches_.for_validation();
    out.budget = config_.validation.rows;
    return out;
  }

  const train::training_config& config_;
  std::filesystem::path tokenizer_;
  text::chat_format format_;
  std::string identity_;
  std::unique_ptr<train::model<float>> model_;
  std::optional<model_of<train::model<float>>> adapter_;
  train::batch_options batches_;
  std::vector<train::training_set> sets_, held_out_;
  index_t largest_batch_ = 0, validation_rows_ = 0;
};

}  // namespace

std::unique_ptr<training_task> make_text_task(const train::training_config& config, std::optional<std::size_t> memory) {
  return std::make_unique<text_task>(config, memory);
}

std::string grouped(index_t number) {
  std::string out = std::to_string(number);
  for (auto at = static_cast<std::ptrdiff_t>(out.size()) - 3; at > 0; at -= 3)
    out.insert(static_cast<std::size_t>(at), ",");
  return out;
}

}  // namespace runnel::cli
