// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/product.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <runnel/kernels/reference/product.hpp>
#include <runnel/ops/prepared_matrix.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using quant::weight_format;

/// A packed matrix and what its blocks decode to.
struct weights {
  ops::prepared_matrix packed;
  std::vector<double> values;  // [outputs, inputs]
};

weights random_weights(random_stream& random, weight_format format, index_t outputs, index_t inputs, double scale = 1) {
  const auto values = tests::normals<float>(random, outputs * inputs, scale);
  std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(format, values.size())));
  quant::encode(format, values.data(), values.size(), bytes.data());
  std::vector<float> decoded(values.size());
  quant::decode(format, bytes.data(), values.size(), decoded.data());
  return {ops::prepared_matrix::prepare({format, outputs, inputs, bytes, {}}), {decoded.begin(), decoded.end()}};
}

/// One product of random shape, with gaps between rows that must be neither read nor written.
template <class T>
struct problem {
  static constexpr T guard = static_cast<T>(-12345);
  weights w;
  index_t rows = 0, outputs = 0, inputs = 0, x_stride = 0, y_stride = 0, shift = 0;
  std::vector<T> x, bias;

  problem(random_stream& random, weight_format format, index_t row_count, index_t output_count, index_t input_count)
      : w(random_weights(random, format, output_count, input_count)),
        rows(row_count),
        outputs(output_count),
        inputs(input_count),
        x_stride(inputs + random.below(5)),
        y_stride(outputs + random.below(5)),
        shift(random.below(3)) {
    x = tests::normals<T>(random, shift + rows * x_stride);
    // Whatever stands between rows is poison.
    for (index_t i = 0; i < shift; ++i) x[static_cast<std::size_t>(i)] = std::numeric_limits<T>::quiet_NaN();
    for (index_t r = 0; r < rows; ++r) {
      for (index_t i = inputs; i < x_stride; ++i) row(r)[i] = std::numeric_limits<T>::quiet_NaN();
    }
    if (random.below(2) == 1) bias = tests::normals<T>(random, outputs);
  }

  T* row(index_t r) { return x.data() + shift + r * x_stride; }

  /// Rows [first, first + count), panels one by one from the last if `backwards`. Gives [count, outputs].
  std::vector<T> run(instruction_set which, index_t first, index_t count, bool backwards = false) {
    std::vector<T> y(static_cast<std::size_t>(shift + count * y_stride), guard);
    kernels::product_args<T> args{w.packed.words(),
                                  w.packed.format(),
                                  outputs,
                                  inputs,
                                  row(first),
                                  x_stride,
                                  count,
                                  y.data() + shift,
                                  y_stride,
                                  bias.empty() ? nullptr : bias.data()};
    auto scratch = aligned_buffer<T>::for_overwrite(kernels::product_scratch);
    std::fill(scratch.data(), scratch.data() + scratch.size(), std::numeric_limits<T>::quiet_NaN());
    const index_t panels = kernels::panel_count(outputs);
    simd::with_arch(which, [&]<class Arch>(Arch) {
      using arithmetic = kernels::plain_arithmetic<T>;
      if (!backwards) return kernels::product<Arch, arithmetic>(args, 0, panels, scratch.data());
      for (index_t p = panels; p-- > 0;) kernels::product<Arch, arithmetic>(args, p, p + 1, scratch.data());
    });
    std::vector<T> out;
    bool untouched = std::all_of(y.begin(), y.begin() + shift, [](T value) { return value == guard; });
    for (index_t r = 0; r < count; ++r) {
      const T* at = y.data() + shift + r * y_stride;
      out.insert(out.end(), at, at + outputs);
      for (index_t i = outputs; i < y_stride; ++i) untouched = untouched && at[i] == guard;
    }
    CHECK(untouched);
    return out;
  }

  /// Largest error in units of what rounding allows: 1 is the limit.
  double error(const std::vector<T>& found) {
    std::vector<T> dense;
    for (index_t r = 0; r < rows; ++r) dense.insert(dense.end(), row(r), row(r) + inputs);
    std::vector<double> y(static_cast<std::size_t>(rows * outputs)), magnitude(y.size());
    kernels::reference::product<T>(dense, w.values, bias, rows, outputs, inputs, y);
    auto absolute = [](auto values) {
      for (auto& value : values) value = std::fabs(value);
      return values;
    };
    const auto x_size = absolute(dense), b_size = absolute(bias);
    const auto w_size = absolute(w.values);
    kernels::reference::product<T>(x_size, w_size, b_size, rows, outputs, inputs, magnitude);
    double most = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double allowed = static_cast<double>(2 * inputs + 2) *
                                 static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * magnitude[i] +
                             static_cast<double>(inputs) * static_cast<double>(std::numeric_limits<T>::denorm_min());
      const double difference = std::fabs(static_cast<double>(found[i]) - y[i]);
      most = std::isnan(difference) ? INFINITY : std::max(most, difference / allowed);
    }
    return most;
  }
};

index_t random_inputs(random_stream& random, weight_format format) {
  const auto block = static_cast<index_t>(quant::info(format).block_size);
  switch (random.below(4)) {
    case 0: return block * tests::between(random, 1, 3);
    case 1: return block * tests::between(random, 1, block == 1 ? 70 : 5);
    case 2:
      return block == 1 ? tests::between(random, 500, 530) : 512;  // around one decoded stretch
    // Floats that are multiplied as they lie have a second stretch from 2048 inputs on.
    default: return block == 1 ? tests::between(random, 2030, 2090) : block == 32 ? 544 : 768;
  }
}

template <class T>
void check_random_shapes(random_stream& random, int turns) {
  for (int turn = 0; turn < turns; ++turn) {
    for (const auto& format : quant::all_formats) {
      problem<T> task(random, format.format, tests::between(random, 1, turn % 3 == 0 ? 40 : 9),
                      tests::between(random, 1, 100), random_inputs(random, format.format));
      CAPTURE(std::string(format.name));
      CAPTURE(task.rows);
      CAPTURE(task.outputs);
      CAPTURE(task.inputs);
      for (const instruction_set which : tests::runnable_instruction_sets()) {
        CAPTURE(name_of(which));
        const auto all = task.run(which, 0, task.rows);
        CHECK(task.error(all) <= 1);
        // Row purity: any split of rows and panels gives the same bits.
        CHECK(tests::same_bits(task.run(which, 0, task.rows, true), all));
        const auto part = [&](index_t first, index_t count) {
          return std::span<const T>(all).subspan(static_cast<std::size_t>(first * task.outputs),
                                                 static_cast<std::size_t>(count * task.outputs));
        };
        for (index_t r = 0; r < task.rows; ++r) {
          CHECK(tests::same_bits(std::span<const T>(task.run(which, r, 1)), part(r, 1)));
        }
        for (int split = 0; split < 3; ++split) {
          const index_t first = random.below(task.rows), count = tests::between(random, 1, task.rows - first);
          CHECK(tests::same_bits(std::span<const T>(task.run(which, first, count)), part(first, count)));
        }
      }
    }
  }
}

TEST_CASE("products are right and row-pure in float") {
  random_stream random(1);
  check_random_shapes<float>(random, 12);
}

TEST_CASE("products are right and row-pure in double") {
  random_stream random(2);
  check_random_shapes<double>(random, 6);
}

TEST_CASE("every number of rows up to 40 gives a row the same bits") {
  random_stream random(3);
  for (const weight_format format :
       {weight_format::f32, weight_format::bf16, weight_format::q4_1, weight_format::q3_k}) {
    problem<float> task(random, format, 40, 67, format == weight_format::q3_k ? 768 : 576);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      const auto all = task.run(which, 0, 40);
      for (index_t rows = 1; rows < 40; ++rows) {
        const auto some = task.run(which, 40 - rows, rows);
        CHECK(tests::same_bits(std::span<const float>(some),
                               std::span<const float>(all).last(static_cast<std::size_t>(rows * 67))));
      }
    }
  }
}

TEST_CASE("a row's bits do not depend on where it lies in memory") {
  random_stream random(4);
  const auto w = random_weights(random, weight_format::f16, 33, 65);
  const auto x = tests::normals<float>(random, 65);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    std::vector<float> first;
    for (std::size_t shift = 0; shift < 17; ++shift) {
      std::vector<float> input(65 + shift), output(33 + shift), scratch(1);
      std::copy(x.begin(), x.end(), input.begin() + static_cast<std::ptrdiff_t>(shift));
      auto memory = aligned_buffer<float>::for_overwrite(kernels::product_scratch);
      const kernels::product_args<float> args{
          w.packed.words(), w.packed.format(), 33, 65, input.data() + shift, 65, 1, output.data() + shift, 33, nullptr};
      simd::with_arch(which, [&]<class Arch>(Arch) {
        kernels::product<Arch, kernels::plain_arithmetic<float>>(args, 0, 2, memory.data());
      });
      output.erase(output.begin(), output.begin() + static_cast<std::ptrdiff_t>(shift));
      if (shift == 0) first = output;
      CHECK(tests::same_bits(output, first));
    }
  }
}

TEST_CASE("zeros, infinities, NaN and denormals go through as arithmetic says") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  random_stream random(5);
  for (const index_t rows : {1, 7}) {
    problem<float> task(random, weight_format::f32, rows, 37, 11);
    task.bias.clear();
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      std::fill_n(task.row(0), 11, 0.0f);
      auto found = task.run(which, 0, rows);
      for (const float value : std::span(found).first(37)) CHECK(value == 0);
      task.row(0)[3] = inf;
      found = task.run(which, 0, rows);
      for (std::size_t n = 0; n < 37; ++n) CHECK(found[n] == (task.w.values[n * 11 + 3] > 0 ? inf : -inf));
      if (rows > 1) CHECK(std::isfinite(found[37]));
      task.row(0)[4] = std::numeric_limits<float>::quiet_NaN();
      found = task.run(which, 0, rows);
      for (std::size_t n = 0; n < 37; ++n) CHECK(std::isnan(found[n]));
      std::fill_n(task.row(0), 11, 0.0f);
      task.row(0)[5] = 0x1p-140f;
      found = task.run(which, 0, rows);
      for (std::size_t n = 0; n < 37; ++n) {
        CHECK(found[n] == static_cast<float>(0x1p-140 * task.w.values[n * 11 + 5]));  // denormal, rounded once
      }
    }
  }
}

TEST_CASE("no rows and no panels are no work") {
  random_stream random(6);
  const auto w = random_weights(random, weight_format::q8_0, 40, 32);
  float y = 7;
  const float x = 1;
  const kernels::product_args<float> args{w.packed.words(), w.packed.format(), 40, 32, &x, 32, 0, &y, 40, nullptr};
  auto scratch = aligned_buffer<float>::for_overwrite(kernels::product_scratch);
  tests::for_each_arch([&]<class Arch>(Arch) {
    using arithmetic = kernels::plain_arithmetic<float>;
    kernels::product<Arch, arithmetic>(args, 0, 2, scratch.data());
    kernels::product<Arch, arithmetic>(args, 1, 1, scratch.data());
  });
  CHECK(y == 7);
}

}  // namespace
