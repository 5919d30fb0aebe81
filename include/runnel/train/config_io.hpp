// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <runnel/io/json.hpp>
#include <runnel/text/json_writer.hpp>
#include <runnel/train/config.hpp>
#include <runnel/train/settings.hpp>

/// \file
/// Reads, checks and prints the settings of training runs.

namespace runnel::train {
namespace detail {

/// Writes a JSON value; nesting is bounded by that of documents.
inline void write_json(text::json_writer& out, io::json_value value) {
  if (value.is_object() || value.is_array()) {
    value.is_object() ? out.begin_object() : out.begin_array();
    for (const io::json_value member : value) {
      if (value.is_object()) out.key(member.name());
      write_json(out, member);
    }
    out.end();
  } else if (const auto text = value.text()) {
    out.value(*text);
  } else if (const auto truth = value.truth()) {
    out.value(*truth);
  } else if (const auto natural = value.natural()) {
    out.value(*natural);
  } else if (const auto integer = value.integer()) {
    out.value(*integer);
  } else if (const auto number = value.number()) {
    out.value(*number);
  } else {
    out.value(nullptr);
  }
}

[[nodiscard]] inline std::string list_of(const std::vector<std::string_view>& choices) {
  std::string out = "one of ";
  for (const auto& one : choices) out += message(&one == choices.data() ? "" : ", ", one.empty() ? "\"\"" : one);
  return out;
}

inline constexpr std::string_view pair_format_names[] = {"auto", "json", "jsonl", "tsv", "lines", "audio"};

/// Takes JSON values into settings. Throws config_error naming file, key, what was expected and what was found.
class setting_reader {
 public:
  explicit setting_reader(const settings& from, std::string key) : from_(from), key_(std::move(key)) {}

  void read(const setting&, io::json_value value, bool& to) const {
    const auto truth = value.truth();
    if (!truth) refuse("true or false", value);
    to = *truth;
  }
  void read(const setting& of, io::json_value value, index_t& to) const {
    const auto number = value.integer();
    const bool bounded = number && static_cast<double>(*number) >= of.least && static_cast<double>(*number) <= of.most;
    if (!bounded) refuse(message("a whole number", bounds(of)), value);
    to = *number;
  }
  void read(const setting& of, io::json_value value, double& to) const {
    const auto number = value.number();
    if (!number || !(*number >= of.least && *number <= of.most)) refuse(message("a number", bounds(of)), value);
    to = *number;
  }
  void read(const setting& of, io::json_value value, std::optional<double>& to) const { read(of, value, to.emplace()); }
  void read(const setting& of, io::json_value value, std::string& to) const {
    // 2024 is a text where one is wanted, if it stands on the command line.
    const auto raw = from_.raw_text(key_);
    const auto text = value.text() || !raw ? value.text() : std::optional<std::string_view>(*raw);
    const bool known =
        text && (of.choices.empty() || std::find(of.choices.begin(), of.choices.end(), *text) != of.choices.end());
    if (!known) refuse(of.choices.empty() ? "a text" : list_of(of.choices), value);
    to = *text;
  }
  void read(const setting& of, io::json_value value, std::filesystem::path& to) const {
    std::string text;
    read(of, value, text);
    to = text;
  }
  void read(const setting& of, io::json_value value, pair_format& to) const {
    std::string text;
    read(of, value, text);
    to = find_pair_format(text);
  }
  void read(const setting& of, io::json_value value, unusable_pair& to) const {
    std::string text;
    read(of, value, text);
    to = text == "skip" ? unusable_pair::skip : unusable_pair::refuse;
  }
  void read(const setting&, io::json_value value, number_range& to) const {
    constexpr std::string_view expected = "a number, or [least, most]";
    std::vector<double> found;
    const auto add = [&](io::json_value one) {
      const auto number = one.number();
      if (!number) refuse(expected, value);
      found.push_back(*number);
    };
    if (value.is_array()) {
      for (const io::json_value one : value) add(one);
    } else {
      add(value);
    }
    if (found.empty() || found.size() > 2) refuse(expected, value);
    to = {found.front(), found.back()};
  }
  void read(const setting&, io::json_value value, std::vector<std::string>& to) const {
    if (!value.is_array()) refuse("a list of texts", value);
    to.clear();
    for (const io::json_value one : value) {
      if (!one.text()) refuse("a list of texts", one);
      to.emplace_back(*one.text());
    }
  }
  void read(const setting&, io::json_value value, wait_list& to) const {
    constexpr std::string_view expected = "a number from 1 to 4096, a list of such, or a range as \"1-9\"";
    to.waits.clear();
    const auto add = [&](io::json_value one) {
      const auto number = one.natural();
      if (!number || *number < 1 || *number > 4096) refuse(expected, one);
      to.waits.push_back(static_cast<index_t>(*number));
    };
    if (const auto range = value.text()) {
      index_t least = 0, most = 0;
      const char* const end = range->data() + range->size();
      const auto first = std::from_chars(range->data(), end, least);
      const bool dash = first.ec == std::errc() && first.ptr != end && *first.ptr == '-';
      const auto last = dash ? std::from_chars(first.ptr + 1, end, most) : first;
      const bool whole = dash && last.ec == std::errc() && last.ptr == end;
      if (!whole || least < 1 || most < least || most > 4096) refuse(expected, value);
      to.waits = waits_between(least, most);
    } else if (value.is_array() && value.size() > 0) {
      for (const io::json_value one : value) add(one);
    } else {
      add(value);
    }
  }
  /// Members that several sources give are taken together, whole ones at a time.
  void read_parts(raw_json& to) const {
    std::vector<std::pair<std::string_view, io::json_value>> members;
    const auto put = [&](std::string_view name, io::json_value value) {
      std::erase_if(members, [&](const auto& one) { return one.first == name; });
      members.emplace_back(name, value);
    };
    for (const auto& [within, value] : from_.find_all(key_)) {
      expect(within.find('.') == std::string_view::npos, value.source_name(), ": ", key_, '.', within,
             ": members of members cannot be set by themselves");
      if (!within.empty()) {
        put(within, value);
      } else if (value.is_null()) {
        members.clear();
      } else {
        if (!value.is_object()) refuse("an object", value);
        for (const io::json_value member : value) put(member.name(), member);
      }
    }
    if (members.empty()) return;
    text::json_writer out;
    out.begin_object();
    for (const auto& [name, value] : members) {
      out.key(name);
      write_json(out, value);
    }
    out.end();
    to.text = out.text();
  }
  void read(const setting&, io::json_value value, std::vector<data_setting>& to) const {
    if (!value.is_array()) refuse("a list of objects", value);
    to.clear();
    for (const io::json_value one : value) {
      const std::string key = message(key_, '[', to.size(), ']');
      if (!one.is_object()) settings::refuse(key, "an object", one);
      read_data(key, one, to.emplace_back());
    }
  }

 private:
  [[noreturn]] void refuse(std::string_view expected, io::json_value found) const {
    settings::refuse(key_, expected, found);
  }

  [[nodiscard]] static std::string bounds(const setting& of) {
    return std::isinf(of.most) ? message(" of at least ", of.least) : message(" from ", of.least, " to ", of.most);
  }

  void read_data(const std::string& key, io::json_value object, data_setting& to) const {
    std::vector<std::string_view> seen;
    for (const io::json_value member : object) {
      const std::string where = message(key, '.', member.name());
      bool known = false;
      visit_data_settings(to, [&](const setting& of, auto& field) {
        if (of.key != member.name()) return;
        known = true;
        setting_reader(from_, where).read(of, member, field);
      });
      expect(known, member.source_name(), ": ", io::in_quotes(where), " is no setting");
      expect(std::find(seen.begin(), seen.end(), member.name()) == seen.end(), member.source_name(), ": ",
             io::in_quotes(where), " is given more than once");
      seen.push_back(member.name());
    }
    expect(!to.text.file.empty(), object.source_name(), ": ", key, ".file: expected a file, found none");
    if (to.text.name.empty()) to.text.name = message(to.text.file.string());
  }

  const settings& from_;
  std::string key_;
};

/// Writes settings as JSON values that `setting_reader` takes.
class setting_writer {
 public:
  explicit setting_writer(text::json_writer& out) : out_(out) {}

  void write(bool value) { out_.value(value); }
  void write(index_t value) { out_.value(value); }
  void write(double value) { out_.value(value); }
  void write(const number_range& of) { list(std::vector{of.least, of.most}); }
  void write(const std::optional<double>& value) { value ? out_.value(*value) : out_.value(nullptr); }
  void write(const std::string& value) { out_.value(value); }
  void write(const std::filesystem::path& value) { out_.value(value.string()); }
  void write(pair_format value) { out_.value(pair_format_names[static_cast<std::size_t>(value)]); }
  void write(unusable_pair value) { out_.value(value == unusable_pair::skip ? "skip" : "refuse"); }
  void write(const std::vector<std::string>& values) { list(values); }
  void write(const wait_list& of) {
    if (of.waits.size() == 1) return out_.value(of.waits.front());
    list(of.waits);
  }
  void write(const raw_json& of) {
    if (of.text.empty()) return out_.value(nullptr);
    const io::json_document document(of.text, "model.config");
    write_json(out_, document.root());
  }
  void write(const std::vector<data_setting>& sets) {
    out_.begin_array();
    for (const data_setting& one : sets) {
      out_.begin_object();
      visit_data_settings(one, [&](const setting& of, const auto& field) {
        out_.key(of.key);
        write(field);
      });
      out_.end();
    }
    out_.end();
  }

 private:
  template <class T>
  void list(const std::vector<T>& values) {
    out_.begin_array(true);
    for (const T& one : values) out_.value(one);
    out_.end();
  }

  text::json_writer& out_;
};

template <class T>
[[nodiscard]] std::string json_of(const T& value) {
  text::json_writer out;
  setting_writer(out).write(value);
  std::string text = out.text();
  std::replace(text.begin(), text.end(), '\n', ' ');  // strings have none: JSON escapes them
  return text;
}

}  // namespace detail

/// All keys, in the order of the table.
[[nodiscard]] inline std::vector<std::string_view> setting_keys() {
  std::vector<std::string_view> keys;
  const training_config none;
  visit_settings(none, [&](const setting& of, const auto&) { keys.push_back(of.key); });
  return keys;
}

/// The streaming plan. Throws config_error for choices that do not belong to it.
[[nodiscard]] inline stream::plan plan_of(const training_config& c) {
  return stream::parse_plan(c.plan.name,
                            c.plan.reencode.empty() ? std::nullopt : std::optional<std::string_view>(c.plan.reencode),
                            c.plan.phi);
}

namespace detail {

/// The part of `validate` that is about audio.
inline void validate_speech(const training_config& c) {
  const auto& s = c.speech;
  const int given = (s.init.empty() ? 0 : 1) + (s.encoder.empty() ? 0 : 1) + (s.config.empty() ? 0 : 1);
  expect(given <= 1, "speech: expected one of init, encoder and config, found ", given);
  expect(s.init.empty() || (c.model.init.empty() && c.model.config.text.empty()),
         "speech.init: the decoder is in it, found another one in model");
  expect(
      s.init.empty() || (c.model.context == 0 && s.stack == 1 && s.projector_size == 0),
      "speech.init: its projector and its decoder stay as they are; expected no speech.stack, speech.projector_size or "
      "model.context");
  expect(!s.ctc || given == 1, "speech.ctc: expected an encoder (speech.init, encoder or config), found none");
  expect(!s.ctc || c.lora.rank == 0, "speech.ctc: trains no decoder that could have adapters");
  for (const auto* sets : {&c.data.train, &c.data.validation}) {
    for (const data_setting& one : *sets) {
      const bool audio = one.text.format == pair_format::audio;
      expect(audio == c.is_speech(), "data set ", io::in_quotes(one.text.name), ": expected ",
             c.is_speech() ? "recordings (format audio), found text"
                           : "text, found recordings, which need speech.init, "
                             "speech.encoder or speech.config");
    }
  }
  expect(!c.is_speech() || c.data.train.size() == 1, "data.train: expected one list of recordings, found ",
         c.data.train.size());
  c.augment.validate();
}

}  // namespace detail

/// Throws config_error for settings that make no sense together.
inline void validate(const training_config& c) {
  expect(!c.output.empty(), "output: expected a folder, found none");
  const bool scratch = !c.model.config.text.empty();
  detail::validate_speech(c);
  expect(!c.speech.init.empty() || scratch == c.model.init.empty(),
         "model: expected one of init (a model to start from) and config (one from ", "scratch), found ",
         scratch ? "both" : "neither");
  expect(scratch == !c.tokenizer.empty(), scratch ? "tokenizer: a model from scratch needs one"
                                                  : "tokenizer: a model to start from has its own, found another");
  expect(!c.data.train.empty(), "data.train: expected at least one object, found none");
  expect(c.steps > 0 || c.epochs > 0, "steps, epochs: expected one of them above 0");
  expect(!scratch || c.lora.rank == 0, "lora.rank: a model from scratch has nothing to be adapted");
  expect(c.lora.rank == 0 || !c.lora.targets.empty(), "lora.targets: expected at least one module, found none");
  expect(c.validation.every == 0 || !c.data.validation.empty(),
         "data.validation: expected at least one object, or validation.every 0, found none");
  static_cast<void>(plan_of(c));
}

/// Reads settings: what is not given has its default. Throws config_error naming file, key, what was expected and what
/// was found, for unknown keys too.
[[nodiscard]] inline training_config read_config(const settings& from) {
  constexpr settings::other_name others[] = {{"lr", "schedule.rate"},
                                             {"learning_rate", "schedule.rate"},
                                             {"warmup_steps", "schedule.warmup"},
                                             {"lr_scheduler_type", "schedule.kind"},
                                             {"max_steps", "steps"},
                                             {"num_train_epochs", "epochs"},
                                             {"batch_size", "batch.rows"},
                                             {"gradient_accumulation_steps", "batch.accumulation"},
                                             {"max_grad_norm", "optimizer.clip_norm"},
                                             {"adam_epsilon", "optimizer.epsilon"},
                                             {"gradient_checkpointing", "activation_checkpointing"},
                                             {"wait_k", "plan.k"},
                                             {"output_dir", "output"}};
  from.expect_known(setting_keys(), "model.config", others);
  training_config out;
  visit_settings(out, [&]<class T>(const setting& of, T& field) {
    const detail::setting_reader reader(from, std::string(of.key));
    if constexpr (std::is_same_v<T, raw_json>) {
      reader.read_parts(field);
    } else if (const auto value = from.find(of.key)) {
      reader.read(of, *value, field);
    }
  });
  validate(out);
  return out;
}

/// All settings as JSON that reads back as the same.
[[nodiscard]] inline std::string to_json(const training_config& config) {
  text::json_writer out;
  out.begin_object();
  std::string_view section;
  visit_settings(config, [&](const setting& of, const auto& field) {
    const auto dot = of.key.find('.');
    const auto wanted = dot == std::string_view::npos ? std::string_view() : of.key.substr(0, dot);
    if (wanted != section && !section.empty()) out.end();
    if (wanted != section && !wanted.empty()) {
      out.key(wanted);
      out.begin_object();
    }
    section = wanted;
    out.key(wanted.empty() ? of.key : of.key.substr(dot + 1));
    detail::setting_writer(out).write(field);
  });
  if (!section.empty()) out.end();
  out.end();
  return out.text() + '\n';
}

/// What makes a run this run, a line "key = value" each: what a checkpoint must share to be gone on from. `last_step`
/// is the step at which the schedule has fallen, once that is known.
[[nodiscard]] inline std::string identity_of(const training_config& config, index_t last_step) {
  std::string out;
  visit_settings(config, [&](const setting& of, const auto& field) {
    if (of.key == "schedule.steps") {
      if (config.schedule.kind != "constant") out += message(of.key, " = ", last_step, '\n');
    } else if (of.identity) {
      out += message(of.key, " = ", detail::json_of(field), '\n');
    }
  });
  return out;
}

/// The table as text: every key with its default and what it means.
[[nodiscard]] inline std::string describe_settings() {
  std::string out;
  const auto add = [&](const setting& of, const auto& field) {
    out += message("  ", of.key, " = ", detail::json_of(field), "\n      ", of.help);
    if (!of.choices.empty()) out += message(": ", detail::list_of(of.choices));
    out += '\n';
  };
  const training_config config;
  visit_settings(config, add);
  out += "Members of the objects in data.train and data.validation:\n";
  const data_setting data;
  visit_data_settings(data, add);
  return out;
}

}  // namespace runnel::train
