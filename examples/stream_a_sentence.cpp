// SPDX-License-Identifier: Apache-2.0
//
// Reads a sentence word by word and writes while it reads; every event is printed as it happens.

#include <iostream>

#include <runnel/runnel.hpp>

int main(int, char** argv) {
  const auto model = runnel::load_model(argv[1]);
  runnel::session_options options;
  options.how = runnel::group_streaming(0.5);
  options.when = runnel::wait_k{2};
  options.instruction = "Translate the following English paragraph to German";
  runnel::session session(model, options);
  const auto show = [&] {
    while (const auto event = session.next()) {
      if (const auto* read = event->get_if<runnel::stream::read_event>()) {
        std::cout << "read  " << (read->source_end ? "(end of source)" : read->text) << "\n";
      } else if (const auto* word = event->get_if<runnel::stream::word_event>()) {
        std::cout << "word  " << word->text << "  after " << word->delay() << "\n";
      } else if (event->get_if<runnel::stream::done_event>() != nullptr) {
        std::cout << "done\n";
      }
    }
  };
  for (const char* word : {"A", "dog", "runs", "in", "the", "snow."}) {
    session.push(word);
    show();
  }
  session.finish();
  show();
  std::cout << session.text() << "\n";
}
