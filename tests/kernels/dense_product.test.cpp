// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/dense_product.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/tensor/eigen.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using kernels::dense_operand;

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
matrix<T> random_matrix(random_stream& random, index_t rows, index_t columns) {
  const auto values = tests::normals<T>(random, rows * columns);
  return Eigen::Map<const matrix<T>>(values.data(), rows, columns);
}

template <class T>
dense_operand<T> as_is(const matrix<T>& m) {
  return {m.data(), m.cols(), 1};
}
template <class T>
dense_operand<T> transposed(const matrix<T>& m) {
  return {m.data(), 1, m.cols()};
}

template <class T>
matrix<T> run(const dense_operand<T>& a, const dense_operand<T>& b, index_t inner, const matrix<T>& y, bool accumulate,
              instruction_set which, index_t piece) {
  matrix<T> out = y;
  kernels::dense_product_args<T> args{a, b, y.rows(), inner, y.cols(), out.data(), y.cols(), accumulate};
  auto scratch = aligned_buffer<T>::for_overwrite(kernels::dense_product_scratch);
  std::fill(scratch.data(), scratch.data() + scratch.size(), std::numeric_limits<T>::quiet_NaN());
  const index_t panels = kernels::panel_count(y.cols());
  simd::with_arch(which, [&]<class Arch>(Arch) {
    for (index_t p = 0; p < panels; p += piece) {
      kernels::dense_product<Arch>(args, p, std::min(p + piece, panels), scratch.data());
    }
  });
  return out;
}

/// Largest difference to Eigen's product in double, in units of what rounding allows.
template <class T>
double error(const matrix<T>& found, const matrix<T>& left, const matrix<T>& right, const matrix<T>& start) {
  const matrix<double> a = left.template cast<double>(), b = right.template cast<double>();
  const matrix<double> expected = start.template cast<double>() + a * b;
  const matrix<double> size = start.template cast<double>().cwiseAbs() + a.cwiseAbs() * b.cwiseAbs();
  const double each = static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(left.cols() + 2);
  const matrix<double> off = (found.template cast<double>() - expected).cwiseAbs();
  double most = 0;
  for (index_t i = 0; i < off.size(); ++i) {
    const double here = off.data()[i] / (each * size.data()[i] + 1e-300);
    most = std::isnan(here) ? INFINITY : std::max(most, here);
  }
  return most;
}

template <class T>
void check(random_stream& random, int turns) {
  for (int turn = 0; turn < turns; ++turn) {
    // Once, everything is longer than what is worked on at a time.
    const bool all_long = turn == 1;
    const index_t rows = all_long ? 300 : tests::between(random, 1, turn % 4 == 0 ? 600 : 20),
                  inputs = all_long ? 530 : tests::between(random, 1, 90),
                  outputs = all_long ? 270 : tests::between(random, 1, 70);
    const auto x = random_matrix<T>(random, rows, inputs), w = random_matrix<T>(random, outputs, inputs),
               dy = random_matrix<T>(random, rows, outputs);
    const auto start_y = random_matrix<T>(random, rows, outputs), start_dx = random_matrix<T>(random, rows, inputs),
               start_dw = random_matrix<T>(random, outputs, inputs);
    const index_t piece = tests::between(random, 1, 3);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      for (const bool accumulate : {false, true}) {
        const auto from = [&](const matrix<T>& start) -> matrix<T> {
          return accumulate ? start : matrix<T>::Zero(start.rows(), start.cols());
        };
        const auto y = run<T>(as_is(x), transposed(w), inputs, start_y, accumulate, which, piece);
        CHECK(error<T>(y, x, w.transpose(), from(start_y)) <= 1);
        const auto dx = run<T>(as_is(dy), as_is(w), outputs, start_dx, accumulate, which, piece);
        CHECK(error<T>(dx, dy, w, from(start_dx)) <= 1);
        const auto dw = run<T>(transposed(dy), as_is(x), rows, start_dw, accumulate, which, piece);
        CHECK(error<T>(dw, dy.transpose(), x, from(start_dw)) <= 1);
        // A row's bits depend on no other row.
        const index_t row = random.below(rows);
        const matrix<T> one = y.row(row), start = start_y.row(row);
        const auto alone =
            run<T>({x.data() + row * inputs, inputs, 1}, transposed(w), inputs, start, accumulate, which, 9);
        CHECK(tests::same_bits(std::span<const T>(alone.data(), static_cast<std::size_t>(outputs)),
                               std::span<const T>(one.data(), static_cast<std::size_t>(outputs))));
      }
    }
  }
}

TEST_CASE("a layer's product and both transposes, in float and double") {
  random_stream random(51);
  check<float>(random, 16);
  check<double>(random, 8);
}

TEST_CASE("a product over nothing is zero, or what was there") {
  const matrix<float> none(3, 0), start = matrix<float>::Constant(3, 40, 7.0f);
  tests::for_each_arch([&]<class Arch>(Arch) {
    for (const bool accumulate : {false, true}) {
      matrix<float> y = start;
      auto scratch = aligned_buffer<float>::for_overwrite(kernels::dense_product_scratch);
      const kernels::dense_product_args<float> args{{none.data(), 0, 1}, {none.data(), 40, 1}, 3, 0, 40, y.data(), 40,
                                                    accumulate};
      kernels::dense_product<Arch>(args, 0, 2, scratch.data());
      CHECK(y == (accumulate ? start : matrix<float>(matrix<float>::Zero(3, 40))));
    }
  });
}

}  // namespace
