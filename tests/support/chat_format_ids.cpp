// SPDX-License-Identifier: Apache-2.0
// Prints the ids of a conversation of one turn as a stream has them, segment by segment: for check_chat_formats.py.
//
//     chat_format_ids TOKENIZER FORMAT INSTRUCTION SOURCE TARGET
//
// Two lines: the ids of the prompt, then those with the answer.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>

namespace {

namespace text = runnel::text;

class conversation {
 public:
  conversation(const text::tokenizer& vocabulary, const text::chat_format& format)
      : vocabulary_(vocabulary), format_(format) {}

  void markup(const std::string& segment, bool continues) {
    append(text::encode_segment(vocabulary_, segment, true, continues));
  }
  void instruction(const std::string& what) { append(text::encode_source_prefix(vocabulary_, format_, what)); }
  void words(const std::string& sentence, const std::string& before) {
    std::istringstream in(sentence);
    bool first = true;
    for (std::string word; in >> word; first = false) {
      const bool begins = first && text::ends_in_token(vocabulary_, before);
      append(text::encode_word(vocabulary_, word, first ? "" : format_.word_separator, !begins));
    }
  }
  void print() const {
    for (const auto id : ids_) std::printf("%d ", id);
    std::printf("\n");
  }

 private:
  void append(const std::vector<std::int32_t>& more) { ids_.insert(ids_.end(), more.begin(), more.end()); }

  const text::tokenizer& vocabulary_;
  const text::chat_format& format_;
  std::vector<std::int32_t> ids_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6) throw runnel::config_error("expected TOKENIZER FORMAT INSTRUCTION SOURCE TARGET");
  const text::tokenizer vocabulary(text::read_tokenizer_json(argv[1]));
  const auto format = text::find_chat_format(argv[2]);
  conversation talk(vocabulary, format);
  talk.instruction(argv[3]);
  talk.words(argv[4], format.source_prefix);
  talk.markup(format.source_suffix, true);
  talk.markup(format.target_prefix, !text::ends_in_token(vocabulary, format.source_suffix));
  talk.print();
  talk.words(argv[5], format.target_prefix);
  talk.markup(format.target_suffix, true);
  talk.print();
} catch (const std::exception& problem) {
  std::fprintf(stderr, "chat_format_ids: %s\n", problem.what());
  return 1;
}
