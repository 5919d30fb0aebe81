// SPDX-License-Identifier: Apache-2.0

#include "speech_options.hpp"

#include <cmath>

#include <runnel/core/error.hpp>

#include "console.hpp"
#include "model_file.hpp"

namespace runnel::cli {

void speech_options::declare(arguments& options) {
  declare_speech_model(options, path_);
  declare_running(options);
  options.real("--chunk-ms", chunk_ms_, "MS",
               "Audio that counts as one source word: a multiple of the model's own chunk; 0: that", 0,
               static_cast<double>(most_of_anything));
}

std::filesystem::path speech_options::path() const {
  auto found = resolve_model(path_);
  expect<format_error>(transcribe::is_speech_model(found), "--model: '", printable(found.string()),
                       "' is no model of speech: expected a folder with ", transcribe::settings_file);
  return found;
}

transcribe::speech_model speech_options::load() const {
  auto model = transcribe::load_speech_model(path());
  interrupts::instance().check();
  check(model.language);
  if (chunk_ms_ == 0) return model;
  const double own = model.chunk_ms();
  const double times = std::round(chunk_ms_ / own);
  constexpr double nearly = 1e-6;
  expect<config_error>(times >= 1 && std::fabs(chunk_ms_ - times * own) < nearly * own,
                       "--chunk-ms: expected a multiple of ", own, " ms, the model's own chunk, found ", chunk_ms_);
  model.settings.chunk_rows *= static_cast<index_t>(times);
  model.validate();
  return model;
}

}  // namespace runnel::cli
