// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>

/// \file
/// Pictures: gnuplot draws them, and this is where it is run.

namespace runnel::cli {

/// A picture could not be drawn: gnuplot is missing, failed, or did not end.
class picture_error : public error {
 public:
  using error::error;
};

/// Runs gnuplot on a script and gives what it writes to standard output. No shell, no start-up files; the program is
/// found as any command is. Throws picture_error that names the program, and how to get it where it is missing;
/// cancelled_error if `stop` was requested. A program that does not end is killed after half a minute.
[[nodiscard]] std::string run_gnuplot(std::string_view script, const std::stop_token& stop = {});

/// A text as gnuplot scripts have it, which is shown as it is: quotes, backslashes, braces, percent signs and all.
/// Control characters become spaces, what is no UTF-8, or no character of XML, becomes U+FFFD.
[[nodiscard]] std::string quoted_for_gnuplot(std::string_view text);

/// A text as XML and HTML have it, between tags and in attributes.
[[nodiscard]] std::string escaped_for_xml(std::string_view text);

/// An SVG that gnuplot writes for `commands`, a script without a terminal: it begins with "<svg ", names itself `title`
/// for those who cannot see it, and is the same for the same commands. Throws as `run_gnuplot`.
[[nodiscard]] std::string draw_svg(double width, double height, std::string_view title, std::string_view commands,
                                   const std::stop_token& stop = {});

/// The picture with a description that stays with it: what it shows, by which command.
[[nodiscard]] std::string described(std::string svg, std::string_view text);

/// About how wide a text is in a sans-serif font of that size, in pixels.
[[nodiscard]] double width_of(std::string_view text, double size);

/// The text, or its beginning with an ellipsis if it has more than `most` characters.
[[nodiscard]] std::string shortened(std::string_view text, std::size_t most);

/// A picture that is put together piece by piece: places are pixels from the upper left corner, colours are 0xrrggbb.
/// Boxes come first, then cells, lines, discs and texts.
class canvas {
 public:
  enum class align : std::uint8_t { left, center, right };
  struct ink {
    std::uint32_t color = 0x333333;
    double size = 11;
    align where = align::left;
    bool upward = false;  ///< turned by 90 degrees, to be read from below
    bool bold = false;
  };
  struct rectangle {
    double left, top, right, bottom;
  };
  struct place {
    double x, y;
  };
  /// What cells' values look like, and where the bar stands that says so.
  struct scale {
    double low = 0;
    double high = 1;
    std::string palette;  ///< as gnuplot's `set palette` takes it
    rectangle bar{};
  };

  void box(const rectangle& where, std::uint32_t color);
  /// A box whose colour is its value's on the scale.
  void cell(const rectangle& where, double value);
  void set_scale(scale how) { scale_ = std::move(how); }
  void line(place from, place to, std::uint32_t color, double width = 1);
  void disc(place where, std::uint32_t color);
  /// The text stands at its vertical middle.
  void text(place where, std::string_view what, const ink& how);

  /// Throws as `run_gnuplot`.
  [[nodiscard]] std::string svg(double width, double height, std::string_view title,
                                const std::stop_token& stop = {}) const;

 private:
  std::string boxes_, cells_, lines_, discs_, texts_;
  scale scale_;
};

}  // namespace runnel::cli
