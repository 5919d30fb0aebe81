// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <runnel/models/build.hpp>
#include <runnel/models/gguf_config.hpp>

namespace runnel::models {

/// The decoder of a GGUF file. Weights are packed into memory; the file may be closed afterwards.
[[nodiscard]] inline decoder load_gguf_decoder(const io::gguf_file& file) {
  const model_config config = read_gguf_config(file);
  const weight_reader read(file.name(), &weight_name::gguf,
                           [&](const std::string& name) { return file.find_tensor(name); });
  return build_decoder(config, read, find_family(&family::model_type, config.model_type, file.name()).gguf_rows);
}

}  // namespace runnel::models
