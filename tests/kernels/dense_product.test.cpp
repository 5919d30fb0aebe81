// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/dense_product.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
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

template <class Arithmetic, class T>
matrix<T> run_in(const dense_operand<T>& a, const dense_operand<T>& b, index_t inner, const matrix<T>& y,
                 bool accumulate, instruction_set which, index_t piece, const T* bias = nullptr) {
  using element = typename Arithmetic::element;
  matrix<T> out = y;
  const kernels::dense_product_args<T> args{a, b, y.rows(), inner, y.cols(), out.data(), y.cols(), bias, accumulate};
  auto scratch = aligned_buffer<element>::for_overwrite(kernels::dense_scratch);
  std::memset(scratch.data(), 0xff, sizeof(element) * scratch.size());  // NaN
  const index_t panels = kernels::panel_count(y.cols()), stride = kernels::arranged_size<Arithmetic>(inner) + 1;
  auto rows = aligned_buffer<element>::for_overwrite(static_cast<std::size_t>(y.rows() * stride));
  std::memset(rows.data(), 0xff, sizeof(element) * rows.size());
  simd::with_arch(which, [&]<class Arch>(Arch) {
    kernels::arranged_rows<element> x{rows.data(), stride};
    if constexpr (std::is_same_v<element, T>) {
      if (kernels::is_arranged<Arithmetic>(a)) x = {a.data, a.row_stride};
    }
    if (x.data == rows.data()) {
      for (index_t row = 0; row < y.rows(); row += 5 * piece) {
        kernels::arrange_rows<Arch, Arithmetic>(a, inner, row, std::min(row + 5 * piece, y.rows()), rows.data(),
                                                stride);
      }
    }
    for (index_t p = 0; p < panels; p += piece) {
      for (index_t row = 0; row < y.rows(); row += 100 * piece) {
        kernels::dense_panels<Arch, Arithmetic>(args, x, row, std::min(row + 100 * piece, y.rows()), p,
                                                std::min(p + piece, panels), scratch.data());
      }
    }
  });
  return out;
}

template <class T>
matrix<T> run(const dense_operand<T>& a, const dense_operand<T>& b, index_t inner, const matrix<T>& y, bool accumulate,
              instruction_set which, index_t piece) {
  return run_in<kernels::plain_arithmetic<T>>(a, b, inner, y, accumulate, which, piece);
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

TEST_CASE("the same in bf16 is the product of rounded numbers") {
  random_stream random(52);
  const auto rounded = [](matrix<float> m) {
    for (index_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(bf16(m.data()[i]));
    return m;
  };
  for (int turn = 0; turn < 16; ++turn) {
    const index_t rows = tests::between(random, 1, turn % 4 == 0 ? 300 : 40), inputs = tests::between(random, 1, 600),
                  outputs = tests::between(random, 1, 70);
    const auto x = random_matrix<float>(random, rows, inputs), w = random_matrix<float>(random, outputs, inputs),
               dy = random_matrix<float>(random, rows, outputs);
    const auto bias = random_matrix<float>(random, 1, outputs);
    const matrix<float> no_y = matrix<float>::Zero(rows, outputs), no_dx = matrix<float>::Zero(rows, inputs),
                        no_dw = matrix<float>::Zero(outputs, inputs);
    const auto xr = rounded(x), wr = rounded(w), dyr = rounded(dy);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      using kernels::bf16_arithmetic;
      const auto y = run_in<bf16_arithmetic>(as_is(x), transposed(w), inputs, no_y, false, which, 2, bias.data());
      const matrix<float> biased = matrix<float>::Ones(rows, 1) * bias;
      CHECK(error<float>(y, xr, wr.transpose(), biased) <= 2);
      CHECK(error<float>(run_in<bf16_arithmetic>(as_is(dy), as_is(w), outputs, no_dx, false, which, 1), dyr, wr,
                         no_dx) <= 2);
      CHECK(error<float>(run_in<bf16_arithmetic>(transposed(dy), as_is(x), rows, no_dw, true, which, 3),
                         dyr.transpose(), xr, no_dw) <= 2);
    }
  }
}

TEST_CASE("a product over nothing is zero, or what was there") {
  const matrix<float> none(3, 0), start = matrix<float>::Constant(3, 40, 7.0f);
  tests::for_each_arch([&]<class Arch>(Arch) {
    for (const bool accumulate : {false, true}) {
      matrix<float> y = start;
      auto scratch = aligned_buffer<float>::for_overwrite(kernels::dense_scratch);
      const kernels::dense_product_args<float> args{
          {none.data(), 0, 1}, {none.data(), 40, 1}, 3, 0, 40, y.data(), 40, nullptr, accumulate};
      kernels::dense_panels<Arch, kernels::plain_arithmetic<float>>(args, {none.data(), 0}, 0, 3, 0, 2, scratch.data());
      CHECK(y == (accumulate ? start : matrix<float>(matrix<float>::Zero(3, 40))));
    }
  });
}

}  // namespace
