// SPDX-License-Identifier: Apache-2.0
// Checkpoints that were cut, changed, swapped, or are of another run.
#include <runnel/train/checkpoint.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <runnel/core/rng.hpp>

#include "io/support.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::content;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::put;
using runnel_test::scratch_folder;

/// A model, its optimizer, and a folder of their checkpoints.
struct small_run {
  autograd::parameter_list<float> parameters;
  std::unique_ptr<adamw> optimizer;
  std::unique_ptr<checkpoint_folder> checkpoints;
  std::vector<std::string> notes;

  explicit small_run(const std::filesystem::path& path, std::uint64_t seed = 1, index_t columns = 3,
                     const std::string& identity = "steps = 5\nrate = 0.25\n", const char* name = "up",
                     const std::string& defaults = {}) {
    random_stream random(seed);
    for (const auto& [called, rows, width] :
         {std::tuple<const char*, index_t, index_t>{name, 2, columns}, {"norm", 1, 3}}) {
      auto& one = parameters.emplace_back();
      one.name = called;
      one.values = tensor<float, 2>({rows, width});
      one.train(true);
    }
    optimizer = std::make_unique<adamw>(parameters, adamw_options{});
    for (auto& one : optimizer->state()) {
      for (auto* values : {&one.of->values, &one.first, &one.second}) {
        for (float& value : values->values()) value = static_cast<float>(random.uniform());
      }
    }
    checkpoints =
        std::make_unique<checkpoint_folder>(path, run_identity{identity, defaults, {"free"}}, *optimizer, parameters);
  }

  auto load() {
    notes.clear();
    return checkpoints->load_last([this](std::string_view text) { notes.emplace_back(text); });
  }

  [[nodiscard]] std::vector<float> numbers() const {
    std::vector<float> out;
    for (const auto& one : optimizer->state()) {
      for (const tensor<float, 2>* values : {&std::as_const(one.of->values), &one.first, &one.second}) {
        out.insert(out.end(), values->data(), values->data() + values->size());
      }
    }
    return out;
  }
};

training_state state_at(index_t step) {
  training_state out;
  out.step = step;
  out.updates = step - 1;
  out.skipped = 1;
  out.rows = 1 << 20;
  out.labels = 77;
  out.seconds = 0.1 + static_cast<double>(step);
  out.validated_step = step;
  out.best_step = 2;
  out.best_loss = 1.0 / 3;
  out.data = "{\"epoch\": 1, \"name\": \"\xC3\xA9\\n\"}";
  return out;
}

TEST_CASE("what was saved comes back, the newest first, and older ones go") {
  scratch_folder folder;
  small_run first(folder / "deep/er", 1), second(folder / "deep/er", 2);
  CHECK_FALSE(first.load());
  for (const index_t step : {index_t{9}, index_t{10}, index_t{123456789012}}) first.checkpoints->save(state_at(step));
  const auto state = second.load();
  REQUIRE(state);
  CHECK(*state == state_at(123456789012));
  CHECK(second.numbers() == first.numbers());
  CHECK(second.optimizer->steps() == 123456789011);
  CHECK(second.notes.empty());
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "deep/er"), {}) == 2);
  // A run that went back removes what it had been ahead.
  second.checkpoints->save(state_at(11));
  CHECK(second.load()->step == 11);
  CHECK(std::filesystem::exists(folder / "deep/er/step-0000000010.safetensors"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "deep/er"), {}) == 2);
}

TEST_CASE("the best parameters come back without the moments") {
  scratch_folder folder;
  small_run first(folder.path(), 1), second(folder.path(), 2);
  CHECK(holds(failure<io_error>([&] { first.checkpoints->load_best(); }), "best.safetensors"));
  first.checkpoints->save_best(state_at(4));
  const auto before = second.numbers();
  CHECK(second.checkpoints->load_best() == state_at(4));
  CHECK(second.parameters[0].values(1, 2) == first.parameters[0].values(1, 2));
  CHECK(second.numbers()[6] == before[6]);
  CHECK(second.optimizer->steps() == 0);
}

/// Two checkpoints of step 5 and 6 with other numbers, and a run that reads them; tests damage the later file.
struct damaged_run {
  scratch_folder folder;
  small_run old{folder.path(), 1}, late{folder.path(), 2}, reader{folder.path(), 3};
  std::filesystem::path path = folder / "step-0000000006.safetensors";
  std::string whole;

  damaged_run() {
    old.checkpoints->save(state_at(5));
    late.checkpoints->save(state_at(6));
    whole = content(path);
  }
};

TEST_CASE("a checkpoint that is cut anywhere is passed over for the one before, and nothing is changed by it") {
  damaged_run run;
  auto& [folder, old, late, reader, path, whole] = run;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(path, whole.substr(0, size));
    const auto state = reader.load();
    REQUIRE(state);
    REQUIRE(state->step == 5);
    REQUIRE(reader.numbers() == old.numbers());
    REQUIRE(reader.notes.size() == 2);
    REQUIRE(holds(reader.notes[0], "step-0000000006.safetensors"));
    REQUIRE(holds(reader.notes[1], "step-0000000005.safetensors"));
  }
  put(path, whole + "x");
  CHECK(reader.load()->step == 5);
  put(path, whole);
  CHECK(reader.load()->step == 6);
}

TEST_CASE("a checkpoint with any bit changed is passed over, or means the same") {
  damaged_run run;
  auto& [folder, old, late, reader, path, whole] = run;
  std::size_t passed_over = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const unsigned bit : {0U, 5U, 7U}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ (1U << bit));
      put(path, changed);
      const auto state = reader.load();
      REQUIRE(state);
      const small_run& same = state->step == 5 ? old : late;
      REQUIRE(*state == state_at(state->step));
      REQUIRE(reader.numbers() == same.numbers());
      if (state->step == 5) ++passed_over;
    }
  }
  CHECK(passed_over + 40 > 3 * whole.size());  // blanks at the end of the header may become others
}

TEST_CASE("random damage is survived") {
  damaged_run run;
  const std::string& whole = run.whole;
  random_stream random(5);
  const auto place = [&] { return static_cast<std::size_t>(random.below(static_cast<std::int64_t>(whole.size()))); };
  for (int round = 0; round < 500; ++round) {
    std::string changed = whole;
    for (auto count = 1 + random.below(8); count > 0; --count) {
      switch (random.below(3)) {
        case 0: changed[place() % changed.size()] = static_cast<char>(random.below(256)); break;
        case 1:
          changed.insert(place() % changed.size(), std::string(static_cast<std::size_t>(random.below(9)), '9'));
          break;
        default: changed.erase(place() % changed.size(), static_cast<std::size_t>(random.below(9))); break;
      }
      if (changed.empty()) changed = "x";
    }
    put(run.path, changed);
    const auto state = run.reader.load();
    REQUIRE(state);
    REQUIRE(run.reader.numbers() == (state->step == 5 ? run.old : run.late).numbers());
  }
}

TEST_CASE("if none is whole, the newest is named") {
  scratch_folder folder;
  small_run run(folder.path());
  run.checkpoints->save(state_at(5));
  run.checkpoints->save(state_at(6));
  put(folder / "step-0000000005.safetensors", "x");
  put(folder / "step-0000000006.safetensors", "");
  const auto text = failure<format_error>([&] { (void)run.load(); });
  CHECK(holds(text, "step-0000000006.safetensors"));
  CHECK(holds(text, "no whole checkpoint is left"));
}

TEST_CASE("a checkpoint of another run is refused, whatever stands before it") {
  scratch_folder folder;
  small_run run(folder.path());
  run.checkpoints->save(state_at(5));
  run.checkpoints->save(state_at(6));
  const auto refused = [&](auto&&... how) {
    small_run other(folder.path(), 8, how...);
    const auto before = other.numbers();
    const auto text = failure<other_run_error>([&] { (void)other.load(); });
    CHECK(other.numbers() == before);
    CHECK(other.optimizer->steps() == 0);
    return text;
  };
  const std::string same = "steps = 5\nrate = 0.25\n";
  auto text = refused(3, "steps = 5\nrate = 0.5\n");
  CHECK(holds(text, "step-0000000006.safetensors"));
  CHECK(holds(text, "expected 'rate = 0.5', found 'rate = 0.25'"));
  CHECK(holds(refused(3, same + "seed = 1\n"), "expected 'seed = 1', found no 'seed'"));
  CHECK(holds(refused(3, ""), "found 'steps = 5'"));
  text = refused(4, same);
  CHECK(holds(text, "'parameter.up'"));
  CHECK(holds(text, "[2, 4]"));
  CHECK(holds(text, "[2, 3]"));
  CHECK(holds(refused(3, same, "down"), "'parameter.down' is missing"));
  small_run fewer(folder.path());
  fewer.parameters[1].train(false);
  adamw optimizer(fewer.parameters, {});
  const checkpoint_folder checkpoints(folder.path(), run_identity{same}, optimizer, fewer.parameters);
  CHECK(holds(failure<other_run_error>([&] { (void)checkpoints.load_last(); }), "frozen"));
}

TEST_CASE("settings are compared by key: order is free, what an older version did not write has its default") {
  scratch_folder folder;
  small_run(folder.path(), 1, 3, "steps = 5\nrate = 0.25\nfree = 7\n").checkpoints->save(state_at(5));
  const auto load = [&](const std::string& lines, const std::string& defaults = {}) {
    small_run run(folder.path(), 2, 3, lines, "up", defaults);
    return run.load().has_value();
  };
  const auto refused = [&](const std::string& lines, const std::string& defaults = {}) {
    return failure<other_run_error>([&] { (void)load(lines, defaults); });
  };
  CHECK(load("rate = 0.25\nfree = 9\nsteps = 5\n"));
  CHECK(load("rate = 0.25\nsteps = 5\n"));
  CHECK(load("steps = 5\nrate = 0.25\nnewer = \"a = b\"\n", "newer = \"a = b\"\nrate = 7\n"));
  CHECK(
      holds(refused("steps = 5\nrate = 0.25\nnewer = 2\n", "newer = 1\n"), "expected 'newer = 2', found 'newer = 1'"));
  CHECK(holds(refused("steps = 5\nrate = 0.25\nnewer = 2\n"), "expected 'newer = 2', found no 'newer'"));
  CHECK(holds(refused("steps = 5\n"), "expected no 'rate', found 'rate = 0.25'"));
  CHECK(holds(refused("rate = 0.25\nsteps = 6\n"), "expected 'steps = 6', found 'steps = 5'"));
  CHECK(*checkpoint_folder::last_identity(folder.path()) == "steps = 5\nrate = 0.25\nfree = 7\n");
  CHECK(run_identity::find("a = 1\nbc = 2 = 3\n", "bc") == "2 = 3");
  CHECK_FALSE(run_identity::find("a = 1\nbc = 2\n", "b"));
  put(folder / "step-0000000006.safetensors", "x");
  CHECK(checkpoint_folder::last_identity(folder.path()));
  CHECK_FALSE(checkpoint_folder::last_identity(folder / "none"));
}

TEST_CASE("numbers that are not finite are never saved, and the parameter is named") {
  scratch_folder folder;
  small_run run(folder.path());
  run.checkpoints->save(state_at(5));
  run.checkpoints->save_best(state_at(5));
  const auto best = content(folder / "best.safetensors");
  auto& moments = run.optimizer->state()[1];
  for (auto* values : {&moments.of->values, &moments.first, &moments.second}) {
    for (const float bad : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
      const float before = std::exchange((*values)(0, 2), bad);
      for (const bool whole : {true, false}) {
        const auto text = failure<limit_error>(
            [&] { whole ? run.checkpoints->save(state_at(6)) : run.checkpoints->save_best(state_at(6)); });
        CHECK(holds(text, "step 6"));
        CHECK(holds(text, "parameter norm"));
      }
      (*values)(0, 2) = before;
    }
  }
  CHECK(content(folder / "best.safetensors") == best);
  CHECK(run.load()->step == 5);
  moments.of->values(0, 0) = 3e38f;  // its square is not finite
  run.checkpoints->save(state_at(6));
  CHECK(run.load()->step == 6);
}

TEST_CASE("the best parameters are those of the step that is meant, or nothing is changed") {
  scratch_folder folder;
  small_run first(folder.path(), 1), second(folder.path(), 2);
  first.checkpoints->save_best(state_at(9));
  const auto before = second.numbers();
  CHECK(holds(failure<format_error>([&] { second.checkpoints->load_best(4); }), "expected the parameters of step 4"));
  CHECK(second.numbers() == before);
  CHECK(second.checkpoints->load_best(9).step == 9);
  CHECK(second.numbers() != before);
}

TEST_CASE("files of other kinds and names are let be") {
  scratch_folder folder;
  small_run run(folder.path());
  run.checkpoints->save(state_at(5));
  for (const char* name : {"step-.safetensors", "step-6.safetensors", "step-00000000x6.safetensors", "notes.txt",
                           "step--000000006.safetensors", "step-0000000007.safetensors.bak", ".runnel-1-2-3.tmp"}) {
    put(folder / name, "x");
  }
  CHECK(run.load()->step == 5);
  CHECK(run.notes.empty());
  run.checkpoints->clean();
  CHECK_FALSE(std::filesystem::exists(folder / ".runnel-1-2-3.tmp"));
  CHECK(std::filesystem::exists(folder / "notes.txt"));
  const io::safetensors_output nothing[] = {{"a", quant::weight_format::f32, {0}, {}}};
  io::write_safetensors(folder / "step-0000000008.safetensors", nothing);
  CHECK(run.load()->step == 5);
  REQUIRE(run.notes.size() == 2);
  CHECK(holds(run.notes[0], "metadata has no 'kind'"));
}

}  // namespace
