// SPDX-License-Identifier: Apache-2.0
// AdamW against torch.optim.AdamW (golden/train/make_adamw.py), and bits that do not depend on threads.
#include <runnel/train/optimizer.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <runnel/core/rng.hpp>
#include <runnel/io/npy.hpp>

#include "io/support.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::failure;
using runnel_test::holds;

autograd::parameter<float>& add(autograd::parameter_list<float>& to, const std::string& name, index_t rows,
                                index_t columns, bool is_vector = false) {
  auto& one = to.emplace_back();
  one.name = name;
  one.values = tensor<float, 2>({rows, columns});
  one.is_vector = is_vector;
  one.train(true);
  return one;
}

std::vector<float> golden(const std::string& name) {
  return io::read_npy<float>(std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "train" / (name + ".npy")).values;
}

constexpr std::size_t total = 102, num_steps = 6;

/// The largest difference from torch's weights after any step.
double difference_from_torch(const std::string& name, const adamw_options& options, double clip,
                             const std::vector<double>& rates, int threads) {
  autograd::parameter_list<float> list;
  add(list, "a", 5, 7);
  add(list, "b", 1, 19, true);
  add(list, "c", 3, 16);
  const auto each = [&](auto&& f) {
    std::size_t at = 0;
    for (auto& one : list) {
      for (index_t i = 0; i < one.values.size(); ++i) f(one, i, at++);
    }
    REQUIRE(at == total);
  };
  const auto initial = golden("adamw.initial"), gradients = golden("adamw.gradients"),
             expected = golden("adamw." + name);
  each([&](auto& one, index_t i, std::size_t at) { one.values.data()[i] = initial[at]; });
  adamw optimizer(list, options);
  thread_team team(threads);
  double most = 0;
  for (std::size_t step = 0; step < num_steps; ++step) {
    each([&](auto& one, index_t i, std::size_t at) { one.gradient.data()[i] = gradients[step * total + at]; });
    optimizer.step(rates[step], adamw::clip_factor(optimizer.gradient_norm(team), clip), team);
    each([&](auto& one, index_t i, std::size_t at) {
      const double off = static_cast<double>(one.values.data()[i]) - static_cast<double>(expected[step * total + at]);
      most = std::max(most, std::fabs(off));
      CHECK(one.gradient.data()[i] == 0);
    });
  }
  CHECK(optimizer.steps() == static_cast<index_t>(num_steps));
  return most;
}

TEST_CASE("updates are those of torch: clipped, with decay of matrices alone") {
  const adamw_options options{0.9, 0.999, 1e-8, 0.1, false};
  for (const int threads : {1, 3}) {
    CHECK(difference_from_torch("clipped", options, 1, std::vector<double>(6, 1e-2), threads) <= 1e-6);
  }
  // What must not pass unnoticed: each of the options.
  CHECK(difference_from_torch("clipped", options, 0, std::vector<double>(6, 1e-2), 1) > 1e-4);
  CHECK(difference_from_torch("clipped", {0.9, 0.999, 1e-8, 0.1, true}, 1, std::vector<double>(6, 1e-2), 1) > 1e-4);
}

TEST_CASE("updates are those of torch: other betas, a large epsilon, changing rates, decay of all") {
  const std::vector<double> rates{1e-3, 5e-3, 2e-2, 2e-2, 1e-2, 3e-3};
  CHECK(difference_from_torch("bounded", {0.8, 0.95, 1e-3, 0.01, true}, 0, rates, 2) <= 1e-6);
  CHECK(difference_from_torch("bounded", {0.8, 0.95, 1e-8, 0.01, true}, 0, rates, 2) > 1e-5);
}

/// Sizes that leave rests in registers and in pieces.
autograd::parameter_list<float> large_model(std::uint64_t seed) {
  autograd::parameter_list<float> list;
  random_stream random(seed);
  const auto fill = [&](tensor<float, 2>& values) {
    for (float& value : values.values()) value = static_cast<float>(random.uniform() - 0.5);
  };
  for (const auto& [rows, columns] : {std::pair<index_t, index_t>{129, 257}, {1, 1}, {3, 16384}, {1, 16385}, {2, 3}}) {
    auto& one = add(list, message("p", list.size()), rows, columns, rows == 1);
    fill(one.values);
    fill(one.gradient);
  }
  return list;
}

TEST_CASE("the bits of norm and update do not depend on the number of threads") {
  std::vector<std::vector<float>> weights;
  std::vector<double> norms;
  for (const int threads : {1, 2, 5}) {
    auto list = large_model(7);
    thread_team team(threads);
    adamw optimizer(list, {});
    double norm = 0;
    random_stream random(3);
    for (int step = 0; step < 3; ++step) {
      norm = optimizer.gradient_norm(team);
      optimizer.step(1e-3, adamw::clip_factor(norm, 1), team);
      for (auto& one : list) {
        for (float& value : one.gradient.values()) value = static_cast<float>(random.uniform() - 0.5);
      }
    }
    auto& all = weights.emplace_back();
    for (const auto& one : list) all.insert(all.end(), one.values.data(), one.values.data() + one.values.size());
    norms.push_back(norm);
  }
  CHECK(weights[0] == weights[1]);
  CHECK(weights[0] == weights[2]);
  CHECK(norms[0] == norms[1]);
  CHECK(norms[0] == norms[2]);
}

TEST_CASE("the norm is that of all gradients, also where a float's square would not fit") {
  autograd::parameter_list<float> list;
  add(list, "a", 2, 17).gradient.values()[20] = 3e30f;
  add(list, "b", 1, 5, true).gradient.values()[4] = 4e30f;
  thread_team team(1);
  adamw optimizer(list, {});
  CHECK(optimizer.gradient_norm(team) == doctest::Approx(5e30).epsilon(1e-7));
  CHECK(optimizer.first_non_finite().empty());
  list[1].gradient.values()[3] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(std::isfinite(optimizer.gradient_norm(team)));
  CHECK(optimizer.first_non_finite() == "b");
  list[0].gradient.values()[33] = std::numeric_limits<float>::quiet_NaN();
  CHECK(optimizer.first_non_finite() == "a");
  optimizer.clear_gradients(team);
  CHECK(optimizer.gradient_norm(team) == 0);
  CHECK(optimizer.steps() == 0);
}

TEST_CASE("frozen parameters stay, and options that make no sense are refused") {
  autograd::parameter_list<float> list;
  add(list, "a", 2, 3).values.values()[0] = 1;
  list[0].train(false);
  CHECK(holds(failure<config_error>([&] { adamw(list, {}); }), "no parameter can be trained"));
  add(list, "b", 2, 3).gradient.values()[1] = 1;
  thread_team team(1);
  adamw optimizer(list, {});
  optimizer.step(0.1, 1, team);
  CHECK(list[0].values.values()[0] == 1);
  CHECK(list[1].values.values()[1] == doctest::Approx(-0.1));
  CHECK(optimizer.state().size() == 1);
  CHECK(holds(failure<config_error>([&] { adamw(list, {1.0, 0.9, 1e-8, 0, false}); }), "beta1"));
  CHECK(holds(failure<config_error>([&] { adamw(list, {0.9, -0.1, 1e-8, 0, false}); }), "beta2"));
  CHECK(holds(failure<config_error>([&] { adamw(list, {0.9, 0.9, std::nan(""), 0, false}); }), "epsilon"));
  CHECK(holds(failure<config_error>([&] { adamw(list, {0.9, 0.9, 1e-8, -1, false}); }), "weight decay"));
}

}  // namespace
