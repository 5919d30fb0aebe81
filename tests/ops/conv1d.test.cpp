// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <runnel/ops/conv1d.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;

TEST_CASE("packed convolutions give what the matrix in memory gives, groups and rows alone too") {
  struct form {
    index_t frames, inputs, outputs;
    ops::conv1d how;
  };
  random_stream random(1);
  for (const form& now : {form{9, 3, 40, {3, 2, 1}}, form{30, 96, 96, {7, 1, 2}}, form{20, 64, 64, {4, 1, 16}},
                          form{50, 1, 33, {10, 5, 1}}, form{2, 4, 4, {3, 1, 1}}}) {
    const index_t inner = now.how.kernel * now.inputs / now.how.groups;
    const auto weights = tests::normals<float>(random, now.outputs * inner);
    const auto biases = tests::normals<float>(random, now.outputs);
    const auto values = tests::normals<float>(random, now.frames * now.inputs);
    const auto packed = ops::prepared_matrix::prepare(
        {quant::weight_format::f32, now.outputs, inner, std::as_bytes(std::span(weights)), {}});
    const tensor_view<const float, 2> plain(weights.data(), {now.outputs, inner});
    const tensor_view<const float, 1> bias(biases.data(), {now.outputs});
    for (const auto which : tests::runnable_instruction_sets()) {
      const auto run = [&](int threads, const auto& weight, index_t first, index_t count) {
        ops::eval context({threads, ops::compute_mode::f32, which});
        std::vector<float> out;
        context.team.run([&] {
          const auto x = context.make(count, now.inputs);
          std::copy_n(values.data() + first * now.inputs, x.size(), x.data());
          const auto y = context(now.how, x, weight, bias);
          out.assign(y.data(), y.data() + y.size());
        });
        return out;
      };
      const auto all = run(1, packed, 0, now.frames);
      CHECK(static_cast<index_t>(all.size()) == now.how.frames_out(now.frames) * now.outputs);
      CHECK(tests::same_bits(run(3, packed, 0, now.frames), all));
      const auto other = run(1, plain, 0, now.frames);
      REQUIRE(other.size() == all.size());
      for (std::size_t i = 0; i < all.size(); ++i) CHECK(std::fabs(all[i] - other[i]) < 1e-4f);
      for (index_t row = 0; row < now.how.frames_out(now.frames); ++row) {
        const auto alone = run(1, packed, row * now.how.stride, now.how.kernel);
        CHECK(tests::same_bits(std::span<const float>(alone),
                               std::span<const float>(all).subspan(static_cast<std::size_t>(row * now.outputs),
                                                                   static_cast<std::size_t>(now.outputs))));
      }
    }
  }
}

TEST_CASE("packed convolutions that do not fit are refused") {
  const std::vector<float> weights(6 * 4);
  const auto packed =
      ops::prepared_matrix::prepare({quant::weight_format::f32, 6, 4, std::as_bytes(std::span(weights)), {}});
  ops::eval context;
  const auto x = context.make(5, 2);
  CHECK(context(ops::conv1d{2, 1, 1}, x, packed).size(0) == 4);
  CHECK_THROWS_AS((void)context(ops::conv1d{3, 1, 1}, x, packed), shape_error);
  CHECK_THROWS_AS((void)context(ops::conv1d{2, 1, 2}, x, packed), shape_error);
  CHECK_THROWS_AS((void)context(ops::conv1d{2, 0, 1}, x, packed), shape_error);
  CHECK_THROWS_AS((void)context(ops::conv1d{4, 1, 4}, x, packed), shape_error);
}

}  // namespace
