// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <runnel/core/index.hpp>

namespace runnel {

/// Which text a row belongs to, erased: the column that kernels and caches see.
enum class group : std::uint8_t { source = 0, target = 1 };

inline constexpr std::size_t num_groups = 2;

/// The text that is read (prompt and user header included). Origin of source positions.
struct source_group {
  static constexpr group id = group::source;
  static constexpr std::string_view name = "source";
};

/// The text that is written (assistant header included). Origin of target positions.
struct target_group {
  static constexpr group id = group::target;
  static constexpr std::string_view name = "target";
};

/// A tag type that names a group of positions.
template <class T>
concept Group = requires {
  { T::id } -> std::convertible_to<group>;
  { T::name } -> std::convertible_to<std::string_view>;
};

}  // namespace runnel
