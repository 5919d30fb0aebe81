// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include <runnel/nn/parameters.hpp>
#include <runnel/ops/low_rank.hpp>

/// \file
/// Low-rank adapters (LoRA, arXiv 2106.09685): small matrices beside frozen ones, chosen by every stream for itself.

namespace runnel::nn {

/// The linear modules of a decoder layer that an adapter may change.
enum class adapted_module : std::uint8_t { query, key, value, output, gate, up, down };

inline constexpr std::size_t num_adapted_modules = 7;

/// What an adapter adds to one linear module: scale (x down^T up^T + up_bias) + bias, where scale is alpha / rank, or
/// alpha / sqrt(rank), times that of the stream that uses it.
template <class Parameters>
struct low_rank {
  typename Parameters::matrix down;     ///< A, [rank, inputs]; empty: only the bias changes
  typename Parameters::matrix up;       ///< B, [outputs, rank]
  typename Parameters::vector up_bias;  ///< [outputs] or empty
  typename Parameters::vector bias;     ///< [outputs] or empty: what a trained bias differs by, whatever the scale
  float scale = 1;

  [[nodiscard]] bool empty() const noexcept { return down.outputs() == 0 && bias.size() == 0; }
};

/// An adapter for one decoder: const, and shared by the streams that use it.
template <class Parameters>
struct adapter {
  std::vector<std::array<low_rank<Parameters>, num_adapted_modules>> layers;
  low_rank<Parameters> head;
};

/// An adapter as a stream uses it.
template <class Parameters>
struct active_adapter {
  const adapter<Parameters>* weights = nullptr;
  float scale = 1;  ///< times the adapter's own

  [[nodiscard]] const low_rank<Parameters>& at(index_t layer, adapted_module which) const noexcept {
    return weights->layers[static_cast<std::size_t>(layer)][static_cast<std::size_t>(which)];
  }
};

/// Rows [first, last) of a pass, and the adapters of the stream that they belong to.
template <class Parameters>
struct adapted_rows {
  index_t first = 0;
  index_t last = 0;
  std::span<const active_adapter<Parameters>> adapters;
};

/// Whether any stream's adapters change one of these modules.
template <class Parameters>
[[nodiscard]] bool changes(std::span<const adapted_rows<Parameters>> streams, index_t layer,
                           std::initializer_list<adapted_module> modules) noexcept {
  for (const auto& stream : streams) {
    for (const auto& active : stream.adapters) {
      for (const adapted_module which : modules) {
        if (!active.at(layer, which).empty()) return true;
      }
    }
  }
  return false;
}

/// Whether any of these adapters changes the output head.
template <class Parameters>
[[nodiscard]] bool changes_head(std::span<const active_adapter<Parameters>> adapters) noexcept {
  for (const auto& active : adapters) {
    if (!active.weights->head.empty()) return true;
  }
  return false;
}

/// Adds what `pick(active_adapter)` changes to y = linear(x), for the rows of streams that have adapters; the others'
/// bits stay.
template <class Parameters, class Context, class Pick>
void adapt(Context& context, const typename Context::value& x, const typename Context::value& y,
           std::span<const adapted_rows<Parameters>> streams, Pick&& pick) {
  for (const auto& stream : streams) {
    for (const auto& active : stream.adapters) {
      const low_rank<Parameters>& change = pick(active);
      if (change.empty()) continue;
      context(ops::add_low_rank{active.scale * change.scale}, y.slice(stream.first, stream.last),
              x.slice(stream.first, stream.last), change);
    }
  }
}

}  // namespace runnel::nn
