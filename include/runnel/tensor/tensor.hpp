// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/tensor/shape.hpp>

namespace runnel {

/// Non-owning view of elements in memory: shape, strides in elements, no ownership. Cheap to copy. `T` may be const.
template <class T, std::size_t Rank>
class tensor_view {
 public:
  static_assert(Rank >= 1);
  using value_type = std::remove_const_t<T>;

  tensor_view() = default;
  /// Row-major without gaps.
  tensor_view(T* data, const runnel::shape<Rank>& sizes) noexcept
      : data_(data), shape_(sizes), strides_(row_major_strides(sizes)) {}
  tensor_view(T* data, const runnel::shape<Rank>& sizes, const std::array<index_t, Rank>& strides) noexcept
      : data_(data), shape_(sizes), strides_(strides) {}
  /// A view of const elements from one of mutable elements.
  template <class U>
  requires(std::same_as<T, const U>) tensor_view(const tensor_view<U, Rank>& other)
  noexcept  // NOLINT(google-explicit-constructor): as T* to const T*
      : data_(other.data()), shape_(other.shape()), strides_(other.strides()) {}

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] const runnel::shape<Rank>& shape() const noexcept { return shape_; }
  [[nodiscard]] const std::array<index_t, Rank>& strides() const noexcept { return strides_; }
  [[nodiscard]] index_t size(std::size_t axis) const noexcept { return shape_[axis]; }
  [[nodiscard]] index_t size() const noexcept {
    index_t count = 1;
    for (const index_t size : shape_) count *= size;
    return count;
  }
  [[nodiscard]] bool contiguous() const noexcept { return strides_ == row_major_strides(shape_); }

  /// Element at `indices`, unchecked.
  template <std::convertible_to<index_t>... I>
  requires(sizeof...(I) == Rank) [[nodiscard]] T& operator()(I... indices) const noexcept {
    return data_[offset({static_cast<index_t>(indices)...})];
  }

  /// Element at `indices`. Throws shape_error outside of the shape.
  template <std::convertible_to<index_t>... I>
  requires(sizeof...(I) == Rank) [[nodiscard]] T& at(I... indices) const {
    const runnel::shape<Rank> where{static_cast<index_t>(indices)...};
    for (std::size_t i = 0; i < Rank; ++i) {
      expect<shape_error>(where[i] >= 0 && where[i] < shape_[i], "tensor: index ", to_string(where),
                          " is outside of shape ", to_string(shape_));
    }
    return data_[offset(where)];
  }

  /// Index `i` of the outermost axis, as a view of one rank less.
  [[nodiscard]] tensor_view<T, Rank - 1> operator[](index_t i) const noexcept requires(Rank >= 2) {
    runnel::shape<Rank - 1> sizes;
    std::array<index_t, Rank - 1> steps;
    std::copy(shape_.begin() + 1, shape_.end(), sizes.begin());
    std::copy(strides_.begin() + 1, strides_.end(), steps.begin());
    return {data_ + i * strides_[0], sizes, steps};
  }

  /// Row `i` of a matrix whose rows have no gaps.
  [[nodiscard]] std::span<T> row(index_t i) const noexcept requires(Rank == 2) {
    return {data_ + i * strides_[0], static_cast<std::size_t>(shape_[1])};
  }

  /// Elements [begin, end) of the outermost axis. Throws shape_error outside of it.
  [[nodiscard]] tensor_view slice(index_t begin, index_t end) const {
    expect<shape_error>(0 <= begin && begin <= end && end <= shape_[0], "tensor: slice [", begin, ", ", end,
                        ") is outside of shape ", to_string(shape_));
    auto sizes = shape_;
    sizes[0] = end - begin;
    return {data_ + begin * strides_[0], sizes, strides_};
  }

  /// The same elements under another shape. Throws shape_error if the counts differ or the view has gaps.
  template <std::size_t NewRank>
  [[nodiscard]] tensor_view<T, NewRank> reshape(const runnel::shape<NewRank>& sizes) const {
    expect<shape_error>(contiguous(), "tensor: a view with gaps cannot be reshaped");
    expect<shape_error>(element_count(sizes) == size(), "tensor: shape ", to_string(shape_), " cannot become ",
                        to_string(sizes));
    return {data_, sizes};
  }

  /// Axes in reverse order; no element moves.
  [[nodiscard]] tensor_view transposed() const noexcept {
    auto out = *this;
    std::reverse(out.shape_.begin(), out.shape_.end());
    std::reverse(out.strides_.begin(), out.strides_.end());
    return out;
  }

 private:
  [[nodiscard]] index_t offset(const runnel::shape<Rank>& where) const noexcept {
    index_t sum = 0;
    for (std::size_t i = 0; i < Rank; ++i) sum += where[i] * strides_[i];
    return sum;
  }

  T* data_ = nullptr;
  runnel::shape<Rank> shape_{};
  std::array<index_t, Rank> strides_{};
};

/// Owning tensor: row-major, 64-byte aligned, zeroed. Move-only; `clone` copies. What was moved from is empty.
template <class T, std::size_t Rank>
class tensor {
 public:
  tensor() = default;
  /// Throws shape_error for negative or overflowing sizes.
  explicit tensor(const runnel::shape<Rank>& sizes)
      : buffer_(static_cast<std::size_t>(element_count(sizes))), view_(buffer_.data(), sizes) {}
  tensor(tensor&& other) noexcept : buffer_(std::move(other.buffer_)), view_(std::exchange(other.view_, {})) {}
  tensor& operator=(tensor&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    view_ = std::exchange(other.view_, {});
    return *this;
  }

  [[nodiscard]] tensor clone() const {
    tensor out(shape());
    std::copy(data(), data() + size(), out.data());
    return out;
  }

  [[nodiscard]] tensor_view<T, Rank> view() noexcept { return view_; }
  [[nodiscard]] tensor_view<const T, Rank> view() const noexcept { return view_; }
  operator tensor_view<T, Rank>() noexcept { return view_; }              // NOLINT(google-explicit-constructor)
  operator tensor_view<const T, Rank>() const noexcept { return view_; }  // NOLINT(google-explicit-constructor)

  [[nodiscard]] T* data() noexcept { return buffer_.data(); }
  [[nodiscard]] const T* data() const noexcept { return buffer_.data(); }
  [[nodiscard]] std::span<T> values() noexcept { return buffer_.span(); }
  [[nodiscard]] std::span<const T> values() const noexcept { return buffer_.span(); }
  [[nodiscard]] const runnel::shape<Rank>& shape() const noexcept { return view_.shape(); }
  [[nodiscard]] index_t size(std::size_t axis) const noexcept { return view_.size(axis); }
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(buffer_.size()); }

  template <class... I>
  [[nodiscard]] T& operator()(I... indices) noexcept {
    return view_(indices...);
  }
  template <class... I>
  [[nodiscard]] const T& operator()(I... indices) const noexcept {
    return view_(indices...);
  }
  template <class... I>
  [[nodiscard]] T& at(I... indices) {
    return view_.at(indices...);
  }
  template <class... I>
  [[nodiscard]] const T& at(I... indices) const {
    return view_.at(indices...);
  }

 private:
  aligned_buffer<T> buffer_;
  tensor_view<T, Rank> view_;
};

}  // namespace runnel
