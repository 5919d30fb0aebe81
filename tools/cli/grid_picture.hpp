// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace runnel::cli {

/// What stands at one row or column of a grid.
struct grid_label {
  std::string text;
  std::string note;  ///< small, between the text and the grid
  std::uint32_t color = 0x333333;
};

/// A grid of cells with named rows and columns, as pictures of attention are: cells are filled with a colour, or with
/// that of a value; the others stay empty. All texts are shown as they are.
struct grid_picture {
  struct range {
    std::size_t row, begin, end;  ///< cells [begin, end) of a row
    std::uint32_t color;
  };
  struct cell {
    std::size_t row, column;
    double value;
    std::string text;  ///< in the cell; may be empty
  };
  struct key {
    std::uint32_t color;
    std::string text;
  };
  struct value_scale {
    double low = 0, high = 1;
    std::string palette;  ///< as gnuplot's `set palette` takes it
    std::string title;
  };

  std::string title;
  std::string row_title, column_title;
  std::string note_title;  ///< what the notes are
  std::vector<grid_label> rows, columns;
  std::string end_title;              ///< what stands at the ends of rows
  std::vector<std::string> row_ends;  ///< right of each row; none, or as many as rows
  std::vector<range> ranges;
  std::vector<cell> cells;
  std::vector<std::size_t> row_cuts, column_cuts;  ///< a line before this row or column
  std::vector<key> legend;
  std::optional<value_scale> scale;  ///< of the cells' values
};

/// The grid as SVG; its size follows from what it shows. Throws as `run_gnuplot` (picture.hpp).
[[nodiscard]] std::string draw_grid(const grid_picture& what, const std::stop_token& stop = {});

}  // namespace runnel::cli
