// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <runnel/core/workspace.hpp>
#include <runnel/kernels/key_value_page.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::autograd {

/// Keys and values of one stream on a tape: what attention reads in its pages for the layer that runs, and, for the way
/// back, rows of rotated keys and of values of every layer with their gradients. All of it lies in the tape's memory.
template <class T>
class key_store {
 public:
  using value_type = T;

  /// `counts` are the rows of each group that a pass will store. `memory` is the tape's.
  key_store(index_t layers, index_t kv_heads, index_t head_dim, const std::array<index_t, num_groups>& counts,
            workspace& memory)
      : kv_heads_(kv_heads), head_dim_(head_dim), counts_(counts), layers_(static_cast<std::size_t>(layers)) {
    const auto bytes = static_cast<std::size_t>(kv_heads * kernels::page_head_bytes<T>(head_dim));
    for (std::size_t g = 0; g < num_groups; ++g) {
      for (index_t key = 0; key < counts[g]; key += kernels::page_keys) {
        pages_[g].push_back(memory.take<std::byte>(bytes));
        std::fill_n(pages_[g].back(), bytes, std::byte{0});
      }
    }
  }

  /// Takes memory for a layer's rows. To be called before they are written.
  void open(index_t layer, workspace& memory) {
    for (std::size_t g = 0; g < num_groups; ++g) {
      auto& to = layers_[static_cast<std::size_t>(layer)][g];
      for (auto* part : {&to.keys, &to.values}) {
        const std::size_t size = static_cast<std::size_t>(counts_[g] * kv_heads_ * head_dim_);
        const shape<2> sizes{counts_[g], kv_heads_ * head_dim_};
        const tensor_view<T, 2> gradient(memory.take<T>(size), sizes);
        std::fill_n(gradient.data(), size, T(0));
        part->numbers = {memory.take<T>(size), sizes};
        part->gradient = gradient;
      }
    }
  }

  void write(index_t layer, group which, const kernels::key_value_rows<T>& entries) noexcept {
    const auto g = static_cast<std::size_t>(which);
    entries.by_page([&](std::size_t page, const auto& part) {
      kernels::store_key_values<T>(pages_[g][page], part, kv_heads_, head_dim_);
    });
    const auto& to = layers_[static_cast<std::size_t>(layer)][g];
    for (index_t r = 0; r < entries.count; ++r) {
      const index_t at = entries.storage + r;
      std::copy_n(entries.keys + r * entries.key_stride, kv_heads_ * head_dim_, to.keys.numbers.row(at).data());
      std::copy_n(entries.values + r * entries.value_stride, kv_heads_ * head_dim_, to.values.numbers.row(at).data());
    }
  }

  /// Nothing is ever dropped.
  [[nodiscard]] index_t dropped(group) const noexcept { return 0; }

  /// Pages of the layer that was written last.
  [[nodiscard]] std::span<std::byte* const> pages(index_t, group which) const noexcept {
    return pages_[static_cast<std::size_t>(which)];
  }
  template <class F>
  decltype(auto) with_storage(F&& f) const {
    return f(T{});
  }

  /// Rotated keys of a layer, [rows, kv_heads * head_dim], and what their gradients have gathered.
  [[nodiscard]] ops::dual<T> keys(index_t layer, group which) const noexcept {
    const rows& of = layers_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(which)].keys;
    return {of.numbers, of.gradient, false};
  }
  /// Values, likewise.
  [[nodiscard]] ops::dual<T> values(index_t layer, group which) const noexcept {
    const rows& of = layers_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(which)].values;
    return {of.numbers, of.gradient, false};
  }

 private:
  struct rows {
    tensor_view<T, 2> numbers;
    tensor_view<T, 2> gradient;
  };
  struct entry {
    rows keys;
    rows values;
  };

  index_t kv_heads_;
  index_t head_dim_;
  std::array<index_t, num_groups> counts_;
  std::vector<std::array<entry, num_groups>> layers_;
  std::array<std::vector<std::byte*>, num_groups> pages_;
};

}  // namespace runnel::autograd
