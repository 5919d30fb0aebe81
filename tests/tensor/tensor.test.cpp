// SPDX-License-Identifier: Apache-2.0
#include <runnel/tensor/tensor.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>

#include <runnel/tensor/eigen.hpp>

#include "support/random_values.hpp"

namespace {

using namespace runnel;

/// 0, 1, 2, ... in memory order.
template <std::size_t Rank>
tensor<float, Rank> counted(const shape<Rank>& sizes) {
  tensor<float, Rank> out(sizes);
  std::iota(out.values().begin(), out.values().end(), 0.0f);
  return out;
}

TEST_CASE("shapes count their elements, checked") {
  CHECK(element_count<3>({2, 3, 4}) == 24);
  CHECK(element_count<2>({0, 5}) == 0);
  CHECK(element_count<2>({std::numeric_limits<index_t>::max(), 0}) == 0);
  CHECK(to_string<3>({2, 3, 4}) == "[2, 3, 4]");
  CHECK(row_major_strides<3>({2, 3, 4}) == std::array<index_t, 3>{12, 4, 1});
  CHECK_THROWS_WITH_AS((void)element_count<2>({2, -1}), "shape [2, -1]: sizes must not be negative", shape_error);
  CHECK_THROWS_AS((void)element_count<2>({0, -1}), shape_error);
  CHECK_THROWS_AS((void)element_count<2>({index_t{1} << 32, index_t{1} << 32}), shape_error);
  CHECK_THROWS_AS((tensor<float, 2>({index_t{1} << 40, index_t{1} << 22})), limit_error);
  CHECK_THROWS_WITH_AS(expect_shape<2>({2, 3}, {3, 2}, "add"), "add: expected shape [3, 2], found [2, 3]", shape_error);
  CHECK_NOTHROW(expect_shape<1>({2}, {2}, "add"));
}

TEST_CASE("a tensor owns aligned, zeroed memory, moves and clones") {
  tensor<double, 3> zeros({2, 3, 5});
  CHECK(reinterpret_cast<std::uintptr_t>(zeros.data()) % 64 == 0);
  for (const double value : zeros.values()) CHECK(value == 0);
  auto a = counted<2>({3, 4});
  CHECK(a.size() == 12);
  CHECK(a.size(1) == 4);
  const float* data = a.data();
  const auto copy = a.clone();
  CHECK(copy.data() != data);
  CHECK(copy(2, 3) == 11);
  auto b = std::move(a);
  CHECK(b.data() == data);
  CHECK(b.view().data() == data);
  CHECK(a.data() == nullptr);  // NOLINT(bugprone-use-after-move): that is what is tested
  CHECK(a.view().data() == nullptr);
  CHECK(a.size() == 0);
  a = std::move(b);
  CHECK(a(1, 2) == 6);
  a(1, 2) = 60;
  CHECK(a.at(1, 2) == 60);
  static_assert(!std::is_copy_constructible_v<tensor<float, 1>> &&
                std::is_nothrow_move_constructible_v<tensor<float, 1>>);
  CHECK((tensor<float, 2>().size() == 0));
  CHECK((tensor<float, 2>({0, 7}).size() == 0));
}

TEST_CASE("elements are found through strides, and checked where asked") {
  auto t = counted<3>({2, 3, 4});
  const auto view = t.view();
  CHECK(view(1, 2, 3) == 23);
  CHECK(view.at(1, 0, 2) == 14);
  CHECK_THROWS_WITH_AS((void)view.at(1, 3, 0), "tensor: index [1, 3, 0] is outside of shape [2, 3, 4]", shape_error);
  CHECK_THROWS_AS((void)view.at(-1, 0, 0), shape_error);
  CHECK_THROWS_AS((void)t.at(2, 0, 0), shape_error);
  CHECK(view[1](2, 3) == 23);
  CHECK(view[1][2](3) == 23);
  CHECK(view[1].row(0)[1] == 13);
  CHECK(view[1].row(0).size() == 4);
}

TEST_CASE("views are slices, transposes and reshapes of the same memory") {
  auto t = counted<2>({5, 3});
  const auto view = t.view();
  const auto middle = view.slice(1, 4);
  CHECK(middle.shape() == shape<2>{3, 3});
  CHECK(middle(0, 0) == 3);
  CHECK(middle.contiguous());
  middle(2, 2) = -1;
  CHECK(t(3, 2) == -1);
  CHECK(view.slice(5, 5).size() == 0);
  CHECK(view.slice(0, 5).size() == 15);
  CHECK_THROWS_WITH_AS((void)view.slice(2, 6), "tensor: slice [2, 6) is outside of shape [5, 3]", shape_error);
  CHECK_THROWS_AS((void)view.slice(-1, 2), shape_error);
  CHECK_THROWS_AS((void)view.slice(3, 2), shape_error);

  const auto turned = view.transposed();
  CHECK(turned.shape() == shape<2>{3, 5});
  CHECK_FALSE(turned.contiguous());
  for (index_t i = 0; i < 5; ++i) {
    for (index_t j = 0; j < 3; ++j) CHECK(&turned(j, i) == &view(i, j));
  }
  CHECK(turned.transposed().contiguous());
  CHECK(turned.slice(1, 3)(0, 4) == t(4, 1));
  CHECK_THROWS_AS((void)turned.reshape<1>({15}), shape_error);

  const auto flat = view.reshape<1>({15});
  CHECK(flat(14) == 14);
  CHECK(view.reshape<3>({5, 1, 3})(4, 0, 2) == 14);
  CHECK_THROWS_WITH_AS((void)view.reshape<2>({4, 4}), "tensor: shape [5, 3] cannot become [4, 4]", shape_error);
  CHECK_THROWS_AS((void)view.reshape<2>({-5, -3}), shape_error);
}

TEST_CASE("views of mutable elements become views of const ones, never the reverse") {
  static_assert(std::is_convertible_v<tensor_view<float, 2>, tensor_view<const float, 2>>);
  static_assert(!std::is_convertible_v<tensor_view<const float, 2>, tensor_view<float, 2>>);
  static_assert(std::is_convertible_v<tensor<float, 2>&, tensor_view<const float, 2>>);
  static_assert(!std::is_convertible_v<const tensor<float, 2>&, tensor_view<float, 2>>);
  auto t = counted<2>({2, 2});
  const tensor_view<const float, 2> view = t.view();
  CHECK(view.data() == t.data());
  CHECK(view.strides() == t.view().strides());
}

TEST_CASE("the door to Eigen shows the same elements") {
  random_stream random(1);
  for (int turn = 0; turn < 20; ++turn) {
    const index_t m = tests::between(random, 1, 7), k = tests::between(random, 1, 7), n = tests::between(random, 1, 7);
    tensor<double, 2> a({m, k}), b({n, k});
    for (double& value : a.values()) value = random.uniform();
    for (double& value : b.values()) value = random.uniform();
    const Eigen::MatrixXd product = as_eigen(a.view()) * as_eigen(b.view().transposed());
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < n; ++j) {
        double sum = 0;
        for (index_t l = 0; l < k; ++l) sum += a(i, l) * b(j, l);
        CHECK(product(i, j) == doctest::Approx(sum));
      }
    }
  }
  auto t = counted<2>({4, 3});
  as_eigen(t.view().slice(1, 3))(1, 2) = 50;
  CHECK(t(2, 2) == 50);
  const auto column = t.view().transposed()[1];
  CHECK(as_eigen(column).sum() == 1 + 4 + 7 + 10);
  const tensor_view<const float, 2> fixed = t.view();
  CHECK(as_eigen(fixed)(3, 0) == 9);
}

}  // namespace
