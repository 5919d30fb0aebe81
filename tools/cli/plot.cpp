// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <runnel/io/atomic_file.hpp>

#include "command.hpp"
#include "console.hpp"
#include "options.hpp"
#include "picture.hpp"
#include "plot_page.hpp"
#include "plot_pictures.hpp"
#include "plot_rows.hpp"
#include "plot_speech.hpp"
#include "streaming_options.hpp"
#include "text_lines.hpp"

namespace runnel::cli {

namespace {

/// All plans of the paper, those with a phi at the one given.
std::vector<stream::plan> all_plans(double phi) {
  using namespace stream;
  using side = removed_positions::side;
  return {batch(),
          batch_grouped(phi),
          interleaved(),
          batch_streaming(reencode::none),
          batch_streaming(reencode::positions),
          batch_streaming(reencode::all),
          group_streaming(phi),
          removed(side::source),
          removed(side::target),
          removed(side::both)};
}

/// "mean", or a number below `count`.
std::optional<index_t> parse_choice(const std::string& text, const char* option, index_t count) {
  if (text == "mean") return std::nullopt;
  index_t value = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  expect<config_error>(failure == std::errc() && stop == text.data() + text.size() && value >= 0 && value < count,
                       option, ": expected mean or a number from 0 to ", count - 1, ", found '", printable(text), "'");
  return value;
}

std::string name_of(const attention_choice& of) {
  if (!of.layer && !of.head) return "mean of all layers and heads";
  const auto one = [](const char* what, std::optional<index_t> which) {
    return which ? message(what, ' ', *which) : message("mean of all ", what, 's');
  };
  return one("layer", of.layer) + ", " + one("head", of.head);
}

/// Line `number` of a file.
std::string line_of(const std::string& path, const char* option, index_t number) {
  const auto lines = read_lines(path);
  expect<config_error>(number <= static_cast<index_t>(lines.size()), "--line: expected at most ", lines.size(),
                       ", the lines of ", option, " ", printable(path), ", found ", number);
  return lines[static_cast<std::size_t>(number - 1)];
}

class plot_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "plot"; }
  [[nodiscard]] const char* summary() const override {
    return "Draw one sentence: what every plan lets rows see, positions, attention, reads and writes";
  }

  void declare(arguments& options) override {
    model_.declare(options);
    source_option_ = options.text("-s,--source", source_, "TEXT|FILE",
                                  "The sentence; with --line the file that has it, -: standard input");
    audio_option_ =
        options.text("--audio", audio_, "FILE",
                     "With a model of speech: a recording, of half a minute at most, in place of a sentence");
    target_option_ =
        options.text("--target", target_, "TEXT|FILE", "Its translation, taken as it is; else the model writes one");
    line_option_ = options.whole("--line", line_, "N", "Take line N, from 1, of the files --source and --target", 1);
    streaming_.declare(options, "Draw this plan alone; else all are drawn, and group-streaming writes the target. ");
    options.text("--layer", layer_, "N", "Attention of this layer, from 0, or the mean of all");
    options.text("--head", head_, "N", "Attention of this head, from 0, or the mean of all");
    options.real("--gamma", gamma_, "G",
                 "Power to which normalised attention is raised; below 1 small ones show better", 0.01, 100);
    options.flag("--whole-prompt", look_.whole_prompt, "Show the prompt token by token, not as one row and column");
    options
        .text("-o,--output", output_, "DIR",
              "Folder for index.html with all pictures in it, each as SVG too, and the numbers in plot.json; files of "
              "an earlier run are replaced")
        .required();
    options.footer(
        "Needs gnuplot. Corresponds to the paper's figures 3 and 7 (attention), and in its appendix 5 (ranges and\n"
        "positions), 6 (distances) and 8 (reads and writes). Pictures have at most 120 rows and columns.\n"
        "Examples:\n"
        "  runnel plot -m model.gguf --source \"The cat sleeps on the old sofa .\" --output pictures/\n"
        "  runnel plot -m model.gguf --source test.en --target test.fr --line 7 --plan group-streaming --phi 0.5 -o "
        "7/\n"
        "  runnel plot -m digits --audio examples/recordings/theo.wav --wait-k 3 -o pictures/");
  }

  void run() override {
    expect<config_error>(source_option_.given() != audio_option_.given(),
                         "plot: expected one of --source and --audio, found ",
                         source_option_.given() ? "both" : "neither");
    auto options = streaming_.get(model_);
    if (audio_option_.given()) return draw_audio(std::move(options));
    read_texts();
    static_cast<void>(run_gnuplot("exit\n", stop()));  // before the model takes its time
    auto model = model_.load();
    streaming_.apply(model, options);
    options.adapters = model_.adapters(model);
    options.validate(model.context());
    const auto& config = model.network->config();
    const attention_choice of{parse_choice(layer_, "--layer", config.num_hidden_layers),
                              parse_choice(head_, "--head", config.num_attention_heads), stop()};
    look_.gamma = gamma_;
    look_.of = name_of(of);
    head_of_page_ = {model.name, command_line(), streaming_.policy(), look_.of};
    make_folder();
    sentence_ = target_option_.given() ? force_sentence(model, options, source_, target_, streaming_.wait_k())
                                       : write_sentence(model, options, source_, stop());
    for (const auto& how : plans(options)) {
      how.validate(options.limit(model.context()));
      plans_.push_back(plot_plan(how, sentence_, config.sliding_window));
      check_context(plans_.back(), options.limit(model.context()));
    }
    // What cannot be read is refused before the longest part.
    add_ranges();
    add_distances();
    for (auto& plan : plans_) watch_attention(plan, sentence_, model, options, of);
    add_attention();
    add_timelines();
    describe_pictures();
    write();
  }

 private:
  /// A recording under one plan.
  void draw_audio(stream::session_options options) {
    expect<config_error>(!target_option_.given() && !line_option_.given(), "plot: --target and --line are for text");
    static_cast<void>(run_gnuplot("exit\n", stop()));
    const auto model = transcribe::load_speech_model(model_.path());
    const auto& config = model.language.network->config();
    options.validate(model.language.context());
    const attention_choice of{parse_choice(layer_, "--layer", config.num_hidden_layers),
                              parse_choice(head_, "--head", config.num_attention_heads), stop()};
    look_.of = name_of(of);
    head_of_page_ = {model.language.name, command_line(), streaming_.policy(), look_.of};
    make_folder();
    const auto recording = hear_recording(model, options, audio_, stop());
    sentence_ = recording.sentence;
    plans_.push_back(plot_plan(options.how, sentence_, config.sliding_window));
    check_context(plans_.back(), options.limit(model.language.context()));
    watch_attention(plans_.back(), sentence_, model.language, options, of);
    auto& to =
        begin_section("What was heard, and what was written",
                      {"Time runs to the right. A row of cells is a token as it is chosen: the darker a cell, the "
                       "more of the attention that goes to audio goes there. White is not visible, or not looked "
                       "at; chunks that were not read yet are not visible."});
    to.pictures.push_back({"recording.svg", draw_recording(recording, plans_.back(), gamma_, look_.of, stop()),
                           "The wave, reads, writes, and attention over one axis of time."});
    add_timelines();
    describe_pictures();
    write();
  }

  [[nodiscard]] static std::stop_token stop() { return interrupts::instance().token(); }

  void read_texts() {
    if (line_option_.given()) {
      expect<config_error>(!(source_ == "-" && target_option_.given() && target_ == "-"),
                           "plot: --source and --target cannot both be standard input");
      source_ = line_of(source_, "--source", line_);
      if (target_option_.given()) target_ = line_of(target_, "--target", line_);
    }
    const auto blank = [](const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; };
    expect<config_error>(!blank(source_), "--source: expected a sentence, found an empty one");
    expect<config_error>(!target_option_.given() || !blank(target_),
                         "--target: expected a sentence, found an empty one");
  }

  [[nodiscard]] std::vector<stream::plan> plans(const stream::session_options& options) const {
    if (streaming_.plan_given()) return {options.how};
    const auto* grouped = std::get_if<grouped_positions>(&options.how.positions);
    return all_plans(grouped != nullptr ? grouped->phi : 0);
  }

  static void check_context(const plotted_plan& plan, index_t context) {
    double most = 0;
    for (const auto& row : plan.rows) most = std::max({most, row.value, row.value + row.offsets[0]});
    expect<limit_error>(most < static_cast<double>(context), "plot: under ", plan.name, " the text reaches position ",
                        most, ", but the context ends before ", context);
  }

  void make_folder() const {
    std::error_code problem;
    std::filesystem::create_directories(output_, problem);
    expect<io_error>(!problem && std::filesystem::is_directory(output_, problem), "--output: cannot make the folder '",
                     printable(output_), "': ", problem ? problem.message() : "a file of this name is in the way");
  }

  page_section& begin_section(std::string title, std::vector<std::string> texts) {
    sections_.push_back({std::move(title), std::move(texts), {}});
    return sections_.back();
  }

  void add_ranges() {
    auto& to = begin_section(
        "What each row sees, and where it stands (paper, appendix, Fig. 5)",
        {"A row of a picture is a row of the stream, asking; a column is a row of the stream, being seen. A filled "
         "cell "
         "means: this row's attention may go there. Small numbers are positions. At the right stands the token that is "
         "chosen by the row's logits; rows without one predict nothing.",
         "The plans differ in three things: whether source rows see target rows (purple), whether written rows are "
         "computed "
         "again when source arrives (several blocks of target rows), and how positions are counted."});
    for (const auto& plan : plans_) {
      to.pictures.push_back(
          {"ranges-" + plan.slug + ".svg", draw_ranges(plan, sentence_, look_, stop()), describe_ranges(plan)});
    }
  }

  void add_distances() {
    auto& to = begin_section(
        "How far the target stands from what it sees (paper, appendix, Fig. 6)",
        {"A number is the query's position minus the key's: rotary attention knows nothing of positions but this "
         "distance. Toward the target's own rows it is the same everywhere, as it always was; toward the source it is "
         "what the plan makes of it. All pictures have one scale of colours.",
         look_.whole_prompt ? "" : "The prompt's columns are left out; --whole-prompt shows them."});
    std::erase(to.texts, std::string());
    for (const auto& plan : plans_)
      look_.farthest = std::max(look_.farthest, farthest_distance(plan, sentence_, look_));
    for (const auto& plan : plans_) {
      to.pictures.push_back({"distances-" + plan.slug + ".svg", draw_distances(plan, sentence_, look_, stop()),
                             describe_distances(plan)});
    }
  }

  [[nodiscard]] static std::string describe_distances(const plotted_plan& plan) {
    if (std::holds_alternative<grouped_positions>(plan.how.positions)) {
      return "Along the diagonal, source and target rows of the same number stand phi apart, however much has been "
             "read.";
    }
    if (std::holds_alternative<interleaved_positions>(plan.how.positions)) {
      return "The source read last is always near, and distances stay as they were when the row was written.";
    }
    if (std::holds_alternative<removed_positions>(plan.how.positions)) {
      return "A removed side stands at 0: distances to it, or from it, tell nothing of its order.";
    }
    if (plan.how.order == stream::event_order::read_all_first) {
      return "The target follows the whole source: its end is near, its beginning far.";
    }
    return "The target follows what is read: the source read last is always right before the target.";
  }

  void add_attention() {
    const std::string of = "Of " + look_.of + ". ";
    const std::string prompt =
        look_.whole_prompt ? "" : " The prompt after its first token is one column, the sum of its tokens.";
    add_maps(
        attention_map::absolute, "attention-",
        {"Where target rows look: attention (paper, appendix, Fig. 7, left)",
         {of +
          "Each row sums to one. The first column takes most of it in most models: a sink, where attention goes that "
          "has nowhere else to go. Grey cells are not visible." +
          prompt},
         {}});
    add_maps(attention_map::without_sink, "attention-without-sink-",
             {"The same without the sink (paper, appendix, Fig. 7, right)",
              {of +
               (look_.whole_prompt ? "The first column is left out"
                                   : "The prompt, whose first token is the sink, is left out") +
               ", and colours are scaled to what remains; weights are the same."},
              {}});
    add_maps(
        attention_map::normalised, "attention-normalised-",
        {"Which target rows look at a token (paper, Fig. 3, equation 4)",
         {message(
             of,
             "Each column is brought to [0, 1] by its least and greatest weight over all rows, and raised to the "
             "power gamma = ",
             gamma_,
             ": so each token shows which target rows look at it most, however little "
             "attention it gets. What a row cannot see has weight 0. A column that only one row sees says nothing.")},
         {}});
  }

  void add_maps(attention_map which, const char* prefix, page_section section) {
    for (const auto& plan : plans_) {
      section.pictures.push_back(
          {prefix + plan.slug + ".svg", draw_attention(plan, sentence_, which, look_, stop()),
           plan.how.source_sees_target()
               ? "Target rows. Where one predicts nothing, a source row that was read after it does."
               : "Target rows as they predict their successor."});
    }
    sections_.push_back(std::move(section));
  }

  void add_timelines() {
    auto& to = begin_section("Reads and writes (paper, appendix, Fig. 8)",
                             {"One step is one word read or written. The distance between the lines is how far writing "
                              "is behind reading. The "
                              "source's end is read like one more word."});
    for (const auto order : {stream::event_order::by_policy, stream::event_order::read_all_first}) {
      const auto one =
          std::find_if(plans_.begin(), plans_.end(), [&](const auto& plan) { return plan.how.order == order; });
      if (one == plans_.end()) continue;
      plotted_plan shown = *one;
      const bool waits = order == stream::event_order::by_policy;
      shown.name = waits ? "plans that write while they read: " + head_of_page_.policy : "plans that read all first";
      to.pictures.push_back({waits ? "timeline-streaming.svg" : "timeline-batch.svg",
                             draw_timeline(shown, sentence_, stop()),
                             sentence_.written_by_model && streaming_.policy().empty() != waits
                                 ? "As it happened in the session that wrote the target."
                                 : "The reads and writes that give this target its rows."});
    }
  }

  /// Each picture says what it is of and which call made it, wherever it is carried.
  void describe_pictures() {
    for (auto& section : sections_) {
      for (auto& one : section.pictures) {
        one.svg = described(std::move(one.svg), message(section.title, ". ", head_of_page_.command));
      }
    }
  }

  void write() const {
    const std::filesystem::path folder(output_);
    const auto put = [&](const std::string& file, const std::string& text) {
      io::write_file_atomically(folder / file, std::as_bytes(std::span(text.data(), text.size())));
    };
    std::size_t count = 0;
    for (const auto& section : sections_) {
      for (const auto& one : section.pictures) put(one.file, one.svg);
      count += section.pictures.size();
    }
    put("plot.json", write_numbers(head_of_page_, sentence_, plans_, gamma_));
    put("index.html", write_page(head_of_page_, sentence_, sections_));
    note(message("written: ", count, " pictures in ", printable((folder / "index.html").string())));
  }

  model_options model_;
  streaming_options streaming_;
  argument source_option_, audio_option_, target_option_, line_option_;
  std::string source_, audio_, target_, output_;
  index_t line_ = 1;
  std::string layer_ = "mean", head_ = "mean";
  double gamma_ = 0.5;
  plot_look look_;
  page_head head_of_page_;
  plotted_sentence sentence_;
  std::vector<plotted_plan> plans_;
  std::vector<page_section> sections_;
};

}  // namespace

std::unique_ptr<command> make_plot_command() { return std::make_unique<plot_command>(); }

}  // namespace runnel::cli
