// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <runnel/stream/load.hpp>
#include <runnel/stream/session_batch.hpp>

#include "compute_modes.hpp"
#include "support.hpp"

/// \file
/// Sentences translated while they are read, so many at a time: a session for each, their passes run together.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

struct setup {
  std::string model;
  std::string compute;
  std::string storage;
  index_t sessions = 1;
  std::string policy;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "sessions/" + std::filesystem::path(model).stem().string() + "/compute:" + compute + "/storage:" + storage +
           "/policy:" + policy + "/sessions:" + std::to_string(sessions) + "/threads:" + std::to_string(threads);
  }
};

/// Sentences, their words apart.
std::vector<std::vector<std::string>> read_sentences() {
  std::ifstream in(RUNNEL_SENTENCES);
  std::vector<std::vector<std::string>> all;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    auto& sentence = all.emplace_back();
    for (std::string word; words >> word;) sentence.push_back(word);
  }
  if (all.empty()) parameters::fail(std::string("cannot read ") + RUNNEL_SENTENCES);
  return all;
}

const stream::language_model& model_at(const std::string& path) {
  static std::map<std::string, stream::language_model> known;
  const auto found = known.find(path);
  return found != known.end() ? found->second : known.emplace(path, stream::load_model(path)).first->second;
}

/// Keeps so many sessions busy: where one is done, the next sentence takes its place.
class crowd {
 public:
  crowd(const stream::language_model& model, const setup& with) : model_(model), batch_(model.network, compute(with)) {
    set_policy(with.policy);
    const auto storage = cache::storage_from_name(with.storage);
    if (!storage) parameters::fail("unknown storage " + with.storage);
    options_.cache_type = *storage;
    options_.compute = compute(with);
    options_.max_tokens = 48;  // a model that was not trained to stream may not end
    if (!model.format.languages.empty()) options_.instruction = model.format.languages.front().instruction;
    for (index_t i = 0; i < with.sessions; ++i) begin();
  }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;

  /// One pass over what all sessions wait for, and the events that follow.
  void step() {
    const auto brought = batch_.step();
    for (const auto& failure : brought.failures) std::rethrow_exception(failure.why);
    for (const auto& one : brought.events) {
      if (one.what.get_if<stream::token_event>() != nullptr) ++tokens_;
    }
    for (std::size_t i = 0; i < all_.size();) {
      if (!all_[i]->done()) {
        ++i;
        continue;
      }
      rows_ += rows_of(*all_[i]);
      all_[i]->restart();
      push_sentence(*all_[i++]);
    }
  }

  [[nodiscard]] double tokens() const noexcept { return static_cast<double>(tokens_); }
  [[nodiscard]] double rows() const noexcept {
    index_t sum = rows_;
    for (const auto& one : all_) sum += rows_of(*one);
    return static_cast<double>(sum);
  }

 private:
  static ops::eval_options compute(const setup& with) {
    const auto mode = benchmarks::compute_mode_named(with.compute);
    if (!mode) parameters::fail("unknown compute mode " + with.compute);
    return {.threads = with.threads, .compute = *mode};
  }

  void set_policy(const std::string& name) {
    if (name == "read-all") {
      options_.how = stream::parse_plan("batch");
      options_.when = stream::read_all{};
      return;
    }
    int k = 0;
    const bool named = name.starts_with("wait-");
    const char* const end = name.data() + name.size();
    const auto [stop, failure] = std::from_chars(name.data() + (named ? 5 : 0), end, k);
    if (!named || failure != std::errc() || stop != end || k < 1) parameters::fail("unknown policy " + name);
    options_.when = stream::wait_k{k};
  }

  static index_t rows_of(const stream::session& one) noexcept {
    const auto& count = one.counters();
    return count.source_rows + count.target_rows + count.refed_rows + count.refreshed_rows;
  }

  void begin() {
    all_.push_back(std::make_unique<stream::session>(model_, options_));
    push_sentence(*all_.back());
    batch_.join(*all_.back());
  }

  void push_sentence(stream::session& to) {
    static const auto sentences = read_sentences();
    for (const auto& word : sentences[next_++ % sentences.size()]) to.push(word);
    to.finish();
  }

  const stream::language_model& model_;
  stream::session_options options_;
  std::vector<std::unique_ptr<stream::session>> all_;
  stream::session_batch batch_;
  std::size_t next_ = 0;
  index_t tokens_ = 0;
  index_t rows_ = 0;
};

void measure(benchmark::State& state, const setup& with) {
  crowd all(model_at(with.model), with);
  while (all.tokens() < static_cast<double>(16 * with.sessions)) all.step();  // prompts are behind, lengths differ
  const double tokens = all.tokens(), rows = all.rows();
  for (auto _ : state) all.step();
  const auto rate = [](double count) { return benchmark::Counter(count, benchmark::Counter::kIsRate); };
  state.counters["tokens/s"] = rate(all.tokens() - tokens);
  state.counters["rows/s"] = rate(all.rows() - rows);
}

}  // namespace

int main(int argc, char** argv) {
  parameters given("Sentences translated while they are read, many at a time.", argc, argv);
  std::vector<setup> all{setup{}};
  vary(all, given.words("model", RUNNEL_DEMO_MODEL, "GGUF files or Hugging Face folders"), &setup::model);
  vary(all, given.words("compute", "bf16", "the numbers in which products are taken"), &setup::compute);
  vary(all, given.words("storage", "f32", "of keys and values: f32, bf16, f16, q8_0"), &setup::storage);
  vary(all, given.words("policy", "wait-3", "wait-K, or read-all, under batch"), &setup::policy);
  vary(all, given.numbers("sessions", "1,8,32", "at a time"), &setup::sessions);
  vary(all, given.numbers("threads", "1,2", "threads"), &setup::threads);
  given.done();
  benchmarks::run(all, measure);
}
