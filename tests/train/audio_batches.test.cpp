// SPDX-License-Identifier: Apache-2.0
//
// Recordings that can be told apart by ear, so to speak: each holds one number, which no other holds.

#include <runnel/train/audio_batches.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <runnel/train/trainer.hpp>

#include "io/support.hpp"
#include "support/random_values.hpp"
#include "support/tiny_language.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::put;
using runnel_test::scratch_folder;

static_assert(BatchSource<audio_batch_stream>);

constexpr index_t rate = 1000;
constexpr index_t frame = 10;  // samples a row

float level(index_t number) { return static_cast<float>(number + 1) / 1024; }
index_t length_of(index_t number) { return 60 + 7 * number; }
std::string text_of(index_t number) { return std::string(1, static_cast<char>('a' + number % 8)); }
std::string group_of(index_t number) { return std::string("speaker ") + static_cast<char>('A' + number % 3); }

/// A folder with `count` recordings and their manifest.
struct corpus {
  scratch_folder folder;
  std::filesystem::path manifest;

  explicit corpus(index_t count, bool groups = true) : manifest(folder / "list.tsv") {
    std::filesystem::create_directories(folder / "wav");
    std::string lines;
    for (index_t i = 0; i < count; ++i) {
      const std::vector<float> samples(static_cast<std::size_t>(length_of(i)), level(i));
      io::write_wav(file(i), samples, {rate, 1, io::wav_format::float32});
      lines += message("wav/", i, ".wav\t", text_of(i), groups ? "\t" + group_of(i) : std::string(), "\n");
    }
    put(manifest, lines);
  }
  [[nodiscard]] std::filesystem::path file(index_t number) const { return folder / message("wav/", number, ".wav"); }
  [[nodiscard]] recording_list list() const { return read_recordings(manifest); }
};

example_maker maker() {
  stream::language_model model;
  model.tokenizer = tests::tiny_tokenizer();
  model.format = {"tiny", "<|im_start|>{instruction}", "<|im_end|>", "", "<|im_end|>", " ", text::source_kind::audio};
  return example_maker(model, "h");
}

audio_shape to_rows() {
  return {rate, 4, [](index_t samples) { return (samples + frame - 1) / frame; }};
}

audio_batch_stream open(const corpus& of, const audio_batch_options& options) {
  return {of.list(), maker(), to_rows(), options};
}

/// The recordings that audio is made of, and the silences between.
struct heard {
  std::vector<index_t> parts;
  std::vector<index_t> gaps;
};

heard listen(const std::vector<float>& audio) {
  heard out;
  for (std::size_t i = 0; i < audio.size();) {
    const float value = audio[i];
    std::size_t end = i;
    while (end < audio.size() && audio[end] == value) ++end;
    auto count = static_cast<index_t>(end - i);
    if (value == 0) {
      out.gaps.push_back(count);
    } else {
      const auto number = static_cast<index_t>(std::lround(value * 1024)) - 1;
      for (; count > 0; count -= length_of(number)) out.parts.push_back(number);  // the same again without a gap
      CHECK(count == 0);
    }
    i = end;
  }
  return out;
}

bool same_rows(const training_rows& a, const training_rows& b) {
  const auto same = [](const auto& x, const auto& y) { return std::equal(x.begin(), x.end(), y.begin(), y.end()); };
  bool equal = a.tokens == b.tokens && a.logit_rows == b.logit_rows && a.labels == b.labels &&
               same(a.rows.values(), b.rows.values()) && same(a.rows.storage(), b.rows.storage()) &&
               tests::same_bits(*a.audio, *b.audio);
  for (std::size_t s = 0; s < num_groups; ++s) {
    equal = equal && a.rows.toward(s).ranges == b.rows.toward(s).ranges &&
            a.rows.toward(s).offsets == b.rows.toward(s).offsets;
  }
  return equal;
}

bool same_batch(const audio_batch& a, const audio_batch& b) {
  return a.examples == b.examples && a.epoch == b.epoch && a.num_rows == b.num_rows && a.texts == b.texts &&
         a.num_samples == b.num_samples && a.num_predictions == b.num_predictions &&
         std::equal(a.rows.begin(), a.rows.end(), b.rows.begin(), b.rows.end(), same_rows);
}

audio_batch_options plain() {
  audio_batch_options options;
  options.seconds = 1.5;
  options.strings.gap_ms = {20, 90};
  return options;
}

}  // namespace

TEST_CASE("audio: each recording comes once an epoch, in another order, in batches that keep to the budget") {
  const corpus of(23);
  for (const bool shuffle : {true, false}) {
    audio_batch_options options = plain();
    options.epochs = 3;
    options.shuffle = shuffle;
    options.most_examples = shuffle ? 6 : 0;
    options.budget = shuffle ? 4096 : 60;
    auto stream = open(of, options);
    std::map<index_t, std::vector<index_t>> order;
    std::size_t largest = 0;
    while (const auto batch = stream.next()) {
      index_t samples = 0, rows = 0, labels = 0;
      REQUIRE(batch->examples.size() == batch->rows.size());
      for (std::size_t i = 0; i < batch->rows.size(); ++i) {
        const training_rows& one = batch->rows[i];
        const heard what = listen(*one.audio);
        REQUIRE(what.parts.size() == 1);
        CHECK(what.gaps.empty());
        CHECK(batch->texts[i] == text_of(what.parts[0]));
        CHECK(batch->examples[i] == static_cast<index_t>(order[batch->epoch].size()));
        order[batch->epoch].push_back(what.parts[0]);
        samples += static_cast<index_t>(one.audio->size());
        rows += one.rows.size();
        labels += static_cast<index_t>(one.labels.size());
      }
      largest = std::max(largest, batch->rows.size());
      CHECK(batch->num_samples == samples);
      CHECK(batch->num_rows == rows);
      CHECK(batch->num_predictions == labels);
      CHECK(samples <= 1500);
      CHECK(rows <= options.budget);
      if (shuffle) CHECK(batch->rows.size() <= 6);
      CHECK(holds(batch->describe(), "list.tsv, example "));
    }
    CHECK(largest > 3);
    REQUIRE(order.size() == 3);
    for (auto& [epoch, numbers] : order) {
      CHECK(std::is_sorted(numbers.begin(), numbers.end()) == !shuffle);
      CHECK(std::set<index_t>(numbers.begin(), numbers.end()).size() == 23);
      CHECK(numbers.size() == 23);
    }
    CHECK((order[0] == order[1]) == !shuffle);
    CHECK(!stream.next());
  }
}

TEST_CASE("audio: strings are of one speaker, with texts and silences of their recordings") {
  const corpus of(20);
  audio_batch_options options = plain();
  options.strings.least = 2;
  options.strings.most = 5;
  options.epochs = 2;
  options.strings.examples = 200;
  auto stream = open(of, options);
  std::map<std::size_t, int> counts;
  std::set<index_t> recordings, gaps;
  std::set<std::string> speakers;
  index_t examples = 0;
  std::vector<std::vector<float>> first;
  int same_as_first = 0;
  while (const auto batch = stream.next()) {
    for (std::size_t i = 0; i < batch->rows.size(); ++i, ++examples) {
      const heard what = listen(*batch->rows[i].audio);
      ++counts[what.parts.size()];
      std::string text;
      for (const index_t number : what.parts) {
        text += (text.empty() ? "" : " ") + text_of(number);
        CHECK(group_of(number) == group_of(what.parts[0]));
        recordings.insert(number);
      }
      speakers.insert(group_of(what.parts[0]));
      CHECK(batch->texts[i] == text);
      REQUIRE(what.gaps.size() == what.parts.size() - 1);
      for (const index_t gap : what.gaps) {
        CHECK(gap >= 20);
        CHECK(gap <= 90);
        gaps.insert(gap);
      }
      if (batch->epoch == 0) first.push_back(*batch->rows[i].audio);
      if (batch->epoch == 1)
        same_as_first += first[static_cast<std::size_t>(batch->examples[i])] == *batch->rows[i].audio;
    }
  }
  CHECK(examples == 400);
  CHECK(same_as_first < 10);
  CHECK(recordings.size() == 20);
  CHECK(speakers.size() == 3);
  CHECK(gaps.size() > 60);
  CHECK(counts.size() == 4);
  for (const auto& [parts, count] : counts) {
    CHECK(parts >= 2);
    CHECK(parts <= 5);
    CHECK(count > 60);
  }
  // Unless it is said, an epoch hears each recording about once.
  options.strings.examples = 0;
  CHECK(open(of, options).examples() == 6);  // 20 / 3.5
}

TEST_CASE("audio: a stream goes on exactly where another one was") {
  random_stream random(3);
  const corpus of(17);
  for (int trial = 0; trial < 30; ++trial) {
    audio_batch_options options = plain();
    options.seconds = 0.6 + 2 * random.uniform();
    options.strings.most = tests::between(random, 1, 4);
    options.rows.waits = waits_between(1, 4);
    options.rows.probe_share = 0.3;
    options.epochs = tests::between(random, 1, 3);
    options.shuffle = random.below(4) != 0;
    options.new_draws = random.below(4) != 0;
    options.ctc = random.below(4) == 0;
    options.augment = {0.1, {-6, 6}, 0.7, {5, 30}, 0.5, {0, 50}, {0, 50}, 2, 20};
    if (random.below(3) == 0) options.budget = 60;
    options.seed = static_cast<std::uint64_t>(trial);
    auto whole = open(of, options);
    std::vector<std::string> states{whole.state()};
    std::vector<audio_batch> batches;
    while (auto batch = whole.next()) {
      batches.push_back(std::move(*batch));
      states.push_back(whole.state());
    }
    REQUIRE(batches.size() > 1);
    for (int again = 0; again < 5; ++again) {
      const auto from = static_cast<std::size_t>(random.below(static_cast<index_t>(states.size())));
      auto other = open(of, options);
      for (index_t i = random.below(3); i > 0; --i) static_cast<void>(other.next());
      other.restore(states[from]);
      CHECK(other.state() == states[from]);
      bool same = true;
      for (std::size_t i = from; i < batches.size(); ++i) {
        const auto batch = other.next();
        same = same && batch && same_batch(*batch, batches[i]) && other.state() == states[i + 1];
      }
      CAPTURE(trial);
      CAPTURE(from);
      CHECK(same);
      CHECK(!other.next());
    }
    options.seed += 1000;
    if (options.shuffle && options.new_draws) {
      const auto different = open(of, options).next();
      CHECK_FALSE((different && same_batch(*different, batches[0])));
    }
  }
}

TEST_CASE("audio: rows are prompt, chunks, end and target, as for text") {
  const corpus of(9);
  audio_batch_options options = plain();
  options.how = stream::batch();
  options.shuffle = false;
  auto stream = open(of, options);
  const auto batch = stream.next();
  REQUIRE(batch);
  const auto make = maker();
  const auto prompt = make.model().prompt_tokens("h");
  for (std::size_t i = 0; i < batch->rows.size(); ++i) {
    const training_rows& one = batch->rows[i];
    const auto number = static_cast<index_t>(i);
    const index_t rows = (length_of(number) + frame - 1) / frame;
    std::vector<std::int32_t> source = prompt;
    for (index_t r = 0; r < rows; ++r) source.push_back(static_cast<std::int32_t>(-1 - r));
    source.push_back(1);
    REQUIRE(one.tokens.size() >= source.size());
    CHECK(std::equal(source.begin(), source.end(), one.tokens.begin()));
    const auto letter = tests::tiny_id(*make.model().tokenizer, text_of(number));
    CHECK(one.labels == std::vector<std::int32_t>{letter, 1});
    CHECK(std::vector<std::int32_t>(one.tokens.begin() + static_cast<std::ptrdiff_t>(source.size()),
                                    one.tokens.end()) == std::vector<std::int32_t>{letter});
    random_stream unused;
    const example pair = make.of_audio(rows, 4, text_of(number));
    CHECK(pair.source_words() == (rows + 3) / 4);
    training_rows direct = make_rows(pair, options.how, options.rows, unused);
    direct.audio = one.audio;
    CHECK(same_rows(direct, one));
  }
  // At wait-1 the first word is predicted over one chunk.
  options.how = stream::group_streaming();
  options.rows.waits = {1};
  options.rows.end = end_limit::wait_k;
  const auto streamed = open(of, options).next();
  REQUIRE(streamed);
  const training_rows& last = streamed->rows.back();
  CHECK(last.rows.toward(static_cast<std::size_t>(group::source))
            .ranges[static_cast<std::size_t>(last.logit_rows[0])]
            .end == static_cast<index_t>(prompt.size()) + 4);
}

TEST_CASE("audio: for CTC there are labels alone") {
  const corpus of(12);
  audio_batch_options options = plain();
  options.ctc = true;
  options.strings.least = options.strings.most = 3;
  options.strings.examples = 10;
  options.epochs = 1;
  const auto make = maker();
  auto stream = open(of, options);
  std::size_t count = 0;
  while (const auto batch = stream.next()) {
    CHECK(batch->num_rows == 0);
    for (std::size_t i = 0; i < batch->rows.size(); ++i, ++count) {
      const training_rows& one = batch->rows[i];
      CHECK(one.rows.size() == 0);
      CHECK(one.tokens.empty());
      CHECK(one.logit_rows.empty());
      CHECK(one.labels == make.target_tokens(batch->texts[i]));
      CHECK(one.labels.size() == 3);
      CHECK(listen(*one.audio).parts.size() == 3);
    }
  }
  CHECK(count == 10);
  // Labels that do not fit: three in two frames.
  audio_shape coarse = to_rows();
  coarse.rows_of = [](index_t samples) { return samples / 100; };
  audio_batch_stream short_of_frames(of.list(), maker(), coarse, options);
  index_t kept = 0;
  while (const auto batch = short_of_frames.next()) {
    for (const training_rows& one : batch->rows) {
      ++kept;
      CHECK(kernels::ctc_least_frames(one.labels) <= static_cast<index_t>(one.audio->size()) / 100);
    }
  }
  CHECK(kept > 0);
  CHECK(short_of_frames.left_out() > 0);
  CHECK(kept + short_of_frames.left_out() == 10);
  options.unusable = unusable_pair::refuse;
  audio_batch_stream strict(of.list(), maker(), coarse, options);
  CHECK(holds(failure<limit_error>([&] {
                while (strict.next()) {
                }
              }),
              "frames, but there are"));
}

TEST_CASE("audio: validation is the same examples every time, joined and nothing else") {
  const corpus of(15);
  audio_batch_options options = plain();
  options.augment.speed = 0.1;
  options.augment.noise_share = 1;
  options.strings.least = 2;
  options.strings.most = 3;
  options.strings.examples = 12;
  auto stream = open(of, options.for_validation());
  const std::string start = stream.state();
  std::vector<audio_batch> first;
  while (auto batch = stream.next()) first.push_back(std::move(*batch));
  std::size_t count = 0;
  for (const audio_batch& batch : first) {
    count += batch.rows.size();
    for (const training_rows& one : batch.rows) CHECK(listen(*one.audio).parts.size() >= 2);
  }
  CHECK(count == 12);
  stream.restore(start);
  for (const audio_batch& batch : first) CHECK(same_batch(batch, *stream.next()));
  CHECK(!stream.next());
}

TEST_CASE("audio: without new draws a recording is heard the same in every epoch, wherever it comes") {
  const corpus of(12);
  for (const bool new_draws : {false, true}) {
    audio_batch_options options = plain();
    options.augment = {0.2, {-6, 6}, 1, {5, 30}, 0.5, {0, 50}, {0, 50}, 0, 0};
    options.new_draws = new_draws;
    options.epochs = 2;
    auto stream = open(of, options);
    std::vector<std::vector<std::vector<float>>> epochs(2);
    while (const auto batch = stream.next()) {
      for (const training_rows& one : batch->rows) epochs[static_cast<std::size_t>(batch->epoch)].push_back(*one.audio);
    }
    CHECK(epochs[0].size() == 12);
    CHECK(epochs[0] != epochs[1]);
    for (auto& epoch : epochs) std::sort(epoch.begin(), epoch.end());
    CHECK((epochs[0] == epochs[1]) == !new_draws);
  }
  // Where nothing is joined, validation goes through the manifest.
  auto fixed = open(of, plain().for_validation());
  index_t next = 0;
  while (const auto batch = fixed.next()) {
    for (const std::string& text : batch->texts) CHECK(text == text_of(next++));
  }
  CHECK(next == 12);
}

TEST_CASE("audio: samples are augmented, and rows are those of their new length") {
  const corpus of(8, false);
  audio_batch_options options = plain();
  options.augment.silence_before_ms = {100, 100};
  options.augment.gain_db = {20, 20};
  options.how = stream::batch();
  audio_batch_stream stream(of.list(), maker(), to_rows(), options);
  const auto batch = stream.next();
  REQUIRE(batch);
  for (const training_rows& one : batch->rows) {
    const auto number = static_cast<index_t>(one.audio->size()) - 100 - length_of(0);
    REQUIRE(number % 7 == 0);
    CHECK(one.audio->front() == 0);
    CHECK(one.audio->back() == doctest::Approx(10 * static_cast<double>(level(number / 7))));
    const auto rows = std::count_if(one.tokens.begin(), one.tokens.end(), [](std::int32_t id) { return id < 0; });
    CHECK(rows == (static_cast<index_t>(one.audio->size()) + frame - 1) / frame);
  }
}

TEST_CASE("audio: what is too long is left out, or refused") {
  const corpus of(10);
  audio_batch_options options = plain();
  options.epochs = 1;
  SUBCASE("for the budget of seconds") { options.seconds = 0.1; }  // recordings up to 5
  SUBCASE("for the budget of rows") { options.budget = 14; }
  SUBCASE("for the context") {
    options.how = stream::interleaved();
    options.context = 14;
  }
  std::vector<index_t> kept;
  auto stream = open(of, options);
  while (const auto batch = stream.next()) {
    for (const training_rows& one : batch->rows) kept.push_back(listen(*one.audio).parts[0]);
  }
  CHECK(!kept.empty());
  CHECK(*std::max_element(kept.begin(), kept.end()) < 9);
  CHECK(static_cast<index_t>(kept.size()) + stream.left_out() == 10);
  CHECK(read_recording(of.file(4), rate, length_of(4)).size() == static_cast<std::size_t>(length_of(4)));
  CHECK_THROWS_AS(static_cast<void>(read_recording(of.file(4), rate, length_of(4) - 1)), limit_error);
  options.unusable = unusable_pair::refuse;
  CHECK(holds(failure<limit_error>([&] {
                auto strict = open(of, options);
                while (strict.next()) {
                }
              }),
              ".wav"));
  options.unusable = unusable_pair::skip;
  options.seconds = 0.01;
  const auto nothing = failure<config_error>([&] { static_cast<void>(open(of, options).next()); });
  CHECK(holds(nothing, "no example that can be used"));
  CHECK(holds(nothing, "there is place for 10"));
}

TEST_CASE("audio: files that cannot be used are named, and leave the stream where it was") {
  corpus of(10);
  audio_batch_options options = plain();
  options.seconds = 0.3;
  options.epochs = 1;
  options.shuffle = false;
  auto whole = open(of, options);
  std::vector<audio_batch> expected;
  while (auto batch = whole.next()) expected.push_back(std::move(*batch));
  REQUIRE(expected.size() > 2);

  const auto gone = of.folder / "gone";
  std::filesystem::rename(of.file(3), gone);
  auto stream = open(of, options);
  std::size_t given = 0;
  const auto go_on = [&] {
    while (const auto batch = stream.next()) {
      REQUIRE(given < expected.size());
      CHECK(same_batch(*batch, expected[given++]));
    }
  };
  CHECK(holds(failure<io_error>(go_on), "3.wav"));
  const std::string here = stream.state();
  CHECK(holds(failure<io_error>(go_on), "3.wav"));
  io::write_wav(of.file(3), std::vector<float>(20), {800, 1});
  CHECK(holds(failure<config_error>(go_on), "3.wav: expected 1000 samples a second, found 800"));
  put(of.file(3), "RIFF but not much of it");
  CHECK(holds(failure<format_error>(go_on), "3.wav"));
  put(of.file(3), "");
  CHECK(holds(failure<format_error>(go_on), "3.wav"));
  CHECK(stream.state() == here);
  std::filesystem::remove(of.file(3));
  std::filesystem::rename(gone, of.file(3));
  go_on();
  CHECK(given == expected.size());
}

TEST_CASE("audio: two channels are mixed, no samples are an empty source") {
  corpus of(2);
  io::write_wav(of.file(0), std::vector<float>{0.5f, 0.25f, -0.5f, 0}, {rate, 2, io::wav_format::float32});
  io::write_wav(of.file(1), std::vector<float>{}, {rate, 1});
  audio_batch_options options = plain();
  options.shuffle = false;
  for (const auto& how : {stream::batch(), stream::group_streaming(), stream::interleaved()}) {
    options.how = how;
    const auto batch = open(of, options).next();
    REQUIRE(batch);
    REQUIRE(batch->rows.size() == 2);
    CHECK(*batch->rows[0].audio == std::vector<float>{0.375f, -0.25f});
    CHECK(batch->rows[1].audio->empty());
    CHECK(std::all_of(batch->rows[1].tokens.begin(), batch->rows[1].tokens.end(), [](auto id) { return id >= 0; }));
  }
}

TEST_CASE("audio: states of other manifests, and no states, are refused") {
  const corpus of(10);
  auto stream = open(of, plain());
  static_cast<void>(stream.next());
  const std::string state = stream.state();
  for (const char* text : {"", "{}", "[]", "{\"epoch\": -1, \"example\": 0, \"digest\": 1}", "{\"epoch\": 0}",
                           "{\"epoch\": 0, \"example\": 0, \"digest\": -1}"}) {
    CHECK_THROWS_AS(stream.restore(text), format_error);
  }
  audio_state far = stream.position();
  far.example = 11;
  CHECK_THROWS_AS(stream.restore(far), config_error);
  CHECK(stream.state() == state);
  std::ofstream(of.manifest, std::ios::app) << "wav/0.wav\tb\n";
  auto changed = open(of, plain());
  CHECK(holds(failure<config_error>([&] { changed.restore(state); }), "not what they were"));
  changed.restore(changed.state());
}

TEST_CASE("audio: manifests") {
  const corpus of(1);
  const auto read = [&](const std::string& text) {
    put(of.manifest, text);
    return read_recordings(of.manifest);
  };
  const auto refusal = [&](const std::string& text) {
    return failure<format_error>([&] { static_cast<void>(read(text)); });
  };
  const auto list = read(
      "\xEF\xBB\xBF"
      "a b.wav\tOne two\r\n\n  \nc.wav\t\tx\n/d.wav\tz \t");
  REQUIRE(list.size() == 3);
  CHECK(list[0].file == of.manifest.parent_path() / "a b.wav");
  CHECK(list[0].text == "One two");
  CHECK(list[0].group.empty());
  CHECK(list[1].text.empty());
  CHECK(list[1].group == "x");
  CHECK(list[2].file == "/d.wav");
  CHECK(list.num_groups() == 2);
  CHECK(list.group_of(2).size() == 2);
  CHECK(list.group_of(2)[0] == 0);
  std::set<std::uint64_t> digests;
  for (const char* text :
       {"a\tb", "a\tb\tc", "b\ta", "a\tb\nb\ta", "b\ta\na\tb", "a\tbc", "ab\tc", "a\t\tb", "a\tb\t\na\tb"})
    digests.insert(read(text).digest());
  CHECK(digests.size() == 9);
  CHECK(holds(refusal(""), "expected recordings"));
  CHECK(holds(refusal("a.wav\tb\n\nb.wav\n"), "line 3: expected a path, a text"));
  CHECK(holds(refusal("a\tb\tc\td"), "found 4 columns"));
  CHECK(holds(refusal("\tb"), "expected a path"));
  CHECK(holds(refusal("a\t\xFF"), "line 1: is not UTF-8"));
  CHECK(holds(refusal("a\t" + std::string(70000, 'b')), "longer than"));
  CHECK_THROWS_AS(static_cast<void>(read_recordings(of.folder / "none.tsv")), io_error);
  CHECK_THROWS_AS(static_cast<void>(read_recordings(of.folder.path())), io_error);
}

TEST_CASE("audio: options that make no sense are refused") {
  const corpus of(5);
  const auto refused = [&](auto change) {
    audio_batch_options options = plain();
    change(options);
    CHECK_THROWS_AS(open(of, options), config_error);
  };
  refused([](auto& o) { o.seconds = 0; });
  refused([](auto& o) { o.seconds = 1e9; });
  refused([](auto& o) { o.budget = 0; });
  refused([](auto& o) { o.most_examples = -1; });
  refused([](auto& o) { o.context = -1; });
  refused([](auto& o) { o.window = -1; });
  refused([](auto& o) { o.epochs = -1; });
  refused([](auto& o) { o.rows.waits = {}; });
  refused([](auto& o) { o.augment.speed = 2; });
  refused([](auto& o) { o.strings.least = 0; });
  refused([](auto& o) { o.strings.least = 2; });
  refused([](auto& o) { o.strings.most = index_t{1} << 40U; });
  refused([](auto& o) { o.strings.examples = 6; });  // there are five recordings
  refused([](auto& o) { o.strings.examples = -1; });
  refused([](auto& o) { o.strings.gap_ms = {50, 20}; });
  const auto refused_shape = [&](auto change) {
    audio_shape bad = to_rows();
    change(bad);
    CHECK_THROWS_AS(audio_batch_stream(of.list(), maker(), bad, plain()), config_error);
  };
  refused_shape([](auto& s) { s.sample_rate = 0; });
  refused_shape([](auto& s) { s.chunk_rows = 0; });
  refused_shape([](auto& s) { s.rows_of = nullptr; });
  CHECK_THROWS_AS(audio_batch_stream(recording_list("none"), maker(), to_rows(), plain()), config_error);
  audio_shape negative = to_rows();
  negative.rows_of = [](index_t) { return index_t{-1}; };
  audio_batch_stream stream(of.list(), maker(), negative, plain());
  CHECK_THROWS_AS(static_cast<void>(stream.next()), config_error);
}

TEST_CASE("audio: figures of an epoch") {
  const corpus of(10);
  audio_batch_options options = plain();
  options.seconds = 0.115;  // recordings up to 7
  const audio_figures found = count_epoch(of.list(), maker(), to_rows(), options);
  CHECK(found.examples == 8);
  CHECK(found.left_out == 2);
  CHECK(found.batches == 8);
  CHECK(found.samples == 8 * 60 + 7 * 28);
  CHECK(found.longest_example == length_of(7));
  CHECK(found.longest_batch == length_of(7));
  CHECK(found.predictions == 16);
  CHECK(found.rows > 0);
  CHECK(found.largest_batch < found.rows);
}
