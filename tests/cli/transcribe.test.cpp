// SPDX-License-Identifier: Apache-2.0
// Speech as text: recordings, folders, live input, cuts, logs. The tiny model counts, whatever it hears.

#include "process.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <nlohmann/json.hpp>

#include <runnel/io/wav.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;

const std::string counted = "Eins zwei drei vier f\xC3\xBCnf";

strings transcribe(strings arguments) {
  arguments.insert(arguments.begin(), {"transcribe", "-m", tiny_speech()});
  return arguments;
}

std::vector<float> sound(double seconds, runnel::index_t rate = 8000) {
  std::vector<float> out(static_cast<std::size_t>(std::lround(seconds * static_cast<double>(rate))));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double t = static_cast<double>(i) / static_cast<double>(rate);
    out[i] = static_cast<float>(0.3 * std::sin(2500 * t) * (1 + std::sin(7 * t)));
  }
  return out;
}

std::string recording(const std::filesystem::path& path, std::span<const float> samples, runnel::index_t rate = 8000) {
  runnel::io::write_wav(path, samples, {rate, 1, runnel::io::wav_format::float32});
  return path.string();
}

std::vector<nlohmann::json> read_log(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> lines;
  std::istringstream all(read_text(folder / "instances.log"));
  for (std::string line; std::getline(all, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// `count` times the numbers, with spaces between them.
std::string times(int count) {
  std::string all = counted;
  for (int i = 1; i < count; ++i) all += " " + counted;
  return all;
}

TEST_CASE("transcribe refuses options that make no sense together, with 2") {
  const scratch_folder folder;
  const auto a = recording(folder / "a.wav", sound(1));
  write_text(folder / "two", "eins\nzwei\n");
  write_text(folder / "named", "b.wav\teins\n");
  write_text(folder / "twice", "a\teins\na\tzwei\n");
  write_text(folder / "none", "\n\n");
  std::filesystem::create_directories(folder / "empty");
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const std::vector<std::pair<strings, strings>> cases{
      {{}, {"expected a recording"}},
      {{"-", "-"}, {"standard input"}},
      {{"-", "--list", "-"}, {"standard input"}},
      {{a, "--list", file("none")}, {"names no file"}},
      {{file("empty")}, {"no audio file"}},
      {{a, "--channels", "2"}, {"--rate"}},
      {{a, "--sample-format", "s12"}, {"--sample-format", "s12"}},
      {{a, "--rate", "10"}, {"--rate"}},
      {{a, "--plan", "sideways"}, {"group-streaming", "sideways"}},
      {{a, "--plan", "group-streaming", "--reencode", "all"}, {"re-encoding"}},
      {{a, "--wait-k", "0"}, {"--wait-k"}},
      {{a, "--chunk-ms", "400"}, {"--chunk-ms", "800", "400"}},
      {{a, "--chunk-ms", "1000"}, {"--chunk-ms", "800"}},
      {{a, "--context", "513"}, {"--context", "512"}},
      {{a, "--context", "40"}, {"--context", "40", "20 rows"}},
      {{a, "--longest", "0.5"}, {"--longest", "0.8"}},
      {{a, "--reference", file("two")}, {"--reference", "1", "2"}},
      {{a, "--reference", file("named")}, {"--reference", "a.wav"}},
      {{a, "--reference", file("twice")}, {"--reference", "two texts"}},
      {{a, "--reference", file("empty.txt")}, {"empty.txt"}},
  };
  for (const auto& [arguments, parts] : cases) {
    std::string line;
    for (const auto& one : arguments) line += one + " ";
    CAPTURE(line);
    const auto result = run(transcribe(arguments));
    CAPTURE(result.err);
    CHECK(result.code == (!arguments.empty() && arguments.back() == file("empty.txt") ? 1 : 2));
    CHECK(result.out.empty());
    for (const auto& part : parts) CHECK(has(result.err, part));
  }
}

TEST_CASE("a model of text does not hear, and one of speech does not read") {
  const scratch_folder folder;
  const auto a = recording(folder / "a.wav", sound(1));
  check_refused(run({"transcribe", "-m", tiny_model(), a}), 1, {"speech.json"});
  check_refused(run({"transcribe", "-m", (folder / "none").string(), a}), 1, {"none"});
  check_refused(run({"translate", "-m", tiny_speech(), "-s", "-"}), 1, {"transcribe"});
}

TEST_CASE("one line a recording: its path, a tab, its text") {
  const scratch_folder folder;
  std::filesystem::create_directories(folder / "in");
  const auto a = recording(folder / "in" / "a.wav", sound(5));
  const auto b = recording(folder / "in" / "b.wav", sound(4.1));
  write_text(folder / "in" / "notes.txt", "no audio");
  write_text(folder / "list", b + "\n\n" + a + "\n");
  const std::string both = a + "\t" + counted + "\n" + b + "\t" + counted + "\n";
  const auto result = run(transcribe({(folder / "in").string()}));
  CHECK(result.code == 0);
  CHECK(result.out == both);
  CHECK(has(result.err, "recordings: 2; audio: 9.10 s; words written: 10; plan: group-streaming(phi=0), wait-3"));
  CHECK(has(result.err, "real-time factor: "));
  CHECK_FALSE(has(result.err, "word error rate"));
  CHECK(run(transcribe({a, b})).out == both);
  CHECK(run(transcribe({a, "--list", (folder / "list").string()})).out ==
        a + "\t" + counted + "\n" + b + "\t" + counted + "\n" + a + "\t" + counted + "\n");
  for (const strings& how : {strings{"--offline"}, strings{"--plan", "batch"}, strings{"-k", "1", "--phi", "2.5"},
                             strings{"--plan", "batch-streaming", "--reencode", "all"}, strings{"--chunk-ms", "1600"},
                             strings{"--compute", "f32", "--cache-type", "bf16"}}) {
    CAPTURE(how.front());
    strings arguments{a};
    arguments.insert(arguments.end(), how.begin(), how.end());
    const auto other = run(transcribe(arguments));
    CHECK(other.code == 0);
    CHECK(other.out == a + "\t" + counted + "\n");
  }
}

TEST_CASE("the log counts milliseconds of speech, and score knows it") {
  const scratch_folder folder;
  const auto a = recording(folder / "a.wav", sound(5));
  const auto b = recording(folder / "b.wav", sound(1));
  write_text(folder / "said", "a\teins zwei drei\nb.wav\t" + counted + "\n");
  const auto to = folder / "deep" / "out";
  const auto result = run(transcribe({a, b, "-k", "2", "--reference", (folder / "said").string(), "-o", to.string()}));
  CHECK(result.code == 0);
  // "Eins" is no "eins", and two words too many.
  CHECK(has(result.err, "word error rate: 37.50 % (1 substituted, 2 inserted, 0 deleted; 8 words said)"));
  const auto log = read_log(to);
  REQUIRE(log.size() == 2);
  const auto& first = log[0];
  CHECK(first["prediction"] == counted);
  CHECK(first["delays"] == nlohmann::json{1600.0, 2400.0, 3200.0, 4000.0, 4800.0});
  CHECK(first["source_length"] == 5000.0);
  CHECK(first["source_type"] == "speech");
  CHECK(first["source"] == a);
  CHECK(first["reference"] == "eins zwei drei");
  CHECK(log[1]["delays"] == nlohmann::json{1000.0, 1000.0, 1000.0, 1000.0, 1000.0});
  const auto elapsed = first["elapsed"].get<std::vector<double>>();
  const auto computed = first["computed_ms"].get<std::vector<double>>();
  REQUIRE(elapsed.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(elapsed[i] == doctest::Approx(first["delays"][i].get<double>() + computed[i]));
    CHECK(computed[i] > 0);
  }
  const auto settings = read_text(to / "config.yaml");
  for (const char* part : {"source_type: \"speech\"", "chunk_ms: \"800\"", "policy: \"wait-2\"", "weights: \""}) {
    CHECK(has(settings, part));
  }
  CHECK(read_text(to / "scores.tsv").starts_with("WER\tBLEU\tLAAL\tLAAL_CA\tAL\tAL_CA\tAP\tAP_CA\tDAL\tDAL_CA\n"));
  const auto scored = run({"score", "--instances", to.string(), "--computation-aware", "--wer"});
  REQUIRE(scored.code == 0);
  const auto scores = nlohmann::json::parse(scored.out);
  CHECK(scores["AL_CA"].get<double>() > scores["AL"].get<double>());
  CHECK(scores["WER"] == 37.5);
  CHECK(scores["words_while_reading"] == 0.5);
  check_refused(run({"score", "-i", to.string(), "--computation-aware", "--source-unit-ms", "400"}), 2,
                {"--source-unit-ms", "speech"});
}

TEST_CASE("a recording that outgrows the context is cut in its pauses, and that is said") {
  const scratch_folder folder;
  auto samples = sound(40);
  const auto pause = [&](double begin, double end) {
    std::fill(samples.begin() + std::lround(begin * 8000), samples.begin() + std::lround(end * 8000), 0.0F);
  };
  pause(14.6, 15);
  pause(29.1, 29.5);
  const auto a = recording(folder / "a.wav", samples);
  const auto out = folder / "out";
  const auto result = run(transcribe({a, "-o", out.string()}));
  CHECK(result.code == 0);
  CHECK(result.out == a + "\t" + times(3) + "\n");
  CHECK(has(result.err, "longer than the context holds; cut where it is quietest, at 14.8"));
  CHECK(has(result.err, ", 29.3"));
  CHECK(has(result.err, "cuts: 2"));
  const auto where = [](const outcome& of) {
    return of.err.substr(0, of.err.find('\n')).substr(of.err.find("longer"));
  };
  CHECK(where(run(transcribe({"-"}), read_text(a))) == where(result));
  const auto line = read_log(out).at(0);
  CHECK(line["source_length"] == 40000.0);
  const auto delays = line["delays"].get<std::vector<double>>();
  REQUIRE(delays.size() == 15);
  CHECK(std::is_sorted(delays.begin(), delays.end()));
  CHECK(delays[4] == 5600);
  CHECK(delays[5] > 14800 + 2400 - 15);
  CHECK(delays[5] < 14800 + 2400 + 15);
  CHECK(delays.back() < 40000);
  const auto shorter = run(transcribe({a, "--longest", "9"}));
  CHECK(has(shorter.err, "longer than is heard at once"));
  // A model has a longest of its own, if the option says nothing.
  const auto trained = folder / "trained";
  std::filesystem::copy(tiny_speech(), trained, std::filesystem::copy_options::recursive);
  auto settings = nlohmann::json::parse(read_text(trained / "speech.json"));
  settings["longest_seconds"] = 9;
  write_text(trained / "speech.json", settings.dump());
  const auto with = [&](strings more) {
    more.insert(more.begin(), {"transcribe", "-m", trained.string(), a});
    return run(more);
  };
  CHECK(where(with({})) == where(shorter));
  CHECK(with({"--longest", "0"}).out == result.out);
  CHECK(with({"--chunk-ms", "9600"}).code == 0);  // a chunk longer than that
  settings["longest_seconds"] = -1;
  write_text(trained / "speech.json", settings.dump());
  CHECK(has(with({}).err, "longest_seconds: expected 0"));
  // Less context: more stretches, and what is written late in one has been heard to where the cut was decided.
  CHECK(run(transcribe({a, "--context", "150"})).out.size() > result.out.size());
}

TEST_CASE("the recogniser that comes along writes digits down while they are said") {
  const std::filesystem::path folder = std::filesystem::path(RUNNEL_TEST_DIR) / ".." / "examples" / "recordings";
  const scratch_folder out;
  for (const char* compute : {"f32", "bf16", "int8"}) {
    const auto heard = run({"transcribe", folder.string(), "--reference", (folder / "said.tsv").string(), "--compute",
                            compute, "-o", (out / compute).string()});
    CAPTURE(heard.err);
    CHECK(heard.code == 0);
    CHECK(has(heard.err, "word error rate: 0.00 %"));
  }
  // What is longer than three chunks was not heard to its end when its first word was written.
  for (const auto& line : read_log(out / "f32")) {
    if (line["source_length"].get<double>() > 2500) CHECK(line["delays"][0].get<double>() <= 2400);
  }
}

TEST_CASE("what is odd about a recording is said, and it is heard all the same") {
  const scratch_folder folder;
  const auto path = folder / "a.wav";
  const auto heard = [&](std::string_view part, const std::string& text = counted) {
    CAPTURE(part);
    const auto result = run(transcribe({path.string()}));
    CAPTURE(result.err);
    CHECK(result.code == 0);
    CHECK(result.out == path.string() + "\t" + text + "\n");
    CHECK(has(result.err, part));
  };
  recording(path, {});
  heard("has no sound", "");
  recording(path, std::vector<float>(1, 0.5F));
  heard("audio: 0.00 s");
  auto samples = sound(2);
  samples[100] = std::numeric_limits<float>::quiet_NaN();
  samples[200] = std::numeric_limits<float>::infinity();
  recording(path, samples);
  heard("2 samples are NaN or infinite");
  recording(path, std::vector<float>(8000, 1.0F));
  heard("8000 of 8000 samples are clipped");
  recording(path, std::vector<float>(8000));
  heard("audio: 1.00 s");  // silence is no fault
  const auto whole = read_text(recording(path, sound(2)));
  write_text(path, whole.substr(0, whole.size() - 8001));
  heard("is truncated");
}

TEST_CASE("what cannot be read is an error alone, and left out among others") {
  const scratch_folder folder;
  const auto good = recording(folder / "good.wav", sound(1));
  write_text(folder / "empty.wav", "");
  write_text(folder / "text.wav", "no audio at all, really");
  const auto empty = (folder / "empty.wav").string(), text = (folder / "text.wav").string();
  check_refused(run(transcribe({empty})), 1, {"empty.wav", "is empty"});
  check_refused(run(transcribe({text})), 1, {"text.wav"});
  check_refused(run(transcribe({(folder / "none.wav").string()})), 1, {"none.wav"});
  check_refused(run(transcribe({"-"}), "not a WAV stream"), 1, {"standard input", "--rate"});
  check_refused(run(transcribe({"-"})), 1, {"standard input", "nothing"});
  const auto result = run(transcribe({empty, good, text}));
  CHECK(result.code == 1);
  CHECK(result.out == good + "\t" + counted + "\n");
  for (const char* part : {"empty.wav", "text.wav", "left out: 2", "2 of the recordings could not be read"}) {
    CHECK(has(result.err, part));
  }
}

TEST_CASE("standard input: WAV or raw, in any pieces, stalled or closed") {
  const scratch_folder folder;
  const auto wav = read_text(recording(folder / "a.wav", sound(5)));
  CHECK(run(transcribe({"-"}), wav).out == "-\t" + counted + "\n");
  std::string raw;
  for (const float one : sound(5)) {
    const auto value = static_cast<std::uint16_t>(std::lround(one * 32767));
    raw += static_cast<char>(value & 0xFFU);
    raw += static_cast<char>(value >> 8U);
  }
  const auto result = run(transcribe({"-", "--rate", "8000"}), raw);
  CHECK(result.out == "-\t" + counted + "\n");
  CHECK(has(result.err, "audio: 5.00 s"));
  CHECK(has(run(transcribe({"-", "--rate", "8000", "--channels", "2"}), raw).err, "audio: 2.50 s"));
  CHECK(run(transcribe({"-", "--rate", "8000"}), "").out == "-\t\n");

  process live(transcribe({"-", "-k", "1"}), process::screen::yes);
  live.write(std::string_view(wav).substr(0, 44 + 2 * 6400 * 4));
  CHECK(live.wait_for("1.6s"));  // two chunks were heard, and the pipe stalls
  CHECK(live.wait_for("zwei"));
  CHECK_FALSE(has(live.so_far().out, "drei"));
  live.write(std::string_view(wav).substr(44 + 2 * 6400 * 4, 6400 * 4 + 4));
  CHECK(live.wait_for("drei"));
  live.close_input();
  const auto end = live.finish();
  CHECK(end.code == 0);
  CHECK(has(end.out, "= " + counted));
}

TEST_CASE("Ctrl-C ends live audio as its end does") {
  const scratch_folder folder;
  const auto wav = read_text(recording(folder / "a.wav", sound(5)));
  process live(transcribe({"-", "-k", "1", "-o", (folder / "out").string()}), process::screen::yes);
  live.write(std::string_view(wav).substr(0, 44 + 6400 * 4));
  CHECK(live.wait_for("Eins"));
  live.send(SIGINT);
  const auto end = live.finish();
  CHECK(end.code == 0);
  CHECK(has(end.out, "= " + counted));
  CHECK(has(end.err, "recordings: 1"));
  CHECK_FALSE(has(end.err, "truncated"));
  CHECK(read_log(folder / "out").at(0)["source_length"] == 800.0);
  CHECK(read_text(folder / "out" / "scores.tsv").starts_with("LAAL"));
}

}  // namespace
