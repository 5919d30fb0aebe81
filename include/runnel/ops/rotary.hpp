// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <span>

#include <runnel/ops/eval.hpp>
#include <runnel/position/row_table.hpp>

namespace runnel::ops {

/// Cosines and sines of one pass over one stream, [rows, rotary / 2] each: the rows' own positions (for keys), and the
/// queries' positions in the frame of every segment. Segments without an offset share the rows' own.
template <class T>
struct basic_rotary_angles {
  struct table {
    tensor_view<T, 2> cosines;
    tensor_view<T, 2> sines;
  };
  table own;
  std::array<table, num_groups> toward;
};

using rotary_angles = basic_rotary_angles<float>;

/// Tables for rotary position embedding (paper Appendix D.1, eq. 1): angle = position x frequency, taken in double; the
/// position may be fractional and never passes through a narrower type.
struct rotary_table {
  std::span<const double> frequencies;  // [rotary / 2]
  double magnitude = 1;                 // attention factor of yarn and longrope

  template <class T>
  [[nodiscard]] basic_rotary_angles<T> forward(basic_eval<T>& context, const row_table& rows) const {
    basic_rotary_angles<T> out;
    out.own = fill(context, rows, {});
    for (std::size_t s = 0; s < row_table::num_segments(); ++s) {
      const auto& offsets = rows.toward(s).offsets;
      const bool shifted = std::any_of(offsets.begin(), offsets.end(), [](double offset) { return offset != 0; });
      out.toward[s] = shifted ? fill(context, rows, offsets) : out.own;
    }
    return out;
  }

 private:
  template <class T>
  [[nodiscard]] auto fill(basic_eval<T>& context, const row_table& rows, std::span<const double> offsets) const {
    const auto half = static_cast<index_t>(frequencies.size());
    const typename basic_rotary_angles<T>::table out{context.make(rows.size(), half), context.make(rows.size(), half)};
    const auto values = rows.values();
    context.team.parallel_for(rows.size(), 16, [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const double position = values[at] + (offsets.empty() ? 0.0 : offsets[at]);
        for (index_t i = 0; i < half; ++i) {
          const double angle = position * frequencies[static_cast<std::size_t>(i)];
          out.cosines(row, i) = static_cast<T>(magnitude * std::cos(angle));
          out.sines(row, i) = static_cast<T>(magnitude * std::sin(angle));
        }
      }
    });
    return out;
  }
};

}  // namespace runnel::ops
