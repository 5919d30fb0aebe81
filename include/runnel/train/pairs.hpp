// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/io/json.hpp>
#include <runnel/text/word_splitter.hpp>
#include <runnel/train/text_source.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::train {

/// How parallel text lies in files.
enum class pair_format : std::uint8_t {
  by_name,  ///< What the file's name ends in, `.gz` left out: json, jsonl, tsv; two files are lines.
  json,     ///< An array of objects.
  jsonl,    ///< An object a line.
  tsv,      ///< Columns between tabs, no quotes.
  lines,    ///< Two files whose lines belong together.
  audio,    ///< No text: a manifest of recordings (recordings.hpp).
};

/// The format called `name` (auto, json, jsonl, tsv, lines, audio). \throws config_error listing the names
[[nodiscard]] inline pair_format find_pair_format(std::string_view name) {
  if (name == "auto") return pair_format::by_name;
  if (name == "json") return pair_format::json;
  if (name == "jsonl") return pair_format::jsonl;
  if (name == "tsv") return pair_format::tsv;
  if (name == "lines") return pair_format::lines;
  if (name == "audio") return pair_format::audio;
  fail<config_error>("pair format ", io::in_quotes(name),
                     " is unknown, expected one of auto, json, jsonl, tsv, lines, audio");
}

/// What to do with a pair that cannot be used (not with a file that is no such file: that is always an error).
enum class unusable_pair : std::uint8_t { skip, refuse };

/// Parallel text and what a model is told to do with it. One model learns several pairs of languages from several of
/// these, told apart by the instruction.
struct data_set {
  std::string name;         ///< for messages and figures
  std::string instruction;  ///< goes into the chat format's prompt
  std::filesystem::path file;
  std::filesystem::path target_file{};  ///< for `lines`: the lines that belong to those of `file`
  pair_format format = pair_format::by_name;
  std::string source_key = "source";  ///< of JSON objects; a dot leads into an object: "translation.en"
  std::string target_key = "target";
  index_t source_column = 1;  ///< of TSV, from 1
  index_t target_column = 2;
  /// Of each sentence, and of the line or object around it twice and four times that.
  index_t most_bytes = index_t{1} << 16U;
  /// Bytes that are no UTF-8, or more of them than that. (A pair one side of which has nothing but white space is
  /// always skipped.)
  unusable_pair unusable = unusable_pair::skip;
};

struct sentence_pair {
  std::string source;
  std::string target;
};

/// Pairs that were left out, by reason.
struct skipped_pairs {
  index_t empty = 0;      ///< nothing but white space on one side
  index_t malformed = 0;  ///< not UTF-8
  index_t too_long = 0;   ///< more bytes than `most_bytes`

  [[nodiscard]] index_t total() const noexcept { return empty + malformed + too_long; }
  friend bool operator==(const skipped_pairs&, const skipped_pairs&) = default;
};

/// Throws config_error for columns and sizes that make no sense, and for files that do not fit the format.
inline void validate(const data_set& set) {
  const auto check = [&](bool condition, const auto&... parts) {
    expect(condition, "data set ", io::in_quotes(set.name), ": ", parts...);
  };
  check(!set.file.empty(), "no file is given");
  check(set.format != pair_format::audio, "recordings are no parallel text");
  check(set.source_column >= 1 && set.target_column >= 1, "columns are numbered from 1, found ", set.source_column,
        " and ", set.target_column);
  check(set.most_bytes >= 1 && set.most_bytes <= (index_t{1} << 28U), "most_bytes: expected 1 to 2^28, found ",
        set.most_bytes);
  check(set.format != pair_format::lines || !set.target_file.empty(), "two files of lines are needed, one is given");
  check(set.format == pair_format::lines || set.format == pair_format::by_name || set.target_file.empty(),
        "a second file is for the format lines only");
}

/// The format of a data set, from its files' names where it is not given. \throws config_error if they do not tell
[[nodiscard]] inline pair_format format_of(const data_set& set) {
  if (set.format != pair_format::by_name) return set.format;
  if (!set.target_file.empty()) return pair_format::lines;
  auto name = set.file.filename();
  if (name.extension() == ".gz") name = name.stem();
  const auto extension = name.extension();
  if (extension == ".json") return pair_format::json;
  if (extension == ".jsonl" || extension == ".ndjson") return pair_format::jsonl;
  if (extension == ".tsv") return pair_format::tsv;
  fail<config_error>("data set ", io::in_quotes(set.name), ": ", set.file.string(),
                     ": the name does not tell the format, expected .json, .jsonl, .tsv (each maybe with .gz), or a "
                     "second file of lines");
}

/// Reads the pairs of one data set in their order. Memory does not grow with the files.
class pair_reader {
 public:
  /// \throws config_error, io_error
  explicit pair_reader(data_set set, const source_opener& open = open_plain_file) : set_(std::move(set)) {
    validate(set_);
    format_ = format_of(set_);
    reader_ = std::make_unique<text_reader>(open(set_.file), set_.file.string());
    if (format_ != pair_format::lines) return;
    target_reader_ = std::make_unique<text_reader>(open(set_.target_file), set_.target_file.string());
  }

  [[nodiscard]] const data_set& set() const noexcept { return set_; }
  /// Pairs left out so far.
  [[nodiscard]] const skipped_pairs& skipped() const noexcept { return skipped_; }
  /// Where the last pair stands, for messages: file and line.
  [[nodiscard]] std::string place() const { return message(reader_->name(), ": line ", reader_->line_number()); }

  /// The next usable pair; false at the end. \throws io_error if a file cannot be read \throws format_error naming file
  /// and line where a file is not what it should be (no JSON, a key or column missing, files of unequal length), and
  /// for unusable pairs if they are to be refused
  bool next(sentence_pair& pair) {
    for (;;) {
      const text_status status = format_ == pair_format::lines ? read_lines(pair) : read_record(pair);
      if (status == text_status::at_end) return false;
      const bool cut = status == text_status::too_long;
      if (!cut && (!unicode::is_valid(pair.source) || !unicode::is_valid(pair.target))) {
        leave_out(skipped_.malformed, "is not UTF-8");
      } else if (cut || too_long(pair.source) || too_long(pair.target)) {
        leave_out(skipped_.too_long, message("is longer than ", set_.most_bytes, " bytes"));
      } else if (is_blank(pair.source) || is_blank(pair.target)) {
        ++skipped_.empty;
      } else {
        return true;
      }
    }
  }

 private:
  [[nodiscard]] bool too_long(const std::string& text) const noexcept {
    return text.size() > static_cast<std::size_t>(set_.most_bytes);
  }

  [[nodiscard]] static bool is_blank(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto step = unicode::decode(text, at);
      if (!unicode::is_whitespace(step.code_point)) return false;
      at += step.length;
    }
    return true;
  }

  void leave_out(index_t& count, std::string_view why) {
    expect<format_error>(set_.unusable == unusable_pair::skip, place(), ": the pair ", why);
    ++count;
  }

  text_status read_lines(sentence_pair& pair) {
    const auto most = static_cast<std::size_t>(set_.most_bytes);
    const text_status source = reader_->next_line(pair.source, most);
    const text_status target = target_reader_->next_line(pair.target, most);
    if ((source == text_status::at_end) != (target == text_status::at_end)) refuse_lengths();
    if (source == text_status::at_end) return source;
    return source == text_status::too_long ? source : target;
  }

  /// Counts to the end of both files.
  [[noreturn]] void refuse_lengths() {
    std::string line;
    for (auto* one : {reader_.get(), target_reader_.get()}) {
      while (one->next_line(line, 0) != text_status::at_end) {
      }
    }
    fail<format_error>(reader_->name(), " has ", reader_->line_number(), " lines and ", target_reader_->name(), " has ",
                       target_reader_->line_number(), ", expected as many");
  }

  text_status read_record(sentence_pair& pair) {
    pair.source.clear();
    pair.target.clear();
    const auto most = static_cast<std::size_t>(set_.most_bytes) * (format_ == pair_format::tsv ? 2 : 4);
    const text_status status = format_ == pair_format::json ? reader_->next_element(record_, most)  //
                                                            : reader_->next_line(record_, most);
    if (status != text_status::read) return status;
    // The JSON parser would refuse what is to be skipped.
    if (!unicode::is_valid(record_)) {
      pair.source = record_;
    } else if (format_ == pair_format::tsv) {
      pair.source = column(set_.source_column);
      pair.target = column(set_.target_column);
    } else if (!is_blank(record_)) {
      const io::json_document document(record_, place(), most_values);
      pair.source = member(document.root(), set_.source_key);
      pair.target = member(document.root(), set_.target_key);
    }
    return status;
  }

  [[nodiscard]] std::string_view column(index_t wanted) const {
    std::string_view rest = record_;
    if (rest.empty()) return rest;
    for (index_t at = 1;; ++at) {
      const std::size_t tab = rest.find('\t');
      if (at == wanted) return rest.substr(0, tab);
      expect<format_error>(tab != std::string_view::npos, place(), ": expected column ", wanted, ", found ", at,
                           at == 1 ? " column" : " columns");
      rest.remove_prefix(tab + 1);
    }
  }

  /// The text under a key; a dot leads into an object unless the object has the key as it is.
  [[nodiscard]] static std::string_view member(io::json_value value, std::string_view key) {
    io::json_object object(value);
    while (!object.has(key)) {
      const std::size_t dot = key.find('.');
      if (dot == std::string_view::npos) break;
      object = object.object(key.substr(0, dot));
      key.remove_prefix(dot + 1);
    }
    return object.text(key);
  }

  static constexpr std::size_t most_values = 4096;

  data_set set_;
  pair_format format_ = pair_format::lines;
  std::unique_ptr<text_reader> reader_;
  std::unique_ptr<text_reader> target_reader_;
  std::string record_;
  skipped_pairs skipped_;
};

}  // namespace runnel::train
