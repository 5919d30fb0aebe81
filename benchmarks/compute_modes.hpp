// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/ops/product.hpp>

/// \file
/// The library's compute modes as lists and names, so that a new one is measured without a change here; and what keys
/// and values are stored as, by name.

namespace benchmarks {

/// Every compute mode, in the order of its enumeration.
inline std::vector<runnel::ops::compute_mode> all_compute_modes() {
  std::vector<runnel::ops::compute_mode> all;
  for (unsigned i = 0; i < 256; ++i) {
    const auto mode = static_cast<runnel::ops::compute_mode>(i);
    if (runnel::ops::name_of(mode) == "unknown") break;
    all.push_back(mode);
  }
  return all;
}

/// Those that weights of a format are really multiplied in: no mode that falls back to another.
inline std::vector<runnel::ops::compute_mode> compute_modes_for(runnel::quant::weight_format format) {
  auto all = all_compute_modes();
  std::erase_if(all, [&](auto mode) { return runnel::ops::effective_compute(mode, format) != mode; });
  return all;
}

/// Their names between commas.
inline std::string compute_mode_names() {
  std::string names;
  for (const auto mode : all_compute_modes()) {
    names += (names.empty() ? "" : ",") + std::string(runnel::ops::name_of(mode));
  }
  return names;
}

inline std::optional<runnel::ops::compute_mode> compute_mode_named(std::string_view name) {
  for (const auto mode : all_compute_modes()) {
    if (runnel::ops::name_of(mode) == name) return mode;
  }
  return std::nullopt;
}

}  // namespace benchmarks
