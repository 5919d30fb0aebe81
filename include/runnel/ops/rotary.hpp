// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <span>

#include <runnel/kernels/elementwise.hpp>
#include <runnel/ops/eval.hpp>
#include <runnel/position/row_table.hpp>

namespace runnel::ops {

/// Cosines and sines of one pass over one stream, [rows, rotary / 2] each: the rows' own positions (for keys), and the
/// queries' positions in the frame of every segment. Segments without an offset share the rows' own.
struct rotary_angles {
  struct table {
    eval::value cosines;
    eval::value sines;
  };
  table own;
  std::array<table, num_groups> toward;
};

/// Tables for rotary position embedding (paper Appendix D.1, eq. 1): angle = position x frequency, taken in double; the
/// position may be fractional and never passes through a narrower type.
struct rotary_table {
  std::span<const double> frequencies;  // [rotary / 2]
  double magnitude = 1;                 // attention factor of yarn and longrope

  rotary_angles forward(eval& context, const row_table& rows) const {
    rotary_angles out;
    out.own = fill(context, rows, {});
    for (std::size_t s = 0; s < row_table::num_segments(); ++s) {
      const auto& offsets = rows.toward(s).offsets;
      const bool shifted = std::any_of(offsets.begin(), offsets.end(), [](double offset) { return offset != 0; });
      out.toward[s] = shifted ? fill(context, rows, offsets) : out.own;
    }
    return out;
  }

 private:
  rotary_angles::table fill(eval& context, const row_table& rows, std::span<const double> offsets) const {
    const auto half = static_cast<index_t>(frequencies.size());
    const rotary_angles::table out{context.make(rows.size(), half), context.make(rows.size(), half)};
    const auto values = rows.values();
    context.team.parallel_for(rows.size(), 16, [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const double position = values[at] + (offsets.empty() ? 0.0 : offsets[at]);
        for (index_t i = 0; i < half; ++i) {
          const double angle = position * frequencies[static_cast<std::size_t>(i)];
          out.cosines(row, i) = static_cast<float>(magnitude * std::cos(angle));
          out.sines(row, i) = static_cast<float>(magnitude * std::sin(angle));
        }
      }
    });
    return out;
  }
};

/// Rotates the heads of every row of x, [rows, heads * head_dim], into a new value. Rows for which `wanted(row)` is
/// false are left unset.
struct rotate {
  index_t head_dim = 0;

  template <class Wanted>
  eval::value forward(eval& context, const eval::value& x, const rotary_angles::table& angles, Wanted&& wanted) const {
    const auto y = context.make(x.size(0), x.size(1));
    const index_t heads = x.size(1) / head_dim;
    const index_t rotary = 2 * angles.cosines.size(1);
    context.for_each_row(x.size(0), 2 * x.size(1), [&]<class Arch>(index_t row, Arch) {
      if (!wanted(row)) return;
      for (index_t h = 0; h < heads; ++h) {
        kernels::rotate_half<Arch>(x.row(row).data() + h * head_dim, angles.cosines.row(row).data(),
                                   angles.sines.row(row).data(), rotary, head_dim, y.row(row).data() + h * head_dim);
      }
    });
    return y;
  }
};

}  // namespace runnel::ops
