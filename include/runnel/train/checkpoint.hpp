// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
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

/// A number that changes with any byte: every word goes through steps that can be undone. Not for secrets.
[[nodiscard]] inline std::uint64_t digest(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15U;
  std::array<std::uint64_t, 4> lanes{seed, seed ^ odd, ~seed, seed + odd};
  const auto add = [&](std::size_t lane, std::uint64_t word) {
    lanes[lane] = std::rotl((lanes[lane] ^ word) * odd, 29);
  };
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + i, sizeof words);
    for (std::size_t lane = 0; lane < 4; ++lane) add(lane, words[lane]);
  }
  for (std::size_t lane = 0; i < bytes.size(); ++lane) {
    std::uint64_t word = 0;
    const std::size_t count = std::min<std::size_t>(8, bytes.size() - i);
    std::memcpy(&word, bytes.data() + i, count);
    add(lane % 4, word);
    i += count;
  }
  std::uint64_t out = bytes.size();
  for (const std::uint64_t lane : lanes) out = std::rotl((out ^ lane) * odd, 31);
  return out ^ (out >> 32U);
}

[[nodiscard]] inline std::uint64_t digest(std::string_view text, std::uint64_t seed) noexcept {
  return digest(std::as_bytes(std::span(text.data(), text.size())), seed);
}

/// That of the values of everything that is not trained: a checkpoint does not hold them.
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

/// What differs between two lists of "key = value" lines, for a message.
[[nodiscard]] inline std::string first_difference(std::string_view here, std::string_view there) {
  const auto line = [](std::string_view& rest) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const auto out = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return out;
  };
  while (!here.empty() || !there.empty()) {
    const auto ours = line(here), theirs = line(there);
    if (ours != theirs) return message("expected ", io::in_quotes(ours), ", found ", io::in_quotes(theirs));
  }
  return "they are the same";
}

}  // namespace detail

/// The folder with the checkpoints of one run.
class checkpoint_folder {
 public:
  /// `identity` is what makes a run this run: lines "key = value" that a checkpoint must share to be gone on with. The
  /// folder is made when something is written. `optimizer` and the parameters must live as long.
  checkpoint_folder(std::filesystem::path path, std::string identity, adamw& optimizer,
                    const autograd::parameter_list<float>& parameters)
      : path_(std::move(path)),
        identity_(std::move(identity)),
        optimizer_(optimizer),
        frozen_(detail::digest_of_frozen(parameters)) {}

  /// Writes a checkpoint, then removes all but it and the one before it, and those of steps to come, which a resumed
  /// run has left behind. Throws io_error; then the others still stand.
  void save(const training_state& state) const {
    make_folder();
    write(path_ / name_of(state.step), state, true);
    std::size_t kept = 0;
    for (const auto& [step, file] : list()) {
      std::error_code ignored;
      if (step > state.step || ++kept > 2) std::filesystem::remove(file, ignored);
    }
  }

  /// Writes the parameters as the best so far. Throws io_error; then the best before still stands.
  void save_best(const training_state& state) const {
    make_folder();
    write(best_path(), state, false);
  }

  /// Goes back to the newest checkpoint that is whole: parameters, moments and the state that is returned; nothing if
  /// there are no checkpoints. `note` is told of each that is not. Throws other_run_error (a format_error) naming file
  /// and difference, format_error if none is whole. Nothing is changed by a file that is refused.
  [[nodiscard]] std::optional<training_state> load_last(const std::function<void(std::string_view)>& note = {}) const {
    std::string first_problem;
    for (const auto& [step, file] : list()) {
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

  /// Gives the parameters the values that did best; the moments stay. Throws as `load_last`, io_error if there are
  /// none.
  training_state load_best() const { return read(best_path(), false); }

  /// Whether there are checkpoints to go on from, whole or not.
  [[nodiscard]] bool empty() const { return list().empty(); }

  [[nodiscard]] std::filesystem::path best_path() const { return path_ / "best.safetensors"; }

  /// Removes temporary files that a killed process has left. No other process may be writing here.
  void clean() const {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".runnel-") && name.ends_with(".tmp")) std::filesystem::remove(entry.path(), ignored);
    }
  }

 private:
  static constexpr std::string_view prefix = "step-", suffix = ".safetensors", kind = "runnel training checkpoint 1";
  static constexpr std::size_t digits = 10;

  [[nodiscard]] static std::string name_of(index_t step) {
    std::string number = std::to_string(step);
    if (number.size() < digits) number.insert(0, digits - number.size(), '0');
    return message(prefix, number, suffix);
  }

  /// Checkpoints by step, newest first.
  [[nodiscard]] std::vector<std::pair<index_t, std::filesystem::path>> list() const {
    std::vector<std::pair<index_t, std::filesystem::path>> out;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
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
    detail::metadata about{
        {"kind", std::string(kind)}, {"identity", identity_}, {"frozen", message(frozen_)}, {"data", state.data}};
    detail::for_numbers(state, [&](const char* key, auto number) { about.emplace_back(key, message(number)); });
    const auto tensors = detail::checkpoint_tensors(optimizer_, whole);
    std::uint64_t sum = detail::digest_of(about, 0);
    for (const auto& one : tensors) sum = digest_of_tensor(one.name, "F32", one.shape, one.bytes, sum);
    about.emplace_back("digest", message(sum));
    io::write_safetensors(file, tensors, about);
  }

  [[nodiscard]] training_state read(const std::filesystem::path& path, bool whole) const {
    const io::safetensors_file file(path);
    const detail::checkpoint_fields fields(file);
    expect_intact(file, fields);
    const std::string& identity = fields.text("identity");
    expect<other_run_error>(identity == identity_, file.name(), ": is of a run with other settings: ",
                            identity == identity_ ? std::string() : detail::first_difference(identity_, identity));
    std::uint64_t frozen = 0;
    fields.read("frozen", frozen);
    expect<other_run_error>(frozen == frozen_, file.name(),
                            ": is of a model whose frozen parameters have other names or values");
    training_state state;
    state.data = fields.text("data");
    detail::for_numbers(state, [&](const char* key, auto& number) { fields.read(key, number); });
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
  std::string identity_;
  adamw& optimizer_;
  std::uint64_t frozen_;
};

}  // namespace runnel::train
