// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <string>

#include "plot_rows.hpp"

/// \file
/// The pictures of `runnel plot`, as SVG. All throw as `run_gnuplot` (picture.hpp), and limit_error for more rows or
/// columns than can be read.

namespace runnel::cli {

/// How pictures are drawn.
struct plot_look {
  bool whole_prompt = false;  ///< the prompt's tokens one by one, else as one row and column
  double gamma = 0.5;         ///< of the normalised map
  double farthest = 1;        ///< the distance that has the strongest colour, on both sides of zero
  std::string of;             ///< whose attention: "mean of all layers and heads"
};

/// Rows or columns of which more cannot be read.
inline constexpr std::size_t most_plotted_rows = 120;

/// Which keys each row sees, and all positions (paper Fig. 5).
[[nodiscard]] std::string draw_ranges(const plotted_plan& plan, const plotted_sentence& sentence, const plot_look& look,
                                      const std::stop_token& stop);

/// How far each target row stands from the keys it sees (paper Fig. 6).
[[nodiscard]] std::string draw_distances(const plotted_plan& plan, const plotted_sentence& sentence,
                                         const plot_look& look, const std::stop_token& stop);

/// The greatest distance, either way, that `draw_distances` shows.
[[nodiscard]] double farthest_distance(const plotted_plan& plan, const plotted_sentence& sentence,
                                       const plot_look& look);

/// Maps of attention: as it is (paper Fig. 7 left), without the sink (Fig. 7 right), and with columns normalised to
/// [0, 1] and the gamma (Fig. 3, equation 4).
enum class attention_map { absolute, without_sink, normalised };
[[nodiscard]] std::string draw_attention(const plotted_plan& plan, const plotted_sentence& sentence,
                                         attention_map which, const plot_look& look, const std::stop_token& stop);

/// When words were read and written (paper Fig. 8). `plan` says by which reads and writes.
[[nodiscard]] std::string draw_timeline(const plotted_plan& plan, const plotted_sentence& sentence,
                                        const std::stop_token& stop);

/// Columns of `weights`, [rows][columns], each brought to [0, 1] by its least and greatest weight and raised to gamma
/// (paper eq. 4); a column of equal weights becomes zeros.
[[nodiscard]] std::vector<std::vector<double>> normalise_columns(std::vector<std::vector<double>> weights,
                                                                 double gamma);

}  // namespace runnel::cli
