// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plot_pictures.hpp"
#include "plot_rows.hpp"

namespace runnel::cli {

/// One picture of a page, also a file beside it.
struct page_picture {
  std::string file;  ///< its name, "ranges-batch.svg"
  std::string svg;
  std::string caption;  ///< plain text
};

/// Pictures of one kind, with what they say.
struct page_section {
  std::string title;
  std::vector<std::string> texts;  ///< paragraphs, plain text
  std::vector<page_picture> pictures;
};

/// What stands at the head of a page.
struct page_head {
  std::string model;
  std::string command;
  std::string policy;  ///< "wait-3", or nothing
  std::string of;      ///< whose attention
};

/// A page that needs nothing beside it: pictures are in it, and no network is asked.
[[nodiscard]] std::string write_page(const page_head& head, const plotted_sentence& sentence,
                                     const std::vector<page_section>& sections);

/// All numbers behind the pictures, as JSON.
[[nodiscard]] std::string write_numbers(const page_head& head, const plotted_sentence& sentence,
                                        const std::vector<plotted_plan>& plans, double gamma);

/// What a picture of one plan's ranges or attention shows in particular, in a sentence or two.
[[nodiscard]] std::string describe_ranges(const plotted_plan& plan);

}  // namespace runnel::cli
