// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <type_traits>

#include <runnel/ops/dense_product.hpp>
#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/product.hpp>

namespace runnel::ops {

/// Convolution over frames, without padding: [frames, inputs] to [1 + (frames - kernel) / stride, outputs].
///
/// The weight is [outputs, kernel * inputs / groups], a frame's channels side by side. Frames that lie one after
/// another are a matrix of overlapping rows, so this is a product over memory as it stands, one a group.
struct conv1d {
  index_t kernel = 1;
  index_t stride = 1;
  index_t groups = 1;

  /// Frames that come out of so many; 0 if there are fewer than the kernel covers.
  [[nodiscard]] index_t frames_out(index_t frames) const noexcept {
    return frames < kernel ? 0 : (frames - kernel) / stride + 1;
  }

  /// `bias` may be empty. Throws shape_error if the inputs do not fit.
  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x,
                             const std::type_identity_t<tensor_view<const T, 2>>& weight,
                             typename basic_eval<T>::vector bias = {}) const {
    check(x.size(1), weight.size(0), weight.size(1), bias);
    const auto y = context.make(frames_out(x.size(0)), weight.size(0));
    const auto scope = context.memory.mark();
    for (index_t g = 0; g < groups; ++g) {
      const auto part = group_of(context, tensor_view<const T, 2>(x), g);
      const index_t outputs = weight.size(0) / groups;
      detail::multiply<T>(context, {overlapping(part),
                                    {weight.data() + g * outputs * weight.size(1), 1, weight.size(1)},
                                    y.size(0),
                                    weight.size(1),
                                    outputs,
                                    y.data() + g * outputs,
                                    weight.size(0),
                                    bias.data() == nullptr ? nullptr : bias.data() + g * outputs,
                                    false});
    }
    context.memory.release(scope);
    return y;
  }

  /// The same over a packed weight.
  [[nodiscard]] eval::value forward(eval& context, const eval::value& x, const prepared_matrix& weight,
                                    tensor_view<const float, 1> bias = {}) const {
    check(x.size(1), weight.outputs(), weight.inputs(), bias);
    const index_t rows = frames_out(x.size(0));
    if (rows == 0) return context.make(0, weight.outputs());
    if (groups == 1) return product{}.forward(context, overlapping_rows(x, rows), weight, bias);
    const auto y = context.make(rows, weight.outputs());
    const auto scope = context.memory.mark();
    const auto whole = context.make(rows, weight.outputs());
    const index_t outputs = weight.outputs() / groups;
    constexpr auto width = static_cast<index_t>(quant::panel_features);
    for (index_t g = 0; g < groups; ++g) {
      const auto inner = context.memory.mark();
      const auto part = group_of(context, tensor_view<const float, 2>(x), g);
      const eval::value values(const_cast<float*>(part.data()), part.shape());  // only read
      auto task = detail::make_task(context, overlapping_rows(values, rows), weight, bias, weight.planes().bytes, {});
      task.y = whole;
      // Panels may hold outputs of the next group too, whose numbers are of no use.
      const index_t first = g * outputs / width, last = ((g + 1) * outputs + width - 1) / width;
      detail::for_each_panel(context, last - first, detail::panel_work(rows, weight.inputs()),
                             [&]<class Arch>(index_t begin, index_t end, quant::word* scratch, Arch) {
                               detail::run_panels<Arch>(task, first + begin, first + end, scratch);
                             });
      context.for_each_row(rows, outputs, [&]<class Arch>(index_t row, Arch) {
        std::copy_n(whole.row(row).data() + g * outputs, outputs, y.row(row).data() + g * outputs);
      });
      context.memory.release(inner);
    }
    context.memory.release(scope);
    return y;
  }

  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x, const dual<T>& weight,
                const dual<T, 1>& bias = {}) const {
    if (bias.wanted()) add_bias{}.backward(context, y, {}, bias);
    if (x.wanted() && x.fresh) std::fill_n(x.gradient.data(), x.gradient.size(), T(0));
    const index_t rows = y.gradient.size(0), all = y.gradient.size(1), outputs = all / groups;
    const index_t inner = weight.value.size(1);
    for (index_t g = 0; g < groups; ++g) {
      const auto scope = context.memory.mark();
      const T* dy = y.gradient.data() + g * outputs;
      const index_t first = g * outputs * inner;
      if (weight.wanted()) {
        const auto part = group_of(context, x.value, g);
        detail::multiply<T>(context, {{dy, 1, all},
                                      overlapping(part),
                                      outputs,
                                      rows,
                                      inner,
                                      weight.gradient.data() + first,
                                      inner,
                                      nullptr,
                                      true});
      }
      if (x.wanted()) {
        const auto spread = context.make(rows, inner);
        detail::multiply<T>(context, {{dy, all, 1},
                                      {weight.value.data() + first, inner, 1},
                                      rows,
                                      outputs,
                                      inner,
                                      spread.data(),
                                      inner,
                                      nullptr,
                                      false});
        gather(context, spread, g, x.gradient);
      }
      context.memory.release(scope);
    }
  }

 private:
  void check(index_t inputs, index_t outputs, index_t inner, tensor_view<const float, 1> bias) const {
    check_sizes(inputs, outputs, inner, bias.data() == nullptr ? outputs : bias.size());
  }
  void check(index_t inputs, index_t outputs, index_t inner, tensor_view<const double, 1> bias) const {
    check_sizes(inputs, outputs, inner, bias.data() == nullptr ? outputs : bias.size());
  }
  void check_sizes(index_t inputs, index_t outputs, index_t inner, index_t bias) const {
    expect<shape_error>(kernel > 0 && stride > 0 && groups > 0, "conv1d: kernel, stride and groups must be positive");
    expect<shape_error>(inputs % groups == 0 && outputs % groups == 0, "conv1d: ", inputs, " inputs and ", outputs,
                        " outputs do not divide into ", groups, " groups");
    expect<shape_error>(inner == kernel * (inputs / groups), "conv1d: the weight takes ", inner,
                        " numbers, a frame of the kernel's has ", kernel * (inputs / groups));
    expect<shape_error>(bias == outputs, "conv1d: bias has ", bias, " features, the weight gives ", outputs);
  }

  /// Channels of one group, side by side.
  template <class T>
  [[nodiscard]] tensor_view<const T, 2> group_of(basic_eval<T>& context, const tensor_view<const T, 2>& x,
                                                 index_t g) const {
    if (groups == 1) return x;
    const index_t width = x.size(1) / groups;
    const auto part = context.make(x.size(0), width);
    context.for_each_row(x.size(0), width, [&]<class Arch>(index_t row, Arch) {
      std::copy_n(x.row(row).data() + g * width, width, part.row(row).data());
    });
    return part;
  }

  /// The same as a view of `rows` rows, for groups that lie side by side.
  [[nodiscard]] eval::value overlapping_rows(const eval::value& x, index_t rows) const noexcept {
    return {x.data(), {rows, kernel * x.size(1)}, {stride * x.size(1), 1}};
  }

  /// Row r: what the kernel covers from frame r * stride on.
  template <class T>
  [[nodiscard]] kernels::dense_operand<T> overlapping(const tensor_view<const T, 2>& x) const noexcept {
    return {x.data(), stride * x.size(1), 1};
  }

  /// Adds what overlaps up, frame by frame: each frame from the rows that cover it, in order.
  template <class T>
  void gather(basic_eval<T>& context, const tensor_view<T, 2>& spread, index_t g, const tensor_view<T, 2>& to) const {
    const index_t width = to.size(1) / groups;
    context.for_each_row(to.size(0), width * kernel, [&]<class Arch>(index_t frame, Arch) {
      T* const out = to.row(frame).data() + g * width;
      const index_t first = frame < kernel ? 0 : (frame - kernel) / stride + 1;
      const index_t last = std::min(frame / stride, spread.size(0) - 1);
      for (index_t row = first; row <= last; ++row) {
        kernels::add<Arch>(out, spread.row(row).data() + (frame - row * stride) * width, width, out);
      }
    });
  }
};

/// Frames of zeros before and after: [frames, features] to [before + frames + after, features].
struct pad_frames {
  index_t before = 0;
  index_t after = 0;

  template <class T>
  [[nodiscard]] auto forward(basic_eval<T>& context, const typename basic_eval<T>::value& x) const {
    const index_t features = x.size(1);
    const auto y = context.make(before + x.size(0) + after, features);
    std::fill_n(y.data(), before * features, T(0));
    for (index_t row = 0; row < x.size(0); ++row) {
      std::copy_n(x.row(row).data(), features, y.row(before + row).data());
    }
    std::fill_n(y.data() + (before + x.size(0)) * features, after * features, T(0));
    return y;
  }
  template <class T>
  void backward(basic_eval<T>& context, const dual<T>& y, const dual<T>& x) const {
    detail::pass_on(context, T(1), y.gradient.slice(before, before + x.value.size(0)), x);
  }
};

}  // namespace runnel::ops
