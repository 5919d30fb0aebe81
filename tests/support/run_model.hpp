// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include <runnel/core/error.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/stream/session.hpp>
#include <runnel/text/chat_format.hpp>
#include <runnel/text/tokenizer.hpp>

namespace runnel::tests {

/// A model that was accepted must run: streams two words through it. Throws what sessions throw.
inline void run_model(models::decoder network, std::shared_ptr<const text::tokenizer> vocabulary) {
  stream::language_model model;
  model.network = std::make_shared<const models::decoder>(std::move(network));
  model.tokenizer = std::move(vocabulary);
  model.format = text::detect_chat_format(*model.tokenizer);
  model.name = "model";
  stream::session_options options;
  options.max_tokens = 2;
  options.compute.compute = ops::compute_mode::f32;
  stream::session session(std::move(model), std::move(options));
  session.push("ab");
  session.push("a");
  session.finish();
  while (session.next()) {
  }
}

}  // namespace runnel::tests
