// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <runnel/autograd/parameter.hpp>
#include <runnel/core/digest.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>
#include <runnel/io/safetensors.hpp>
#include <runnel/io/safetensors_writer.hpp>
#include <runnel/train/optimizer.hpp>

/// \file
/// Checkpoints of a training run: safetensors files that appear whole or not at all, and are believed only after every
/// byte was checked. A file `step-0000000120.safetensors` holds all that going on needs; `best.safetensors` the
/// parameters that did best.

namespace runnel::train {

/// Where a run is, beside its parameters and moments.
struct training_state {
  index_t step = 0;     ///< steps done, skipped ones included
  index_t updates = 0;  ///< of the parameters
  index_t skipped = 0;
  index_t skipped_in_a_row = 0;
  index_t rows = 0;    ///< that went through the model
  index_t labels = 0;  ///< that were predicted
  double seconds = 0;  ///< of training
  index_t validated_step = -1;
  index_t best_step = -1;  ///< -1: nothing was validated
  double best_loss = 0;
  std::string data;  ///< of the batch source; UTF-8

  friend bool operator==(const training_state&, const training_state&) = default;
};

/// A file that is whole, but of a run with other settings or another model.
class other_run_error : public format_error {
 public:
  using format_error::format_error;
};

namespace detail {

using runnel::digest;

/// The digest of the values of everything that is not trained: a checkpoint does not hold them.
[[nodiscard]] inline std::uint64_t digest_of_frozen(const autograd::parameter_list<float>& parameters) {
  std::uint64_t sum = 0;
  for (const auto& one : parameters) {
    if (one.trainable()) continue;
    sum = digest(one.name, sum);
    sum = digest(std::as_bytes(one.values.values()), sum);
  }
  return sum;
}

using metadata = std::vector<std::pair<std::string, std::string>>;

[[nodiscard]] inline std::uint64_t digest_of(std::span<const std::pair<std::string, std::string>> about,
                                             std::uint64_t sum) {
  for (const auto& [key, value] : about) {
    if (key != "digest") sum = digest(value, digest(key, sum));
  }
  return sum;
}

/// Tensors of a checkpoint: the parameters, and with `moments` the optimizer's.
[[nodiscard]] inline std::vector<io::safetensors_output> checkpoint_tensors(const adamw& optimizer, bool moments) {
  std::vector<io::safetensors_output> out;
  for (const auto& one : optimizer.state()) {
    const auto add = [&](std::string_view kind, const tensor<float, 2>& values) {
      out.push_back({message(kind, '.', one.of->name),
                     quant::weight_format::f32,
                     {static_cast<std::uint64_t>(values.size(0)), static_cast<std::uint64_t>(values.size(1))},
                     std::as_bytes(values.values())});
    };
    add("parameter", one.of->values);
    if (!moments) continue;
    add("first", one.first);
    add("second", one.second);
  }
  return out;
}

/// Reads the numbers of a checkpoint's metadata.
class checkpoint_fields {
 public:
  explicit checkpoint_fields(const io::safetensors_file& file) : file_(file) {}

  [[nodiscard]] const std::string& text(std::string_view key) const {
    for (const auto& [name, value] : file_.metadata()) {
      if (name == key) return value;
    }
    fail<format_error>(file_.name(), ": metadata has no ", io::in_quotes(key));
  }

  template <class T>
  void read(std::string_view key, T& out, int base = 10) const {
    const std::string& found = text(key);
    const char* const end = found.data() + found.size();
    std::from_chars_result result{};
    if constexpr (std::is_floating_point_v<T>) {
      result = std::from_chars(found.data(), end, out);
    } else {
      result = std::from_chars(found.data(), end, out, base);
    }
    expect<format_error>(result.ec == std::errc() && result.ptr == end, file_.name(), ": metadata ", io::in_quotes(key),
                         ": expected a number, found ", io::in_quotes(found));
  }

 private:
  const io::safetensors_file& file_;
};

/// Calls `f(key, number)` for the numbers of a state, which may be const.
template <class State, class F>
void for_numbers(State& state, F&& f) {
  f("step", state.step);
  f("updates", state.updates);
  f("skipped", state.skipped);
  f("skipped_in_a_row", state.skipped_in_a_row);
  f("rows", state.rows);
  f("labels", state.labels);
  f("seconds", state.seconds);
  f("validated_step", state.validated_step);
  f("best_step", state.best_step);
  f("best_loss", state.best_loss);
}

/// Lines "key = value" as pairs, in order.
[[nodiscard]] inline metadata lines_of(std::string_view text) {
  metadata out;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto equals = std::min(line.find(" = "), line.size());
    out.emplace_back(line.substr(0, equals), line.substr(std::min(equals + 3, line.size())));
  }
  return out;
}

/// The value of a key; nothing if it has none.
[[nodiscard]] inline const std::string* value_of(const metadata& of, std::string_view key) noexcept {
  const auto found = std::find_if(of.begin(), of.end(), [&](const auto& one) { return one.first == key; });
  return found == of.end() ? nullptr : &found->second;
}

}  // namespace detail

/// Removes what the writers of files and folders have left half written in `folder` where a process was killed. No
/// other process may be writing there.
inline void remove_temporaries(const std::filesystem::path& folder) noexcept {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".runnel-") && name.ends_with(".tmp")) std::filesystem::remove_all(entry.path(), ignored);
  }
}

/// What makes a run this run: what a checkpoint must share to be gone on from.
struct run_identity {
  std::string lines;                ///< "key = value" each
  std::string defaults{};           ///< the same, for keys that a checkpoint of an older version does not have
  std::vector<std::string> free{};  ///< keys that are kept in checkpoints but may change

  /// The value of a key in `lines`; nothing if it has none.
  [[nodiscard]] static std::optional<std::string> find(std::string_view lines, std::string_view key) {
    const auto all = detail::lines_of(lines);
    const auto* const found = detail::value_of(all, key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }

  /// What a checkpoint's lines say otherwise, for a message; empty if it is of the same run. Keys are compared,
  /// whatever their order.
  [[nodiscard]] std::string difference(std::string_view found) const {
    const auto ours = detail::lines_of(lines), theirs = detail::lines_of(found), others = detail::lines_of(defaults);
    const auto is_free = [&](const std::string& key) { return std::find(free.begin(), free.end(), key) != free.end(); };
    const auto line = [](const std::string& key, const std::string* value) {
      return value == nullptr ? "no " + io::in_quotes(key) : io::in_quotes(message(key, " = ", *value));
    };
    const auto differ = [&](const std::string& key) -> std::string {
      const auto *here = detail::value_of(ours, key), *there = detail::value_of(theirs, key);
      if (here == nullptr) here = detail::value_of(others, key);
      if (there == nullptr) there = detail::value_of(others, key);
      if (is_free(key) || (here == nullptr) + (there == nullptr) == 2) return {};
      if (here != nullptr && there != nullptr && *here == *there) return {};
      return message("expected ", line(key, here), ", found ", line(key, there));
    };
    for (const auto* all : {&ours, &theirs}) {
      for (const auto& one : *all) {
        if (auto text = differ(one.first); !text.empty()) return text;
      }
    }
    return {};
  }
};

/// The folder with the checkpoints of one run.
class checkpoint_folder {
 public:
  /// The folder is made when something is written. `optimizer` and the parameters must live as long.
  checkpoint_folder(std::filesystem::path path, run_identity identity, adamw& optimizer,
                    const autograd::parameter_list<float>& parameters)
      : path_(std::move(path)),
        identity_(std::move(identity)),
        optimizer_(optimizer),
        frozen_(detail::digest_of_frozen(parameters)) {}

  /// Writes a checkpoint, then removes all but it and the one before it, and those of steps to come, which a resumed
  /// run has left behind. Throws io_error, or limit_error naming the parameter if a value or moment is not finite: a
  /// run could not go on from there; then the others still stand.
  void save(const training_state& state) const {
    make_folder();
    write(path_ / name_of(state.step), state, true);
    std::error_code ignored;
    for (const auto& [step, file] : list(path_)) {
      if (step > state.step) std::filesystem::remove(file, ignored);
    }
    remove_before(state.step);
  }

  /// Removes those older than the one of `step` and the one before it, which a killed process may have left.
  void remove_before(index_t step) const {
    std::error_code ignored;
    std::size_t kept = 0;
    for (const auto& [found, file] : list(path_)) {
      if (found <= step && ++kept > 2) std::filesystem::remove(file, ignored);
    }
  }

  /// Writes the parameters as the best so far. Throws as `save`; then the best before still stands.
  void save_best(const training_state& state) const {
    make_folder();
    write(best_path(), state, false);
  }

  /// Goes back to the newest checkpoint that is whole: parameters, moments and the state that is returned; nothing if
  /// there are no checkpoints. `note` is told of each that is not. Throws other_run_error (a format_error) naming file
  /// and difference, format_error if none is whole. Nothing is changed by a file that is refused.
  [[nodiscard]] std::optional<training_state> load_last(const std::function<void(std::string_view)>& note = {}) const {
    std::string first_problem;
    for (const auto& [step, file] : list(path_)) {
      try {
        auto state = read(file, true);
        if (!first_problem.empty() && note) note(message("going on from ", file.string(), " instead"));
        return state;
      } catch (const other_run_error&) {
        throw;
      } catch (const error& problem) {
        if (first_problem.empty()) first_problem = problem.what();
        if (note) note(problem.what());
      }
    }
    expect<format_error>(first_problem.empty(), first_problem, "; no whole checkpoint is left in ", path_.string());
    return std::nullopt;
  }

  /// Gives the parameters the values that did best, those of step `step` (-1: of any); the moments stay. Throws as
  /// `load_last`, io_error if there are none, format_error if they are of another step. Nothing is changed by a file
  /// that is refused.
  training_state load_best(index_t step = -1) const { return read(best_path(), false, step); }

  /// What the newest checkpoint of a folder that can be read says makes its run; nothing if there is none. Its bytes
  /// are not checked. Never throws for what stands in files.
  [[nodiscard]] static std::optional<std::string> last_identity(const std::filesystem::path& folder) {
    for (const auto& [step, path] : list(folder)) {
      try {
        const io::safetensors_file file(path);
        return detail::checkpoint_fields(file).text("identity");
      } catch (const error&) {
        continue;
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::filesystem::path best_path() const { return path_ / "best.safetensors"; }

  /// Removes temporary files that a killed process has left. No other process may be writing here.
  void clean() const { remove_temporaries(path_); }

 private:
  static constexpr std::string_view prefix = "step-", suffix = ".safetensors", kind = "runnel training checkpoint 1";
  static constexpr std::size_t digits = 10;

  [[nodiscard]] static std::string name_of(index_t step) {
    std::string number = std::to_string(step);
    if (number.size() < digits) number.insert(0, digits - number.size(), '0');
    return message(prefix, number, suffix);
  }

  /// Checkpoints by step, newest first.
  [[nodiscard]] static std::vector<std::pair<index_t, std::filesystem::path>> list(
      const std::filesystem::path& folder) {
    std::vector<std::pair<index_t, std::filesystem::path>> out;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() <= prefix.size() + suffix.size())
        continue;
      index_t step = 0;
      const char* const end = name.data() + name.size() - suffix.size();
      const auto result = std::from_chars(name.data() + prefix.size(), end, step);
      if (result.ec == std::errc() && result.ptr == end && name == name_of(step)) out.emplace_back(step, entry.path());
    }
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    return out;
  }

  void make_folder() const {
    std::error_code problem;
    std::filesystem::create_directories(path_, problem);
    expect<io_error>(!problem, "cannot write '", path_.string(), "': ", problem.message());
  }

  void write(const std::filesystem::path& file, const training_state& state, bool whole) const {
    const std::string broken = optimizer_.first_non_finite_value();
    expect<limit_error>(broken.empty(), "step ", state.step, ": the values or moments of parameter ", broken,
                        " are not finite, so no checkpoint was written; those before still stand");
    detail::metadata about{
        {"kind", std::string(kind)}, {"identity", identity_.lines}, {"frozen", message(frozen_)}, {"data", state.data}};
    detail::for_numbers(state, [&](const char* key, auto number) { about.emplace_back(key, message(number)); });
    const auto tensors = detail::checkpoint_tensors(optimizer_, whole);
    std::uint64_t sum = detail::digest_of(about, 0);
    for (const auto& one : tensors) sum = digest_of_tensor(one.name, "F32", one.shape, one.bytes, sum);
    about.emplace_back("digest", message(sum));
    io::write_safetensors(file, tensors, about);
  }

  [[nodiscard]] training_state read(const std::filesystem::path& path, bool whole, index_t step = -1) const {
    const io::safetensors_file file(path);
    const detail::checkpoint_fields fields(file);
    expect_intact(file, fields);
    const std::string difference = identity_.difference(fields.text("identity"));
    expect<other_run_error>(difference.empty(), file.name(), ": is of a run with other settings: ", difference);
    std::uint64_t frozen = 0;
    fields.read("frozen", frozen);
    expect<other_run_error>(frozen == frozen_, file.name(),
                            ": is of a model whose frozen parameters have other names or values");
    training_state state;
    state.data = fields.text("data");
    detail::for_numbers(state, [&](const char* key, auto& number) { fields.read(key, number); });
    expect<format_error>(step < 0 || state.step == step, file.name(), ": expected the parameters of step ", step,
                         ", found those of step ", state.step);
    const auto wanted = detail::checkpoint_tensors(optimizer_, whole);
    expect<other_run_error>(file.tensors().size() == wanted.size(), file.name(), ": expected ", wanted.size(),
                            " tensors, found ", file.tensors().size());
    for (const auto& one : wanted) {
      const auto* found = file.find_tensor(one.name);
      expect<other_run_error>(found != nullptr, file.name(), ": tensor ", io::in_quotes(one.name), " is missing");
      expect<other_run_error>(found->format == quant::weight_format::f32 && found->shape == one.shape, file.name(),
                              ": tensor ", io::in_quotes(one.name), ": expected F32 of shape ",
                              io::shape_text(one.shape), ", found ", found->type_name, " of shape ",
                              io::shape_text(found->shape));
    }
    take(file, whole);
    if (whole) optimizer_.set_steps(state.updates);
    return state;
  }

  [[nodiscard]] static std::uint64_t digest_of_tensor(std::string_view name, std::string_view type,
                                                      std::span<const std::uint64_t> shape,
                                                      std::span<const std::byte> bytes, std::uint64_t sum) {
    return detail::digest(bytes, detail::digest(message(name, ' ', type, ' ', io::shape_text(shape)), sum));
  }

  static void expect_intact(const io::safetensors_file& file, const detail::checkpoint_fields& fields) {
    expect<format_error>(fields.text("kind") == kind, file.name(), ": expected a ", kind, ", found ",
                         io::in_quotes(fields.text("kind")));
    std::uint64_t sum = detail::digest_of(file.metadata(), 0), written = 0;
    for (const auto& one : file.tensors()) sum = digest_of_tensor(one.name, one.type_name, one.shape, one.bytes, sum);
    fields.read("digest", written);
    expect<format_error>(sum == written, file.name(), ": is damaged: its bytes give the digest ", sum,
                         ", those written gave ", written);
  }

  void take(const io::safetensors_file& file, bool whole) const {
    for (auto& one : optimizer_.state()) {
      const auto copy = [&](std::string_view what, tensor<float, 2>& to) {
        const auto bytes = file.find_tensor(message(what, '.', one.of->name))->bytes;
        if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
      };
      copy("parameter", one.of->values);
      if (!whole) continue;
      copy("first", one.first);
      copy("second", one.second);
    }
  }

  std::filesystem::path path_;
  run_identity identity_;
  adamw& optimizer_;
  std::uint64_t frozen_;
};

}  // namespace runnel::train
