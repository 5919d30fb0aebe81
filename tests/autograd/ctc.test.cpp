// SPDX-License-Identifier: Apache-2.0
//
// CTC on a tape: several utterances whose logits come out of one product.

#include <runnel/ops/ctc.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/autograd/tape.hpp>

#include "support/random_values.hpp"

TEST_CASE("ctc: utterances that are parts of one value on a tape") {
  using namespace runnel;
  random_stream random(1);
  autograd::parameter<double> weight;
  weight.values = tensor<double, 2>({20, 5});
  const auto values = tests::normals<double>(random, weight.values.size());
  std::copy(values.begin(), values.end(), weight.values.data());
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 20; ++i) ids.push_back(i);
  const std::vector<std::int32_t> first{1, 1, 3}, second{0, 2}, long_one(9, 0);
  std::array<kernels::ctc_result, 3> found;

  const auto loss = [&](bool backward) {
    autograd::tape<double> tape({2, ops::compute_mode::f32, best_instruction_set});
    tape.reset();
    tape.record(backward);
    double sum = 0;
    tape.team.run([&] {
      const auto y = tape(ops::embedding{}, std::span<const std::int32_t>(ids), autograd::matrix_parameter(weight));
      const std::array<index_t, 4> ends{0, 8, 13, 20};
      const std::array<std::span<const std::int32_t>, 3> labels{first, second, long_one};
      for (std::size_t i = 0; i < 3; ++i) {
        tape(ops::ctc{0.5}, y.slice(ends[i], ends[i + 1]), labels[i], std::span(found).subspan(i, 1));
        sum += 0.5 * found[i].nll;
      }
      tape.backward();
    });
    return sum;
  };
  weight.train(true);
  loss(true);
  CHECK(found[0].feasible);
  CHECK(found[1].feasible);
  CHECK_FALSE(found[2].feasible);
  for (index_t i = 0; i < weight.values.size(); ++i) {
    double& x = weight.values.data()[i];
    const double before = x, h = 1e-4;
    const auto at = [&](double change) {
      x = before + change;
      const double y = loss(false);
      x = before;
      return y;
    };
    const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    CAPTURE(i);
    CHECK(std::abs(weight.gradient.data()[i] - numeric) < 1e-9);
    if (i >= 13 * 5) CHECK(weight.gradient.data()[i] == 0);
  }
}
