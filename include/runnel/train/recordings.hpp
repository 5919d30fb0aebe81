// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/core/digest.hpp>
#include <runnel/core/rng.hpp>
#include <runnel/io/wav.hpp>
#include <runnel/train/augment.hpp>
#include <runnel/train/text_source.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::train {

/// A recording, and what is said in it.
struct recording {
  std::filesystem::path file;
  std::string text;   ///< may be empty: nothing is said
  std::string group;  ///< whatever strings must not mix: the speaker
};

/// Recordings as a manifest lists them.
class recording_list {
 public:
  explicit recording_list(std::string name) : name_(std::move(name)) {}

  /// `written` is how the list names the file, which may be moved with its folder.
  void add(recording one, std::string_view written) {
    for (const std::string_view part : {written, std::string_view(one.text), std::string_view(one.group)}) {
      digest_ = runnel::digest(part, digest_);
    }
    const auto number = static_cast<index_t>(all_.size());
    const auto group = numbers_.try_emplace(one.group, groups_.size()).first->second;
    if (group == groups_.size()) groups_.emplace_back();
    groups_[group].push_back(number);
    group_of_.push_back(group);
    all_.push_back(std::move(one));
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(all_.size()); }
  [[nodiscard]] const recording& operator[](index_t number) const { return all_[static_cast<std::size_t>(number)]; }
  /// Numbers of all recordings of the group of this one.
  [[nodiscard]] std::span<const index_t> group_of(index_t number) const {
    return groups_[group_of_[static_cast<std::size_t>(number)]];
  }
  [[nodiscard]] index_t num_groups() const noexcept { return static_cast<index_t>(groups_.size()); }
  /// Changes with every path as it is written, text and group, and with their order; not with what is in the files.
  [[nodiscard]] std::uint64_t digest() const noexcept { return digest_; }

 private:
  std::string name_;
  std::vector<recording> all_;
  std::vector<std::vector<index_t>> groups_;
  std::vector<std::size_t> group_of_;
  std::map<std::string, std::size_t, std::less<>> numbers_;
  std::uint64_t digest_ = 0;
};

/// Reads a manifest: a recording a line, in columns between tabs: path of a WAV file (from the manifest's folder),
/// text, and maybe a group. Empty lines are passed over; nothing is looked for in the files. Memory: the manifest.
/// \throws io_error if it cannot be read \throws format_error naming file and line for other numbers of columns, a line
/// without a path, one that is no UTF-8 or longer than 64 KiB, and if there is no recording
[[nodiscard]] inline recording_list read_recordings(const std::filesystem::path& path,
                                                    const source_opener& open = open_plain_file) {
  constexpr std::size_t longest = std::size_t{1} << 16U;
  recording_list out(path.string());
  text_reader reader(open(path), path.string());
  std::string line;
  const auto check = [&](bool condition, const auto&... parts) {
    expect<format_error>(condition, reader.name(), ": line ", reader.line_number(), ": ", parts...);
  };
  for (;;) {
    const text_status status = reader.next_line(line, longest);
    if (status == text_status::at_end) break;
    check(status == text_status::read, "is longer than ", longest, " bytes");
    check(unicode::is_valid(line), "is not UTF-8");
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    std::vector<std::string> columns(1);
    for (const char c : line) {
      if (c == '\t') {
        columns.emplace_back();
      } else {
        columns.back() += c;
      }
    }
    check(columns.size() == 2 || columns.size() == 3, "expected a path, a text and maybe a group between tabs, found ",
          columns.size(), columns.size() == 1 ? " column" : " columns");
    check(!columns[0].empty(), "expected a path, found none");
    columns.resize(3);
    out.add({path.parent_path() / std::filesystem::path(columns[0]), columns[1], columns[2]}, columns[0]);
  }
  expect<format_error>(out.size() > 0, out.name(), ": expected recordings, found none");
  return out;
}

/// Samples of a WAV file as one channel. \throws io_error, format_error if it cannot be read \throws config_error
/// naming the file if its rate is another one \throws limit_error if it is longer than `most_samples`, before any is
/// decoded
[[nodiscard]] inline std::vector<float> read_recording(const std::filesystem::path& path, index_t sample_rate,
                                                       index_t most_samples) {
  const io::wav_file file(path);
  expect(file.sample_rate() == sample_rate, file.name(), ": expected ", sample_rate, " samples a second, found ",
         file.sample_rate());
  expect<limit_error>(file.num_frames() <= most_samples, file.name(), ": ", file.num_frames(),
                      " samples, but there is place for ", most_samples);
  return file.read_mono().values;
}

/// Recordings joined to one example.
struct string_options {
  index_t least = 1;  ///< recordings in a string
  index_t most = 1;
  number_range gap_ms{100, 400};  ///< silence between two of them
  /// In an epoch. 0: so many that each recording is heard about once (just once where nothing is joined).
  index_t examples = 0;

  [[nodiscard]] bool joined() const noexcept { return most > 1; }
  /// Examples of an epoch over so many recordings.
  [[nodiscard]] index_t count(index_t recordings) const noexcept {
    return examples > 0 ? examples : (2 * recordings + least + most - 1) / (least + most);
  }
  /// \throws config_error
  void validate(index_t recordings) const {
    constexpr index_t longest = 10'000, most_examples = index_t{1} << 40U;
    expect(1 <= least && least <= most && most <= longest, "strings: expected 1 <= least <= most <= ", longest,
           ", found ", least, " and ", most);
    gap_ms.validate("strings: gap_ms", 0, 60'000);
    const index_t available = joined() ? most_examples : recordings;
    expect(examples >= 0 && examples <= available, "strings: examples: expected 0 (all) to ", available, ", found ",
           examples);
  }
};

/// Which recordings make a string.
struct recording_string {
  std::vector<index_t> parts;
  std::vector<index_t> gaps{};  ///< samples after each part but the last
};

/// Draws a string: one recording of all, then others of its group (any of them again, too). Groups come up by their
/// sizes. The same state of `random` draws the same.
[[nodiscard]] inline recording_string draw_string(const recording_list& list, const string_options& options,
                                                  index_t sample_rate, random_stream& random) {
  const index_t count = options.least + random.below(options.most - options.least + 1);
  recording_string out{{random.below(list.size())}};
  const auto group = list.group_of(out.parts.front());
  while (static_cast<index_t>(out.parts.size()) < count) {
    out.gaps.push_back(samples_in(options.gap_ms.draw(random), sample_rate));
    out.parts.push_back(group[static_cast<std::size_t>(random.below(static_cast<index_t>(group.size())))]);
  }
  return out;
}

/// Audio and what is said in it.
struct utterance {
  std::vector<float> samples;
  std::string text;
};

/// Reads the recordings of a string and joins them: silence between, texts by a space. What may happen to each
/// recording by itself (`augment_options::of_each`) is drawn from `random`. \throws what `read_recording` does;
/// limit_error if all of it is longer than `most_samples`
[[nodiscard]] inline utterance join(const recording_list& list, const recording_string& of, index_t sample_rate,
                                    index_t most_samples, const augment_options& each, random_stream& random) {
  utterance out;
  for (std::size_t i = 0; i < of.parts.size(); ++i) {
    const recording& part = list[of.parts[i]];
    const index_t gap = i == 0 ? 0 : of.gaps[i - 1];
    const index_t left = most_samples - static_cast<index_t>(out.samples.size()) - gap;
    expect<limit_error>(left >= 0, part.file.string(), ": there is no place for it after ", out.samples.size(),
                        " samples of at most ", most_samples);
    std::vector<float> more = read_recording(part.file, sample_rate, left);
    if (each != augment_options{}) {
      more = draw_augmentation(each, static_cast<index_t>(more.size()), sample_rate, random)(more);
      expect<limit_error>(static_cast<index_t>(more.size()) <= left, part.file.string(), ": ", more.size(),
                          " samples, but there is place for ", left);
    }
    out.samples.resize(out.samples.size() + static_cast<std::size_t>(gap));
    out.samples.insert(out.samples.end(), more.begin(), more.end());
    if (!out.text.empty() && !part.text.empty()) out.text += ' ';
    out.text += part.text;
  }
  return out;
}

}  // namespace runnel::train
