// SPDX-License-Identifier: Apache-2.0

#include "plot_speech.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include <runnel/train/tokenize.hpp>
#include <runnel/transcribe/audio_session.hpp>

#include "audio_input.hpp"
#include "console.hpp"
#include "picture.hpp"

namespace runnel::cli {

namespace {

std::vector<float> read_samples(const std::string& path, index_t rate) {
  audio_input input(path, rate);
  std::vector<float> out;
  while (!input.ended()) {
    if (!input.take(out)) input.wait();
    expect<limit_error>(static_cast<double>(out.size()) <= most_plotted_seconds * static_cast<double>(rate),
                        input.name(), ": is longer than ", most_plotted_seconds,
                        " s, more than can be read in a picture");
  }
  expect<config_error>(!out.empty(), input.name(), ": has no sound to draw");
  return out;
}

/// Rows, segments and their texts, as the session has them.
void take_rows(plotted_recording& to, const transcribe::audio_session& heard) {
  const auto& session = heard.session();
  const auto& model = session.model();
  auto& out = to.sentence;
  out.written_by_model = true;
  out.when = session.when();
  out.source.assign(session.source_tokens().begin(), session.source_tokens().end());
  out.target.assign(session.target_tokens().begin(), session.target_tokens().end());
  const auto vectors = session.source_vectors();
  out.num_vectors = vectors.size(0);
  out.vectors.assign(vectors.data(), vectors.data() + vectors.size());
  const auto chunk = heard.model().settings.chunk_rows;
  for (std::size_t i = 0; i < out.source.size(); ++i) {
    const index_t row = -1 - index_t{out.source[i]};
    if (row == 0) out.source_ends.push_back(static_cast<index_t>(i));  // the prompt
    out.source_texts.push_back(row < 0 ? token_label(model, out.source[i])
                                       : fixed(to.row_s * static_cast<double>(row + 1), 2) + " s");
    if (row < 0 || ((row + 1) % chunk != 0 && row + 1 != out.num_vectors)) continue;
    out.source_ends.push_back(static_cast<index_t>(i) + 1);
    to.chunks_s.push_back(heard.delay_ms(static_cast<index_t>(to.chunks_s.size()) + 1) / 1000);
    out.source_words.push_back(fixed(to.chunks_s.back(), 1) + " s");
  }
  out.source_ends.push_back(static_cast<index_t>(out.source.size()));
  out.source_ended = true;
  for (const std::int32_t id : out.target) out.target_texts.push_back(token_label(model, id));
  const auto header = static_cast<index_t>(out.target.size() - session.tokens().size());
  out.target_ends.push_back(header);
  if (session.tokens().empty()) return;
  for (const index_t end : train::session_words(model, session.tokens(), session.options().max_word_tokens)) {
    out.target_ends.push_back(header + end);
  }
  out.target_words = session.words();
  out.target_words.resize(out.target_ends.size() - 1);
  out.translation = session.text();
}

constexpr std::uint32_t black = 0x222222, gray = 0x777777, pale = 0xe6e6e6, blue = 0x1f5f99, red = 0xd1495b;

/// Where seconds stand.
struct time_axis {
  double left, width, seconds;
  [[nodiscard]] double x(double at) const { return left + width * at / seconds; }
};

void draw_wave(canvas& to, const plotted_recording& recording, const time_axis& axis, double middle, double height) {
  float loudest = 1e-9f;
  for (const float one : recording.samples) loudest = std::max(loudest, std::fabs(one));
  const auto columns = static_cast<std::size_t>(axis.width);
  for (std::size_t i = 0; i < columns; ++i) {
    const std::size_t first = i * recording.samples.size() / columns;
    const std::size_t last = std::max(first + 1, (i + 1) * recording.samples.size() / columns);
    const auto [low, high] = std::minmax_element(recording.samples.begin() + static_cast<std::ptrdiff_t>(first),
                                                 recording.samples.begin() + static_cast<std::ptrdiff_t>(last));
    const double scale = height / 2 / static_cast<double>(loudest), x = axis.left + static_cast<double>(i) + 0.5;
    to.line({x, middle - scale * static_cast<double>(*high) - 0.5},
            {x, middle - scale * static_cast<double>(*low) + 0.5}, gray);
  }
}

}  // namespace

plotted_recording hear_recording(const transcribe::speech_model& model, const stream::session_options& options,
                                 const std::string& path, const std::stop_token& stop) {
  plotted_recording out;
  out.name = path;
  out.samples = read_samples(path, model.sample_rate());
  out.sample_rate = static_cast<double>(model.sample_rate());
  out.row_s = static_cast<double>(model.row_samples()) / out.sample_rate;
  transcribe::audio_session heard(model, options);
  heard.push(out.samples);
  heard.finish();
  while (heard.next(stop)) {
  }
  take_rows(out, heard);
  for (const index_t chunks : heard.session().delays()) out.written_s.push_back(heard.delay_ms(chunks) / 1000);
  return out;
}

std::string draw_recording(const plotted_recording& recording, const plotted_plan& plan, double gamma,
                           const std::string& of, const std::stop_token& stop) {
  constexpr double edge = 14, label_width = 110, wave = 110, row = 18, size = 11.5;
  const auto& sentence = recording.sentence;
  const time_axis axis{edge + label_width, 860, static_cast<double>(recording.samples.size()) / recording.sample_rate};
  const double width = axis.left + axis.width + 3 * edge;
  const double wave_top = edge + 74, words_top = wave_top + wave + 12;
  // Words that stand too close to each other go below each other.
  std::vector<double> ends;
  std::vector<std::size_t> lanes;
  for (std::size_t i = 0; i < recording.written_s.size() && i < sentence.target_words.size(); ++i) {
    const double begin = axis.x(recording.written_s[i]), wide = width_of(sentence.target_words[i], size) + 14;
    std::size_t lane = 0;
    while (lane < ends.size() && ends[lane] > begin) ++lane;
    if (lane == ends.size()) ends.push_back(0);
    ends[lane] = begin + wide;
    lanes.push_back(lane);
  }
  const double map_top = words_top + row * static_cast<double>(std::max<std::size_t>(1, ends.size())) + 30;
  const auto prompt = static_cast<std::size_t>(sentence.prompt_rows());
  const auto first = static_cast<std::size_t>(std::max<index_t>(1, sentence.header_rows())) - 1;
  const std::size_t last = sentence.target.size();
  const double bottom = map_top + row * static_cast<double>(last - first);
  canvas to;
  to.text({edge, edge + 6}, plan.name + ": " + recording.name, {black, 14, canvas::align::left, false, true});
  to.text({edge, edge + 28}, "READ: lines through the wave, where a chunk is whole", {blue, size});
  to.text({edge, edge + 46}, "WRITE: words, where what had been heard ends when each was complete", {red, size});
  to.text({edge + 440, edge + 28}, "Below: attention to audio, of " + of, {gray, size});
  draw_wave(to, recording, axis, wave_top + wave / 2, wave);
  for (const double at : recording.chunks_s) to.line({axis.x(at), wave_top - 4}, {axis.x(at), bottom}, blue, 0.8);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const double x = axis.x(recording.written_s[i]), y = words_top + row * (static_cast<double>(lanes[i]) + 0.5);
    to.disc({x, y}, red);
    to.text({x + 6, y}, sentence.target_words[i], {red, size});
  }
  double most = 0;
  const auto audio = static_cast<std::size_t>(sentence.num_vectors);
  for (std::size_t p = first; p < last; ++p) {
    for (std::size_t k = 0; k < audio; ++k) most = std::max(most, plan.attention[p][prompt + k]);
  }
  for (std::size_t p = first; p < last; ++p) {
    const double y = map_top + row * static_cast<double>(p - first);
    const bool ends_text = p + 1 == last;
    to.text({axis.left - 8, y + row / 2}, ends_text ? "(end)" : shortened(sentence.target_texts[p + 1], 14),
            {black, size, canvas::align::right});
    for (std::size_t k = 0; k < audio; ++k) {
      const double begin = recording.row_s * static_cast<double>(k), weight = plan.attention[p][prompt + k];
      to.cell({axis.x(begin), y, axis.x(std::min(begin + recording.row_s, axis.seconds)), y + row},
              most > 0 ? std::pow(weight / most, gamma) : 0);
    }
    to.line({axis.left, y}, {axis.left + axis.width, y}, pale, 0.5);
  }
  canvas::scale scale;
  scale.palette = "defined (0 '#ffffff', 0.5 '#7fb3d5', 1 '#154360')";
  scale.bar = {axis.left + axis.width - 150, edge + 24, axis.left + axis.width - 10, edge + 32};
  to.set_scale(scale);
  const double step = axis.seconds > 12 ? 2 : axis.seconds > 5 ? 1 : 0.5;
  for (double at = 0; at <= axis.seconds; at += step) {
    to.line({axis.x(at), bottom}, {axis.x(at), bottom + 4}, gray);
    to.text({axis.x(at), bottom + 14}, fixed(at, step < 1 ? 1 : 0), {gray, 10, canvas::align::center});
  }
  to.text({axis.left + axis.width / 2, bottom + 32}, "seconds", {black, size, canvas::align::center});
  return to.svg(width, bottom + 50, "A recording, heard and written down: " + plan.name, stop);
}

}  // namespace runnel::cli
