// SPDX-License-Identifier: Apache-2.0

#include "plot_page.hpp"

#include <cstddef>
#include <variant>

#include <runnel/text/json_writer.hpp>

#include "console.hpp"
#include "picture.hpp"

namespace runnel::cli {

namespace {

constexpr const char* style = R"(
body { font: 16px/1.5 sans-serif; color: #222; background: #fafaf8; margin: 2rem auto; max-width: 76rem; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
p { max-width: 50rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; } dt { color: #666; } dd { margin: 0; }
code { font: 14px/1.4 monospace; background: #eee; padding: .1rem .3rem; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
figure { margin: 0; padding: .8rem; background: #fff; border: 1px solid #ddd; max-width: 100%; box-sizing: border-box; overflow-x: auto; }
figure svg { display: block; }
figcaption { font-size: 14px; color: #444; margin-top: .5rem; width: 0; min-width: 100%; }
)";

std::string paragraph(const std::string& text) { return "<p>" + escaped_for_xml(text) + "</p>\n"; }

std::string entry(const char* name, const std::string& html) {
  return message("<dt>", name, "</dt><dd>", html, "</dd>\n");
}

std::string in_any_direction(const std::string& text) {
  return "<span dir=\"auto\">" + escaped_for_xml(text) + "</span>";
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

void write_texts(text::json_writer& out, const char* key, const std::vector<std::string>& texts) {
  out.key(key);
  out.begin_array(true);
  for (const auto& one : texts) out.value(printable(one));
  out.end();
}

template <class Numbers>
void write_array(text::json_writer& out, const char* key, const Numbers& numbers) {
  out.key(key);
  out.begin_array(true);
  for (const auto one : numbers) out.value(one);
  out.end();
}

void write_row(text::json_writer& out, const plotted_row& row) {
  const auto range = [&](const char* key, std::size_t s) {
    write_array(out, key, std::vector<std::int32_t>{row.sees[s].begin, row.sees[s].end});
  };
  out.begin_object(true);
  out.member("group", row.of == group::source ? "source" : "target");
  out.member("index", row.index);
  out.member("pass", row.pass);
  out.member("position", row.value);
  out.member("offset_to_source", row.offsets[0]);
  out.member("offset_to_target", row.offsets[1]);
  range("sees_source", 0);
  range("sees_target", 1);
  if (row.predicts) out.member("predicts", *row.predicts);
  out.end();
}

void write_plan(text::json_writer& out, const plotted_plan& plan) {
  out.begin_object();
  out.member("name", plan.name);
  std::vector<index_t> read;
  for (index_t p = 0; p < plan.when.written(); ++p) read.push_back(plan.when.c(p));
  write_array(out, "source_rows_read_at_target_row", read);
  write_array(out, "source_positions", plan.keys[0]);
  write_array(out, "target_positions", plan.keys[1]);
  out.key("rows");
  out.begin_array();
  for (const auto& row : plan.rows) write_row(out, row);
  out.end();
  out.key("attention");
  out.begin_array();
  for (const auto& row : plan.attention) {
    out.begin_array(true);
    for (const double weight : row) out.value(static_cast<float>(weight));
    out.end();
  }
  out.end();
  out.end();
}

}  // namespace

std::string write_page(const page_head& head, const plotted_sentence& sentence,
                       const std::vector<page_section>& sections) {
  std::string out = message(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>",
      escaped_for_xml(shortened(joined(sentence.source_words), 60)), "</title>\n<style>", style,
      "</style>\n</head>\n<body>\n<h1>One sentence under every plan</h1>\n<dl>\n");
  out += entry("source", in_any_direction(joined(sentence.source_words)));
  out += entry("target", in_any_direction(sentence.translation) +
                             (sentence.written_by_model ? " (written by the model)" : " (given)"));
  out += entry("model", escaped_for_xml(head.model));
  if (!head.policy.empty()) out += entry("reads and writes", escaped_for_xml(head.policy));
  out += entry("command", "<code>" + escaped_for_xml(head.command) + "</code>");
  out += "</dl>\n";
  out += paragraph(
      "A model that translates while it reads has two sequences: the source, which grows as words are read, and the "
      "target, "
      "which grows as words are written. Each token is a row. What a plan decides is which rows a row may see, and at "
      "which positions they stand; the pictures show both, and what the model makes of them. All are of the sentence "
      "above. The section titles name the figures of the paper (arXiv 2505.16983) that they correspond to.");
  if (!sentence.source_ended)
    out += paragraph("The model stopped before it had read the whole source; the rest is not shown.");
  for (const auto& section : sections) {
    out += message("<h2>", escaped_for_xml(section.title), "</h2>\n");
    for (const auto& text : section.texts) out += paragraph(text);
    out += "<div class=\"pictures\">\n";
    for (const auto& one : section.pictures) {
      out += message("<figure id=\"", escaped_for_xml(one.file), "\">\n", one.svg, "<figcaption>",
                     escaped_for_xml(one.caption), " (<a href=\"", escaped_for_xml(one.file), "\">",
                     escaped_for_xml(one.file), "</a>)</figcaption>\n</figure>\n");
    }
    out += "</div>\n";
  }
  return out + "</body>\n</html>\n";
}

std::string write_numbers(const page_head& head, const plotted_sentence& sentence,
                          const std::vector<plotted_plan>& plans, double gamma) {
  text::json_writer out;
  out.begin_object();
  out.member("command", printable(head.command));
  out.member("model", printable(head.model));
  out.member("policy", head.policy);
  out.member("attention_of", head.of);
  out.member("gamma", gamma);
  out.member("written_by_model", sentence.written_by_model);
  write_texts(out, "source_words", sentence.source_words);
  write_texts(out, "target_words", sentence.target_words);
  write_texts(out, "source_tokens", sentence.source_texts);
  write_texts(out, "target_tokens", sentence.target_texts);
  write_array(out, "source_ids", sentence.source);
  write_array(out, "target_ids", sentence.target);
  write_array(out, "source_ends", sentence.source_ends);
  write_array(out, "target_ends", sentence.target_ends);
  out.key("plans");
  out.begin_array();
  for (const auto& plan : plans) write_plan(out, plan);
  out.end();
  out.end();
  return out.text() + '\n';
}

std::string describe_ranges(const plotted_plan& plan) {
  std::string out;
  if (plan.how.order == stream::event_order::read_all_first) {
    out = "Everything is read before the first word is written: each target row sees all of the source.";
  } else if (plan.how.source_sees_target()) {
    out =
        "One sequence in the order of arrival: each row sees all rows before it, source and target alike. The latest "
        "arrival predicts, so after a read that is a source row.";
  } else if (plan.passes > 1) {
    out =
        "When source arrives, all target rows are computed again over what is read by then: each block of target rows "
        "is one such pass, and its last rows predict.";
    if (plan.how.refresh == stream::refresh_rule::before_every_token) {
      out += " So it is before every token, for source rows too; tokens between two reads share a picture.";
    }
  } else {
    out =
        "The staircase: a target row sees the source words that had been read when its successor was written. Source "
        "rows see source alone, so nothing of them is ever computed again.";
  }
  if (std::holds_alternative<contiguous_positions>(plan.how.positions)) {
    out += plan.how.order == stream::event_order::read_all_first
               ? " Target positions follow the source's."
               : " Target positions follow what is read of the source: c+3 is target row 3 behind the c source rows "
                 "that the "
                 "row in question sees, so the target moves back as source arrives.";
  } else if (std::holds_alternative<interleaved_positions>(plan.how.positions)) {
    out += " Positions are those of arrival: source and target share one count.";
  } else if (const auto* grouped = std::get_if<grouped_positions>(&plan.how.positions)) {
    out += message(" Source and target count for themselves; the target's count begins at phi = ", grouped->phi, '.');
  } else {
    out += " Positions of arrival, but for the removed side, which stands at 0 throughout.";
  }
  if (plan.windowed) out += " Layers with a sliding window see less than that: only the last keys of each range.";
  return out;
}

}  // namespace runnel::cli
