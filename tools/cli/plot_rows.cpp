// SPDX-License-Identifier: Apache-2.0

#include "plot_rows.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <runnel/ops/attention_watch.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/text/word_splitter.hpp>
#include <runnel/train/plan_rows.hpp>
#include <runnel/train/tokenize.hpp>
#include <runnel/unicode/utf8.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

std::vector<std::string> words_of(const std::string& text) {
  text::word_splitter splitter;
  auto words = splitter.push(text);
  for (auto& last : splitter.finish()) words.push_back(std::move(last));
  return words;
}

std::string trimmed(std::string text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

train::example_maker maker_of(const stream::language_model& model, const stream::session_options& options) {
  train::tokenize_options how;
  how.max_word_tokens = options.max_word_tokens;
  return train::example_maker(model, options.instruction, how);
}

/// Cuts the source to what was read, and names everything.
void complete(plotted_sentence& out, const stream::language_model& model, const train::example& pair,
              const std::string& source) {
  const index_t read = out.when.read_now();
  out.source.assign(pair.source.begin(), pair.source.begin() + read);
  for (const index_t end : pair.source_ends) {
    if (end <= read) out.source_ends.push_back(end);
  }
  out.source_ended = out.source_ends.size() == pair.source_ends.size();
  out.source_words = words_of(source);
  out.source_words.resize(std::min(out.source_words.size(), out.source_ends.size() - 1));
  for (const auto id : out.source) out.source_texts.push_back(token_label(model, id));
  for (const auto id : out.target) out.target_texts.push_back(token_label(model, id));
  const std::span<const std::int32_t> target(out.target);
  for (std::size_t j = 0; j + 1 < out.target_ends.size(); ++j) {
    const auto begin = static_cast<std::size_t>(out.target_ends[j]),
               end = static_cast<std::size_t>(out.target_ends[j + 1]);
    out.target_words.push_back(trimmed(model.text_of(target.subspan(begin, end - begin))));
  }
  out.translation = trimmed(model.text_of(target.subspan(static_cast<std::size_t>(out.header_rows()))));
}

arrivals all_read_first(const plotted_sentence& sentence) {
  const auto read = static_cast<index_t>(sentence.source.size());
  return {std::vector<index_t>(sentence.target.size(), read), read};
}

/// "group-streaming(phi=0)" with room around, and as a name of a file.
std::pair<std::string, std::string> names_of(const stream::plan& how) {
  std::string name, slug;
  for (const char c : stream::name_of(how)) {
    if (c == '(') name += ' ';
    name += c == '=' ? std::string(" = ") : std::string(1, c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.';
    if (plain) slug += c;
    if (!plain && c != ')' && !slug.ends_with('-')) slug += '-';
  }
  return {name, slug};
}

stream::finished_stream finished(const plotted_sentence& sentence, const arrivals& when) {
  return {sentence.source, sentence.target, when, sentence.audio_rows()};
}

/// The plan's passes: which target tokens each predicts that were not given with the header.
std::vector<std::pair<index_t, index_t>> pieces_of(const stream::plan& how, const plotted_sentence& sentence,
                                                   const arrivals& when) {
  std::vector<std::pair<index_t, index_t>> pieces;
  for (auto [first, last] : stream::forced_pieces(how, when)) {
    first = std::max(first, sentence.header_rows());
    if (first < last) pieces.emplace_back(first, last);
  }
  return pieces;
}

plotted_row row_at(const row_table& rows, index_t i, index_t index, index_t pass) {
  const auto at = static_cast<std::size_t>(i);
  plotted_row out;
  out.of = rows.groups()[at];
  out.index = index;
  out.pass = pass;
  out.value = rows.values()[at];
  for (std::size_t s = 0; s < num_groups; ++s) {
    out.offsets[s] = rows.toward(s).offsets[at];
    out.sees[s] = rows.toward(s).ranges[at];
  }
  return out;
}

}  // namespace

std::string token_label(const stream::language_model& model, std::int32_t id) {
  const std::string piece(model.tokenizer->piece(id));
  if (model.tokenizer->is_special(id)) return printable(piece);
  std::string out;
  unicode::for_each_code_point(piece, [&](const unicode::code_point_step& step, std::string_view bytes) {
    constexpr const char* digits = "0123456789ABCDEF";
    if (step.kind != unicode::sequence_kind::valid) {
      for (const char byte : bytes) {
        const auto value = static_cast<std::uint8_t>(byte);
        out += {'<', digits[value >> 4U], digits[value & 15U], '>'};
      }
    } else if (step.code_point == U' ') {
      out += "\xC2\xB7";
    } else if (step.code_point == U'\n') {
      out += "\xE2\x86\xB5";
    } else {
      out += bytes;
    }
  });
  return out;
}

plotted_sentence write_sentence(const stream::language_model& model, const stream::session_options& options,
                                const std::string& source, const std::stop_token& stop) {
  stream::session session(model, options);
  for (const auto& word : words_of(source)) session.push(word);
  session.finish();
  while (session.next(stop)) {
  }
  plotted_sentence out;
  out.written_by_model = true;
  out.when = session.when();
  out.target.assign(session.target_tokens().begin(), session.target_tokens().end());
  const auto header = static_cast<index_t>(out.target.size() - session.tokens().size());
  out.target_ends.push_back(header);
  if (!session.tokens().empty()) {
    for (const index_t end : train::session_words(model, session.tokens(), options.max_word_tokens)) {
      out.target_ends.push_back(header + end);
    }
  }
  const auto pair = maker_of(model, options)(source, {});
  const auto read = session.source_tokens();
  expect(read.size() <= pair.source.size() && std::equal(read.begin(), read.end(), pair.source.begin()),
         "plot: the session read other tokens than the sentence has");
  complete(out, model, pair, source);
  return out;
}

plotted_sentence force_sentence(const stream::language_model& model, const stream::session_options& options,
                                const std::string& source, const std::string& target, index_t k) {
  const auto pair = maker_of(model, options)(source, target);
  const index_t all = pair.source_words() + 1;
  const bool first = options.how.order == stream::event_order::read_all_first;
  plotted_sentence out;
  out.when = train::rehearse_wait_k(pair, first ? all : k, all).when;
  out.target.assign(pair.target.begin(), pair.target.end() - 1);
  for (const index_t end : pair.target_ends) {
    if (end <= pair.target_ends[pair.target_ends.size() - 2]) out.target_ends.push_back(end);
  }
  complete(out, model, pair, source);
  return out;
}

plotted_plan plot_plan(const stream::plan& how, const plotted_sentence& sentence, index_t window) {
  plotted_plan out;
  out.how = how;
  std::tie(out.name, out.slug) = names_of(how);
  out.when = how.order == stream::event_order::read_all_first ? all_read_first(sentence) : sentence.when;
  std::vector<plotted_row> targets;
  index_t sources = 0;
  for (const auto& [first, last] : pieces_of(how, sentence, out.when)) {
    const auto work = stream::plan_forced(how, finished(sentence, out.when), first, last, window);
    const std::size_t before = targets.size();
    index_t read = 0;
    for (index_t i = 0; i < work.rows.size(); ++i) {
      const bool is_source = work.rows.groups()[static_cast<std::size_t>(i)] == group::source;
      const index_t index = is_source ? read++ : i - read;
      const plotted_row row = row_at(work.rows, i, index, out.passes);
      for (std::size_t s = 0; s < num_groups; ++s) {
        const auto& toward = work.rows.toward(s);
        out.windowed |= toward.ranges[static_cast<std::size_t>(i)] != toward.windowed[static_cast<std::size_t>(i)];
      }
      auto& keys = out.keys[is_source ? 0 : 1];
      if (index == static_cast<index_t>(keys.size())) keys.push_back(row.value);
      if (!is_source) targets.push_back(row);
      if (is_source && index >= sources) {
        out.rows.push_back(row);
        ++sources;
      }
    }
    for (index_t p = first; p < last; ++p) {
      const index_t i = work.logit_rows[static_cast<std::size_t>(p - first)];
      auto& row =
          i < read ? out.rows[static_cast<std::size_t>(i)] : targets[before + static_cast<std::size_t>(i - read)];
      row.predicts = p;
    }
    ++out.passes;
  }
  out.rows.insert(out.rows.end(), targets.begin(), targets.end());
  return out;
}

void watch_attention(plotted_plan& plan, const plotted_sentence& sentence, const stream::language_model& model,
                     const stream::session_options& options, const attention_choice& choice) {
  const auto& config = model.network->config();
  const std::size_t sources = sentence.source.size(), all = sources + sentence.target.size();
  const index_t layers = choice.layer ? 1 : config.num_hidden_layers;
  const index_t heads = choice.head ? 1 : config.num_attention_heads;
  const double share = 1 / static_cast<double>(layers * heads);
  plan.attention.assign(sentence.target.size(), std::vector<double>(all, 0.0));
  std::vector<nn::active_adapter<nn::inference_parameters>> adapters;
  for (const auto& use : options.adapters) adapters.push_back({use.weights.get(), use.scale});
  index_t noted = 0;  // target rows that are done
  for (const auto& [first, last] : pieces_of(plan.how, sentence, plan.when)) {
    const auto work = stream::plan_forced(plan.how, finished(sentence, plan.when), first, last, config.sliding_window);
    const auto& groups = work.rows.groups();
    const auto read = std::count(groups.begin(), groups.end(), group::source);
    ops::attention_watch watch(
        [&, begin = noted](const ops::attention_weights& one) {
          const index_t p = one.row - read;
          if (p < begin || (choice.layer && one.layer != *choice.layer) || (choice.head && one.head != *choice.head))
            return;
          auto& to = plan.attention[static_cast<std::size_t>(p)];
          const bool windowed = config.layer(one.layer).windowed;
          for (std::size_t s = 0; s < num_groups; ++s) {
            const auto& toward = work.rows.toward(s);
            const auto range = (windowed ? toward.windowed : toward.ranges)[static_cast<std::size_t>(one.row)];
            const std::size_t at = (s == 0 ? 0 : sources) + static_cast<std::size_t>(range.begin);
            for (std::size_t k = 0; k < one.of[s].size(); ++k) to[at + k] += share * one.of[s][k];
          }
        },
        options.compute);
    watch.stop = choice.stop;
    auto cache = model.network->make_cache(options.storage(*model.network), options.limit(model.context()));
    const models::stream_rows streams[] = {
        {&cache, &work.rows, work.tokens, work.logit_rows, adapters, sentence.audio_rows()}};
    static_cast<void>(model.network->forward(watch, streams));
    noted = work.rows.size() - read;
  }
}

}  // namespace runnel::cli
