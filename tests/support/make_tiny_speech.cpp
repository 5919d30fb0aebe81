// SPDX-License-Identifier: Apache-2.0

#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include <runnel/io/atomic_file.hpp>
#include <runnel/io/gguf.hpp>
#include <runnel/models/export.hpp>
#include <runnel/models/gguf_model.hpp>
#include <runnel/speech/initialize.hpp>
#include <runnel/text/tokenizer_gguf.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>
#include <runnel/transcribe/export.hpp>

/// \file
/// Writes the speech model that tests of the command line run on: a small random encoder for 8 kHz, chunks of 800 ms,
/// and the counting model as its decoder, which writes "Eins zwei drei vier fünf" whatever it hears.

namespace {

using namespace runnel;

speech::encoder_config small_encoder() {
  speech::encoder_config config;
  config.convs = {{4, 10, 5}, {4, 3, 2}, {4, 3, 2}, {4, 3, 2}, {4, 3, 2}, {4, 2, 2}, {4, 2, 2}};
  config.conv_bias = true;
  config.norm = speech::front_end_norm::layer;
  config.hidden_size = 8;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.intermediate_size = 8;
  config.position_kernel = 4;
  config.position_groups = 2;
  config.do_stable_layer_norm = true;
  config.sample_rate = 8000;
  config.causal_position = config.causal_attention = true;
  config.left_context = 25;
  config.left_pad = config.receptive_field() - config.hop();
  config.pad_tail = true;
  return config;
}

void write_decoder(const std::filesystem::path& counting, const std::filesystem::path& folder) {
  const io::gguf_file file(counting);
  const auto network = models::load_gguf_decoder(file);
  const auto vocabulary = text::read_tokenizer_gguf(file);
  models::write_hugging_face(network, quant::weight_format::f32, folder,
                             {vocabulary.bos, vocabulary.padding, vocabulary.eos_ids});
  text::write_tokenizer_json(vocabulary, folder);
  constexpr std::string_view format = R"({"name": "counting speech", "source": "audio",
  "source_prefix": "<|im_start|>user\n{instruction}\n", "source_suffix": "<|im_end|>\n",
  "target_prefix": "<|im_start|>assistant\n", "target_suffix": "<|im_end|>\n"}
)";
  io::write_file_atomically(folder / "chat_format.json", std::as_bytes(std::span(format.data(), format.size())));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: make_tiny_speech COUNTING.gguf FOLDER\n";
    return 2;
  }
  const std::filesystem::path folder = argv[2];
  write_decoder(argv[1], folder / transcribe::decoder_folder);
  const auto encoder = speech::random_encoder(small_encoder(), 1);
  const auto hidden = models::load_gguf_decoder(io::gguf_file(argv[1])).config().hidden_size;
  const auto projector = speech::random_projector({encoder.config().hidden_size, 8, hidden, 1}, 2);
  transcribe::write_encoder(encoder, quant::weight_format::f32, folder / transcribe::encoder_folder);
  transcribe::write_projector(projector, quant::weight_format::f32, folder / transcribe::projector_file);
  transcribe::write_settings({20, "Count."}, projector, folder / transcribe::settings_file);
}
