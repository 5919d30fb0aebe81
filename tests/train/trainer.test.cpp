// SPDX-License-Identifier: Apache-2.0
// The training loop on a toy model: what it computes, how it stops, how it goes on, what it says when numbers overflow.
#include <runnel/train/trainer.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#if defined(__unix__)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "io/support.hpp"
#include "toy.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::scratch_folder;
using tests::toy_model;
using tests::toy_source;

trainer_options plain_options(index_t steps) {
  trainer_options out;
  out.rate = {decay::cosine, 0.05, 3, std::max<index_t>(4, steps), 0.1};
  out.optimizer.weight_decay = 0.02;
  out.steps = steps;
  out.accumulation = 2;
  out.label_smoothing = 0.1;
  out.dropout = 0.2;
  out.seed = 9;
  out.validate_every = 7;
  out.identity.lines = "steps = 40\nseed = 9\n";
  return out;
}

/// A model with all that trains it.
struct toy_run {
  toy_model model{4};
  toy_source source{5};
  toy_source held_out{6, 4, 3}, other{7, 2, 2};
  thread_team team;
  std::vector<step_report> steps;
  std::vector<validation_report> validations;
  std::vector<std::string> notes;
  std::stop_source stop;
  index_t stop_after = -1;   // steps
  index_t crash_after = -1;  // steps
  std::unique_ptr<trainer<toy_model, toy_source>> run;

  struct crash {};

  explicit toy_run(const trainer_options& options, int threads = 1) : team(threads) {
    trainer_hooks hooks;
    hooks.step = [this](const step_report& report) {
      steps.push_back(report);
      if (report.step == crash_after) throw crash{};
      if (report.step == stop_after) stop.request_stop();
    };
    hooks.validation = [this](const validation_report& report) { validations.push_back(report); };
    hooks.note = [this](std::string_view text) { notes.emplace_back(text); };
    hooks.clock = [time = 0.0]() mutable { return time += 0.25; };
    run = std::make_unique<trainer<toy_model, toy_source>>(
        model, source, options, hooks, team,
        std::vector<validation_set<toy_source>>{{"held out", &held_out}, {"other", &other}});
  }
};

/// Everything that has to be the same in two runs.
std::vector<double> trace(const toy_run& of, index_t from = 0) {
  std::vector<double> out;
  for (const auto& one : of.steps) {
    if (one.step > from)
      out.insert(out.end(), {static_cast<double>(one.step), one.loss, one.nll, one.rate, one.gradient_norm});
  }
  for (const auto& one : of.validations) {
    if (one.step > from) out.insert(out.end(), {static_cast<double>(one.step), one.loss, one.best ? 1.0 : 0.0});
  }
  return out;
}

TEST_CASE("a model learns, and every step and validation is reported") {
  toy_run toy(plain_options(40));
  CHECK(toy.run->run() == training_end::done);
  REQUIRE(toy.steps.size() == 40);
  CHECK(toy.steps[0].step == 1);
  CHECK(toy.steps[0].rate == doctest::Approx(0.05 / 4));
  CHECK(toy.steps[3].rate == doctest::Approx(0.05));
  CHECK(toy.steps[0].loss == doctest::Approx(2.4).epsilon(0.1));
  CHECK(toy.steps[0].loss != toy.steps[0].nll);
  CHECK(toy.steps[0].labels > 6);
  CHECK(toy.steps[0].labels == toy.steps[0].rows);
  CHECK(toy.steps[0].seconds > 0);
  CHECK(toy.steps[0].rows_per_second > 0);
  REQUIRE(toy.validations.size() == 7);  // 0, 7, 14, ..., 35, 40
  CHECK(toy.validations[1].step == 7);
  CHECK(toy.validations.back().step == 40);
  CHECK(toy.validations.back().loss < toy.validations[0].loss - 0.5);
  CHECK(toy.validations[0].best);
  REQUIRE(toy.validations[0].sets.size() == 2);
  CHECK(toy.validations[0].sets[1].name == "other");
  const auto& first = toy.validations[0];
  const double sum = first.sets[0].loss * static_cast<double>(first.sets[0].labels) +
                     first.sets[1].loss * static_cast<double>(first.sets[1].labels);
  CHECK(first.loss == doctest::Approx(sum / static_cast<double>(first.labels)));
  CHECK(toy.run->state().step == 40);
  CHECK(toy.run->state().updates == 40);
  CHECK(toy.notes.empty());
}

TEST_CASE("accumulated batches are one batch") {
  auto options = plain_options(10);
  options.dropout = 0;
  options.validate_every = 0;
  options.accumulation = 4;
  toy_run four(options);
  four.source = toy_source(5, 3);
  four.run->run();
  options.accumulation = 1;
  toy_run one(options);
  one.source = toy_source(5, 12);
  one.run->run();
  const auto a = four.model.weights(), b = one.model.weights();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-4));
  CHECK(four.steps[9].loss == doctest::Approx(one.steps[9].loss));
  CHECK(four.steps[0].gradient_norm == doctest::Approx(one.steps[0].gradient_norm));
}

TEST_CASE("the bits do not depend on the number of threads") {
  toy_run one(plain_options(12), 1), three(plain_options(12), 3);
  one.run->run();
  three.run->run();
  CHECK(one.model.weights() == three.model.weights());
  CHECK(trace(one) == trace(three));
}

TEST_CASE("a run that is stopped anywhere goes on as if it had not been, bit for bit") {
  toy_run whole(plain_options(40));
  whole.run->run();
  random_stream random(17);
  for (int round = 0; round < 12; ++round) {
    scratch_folder folder;
    auto options = plain_options(40);
    options.checkpoints = folder / "checkpoints";
    options.save_every = round % 3 == 0 ? 0 : 5;
    index_t at = 0;
    std::unique_ptr<toy_run> part;
    for (bool first = true; at < 40; first = false) {
      part = std::make_unique<toy_run>(options, 1 + round % 2);
      CHECK(part->run->resume() == !first);
      CHECK(part->run->state().step == at);
      at = std::min<index_t>(40, at + 1 + random.below(15));
      part->stop_after = at < 40 ? at : -1;
      const auto begun = part->run->state().step;
      CHECK(part->run->run(part->stop.get_token()) == (at < 40 ? training_end::stopped : training_end::done));
      CHECK(part->run->state().step == at);
      for (const auto& report : part->steps)
        CHECK(report.loss == whole.steps[static_cast<std::size_t>(report.step - 1)].loss);
      CHECK(part->steps.size() == static_cast<std::size_t>(at - begun));
    }
    CHECK(part->model.weights() == whole.model.weights());
    CHECK(part->run->state().best_loss == whole.run->state().best_loss);
    CHECK(part->run->state().best_step == whole.run->state().best_step);
    CHECK(part->run->state().labels == whole.run->state().labels);
    // One that is done stays done.
    toy_run again(options);
    CHECK(again.run->resume());
    CHECK(again.run->run() == training_end::done);
    CHECK(again.steps.empty());
    CHECK(again.validations.empty());
    CHECK(again.model.weights() == whole.model.weights());
  }
}

TEST_CASE("a run that breaks off loses the steps since its last checkpoint and does them again, bit for bit") {
  toy_run whole(plain_options(40));
  whole.run->run();
  for (const index_t at : {1, 4, 5, 6, 14, 23, 39}) {
    scratch_folder folder;
    auto options = plain_options(40);
    options.checkpoints = folder.path();
    options.save_every = 5;
    toy_run broken(options);
    broken.crash_after = at;
    CHECK_THROWS_AS(broken.run->run(), toy_run::crash);
    toy_run rest(options);
    const index_t saved = (at - 1) / 5 * 5;  // the crash comes before the checkpoint of its own step
    CHECK(rest.run->resume() == (saved > 0));
    CHECK(rest.run->state().step == saved);
    CHECK(rest.run->run() == training_end::done);
    CHECK(rest.model.weights() == whole.model.weights());
    CHECK(trace(rest, saved) == trace(whole, saved));
    CHECK(std::filesystem::exists(folder / "best.safetensors"));
    CHECK(folder.count() == 3);
  }
}

TEST_CASE("a stop in the middle of a step forgets its part") {
  toy_run whole(plain_options(10));
  whole.run->run();
  scratch_folder folder;
  auto options = plain_options(10);
  options.checkpoints = folder.path();
  struct stopping_model : toy_model {
    using toy_model::toy_model;
    std::stop_source* stop = nullptr;
    batch_loss accumulate(std::span<const training_rows> batch, const step_options& how) {
      if (passes == 7) stop->request_stop();  // the first half of the fourth step
      return toy_model::accumulate(batch, how);
    }
  } model(4);
  std::stop_source stop;
  model.stop = &stop;
  toy_source source(5), held_out(6, 4, 3);
  thread_team team(1);
  using trainer_type = trainer<stopping_model, toy_source>;
  trainer_type run(model, source, options, {}, team);
  CHECK(run.run(stop.get_token()) == training_end::stopped);
  CHECK(run.state().step == 4);  // passes 6 and 7 are the fourth step's; the stop is seen before the next
  model.passes = 100;
  CHECK(run.run() == training_end::done);
  CHECK(model.weights() == whole.model.weights());

  stopping_model again(4);
  std::stop_source stop_again;
  again.stop = &stop_again;
  again.passes = 1;  // now the stop comes in the first of two passes
  toy_source source_again(5);
  options.checkpoints = folder / "other";
  trainer_type second(again, source_again, options, {}, team);
  CHECK(second.run(stop_again.get_token()) == training_end::stopped);
  CHECK(second.state().step == 3);
  CHECK(source_again.state() == "6");
  again.passes = 100;
  CHECK(second.run() == training_end::done);
  CHECK(again.weights() == whole.model.weights());
}

TEST_CASE("a source that ends, ends the run") {
  scratch_folder folder;
  auto options = plain_options(40);
  options.checkpoints = folder.path();
  toy_run toy(options);
  toy.source = toy_source(5, 3, 9);
  CHECK(toy.run->run() == training_end::out_of_data);
  CHECK(toy.steps.size() == 5);  // the last with one batch
  CHECK(toy.validations.back().step == 5);
  toy_run empty(options);
  empty.source = toy_source(5, 0);
  CHECK(holds(failure<format_error>([&] { empty.run->run(); }),
              "step 1: nothing is to be predicted; batch: toy batch 0"));
}

TEST_CASE("overflow stops with step, batch and layer named, and what was before is kept") {
  for (const bool in_gradient : {false, true}) {
    scratch_folder folder;
    auto options = plain_options(40);
    options.checkpoints = folder.path();
    toy_run toy(options);
    (in_gradient ? toy.model.bad_gradient_at : toy.model.overflow_at) = 12;
    const auto text = failure<limit_error>([&] { toy.run->run(); });
    CHECK(holds(text, "step 7"));
    CHECK(holds(text, "toy batch 12"));
    CHECK(holds(text, in_gradient ? "gradients is NaN, the first gradient that is not finite is that of layer.bias"
                                  : "infinite"));
    CHECK(toy.run->state().step == 6);
    toy_run rest(options);
    CHECK(rest.run->resume());
    CHECK(rest.run->state().step == 6);
    CHECK(rest.run->run() == training_end::done);
    toy_run whole(plain_options(40));
    whole.run->run();
    CHECK(rest.model.weights() == whole.model.weights());
  }
  toy_run broken(plain_options(3));
  broken.model.parameters()[1].values.values()[2] = std::nanf("");
  CHECK(holds(failure<limit_error>([&] { broken.run->run(); }),
              "the first layer with values that are not finite is layer.head"));
}

TEST_CASE("overflow is skipped and counted when told to, but not for ever") {
  auto options = plain_options(20);
  options.on_overflow = overflow_action::skip;
  toy_run toy(options);
  toy.model.overflow_at = 12;
  toy.model.bad_gradient_at = 21;
  CHECK(toy.run->run() == training_end::done);
  CHECK(toy.run->state().skipped == 2);
  CHECK(toy.run->state().updates == 18);
  CHECK(toy.steps[6].was_skipped);
  CHECK_FALSE(toy.steps[7].was_skipped);
  CHECK(toy.steps[7].skipped == 1);
  REQUIRE(toy.notes.size() == 2);
  CHECK(holds(toy.notes[0], "step 7"));
  for (const float weight : toy.model.weights()) CHECK(std::isfinite(weight));

  options.steps = 300;
  toy_run broken(options);
  broken.model.parameters()[1].values.values()[2] = std::nanf("");
  const auto text = failure<limit_error>([&] { broken.run->run(); });
  CHECK(holds(text, "step 100"));
  CHECK(holds(text, "99 steps before"));
}

TEST_CASE("a parameter that an update makes infinite is never saved: the checkpoint before stays the newest") {
  scratch_folder folder;
  auto options = plain_options(40);
  options.checkpoints = folder.path();
  options.save_every = 1;
  options.validate_every = 0;
  toy_run good(options);
  good.stop_after = 4;
  good.run->run(good.stop.get_token());
  for (const bool skip : {false, true}) {
    auto wild = options;
    wild.rate = {decay::constant, 1e39, 0, 1, 1};
    wild.on_overflow = skip ? overflow_action::skip : overflow_action::stop;
    toy_run toy(wild);
    REQUIRE(toy.run->resume());
    const auto text = failure<limit_error>([&] { toy.run->run(); });
    CHECK(holds(text, "step 5"));
    CHECK(holds(text, "parameter embedding are not finite"));
    toy_run rest(options);
    REQUIRE(rest.run->resume());
    CHECK(rest.notes.empty());
    CHECK(rest.run->state().step == 4);
  }
  // Without a checkpoint of its own the step after tells, and names the parameter.
  options.save_every = 0;
  options.rate = {decay::constant, 1e39, 0, 1, 1};
  toy_run late(options);
  REQUIRE(late.run->resume());
  const auto text = failure<limit_error>([&] { late.run->run(); });
  CHECK(holds(text, "step 6: the loss is NaN"));
  CHECK(holds(text, "an update has left parameter embedding not finite"));
  toy_run rest(plain_options(40));
  options.rate = plain_options(40).rate;
  toy_run back(options);
  REQUIRE(back.run->resume());
  CHECK(back.run->state().step == 4);
}

TEST_CASE("the best is what could be kept: one that is gone, damaged or another leaves the parameters as they are") {
  scratch_folder folder;
  auto options = plain_options(14);
  options.checkpoints = folder / "checkpoints";
  options.on_save_failure = save_failure_action::go_on;
  std::filesystem::create_directories(folder / "checkpoints/best.safetensors");  // nothing can be written there
  toy_run toy(options);
  CHECK(toy.run->run() == training_end::done);
  CHECK(toy.run->state().best_step == -1);
  REQUIRE(toy.validations.size() == 3);
  for (const auto& one : toy.validations) CHECK_FALSE(one.best);
  CHECK(failure<io_error>([&] { toy.run->load_best(); }) != "");

  std::filesystem::remove(folder / "checkpoints/best.safetensors");
  std::filesystem::remove_all(folder / "checkpoints");
  toy_run whole(options);
  CHECK(whole.run->run() == training_end::done);
  CHECK(whole.run->state().best_step == 14);
  const auto best = folder / "checkpoints/best.safetensors";
  const auto weights = whole.model.weights();
  std::filesystem::resize_file(best, std::filesystem::file_size(best) / 2);
  CHECK(failure<error>([&] { whole.run->load_best(); }) != "");
  CHECK(whole.model.weights() == weights);
  std::filesystem::remove(best);
  toy_run again(options);
  REQUIRE(again.run->resume());
  CHECK(again.run->state().best_step == -1);
  REQUIRE(again.notes.size() == 1);
  CHECK(holds(again.notes[0], "best.safetensors is gone"));
}

TEST_CASE("what a process that was killed had not yet removed is removed when its run goes on") {
  scratch_folder folder;
  auto options = plain_options(12);
  options.checkpoints = folder.path();
  options.save_every = 4;
  toy_run whole(options);
  whole.run->run();
  std::filesystem::copy_file(folder / "step-0000000008.safetensors", folder / "step-0000000004.safetensors");
  runnel_test::put(folder / "step-0000000013.safetensors", "damaged");
  toy_run again(options);
  REQUIRE(again.run->resume());
  CHECK(again.run->state().step == 12);
  CHECK_FALSE(std::filesystem::exists(folder / "step-0000000004.safetensors"));
  CHECK(std::filesystem::exists(folder / "step-0000000008.safetensors"));
  CHECK(std::filesystem::exists(folder / "step-0000000012.safetensors"));
  CHECK(std::filesystem::exists(folder / "step-0000000013.safetensors"));
}

TEST_CASE("a stop while batches are gathered forgets them") {
  struct stopping_source : toy_source {
    using toy_source::toy_source;
    std::stop_source* stop = nullptr;
    index_t left = 5;
    auto next() {
      if (--left == 0) stop->request_stop();
      return toy_source::next();
    }
  };
  std::stop_source stop;
  stopping_source source(5);
  source.stop = &stop;
  toy_model model(4);
  thread_team team(1);
  auto options = plain_options(3);
  options.accumulation = 1000000;
  trainer<toy_model, stopping_source> run(model, source, options, {}, team);
  CHECK(run.run(stop.get_token()) == training_end::stopped);
  CHECK(run.state().step == 0);
  CHECK(model.passes == 0);
  CHECK(source.left == 0);
  CHECK(source.state() == "0");
}

TEST_CASE("checkpoints come with steps and with time") {
  scratch_folder folder;
  auto options = plain_options(9);
  options.checkpoints = folder.path();
  options.validate_every = 0;
  options.save_seconds = 3;  // the clock of the toy goes on by a quarter with every look at it
  toy_run timed(options);
  timed.crash_after = 9;
  CHECK_THROWS_AS(timed.run->run(), toy_run::crash);
  toy_run back(options);
  CHECK(back.run->resume());
  CHECK(back.run->state().step >= 2);
  CHECK(back.run->state().step < 9);
}

TEST_CASE("what is frozen stays, and a checkpoint of other frozen values is refused") {
  scratch_folder folder;
  auto options = plain_options(6);
  options.checkpoints = folder.path();
  const auto make = [&](float changed) {
    auto toy = std::make_unique<toy_run>(options);
    toy->model.parameters()[0].train(false);
    toy->model.parameters()[0].values.values()[1] += changed;
    toy->run =
        std::make_unique<trainer<toy_model, toy_source>>(toy->model, toy->source, options, trainer_hooks{}, toy->team);
    return toy;
  };
  const auto before = toy_model(4).weights();
  auto toy = make(0);
  CHECK(toy->run->run() == training_end::done);
  const auto after = toy->model.weights();
  CHECK(std::equal(before.begin(), before.begin() + 55, after.begin()));
  CHECK(before[60] != after[60]);
  CHECK(make(0)->run->resume());
  CHECK(holds(failure<other_run_error>([&] { make(0.5f)->run->resume(); }), "frozen"));
  toy_run thawed(options);
  CHECK(holds(failure<other_run_error>([&] { thawed.run->resume(); }), "frozen"));
}

TEST_CASE("options that make no sense are refused") {
  const auto refused = [](auto&& change) {
    auto options = plain_options(5);
    change(options);
    return failure<config_error>([&] { toy_run toy(options); });
  };
  CHECK(holds(refused([](auto& o) { o.clip_norm = -1; }), "norm"));
  CHECK(holds(refused([](auto& o) { o.accumulation = 0; }), "batch"));
  CHECK(holds(refused([](auto& o) { o.optimizer.epsilon = 0; }), "epsilon"));
  CHECK(holds(refused([](auto& o) { o.optimizer.epsilon = 1e-60; }), "epsilon"));
  CHECK(holds(refused([](auto& o) { o.dropout = 1; }), "dropout"));
  CHECK(holds(refused([](auto& o) { o.label_smoothing = std::nan(""); }), "smoothing"));
  CHECK(holds(refused([](auto& o) { o.steps = -1; }), "steps"));
  CHECK(holds(refused([](auto& o) { o.save_every = -1; }), "interval"));
  CHECK(holds(refused([](auto& o) { o.rate.warmup = 9; }), "warm-up"));
  toy_run toy(plain_options(5));
  CHECK(holds(failure<config_error>([&] { toy.run->resume(); }), "folder"));
}

#if defined(__unix__)
TEST_CASE("a full disk stops the run or is noted, and the checkpoints before it stand") {
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const bool goes_on : {false, true}) {
    scratch_folder folder;
    auto options = plain_options(20);
    options.checkpoints = folder.path();
    options.save_every = 5;
    options.on_save_failure = goes_on ? save_failure_action::go_on : save_failure_action::stop;
    toy_run first(options);
    first.stop_after = 5;
    first.run->run(first.stop.get_token());
    toy_run full(options);
    REQUIRE(full.run->resume());
    struct rlimit small = before;
    small.rlim_cur = 1000;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const auto text = failure<io_error>([&] { full.run->run(); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    CHECK(holds(text, "too large") != goes_on);
    CHECK(goes_on == (full.run->state().step == 20));
    if (goes_on) {
      REQUIRE(full.notes.size() >= 3);
      CHECK(holds(full.notes[0], "too large"));
    } else {
      CHECK(holds(text, "too large"));
    }
    CHECK(folder.count() == 2);  // nothing half written is left
    toy_run rest(options), whole(plain_options(20));
    CHECK(rest.run->resume());
    CHECK(rest.run->state().step == 5);
    rest.run->run();
    whole.run->run();
    CHECK(rest.model.weights() == whole.model.weights());
  }
  std::signal(SIGXFSZ, handler);
}

TEST_CASE("a folder that cannot be written is named") {
  scratch_folder folder;
  runnel_test::put(folder / "file", "x");
  auto options = plain_options(3);
  options.checkpoints = folder / "file" / "checkpoints";
  toy_run toy(options);
  CHECK(holds(failure<io_error>([&] { toy.run->run(); }), "checkpoints"));
  options.checkpoints = folder.path();
  using std::filesystem::perms;
  const auto for_all = perms::group_read | perms::group_exec | perms::others_read | perms::others_exec;
  std::filesystem::permissions(folder.path(), perms::owner_read | perms::owner_exec | for_all);
  toy_run other(options);
  constexpr uid_t nobody = 65534;  // to root nothing is read-only
  const bool root = ::geteuid() == 0;
  if (root) REQUIRE(::seteuid(nobody) == 0);
  const auto problem = failure<io_error>([&] { other.run->run(); });
  if (root) REQUIRE(::seteuid(0) == 0);
  CHECK(holds(problem, "ermission"));
  std::filesystem::permissions(folder.path(), perms::owner_all);
}

TEST_CASE("a process that is killed at any moment goes on with the next") {
  toy_run whole(plain_options(60));
  whole.run->run();
  scratch_folder folder;
  auto options = plain_options(60);
  options.checkpoints = folder.path();
  options.save_every = 1;
  random_stream random(23);
  int killed = 0;
  for (bool done = false; !done;) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int status = 1;
      try {
        toy_run part(options);
        part.run->resume();
        status = part.run->run() == training_end::done ? 0 : 2;
      } catch (...) {
        status = 3;
      }
      ::_exit(status);
    }
    // Later and later, so that it gets there even where writing is slow.
    ::usleep(static_cast<useconds_t>(random.below(2000 + 2000 * killed)));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    done = WIFEXITED(status);
    if (done) CHECK(WEXITSTATUS(status) == 0);
    ++killed;
  }
  toy_run last(options);
  CHECK(last.run->resume());
  CHECK(last.notes.empty());
  CHECK(last.run->state().step == 60);
  CHECK(last.model.weights() == whole.model.weights());
  CHECK(folder.count() == 3);
}
#endif

}  // namespace
