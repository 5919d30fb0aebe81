// SPDX-License-Identifier: Apache-2.0

#include "streaming_options.hpp"

#include <optional>
#include <string_view>

#include <runnel/core/error.hpp>
#include <runnel/stream/plan.hpp>
#include <runnel/stream/policy.hpp>
#include <runnel/text/chat_format.hpp>

namespace runnel::cli {

void streaming_options::declare(arguments& options, const std::string& plan_help) {
  declare_plan(options, plan_help);
  declare_instruction(options);
  declare_limits(options);
  options.flag("--punctuation-reads", punctuation_reads_,
               "Count a punctuation mark as one more word, as the paper's own decoder does; to replay its results");
  sampling_.declare(options);
}

void streaming_options::declare_for_speech(arguments& options) {
  max_tokens_ = stream::unlimited;  // a recording may be long, and the context bounds what is written of it
  declare_plan(options, {});
  declare_limits(options);
  sampling_.declare(options);
}

void streaming_options::declare_limits(arguments& options) {
  options.whole("--max-tokens", max_tokens_, "N", "Tokens written at most, for a sentence or a stretch of audio", 1);
  options.whole("--max-word-tokens", max_word_tokens_, "N", "Tokens after which a word counts as complete", 1);
  options
      .text("--early-end", early_end_, "WHAT",
            "What the model's end means before the source's end: read (go on reading) or stop")
      .one_of({"read", "stop"});
}

void streaming_options::declare_plan(arguments& options, const std::string& plan_help) {
  plan_option_ = options.text("--plan", plan_, "PLAN",
                              plan_help +
                                  "batch, interleaved, batch-streaming, group-streaming (or group), batch-grouped, "
                                  "removed-source, removed-target or removed-both");
  reencode_option_ = options.text(
      "--reencode", reencode_, "WHAT",
      "What batch-streaming computes again when source arrives: none (default), positions or all; everything: "
      "source too, before every token, for comparison");
  options.whole("-k,--wait-k,--waitk,--wait_k", wait_k_, "K",
                "Words to read before the first is written; then one for each (plans that read all first ignore it)",
                1);
  phi_option_ = options.real("--phi", phi_, "X",
                             "Where target positions begin, for group-streaming and batch-grouped; may be fractional",
                             0, static_cast<double>(most_of_anything));
}

void streaming_options::declare_instruction(arguments& options) {
  const auto from =
      options.text("--source-language", from_, "NAME",
                   "Name of the source's language, for the instruction of models that name no languages of their own");
  to_option_ = options.text("--target-language", to_, "NAME",
                            "Language to write: one of the model's (de), where it names any; else a name for the "
                            "instruction");
  instruction_option_ =
      options
          .text("--instruction", instruction_, "TEXT",
                "What the model is told to do; default: the model's own for its first language, else Translate the "
                "following English paragraph to French")
          .excludes(from)
          .excludes(to_option_);
  format_.declare(options);
}

void streaming_options::apply(stream::language_model& model, stream::session_options& options) const {
  format_.apply(model);
  if (instruction_option_.given()) {
    options.instruction = instruction_;
  } else if (!model.format.languages.empty()) {
    options.instruction = text::instruction_for(model.format, to_option_.given() ? to_ : std::string());
  } else {
    options.instruction = "Translate the following " + from_ + " paragraph to " + to_;
  }
}

std::string streaming_options::policy() const {
  return plan_ == "batch" || plan_ == "batch-grouped" ? std::string() : message("wait-", wait_k_);
}

stream::session_options streaming_options::get(const running_options& model) const {
  stream::session_options options;
  const std::string name = plan_ == "group" ? "group-streaming" : plan_;
  options.how =
      stream::parse_plan(name, reencode_option_.given() ? std::optional<std::string_view>(reencode_) : std::nullopt,
                         phi_option_.given() ? std::optional(phi_) : std::nullopt);
  options.when = stream::wait_k{wait_k_};
  options.sampling = sampling_.get();
  options.context = model.context();
  options.max_tokens = max_tokens_;
  options.max_word_tokens = max_word_tokens_;
  options.end_before_source = early_end_ == "stop" ? stream::early_end::stop : stream::early_end::read;
  options.punctuation_reads = punctuation_reads_;
  options.compute = model.compute();
  options.cache_type = model.cache_type();
  return options;
}

session_settings describe_session(const stream::session_options& options, const stream::language_model& model) {
  return {{"plan", stream::name_of(options.how)},
          {"policy", options.when.name()},
          {"instruction", options.instruction},
          {"format", model.format.name},
          {"model", model.name},
          {"context", message(options.limit(model.context()))},
          {"max_tokens", message(options.max_tokens)},
          {"max_word_tokens", message(options.max_word_tokens)},
          {"early_end", options.end_before_source == stream::early_end::stop ? "stop" : "read"},
          {"punctuation_reads", options.punctuation_reads ? "yes" : "no"},
          {"temperature", message(options.sampling.temperature)},
          {"top_k", message(options.sampling.top_k)},
          {"top_p", message(options.sampling.top_p)},
          {"seed", message(options.sampling.seed)},
          {"compute", std::string(ops::name_of(model.network->effective(options.compute.compute)))},
          {"cache_type", std::string(cache::name_of(options.storage(*model.network)))},
          {"instruction_set", std::string(runnel::name_of(options.compute.instructions))},
          {"threads", std::to_string(options.compute.threads)}};
}

}  // namespace runnel::cli
