// SPDX-License-Identifier: Apache-2.0
//
// The gradient rule of every op against finite differences in double, and what a tape does with blocks and memory.

#include <runnel/autograd/tape.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/autograd/key_store.hpp>
#include <runnel/ops/conv1d.hpp>
#include <runnel/ops/cross_entropy.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using autograd::matrix_parameter;
using autograd::parameter;
using autograd::parameter_list;
using autograd::vector_parameter;
using tape_type = autograd::tape<double>;
using value = tape_type::value;

/// Parameters, and something computed from them.
struct subject {
  parameter_list<double> parameters;
  std::function<value(tape_type&)> compute;

  explicit subject(random_stream& random) : random_(random) {}

  parameter<double>& add(index_t rows, index_t columns, double scale = 1) {
    auto& out = parameters.emplace_back();
    out.values = tensor<double, 2>({rows, columns});
    const auto values = tests::normals<double>(random_, rows * columns, scale);
    std::copy(values.begin(), values.end(), out.values.data());
    out.train(true);
    return out;
  }

 private:
  random_stream& random_;
};

/// A parameter as rows that ops take: the embedding of rows 0 to n - 1.
value as_rows(tape_type& tape, parameter<double>& from) {
  const index_t n = from.values.size(0);
  std::int32_t* const ids = tape.memory.take<std::int32_t>(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(i);
  return tape(ops::embedding{}, std::span<const std::int32_t>(ids, static_cast<std::size_t>(n)),
              matrix_parameter<double>(from));
}

/// Sum of the result's numbers, each times a fixed one; with `backward`, its gradients too.
double weighed(subject& of, instruction_set which, const std::vector<double>& weights, bool backward,
               const autograd::tape_options& options) {
  tape_type tape({backward ? 2 : 1, ops::compute_mode::f32, which});
  tape.reset(options);
  double sum = 0;
  tape.team.run([&] {
    const value y = of.compute(tape);
    const auto numbers = y.data();
    REQUIRE(static_cast<std::size_t>(numbers.size()) <= weights.size());
    for (index_t i = 0; i < numbers.size(); ++i) {
      sum += numbers.data()[i] * weights[static_cast<std::size_t>(i)];
    }
    if (!backward) return;
    std::copy_n(weights.begin(), numbers.size(), tape.gradient(y).data());
    tape.backward();
  });
  return sum;
}

/// Every element of every gradient, or some two hundred of each that is large.
void check_all(subject& of, random_stream& random, const autograd::tape_options& options = {}) {
  const auto weights = tests::normals<double>(random, 8192);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    for (auto& one : of.parameters) one.train(true);
    weighed(of, which, weights, true, options);
    for (auto& one : of.parameters) {
      const index_t step = 1 + one.values.size() / 200;
      for (index_t i = random.below(step); i < one.values.size(); i += step) {
        double& x = one.values.data()[i];
        const double before = x, h = 1e-4;
        const auto at = [&](double change) {
          x = before + change;
          const double y = weighed(of, which, weights, false, options);
          x = before;
          return y;
        };
        const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        const double found = one.gradient.data()[i];
        CAPTURE(i);
        CHECK(std::abs(found - numeric) <= 1e-6 * std::max(1.0, std::abs(found)));
      }
    }
  }
}

}  // namespace

TEST_CASE("product with bias: x, weight and bias") {
  random_stream random(1);
  for (const std::array<index_t, 3> size : {std::array<index_t, 3>{5, 7, 3}, {17, 18, 33}}) {
    subject of(random);
    auto& x = of.add(size[0], size[1]);
    auto& w = of.add(size[2], size[1]);
    auto& b = of.add(1, size[2]);
    of.compute = [&](tape_type& tape) {
      return tape(ops::product{}, as_rows(tape, x), matrix_parameter<double>(w), vector_parameter<double>(b));
    };
    check_all(of, random);
  }
}

TEST_CASE("norms: rows, heads, layer norm with and without bias") {
  random_stream random(2);
  for (int kind = 0; kind < 4; ++kind) {
    subject of(random);
    auto& x = of.add(4, 18);
    auto& w = of.add(1, kind == 1 ? 6 : 18);
    auto& b = of.add(1, 18);
    of.compute = [&](tape_type& tape) {
      const value in = as_rows(tape, x);
      const vector_parameter<double> weight(w), bias(b);
      if (kind == 0) return tape(ops::rms_norm{1e-3f, 1}, in, weight);
      if (kind == 1) return tape(ops::rms_norm_of_heads{1e-3f, 0}, in, weight);
      if (kind == 2) return tape(ops::layer_norm{1e-3f}, in, weight, bias);
      return tape(ops::layer_norm{1e-3f}, in, weight, vector_parameter<double>());
    };
    check_all(of, random);
  }
}

TEST_CASE("sums, in-place sums, biases, soft-caps, gates, selected rows") {
  random_stream random(3);
  const std::array<index_t, 4> rows{2, 0, 2, 3};
  for (int kind = 0; kind < 8; ++kind) {
    subject of(random);
    auto& a = of.add(4, 19);
    auto& b = of.add(4, 19);
    auto& c = of.add(1, 19);
    of.compute = [&](tape_type& tape) -> value {
      const value x = as_rows(tape, a), y = as_rows(tape, b);
      switch (kind) {
        case 0: return tape(ops::add{}, tape(ops::add{}, x, y), x);
        case 1: return tape(ops::add_scaled{-1.5f}, x, y);
        case 2: return tape(ops::add_bias{}, x, vector_parameter<double>(c));
        case 3: return tape(ops::soft_cap{0.7f}, x);
        case 7: return tape(ops::select_rows{}, x, std::span<const index_t>(rows));
        default: return tape(ops::gated_activation{static_cast<kernels::activation>(kind - 4)}, x, y);
      }
    };
    check_all(of, random);
  }
  // One value in two places.
  for (int kind = 0; kind < 3; ++kind) {
    subject of(random);
    auto& a = of.add(3, 19);
    of.compute = [&](tape_type& tape) -> value {
      const value x = as_rows(tape, a);
      if (kind == 0) return tape(ops::gated_activation{}, x, x);
      const value z = tape(ops::add{}, x, x);
      return kind == 1 ? tape(ops::add{}, z, z) : tape(ops::gated_activation{kernels::activation::gelu}, z, z);
    };
    check_all(of, random);
  }
  CHECK(static_cast<int>(kernels::activation::gelu_tanh) == 2);  // cases 4 to 6 are all kinds
}

TEST_CASE("a value that is used twice, in slices and whole, gathers all gradients") {
  random_stream random(4);
  subject of(random);
  auto& a = of.add(6, 5);
  auto& w = of.add(5, 5);
  of.compute = [&](tape_type& tape) {
    const value x = as_rows(tape, a);
    const value low = tape(ops::product{}, x.slice(0, 2), matrix_parameter<double>(w));
    const value all = tape(ops::product{}, x, matrix_parameter<double>(w));
    tape(ops::add_scaled{2}, all.slice(3, 5), low);
    return tape(ops::add{}, all, x);
  };
  check_all(of, random);
}

TEST_CASE("activations by themselves, padded frames") {
  random_stream random(15);
  for (const auto kind : {kernels::activation::gelu, kernels::activation::gelu_tanh, kernels::activation::silu}) {
    subject of(random);
    auto& a = of.add(3, 19, 2);
    of.compute = [&](tape_type& tape) {
      const value x = as_rows(tape, a);
      return tape(ops::add{}, tape(ops::pad_frames{2, 1}, tape(ops::activation{kind}, x)),
                  tape(ops::pad_frames{0, 3}, x));
    };
    check_all(of, random);
  }
}

TEST_CASE("convolutions: kernels, strides, groups") {
  random_stream random(5);
  struct form {
    index_t frames, inputs, outputs;
    ops::conv1d how;
  };
  for (const form& now : {form{9, 3, 4, {3, 2, 1}}, form{7, 4, 6, {4, 1, 2}}, form{12, 1, 5, {5, 3, 1}},
                          form{6, 6, 6, {2, 2, 6}}, form{2, 3, 2, {3, 1, 1}}}) {
    subject of(random);
    auto& x = of.add(now.frames, now.inputs);
    auto& w = of.add(now.outputs, now.how.kernel * now.inputs / now.how.groups);
    auto& b = of.add(1, now.outputs);
    of.compute = [&](tape_type& tape) {
      return tape(now.how, as_rows(tape, x), matrix_parameter<double>(w), vector_parameter<double>(b));
    };
    check_all(of, random);
    // The result by its definition.
    tape_type tape;
    const value y = of.compute(tape);
    const index_t per = now.inputs / now.how.groups, out_per = now.outputs / now.how.groups;
    REQUIRE(y.size(0) == now.how.frames_out(now.frames));
    for (index_t t = 0; t < y.size(0); ++t) {
      for (index_t o = 0; o < now.outputs; ++o) {
        double sum = b.values(0, o);
        for (index_t k = 0; k < now.how.kernel; ++k) {
          for (index_t i = 0; i < per; ++i) {
            sum += x.values(t * now.how.stride + k, o / out_per * per + i) * w.values(o, k * per + i);
          }
        }
        CHECK(y.data()(t, o) == doctest::Approx(sum));
      }
    }
  }
}

TEST_CASE("cross-entropy with smoothing: value and gradient") {
  random_stream random(6);
  for (const double smoothing : {0.0, 0.1}) {
    subject of(random);
    auto& x = of.add(5, 21, 2);
    const std::array<std::int32_t, 5> labels{3, 20, 0, 7, 7};
    for (index_t j = 0; j < 21; ++j) x.values(2, j) = x.values(3, j) = 0.5;  // ties: right for the first label alone
    std::array<kernels::cross_entropy_row, 5> rows;
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      const auto loss = [&](bool backward) {
        tape_type tape({backward ? 2 : 1, ops::compute_mode::f32, which});
        const value logits = as_rows(tape, x);
        tape(ops::cross_entropy{smoothing, 0.25}, logits, std::span<const std::int32_t>(labels),
             std::span<kernels::cross_entropy_row>(rows));
        if (backward) tape.backward();
        double sum = 0;
        for (const auto& row : rows) sum += row.loss;
        return sum;
      };
      x.train(true);
      loss(true);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto at = static_cast<index_t>(i);
        double total = 0, mean = 0;
        for (index_t j = 0; j < 21; ++j) {
          total += std::exp(x.values(at, j));
          mean += x.values(at, j) / 21;
        }
        const double nll = std::log(total) - x.values(at, labels[i]);
        bool first = true;
        for (index_t j = 0; j < 21; ++j) {
          const bool before = j < labels[i];
          const double other = x.values(at, j), own = x.values(at, labels[i]);
          if (before ? other >= own : other > own) first = false;
        }
        CHECK(rows[i].likeliest_is_right == first);
        CHECK(rows[i].nll == doctest::Approx(nll));
        CHECK(rows[i].loss == doctest::Approx((1 - smoothing) * nll + smoothing * (std::log(total) - mean)));
      }
      for (index_t i = 0; i < x.values.size(); ++i) {
        double& number = x.values.data()[i];
        const double before = number;
        number = before + 1e-5;
        const double above = loss(false);
        number = before - 1e-5;
        const double below = loss(false);
        number = before;
        CHECK(x.gradient.data()[i] == doctest::Approx(0.25 * (above - below) / 2e-5).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("dropout keeps its share, scales, and drops the same on the way back") {
  random_stream random(7);
  subject of(random);
  auto& x = of.add(6, 37);
  of.compute = [&](tape_type& tape) { return tape.drop(tape.drop(as_rows(tape, x))); };
  check_all(of, random, {.dropout = 0.3, .seed = 9});
  const kernels::drop_rule rule(0.25, 3);
  std::vector<float> ones(100000, 1.0f), out(ones.size());
  kernels::drop<simd::best_arch>(rule, 5, ones.data(), static_cast<index_t>(ones.size()), out.data(), true);
  const auto kept = std::count_if(out.begin(), out.end(), [](float v) { return v != 0; });
  CHECK(std::abs(static_cast<double>(kept) / 100000 - 0.75) < 0.01);
  CHECK(*std::max_element(out.begin(), out.end()) == doctest::Approx(1 / 0.75));
  tape_type tape;
  CHECK_THROWS_AS(tape.reset({.dropout = 1}), config_error);
}

TEST_CASE("range attention over two segments: queries, keys and values") {
  random_stream random(8);
  for (int turn = 0; turn < 6; ++turn) {
    const index_t kv_heads = tests::between(random, 1, 2), group_size = tests::between(random, 1, 2);
    const index_t head_dim = 2 * tests::between(random, 1, 9);
    const index_t sources = turn == 4 ? 70 : tests::between(random, 1, 4), targets = turn == 4 ? 5 : 3;
    const index_t rows = sources + targets;
    row_table table;
    for (index_t r = 0; r < rows; ++r) {
      const bool target = r >= sources;
      const index_t at = target ? r - sources : r;
      const auto limit = [&](index_t most) { return static_cast<std::int32_t>(random.below(most + 1)); };
      key_range source{0, limit(sources)}, own{0, limit(targets)};
      if (random.below(3) == 0) source.begin = std::min(source.end, limit(sources));
      if (random.below(4) == 0) source = own = {};
      table.add({target ? group::target : group::source, 0.7 * static_cast<double>(at), at}, source,
                turn % 2 == 0 ? 0.0 : 1.5 * static_cast<double>(r), own, 0);
    }
    // Two more streams in the same pass: one without rows, and a short one with other offsets.
    row_table none, brief;
    brief.add({group::source, 0, 0}, {0, 1}, 0, {}, 0);
    brief.add({group::target, 5, 0}, {0, 1}, turn % 3 == 0 ? 2.5 : 0.0, {0, 1}, 0);
    const index_t all = rows + brief.size();
    subject of(random);
    auto& q = of.add(all, kv_heads * group_size * head_dim);
    auto& k = of.add(all, kv_heads * head_dim);
    auto& v = of.add(all, kv_heads * head_dim);
    const std::vector<double> frequencies(static_cast<std::size_t>(head_dim / 2), 0.4);
    ops::range_attention how{kv_heads * group_size, kv_heads, head_dim, 0.6f, turn % 3 == 0 ? 1.3f : 0.0f};
    of.compute = [&](tape_type& tape) {
      const value queries = as_rows(tape, q), keys = as_rows(tape, k), values = as_rows(tape, v);
      using store_type = autograd::key_store<double>;
      constexpr std::size_t count = 3;
      auto* const stream = tape.memory.take<ops::attention_stream<store_type>>(count);
      stream[0] = {&table, {tape(ops::rotary_table{frequencies, 1.1}, table)}, nullptr, 0};
      stream[1] = {&none, {tape(ops::rotary_table{frequencies, 1.1}, none)}, nullptr, rows};
      stream[2] = {&brief, {tape(ops::rotary_table{frequencies, 1.1}, brief)}, nullptr, rows};
      const int rotary = turn == 5 ? ops::no_rotary : 0;
      // The store has to outlive this call.
      static std::vector<std::unique_ptr<store_type>> stores;
      const std::array<std::array<index_t, num_groups>, count> sizes{{{sources, targets}, {0, 0}, {1, 1}}};
      for (std::size_t i = 0; i < count; ++i) {
        stores.push_back(std::make_unique<store_type>(1, kv_heads, head_dim, sizes[i], tape.memory));
        stream[i].store = stores.back().get();
      }
      const ops::attention_streams<store_type> streams(stream, count);
      const index_t layer = 0;
      const value out = tape.make(all, kv_heads * group_size * head_dim);
      tape(ops::store_keys{head_dim}, keys, values, streams, rotary, layer);
      tape(how, queries, streams, rotary, layer, out);
      return out;
    };
    check_all(of, random);
  }
}

TEST_CASE("a block that is run again gives the same bits and gradients") {
  random_stream random(9);
  subject of(random);
  auto& a = of.add(5, 8);
  auto& w = of.add(8, 8);
  of.compute = [&](tape_type& tape) {
    value x = as_rows(tape, a);
    for (int layer = 0; layer < 3; ++layer) {
      x = tape.block(x, [&tape, &w](const value& in) {
        const value y = tape.drop(tape(ops::product{}, in, matrix_parameter<double>(w)));
        const value z = tape.block(in, [&tape, y](const value& inner) { return tape(ops::add{}, inner, y); });
        return tape(ops::add{}, in, tape(ops::gated_activation{}, z, in));
      });
    }
    return x;
  };
  const auto weights = tests::normals<double>(random, 40);
  std::vector<std::vector<double>> found;
  for (const bool again : {false, true}) {
    for (auto& one : of.parameters) one.train(true);
    const double sum = weighed(of, best_instruction_set, weights, true, {again, 0.2, 0, 5});
    auto& all = found.emplace_back(1, sum);
    for (auto& one : of.parameters)
      all.insert(all.end(), one.gradient.data(), one.gradient.data() + one.gradient.size());
  }
  CHECK(tests::same_bits(found[0], found[1]));
  check_all(of, random, {true, 0.2, 0, 5});
}

TEST_CASE("a tape that does not record gives the same and remembers nothing") {
  random_stream random(10);
  subject of(random);
  auto& a = of.add(3, 4);
  auto& w = of.add(4, 4);
  tape_type tape;
  const auto run = [&](bool record) {
    tape.reset();
    tape.record(record);
    const value x = as_rows(tape, a);
    const value y =
        tape.block(x, [&](const value& in) { return tape(ops::product{}, in, matrix_parameter<double>(w)); });
    return std::vector<double>(y.data().data(), y.data().data() + y.data().size());
  };
  const auto recorded = run(true), forward_alone = run(false);
  CHECK(tests::same_bits(recorded, forward_alone));
  tape.backward();
  for (const double g : w.gradient.values()) CHECK(g == 0);
}

TEST_CASE("the first block whose result is not finite is named") {
  random_stream random(11);
  subject of(random);
  auto& a = of.add(2, 3);
  tape_type tape;
  for (const std::size_t bad : {std::size_t{0}, std::size_t{2}}) {
    tape.reset({.watch = true});
    value x = as_rows(tape, a);
    for (std::size_t i = 0; i < 4; ++i) {
      x = tape.block(x, [&](const value& in) {
        const value y = tape(ops::add{}, in, in);
        if (i == bad) y.data()(1, 1) = std::numeric_limits<double>::quiet_NaN();
        return y;
      });
    }
    CHECK(tape.first_non_finite_block() == bad);
  }
  tape.reset();
  CHECK_FALSE(tape.first_non_finite_block().has_value());
}

TEST_CASE("frozen weights get no gradient, what is before them does") {
  random_stream random(12);
  subject of(random);
  auto& a = of.add(3, 4);
  auto& w = of.add(4, 4);
  w.train(false);
  tape_type tape;
  const value y = tape(ops::product{}, as_rows(tape, a), matrix_parameter<double>(w));
  std::fill_n(tape.gradient(y).data(), 12, 1.0);
  tape.backward();
  CHECK(w.gradient.size() == 0);
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 4; ++j) {
      double sum = 0;
      for (index_t n = 0; n < 4; ++n) sum += w.values(n, j);
      CHECK(a.gradient(i, j) == doctest::Approx(sum));
    }
  }
}
