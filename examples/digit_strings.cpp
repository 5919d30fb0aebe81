// SPDX-License-Identifier: Apache-2.0
//
// Joins recordings of single words to strings with silence between, makes them louder or softer and adds noise: test
// sets for a recogniser, from the composer that training uses.
//
//   digit_strings MANIFEST OUT [--count 300] [--least 3] [--most 10] [--gap-ms 100-400] [--seed 1]
//                              [--snr-db A-B] [--gain-db A-B] [--speed S]
//
// MANIFEST lists recordings: path, tab, text, tab, speaker. OUT gets 0001.wav, ... and strings.tsv, which lists them in
// the same way. Without --snr-db there is no noise, without --gain-db and --speed the recordings stay as they are. The
// same arguments give the same files.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>

#include <runnel/train/recordings.hpp>

namespace {

using namespace runnel;

struct choices {
  index_t count = 300;
  std::uint64_t seed = 1;
  train::string_options strings{3, 10, {100, 400}, 0};
  train::augment_options augment{};
};

/// The number that a text begins with, which is taken off it.
template <class Number>
Number take_number(std::string_view& text, std::string_view option) {
  Number number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  expect(problem == std::errc(), option, ": expected a number, found '", text, "'");
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

template <class Number>
Number one_number(std::string_view text, std::string_view option) {
  const auto number = take_number<Number>(text, option);
  expect(text.empty(), option, ": expected a number, found '", text, "' after it");
  return number;
}

/// "100-400", "-6-6": a number, a dash, another one.
train::number_range range(std::string_view text, std::string_view option) {
  const auto least = take_number<double>(text, option);
  expect(text.starts_with('-'), option, ": expected a range like 100-400, found '", text, "' after the first number");
  text.remove_prefix(1);
  return {least, one_number<double>(text, option)};
}

choices read_choices(int argc, char** argv) {
  choices out;
  for (int i = 3; i < argc; i += 2) {
    const std::string_view option = argv[i];
    expect(i + 1 < argc, option, ": a value is missing");
    const std::string_view text = argv[i + 1];
    if (option == "--count") {
      out.count = one_number<index_t>(text, option);
    } else if (option == "--least") {
      out.strings.least = one_number<index_t>(text, option);
    } else if (option == "--most") {
      out.strings.most = one_number<index_t>(text, option);
    } else if (option == "--gap-ms") {
      out.strings.gap_ms = range(text, option);
    } else if (option == "--gain-db") {
      out.augment.gain_db = range(text, option);
    } else if (option == "--snr-db") {
      out.augment.snr_db = range(text, option);
      out.augment.noise_share = 1;
    } else if (option == "--speed") {
      out.augment.speed = one_number<double>(text, option);
    } else if (option == "--seed") {
      out.seed = one_number<std::uint64_t>(text, option);
    } else {
      fail<config_error>("option ", option, " is unknown");
    }
  }
  expect(out.count >= 1, "--count: expected at least 1, found ", out.count);
  return out;
}

void write_strings(const train::recording_list& list, const std::filesystem::path& folder, const choices& how) {
  constexpr double longest_seconds = 600;
  how.strings.validate(list.size());
  how.augment.validate();
  const index_t rate = io::wav_file(list[0].file).sample_rate();
  const index_t most_samples = train::samples_in(1000 * longest_seconds, rate);
  std::filesystem::create_directories(folder);
  std::ofstream manifest(folder / "strings.tsv", std::ios::binary);
  double seconds = 0;
  std::size_t parts = 0;
  for (index_t number = 1; number <= how.count; ++number) {
    random_stream random(derive_seed(how.seed, number));
    const train::recording_string drawn = train::draw_string(list, how.strings, rate, random);
    train::utterance said = train::join(list, drawn, rate, most_samples, how.augment.of_each(), random);
    said.samples = train::draw_augmentation(how.augment.of_whole(), static_cast<index_t>(said.samples.size()), rate,
                                            random)(said.samples);
    std::string name = std::to_string(number);
    name.insert(0, name.size() < 4 ? 4 - name.size() : 0, '0');
    io::write_wav(folder / (name + ".wav"), said.samples, {rate});
    manifest << name << ".wav\t" << said.text << "\t" << list[drawn.parts.front()].group << "\n";
    seconds += static_cast<double>(said.samples.size()) / static_cast<double>(rate);
    parts += drawn.parts.size();
  }
  manifest.close();
  expect<io_error>(manifest.good(), (folder / "strings.tsv").string(), ": cannot be written");
  std::cout << how.count << " strings of " << parts << " recordings, " << seconds << " seconds\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    expect(argc >= 3,
           "usage: digit_strings MANIFEST OUT [--count N] [--least N] [--most N] [--gap-ms A-B] "
           "[--snr-db A-B] [--gain-db A-B] [--speed S] [--seed N]");
    write_strings(train::read_recordings(argv[1]), argv[2], read_choices(argc, argv));
  } catch (const std::exception& problem) {
    std::cerr << "digit_strings: " << problem.what() << "\n";
    return 1;
  }
  return 0;
}
