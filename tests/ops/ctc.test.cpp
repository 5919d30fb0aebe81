// SPDX-License-Identifier: Apache-2.0
//
// CTC against the sum over all alignments one by one, against finite differences, and against PyTorch
// (golden/train/make_ctc.py).

#include <runnel/ops/ctc.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/io/npy.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using kernels::ctc_result;
using numbers = std::vector<std::int32_t>;

/// Logits of one utterance.
template <class T>
struct utterance {
  std::vector<T> logits;
  index_t frames = 0;
  index_t classes = 0;

  [[nodiscard]] tensor_view<T, 2> view() { return {logits.data(), {frames, classes}}; }
};

template <class T>
struct outcome {
  ctc_result found;
  std::vector<T> gradient;
};

template <class T>
outcome<T> run(utterance<T>& of, const numbers& labels, double scale = 1, int threads = 1,
               instruction_set which = best_instruction_set) {
  ops::basic_eval<T> context({threads, ops::compute_mode::f32, which});
  outcome<T> out;
  out.gradient.assign(of.logits.size(), std::numeric_limits<T>::quiet_NaN());
  const ops::ctc op{scale};
  context.team.run([&] {
    op.forward(context, of.view(), labels, std::span(&out.found, 1));
    const tensor_view<T, 2> gradient(out.gradient.data(), {of.frames, of.classes});
    op.backward(context, ops::dual<T>{of.view(), gradient, true}, labels, std::span(&out.found, 1));
  });
  return out;
}

template <class T>
utterance<T> drawn(random_stream& random, index_t frames, index_t classes, double size = 2) {
  return {tests::normals<T>(random, frames * classes, size), frames, classes};
}

numbers merged(const numbers& path, std::int32_t blank) {
  numbers out;
  std::int32_t before = blank;
  for (const std::int32_t one : path) {
    if (one != blank && one != before) out.push_back(one);
    before = one;
  }
  return out;
}

/// Probability of the labels: all classes^frames paths, one by one.
double by_hand(utterance<double>& of, const numbers& labels) {
  const auto x = of.view();
  const auto blank = static_cast<std::int32_t>(of.classes - 1);
  double total = 0;
  numbers path(static_cast<std::size_t>(of.frames));
  for (;;) {
    if (merged(path, blank) == labels) {
      double probability = 1;
      for (index_t t = 0; t < of.frames; ++t) {
        double sum = 0;
        for (index_t i = 0; i < of.classes; ++i) sum += std::exp(x(t, i));
        probability *= std::exp(x(t, path[static_cast<std::size_t>(t)])) / sum;
      }
      total += probability;
    }
    std::size_t at = 0;
    while (at < path.size() && path[at] == blank) path[at++] = 0;
    if (at == path.size()) return total;
    ++path[at];
  }
}

numbers draw_labels(random_stream& random, index_t count, index_t classes) {
  numbers out;
  for (index_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(random.below(classes - 1)));
  return out;
}

}  // namespace

TEST_CASE("ctc: the loss is the sum over all alignments; too few frames count for nothing") {
  random_stream random(1);
  int infeasible = 0, repeats = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const index_t frames = tests::between(random, 1, 6), classes = tests::between(random, 2, 4);
    auto of = drawn<double>(random, frames, classes);
    const numbers labels = draw_labels(random, random.below(5), classes);
    const double probability = by_hand(of, labels);
    const auto [found, gradient] = run(of, labels, 0.5);
    CAPTURE(trial);
    CHECK(found.feasible == (probability > 0));
    CHECK(found.feasible == (kernels::ctc_least_frames(labels) <= frames));
    if (!found.feasible) {
      ++infeasible;
      CHECK(found.nll == 0);
      CHECK(std::all_of(gradient.begin(), gradient.end(), [](double one) { return one == 0; }));
      continue;
    }
    repeats += kernels::ctc_least_frames(labels) > static_cast<index_t>(labels.size()) ? 1 : 0;
    CHECK(found.nll == doctest::Approx(-std::log(probability)).epsilon(1e-12));
    for (index_t t = 0; t < frames; ++t) {  // a frame's probabilities add up to 1 whatever the logits
      const double* row = gradient.data() + t * classes;
      CHECK(std::abs(std::accumulate(row, row + classes, 0.0)) < 1e-12);
    }
  }
  CHECK(infeasible > 20);
  CHECK(repeats > 20);
}

TEST_CASE("ctc: gradients are finite differences") {
  random_stream random(2);
  for (int trial = 0; trial < 30; ++trial) {
    const index_t frames = tests::between(random, 1, 12), classes = tests::between(random, 1, 6);
    auto of = drawn<double>(random, frames, classes);
    const numbers labels = classes == 1 ? numbers{} : draw_labels(random, random.below(frames / 2 + 1), classes);
    const double scale = 0.25;
    const auto analytic = run(of, labels, scale).gradient;
    for (std::size_t i = 0; i < of.logits.size(); ++i) {
      double& x = of.logits[i];
      const double before = x, h = 1e-4;
      const auto at = [&](double change) {
        x = before + change;
        const double y = scale * run(of, labels).found.nll;
        x = before;
        return y;
      };
      const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      CHECK(std::abs(analytic[i] - numeric) < 1e-9);
    }
  }
}

TEST_CASE("ctc: PyTorch's losses and gradients") {
  const auto path = [](const char* name) {
    return std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "train" / (std::string("ctc.") + name + ".npy");
  };
  const auto shapes = io::read_npy<std::int32_t>(path("shapes")).values;
  const auto all_labels = io::read_npy<std::int32_t>(path("labels")).values;
  const auto logits = io::read_npy<float>(path("logits")).values;
  const auto gradients = io::read_npy<double>(path("gradients")).values;
  const auto losses = io::read_npy<double>(path("losses")).values;
  REQUIRE(shapes.size() == 3 * losses.size());
  std::size_t first = 0, first_label = 0;
  const auto check = [&]<class T>(std::size_t i, T, double tolerance) {
    const index_t frames = shapes[3 * i], classes = shapes[3 * i + 1];
    const auto size = static_cast<std::size_t>(frames * classes), count = static_cast<std::size_t>(shapes[3 * i + 2]);
    utterance<T> of{{}, frames, classes};
    for (std::size_t j = 0; j < size; ++j) of.logits.push_back(static_cast<T>(logits[first + j]));
    const numbers labels(all_labels.begin() + static_cast<std::ptrdiff_t>(first_label),
                         all_labels.begin() + static_cast<std::ptrdiff_t>(first_label + count));
    const auto out = run(of, labels);
    CHECK(out.found.feasible);
    CHECK(std::abs(out.found.nll - losses[i]) < tolerance * std::max(1.0, losses[i]));
    for (std::size_t j = 0; j < size; ++j) {
      CHECK(std::abs(static_cast<double>(out.gradient[j]) - gradients[first + j]) < tolerance);
    }
    return std::pair(size, count);
  };
  for (std::size_t i = 0; i < losses.size(); ++i) {
    check(i, 0.0f, 1e-6);
    const auto [size, count] = check(i, 0.0, 1e-12);
    first += size;
    first_label += count;
  }
  CHECK(first == logits.size());
  CHECK(first_label == all_labels.size());
}

TEST_CASE("ctc: extreme logits, long utterances, nothing at all") {
  random_stream random(3);
  SUBCASE("sure of the right labels, sure of wrong ones") {
    utterance<float> of{{}, 3, 3};
    of.logits = {1e30f, -1e30f, -1e30f, -1e30f, -1e30f, 1e30f, -1e30f, 1e30f, -1e30f};
    const auto right = run(of, {0, 1});
    CHECK(right.found.nll == 0);
    CHECK(std::all_of(right.gradient.begin(), right.gradient.end(), [](float one) { return one == 0; }));
    const auto wrong = run(of, {1, 0});
    CHECK(wrong.found.nll > 1e30);
    CHECK(std::isfinite(wrong.found.nll));
    CHECK(std::all_of(wrong.gradient.begin(), wrong.gradient.end(), [](float one) { return std::abs(one) <= 1; }));
  }
  SUBCASE("infinite and missing numbers show") {
    auto of = drawn<float>(random, 4, 3);
    for (std::size_t t = 0; t < 4; ++t) of.logits[3 * t] = -std::numeric_limits<float>::infinity();
    CHECK(std::isfinite(run(of, {1}).found.nll));
    CHECK(run(of, {0}).found.nll == std::numeric_limits<double>::infinity());
    of.logits[4] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(run(of, {1}).found.nll));
    CHECK(run(of, {1, 1, 1}).found.nll == 0);  // does not fit, whatever the numbers
  }
  SUBCASE("thousands of frames stay in range") {
    auto of = drawn<float>(random, 3000, 12);
    const auto found = run(of, draw_labels(random, 400, 12)).found;
    CHECK(std::isfinite(found.nll));
    CHECK(found.nll > 0);
  }
  SUBCASE("no labels: all frames are blank") {
    auto of = drawn<double>(random, 5, 4);
    double expected = 0;
    for (index_t t = 0; t < 5; ++t)
      expected += kernels::log_sum_exp(of.logits.data() + 4 * t, 4) - of.logits[static_cast<std::size_t>(4 * t + 3)];
    CHECK(run(of, {}).found.nll == doctest::Approx(expected));
  }
  SUBCASE("no frames") {
    utterance<float> of{{}, 0, 4};
    CHECK(run(of, {}).found.feasible);
    CHECK(run(of, {}).found.nll == 0);
    CHECK_FALSE(run(of, {1}).found.feasible);
  }
  SUBCASE("what does not fit is refused") {
    auto of = drawn<float>(random, 5, 4);
    CHECK_THROWS_AS(run(of, {3}), config_error);  // the blank
    CHECK_THROWS_AS(run(of, {-1}), config_error);
    CHECK_THROWS_AS(run(of, {std::numeric_limits<std::int32_t>::max()}), config_error);
    ops::eval context;
    std::array<ctc_result, 2> two;
    CHECK_THROWS_AS(ops::ctc{}.forward(context, of.view(), std::span<const std::int32_t>(), std::span(two)),
                    shape_error);
  }
}

TEST_CASE("ctc: bits do not depend on threads or instructions, and a gradient that is there is added to") {
  random_stream random(4);
  auto of = drawn<float>(random, 700, 40);
  const numbers labels = draw_labels(random, 60, 40);
  const auto one = run(of, labels);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    const auto other = run(of, labels, 1, 3, which);
    CHECK(other.found.nll == one.found.nll);
    CHECK(tests::same_bits(other.gradient, one.gradient));
  }
  ops::eval context;
  std::vector<float> sum(of.logits.size(), 2);
  ctc_result found;
  const ops::ctc op{1};
  op.forward(context, of.view(), std::span<const std::int32_t>(labels), std::span(&found, 1));
  op.backward(context, ops::dual<float>{of.view(), {sum.data(), {700, 40}}, false},
              std::span<const std::int32_t>(labels), std::span(&found, 1));
  for (std::size_t i = 0; i < sum.size(); ++i) CHECK(std::abs(sum[i] - 2 - one.gradient[i]) < 1e-6f);
}

TEST_CASE("ctc: greedy decoding merges repeats and drops blanks") {
  const auto decode = [](const numbers& path, index_t classes) {
    utterance<float> of{std::vector<float>(path.size() * static_cast<std::size_t>(classes)),
                        static_cast<index_t>(path.size()), classes};
    for (std::size_t t = 0; t < path.size(); ++t) of.view()(static_cast<index_t>(t), path[t]) = 1;
    return ops::ctc_greedy(of.view());
  };
  CHECK(decode({}, 4).empty());
  CHECK(decode({3, 3, 3}, 4).empty());
  CHECK(decode({0, 0, 3, 0, 1, 1, 2, 3, 3, 2, 2}, 4) == numbers{0, 0, 1, 2, 2});
  CHECK(decode({0, 0}, 1).empty());
  utterance<float> ties{{1, 1, 1, 0, 2, 2}, 2, 3};
  CHECK(ops::ctc_greedy(ties.view()) == numbers{0, 1});
  utterance<float> none{std::vector<float>(6, std::numeric_limits<float>::quiet_NaN()), 2, 3};
  CHECK(ops::ctc_greedy(none.view()).empty());
}
