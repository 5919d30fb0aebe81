// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include <runnel/kernels/elementwise.hpp>
#include <runnel/kernels/product_int8.hpp>
#include <runnel/ops/dense_product.hpp>
#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/eval.hpp>
#include <runnel/ops/prepared_matrix.hpp>

namespace runnel::ops {

/// The numbers that weights of a format are multiplied in under a mode.
[[nodiscard]] inline compute_mode effective_compute(compute_mode mode, quant::weight_format format) noexcept {
  if (mode != compute_mode::int8) return mode;
  auto chosen = format == quant::weight_format::bf16 ? compute_mode::bf16 : compute_mode::f32;
  quant::with_byte_codec(format, [&](auto) { chosen = compute_mode::int8; });
  return chosen;
}

namespace detail {

/// How one matrix is multiplied.
enum class arithmetic : std::uint8_t { f32, bf16, split_bf16, bytes, byte_rows };

[[nodiscard]] inline arithmetic arithmetic_for(compute_mode mode, const prepared_matrix& weight) noexcept {
  switch (effective_compute(mode, weight.format())) {
    case compute_mode::f32: break;
    case compute_mode::bf16: return weight.planes().pairs == 1 ? arithmetic::bf16 : arithmetic::split_bf16;
    case compute_mode::int8: return weight.has_row_scales() ? arithmetic::byte_rows : arithmetic::bytes;
  }
  return arithmetic::f32;
}

[[nodiscard]] inline std::int32_t zero_point_of(quant::weight_format format) noexcept {
  std::int32_t found = 0;
  quant::with_byte_codec(format, [&]<class Codec>(Codec) { found = Codec::zero_point; });
  return found;
}

/// One of the products of a step: a matrix, what it is multiplied with (in the numbers of its arithmetic) and where the
/// result goes.
struct product_task {
  const prepared_matrix* weight = nullptr;
  tensor_view<const float, 1> bias;
  eval::value y;
  arithmetic how = arithmetic::f32;
  std::int32_t zero_point = 0;
  const void* x = nullptr;
  index_t x_stride = 0;

  [[nodiscard]] kernels::byte_product_args byte_args() const noexcept {
    return {args<kernels::byte_block>(), weight->planes().bytes};
  }
  template <class X>
  [[nodiscard]] kernels::product_args<float, X> args() const noexcept {
    return {weight->words(), weight->format(), weight->outputs(), weight->inputs(), static_cast<const X*>(x),
            x_stride,        y.size(0),        y.data(),          y.strides()[0],   bias.data()};
  }
};

/// Panels [begin, end) of a task; `scratch` holds `kernels::product_scratch` words.
template <class Arch>
void run_panels(const product_task& task, index_t begin, index_t end, quant::word* scratch) noexcept {
  switch (task.how) {
    case arithmetic::f32:
      return kernels::product<Arch, kernels::plain_arithmetic<float>>(task.args<float>(), begin, end,
                                                                      reinterpret_cast<float*>(scratch));
    case arithmetic::bf16:
      return kernels::product<Arch, kernels::bf16_arithmetic>(task.args<quant::word>(), begin, end, scratch);
    case arithmetic::split_bf16:
      return kernels::product<Arch, kernels::split_bf16_arithmetic>(task.args<kernels::split_pair>(), begin, end,
                                                                    scratch);
    case arithmetic::bytes: return kernels::product_int8<Arch>(task.byte_args(), begin, end);
    case arithmetic::byte_rows: return kernels::product_int8_rows<Arch>(task.byte_args(), begin, end);
  }
}

/// Brings x to the numbers of the task's arithmetic, each row by itself, in `planes` where those are bytes.
inline void convert_inputs(eval& context, const eval::value& x, index_t planes, product_task& task) {
  const index_t rows = x.size(0), inputs = x.size(1);
  const auto each_row = [&]<class Element>(Element* out, index_t stride, auto&& convert) {
    context.for_each_row(rows, 2 * inputs, [&]<class Arch>(index_t row, Arch arch) {
      convert(arch, x.row(row).data(), out + row * stride);
    });
    task.x = out;
    task.x_stride = stride;
  };
  const auto take = [&]<class Element>(index_t stride, Element) {
    return context.memory.take<Element>(static_cast<std::size_t>(rows * stride));
  };
  if (task.how == arithmetic::f32) {
    task.x = x.data();
    task.x_stride = x.strides()[0];
  } else if (task.how == arithmetic::bf16) {
    const index_t stride = kernels::pair_count(inputs);
    each_row(take(stride, quant::word{}), stride, [&]<class Arch>(Arch, const float* row, quant::word* out) {
      kernels::round_row_to_bf16<Arch>(row, inputs, out);
    });
  } else if (task.how == arithmetic::split_bf16) {
    const index_t stride = kernels::pair_count(inputs);
    each_row(take(stride, kernels::split_pair{}), stride,
             [&]<class Arch>(Arch, const float* row, kernels::split_pair* out) {
               kernels::split_row_to_bf16<Arch>(row, inputs, out);
             });
  } else {
    const index_t stride = planes * kernels::byte_block_count(inputs);
    each_row(take(stride, kernels::byte_block{}), stride,
             [&]<class Arch>(Arch, const float* row, kernels::byte_block* out) {
               if (task.how == arithmetic::bytes) {
                 return kernels::quantize_row<Arch>(row, inputs, task.zero_point, planes, out);
               }
               kernels::quantize_whole_row<Arch>(row, inputs, task.zero_point, out);
             });
  }
}

/// Checks a matrix and bias against x, takes memory for the result and converts x unless an earlier task has; `planes`
/// is the most that any matrix of the step wants.
inline product_task make_task(eval& context, const eval::value& x, const prepared_matrix& weight,
                              tensor_view<const float, 1> bias, index_t planes, std::span<const product_task> earlier) {
  expect<shape_error>(x.size(1) == weight.inputs(), "product: input has ", x.size(1), " features, the weight takes ",
                      weight.inputs());
  expect<shape_error>(bias.data() == nullptr || bias.size() == weight.outputs(), "product: bias has ", bias.size(),
                      " features, the weight gives ", weight.outputs());
  product_task task;
  task.weight = &weight;
  task.bias = bias;
  task.y = context.make(x.size(0), weight.outputs());
  task.how = arithmetic_for(context.options().compute, weight);
  task.zero_point = zero_point_of(weight.format());
  for (const product_task& other : earlier) {
    if (other.how != task.how || other.zero_point != task.zero_point) continue;
    task.x = other.x;
    task.x_stride = other.x_stride;
    return task;
  }
  convert_inputs(context, x, planes, task);
  return task;
}

/// What a panel takes (`eval::grain_of`): to fetch its weights, and to multiply.
[[nodiscard]] constexpr index_t panel_work(index_t rows, index_t inputs) noexcept { return 4 * (rows + 4) * inputs; }

/// Runs `f(begin, end, scratch, Arch)` over pieces of `panels` that take `work` each, in parallel.
template <class F>
void for_each_panel(eval& context, index_t panels, index_t work, F&& f) {
  const auto scope = context.memory.mark();
  auto* scratch =
      context.memory.take<quant::word>(kernels::product_scratch * static_cast<std::size_t>(context.team.size()));
  simd::with_arch(context.options().instructions, [&]<class Arch>(Arch arch) {
    context.team.parallel_for(panels, context.grain_of(panels, work), [&](index_t begin, index_t end, int worker) {
      f(begin, end, scratch + static_cast<std::size_t>(worker) * kernels::product_scratch, arch);
    });
  });
  context.memory.release(scope);
}

}  // namespace detail

/// x W^T + b for several matrices and one x, in one hand-over: [rows, inputs] to [rows, outputs] each.
struct products {
  /// A projection has `weight` and `bias` (which may be empty), as nn::linear. Throws shape_error if x does not fit.
  template <class... Projections>
  std::array<eval::value, sizeof...(Projections)> forward(eval& context, const eval::value& x,
                                                          const Projections&... projections) const {
    std::array<detail::product_task, sizeof...(Projections)> tasks;
    std::size_t made = 0;
    const index_t planes = std::max({projections.weight.planes().bytes...});
    const auto add = [&](const prepared_matrix& weight, tensor_view<const float, 1> bias) {
      tasks[made] = detail::make_task(context, x, weight, bias, planes, std::span(tasks).first(made));
      ++made;
    };
    (add(projections.weight, projections.bias), ...);
    run(context, tasks);
    std::array<eval::value, sizeof...(Projections)> out;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = tasks[i].y;
    return out;
  }

  /// The same one by one, for a tape.
  template <class Context, class... Projections>
  [[nodiscard]] auto record(Context& context, const typename Context::value& x,
                            const Projections&... projections) const;

 private:
  friend struct product;

  /// All tasks as if their panels were one matrix's.
  static void run(eval& context, std::span<const detail::product_task> tasks) {
    index_t panels = 0;
    for (const auto& task : tasks) panels += kernels::panel_count(task.weight->outputs());
    const index_t work = detail::panel_work(tasks.front().y.size(0), tasks.front().weight->inputs());
    detail::for_each_panel(context, panels, work, [&]<class Arch>(index_t begin, index_t end, auto* scratch, Arch) {
      for (const auto& task : tasks) {
        const index_t count = kernels::panel_count(task.weight->outputs());
        const index_t first = std::max<index_t>(begin, 0), last = std::min(end, count);
        if (first < last) detail::run_panels<Arch>(task, first, last, scratch);
        begin -= count;
        end -= count;
      }
    });
  }
};

/// y = x W^T + b: [rows, inputs] to [rows, outputs].
struct product {
  /// `bias` may be empty. Throws shape_error if the inputs do not fit.
  eval::value forward(eval& context, const eval::value& x, const prepared_matrix& weight,
                      tensor_view<const float, 1> bias = {}) const {
    const auto task = detail::make_task(context, x, weight, bias, weight.planes().bytes, {});
    products::run(context, {&task, 1});
    return task.y;
  }

  /// The same for a matrix as it lies in memory (training). Throws shape_error if the inputs do not fit.
  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             const std::type_identity_t<tensor_view<const T, 2>>& weight,
                             typename basic_eval<T>::vector bias = {}) const {
    expect<shape_error>(x.size(1) == weight.size(1), "product: input has ", x.size(1), " features, the weight takes ",
                        weight.size(1));
    expect<shape_error>(bias.data() == nullptr || bias.size() == weight.size(0), "product: bias has ", bias.size(),
                        " features, the weight gives ", weight.size(0));
    const auto y = context.make(x.size(0), weight.size(0));
    detail::dense_forward(context, x, weight, bias, y);
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, const dual<T>& weight,
                const dual<T, 1>& bias = {}) const {
    detail::dense_backward(context, y.gradient, x, weight);
    if (bias.wanted()) add_bias{}.backward(context, y, {}, bias);
  }
};

template <class Context, class... Projections>
auto products::record(Context& context, const typename Context::value& x, const Projections&... projections) const {
  return std::array<typename Context::value, sizeof...(Projections)>{
      context(product{}, x, projections.weight, projections.bias)...};
}

/// activation(gate(x)) * up(x), both products and the rest in one hand-over: [rows, inputs] to [rows, outputs].
struct gated_product {
  kernels::activation kind = kernels::activation::silu;

  /// As `products`; both projections have the same number of outputs.
  template <class Projection>
  eval::value forward(eval& context, const eval::value& x, const Projection& gate, const Projection& up) const {
    return forward(context, x, gate.weight, gate.bias, up.weight, up.bias);
  }

  /// The same in steps that a tape knows.
  template <class Context, class Projection>
  [[nodiscard]] auto record(Context& context, const typename Context::value& x, const Projection& gate,
                            const Projection& up) const {
    const auto gates = context(product{}, x, gate.weight, gate.bias);
    return context(gated_activation{kind}, gates, context(product{}, x, up.weight, up.bias));
  }

 private:
  eval::value forward(eval& context, const eval::value& x, const prepared_matrix& gate,
                      tensor_view<const float, 1> gate_bias, const prepared_matrix& up,
                      tensor_view<const float, 1> up_bias) const {
    expect<shape_error>(gate.outputs() == up.outputs(), "gated_product: the gate gives ", gate.outputs(),
                        " features, the other side ", up.outputs());
    const index_t planes = std::max(gate.planes().bytes, up.planes().bytes);
    const auto gated = detail::make_task(context, x, gate, gate_bias, planes, {});
    const auto other = detail::make_task(context, x, up, up_bias, planes, {&gated, 1});
    constexpr auto width = static_cast<index_t>(quant::panel_features);
    detail::for_each_panel(context, kernels::panel_count(gate.outputs()), 2 * detail::panel_work(x.size(0), x.size(1)),
                           [&]<class Arch>(index_t begin, index_t end, quant::word* scratch, Arch) {
                             detail::run_panels<Arch>(gated, begin, end, scratch);
                             detail::run_panels<Arch>(other, begin, end, scratch);
                             const index_t first = begin * width, count = std::min(end * width, gate.outputs()) - first;
                             for (index_t row = 0; row < x.size(0); ++row) {
                               float* y = gated.y.row(row).data() + first;
                               kernels::gated_activation<Arch>(kind, y, other.y.row(row).data() + first, count, y);
                             }
                           });
    return gated.y;
  }
};

/// Rows of a weight matrix by token id: [rows] to [rows, features], times `scale` (1, or what a family multiplies by).
struct embedding {
  float scale = 1;

  /// Throws config_error for an id outside of the vocabulary.
  eval::value forward(eval& context, std::span<const std::int32_t> ids, const prepared_matrix& weight) const {
    const auto y = context.make(static_cast<index_t>(ids.size()), weight.inputs());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      expect(ids[i] >= 0 && ids[i] < weight.outputs(), "embedding: token id ", ids[i],
             " is outside of the vocabulary of ", weight.outputs());
      const auto row = y.row(static_cast<index_t>(i));
      weight.decode_row(ids[i], row);
      if (scale != 1) {
        for (float& value : row) value *= scale;
      }
    }
    return y;
  }

  /// The same for a matrix as it lies in memory (training).
  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, std::span<const std::int32_t> ids,
                             const std::type_identity_t<tensor_view<const T, 2>>& weight) const {
    const auto y = context.make(static_cast<index_t>(ids.size()), weight.size(1));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      expect(ids[i] >= 0 && ids[i] < weight.size(0), "embedding: token id ", ids[i],
             " is outside of the vocabulary of ", weight.size(0));
      const T* from = weight.data() + ids[i] * weight.strides()[0];
      const auto row = y.row(static_cast<index_t>(i));
      for (std::size_t f = 0; f < row.size(); ++f) row[f] = from[f] * static_cast<T>(scale);
    }
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, std::span<const std::int32_t> ids,
                const dual<T>& weight) const {
    if (!weight.wanted()) return;
    context.for_each_part(y.gradient.size(1), [&]<class Arch>(index_t begin, index_t end, Arch) {
      for (std::size_t i = 0; i < ids.size(); ++i) {
        T* const to = weight.gradient.data() + ids[i] * weight.gradient.strides()[0] + begin;
        kernels::add_scaled<Arch>(to, static_cast<T>(scale), y.gradient.row(static_cast<index_t>(i)).data() + begin,
                                  end - begin);
      }
    });
  }
};

}  // namespace runnel::ops
