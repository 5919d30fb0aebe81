// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <type_traits>

#include <runnel/kernels/dense_product.hpp>
#include <runnel/ops/eval.hpp>

/// \file
/// Products of matrices as they lie in memory: a layer's forward pass in training, and both of its gradients.

namespace runnel::ops::detail {

/// y = A B (kernels/dense_product.hpp), shared out, in `Arithmetic`.
template <class Arithmetic, class T>
void multiply_in(basic_eval<T>& context, const kernels::dense_product_args<T>& args) {
  using element = typename Arithmetic::element;
  const auto scope = context.memory.mark();
  const index_t stride = kernels::arranged_size<Arithmetic>(args.inner);
  constexpr index_t block = 16;
  auto* const scratch =
      context.memory.template take<element>(kernels::dense_scratch * static_cast<std::size_t>(context.team.size()));
  element* arranged = nullptr;
  if (!kernels::is_arranged<Arithmetic>(args.a)) {
    arranged = context.memory.template take<element>(static_cast<std::size_t>(args.rows * stride));
  }
  simd::with_arch(context.options().instructions, [&]<class Arch>(Arch) {
    if (arranged != nullptr) {
      context.team.parallel_for((args.rows + block - 1) / block, 4, [&](index_t begin, index_t end, int) {
        kernels::arrange_rows<Arch, Arithmetic>(args.a, args.inner, begin * block, std::min(end * block, args.rows),
                                                arranged, stride);
      });
    }
    kernels::arranged_rows<element> x{arranged, stride};
    if constexpr (std::is_same_v<element, T>) {
      if (arranged == nullptr) x = {args.a.data, args.a.row_stride};
    }
    const index_t panels = kernels::panel_count(args.columns);
    // Rows are shared out too where there are few panels; every block arranges its panels anew.
    const index_t wanted = std::max<index_t>(1, 4 * context.team.size() / panels);
    const index_t row_block = std::max<index_t>(256, (args.rows + wanted - 1) / wanted);
    const index_t blocks = (args.rows + row_block - 1) / row_block;
    context.team.parallel_for(blocks * panels, 1, [&](index_t begin, index_t end, int worker) {
      for (index_t task = begin; task < end; ++task) {
        const index_t row = task / panels * row_block, panel = task % panels;
        kernels::dense_panels<Arch, Arithmetic>(args, x, row, std::min(row + row_block, args.rows), panel, panel + 1,
                                                scratch + static_cast<std::size_t>(worker) * kernels::dense_scratch);
      }
    });
  });
  context.memory.release(scope);
}

/// The same in the arithmetic that the context's options name: bf16 for floats where asked for, else exact.
template <class T>
void multiply(basic_eval<T>& context, const kernels::dense_product_args<T>& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (context.options().compute == compute_mode::bf16) {
      return multiply_in<kernels::bf16_arithmetic>(context, args);
    }
  }
  multiply_in<kernels::plain_arithmetic<T>>(context, args);
}

/// Rows as the left operand, a matrix as either one, and their transposes.
template <class T, class U>
[[nodiscard]] kernels::dense_operand<T> as_is(const tensor_view<U, 2>& m) noexcept {
  return {m.data(), m.strides()[0], 1};
}
template <class T, class U>
[[nodiscard]] kernels::dense_operand<T> transposed(const tensor_view<U, 2>& m) noexcept {
  return {m.data(), 1, m.strides()[0]};
}

/// x W^T + b.
template <class T>
void dense_forward(basic_eval<T>& context, const tensor_view<T, 2>& x, const tensor_view<const T, 2>& weight,
                   const tensor_view<const T, 1>& bias, const tensor_view<T, 2>& y) {
  multiply<T>(context, {as_is<T>(x), transposed<T>(weight), x.size(0), x.size(1), weight.size(0), y.data(),
                        y.strides()[0], bias.data(), false});
}

/// Gradients of that: dx = dy W, dW += dy^T x, db += sum of dy.
template <class T>
void dense_backward(basic_eval<T>& context, const tensor_view<T, 2>& dy, const dual<T>& x, const dual<T>& weight) {
  const index_t rows = dy.size(0), outputs = dy.size(1), inputs = x.value.size(1);
  if (x.wanted()) {
    multiply<T>(context, {as_is<T>(dy), as_is<T>(weight.value), rows, outputs, inputs, x.gradient.data(),
                          x.gradient.strides()[0], nullptr, !x.fresh});
  }
  if (weight.wanted()) {
    multiply<T>(context, {transposed<T>(dy), as_is<T>(x.value), outputs, rows, inputs, weight.gradient.data(),
                          weight.gradient.strides()[0], nullptr, true});
  }
}

}  // namespace runnel::ops::detail
