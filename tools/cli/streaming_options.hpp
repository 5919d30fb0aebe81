// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <runnel/stream/language_model.hpp>
#include <runnel/stream/session_options.hpp>

#include "arguments.hpp"
#include "options.hpp"

namespace runnel::cli {

/// What a session was told, name by name, for logs.
using session_settings = std::vector<std::pair<std::string, std::string>>;

/// The settings of sessions of `model` with these options: all that may change what they write, and the numbers that
/// they compute in.
[[nodiscard]] session_settings describe_session(const stream::session_options& options,
                                                const stream::language_model& model);

/// How a session reads and writes: plan, policy, instruction, format, limits, sampling. Shared by the commands that
/// stream.
class streaming_options {
 public:
  /// `plan_help` goes before what --plan's help says.
  void declare(arguments& options, const std::string& plan_help = {});
  /// The same for models of speech, which bring their format and instruction along.
  void declare_for_speech(arguments& options);

  /// Options of a session of a model that runs as `model` says; without adapters, and without what depends on the
  /// model's format. Throws config_error for what contradicts itself.
  [[nodiscard]] stream::session_options get(const running_options& model) const;
  /// Gives the model the format that was asked for, and the options its instruction. Throws config_error for a language
  /// that the format does not name, and what `format_option::apply` throws.
  void apply(stream::language_model& model, stream::session_options& options) const;
  /// "wait-3", or nothing where the plan reads all first.
  [[nodiscard]] std::string policy() const;
  /// Whether --plan was given.
  [[nodiscard]] bool plan_given() const { return plan_option_.given(); }
  /// The k of wait-k, whether the plan looks at it or not.
  [[nodiscard]] index_t wait_k() const noexcept { return wait_k_; }

 private:
  void declare_plan(arguments& options, const std::string& plan_help);
  void declare_instruction(arguments& options);
  void declare_limits(arguments& options);

  sampling_options sampling_;
  argument plan_option_;
  std::string plan_ = "group-streaming";
  argument reencode_option_;
  std::string reencode_;
  index_t wait_k_ = 3;
  argument phi_option_;
  double phi_ = 0;
  std::string from_ = "English";
  argument to_option_;
  std::string to_ = "French";
  argument instruction_option_;
  std::string instruction_;
  format_option format_;
  index_t max_tokens_ = 256;
  index_t max_word_tokens_ = 50;
  std::string early_end_ = "read";
  bool punctuation_reads_ = false;
};

}  // namespace runnel::cli
