// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/train/loss.hpp>

/// \file
/// The least that the trainer can train: a table of vectors, a matrix and a bias predict a token from the one before
/// it, and a language of which such a model can learn something.

namespace runnel::tests {

class toy_model {
 public:
  static constexpr index_t vocabulary = 11, width = 5;

  explicit toy_model(std::uint64_t seed = 1) {
    random_stream random(seed);
    add("embedding", vocabulary, width, false, random);
    add("layer.head", vocabulary, width, false, random);
    add("layer.bias", 1, vocabulary, true, random);
  }

  autograd::parameter_list<float>& parameters() { return list_; }

  train::batch_loss accumulate(std::span<const train::training_rows> batch, const train::step_options& options) {
    ++passes;
    random_stream random(options.seed);
    return pass(batch, &options, random);
  }

  train::batch_loss evaluate(std::span<const train::training_rows> batch) {
    random_stream random;
    return pass(batch, nullptr, random);
  }

  std::string first_non_finite(std::span<const train::training_rows>) {
    for (auto& one : list_) {
      for (const float value : one.values.values()) {
        if (!std::isfinite(value)) return one.name;
      }
    }
    return {};
  }

  [[nodiscard]] std::vector<float> weights() const {
    std::vector<float> out;
    for (const auto& one : list_) out.insert(out.end(), one.values.data(), one.values.data() + one.values.size());
    return out;
  }

  int passes = 0;
  int overflow_at = -1;      ///< the pass whose loss is infinite
  int bad_gradient_at = -1;  ///< the pass whose gradient of the bias is NaN

 private:
  void add(const char* name, index_t rows, index_t columns, bool is_vector, random_stream& random) {
    auto& one = list_.emplace_back();
    one.name = name;
    one.is_vector = is_vector;
    one.values = tensor<float, 2>({rows, columns});
    for (float& value : one.values.values()) value = static_cast<float>(random.uniform() - 0.5);
    one.train(true);
  }

  train::batch_loss pass(std::span<const train::training_rows> batch, const train::step_options* options,
                         random_stream& random) {
    train::batch_loss out;
    for (const auto& one : batch) {
      for (std::size_t i = 0; i < one.logit_rows.size(); ++i) {
        const auto token = one.tokens[static_cast<std::size_t>(one.logit_rows[i])];
        predict(token, one.labels[i], options, random, out);
      }
    }
    if (options != nullptr && passes - 1 == overflow_at) out.sum = std::numeric_limits<double>::infinity();
    if (options != nullptr && passes - 1 == bad_gradient_at) list_[2].gradient.values()[3] = std::nanf("");
    return out;
  }

  void predict(index_t token, index_t label, const train::step_options* options, random_stream& random,
               train::batch_loss& out) {
    const double smoothing = options == nullptr ? 0 : options->label_smoothing;
    auto &embedding = list_[0], &head = list_[1], &bias = list_[2];
    std::vector<double> x(width), logits(vocabulary);
    for (index_t d = 0; d < width; ++d) {
      const double kept = options == nullptr || options->dropout == 0 ? 1
                          : random.uniform() < options->dropout       ? 0
                                                                      : 1 / (1 - options->dropout);
      x[static_cast<std::size_t>(d)] = kept * static_cast<double>(embedding.values(token, d));
    }
    double most = -1e300, total = 0;
    for (index_t v = 0; v < vocabulary; ++v) {
      double sum = static_cast<double>(bias.values(0, v));
      for (index_t d = 0; d < width; ++d)
        sum += x[static_cast<std::size_t>(d)] * static_cast<double>(head.values(v, d));
      logits[static_cast<std::size_t>(v)] = sum;
      most = std::max(most, sum);
    }
    for (const double logit : logits) total += std::exp(logit - most);
    const double normalizer = most + std::log(total);
    const auto at = [&](index_t v) { return logits[static_cast<std::size_t>(v)]; };
    out.nll += normalizer - at(label);
    double mean = 0;
    for (const double logit : logits) mean += (normalizer - logit) / static_cast<double>(vocabulary);
    out.sum += (1 - smoothing) * (normalizer - at(label)) + smoothing * mean;
    out.labels += 1;
    out.correct += at(label) == most ? 1 : 0;
    if (options == nullptr) return;
    for (index_t v = 0; v < vocabulary; ++v) {
      double slope = std::exp(at(v) - normalizer) - smoothing / static_cast<double>(vocabulary);
      if (v == label) slope -= 1 - smoothing;
      slope *= options->scale;
      if (bias.trainable()) bias.gradient(0, v) += static_cast<float>(slope);
      for (index_t d = 0; d < width; ++d) {
        const double input = x[static_cast<std::size_t>(d)];
        if (embedding.trainable())
          embedding.gradient(token, d) += static_cast<float>(slope * static_cast<double>(head.values(v, d)));
        if (head.trainable()) head.gradient(v, d) += static_cast<float>(slope * input);
      }
    }
  }

  autograd::parameter_list<float> list_;
};

/// Sentences in which every token but some follows from the one before it.
class toy_source {
 public:
  struct batch {
    std::vector<train::training_rows> rows;
    index_t number = 0;
    [[nodiscard]] std::string describe() const { return message("toy batch ", number); }
  };

  explicit toy_source(std::uint64_t seed, index_t sentences = 3, index_t most = -1)
      : seed_(seed), sentences_(sentences), most_(most) {}

  std::optional<batch> next() {
    if (number_ == most_) return std::nullopt;
    batch out;
    out.number = number_;
    for (index_t s = 0; s < sentences_; ++s) out.rows.push_back(sentence(number_ * sentences_ + s));
    ++number_;
    return out;
  }
  [[nodiscard]] std::string state() const { return std::to_string(number_); }
  void restore(const std::string& state) { number_ = std::stoll(state); }

 private:
  [[nodiscard]] train::training_rows sentence(index_t which) const {
    random_stream random(seed_ * 1000003 + static_cast<std::uint64_t>(which));
    train::training_rows out;
    const index_t length = 3 + random.below(6);
    std::int32_t token = static_cast<std::int32_t>(random.below(toy_model::vocabulary));
    for (index_t i = 0; i < length; ++i) {
      out.tokens.push_back(token);
      token = random.uniform() < 0.2 ? static_cast<std::int32_t>(random.below(toy_model::vocabulary))
                                     : static_cast<std::int32_t>((token * 3 + 1) % toy_model::vocabulary);
      out.logit_rows.push_back(i);
      out.labels.push_back(token);
    }
    return out;
  }

  std::uint64_t seed_;
  index_t sentences_;
  index_t most_;
  index_t number_ = 0;
};

}  // namespace runnel::tests
